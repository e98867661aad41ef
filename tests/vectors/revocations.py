"""The vectors of revocation.json: statements of the authority. Made by `python -m tests.vectors.make`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mesh.core.codec import Value, encode
from mesh.core.revocation import STATEMENT_DOMAIN, encode_serial, parse_statement
from mesh.limits import REVOCATION_NUMBER_MAX
from tests.factory import LogWriter, Venue, VenueDevice

PLACE: Final[list[Value]] = [bytes(16), 1, bytes(32)]
LATER_PLACE: Final[list[Value]] = [b"\x01" * 16, 1, bytes(32)]


def revocation_vectors(venue: Venue, strangers: Venue, device: VenueDevice) -> dict[str, object]:
    """Statements about one device, and what no statement is though the authority signed it."""
    logs = [LogWriter(device, number=number) for number in range(2)]
    serial = encode_serial(device.certificate.serial)
    valid = {
        "nothing of it counts": venue.revocation(device),
        "two logs count up to a place": venue.revocation(device, (logs[0], 0), (logs[1], 0), number=2),
        "the highest number": venue.revocation(device, number=REVOCATION_NUMBER_MAX),
    }
    shapes: dict[str, list[Value]] = {
        "version 2": [2, serial, 1, []],
        "version true": [True, serial, 1, []],
        "empty serial": [1, b"", 1, []],
        "serial with a leading zero": [1, b"\x00" + serial, 1, []],
        "serial of 160 bits": [1, b"\x80" + bytes(19), 1, []],
        "number 0": [1, serial, 0, []],
        "number true": [1, serial, True, []],
        "number too large": [1, serial, REVOCATION_NUMBER_MAX + 1, []],
        "one log twice": [1, serial, 1, [PLACE, PLACE]],
        "logs out of order": [1, serial, 1, [LATER_PLACE, PLACE]],
        "log id of 15 bytes": [1, serial, 1, [[bytes(15), 1, bytes(32)]]],
        "negative seq": [1, serial, 1, [[bytes(16), -1, bytes(32)]]],
        "seq of 33 bits": [1, serial, 1, [[bytes(16), 2**32, bytes(32)]]],
        "place without an id": [1, serial, 1, [[bytes(16), 1]]],
        "no cut": [1, serial, 1],
    }
    rejected = [(name, _signed(venue, shape), "BadStatement") for name, shape in shapes.items()]
    good = venue.revocation(device)
    rejected += [
        ("signed by another event's authority", _signed(strangers, [1, serial, 1, []]), "NotTheAuthority"),
        ("signed by the device itself", _signed_by_device(device, [1, serial, 1, []]), "NotTheAuthority"),
        ("signature changed", good[:-1] + bytes([good[-1] ^ 1]), "NotTheAuthority"),
        ("signature of 63 bytes", encode([1, serial, 1, [], bytes(63)]), "BadStatement"),
        ("a byte behind it", good + b"\x00", "NotCanonical"),
        ("array head that is longer than it must be", b"\x98\x05" + good[1:], "NotCanonical"),
    ]
    return {
        "root": venue.root.der.hex(),
        "valid": [
            {
                "name": name,
                "statement": body.hex(),
                "serial": str(statement.serial),
                "number": statement.number,
                "cut": [[log_id.hex(), at.seq, at.id.hex()] for log_id, at in sorted(statement.cut.items())],
            }
            for name, body in valid.items()
            for statement in [parse_statement(body, venue.root)]
        ],
        "must_reject": [{"name": name, "statement": body.hex(), "error": error} for name, body, error in rejected],
    }


def _signed(venue: Venue, shape: Sequence[Value]) -> bytes:
    return encode([*shape, venue._key.sign(STATEMENT_DOMAIN + encode(shape))])


def _signed_by_device(device: VenueDevice, shape: Sequence[Value]) -> bytes:
    return encode([*shape, device.log_key.sign(STATEMENT_DOMAIN + encode(shape)).signature])
