"""A whole reader on a simulated disk: the journal's taps, both stores, and every start from what a power cut left.

Nothing is stepped around here: `open_device`, `OwnJournal` and their threads run as they do at a bar.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from mesh.core.entry import decode_entry
from mesh.core.frontier import Segment
from mesh.core.kinds import Kind, Lane, Operation, Role
from mesh.errors import StorageError
from mesh.shell.device import Device, open_device
from mesh.testing.disk import Disk, DiskVfs, Fate, simulated_disk
from mesh.views.card_record import RECORD_BYTES, decode_record
from mesh.views.tap_entry import decode_tap
from reader.intent import Intent, IntentDraft
from reader.journal import OwnJournal, open_journal
from tests.factory import NO_DOCUMENT, LogWriter, Venue, VenueDevice, Wristband

CUTS_APART = 9


@pytest.fixture
def default_vfs() -> Iterator[DiskVfs]:
    with simulated_disk(is_default=True) as vfs:
        yield vfs


@dataclass
class Bar:
    """One reader, what it told people, and what its peers have seen of it."""

    vfs: DiskVfs
    device: VenueDevice
    directory: Path
    band: Wristband
    lives: int = 0
    greens: set[bytes] = field(default_factory=set)
    """Tap ids for which the light went green: their TAP entries must never be missing again."""
    shown: dict[tuple[bytes, int], bytes] = field(default_factory=dict)

    def live(self, disk: Disk, *, sells: bool = True) -> None:
        self.vfs.insert(disk)
        self.lives += 1
        # The mark is on the real disk, where own.db is but an empty file for locks: it would say that own.db is gone.
        (self.directory / "own.db.made").unlink(missing_ok=True)
        try:
            trio.run(self._live, sells)
        except* StorageError:
            assert disk.is_off

    async def _live(self, sells: bool) -> None:
        async with open_device(self.directory) as device:
            await self._compare(device)
            journal = await open_journal(device)
            assert {open_tap.intent.tap_id for open_tap in journal.open_intents() if open_tap.committed} <= self.taps()
            for number in range(3 if sells else 0):
                await self._sell(journal, device, self._intent(number))

    async def _sell(self, journal: OwnJournal, device: Device, intent: Intent) -> None:
        await journal.store_intent(intent)
        if intent.amount_minor == 102:
            await journal.abort(intent)
        else:
            await journal.commit(intent)
            self.greens.add(intent.tap_id)
            await journal.drop_intent(intent.tap_id)
        await device.append(Lane.TELEMETRY, Kind.DEVICE, bytes(500))
        await self._show(device)

    async def _compare(self, device: Device) -> None:
        await self._show(device)
        assert self.greens <= self.taps(), "a green light whose sale is not on the disk"
        assert not device.node.contested_from, "an honest device accuses itself"

    async def _show(self, device: Device) -> None:
        """A peer takes everything that this device would send it now."""
        for log_id in sorted(device.own_logs):
            (branch,) = device.node.frontier.logs[log_id].branches.values()
            entries = await device.read_entries(log_id, [Segment(0, 0, branch.head.seq)])
            for seq, entry in enumerate(entries):
                assert self.shown.setdefault((log_id, seq), entry) == entry, "one seq, two entries"

    def taps(self) -> set[bytes]:
        decoded = [decode_entry(entry) for entry in self.shown.values()]
        return {decode_tap(entry.body).tap_id for entry in decoded if entry.kind == Kind.TAP}

    def _intent(self, number: int) -> Intent:
        band = self.band.clone()
        amount = 100 + number
        tap_id = bytes([self.lives, number]) * 8
        band.tap(LogWriter(self.device, number=99), Operation.SALE, amount, tap_id=tap_id)
        record = decode_record(band.sealed[:RECORD_BYTES])
        draft = IntentDraft(tap_id, band.card, Operation.SALE, amount, self.band.sealed, record, 1, NO_DOCUMENT)
        return draft.sealed_as(band.sealed)


@pytest.mark.proves("S1.17")
@pytest.mark.proves("S3.5")
def test_reader_whose_power_is_cut_anywhere_serves_nothing_that_is_not_on_its_disk(
    default_vfs: DiskVfs, tmp_path: Path
) -> None:
    venue = Venue()
    device = venue.device("bar A", Role.READER)
    band = Wristband(venue, 1)
    band.issue(LogWriter(venue.device("till", Role.TILL)), 5000)

    def bar(name: str) -> Bar:
        return Bar(default_vfs, device, device.write_directory(tmp_path / name), band)

    whole = Disk()
    bar("whole").live(whole)
    for number, cut in enumerate(range(1, whole.operations + 1, CUTS_APART)):
        fate = list(Fate)[number % len(Fate)]
        reader = bar(f"{cut}")
        disk = Disk(seed=cut, cut_at=cut)
        for again in (1 + cut % 31, None):
            reader.live(disk)
            disk.cut_power()
            disk = Disk(disk.after_power_cut(fate), seed=cut, cut_at=again)
        reader.live(disk)
        assert not disk.is_off
        disk.cut_power()
        reader.live(Disk(disk.after_power_cut(fate)), sells=False)
        assert len(reader.greens) >= 2
