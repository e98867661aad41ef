"""HTTP/1.1 over a trio stream, both ends: h11 does the protocol, this file carries the bytes and keeps the bounds.

A body is refused by its announced length before any of it is read; without one, by what arrives. Deadlines are the
caller's on the client side and per request on the server side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import h11
import trio

from mesh.core.codec import TooLarge
from mesh.errors import PeerError
from mesh.limits import HTTP_HEAD_BYTES_MAX, SETTLEMENT_IDLE_S_MAX, SETTLEMENT_REQUEST_S_MAX

CBOR: Final = "application/cbor"
JSON: Final = "application/json"
_RECEIVE_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
"""How long a refused body is read and thrown away, so that the client gets to read why it was refused."""


class BadHttp(PeerError):
    """The other end does not speak HTTP/1.1 as it should, or stopped in the middle."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request with its whole body."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """One response with its whole body."""

    status: int
    content_type: str
    body: bytes


Handler = Callable[[Request], Awaitable[Response]]


async def serve_connection(
    stream: trio.abc.Stream, handle: Handler, refuse: Callable[[int, str], Response], *, body_bytes_max: int
) -> None:
    """Answer requests on one connection until it ends, is idle for too long, or breaks a rule.

    `refuse` makes the response to what never became a request. Never raises for what the peer does.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HTTP_HEAD_BYTES_MAX)
    try:
        while await _serve_one(stream, connection, handle, refuse, body_bytes_max):
            connection.start_next_cycle()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def _serve_one(
    stream: trio.abc.Stream,
    connection: h11.Connection,
    handle: Handler,
    refuse: Callable[[int, str], Response],
    body_bytes_max: int,
) -> bool:
    """One request and its response; True if another may follow."""
    try:
        with trio.fail_after(SETTLEMENT_IDLE_S_MAX):
            head = await _next_event(stream, connection)
        if not isinstance(head, h11.Request):
            return False
        with trio.fail_after(SETTLEMENT_REQUEST_S_MAX):
            body = await _read_body(stream, connection, head, body_bytes_max)
        response = await handle(_request(head, body))
    except TooLarge as error:
        await _send_response(stream, connection, refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)))
        await _linger(stream)
        return False
    except (h11.RemoteProtocolError, BadHttp) as error:
        if connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            status = HTTPStatus.BAD_REQUEST if isinstance(error, BadHttp) else error.error_status_hint
            await _send_response(stream, connection, refuse(status, f"this cannot be read as a request: {error}"))
        return False
    except trio.TooSlowError:
        return False
    await _send_response(stream, connection, response)
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def _request(head: h11.Request, body: bytes) -> Request:
    url = urlsplit(head.target.decode("ascii"))
    return Request(head.method.decode("ascii"), url.path, dict(parse_qsl(url.query, max_num_fields=8)), body)


async def exchange(
    stream: trio.abc.Stream, connection: h11.Connection, request: Request, *, host: str, body_bytes_max: int
) -> Response:
    """Client side: send one request and read its response whole, or raise a `PeerError` or a trio stream error."""
    headers = [("host", host), ("content-length", str(len(request.body)))]
    if request.body:
        headers.append(("content-type", CBOR))
    data = connection.send(h11.Request(method=request.method, target=request.path, headers=headers)) or b""
    data += connection.send(h11.Data(data=request.body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    outcome: Response | BadHttp | TooLarge | trio.BrokenResourceError | None = None
    sent = trio.Event()
    async with trio.open_nursery() as nursery:
        # A server that refuses a body answers before it has read it all: send and read at the same time.
        nursery.start_soon(_send_all_of, stream, data, sent)
        try:
            outcome = await _read_response(stream, connection, body_bytes_max)
        except (BadHttp, TooLarge, trio.BrokenResourceError) as error:
            outcome = error
        nursery.cancel_scope.cancel()
    if not sent.is_set():
        connection.send_failed()
    if not isinstance(outcome, Response):
        assert outcome is not None, "cancellation does not come this far"
        raise outcome
    return outcome


async def _send_all_of(stream: trio.abc.Stream, data: bytes, sent: trio.Event) -> None:
    try:
        await stream.send_all(data)
        sent.set()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return  # What the other end had to say about it is for the reader to find.


async def _read_response(stream: trio.abc.Stream, connection: h11.Connection, body_bytes_max: int) -> Response:
    try:
        head = await _next_event(stream, connection)
        while isinstance(head, h11.InformationalResponse):
            head = await _next_event(stream, connection)
        if not isinstance(head, h11.Response):
            raise BadHttp("the service closed the connection without an answer")
        body = await _read_body(stream, connection, head, body_bytes_max)
    except h11.RemoteProtocolError as error:
        raise BadHttp(f"the service's answer is not HTTP: {error}") from error
    content_type = next((value for name, value in head.headers if name == b"content-type"), b"")
    return Response(head.status_code, content_type.decode("latin-1"), body)


async def _next_event(stream: trio.abc.Stream, connection: h11.Connection) -> object:
    """The next event of h11, or its PAUSED sentinel."""
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event
        if connection.they_are_waiting_for_100_continue:
            going_on = h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[])
            await stream.send_all(connection.send(going_on) or b"")
        connection.receive_data(bytes(await stream.receive_some(_RECEIVE_BYTES)))


async def _read_body(
    stream: trio.abc.Stream, connection: h11.Connection, head: h11.Request | h11.Response, body_bytes_max: int
) -> bytes:
    for name, value in head.headers:
        if name == b"content-length" and int(value) > body_bytes_max:
            raise TooLarge(f"a body of {int(value)} bytes where at most {body_bytes_max} are allowed")
    body = bytearray()
    while True:
        match await _next_event(stream, connection):
            case h11.Data(data=data):
                body += data
                if len(body) > body_bytes_max:
                    raise TooLarge(f"a body of more than the {body_bytes_max} bytes that are allowed")
            case h11.EndOfMessage():
                return bytes(body)
            case _:
                raise BadHttp("the body was broken off")


async def _send_response(stream: trio.abc.Stream, connection: h11.Connection, response: Response) -> None:
    headers = [("content-type", response.content_type), ("content-length", str(len(response.body)))]
    reason = HTTPStatus(response.status).phrase.encode("ascii")
    data = connection.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
    data += connection.send(h11.Data(data=response.body)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    with trio.move_on_after(SETTLEMENT_REQUEST_S_MAX) as patience:
        await stream.send_all(data)
    if patience.cancelled_caught:
        # Half a response was sent: nothing on this connection can be understood any more.
        raise trio.BrokenResourceError("the client did not take its answer in time")


async def _linger(stream: trio.abc.Stream) -> None:
    with trio.move_on_after(_LINGER_S):
        while await stream.receive_some(_RECEIVE_BYTES):
            pass
