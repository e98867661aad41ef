"""`tapmesh join CODE`: a device with nothing but its code becomes a member of its venue.

Steps, each durable before the next, so that the same command goes on wherever a crash or a lost connection left it:

1. whoever answers shows a certificate that fits the code's pin; only then the secret is told (inside TLS),
2. the device learns who it will be, makes its keys and its request in a new directory (whole or not at all),
3. its certificate and the venue's root are written, the certificate last,
4. the starter is stored: the venue document and the devices known so far,
5. its settings file is written with its zone, unless there is one.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.codec import decode_array
from mesh.core.enrolment import Answer, parse_answer
from mesh.core.join import Place, encode_ask, parse_place, raise_refusal
from mesh.core.join_code import JoinCode, welcome_pin, welcome_venue
from mesh.errors import LocalError, PeerError
from mesh.limits import ENROLMENT_BYTES_MAX, HANDSHAKE_S_MAX, JOIN_STEP_S_MAX, JOIN_WORD_BYTES_MAX, REQUEST_BYTES_MAX
from mesh.shell.enrolment import REQUEST_FILE, OtherVenue, install_certificate, make_device, read_request
from mesh.shell.files import CannotRead, give_name, read_file
from mesh.shell.join_discovery import offices
from mesh.shell.join_stream import ConnectionLost, JoinStream, device_context
from mesh.shell.keys import CERTIFICATE_FILE, LINK_KEY_FILE, LOG_TOKEN_FILE, load_identity, load_log_signer, load_signer
from mesh.shell.network import Endpoint
from mesh.shell.pkcs11_uri import TokenUri
from mesh.shell.settings import SETTINGS_FILE, write_first_settings
from mesh.shell.starter import import_starter

SEARCH_S: Final = 20.0
"""How long an office is looked for on the local network."""
_ANSWER_S_MAX: Final = 120.0
"""The office signs for one device at a time; forty that ask at once wait for each other."""


class NoOffice(LocalError):
    """Nobody who takes devices in was found; nothing was sent."""


class WrongOffice(PeerError):
    """Who answered is not the office that this code is for; nothing was told to it."""


class OtherDevice(LocalError):
    """The directory is another device's than the one this code is for."""


class KeyElsewhere(LocalError):
    """A token was named for a device whose keys are in files already; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it. `entries` is how many the starter brought that were not here yet."""

    certificate: DeviceCertificate
    venue_fingerprint: str
    zone: str | None
    entries: int


async def join_venue(
    code: JoinCode,
    directory: Path,
    *,
    at: Endpoint | None,
    interface: str | None,
    tell: Callable[[str], None],
    token: TokenUri | None = None,
) -> Joined:
    """Join with `code` as the device in `directory`; can be repeated after any failure. Errors say what to do.

    With `token` the key that signs sales is made inside that token.
    """
    if at is not None:
        joined = await _try(at, code, directory, token, tell)
        if joined is None:
            raise NoOffice(f"nobody answers at {at}: is 'tapmesh venue welcome' running there? Nothing was sent")
        return joined
    failed: PeerError | None = None
    async with offices(interface) as announced:
        latest = trio.current_time() + SEARCH_S
        while True:
            with trio.move_on_at(latest) as search:
                endpoints = await announced.receive()
            if search.cancelled_caught:
                break
            for endpoint in endpoints:
                try:
                    joined = await _try(endpoint, code, directory, token, tell)
                except (WrongOffice, ConnectionLost) as error:
                    failed = error
                else:
                    if joined is not None:
                        return joined
    if failed is not None:
        raise failed
    raise NoOffice(
        "no office of this code's venue was found on this network; nothing was sent. On the authority's machine run "
        "'tapmesh venue welcome'. If it runs there, this network keeps devices from finding each other: give its "
        "address, 'tapmesh join CODE --at ADDRESS:PORT', or use a cable"
    )


async def _try(
    endpoint: Endpoint, code: JoinCode, directory: Path, token: TokenUri | None, tell: Callable[[str], None]
) -> Joined | None:
    """Join at one address; None where nobody answers."""
    tell(f"asking {endpoint}")
    stream = await _connect(endpoint)
    if stream is None:
        return None
    try:
        await stream.open()
        return await _join(stream, code, directory, token)
    finally:
        await stream.aclose()


