"""Profile of ISO-DEP chips (Type 4A, ISO/IEC 14443-4): one ISO 7816-4 file with two slots of 106 bytes.

| command | bytes | answer |
|---|---|---|
| SELECT by name | ``00 A4 04 00 08 <AID>`` | 8 bytes of serial, ``9000`` |
| READ BINARY | ``00 B0 <offset, 2> <length>`` | data, ``9000`` |
| UPDATE BINARY | ``00 D6 <offset, 2> <length> <data>`` | ``9000`` once all blocks are programmed |

The application identifier is proprietary (``F0``, ISO 7816-5) followed by "TAPMESH". Both slots are read with one
command: 212 bytes and the status fit in one frame of 256 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mesh.views.card_record import SEALED_BYTES
from reader.chips.profile import ChipIdentity, ChipRefused, SealKind

AID: Final = b"\xf0TAPMESH"
SLOTS: Final = 2
FILE_BYTES: Final = SLOTS * SEALED_BYTES
SERIAL_BYTES: Final = 8

INS_SELECT: Final = 0xA4
INS_READ_BINARY: Final = 0xB0
INS_UPDATE_BINARY: Final = 0xD6
SELECT_COMMAND: Final = bytes([0x00, INS_SELECT, 0x04, 0x00, len(AID)]) + AID
STATUS_OK: Final = b"\x90\x00"


class IsoDepChip:
    """An activated ISO-DEP chip; `transceive` sends one command and returns its answer with the status word."""

    def __init__(self, uid: bytes, transceive: Callable[[bytes], bytes]) -> None:
        self._uid = uid
        self._transceive = transceive

    @property
    def capacity(self) -> int:
        return SEALED_BYTES

    @property
    def seal_kind(self) -> SealKind:
        return SealKind.ED25519

    def select(self) -> ChipIdentity:
        serial = self._command(SELECT_COMMAND)
        if len(serial) != SERIAL_BYTES:
            raise ChipRefused("this chip answers to our name but not as a wristband does")
        return ChipIdentity(self._uid, serial)

    def read_slots(self) -> tuple[bytes, bytes]:
        data = self._read(0, FILE_BYTES)
        return data[:SEALED_BYTES], data[SEALED_BYTES:]

    def read_slot(self, index: int) -> bytes:
        return self._read(index * SEALED_BYTES, SEALED_BYTES)

    def write_slot(self, index: int, data: bytes) -> None:
        assert index in {0, 1} and len(data) == SEALED_BYTES
        offset = (index * SEALED_BYTES).to_bytes(2, "big")
        self._command(bytes([0x00, INS_UPDATE_BINARY]) + offset + bytes([len(data)]) + data)

    def _read(self, offset: int, length: int) -> bytes:
        data = self._command(bytes([0x00, INS_READ_BINARY]) + offset.to_bytes(2, "big") + bytes([length]))
        if len(data) != length:
            raise ChipRefused(f"the wristband answered {len(data)} bytes where {length} were asked for")
        return data

    def _command(self, command: bytes) -> bytes:
        answer = self._transceive(command)
        if answer[-2:] != STATUS_OK:
            status = answer[-2:].hex() or "nothing"
            raise ChipRefused(f"this is not a wristband of ours, or it is out of order (status {status})")
        return answer[:-2]
