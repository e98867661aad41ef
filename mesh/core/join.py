"""Joining by code: what the device and the office say to each other inside TLS (docs/spec/join.md).

::

    ask     = [1, secret(7)]                        device -> office, once the office's certificate fits the code's pin
    place   = [1, name, [role, ...], zone or null]  office -> device: who it will be
    request, answer                                 as in any enrolment (mesh.core.enrolment)
    refusal = [0, sentence]                         office -> device, instead of a place or an answer

Each is deterministic CBOR after its length in 4 bytes. A place is given by these rules, in this order:

* the secret's digest is on a sheet, on the newest line for its name, and that line is not past its time,
* no device has that name now, or the very keys that ask now are its: then they get the same answer again.

A name is free again once its device was retired or revoked, and the code that it joined with is void before that. So
"used" is no state of its own: the register of issued certificates is the truth, and a code cannot be lost by a crash
between two files, nor be good for two devices.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mesh.core.certificate import DeviceCertificate
from mesh.core.codec import decode_array, encode
from mesh.core.device_name import check_device_name, same_device_name
from mesh.core.enrolment import Request
from mesh.core.join_code import SECRET_BYTES, secret_digest
from mesh.core.kinds import Role
from mesh.core.printable import printable
from mesh.errors import PeerError
from mesh.limits import (
    CERTIFICATE_ROLES_MAX,
    JOIN_ASK_BYTES_MAX,
    JOIN_PLACES_MAX,
    JOIN_SHEET_BYTES_MAX,
    JOIN_WORD_BYTES_MAX,
    ZONE_CHARS_MAX,
)

JOIN_VERSION: Final = 1
SHEET_VERSION: Final = 1
_REFUSED: Final = 0
_SENTENCE_CHARS_MAX: Final = 1000
_DIGEST_BYTES: Final = 32
_ROLES: Final = {role.value: role for role in Role}


class BadJoinMessage(PeerError):
    """The other end says something that has no place in a joining; the connection is closed."""


class JoinRefused(PeerError):
    """The office did not take the device in; the text is the office's own."""


class BadSheet(PeerError):
    """A sheet of join codes is not of a shape that is known here."""


@dataclass(frozen=True, slots=True)
class Place:
    """Who a device will be that joins with a certain code."""

    name: str
    roles: frozenset[Role]
    zone: str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a sheet: a place, and the digest of the secret that gives it; None once it was withdrawn."""

    place: Place
    digest: bytes | None
    until_s: int | None
    """Unix seconds by the office's clock after which the code is good no more; None for never."""


class Standing(Enum):
    """What has become of a code."""

    OPEN = "not used yet"
    JOINED = "joined"
    PAST = "past its time"
    WITHDRAWN = "withdrawn"


# -- Messages ----------------------------------------------------------------------------------------------------------


def encode_ask(secret: bytes) -> bytes:
    return encode([JOIN_VERSION, secret])


def parse_ask(data: bytes) -> bytes:
    """The secret, or a :class:`PeerError`."""
    match decode_array(data, bytes_max=JOIN_ASK_BYTES_MAX):
        case [int(version), bytes(secret)] if version is not True and len(secret) == SECRET_BYTES:
            if version == JOIN_VERSION:
                return secret
        case _:
            pass
    raise BadJoinMessage("a device that joins says [1, secret]: another version of this program, or none of it")


def encode_place(place: Place) -> bytes:
    return encode([JOIN_VERSION, *_place_fields(place)])


def parse_place(data: bytes) -> Place:
    """Who the office will make of this device; :class:`JoinRefused` if nobody."""
    fields = decode_array(data, bytes_max=JOIN_WORD_BYTES_MAX)
    raise_refusal(fields)
    if len(fields) != 4 or fields[0] is True or fields[0] != JOIN_VERSION:
        raise BadJoinMessage("the office speaks another version: use the same version of this program on both")
    return _parse_place(fields[1:], BadJoinMessage)


def encode_refusal(sentence: str) -> bytes:
    return encode([_REFUSED, sentence[:_SENTENCE_CHARS_MAX]])


def raise_refusal(fields: Sequence[object]) -> None:
    """Raise :class:`JoinRefused` if these are the fields of a refusal."""
    match fields:
        case [int(refused), str(sentence)] if refused is not False and refused == _REFUSED:
            shown = printable(sentence[:_SENTENCE_CHARS_MAX])
            raise JoinRefused(f"the office says: {shown}")
        case _:
            return


# -- Sheets ------------------------------------------------------------------------------------------------------------


def encode_sheet(lines: Sequence[Line]) -> bytes:
    """One sheet: CBOR `[1, [[name, [role, ...], zone, digest or null, until or null], ...]]`."""
    return encode([SHEET_VERSION, [[*_place_fields(line.place), line.digest, line.until_s] for line in lines]])


