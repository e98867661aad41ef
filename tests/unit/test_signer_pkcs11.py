"""Keys in tokens, as far as no token is needed: addresses, the last try of a PIN, and what errors tell people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey, VerifyKey
from pkcs11 import TokenFlag
from pkcs11 import exceptions as said
from pkcs11.types import SignMixin

from mesh.core.kinds import Role
from mesh.shell.authority import create_authority
from mesh.shell.files import KeyFileExposed
from mesh.shell.keys import TwoLogKeys, load_identity
from mesh.shell.pkcs11 import (
    PinRefused,
    TokenKey,
    TokenLocked,
    TokenUnavailable,
    TokenUnfit,
    WrongSignature,
    _explained,
    _public_key,
    require_pin_may_be_tried,
)
from mesh.shell.pkcs11_uri import BadTokenUri, TokenUri, parse_token_uri
from tests.venue import enrol

TREE = Path(__file__).resolve().parents[2]
MODULE = "module-path=/usr/lib/softhsm/libsofthsm2.so"
URI = TokenUri(Path("/usr/lib/softhsm/libsofthsm2.so"), token="bar a", pin_source=Path("/etc/tapmesh/pin"))
TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
FILES = TEXT.map(lambda name: Path("/") / name.replace("/", "_").replace(".", "_"))


@given(
    uri=st.builds(
        TokenUri,
        FILES,
        token=TEXT,
        serial=st.none() | TEXT,
        label=st.none() | TEXT,
        id=st.none() | st.binary(min_size=1, max_size=16),
        pin_source=st.none() | FILES,
    )
)
def test_address_reads_as_it_was_written(uri: TokenUri) -> None:
    assert parse_token_uri(str(uri)) == uri


def test_address_as_people_type_it_is_understood() -> None:
    uri = parse_token_uri(f"PKCS11:token=bar%20a;type=private?{MODULE}&pin-source=file:///etc/tapmesh/pin")
    assert uri == URI and uri.named == "the token 'bar a'"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "named by a URI"),
        ("log.key", "named by a URI"),
        (f"pkcs11:token=a?{MODULE}{'&' * 3000}", "named by a URI"),
        ("pkcs11:token=a", "names no library"),
        (f"pkcs11:object=a?{MODULE}", "names no token"),
        (f"pkcs11:?{MODULE}", "names no token"),
        ("pkcs11:token=a?module-path=libsofthsm2.so", "absolute path"),
        (f"pkcs11:token=a?{MODULE}&pin-source=%7Ccat%20pin", "absolute path"),
        (f"pkcs11:token=a;slot-id=3?{MODULE}", "'slot-id' is not known"),
        (f"pkcs11:token=a;type=cert?{MODULE}", "private key"),
        (f"pkcs11:token=a;token=b?{MODULE}", "twice"),
        (f"pkcs11:token=?{MODULE}", "empty"),
        (f"pkcs11:token=a%4?{MODULE}", "%XX"),
        (f"pkcs11:token=a b?{MODULE}", "%XX"),
        (f"pkcs11:token=%FF?{MODULE}", "UTF-8"),
        (f"pkcs11:token=%0A?{MODULE}", "cannot be shown"),
        (f"pkcs11:token=a?{MODULE}&pin-value=1234", "does not belong into a URI"),
    ],
)
def test_address_that_is_unclear_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadTokenUri, match=complaint) as refused:
        parse_token_uri(text)
    assert "1234" not in str(refused.value)


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_FINAL_TRY, TokenFlag.USER_PIN_LOCKED])
def test_last_try_of_a_pin_is_left_to_people_however_often_a_program_restarts(flag: TokenFlag) -> None:
    with pytest.raises(TokenLocked, match="Nothing was signed"):
        require_pin_may_be_tried(URI, TokenFlag.TOKEN_INITIALIZED | TokenFlag.USER_PIN_COUNT_LOW | flag)


def test_pin_is_tried_after_a_wrong_one_while_several_tries_are_left() -> None:
    require_pin_may_be_tried(URI, TokenFlag.TOKEN_INITIALIZED | TokenFlag.USER_PIN_COUNT_LOW)


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (said.PinLocked(), TokenLocked, "unlock"),
        (said.PinIncorrect(), PinRefused, "/etc/tapmesh/pin"),
        (said.PinLenRange(), PinRefused, "locks itself"),
        (said.DeviceRemoved(), TokenUnavailable, "Put the token in"),
        (said.TokenNotPresent(), TokenUnavailable, "Put the token in"),
        (said.SessionHandleInvalid(), TokenUnavailable, "Put the token in"),
        (said.UserNotLoggedIn(), TokenUnavailable, "logged out"),
        (said.DeviceMemory(), TokenUnavailable, "DeviceMemory"),
        (said.PKCS11Error("OS exception while loading"), TokenUnavailable, "libsofthsm2.so"),
    ],
)
def test_what_a_token_says_becomes_what_to_do(
    error: said.PKCS11Error, kind: type[TokenUnavailable], advice: str
) -> None:
    explained = _explained(URI, error)
    assert type(explained) is kind
    for part in (advice, "the token 'bar a'", "Nothing was signed", "finished from its stored intent"):
        assert part in str(explained)


class FaultyToken(SignMixin):
    """A token that signs rightly for a while; then one bit of what it returns is wrong."""

    def __init__(self, right: int) -> None:
        self.key, self.right = SigningKey(bytes(32)), right

    def _sign(self, data: bytes, *_arguments: object, **_options: object) -> bytes:
        self.right -= 1
        signature = self.key.sign(data).signature
        return signature if self.right >= 0 else signature[:-1] + bytes([signature[-1] ^ 1])


def test_faulty_signature_never_leaves_the_token_because_in_a_log_it_would_convict_its_author() -> None:
    token = FaultyToken(right=2)
    public_key = bytes(token.key.verify_key)
    key = TokenKey(URI, token, public_key)
    VerifyKey(public_key).verify(b"a sale", key.sign(b"a sale"))
    with pytest.raises(WrongSignature, match=r"Nothing was signed.*Do not use this token again"):
        key.sign(b"another sale")


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(65), bytes(200)], ids=len)
def test_answer_of_another_length_is_a_wrong_signature(signature: bytes) -> None:
    token = FaultyToken(right=1)
    key = TokenKey(URI, token, bytes(token.key.verify_key))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyToken, "_sign", lambda *_arguments, **_options: signature)
        with pytest.raises(WrongSignature):
            key.sign(b"a sale")


def test_token_whose_public_key_is_another_ones_is_found_out_when_it_is_opened() -> None:
    with pytest.raises(WrongSignature):
        TokenKey(URI, FaultyToken(right=9), bytes(SigningKey(bytes([1]) * 32).verify_key))


def test_public_key_is_read_wrapped_and_bare() -> None:
    key = bytes(range(32))
    assert _public_key(URI, key) == _public_key(URI, b"\x04\x20" + key) == key


@pytest.mark.parametrize("point", [b"", bytes(31), bytes(33), b"\x04\x21" + bytes(32), bytes(34), None, 7])
def test_public_key_in_another_form_is_refused(point: object) -> None:
    with pytest.raises(TokenUnfit):
        _public_key(URI, point)


def test_device_that_names_a_file_and_a_token_is_not_guessed(tmp_path: Path) -> None:
    bar = enrol(create_authority(tmp_path / "authority", "Riverside"), tmp_path / "bar", "Bar", Role.READER)
    (bar.directory / "log.pkcs11").write_text(str(URI), encoding="utf-8")
    with pytest.raises(TwoLogKeys, match="Nothing was signed"):
        load_identity(bar.directory)


def test_address_that_others_could_have_changed_is_not_followed(tmp_path: Path) -> None:
    """It names a library that would run as this device."""
    bar = enrol(create_authority(tmp_path / "authority", "Riverside"), tmp_path / "bar", "Bar", Role.READER)
    (bar.directory / "log.key").unlink()
    (bar.directory / "log.pkcs11").write_text(str(URI), encoding="utf-8")
    (bar.directory / "log.pkcs11").chmod(0o660)
    with pytest.raises(KeyFileExposed):
        load_identity(bar.directory)


WITHOUT_LIBRARY = """
import sys
sys.modules["pkcs11"] = None
from pathlib import Path
from mesh.shell.keys import TokenLibraryMissing, load_log_signer
try:
    load_log_signer(Path(sys.argv[1]))
except TokenLibraryMissing as error:
    print(error)
"""


def test_machine_without_the_library_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "log.pkcs11").touch(mode=0o600)
    (tmp_path / "log.pkcs11").write_text(str(URI), encoding="utf-8")
    command = [sys.executable, "-c", WITHOUT_LIBRARY, str(tmp_path)]
    done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True)
    assert "tapmesh[pkcs11]" in done.stdout and "nothing was signed" in done.stdout
