"""The file that holds an emulated wristband: who the chip is, what it remembers, and what it remembered before.

Deterministic CBOR: ``[1, uid(7), serial(8), memory(212), [earlier memory(212), ...]]``, replaced as a whole, so that
an image is always one state or the next. Real chips forget their past; the history is what `rollback` attacks with.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mesh.core.codec import decode_array, encode
from mesh.errors import LocalError, PeerError
from mesh.limits import CARD_IMAGE_BYTES_MAX, CARD_IMAGE_HISTORY_MAX
from mesh.views.card_record import RECORD_BYTES, SEALED_BYTES, BadCardRecord, CardRecord, decode_record
from reader.chips.iso_dep import FILE_BYTES, SERIAL_BYTES, SLOTS

IMAGE_VERSION: Final = 1
UID_BYTES: Final = 7
UID_MANUFACTURER: Final = 0x02
"""ISO/IEC 7816-6; not 0x04, at which nfcpy starts to probe for its maker's products."""


class BadImage(LocalError):
    """The file is not a wristband's image."""


@dataclass(frozen=True, slots=True)
class CardImage:
    """One wristband."""

    uid: bytes
    serial: bytes
    memory: bytes
    history: tuple[bytes, ...] = ()
    """Earlier memories, oldest first, one for each finished write."""

    def programmed(self, offset: int, data: bytes) -> CardImage:
        """The image with some bytes programmed."""
        memory = self.memory[:offset] + data + self.memory[offset + len(data) :]
        assert len(memory) == FILE_BYTES
        return replace(self, memory=memory)

    def remembering(self, earlier: bytes) -> CardImage:
        """The image with one more memory in its history."""
        return replace(self, history=(*self.history, earlier)[-CARD_IMAGE_HISTORY_MAX:])

    def rolled_back(self, seq: int) -> CardImage:
        """The image as it last was when its newest record had this seq, or :class:`BadImage`."""
        for memory in (self.memory, *reversed(self.history)):
            if newest_seq(memory) == seq:
                return replace(self, memory=memory).remembering(self.memory)
        known = sorted({newest_seq(memory) for memory in (*self.history, self.memory)})
        raise BadImage(f"this wristband never showed seq {seq}; it can go back to {', '.join(map(str, known))}")


def slot_records(memory: bytes) -> tuple[CardRecord | None, ...]:
    """The records in the slots, as far as they parse; their seals are not checked here."""
    records: list[CardRecord | None] = []
    for index in range(SLOTS):
        slot = memory[index * SEALED_BYTES :][:SEALED_BYTES]
        try:
            records.append(decode_record(slot[:RECORD_BYTES]))
        except BadCardRecord:
            records.append(None)
    return tuple(records)


def newest_seq(memory: bytes) -> int:
    """The highest seq in either slot, 0 on a blank wristband."""
    return max((record.seq for record in slot_records(memory) if record is not None), default=0)


def blank_image(serial: bytes | None = None) -> CardImage:
    """A new wristband; its uid and serial are random unless the serial is given, which then decides the uid too."""
    serial = secrets.token_bytes(SERIAL_BYTES) if serial is None else serial
    if len(serial) != SERIAL_BYTES:
        raise BadImage(f"a serial has {SERIAL_BYTES} bytes ({2 * SERIAL_BYTES} hexadecimal digits)")
    return CardImage(bytes([UID_MANUFACTURER]) + serial[: UID_BYTES - 1], serial, bytes(FILE_BYTES))


def load_image(path: Path) -> CardImage:
    """Read an image, or raise :class:`BadImage`."""
    try:
        with path.open("rb") as file:
            data = file.read(CARD_IMAGE_BYTES_MAX + 1)
        fields = decode_array(data, bytes_max=CARD_IMAGE_BYTES_MAX)
    except OSError as error:
        raise BadImage(f"no wristband at {path}: {error.strerror}") from error
    except PeerError as error:
        raise BadImage(f"{path} is not a wristband's image: {error}") from error
    match fields:
        case [version, bytes(uid), bytes(serial), bytes(memory), list(history)] if version == IMAGE_VERSION:
            earlier = [one for one in history if isinstance(one, bytes) and len(one) == FILE_BYTES]
        case _:
            raise BadImage(f"{path} is not a wristband's image of this version")
    sizes = (len(uid), len(serial), len(memory), len(earlier))
    if sizes != (UID_BYTES, SERIAL_BYTES, FILE_BYTES, len(history)):
        raise BadImage(f"{path} is not a wristband's image: a field has the wrong size")
    return CardImage(uid, serial, memory, tuple(earlier))


def save_image(path: Path, image: CardImage) -> None:
    """Replace the file as a whole, or raise :class:`BadImage`. Not fsynced: chips are the power cut here, not disks."""
    data = encode([IMAGE_VERSION, image.uid, image.serial, image.memory, list(image.history)])
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise BadImage(f"cannot write the wristband's image {path}: {error.strerror}") from error
