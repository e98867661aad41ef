"""Attacks on joining by code: on the network, in the middle of it, or with a piece of paper that is not theirs."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from cryptography import x509

from mesh.core.join import JoinRefused, encode_ask
from mesh.core.join_code import JoinCode, issue_welcome
from mesh.core.kinds import Role
from mesh.limits import JOIN_WRONG_CODES_PER_ADDRESS_MAX
from mesh.shell.join_device import WrongOffice
from mesh.shell.join_office import open_office
from mesh.shell.join_stream import ConnectionLost, JoinStream, device_context
from mesh.shell.keys import create_key_file, load_identity, load_private_key, write_certificate
from mesh.shell.network import Endpoint
from tests.joining import LOOPBACK, PATIENCE_S, impostor, make_event, open_for_joining, wire_to


async def _tell(at: Endpoint, secret: bytes, source: str = LOOPBACK) -> str:
    """Connect as a guesser does, and return what the office answers; empty if it hangs up."""
    stream = await trio.open_tcp_stream(at.host, at.port, local_address=source)
    joining = JoinStream(trio.SSLStream(stream, device_context()))
    try:
        await joining.open()
        await joining.send(encode_ask(secret), patience_s=PATIENCE_S)
        return (await joining.receive(bytes_max=4096, patience_s=PATIENCE_S)).decode("utf-8", "replace")
    except ConnectionLost:
        return ""
    finally:
        await joining.aclose()


@pytest.mark.proves("M7")
async def test_who_pretends_to_be_the_office_is_told_nothing(tmp_path: Path) -> None:
    """The impostor copies even the venue id of the office's certificate; it cannot have its key."""
    venue = await make_event(tmp_path / "event")
    create_key_file(tmp_path / "key")
    venue_id = open_office(venue).authority.root.venue_id
    forged = issue_welcome(load_private_key(tmp_path / "key"), venue_id, serial=x509.random_serial_number())
    write_certificate(tmp_path / "forged.pem", forged)
    async with open_for_joining(venue) as office:
        (code,) = office.invite("Bar A")
        async with impostor(tmp_path / "forged.pem", tmp_path / "key") as (at, told):
            with pytest.raises(WrongOffice, match="was told nothing"):
                await office.join(code, tmp_path / "bar-a", at=at)
        assert told == []
        assert not (tmp_path / "bar-a").exists()
        await office.join(code, tmp_path / "bar-a")
        assert set(office.certificates()) == {"manager", "Bar A"}


@pytest.mark.proves("M7")
async def test_office_of_another_venue_is_told_nothing(tmp_path: Path) -> None:
    here, there = await make_event(tmp_path / "here"), await make_event(tmp_path / "there")
    async with open_for_joining(here) as office, open_for_joining(there) as other:
        (code,) = other.invite("Bar A")
        with pytest.raises(WrongOffice):
            await office.join(code, tmp_path / "bar-a")
        assert not [said for said in office.said.events if said["event"] == "wrong_code"]
        joined = await other.join(code, tmp_path / "bar-a")
        with pytest.raises(Exception, match="belongs to another venue"):
            await office.join(office.invite("Bar A")[0], tmp_path / "bar-a")
    assert joined.certificate.name == "Bar A"


