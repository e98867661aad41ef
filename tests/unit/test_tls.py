"""Links: real TLS 1.3 handshakes over loopback, and each stranger who is kept out."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from mesh.core.certificate import DeviceCertificate
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.shell.authority import create_authority, open_authority
from mesh.shell.files import KeyFileExposed
from mesh.shell.keys import Identity
from mesh.shell.tls import HandshakeRefused, client_context, handshake, server_context, with_full_reads
from tests.venue import enrol

Outcome = DeviceCertificate | PeerError


@pytest.fixture
def bar_a(tmp_path: Path) -> Identity:
    return enrol(create_authority(tmp_path / "authority", "Riverside"), tmp_path / "a", "Bar A", Role.READER)


@pytest.fixture
def bar_b(tmp_path: Path, bar_a: Identity) -> Identity:
    return enrol(open_authority(tmp_path / "authority"), tmp_path / "b", "Bar B", Role.READER, Role.TILL)


@pytest.fixture
def stranger(tmp_path: Path) -> Identity:
    return enrol(create_authority(tmp_path / "other", "Riverside"), tmp_path / "s", "Bar B", Role.READER)


async def _answer(stream: trio.SocketStream, identity: Identity, outcomes: trio.MemorySendChannel[Outcome]) -> None:
    """Who connects is recorded, and greeted only when let in."""
    tls = trio.SSLStream(stream, server_context(identity), server_side=True)
    try:
        peer = await handshake(tls, identity.root)
    except PeerError as error:
        await outcomes.send(error)
        await trio.aclose_forcefully(tls)
        return
    await outcomes.send(peer)
    await tls.send_all(b"hello")
    with contextlib.suppress(trio.BrokenResourceError):
        await tls.receive_some(1)
    await trio.aclose_forcefully(tls)


@asynccontextmanager
async def _listening(identity: Identity) -> AsyncIterator[tuple[int, trio.MemoryReceiveChannel[Outcome]]]:
    send, receive = trio.open_memory_channel[Outcome](10)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def handler(stream: trio.SocketStream) -> None:
        await _answer(stream, identity, send)

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handler, [listener])
            yield listener.socket.getsockname()[1], receive
            nursery.cancel_scope.cancel()


async def _greeting(port: int, context: ssl.SSLContext) -> bytes:
    """Connect, and return what the server said: nothing if it refused."""
    tls = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), context)
    try:
        return bytes(await tls.receive_some(100))
    except trio.BrokenResourceError:
        return b""
    finally:
        await trio.aclose_forcefully(tls)


async def test_two_devices_of_a_venue_know_each_other_after_the_handshake(bar_a: Identity, bar_b: Identity) -> None:
    async with _listening(bar_a) as (port, outcomes):
        tls = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), client_context(bar_b))
        seen_by_b = await handshake(tls, bar_b.root)
        assert await tls.receive_some(5) == b"hello"
        assert seen_by_b == bar_a.certificate
        assert await outcomes.receive() == bar_b.certificate
        await trio.aclose_forcefully(tls)


@pytest.mark.proves("M7")
async def test_device_of_a_foreign_venue_is_not_let_in(bar_a: Identity, stranger: Identity) -> None:
    reckless = client_context(stranger)
    reckless.load_verify_locations(cadata=bar_a.root.der)
    async with _listening(bar_a) as (port, outcomes):
        assert await _greeting(port, reckless) == b""
        assert isinstance(await outcomes.receive(), HandshakeRefused)


@pytest.mark.proves("M7")
async def test_device_refuses_a_server_of_a_foreign_venue(bar_a: Identity, stranger: Identity) -> None:
    async with _listening(stranger) as (port, outcomes):
        tls = trio.SSLStream(await trio.open_tcp_stream("127.0.0.1", port), client_context(bar_a))
        with pytest.raises(HandshakeRefused, match="not of this venue"):
            await handshake(tls, bar_a.root)
        await trio.aclose_forcefully(tls)
        assert isinstance(await outcomes.receive(), HandshakeRefused)


def _without_certificate(bar: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=bar.root.der)
    context.verify_flags |= ssl.VerifyFlags(0x200000)
    return context


def _old_protocol(bar: Identity) -> ssl.SSLContext:
    context = client_context(bar)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.proves("M7")
@pytest.mark.parametrize("make_context", [_without_certificate, _old_protocol])
async def test_client_without_certificate_or_with_an_old_protocol_is_not_let_in(
    bar_a: Identity, make_context: Callable[[Identity], ssl.SSLContext]
) -> None:
    async with _listening(bar_a) as (port, outcomes):
        assert await _greeting(port, make_context(bar_a)) == b""
        assert isinstance(await outcomes.receive(), HandshakeRefused)


@pytest.mark.proves("M7")
async def test_client_that_speaks_no_tls_is_not_let_in(bar_a: Identity) -> None:
    async with _listening(bar_a) as (port, outcomes):
        plain = await trio.open_tcp_stream("127.0.0.1", port)
        await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
        assert isinstance(await outcomes.receive(), HandshakeRefused)
        await plain.aclose()


@pytest.mark.proves("M7")
async def test_revoked_device_cannot_come_back_by_resuming_its_session(bar_a: Identity, bar_b: Identity) -> None:
    """trio hides sessions, so the client here is the standard library's, which would resume if it were let."""
    async with _listening(bar_a) as (port, _outcomes):
        context = client_context(bar_b)

        def connect(session: ssl.SSLSession | None) -> tuple[bool, bool]:

            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, session=session) as tls,
            ):
                assert tls.recv(5) == b"hello"
                sessions.append(tls.session)
                return bool(tls.session_reused), bool(tls.session and tls.session.has_ticket)

        sessions: list[ssl.SSLSession | None] = []
        first = await trio.to_thread.run_sync(connect, None)
        second = await trio.to_thread.run_sync(connect, sessions[0])
        assert (first, second) == ((False, False), (False, False))


