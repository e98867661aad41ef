"""How a device gets its certificate without any private key moving: a request goes out, an answer comes back.

::

    request = [1, name, link_key(32), log_key(32), link_proof(64), log_proof(64)]
    answer  = [1, root certificate, device certificate, [starter runs]]

Both proofs are Ed25519 over ``"tapmesh/request/1" || CBOR [1, name, link_key, log_key]``, one by each key: who asks
holds both. A request carries no secret and no trust: a person compares the keys' fingerprint on the two screens. The
starter is what a device must hold before doors: the venue document and the certificates of the devices known so far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import nacl.bindings
import nacl.exceptions

from mesh.core.certificate import (
    DeviceCertificate,
    VenueRoot,
    keys_fingerprint,
    parse_device_certificate,
    parse_venue_root,
)
from mesh.core.codec import decode_array, encode
from mesh.core.device_name import check_device_name
from mesh.core.signing import Domain, SignStatement
from mesh.errors import PeerError
from mesh.limits import ENROLMENT_BYTES_MAX, REQUEST_BYTES_MAX

REQUEST_VERSION: Final = 1
ANSWER_VERSION: Final = 1
REQUEST_DOMAIN: Final = Domain.REQUEST.value


class BadRequest(PeerError):
    """The file is not a request of a shape that is known here; nothing was signed."""


class NoPossession(PeerError):
    """Whoever made the request does not hold a key it names; nothing was signed."""


class BadAnswer(PeerError):
    """The file is not an authority's answer of a shape that is known here; the device stays as it was."""


class AnswerForAnotherDevice(PeerError):
    """The answer's certificate binds other keys than this device's; the device stays as it was."""


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request: both keys signed it."""

    name: str
    link_key: bytes
    log_key: bytes

    @property
    def fingerprint(self) -> str:
        return keys_fingerprint(self.link_key, self.log_key)


@dataclass(frozen=True, slots=True)
class Answer:
    """A checked answer. `starter` holds runs as opaque bytes; the store checks them like any other run."""

    root: VenueRoot
    certificate: DeviceCertificate
    starter: tuple[bytes, ...]


def make_request(
    name: str,
    link_key: bytes,
    log_key: bytes,
    *,
    sign_link: SignStatement,
    sign_log: SignStatement,
) -> bytes:
    """The bytes of a request, signed by both keys. `name` has passed :func:`check_device_name`."""
    asked = _asked(name, link_key, log_key)
    proofs = [sign_link(Domain.REQUEST, asked), sign_log(Domain.REQUEST, asked)]
    return encode([REQUEST_VERSION, name, link_key, log_key, *proofs])


def parse_request(data: bytes) -> Request:
    """Check shape, name and both proofs of possession, or raise a :class:`PeerError`."""
    match decode_array(data, bytes_max=REQUEST_BYTES_MAX):
        case [int(version), str(name), bytes(link_key), bytes(log_key), bytes(link_proof), bytes(log_proof)]:
            pass
        case _:
            raise BadRequest("a request is [1, name, link_key, log_key, link_proof, log_proof]")
    if version is True or version != REQUEST_VERSION:
        raise BadRequest(f"a request of version {version} is not known here: update this program")
    problem = check_device_name(name)
    if problem is not None:
        raise BadRequest(problem)
    if (len(link_key), len(log_key), len(link_proof), len(log_proof)) != (32, 32, 64, 64):
        raise BadRequest("keys have 32 bytes and proofs 64")
    if link_key == log_key:
        raise BadRequest("link key and log key are the same key; a device has two")
    message = REQUEST_DOMAIN + _asked(name, link_key, log_key)
    _require_proof(link_proof, message, link_key, "link")
    _require_proof(log_proof, message, log_key, "log")
    return Request(name, link_key, log_key)


def make_answer(root: VenueRoot, certificate: DeviceCertificate, starter: tuple[bytes, ...]) -> bytes:
    return encode([ANSWER_VERSION, root.der, certificate.der, list(starter)])


def parse_answer(data: bytes, link_key: bytes, log_key: bytes) -> Answer:
    """Check an answer for the device that holds these two keys, or raise a :class:`PeerError`.

    That the root is the right venue's cannot be checked here: a person compares its fingerprint.
    """
    match decode_array(data, bytes_max=ENROLMENT_BYTES_MAX):
        case [int(version), bytes(root_der), bytes(device_der), list(starter)]:
            pass
        case _:
            raise BadAnswer("an answer is [1, root certificate, device certificate, [starter runs]]")
    if version is True or version != ANSWER_VERSION:
        raise BadAnswer(f"an answer of version {version} is not known here: update this program")
    runs = tuple(run for run in starter if isinstance(run, bytes))
    if len(runs) != len(starter):
        raise BadAnswer("starter runs are byte strings")
    root = parse_venue_root(root_der)
    certificate = parse_device_certificate(device_der, root)
    if (certificate.link_key, certificate.log_key) != (link_key, log_key):
        raise AnswerForAnotherDevice(
            f"this answer is for {certificate.name!r} ({certificate.fingerprint}), "
            f"a device with other keys than this one"
        )
    return Answer(root, certificate, runs)


def make_starter(runs: tuple[bytes, ...]) -> bytes:
    """Newer starter runs for devices that were enrolled earlier: CBOR `[1, [runs]]`."""
    return encode([ANSWER_VERSION, list(runs)])


def parse_starter(data: bytes) -> tuple[bytes, ...]:
    match decode_array(data, bytes_max=ENROLMENT_BYTES_MAX):
        case [int(version), list(starter)] if version is not True and version == ANSWER_VERSION:
            runs = tuple(run for run in starter if isinstance(run, bytes))
        case _:
            raise BadAnswer("a starter file is [1, [runs]]")
    if len(runs) != len(starter):
        raise BadAnswer("starter runs are byte strings")
    return runs


def _asked(name: str, link_key: bytes, log_key: bytes) -> bytes:
    return encode([REQUEST_VERSION, name, link_key, log_key])


def _require_proof(proof: bytes, message: bytes, public_key: bytes, which: str) -> None:
    try:
        nacl.bindings.crypto_sign_open(proof + message, public_key)
    except nacl.exceptions.BadSignatureError as error:
        raise NoPossession(
            f"the request is not signed by the {which} key it names; make a new one on the device"
        ) from error