def parse_sheet(data: bytes) -> list[Line]:
    match decode_array(data, bytes_max=JOIN_SHEET_BYTES_MAX):
        case [int(version), list(rows)] if version is not True and version == SHEET_VERSION:
            pass
        case _:
            raise BadSheet("a sheet of join codes is [1, [lines]]")
    if len(rows) > JOIN_PLACES_MAX:
        raise BadSheet(f"a sheet has at most {JOIN_PLACES_MAX} lines")
    return [_parse_line(row) for row in rows]


def newest_lines(sheets: Iterable[Sequence[Line]]) -> list[Line]:
    """Of sheets in the order in which they were made: the line that holds for each name."""
    newest: dict[str, Line] = {}
    for sheet in sheets:
        for line in sheet:
            newest[line.place.name] = line
    return list(newest.values())


def find_line(lines: Iterable[Line], venue_id: bytes, secret: bytes) -> Line | None:
    """The line that this secret belongs to. Every line is compared, each in constant time."""
    digest = secret_digest(venue_id, secret)
    found = None
    for line in lines:
        if hmac.compare_digest(line.digest or bytes(_DIGEST_BYTES), digest):
            found = line
    return found


# -- What the office decides -------------------------------------------------------------------------------------------


def holder_of(place: Place, issued: Iterable[DeviceCertificate]) -> DeviceCertificate | None:
    """Who of the devices that have their names now has the place's, or one that people would confuse with it."""
    return next((known for known in issued if same_device_name(known.name, place.name)), None)


def standing(line: Line, issued: Iterable[DeviceCertificate], now_s: float) -> Standing:
    """What has become of a line's code at `now_s`, Unix seconds by the office's clock."""
    if holder_of(line.place, issued) is not None:
        return Standing.JOINED
    if line.digest is None:
        return Standing.WITHDRAWN
    return Standing.PAST if line.until_s is not None and now_s > line.until_s else Standing.OPEN


def refuse_place(found: Line | None, issued: Iterable[DeviceCertificate], now_s: float) -> str | None:
    """Why there is no place for whoever gave this code, in a sentence; None if there is one.

    A place that is taken is still named: only the device that took it gets any further (:func:`refuse_request`).
    """
    if found is None:
        return "this code is not on any sheet, or a newer one replaced it. Print the device a new one"
    if standing(found, issued, now_s) is Standing.PAST:
        return f"the code for {found.place.name!r} is past its time. Print the device a new one"
    return None


def refuse_request(place: Place, request: Request, holder: DeviceCertificate | None) -> str | None:
    """Why a request for a place is not signed; None if it is, or was and may be answered again."""
    if request.name != place.name:
        return f"that code is for {place.name!r}, not for {request.name!r}"
    if holder is None or (holder.link_key, holder.log_key) == (request.link_key, request.log_key):
        return None
    return (
        f"the code for {place.name!r} was used already, by a device with the fingerprint {holder.fingerprint}. If that "
        f"was yours and lost its disk, retire it in the office; if it was not, somebody else had this paper: revoke it."
        f" Then print a new code"
    )


# -- Shapes ------------------------------------------------------------------------------------------------------------


def _place_fields(place: Place) -> tuple[str, list[str], str | None]:
    return place.name, sorted(role.value for role in place.roles), place.zone


def _parse_place(fields: Sequence[object], wrong: type[PeerError]) -> Place:
    match fields:
        case [str(name), list(roles), zone] if (
            check_device_name(name) is None and 0 < len(roles) <= CERTIFICATE_ROLES_MAX
        ):
            pass
        case _:
            raise wrong("a place is a device's name, its roles, and its zone or null")
    if zone is not None and not (isinstance(zone, str) and 1 <= len(zone) <= ZONE_CHARS_MAX and zone.isprintable()):
        raise wrong("a zone's name is short, printable text")
    known = frozenset(_ROLES[role] for role in roles if isinstance(role, str) and role in _ROLES)
    if sorted(role.value for role in known) != roles:
        raise wrong("roles are names that are known here, sorted, each once")
    return Place(name, known, zone)


def _parse_line(row: object) -> Line:
    match row:
        case [name, roles, zone, (bytes() | None) as digest, (int() | None) as until_s]:
            pass
        case _:
            raise BadSheet("a line of a sheet is [name, roles, zone, digest, until]")
    if isinstance(until_s, bool) or (until_s is not None and until_s < 0):
        raise BadSheet("the end of a code's time is a Unix time in seconds")
    if digest is not None and len(digest) != _DIGEST_BYTES:
        raise BadSheet(f"a secret's digest has {_DIGEST_BYTES} bytes")
    return Line(_parse_place([name, roles, zone], BadSheet), digest, until_s)