@pytest.mark.proves("M7")
async def test_who_listens_learns_no_code_and_can_replay_nothing(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        async with wire_to(office.at) as wire:
            await office.join(code, tmp_path / "bar-a", at=wire.at)
            overheard = bytes(wire.up), bytes(wire.down)
        assert all(code.secret not in heard and str(code).encode() not in heard for heard in overheard)
        before = office.certificates()
        stream = await trio.open_tcp_stream(office.at.host, office.at.port)
        async with stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(overheard[0])
                while await stream.receive_some():
                    pass
        assert (await office.said.until("failed"))["address"] == LOOPBACK
        assert office.certificates() == before


@pytest.mark.proves("M7")
async def test_paper_that_was_used_is_worth_nothing_to_its_finder(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A", roles=frozenset({Role.TILL}))
        joined = await office.join(code, tmp_path / "bar-a")
        with pytest.raises(JoinRefused, match=joined.certificate.fingerprint):
            await office.join(code, tmp_path / "finder")
        assert not (tmp_path / "finder" / "device.pem").exists()
        again = await office.join(code, tmp_path / "bar-a")
        assert again.certificate == joined.certificate


@pytest.mark.proves("M7")
async def test_wrong_secret_is_refused_and_its_sender_shut_out_while_others_join(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        answers: list[str] = []

        async def guess(number: int) -> None:
            answers.append(await _tell(office.at, number.to_bytes(7, "big"), "127.0.0.66"))

        with trio.fail_after(PATIENCE_S):
            while len([a for a in answers if a]) < JOIN_WRONG_CODES_PER_ADDRESS_MAX:
                async with trio.open_nursery() as nursery:
                    for number in range(4):
                        nursery.start_soon(guess, number)
            assert await _tell(office.at, code.secret, "127.0.0.66") == ""
        told = [said for said in office.said.events if said["event"] == "wrong_code"]
        assert {said["address"] for said in told} == {"127.0.0.66"}
        assert "SHUT_OUT" in {said["verdict"] for said in told}
        assert all("Bar A" not in answer for answer in answers)
        joined = await office.join(code, tmp_path / "bar-a")
    assert joined.certificate.name == "Bar A"


async def test_newer_code_makes_the_lost_one_void(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (lost,) = office.invite("Bar A")
        opened = open_office(office.venue)
        place = opened.lines()[0].place
        (again,) = opened.invite([place], until_s=None, now_s=0.0, anew=True)
        with pytest.raises(JoinRefused, match="not on any sheet"):
            await office.join(lost, tmp_path / "finder")
        assert isinstance(again.code, JoinCode)
        await office.join(again.code, tmp_path / "bar-a")
    assert load_identity(tmp_path / "bar-a").certificate.name == "Bar A"


async def test_connections_that_say_nothing_do_not_keep_devices_out(tmp_path: Path) -> None:
    """One address cannot hold more than its few places, however many connections it opens."""
    async with open_for_joining(await make_event(tmp_path / "event")) as office, trio.open_nursery() as nursery:
        (code,) = office.invite("Bar A")
        silent = [
            await trio.open_tcp_stream(office.at.host, office.at.port, local_address="127.0.0.66") for _ in range(100)
        ]
        joined = await office.join(code, tmp_path / "bar-a")
        for stream in silent:
            await stream.aclose()
        nursery.cancel_scope.cancel()
    assert joined.entries > 0


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\x00\x00\x00",
        b"\xff\xff\xff\xff" + bytes(100),
        b"\x00\x00\x00\x05hello",
        b"\x00\x00\x00\x20" + bytes(32),
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
async def test_garbage_inside_tls_is_the_senders_fault_alone(tmp_path: Path, sent: bytes) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        (code,) = office.invite("Bar A")
        stream = await trio.open_tcp_stream(office.at.host, office.at.port)
        secured = trio.SSLStream(stream, device_context())
        with suppress(trio.BrokenResourceError):
            await secured.do_handshake()
            if sent:
                await secured.send_all(sent)
                await stream.send_eof()
                while await secured.receive_some():
                    pass
        await trio.aclose_forcefully(secured)
        assert (await office.said.until("failed"))["address"] == LOOPBACK
        await office.join(code, tmp_path / "bar-a")


async def test_other_protocols_and_old_tls_get_no_further_than_the_handshake(tmp_path: Path) -> None:
    async with open_for_joining(await make_event(tmp_path / "event")) as office:
        old = device_context()
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
        unnamed = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unnamed.check_hostname, unnamed.verify_mode = False, ssl.CERT_NONE
        for context in (old, unnamed):
            stream = await trio.open_tcp_stream(office.at.host, office.at.port)
            joining = JoinStream(trio.SSLStream(stream, context))
            with pytest.raises(ConnectionLost):
                await joining.open()
            await joining.aclose()
