"""The log key inside a token (PKCS #11 2.40 with the Ed25519 of 3.0): made there, used there, never outside.

What this module knows about tokens, and the standard leaves to them or to us:

* Logging in counts for all sessions of a process and ends with any logout, so there is one session for each token, kept
  until the process ends. Libraries are opened without locks of their own (`C_Initialize(NULL)`): one call at a time.
* SoftHSM uses the OpenSSL that Python's `ssl` uses, and leaves errors in its queue, which `ssl` then takes for its own
  ("no such engine" from a good certificate). The queue belongs to a thread, so tokens have a thread of their own.
* Tokens lock themselves after a few wrong PINs. A program that is restarted again and again must not use them up: the
  last try is left to people.
* `CKA_EC_POINT` comes as an OCTET STRING (SoftHSM) or as 32 bare bytes (OP-TEE and others).
* Every signature is verified before it leaves here. A faulty one in a log is taken as proof against its author, and a
  fault during Ed25519 signing gives the key away.

Used through :mod:`mesh.shell.keys`; the library `python-pkcs11` is needed where a token is, and only there.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final, TypeVar

import nacl.bindings
import nacl.exceptions
import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag
from pkcs11 import exceptions as said
from pkcs11.types import SignMixin

from mesh.errors import LocalError
from mesh.limits import PIN_BYTES_MAX
from mesh.shell.files import read_private_file
from mesh.shell.pkcs11_uri import TokenUri
from mesh.shell.signers import KeyFailed

PIN_VARIABLE: Final = "TAPMESH_PKCS11_PIN"
KEY_ID_BYTES: Final = 16
ED25519_PARAMETERS: Final = bytes.fromhex("06032b6570")
"""DER of the object identifier 1.3.101.112 (RFC 8410, section 3)."""
_POINT_HEADER: Final = bytes.fromhex("0420")
"""DER of an OCTET STRING of 32 bytes."""
_SELF_TEST: Final = b"tapmesh/token-self-test/1"
_GONE: Final = (
    said.DeviceRemoved,
    said.KeyHandleInvalid,
    said.NoSuchToken,
    said.ObjectHandleInvalid,
    said.SessionClosed,
    said.SessionHandleInvalid,
    said.TokenNotPresent,
    said.UserNotLoggedIn,
)
_WRONG_PIN: Final = (said.PinIncorrect, said.PinInvalid, said.PinLenRange)
_AFTERWARDS: Final = (
    "Nothing was signed. A tap that was under way is finished from its stored intent when the program runs again"
)

_Result = TypeVar("_Result")
_one_thread = ThreadPoolExecutor(1, "pkcs11")
_sessions: dict[tuple[str, bytes], pkcs11.Session] = {}
"""By library and serial number. A login belongs to the process (PKCS #11, 5.6), so this does too."""


class TokenUnavailable(KeyFailed):
    """The token is not there, or does not let us in; nothing was signed."""


class TokenLocked(TokenUnavailable):
    """The token takes no PIN any more, or has one last try left, which is for people."""


class PinRefused(TokenUnavailable):
    """The token says that the PIN is wrong."""


class PinMissing(LocalError):
    """Nobody said what the token's PIN is."""


class NoKeyInToken(TokenUnavailable):
    """The token holds no key of that id, or several."""


class TokenUnfit(LocalError):
    """The token cannot hold a log key as it must be held; no key was left in it."""


class WrongSignature(KeyFailed):
    """The token returned a signature that does not verify under its own public key."""


class TokenKey:
    """An Ed25519 key in a token; implements :class:`mesh.shell.signers.Key`. Safe to use from several threads."""

    __slots__ = ("_private", "_public_key", "_uri")

    def __init__(self, uri: TokenUri, private: SignMixin, public_key: bytes) -> None:
        self._uri, self._private, self._public_key = uri, private, public_key
        self.sign(_SELF_TEST)

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._public_key

    @property
    def uri(self) -> TokenUri:
        """Where it is found again, for the device's directory."""
        return self._uri

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature, verified; raises :class:`TokenUnavailable` or :class:`WrongSignature`."""
        signature = _ask(self._uri, lambda: self._private.sign(message, mechanism=Mechanism.EDDSA))
        try:
            nacl.bindings.crypto_sign_open(signature + message, self._public_key)
        except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError) as error:
            raise WrongSignature(
                f"{self._uri.named} returned a signature that does not verify. {_AFTERWARDS}. Do not use this token "
                f"again: a faulty signature may have given its key away. Enrol the device anew with another one"
            ) from error
        return signature

    def __repr__(self) -> str:
        return f"TokenKey({self._uri})"


def open_key(uri: TokenUri) -> TokenKey:
    """The key that a device's directory names, ready to sign; raises :class:`TokenUnavailable`, :class:`PinMissing`."""
    pin = _pin(uri)
    private, point = _ask(uri, lambda: _find(uri, pin))
    return TokenKey(uri, private, _public_key(uri, point))


def address_new_key(uri: TokenUri, label: str) -> TokenUri:
    """Give a key that is still to be made its id and label, and name the token that is there now by its serial.

    Raises as :func:`open_key` does, and :class:`TokenUnfit` if the token knows no Ed25519: before anything is written.
    """
    if uri.id is not None:
        raise LocalError(
            "the URI names a key (id=...), but a device makes a new one: a key that was used before may have signed "
            "what nobody remembers. Leave the id out; nothing was done"
        )
    pin = _pin(uri)
    serial = _ask(uri, lambda: _examine(uri, pin)) or uri.serial
    return replace(uri, serial=serial, label=uri.label or label, id=secrets.token_bytes(KEY_ID_BYTES))


def make_key(uri: TokenUri) -> TokenKey:
    """Make the key that :func:`address_new_key` named: in the token, for ever, and so that it cannot be read."""
    pin = _pin(uri)
    _ask(uri, lambda: _generate(uri, pin))
    return open_key(uri)


# -- Inside: all on the one thread -------------------------------------------------------------------------------------


def _examine(uri: TokenUri, pin: str) -> str:
    _session(uri, pin)
    token = _token(uri)
    missing = {Mechanism.EC_EDWARDS_KEY_PAIR_GEN, Mechanism.EDDSA} - token.slot.get_mechanisms()
    if missing:
        raise TokenUnfit(
            f"{uri.named} cannot make Ed25519 keys or signatures (it lacks "
            f"{', '.join(sorted(mechanism.name for mechanism in missing))}). No key was made; use another token, "
            f"or a key file"
        )
    return token.serial.decode("ascii", "replace").strip()


def _generate(uri: TokenUri, pin: str) -> None:
    _session(uri, pin)
    # A session that may write, only for this: login is the process's, and closing a session would end it for all.
    session = _token(uri).open(rw=True)
    parameters = {Attribute.EC_PARAMS: ED25519_PARAMETERS}
    public, private = session.create_domain_parameters(KeyType.EC_EDWARDS, parameters, local=True).generate_keypair(
        mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
        id=uri.id,
        label=uri.label,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True},
    )
    stays = private[Attribute.SENSITIVE] and private[Attribute.LOCAL] and not private[Attribute.EXTRACTABLE]
    if not stays:
        private.destroy()
        public.destroy()
        raise TokenUnfit(
            f"{uri.named} made a key that could be read out of it, against what it was asked for. The key was "
            f"destroyed; use another token, or a key file"
        )