def test_link_key_that_others_can_read_opens_no_link(bar_a: Identity) -> None:
    (bar_a.directory / "link.key").chmod(0o644)
    with pytest.raises(KeyFileExposed):
        server_context(bar_a)


def _joined(server: Identity, client: Identity) -> tuple[ssl.SSLObject, ssl.SSLObject, ssl.MemoryBIO]:
    """Two ends in memory after their handshake; bytes put into the third reach the client."""
    to_client, to_server, out = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server_context(server).wrap_bio(to_server, out, server_side=True)
    other = with_full_reads(client_context(client)).wrap_bio(to_client, to_server)
    for _ in range(3):
        for end in (other, one):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
            to_client.write(out.read())
    one.write(b"first")
    one.write(b"second")
    to_client.write(out.read())
    return one, other, to_client


def test_one_read_takes_every_record_that_has_arrived(bar_a: Identity, bar_b: Identity) -> None:
    _, client, _ = _joined(bar_a, bar_b)
    assert client.read(7) == b"firstse"
    assert client.read(100) == b"cond"
    with pytest.raises(ssl.SSLWantReadError):
        client.read(100)


@pytest.mark.parametrize("end", ["closed", "broken off", "forged"])
def test_what_came_before_the_end_of_a_link_is_read_and_then_the_end(
    bar_a: Identity, bar_b: Identity, end: str
) -> None:
    server, client, wire = _joined(bar_a, bar_b)
    if end == "closed":
        with contextlib.suppress(ssl.SSLWantReadError):
            server.unwrap()
        wire.write_eof()
    elif end == "broken off":
        wire.write_eof()
    else:
        wire.write(b"\x17\x03\x03\x00\x20" + bytes(32))
    assert client.read(100) == b"firstsecond"
    if end == "forged":
        with pytest.raises(ssl.SSLError):
            client.read(100)
    else:
        # Versions of Python differ in whether an end that was met before raises again or reads as nothing.
        with contextlib.suppress(ssl.SSLError):
            assert client.read(100) == b""
