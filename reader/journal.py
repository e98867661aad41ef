"""The tap journal over a device's own store: every step of a tap is one durable transaction.

A stored intent is ``[order, committed, intent]``: the order of storing survives a restart, and `committed` changes in
the transaction that appends the TAP entry, so that no power cut can leave the two telling different stories.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh.core.codec import decode_array, encode
from mesh.core.kinds import Kind, Lane
from mesh.errors import LocalError
from mesh.limits import INTENT_BYTES_MAX, OPEN_INTENTS_MAX
from mesh.shell.device import Device
from mesh.shell.store import RunStore
from reader.intent import BadIntent, Intent, OpenIntent, decode_intent

_ROW_BYTES_MAX = INTENT_BYTES_MAX + 32


class TooManyOpenTaps(LocalError):
    """More taps are unresolved than one reader can mean; the next one is refused, and nothing was charged."""


@dataclass(frozen=True, slots=True)
class _Row:
    order: int
    committed: bool
    intent: Intent

    def encode(self) -> bytes:
        return encode([self.order, self.committed, self.intent.encode()])


class OwnJournal:
    """Implements `TapJournal`; made by :func:`open_journal`."""

    def __init__(self, device: Device, rows: Sequence[_Row]) -> None:
        self._device = device
        self._rows = {row.intent.tap_id: row for row in rows}

    async def store_intent(self, intent: Intent) -> None:
        if len(self._rows) >= OPEN_INTENTS_MAX:
            raise TooManyOpenTaps(
                f"{OPEN_INTENTS_MAX} taps of this reader are unresolved: their wristbands never came back. Nothing was "
                f"charged. Show this reader to whoever runs the venue before it sells on."
            )
        order = max((row.order for row in self._rows.values()), default=0) + 1
        row = _Row(order, False, intent)
        await self._device.write_own(lambda store: store.put_intent(intent.tap_id, row.encode()))
        self._rows[intent.tap_id] = row

    async def commit(self, intent: Intent) -> None:
        row = _Row(self._rows[intent.tap_id].order, True, intent)

        def mark(store: RunStore) -> None:
            store.put_intent(intent.tap_id, row.encode())

        await self._device.append(Lane.MONEY, Kind.TAP, intent.tap_body(), also=mark)
        self._rows[intent.tap_id] = row

    async def abort(self, intent: Intent) -> None:
        def forget(store: RunStore) -> None:
            store.drop_intent(intent.tap_id)

        await self._device.append(Lane.MONEY, Kind.ABORT, intent.abort_body(), also=forget)
        self._rows.pop(intent.tap_id, None)

    async def drop_intent(self, tap_id: bytes) -> None:
        if tap_id in self._rows:
            await self._device.write_own(lambda store: store.drop_intent(tap_id))
            del self._rows[tap_id]

    def open_intents(self) -> Sequence[OpenIntent]:
        rows = sorted(self._rows.values(), key=lambda row: row.order)
        return [OpenIntent(row.intent, row.committed) for row in rows]


async def open_journal(device: Device) -> OwnJournal:
    """Read what earlier taps left open, or raise :class:`BadIntent`."""
    stored = await device.read_own(lambda store: store.intents())
    return OwnJournal(device, [_decode_row(body) for _, body in stored])


def _decode_row(body: bytes) -> _Row:
    match decode_array(body, bytes_max=_ROW_BYTES_MAX):
        case [int(order), bool(committed), bytes(intent)]:
            return _Row(order, committed, decode_intent(intent))
        case _:
            raise BadIntent("an unfinished tap in this device's store cannot be read: stop selling on it")
