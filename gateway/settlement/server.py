"""The settlement service on the network: mutual TLS 1.3, one task per connection, a bound on everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import trio

from gateway.http import Request, Response, serve_connection
from gateway.settlement.service import SettlementService, refusal, revoked_text
from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.errors import LocalError, PeerError
from mesh.limits import HANDSHAKE_S_MAX, SETTLEMENT_CONNECTIONS_MAX, UPSTREAM_BATCH_BYTES_MAX
from mesh.shell.keys import Identity
from mesh.shell.tls import handshake, server_context

_CLOSE_S: Final = 2.0


class WrongRole(LocalError):
    """This device's certificate does not allow what it was asked to run."""


class AddressTaken(LocalError):
    """The service cannot listen where it should."""


def require_settlement(identity: Identity) -> None:
    """Only a device enrolled as settlement may sign receipts; any other is refused before anything is opened."""
    certificate = identity.certificate
    if Role.SETTLEMENT not in certificate.roles:
        roles = ", ".join(sorted(role.value for role in certificate.roles)) or "none"
        raise WrongRole(
            f"{certificate.name!r} is not enrolled as settlement (its roles: {roles}), so nobody would believe its "
            f"receipts. Nothing was started: enrol a device with --role settlement and give its directory"
        )


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Open the service's address, or raise :class:`AddressTaken`. Port 0 lets the system choose."""
    try:
        return await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise AddressTaken(
            f"cannot listen on {host}:{port} ({error.strerror or error}). Nothing was started; every sale stays on the "
            f"devices until a service runs. Stop what uses the port, or choose another with --listen"
        ) from error


async def serve(
    service: SettlementService,
    identity: Identity,
    listeners: list[trio.SocketListener],
    *,
    report: Callable[[str], None],
) -> None:
    """Serve until cancelled. `report` is told, in a sentence, about connections that were refused."""
    context = server_context(identity)
    places = trio.CapacityLimiter(SETTLEMENT_CONNECTIONS_MAX)
    connected: defaultdict[int, set[trio.CancelScope]] = defaultdict(set)

    def let_go(serials: frozenset[int]) -> None:
        for scope in [scope for serial in serials for scope in connected[serial]]:
            scope.cancel()

    async def answer(stream: trio.SSLStream[trio.SocketStream], peer: DeviceCertificate) -> None:
        with trio.CancelScope() as scope:
            connected[peer.serial].add(scope)
            try:
                if peer.serial in service.revoked:
                    report(revoked_text(peer))
                    scope.deadline = trio.current_time() + _CLOSE_S  # long enough to be told why
                await _answer(service, stream, peer)
            finally:
                connected[peer.serial].discard(scope)

    async def connection(socket: trio.SocketStream) -> None:
        async with places:
            stream = trio.SSLStream(socket, context, server_side=True, https_compatible=True)
            try:
                with trio.fail_after(HANDSHAKE_S_MAX):
                    peer = await handshake(stream, identity.root)
                await answer(stream, peer)
            except PeerError as error:
                report(f"a connection was refused: {error}")
            except trio.TooSlowError:
                report("a connection was refused: no TLS handshake in time")
            finally:
                with trio.move_on_after(_CLOSE_S), suppress(trio.BrokenResourceError):
                    await stream.aclose()

    service.let_go = let_go
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.verify_signatures)
        await trio.serve_listeners(connection, listeners, handler_nursery=nursery)


async def _answer(
    service: SettlementService, stream: trio.SSLStream[trio.SocketStream], peer: DeviceCertificate
) -> None:
    async def handle(request: Request) -> Response:
        try:
            return await service.handle(request, peer)
        except PeerError as error:
            return refusal(HTTPStatus.BAD_REQUEST, str(error))

    await serve_connection(stream, handle, refusal, body_bytes_max=UPSTREAM_BATCH_BYTES_MAX)
