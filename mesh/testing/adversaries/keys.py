"""Keys and stores that are not where they belong: the revoked device that goes on, the backup that was put back, the
card storage that runs twice.

The last two are no adversaries in law. Whoever puts a backup back or copies a card has made a mistake that people make,
and every start opens new logs, so nothing is signed twice: both devices stay honest here, and nobody may convict them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from mesh.core.chain import Run
from mesh.core.entry import decode_entry
from mesh.core.events import Effect, Revoked
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Lane
from mesh.limits import RUN_ENTRIES_MAX
from mesh.testing.adversaries.crooked import Crooked, dearer
from mesh.testing.device import Device
from mesh.testing.network import End
from mesh.testing.people import Crowd
from mesh.testing.scenario import Adversary
from mesh.testing.storage import Storage
from mesh.testing.store import MemoryStore
from mesh.testing.venue import VenueDevice
from mesh.testing.world import World
from mesh.views.tap_entry import decode_tap

REVOKED_AT: Final = (0.3, 0.5)
BACKUP_AT: Final = (0.2, 0.4)
RESTORED_AFTER: Final = (0.1, 0.3)
COPIED_AT: Final = (0.2, 0.5)
"""Shares of the safety phase."""
LOOKS_EVERY_S: Final = 2.0
OFF_S: Final = 3.0
FORKS_AT: Final = 0.5
"""Chance that a sale of a bar whose key was stolen is the one that has a rival."""
HOLDERS_ENOUGH: Final = 3
"""With so many others holding an entry it must be there at the end, whatever one or two of them lose meanwhile."""


class GoesOn(Crooked):
    """A bar that the authority revoked and that will not hear of it: it sells, signs, and calls on everybody."""

    kind = Adversary.REVOKED

    def __init__(self, world: World, enrolled: VenueDevice, storage: Storage, zone: str, chance: random.Random) -> None:
        super().__init__(world, enrolled, storage, zone, chance)
        self._has_forked = False

    @property
    def is_revoked(self) -> bool:
        office = self.venue.office.process
        return office is not None and self.enrolled.certificate.serial in office.node.revocations

    def append(
        self,
        lane: Lane,
        kind: int,
        body: bytes,
        *,
        also: Callable[[MemoryStore], None] | None = None,
        done: Callable[[Run], None] = lambda run: None,
    ) -> None:
        if self.is_revoked:
            self.did()
        forks = kind == Kind.TAP and not self._has_forked and self.tricks.random() < FORKS_AT

        def signed(run: Run) -> None:
            done(run)
            if forks:
                self._fork(run)

        super().append(lane, kind, body, also=also, done=signed)

    def _fork(self, run: Run) -> None:
        """Whoever has the key signs a dearer sale at the same seq: the authority's cut will name one of the two."""
        self._has_forked = True
        rival = dearer(decode_tap(run.fields[-1][6]), self.enrolled, self.tricks)
        links = self.live_links()
        if rival is None or not links or not self.alive:
            return
        chain = self.storage.own.read_entries(run.log_id, Segment(0, 0, run.last_seq - 1))
        before = Position(run.last_seq - 1, run.fields[-1][3])
        entries = chain + self.sign_chain(before, run.log_id, [(Kind.TAP, rival.encode())])
        self.push(self.tricks.choice(links), run.log_id, entries[:RUN_ENTRIES_MAX])

    def link_up(self, end: End) -> None:
        if self.is_revoked:
            self.did()
        super().link_up(end)

    def _carry_out(self, effect: Effect) -> None:
        about_itself = isinstance(effect, Revoked) and effect.statement.serial == self.enrolled.certificate.serial
        if not about_itself:
            super()._carry_out(effect)


def revoke_in_time(world: World, bar: Device) -> None:
    """In mid-run the office publishes the authority's word: what it holds of the bar's logs counts, nothing else."""

    def revoke() -> None:
        office = world.office.process
        if world.healing or (office is not None and bar.certificate.serial in office.node.revocations):
            return
        world.clock.after(LOOKS_EVERY_S, revoke)
        if office is None or office.is_busy:
            return
        cut = _heads_of(world, bar)
        if any(head.seq > 0 for head in cut.values()):
            said = world.venue.revoke(bar.enrolled, cut)
            office.append(Lane.CONTROL, Kind.REVOCATION, said, done=lambda run: _is_said(world, bar, cut))

    world.clock.at(world.scenario.duration_s * _share(world, bar, REVOKED_AT), revoke)