def _find(uri: TokenUri, pin: str) -> tuple[SignMixin, object]:
    session = _session(uri, pin)
    private = _only(session, uri, ObjectClass.PRIVATE_KEY)
    public = _only(session, uri, ObjectClass.PUBLIC_KEY)
    if not isinstance(private, SignMixin):
        raise NoKeyInToken(f"the device's key in {uri.named} is not one that may sign. {_AFTERWARDS}")
    return private, public[Attribute.EC_POINT]


def _ask(uri: TokenUri, work: Callable[[], _Result]) -> _Result:
    """Run `work` on the tokens' thread; what the library raises becomes an error that says what to do."""
    try:
        return _one_thread.submit(work).result()
    except pkcs11.PKCS11Error as error:
        _one_thread.submit(_forget_sessions, uri).result()
        raise _explained(uri, error) from error


def _forget_sessions(uri: TokenUri) -> None:
    """The next caller opens new ones: after an error nobody can tell what a session is still good for."""
    for key in [key for key in _sessions if key[0] == str(uri.module)]:
        del _sessions[key]


def _token(uri: TokenUri) -> pkcs11.Token:
    found = [
        token
        for token in pkcs11.lib(str(uri.module)).get_tokens(token_label=uri.token)
        if uri.serial is None or token.serial == uri.serial.encode()
    ]
    if len(found) > 1:
        raise TokenUnavailable(f"there are {len(found)} tokens like {uri.named}: name one by its serial. {_AFTERWARDS}")
    if not found:
        raise said.NoSuchToken
    return found[0]


