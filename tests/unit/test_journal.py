"""What a reader keeps of taps that are under way, in its own store: across a restart nothing of it is lost."""

from __future__ import annotations

from pathlib import Path

from mesh.core.kinds import Operation, Role
from mesh.shell.device import open_device
from mesh.views.card_record import RECORD_BYTES, decode_record
from reader.intent import Intent
from reader.journal import open_journal
from tests.factory import Venue, VenueDevice, Wristband


def _intent(device: VenueDevice, band: Wristband) -> Intent:
    body = band.propose(device, Operation.TOP_UP, 500)
    assert decode_record(body.written[:RECORD_BYTES]).card == band.card
    return Intent(
        body.tap_id, band.card, body.operation, body.amount_minor, body.witness, body.written, 0, body.document
    )


async def test_taps_that_were_under_way_are_there_after_a_restart(tmp_path: Path) -> None:
    venue = Venue()
    bar = venue.device("bar", Role.READER, Role.TILL)
    directory = bar.write_directory(tmp_path / "bar")
    torn, paid, given_up, seen = (_intent(bar, Wristband(venue, number)) for number in range(4))
    async with open_device(directory) as device:
        journal = await open_journal(device)
        for intent in (torn, paid, given_up, seen):
            await journal.store_intent(intent)
        for intent in (paid, seen):
            await journal.commit(intent)
        await journal.abort(given_up)
        await journal.drop_intent(seen.tap_id)
        before = journal.open_intents()
    async with open_device(directory) as device:
        after = (await open_journal(device)).open_intents()
    assert [(one.intent, one.committed) for one in after] == [(torn, False), (paid, True)]
    assert list(after) == list(before)
