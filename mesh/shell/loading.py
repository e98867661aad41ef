"""Putting a device back together from its two files: frontier, views, and what must survive anything.

The views are folds, so their durable form is the runs themselves: they are folded again here, which also checks every
link of every log. What is not a chain is damage, and is named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.core.chain import Genesis, KnownHead, check_run, parse_genesis
from mesh.core.entry import LOG_ID_BYTES, entry_id
from mesh.core.events import Effect
from mesh.core.kinds import Lane
from mesh.errors import PeerError
from mesh.shell.store import RunStore, StoreDamaged, StoredLog
from mesh.views.evidence import case_pairs

if TYPE_CHECKING:
    from mesh.shell.device import Device


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the caller needs from loading: the heads that a new genesis names, and effects to carry out."""

    own_heads: list[KnownHead]
    effects: list[Effect]


def load(device: Device, own: RunStore, replica: RunStore) -> Loaded:
    """Load both stores into a fresh device."""
    heads: list[KnownHead] = []
    effects: list[Effect] = _load_statements(device, own)
    for store, is_own in ((own, True), (replica, False)):
        for log in store.logs():
            try:
                genesis = parse_genesis(log.genesis, device.root)
                effects += _load_log(device, store, log, genesis, is_own=is_own)
            except PeerError as error:
                raise StoreDamaged(
                    f"{store.path}: log {log.log_id.hex()} does not hold together ({error}); the file was left as it is"
                ) from error
            if is_own:
                device.own_logs.add(log.log_id)
                head = log.branches[0].head
                heads.append(KnownHead(log.log_id, head.seq, head.id))
    _load_evidence(device, own)
    device.verifier.expect(replica.unverified_entries(), arriving=False)
    return Loaded(heads, effects)


def _load_statements(device: Device, own: RunStore) -> list[Effect]:
    """Who was revoked stays revoked even where replica.db was lost."""
    effects: list[Effect] = []
    for _, body in own.statements():
        try:
            effects += device.node.restore_statement(body)
        except PeerError as error:
            raise StoreDamaged(
                f"{own.path}: a stored revocation does not hold ({error}); the file was left as it is"
            ) from error
    return effects


def _load_log(device: Device, store: RunStore, log: StoredLog, genesis: Genesis, *, is_own: bool) -> list[Effect]:
    device.node.restore(log.log_id, genesis, log.branches, own=is_own)
    effects: list[Effect] = []
    for entries in store.runs(log.log_id):
        run = check_run(log.log_id, entries)
        device.fold(run, genesis)
        if genesis.lane is Lane.CONTROL:
            effects += device.node.restore_control(run)
    return effects


def _load_evidence(device: Device, own: RunStore) -> None:
    """Proven double spends hold their cards even where replica.db was lost: fold their taps from the proof."""
    for _, body in own.evidence():
        try:
            device.keep_case(body)
        except PeerError as error:
            raise StoreDamaged(
                f"{own.path}: a stored case does not hold ({error}); the file was left as it is"
            ) from error
        for genesis, tap in case_pairs(body):
            log_id = entry_id(genesis)[:LOG_ID_BYTES]
            device.cards.open_log(log_id, parse_genesis(genesis, device.root))
            device.cards.fold(check_run(log_id, [tap]))
