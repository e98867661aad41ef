"""Conflicts become proofs: both signed taps are read, the case is checked and kept in own.db, and people are told.

The card is held already when this begins. Conflicts that surface while others are being proven wait and then go
together: a clone that went round while bars could not see each other costs one read and one commit, not a hundred.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from mesh.core.events import SignatureFailed
from mesh.limits import CASE_TAPS_MAX
from mesh.shell.store import RunStore
from mesh.views.cards import Conflict, TapRef
from mesh.views.evidence import Case, is_tap, prove_case

if TYPE_CHECKING:
    from mesh.shell.device import Device

_CARDS_AT_ONCE: Final = 64
_Place = tuple[bytes, int]
"""Log and seq."""


class Prover:
    """One per device; `surface` is told of cards, the rest happens in a task of the device's."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._kept: dict[tuple[bytes, bytes], tuple[bytes, bytes]] = {}
        """Genesis and entry of every tap in a kept case, by log and tap id."""
        self._digests: set[bytes] = set()
        """Of the cases in own.db."""
        self._waiting: dict[bytes, None] = {}
        self._wake = trio.Event()

    def surface(self, cards: Iterable[bytes]) -> None:
        """These cards have a conflict now, and had none before."""
        self._waiting.update(dict.fromkeys(cards))
        if self._waiting:
            self._wake.set()

    def keep(self, case: Case) -> None:
        """Remember a proof that is in own.db, and what each of its taps is."""
        self._digests.add(hashlib.sha256(case.data).digest())
        for tap in case.taps:
            self._kept[tap.entry.log_id, tap.tap.fact.tap_id] = (tap.genesis, tap.entry.data)

    async def run(self) -> None:
        """Prove what surfaces, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._waiting:
                cards = list(islice(self._waiting, _CARDS_AT_ONCE))
                for card in cards:
                    del self._waiting[card]
                await self._prove([conflict for card in cards for conflict in self._device.cards.conflicts(card)])

    async def _prove(self, conflicts: Sequence[Conflict]) -> None:
        # A case has room for so many taps; whoever signs more on one record is proven by these.
        taps = {conflict: conflict.taps[:CASE_TAPS_MAX] for conflict in conflicts}
        signed = await self._signed_taps([tap for each in taps.values() for tap in each])
        proven: list[tuple[Conflict, Case]] = []
        for conflict in conflicts:
            case = self._case(taps[conflict], signed)
            if case is not None:
                proven.append((conflict, case))
            elif conflict not in self._device.cards.conflicts(conflict.card):
                # Less counts now; what is left may be a conflict that the view has reported already, as part of this.
                self.surface([conflict.card])
            await trio.lowlevel.checkpoint()  # four signatures each: nobody else is to wait for all of them
        new = {hashlib.sha256(case.data).digest(): case for _, case in proven}
        new = {digest: case for digest, case in new.items() if digest not in self._digests}
        if new:
            await self._device.write_own(partial(_put_all, new))
        for case in new.values():
            self.keep(case)
        for conflict, case in proven:
            self._device.conflict_proven(conflict, case)

    def _case(self, taps: Sequence[TapRef], signed: dict[TapRef, tuple[bytes, bytes]]) -> Case | None:
        case, forged = prove_case(self._device.root, [signed[tap] for tap in taps])
        for at in forged:
            self._device.post(SignatureFailed(taps[at].log_id, taps[at].seq))
        return case

    async def _signed_taps(self, taps: Sequence[TapRef]) -> dict[TapRef, tuple[bytes, bytes]]:
        """The genesis and the entry of each counted tap: from the logs, or from a proof that outlived them."""
        kept = {tap: pair for tap in taps if (pair := self._kept.get((tap.log_id, tap.tap_id))) is not None}
        missing = [tap for tap in taps if tap not in kept]
        logs = self._device.node.frontier.logs
        held: dict[_Place, list[bytes]] = {}
        for are_own in (True, False):
            places = [(tap.log_id, tap.seq) for tap in missing if (tap.log_id in self._device.own_logs) is are_own]
            if places:
                held |= await self._device.read_store(places[0][0], partial(_read_all, places=places), hurry=False)
        for tap in missing:
            entry = next(entry for entry in held[tap.log_id, tap.seq] if is_tap(entry, tap.tap_id))
            kept[tap] = (logs[tap.log_id].genesis.entry, entry)
        return kept


def _read_all(store: RunStore, places: Iterable[_Place]) -> dict[_Place, list[bytes]]:
    return {(log_id, seq): store.read_at(log_id, seq) for log_id, seq in places}


def _put_all(cases: dict[bytes, Case], store: RunStore) -> None:
    for digest, case in cases.items():
        store.put_evidence(digest, case.data)
