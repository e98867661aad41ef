"""A gateway: a node of the mesh that forwards everything it holds to a settlement service. Wiring only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import trio

from gateway.forward import LocalHead
from gateway.sender import Sender, SenderNotice
from gateway.settlement_api import OfferedRun
from gateway.upstreams.settlement import SettlementClient, UpstreamAddress
from mesh.core.kinds import Kind, Lane
from mesh.errors import StorageError
from mesh.ports import Piece, StoredRuns
from mesh.shell.device import Device
from mesh.shell.pieces import take_piece


class DeviceLogs:
    """The logs of an open device, as the sender wants them."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def heads(self) -> list[LocalHead]:
        logs = self._device.node.frontier.logs.values()
        return [LocalHead(log.log_id, branch.number, branch.head) for log in logs for branch in log.attached()]

    def lane(self, log_id: bytes) -> Lane | None:
        log = self._device.node.frontier.logs.get(log_id)
        return None if log is None else log.genesis.lane

    async def read(self, target: LocalHead, first_seq: int) -> OfferedRun:
        log = self._device.node.frontier.logs[target.log_id]
        path = log.path(log.branches[target.branch], first_seq, target.head.seq)
        log_key = log.genesis.certificate.log_key

        def work(store: StoredRuns) -> Piece | None:
            # What cannot be proven is sent all the same: the service names the log, and the others go on.
            return take_piece(store, target.log_id, path, log_key) or store.read_run(target.log_id, path[0])

        piece = await self._device.read_store(target.log_id, work)
        if piece is None:
            raise StorageError(
                f"log {target.log_id.hex()} lacks seq {first_seq}, which this device holds by its own books. Nothing "
                f"upstream is affected; check this device's disk"
            )
        return OfferedRun(target.log_id, piece.count, piece.blob)

    async def publish(self, receipt: bytes) -> None:
        await self._device.append(Lane.CONTROL, Kind.RECEIPT, receipt)


@asynccontextmanager
async def forwarding(
    device: Device, upstream: UpstreamAddress, notify: Callable[[SenderNotice], None]
) -> AsyncIterator[Sender]:
    """Forward an open device's logs for as long as the block lasts."""
    client = SettlementClient(device.identity, upstream, is_revoked=lambda serial: serial in device.trust.revocations)
    # Jitter between retries is all that this randomness decides.
    sender = Sender(DeviceLogs(device), client, device.root, Random(), notify)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            yield sender
            nursery.cancel_scope.cancel()
    finally:
        await client.close()
