"""The device's side of enrolment: make keys and a request, accept the authority's answer (mesh.core.enrolment)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mesh.core.certificate import DeviceCertificate
from mesh.core.device_name import check_device_name
from mesh.core.enrolment import Answer, Request, make_request, parse_answer, parse_request
from mesh.errors import LocalError
from mesh.limits import REQUEST_BYTES_MAX
from mesh.shell.files import AlreadyThere, CannotRead, make_new_directory, read_file, write_new_file
from mesh.shell.keys import (
    CERTIFICATE_FILE,
    LINK_KEY_FILE,
    LOG_KEY_FILE,
    LOG_TOKEN_FILE,
    ROOT_FILE,
    create_key_file,
    create_token_key,
    load_log_signer,
    load_signer,
    name_token_key,
    read_certificate,
    write_certificate,
)
from mesh.shell.pkcs11_uri import TokenUri

REQUEST_FILE: Final = "request.cbor"


class BadName(LocalError):
    """A device cannot be called that; nothing was made."""


class AlreadyEnrolled(LocalError):
    """The device has a certificate; it was not touched."""


class OtherVenue(LocalError):
    """The device's directory belongs to another venue than the answer; nothing was changed."""


def make_device(directory: Path, name: str, *, token: TokenUri | None = None) -> Request:
    """Make a device's keys and its request in a new directory; the request's bytes are in `request.cbor`.

    With `token` the log key is made inside that token and never leaves it; the token is tried before anything is made.
    """
    problem = check_device_name(name)
    if problem is not None:
        raise BadName(f"{name!r} cannot be a device's name: {problem}")
    named = None if token is None else name_token_key(token, f"tapmesh {name}")
    make_new_directory(directory)
    link = create_key_file(directory / LINK_KEY_FILE)
    log = create_key_file(directory / LOG_KEY_FILE) if named is None else create_token_key(directory, named)
    data = make_request(name, link.public_key, log.public_key, sign_link=link.sign, sign_log=log.sign)
    write_new_file(directory / REQUEST_FILE, data)
    return parse_request(data)


def read_request(path: Path) -> Request:
    """Read and check a request file; see :func:`mesh.core.enrolment.parse_request`."""
    return parse_request(read_file(path, bytes_max=REQUEST_BYTES_MAX, meaning="a device's request"))


def require_no_certificate(directory: Path) -> None:
    """Raise :class:`AlreadyEnrolled` if the device in `directory` has its certificate already."""
    if (directory / CERTIFICATE_FILE).exists():
        raise AlreadyEnrolled(
            f"the device in {directory} is enrolled already and was not touched; "
            f"'tapmesh device load' takes newer starters"
        )


def check_answer(directory: Path, data: bytes) -> Answer:
    """Check an authority's answer against the keys in `directory`; writes nothing."""
    if not any((directory / name).exists() for name in (LOG_KEY_FILE, LOG_TOKEN_FILE)):
        raise CannotRead(f"there is no device in {directory}: run 'tapmesh device request' first")
    require_no_certificate(directory)
    link, log = load_signer(directory / LINK_KEY_FILE), load_log_signer(directory)
    return parse_answer(data, link.public_key, log.public_key)


def install_certificate(directory: Path, answer: Answer) -> DeviceCertificate:
    """Write root and certificate, the certificate last: with it there the device is whole. Can be run again."""
    try:
        write_certificate(directory / ROOT_FILE, answer.root.der)
    except AlreadyThere as error:
        # A power cut between the two files leaves the root alone; the same answer may finish what it began.
        if read_certificate(directory / ROOT_FILE, "the venue's root certificate") != answer.root.der:
            raise OtherVenue(f"{directory} belongs to another venue than this answer; nothing was changed") from error
    write_certificate(directory / CERTIFICATE_FILE, answer.certificate.der)
    return answer.certificate