def _session(uri: TokenUri, pin: str) -> pkcs11.Session:
    token = _token(uri)
    key = (str(uri.module), token.serial)
    if key not in _sessions:
        require_pin_may_be_tried(uri, token.flags)
        try:
            _sessions[key] = token.open(user_pin=pin)
        except said.UserAlreadyLoggedIn:
            _sessions[key] = token.open()
    return _sessions[key]


def require_pin_may_be_tried(uri: TokenUri, flags: TokenFlag) -> None:
    """Raise :class:`TokenLocked` if the token is locked, or would be after one more wrong PIN."""
    if flags & TokenFlag.USER_PIN_LOCKED:
        raise _locked(uri)
    if flags & TokenFlag.USER_PIN_FINAL_TRY:
        raise TokenLocked(
            f"{uri.named} has one try left before it locks itself, so no PIN was tried. {_AFTERWARDS}. Put the right "
            f"PIN in its place, log in to the token once by hand, for example with pkcs11-tool --login, then start the "
            f"program again"
        )


def _only(session: pkcs11.Session, uri: TokenUri, kind: ObjectClass) -> pkcs11.Object:
    assert uri.id is not None, "a device's directory names its key by its id"
    wanted = {Attribute.CLASS: kind, Attribute.KEY_TYPE: KeyType.EC_EDWARDS, Attribute.ID: uri.id}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        half = kind.name.lower().replace("_", " ")
        raise NoKeyInToken(
            f"{uri.named} holds {len(found)} Ed25519 {half}s of id {uri.id.hex()}, where the device's one should be. "
            f"{_AFTERWARDS}. Put in the device's own token; if its key was deleted, enrol the device anew"
        )
    return found[0]


def _public_key(uri: TokenUri, point: object) -> bytes:
    match point:
        case bytes() if len(point) == 32:
            return point
        case bytes() if len(point) == 34 and point.startswith(_POINT_HEADER):
            return point[2:]
        case _:
            raise TokenUnfit(f"{uri.named} shows a public key in a form that is not known here: {point!r}")


def _pin(uri: TokenUri) -> str:
    if uri.pin_source is not None:
        data = read_private_file(uri.pin_source, bytes_max=PIN_BYTES_MAX, meaning="the token's PIN")
        pin = data.decode("utf-8", "replace").rstrip("\r\n")
    else:
        pin = os.environ.get(PIN_VARIABLE, "")
    if not pin:
        raise PinMissing(
            f"{uri.named} needs its PIN: put it into a file of mode 0600 and name that in the URI (pin-source=/path), "
            f"or set {PIN_VARIABLE}. Nothing was signed"
        )
    return pin


def _locked(uri: TokenUri) -> TokenLocked:
    return TokenLocked(
        f"{uri.named} is locked after too many wrong PINs. {_AFTERWARDS}. Whoever has its security officer's PIN can "
        f"unlock it (pkcs11-tool --init-pin); what was signed before stays good"
    )


def _explained(uri: TokenUri, error: pkcs11.PKCS11Error) -> KeyFailed:
    name = type(error).__name__
    match error:
        case said.PinLocked():
            return _locked(uri)
        case _ if isinstance(error, _WRONG_PIN):
            where = f"in {uri.pin_source}" if uri.pin_source else f"in {PIN_VARIABLE}"
            return PinRefused(
                f"{uri.named} refuses the PIN {where}. {_AFTERWARDS}. Correct it before the next start: after a few "
                f"wrong ones the token locks itself"
            )
        case _ if isinstance(error, _GONE):
            return TokenUnavailable(
                f"{uri.named} is not there, or was logged out ({name}). {_AFTERWARDS}. Put the token in, check that "
                f"{uri.module} finds it, then start the program again"
            )
        case _:
            return TokenUnavailable(
                f"{uri.named} cannot be used through {uri.module}: {name} {error}. {_AFTERWARDS}. Check the library, "
                f"its settings and the token, then start the program again"
            )