def _is_said(world: World, bar: Device, cut: dict[bytes, Position]) -> None:
    world.truth.revoked[bar.certificate.serial] = cut


def _heads_of(world: World, bar: Device) -> dict[bytes, Position]:
    """Every log of a device that is known at the office, up to where it is held there."""
    assert world.office.process is not None
    frontier = world.office.process.node.frontier
    logs = [log for log in frontier.logs.values() if log.genesis.certificate.serial == bar.certificate.serial]
    return {log.log_id: max(log.heads()) for log in logs if log.heads()}


# -- A backup ----------------------------------------------------------------------------------------------------------


def restore_in_time(world: World, bar: Device) -> None:
    """Some time after a backup of own.db was taken, the power goes and the backup is put in its place."""

    def take() -> None:
        if bar.process is None or not bar.storage.own.log_ids():
            world.clock.after(LOOKS_EVERY_S, take)
            return
        backup = bar.storage.own.copy()
        wait_s = world.scenario.duration_s * _share(world, bar, RESTORED_AFTER)
        world.clock.after(wait_s, lambda: restore(backup))

    def restore(backup: MemoryStore) -> None:
        if world.healing:
            return
        if bar.process is None:
            world.clock.after(LOOKS_EVERY_S, lambda: restore(backup))
            return
        bar.power_cut(OFF_S)
        world.truth.rolled_away |= _only_here(world, bar, backup)
        bar.storage.own = backup
        world.fired[Adversary.RESTORED_BACKUP.value] += 1
        world.trace.note(world.clock.now_us, bar.name, "own.db is put back to a backup")

    world.clock.at(world.scenario.duration_s * _share(world, bar, BACKUP_AT), take)


def _only_here(world: World, bar: Device, backup: MemoryStore) -> set[bytes]:
    """Tap ids of the sales that go with the newer store and that not enough others hold: those are lost to the venue.

    Whoever puts a backup back destroys the only copy of them, as a fire would. Everything else comes back from peers,
    and the checks ask for it.
    """
    found: set[bytes] = set()
    own = bar.storage.own
    others = [other.storage for other in world.honest if other is not bar]
    for log in own.logs():
        kept = backup.ids_of(log.log_id)
        held = [store.own.ids_of(log.log_id) | store.replica.ids_of(log.log_id) for store in others]
        for data in own.read_entries(log.log_id, Segment(0, 0, log.branches[0].head.seq)):
            entry = decode_entry(data)
            if (
                entry.kind == Kind.TAP
                and entry.id not in kept
                and sum(entry.id in ids for ids in held) < HOLDERS_ENOUGH
            ):
                found.add(decode_tap(entry.body).tap_id)
    return found


# -- A copied card -----------------------------------------------------------------------------------------------------


def copy_in_time(world: World, crowd: Crowd, bar: Device, zone: str) -> None:
    """The whole card storage of a running bar is copied, and a second box runs from the copy in some zone."""

    def copy() -> None:
        if world.healing:
            return
        if bar.process is None or not bar.storage.own.log_ids():
            world.clock.after(LOOKS_EVERY_S, copy)
            return
        second = world.add_device(bar.enrolled, zone, f"{bar.name} (copy)")
        second.links_wanted = bar.links_wanted
        second.storage.own, second.storage.replica = bar.storage.own.copy(), bar.storage.replica.copy()
        second.boot()
        crowd.opens(second)
        world.fired[Adversary.CLONED_CARD_STORAGE.value] += 1

    world.clock.at(world.scenario.duration_s * _share(world, bar, COPIED_AT), copy)


def _share(world: World, bar: Device, between: tuple[float, float]) -> float:
    return world.chance(f"adversary {bar.name} {between}").uniform(*between)
