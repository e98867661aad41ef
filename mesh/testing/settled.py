"""What the settlement service and its gateways must have at the end, compared with what the devices' own disks hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from mesh.core.entry import decode_entry
from mesh.core.frontier import Position, Segment
from mesh.core.kinds import Kind, Operation, Role
from mesh.testing.device import Device
from mesh.testing.world import World
from mesh.views.tap_entry import decode_tap


def settled_whole(world: World) -> Iterator[str]:
    """The service holds every branch that a gateway holds, says of each honest log what is in it, and no receipt is in
    a log of a gateway that the service did not sign."""
    gateways = [world.devices[name] for name in world.gateways if world.devices[name].is_honest]
    yield from _branches(world, [gateway for gateway in gateways if gateway.is_up])
    yield from _sums(world)
    for gateway in gateways:
        for receipt in _receipts(gateway):
            if hashlib.sha256(receipt).digest() not in world.settlement.signed:
                yield f"{gateway.name} published a receipt that the service never signed"


def _branches(world: World, gateways: list[Device]) -> Iterator[str]:
    ledger = world.settlement.ledger
    if ledger is None or world.together_at is None:
        return
    settled = {log.log_id: set(log.heads) for log in ledger.heads()}
    overflowing = world.overflowing()
    for gateway in gateways:
        assert gateway.process is not None
        for log_id, log in gateway.process.node.frontier.logs.items():
            if log_id in overflowing:
                continue
            lacks = set(log.heads()) - settled.get(log_id, set())
            if lacks and not _is_newer(lacks, settled.get(log_id, set())):
                yield f"the service lacks {len(lacks)} branches of a log that {gateway.name} holds"


def _is_newer(lacks: set[Position], settled: set[Position]) -> bool:
    """The log merely went on while the world was looked at: one head, and what is settled of it lies below."""
    return len(lacks) == 1 and len(settled) == 1 and min(lacks).seq > min(settled).seq


def _sums(world: World) -> Iterator[str]:
    ledger = world.settlement.ledger
    if ledger is None:
        return
    for device in world.honest:
        for log_id in device.storage.own.log_ids():
            for state in ledger.head_states([log_id]):
                entries = _own_chain(device, log_id, state.head.seq)
                sales = sum(_sale_minor(data) for data in entries)
                if (state.count, state.sum_minor) != (len(entries), sales):
                    yield (
                        f"the service's receipt says {state.count} entries and {state.sum_minor} in sales of a log of "
                        f"{device.name} with {len(entries)} and {sales}"
                    )


def _own_chain(device: Device, log_id: bytes, last_seq: int) -> list[bytes]:
    """An honest device's own log, from its own disk. What a backup or a copied card lacked came back from peers, and is
    filed as a branch behind what was there."""
    own = device.storage.own
    stored = next(log for log in own.logs() if log.log_id == log_id)
    branches = sorted(stored.branches, key=lambda branch: branch.from_seq)
    segments = [Segment(branch.number, branch.from_seq, min(branch.head.seq, last_seq)) for branch in branches]
    return [data for segment in segments for data in own.read_entries(log_id, segment)]


def _sale_minor(data: bytes) -> int:
    entry = decode_entry(data)
    if entry.kind != Kind.TAP:
        return 0
    tap = decode_tap(entry.body)
    return tap.amount_minor if tap.operation is Operation.SALE else 0


def _receipts(gateway: Device) -> Iterator[bytes]:
    if Role.GATEWAY not in gateway.certificate.roles:
        return
    own = gateway.storage.own
    for log in own.logs():
        for data in own.read_entries(log.log_id, Segment(0, 0, log.branches[0].head.seq)):
            entry = decode_entry(data)
            if entry.kind == Kind.RECEIPT:
                yield entry.body
