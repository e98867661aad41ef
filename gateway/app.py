"""A gateway: a node of the mesh that forwards everything it holds to a settlement service. Wiring only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import trio

from gateway.forward import LocalHead
from gateway.sender import Sender, SenderNotice
from gateway.settlement_api import OfferedRun
from gateway.upstreams.settlement import SettlementClient, UpstreamAddress
from mesh.core.certificate import DeviceCertificate
from mesh.core.frontier import Segment
from mesh.core.kinds import Kind, Lane, Role
from mesh.errors import LocalError, StorageError
from mesh.shell.device import Device, open_device
from mesh.shell.keys import load_identity
from mesh.shell.network import Network, Settings
from mesh.shell.store import Piece, RunStore


class NotAGateway(LocalError):
    """This device's certificate does not allow it to forward."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """How one gateway runs."""

    directory: Path
    upstream: UpstreamAddress
    settings: Settings
    zone: str


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """What a command line or a test talks to."""

    device: Device
    sender: Sender
    client: SettlementClient
    network: Network


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
        segment = Segment(path[0].branch, first_seq, path[0].last_seq)

        def work(store: RunStore) -> Piece | None:
            return store.read_piece(target.log_id, segment)

        piece = await self._device.read_store(target.log_id, work)
        if piece is None:
            raise StorageError(
                f"log {target.log_id.hex()} lacks seq {first_seq}, which this device holds by its own books. Nothing "
                f"upstream is affected; check this device's disk"
            )
        return OfferedRun(target.log_id, piece.count, piece.blob)

    async def publish(self, receipt: bytes) -> None:
        await self._device.append(Lane.CONTROL, Kind.RECEIPT, receipt)


def require_gateway(certificate: DeviceCertificate) -> None:
    """Only a device that the service will listen to is started; the reason is clearer here than from a refusal."""
    if Role.GATEWAY not in certificate.roles:
        roles = ", ".join(sorted(role.value for role in certificate.roles)) or "none"
        raise NotAGateway(
            f"{certificate.name!r} is not enrolled as a gateway (its roles: {roles}), so the settlement service would "
            f"refuse what it forwards. Nothing was started: enrol a device with --role gateway and give its directory"
        )


async def run_gateway(
    options: GatewayOptions,
    *,
    notify: Callable[[SenderNotice], None],
    report: Callable[[str], None],
    task_status: trio.TaskStatus[RunningGateway] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Open the device, join the mesh, forward; until cancelled. `report` gets sentences about links."""
    require_gateway(load_identity(options.directory).certificate)
    async with open_device(options.directory, zone=options.zone) as device:
        client = SettlementClient(device.identity, options.upstream)
        # Jitter between retries is all that this randomness decides.
        sender = Sender(DeviceLogs(device), client, device.root, Random(), notify)
        try:
            async with trio.open_nursery() as nursery:
                network = Network(device, options.settings, report)
                await nursery.start(network.run)
                nursery.start_soon(sender.run)
                task_status.started(RunningGateway(device, sender, client, network))
        finally:
            await client.close()
