"""The settlement service as an upstream: one kept connection, and who is at its other end.

The service must show a certificate of this venue with the role settlement: whoever else answers is told nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from gateway.http import BadHttp, Request, Response, exchange
from gateway.settlement_api import (
    HeadsAnswer,
    OfferedRun,
    ReceiptsAnswer,
    RunsAnswer,
    decode_answer,
    decode_heads,
    decode_receipts,
    encode_runs,
)
from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.errors import LocalError, PeerError
from mesh.limits import HANDSHAKE_S_MAX, SETTLEMENT_REQUEST_S_MAX, UPSTREAM_BATCH_BYTES_MAX
from mesh.shell.keys import Identity
from mesh.shell.tls import client_context, handshake

_CLOSE_S: Final = 1.0


class BadUpstream(LocalError):
    """What was given as --upstream is not the address of a settlement service."""


class UpstreamUnavailable(PeerError):
    """The service cannot be reached at the moment; everything stays here and is sent later."""


class UpstreamRefused(PeerError):
    """The service answered a request with an error, in a sentence."""


class NotSettlementService(PeerError):
    """Somebody else answers where the settlement service should; it was told nothing."""


@dataclass(frozen=True, slots=True)
class UpstreamAddress:
    """Where a settlement service listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"https://{self.host}:{self.port}"


def parse_upstream(url: str) -> UpstreamAddress:
    """Read ``https://HOST:PORT``, or raise :class:`BadUpstream`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUpstream(f"{url!r} is not an address: {error}. Give it like https://127.0.0.1:7443") from error
    if parts.scheme != "https" or not parts.hostname or port is None or parts.path not in {"", "/"}:
        raise BadUpstream(f"{url!r} is not the address of a settlement service. Give it like https://127.0.0.1:7443")
    return UpstreamAddress(parts.hostname, port)


class SettlementClient:
    """Requests to one service, one at a time. Any error closes the connection; the next request opens another."""

    def __init__(
        self, identity: Identity, address: UpstreamAddress, *, is_revoked: Callable[[int], bool] = lambda serial: False
    ) -> None:
        """`is_revoked` is asked about the serial number of whoever answers, before it is told anything."""
        self.address = address
        self._identity = identity
        self._is_revoked = is_revoked
        self._context = client_context(identity)
        self._stream: trio.SSLStream[trio.SocketStream] | None = None
        self._connection: h11.Connection | None = None
        self.peer: DeviceCertificate | None = None
        """Who answers, once a connection was made."""

    async def heads(self) -> HeadsAnswer:
        """What the service holds, log by log."""
        return decode_heads((await self._request("GET", "/v1/heads")).body)

    async def post_runs(self, runs: Sequence[OfferedRun]) -> RunsAnswer:
        """Offer a batch; returns when the service has committed it."""
        return decode_answer((await self._request("POST", "/v1/runs", encode_runs(runs))).body, len(runs))

    async def receipts(self, since: int) -> ReceiptsAnswer:
        """Receipts of the logs that changed after `since`."""
        return decode_receipts((await self._request("GET", f"/v1/receipts?since={since}")).body)

    async def report(self, path: str) -> dict[str, object]:
        """One of the JSON reports: ``/v1/ledger`` or ``/v1/status``."""
        report = json.loads((await self._request("GET", path)).body)
        if not isinstance(report, dict):
            raise UpstreamRefused(f"{self.address} answered {path} with something that is no report")
        return report

    async def close(self) -> None:
        """Let go of the connection, politely if that is quick."""
        stream, self._stream, self._connection = self._stream, None, None
        if stream is not None:
            with trio.move_on_after(_CLOSE_S, shield=True), suppress(trio.BrokenResourceError):
                await stream.aclose()

    async def _request(self, method: str, target: str, body: bytes = b"") -> Response:
        try:
            with trio.fail_after(SETTLEMENT_REQUEST_S_MAX):
                stream, connection = await self._connected()
                response = await exchange(
                    stream,
                    connection,
                    Request(method, target, {}, body),
                    host=f"{self.address.host}:{self.address.port}",
                    body_bytes_max=UPSTREAM_BATCH_BYTES_MAX,
                )
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, BadHttp) as error:
            await self.close()
            raise UpstreamUnavailable(
                f"the settlement service at {self.address} cannot be reached or broke off ({_reason(error)}). Every "
                f"sale stays here and on the readers; sending starts again by itself"
            ) from error
        except BaseException:
            # Cancelled or refused half way: what is on this connection can not be understood any more.
            await self.close()
            raise
        if connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
        else:
            await self.close()
        return self._successful(response)

    def _successful(self, response: Response) -> Response:
        if response.status == HTTPStatus.OK:
            return response
        try:
            answer = json.loads(response.body)
            sentence = str(answer["error"]) if isinstance(answer, dict) and "error" in answer else ""
        except ValueError:
            sentence = ""
        raise UpstreamRefused(f"{self.address} refused with status {response.status}: {sentence or 'no reason given'}")

    async def _connected(self) -> tuple[trio.SSLStream[trio.SocketStream], h11.Connection]:
        if self._stream is None or self._connection is None:
            with trio.fail_after(HANDSHAKE_S_MAX):
                socket = await trio.open_tcp_stream(self.address.host, self.address.port)
                stream = trio.SSLStream(socket, self._context, https_compatible=True)
                self._stream, self._connection = stream, h11.Connection(h11.CLIENT)
                peer = await handshake(stream, self._identity.root)
            if Role.SETTLEMENT not in peer.roles:
                raise NotSettlementService(
                    f"{peer.name!r} answers at {self.address}, but its certificate does not say settlement: it was "
                    f"sent nothing. Give the address of this venue's settlement service with --upstream"
                )
            self.peer = peer
        if self.peer is not None and self._is_revoked(self.peer.serial):
            raise NotSettlementService(
                f"the settlement service at {self.address}, {self.peer.name!r}, was revoked by the venue's authority: "
                f"it is sent nothing more. Every sale stays here; give another one with --upstream"
            )
        return self._stream, self._connection


def _reason(error: BaseException) -> str:
    match error:
        case trio.TooSlowError():
            return "no answer in time"
        case OSError(strerror=str(text)):
            return text
        case _:
            return str(error) or str(error.__cause__ or "the connection was closed")
