"""The envelope of one Automerge change, read without Automerge (https://automerge.org/automerge-binary-format-spec/).

What a venue document is made of must be known before the library sees a byte of it, because the library

* drops changes whose dependencies are missing without a word, so hash and dependencies are read here,
* expands run-length coding that says "a billion operations" in six bytes, so operations are counted here,
* inflates compressed chunks and columns, so those are refused here,
* takes any number of chunks in a row, whole documents among them, so exactly one change chunk is required here.

Rules, one error each: one uncompressed change chunk and nothing after it; the checksum is the start of the hash; every
count is within its bound; columns are uncompressed and hold at most `DOCUMENT_CHANGE_OPERATIONS_MAX` rows each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from mesh.errors import PeerError
from mesh.limits import (
    DOCUMENT_CHANGE_DEPENDENCIES_MAX,
    DOCUMENT_CHANGE_OPERATIONS_MAX,
    DOCUMENT_KEY_BYTES_MAX,
    ENTRY_BODY_BYTES_MAX,
)

HASH_BYTES: Final = 32
_MAGIC: Final = bytes.fromhex("856f4a83")
_CHANGE_CHUNK: Final = 1
_CHUNK_TYPE_AT: Final = 8
_ACTION_COLUMN: Final = 0x42
_COLUMNS_MAX: Final = 64
_ACTORS_MAX: Final = 4096
_ACTOR_BYTES_MAX: Final = 64
_LEB_BYTES_MAX: Final = 10
_COMPRESSED_BIT: Final = 0x08
_BOOLEAN, _STRING, _RAW = 4, 5, 7
"""The low three bits of a column's specification; the other types are run-length coded integers."""


class BadChange(PeerError):
    """The bytes are not one plain Automerge change; the entry counts for nothing."""


class ChangeTooBig(BadChange):
    """The change holds, or by run-length coding claims, more than is allowed."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change's envelope. `max_op` is the counter of its last operation, `start_op - 1` where it has none."""

    hash: bytes
    actor: bytes
    seq: int
    start_op: int
    operations: int
    dependencies: tuple[bytes, ...]
    raw: bytes

    @property
    def max_op(self) -> int:
        return self.start_op + self.operations - 1


def parse_change(raw: bytes) -> Change:
    """Read the envelope of `raw`, or raise :class:`BadChange`. What the operations say is not looked at."""
    if len(raw) > ENTRY_BODY_BYTES_MAX:
        raise ChangeTooBig(f"a change of {len(raw)} bytes; at most {ENTRY_BODY_BYTES_MAX} are allowed")
    if raw[:4] != _MAGIC or raw[_CHUNK_TYPE_AT : _CHUNK_TYPE_AT + 1] != bytes([_CHANGE_CHUNK]):
        raise BadChange("not an uncompressed Automerge change")
    digest = hashlib.sha256(raw[_CHUNK_TYPE_AT:]).digest()
    if raw[4:8] != digest[:4]:
        raise BadChange("the change's checksum does not match its content")
    reader = _Reader(raw, _CHUNK_TYPE_AT + 1)
    if reader.unsigned() != reader.left:
        raise BadChange("not exactly one change")
    count = reader.count(DOCUMENT_CHANGE_DEPENDENCIES_MAX, "dependencies")
    dependencies = tuple(reader.take(HASH_BYTES) for _ in range(count))
    actor = reader.sized(_ACTOR_BYTES_MAX)
    seq, start_op = reader.unsigned(), reader.unsigned()
    reader.signed()  # the author's clock: means nothing here
    reader.sized(ENTRY_BODY_BYTES_MAX)  # the message
    for _ in range(reader.count(_ACTORS_MAX, "actors")):
        reader.sized(_ACTOR_BYTES_MAX)
    operations = _count_operations(reader)
    return Change(digest, actor, seq, start_op, operations, dependencies, raw)


def _count_operations(reader: _Reader) -> int:
    """Walk every column, bound its rows, and return the rows of the action column: one an operation."""
    count = reader.count(_COLUMNS_MAX, "columns")
    columns = [(reader.unsigned(), reader.unsigned()) for _ in range(count)]
    operations = 0
    for specification, length in columns:
        if specification & _COMPRESSED_BIT:
            raise BadChange("a compressed column")
        rows = _rows(_Reader(reader.take(length), 0), specification & 7)
        if specification == _ACTION_COLUMN:
            operations = rows
    if reader.left:
        raise BadChange("bytes after the last column")
    return operations


def _rows(column: _Reader, kind: int) -> int:
    """How many rows a column claims, never walking more than its bytes."""
    rows = 0
    while column.left and kind != _RAW:
        if kind == _BOOLEAN:
            rows += column.unsigned()
        else:
            rows += _run(column, kind)
        if rows > DOCUMENT_CHANGE_OPERATIONS_MAX:
            raise ChangeTooBig(f"a change has at most {DOCUMENT_CHANGE_OPERATIONS_MAX} operations")
    return rows


def _run(column: _Reader, kind: int) -> int:
    """One run: a positive count repeats one value, a negative one is that many values, zero is a run of nulls."""
    length = column.signed()
    if length == 0:
        return column.unsigned()
    for _ in range(1 if length > 0 else -length):
        if kind == _STRING:
            column.sized(DOCUMENT_KEY_BYTES_MAX)
        else:
            column.skip_number()
    return abs(length)


class _Reader:
    """A cursor over bytes; running out of them is a :class:`BadChange`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise BadChange("the change ends too early")
        self._at += length
        return self._data[self._at - length : self._at]

    def sized(self, bytes_max: int) -> bytes:
        length = self.unsigned()
        if length > bytes_max:
            raise ChangeTooBig(f"{length} bytes where at most {bytes_max} are allowed")
        return self.take(length)

    def count(self, count_max: int, what: str) -> int:
        value = self.unsigned()
        if value > count_max:
            raise ChangeTooBig(f"{value} {what} where at most {count_max} are allowed")
        return value

    def unsigned(self) -> int:
        """An unsigned LEB128 number of at most ten bytes."""
        return self._number()[0]

    def signed(self) -> int:
        """A signed LEB128 number of at most ten bytes."""
        value, bits, negative = self._number()
        return value - (1 << bits) if negative else value

    def skip_number(self) -> None:
        self._number()

    def _number(self) -> tuple[int, int, bool]:
        """Return the value, its width in bits, and whether its sign bit is set."""
        value = 0
        for index in range(_LEB_BYTES_MAX):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if not byte & 0x80:
                return value, 7 * (index + 1), bool(byte & 0x40)
        raise BadChange("a number longer than ten bytes")