async def _connect(endpoint: Endpoint) -> JoinStream | None:
    try:
        with trio.fail_after(HANDSHAKE_S_MAX):
            stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    except (OSError, trio.TooSlowError):
        return None
    return JoinStream(trio.SSLStream(stream, device_context()))


async def _join(stream: JoinStream, code: JoinCode, directory: Path, token: TokenUri | None) -> Joined:
    venue_id = await _require_office(stream, code)
    _require_no_other_venue(directory, venue_id)
    await stream.send(encode_ask(code.secret), patience_s=JOIN_STEP_S_MAX)
    place = parse_place(await stream.receive(bytes_max=JOIN_WORD_BYTES_MAX, patience_s=JOIN_STEP_S_MAX))
    await trio.to_thread.run_sync(_prepare, directory, place, token)
    request = read_file(directory / REQUEST_FILE, bytes_max=REQUEST_BYTES_MAX, meaning="this device's request")
    await stream.send(request, patience_s=JOIN_STEP_S_MAX)
    data = await stream.receive(bytes_max=ENROLMENT_BYTES_MAX, patience_s=_ANSWER_S_MAX)
    answer = await trio.to_thread.run_sync(_check_answer, data, directory, place, venue_id)
    return await trio.to_thread.run_sync(_install, directory, answer, place)


async def _require_office(stream: JoinStream, code: JoinCode) -> bytes:
    """The venue id that the office's certificate names, if it is the one whose pin the code carries."""
    shown = stream.certificate
    if not shown or await trio.to_thread.run_sync(welcome_pin, shown) != code.pin:
        raise WrongOffice(
            "who answered is not the office that printed this code, and was told nothing. It is the office of another "
            "event, or somebody who pretends to be one; or the code was mistyped: look at the paper again, and if it "
            "is right, join over a cable to the authority's machine"
        )
    return welcome_venue(shown)


def _require_no_other_venue(directory: Path, venue_id: bytes) -> None:
    if (directory / CERTIFICATE_FILE).exists() and load_identity(directory).root.venue_id != venue_id:
        raise OtherVenue(f"the device in {directory} belongs to another venue than this code; nothing was changed")


def _prepare(directory: Path, place: Place, token: TokenUri | None) -> None:
    """Make the device's keys and request, unless an earlier try did."""
    if not directory.exists():
        directory.parent.mkdir(parents=True, exist_ok=True)
        partial = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}.partial")
        try:
            make_device(partial, place.name, token=token)
            give_name(partial, directory)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    if not (directory / REQUEST_FILE).exists():
        raise CannotRead(
            f"{directory} is there and holds no device that waits to be taken in; nothing was changed. Give a "
            f"directory that does not exist yet"
        )
    name = read_request(directory / REQUEST_FILE).name
    if name != place.name:
        raise OtherDevice(
            f"{directory} holds the device {name!r}, and this code is for {place.name!r}: use its own code, or give "
            f"another --dir. Nothing was changed, and the code is still good"
        )

    if token is not None and not (directory / LOG_TOKEN_FILE).exists():
        raise KeyElsewhere(
            f"the device in {directory} made its keys in files before, and a key does not move into a token. Nothing "
            f"was changed: join without --signer, or give a directory that does not exist yet and a code that was not "
            f"used"
        )


def _check_answer(data: bytes, directory: Path, place: Place, venue_id: bytes) -> Answer:
    raise_refusal(decode_array(data, bytes_max=ENROLMENT_BYTES_MAX))
    link, log = load_signer(directory / LINK_KEY_FILE), load_log_signer(directory)
    answer = parse_answer(data, link.public_key, log.public_key)
    if answer.root.venue_id != venue_id:
        raise WrongOffice("the office answered for another venue than its certificate names; nothing was taken")
    if (answer.certificate.name, answer.certificate.roles) != (place.name, place.roles):
        raise WrongOffice("the office's certificate is for another name or other roles than it said; nothing was taken")
    return answer


def _install(directory: Path, answer: Answer, place: Place) -> Joined:
    if not (directory / CERTIFICATE_FILE).exists():
        install_certificate(directory, answer)
    identity = load_identity(directory)
    entries = import_starter(identity, answer.starter)
    if place.zone is not None and not (directory / SETTINGS_FILE).exists():
        write_first_settings(directory, place.zone)
    return Joined(identity.certificate, identity.root.fingerprint, place.zone, entries)
