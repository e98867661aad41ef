"""Attacks on a running node: each costs the attacker its link, with a reason, and nobody else anything."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mesh.core.chain import encode_run
from mesh.core.codec import encode
from mesh.core.entry import decode_entry
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Role
from mesh.core.messages import Announce, Buckets, Digest, Hello, Message, Plan, RunMessage, Want, encode_message
from mesh.limits import (
    ANNOUNCE_LOGS_PER_FRAME_MAX,
    BRANCHES_PER_LOG_MAX,
    FRAME_BYTES_MAX,
    HELLO_FRAME_BYTES_MAX,
    LOGS_MAX,
    RUN_ENTRIES_MAX,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
)
from mesh.shell.device import Planned
from mesh.shell.keys import load_identity
from mesh.shell.tls import client_context
from tests.factory import LogWriter, Venue, VenueDevice
from tests.hostile.scene import Raw, Scene, hello, runs, scene

pytestmark = pytest.mark.proves("M7")


# -- Before anybody is authenticated -----------------------------------------------------------------------------------


async def test_garbage_instead_of_tls_is_refused(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        stream = await at.tcp()
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: bar\r\n\r\n" + bytes(1000))
        await at.until_told("TLS was refused")
        await at.expect_unharmed()


async def test_handshakes_that_stop_half_way_hold_nobody_up(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        waiting = [await at.tcp() for _ in range(20)]
        for stream in waiting:
            await stream.send_all(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a TLS ClientHello
        gone = await at.tcp()
        await gone.send_all(b"\x16\x03\x01\x02\x00\x01")
        await gone.aclose()
        await at.until_told("the connection broke during the handshake")
        await at.expect_unharmed()


async def test_client_without_a_certificate_is_not_let_in(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = await at.tls(context)
        await stream.do_handshake()
        await at.until_told("refused")
        assert "no link: TLS was refused (PEER_DID_NOT_RETURN_A_CERTIFICATE)" in at.remarks[-1]
        await at.expect_unharmed()


async def test_device_of_another_venue_is_not_let_in(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        stranger = Venue("Last year").device("victim", Role.READER, Role.MANAGER)
        context = client_context(load_identity(stranger.write_directory(tmp_path / "stranger")))
        context.verify_mode = ssl.CERT_NONE  # it does not mind whom it talks to
        raw = Raw(await at.tls(context), stranger)
        await raw.say(hello(at.venue))
        await at.until_told("certificate is not of this venue")
        await at.expect_unharmed()


# -- With the certificate of an enrolled device: frames ----------------------------------------------------------------


def _frame(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


_TYPE_OF_DIGEST = 8
_BEFORE_HELLO = {
    "garbage": (b"\xff" * 64, "a frame of 4294967295 bytes where at most 1024"),
    "frame over the bound of a hello": (_frame(bytes(HELLO_FRAME_BYTES_MAX + 1)), "at most 1024"),
    "message before the hello": (
        encode_message(Digest(bytes(32))),
        "Digest is not allowed while the link is EXPECT_HELLO",
    ),
    "hello of another venue": (hello(Venue("Last year")), "belongs to another venue"),
    "hello of a later version": (hello(Venue(), version=3), "speaks version 3 of the protocol, we speak 2"),
    "hello from another zone": (hello(Venue(), zone="south"), "only from couriers and gateways"),
}
_AFTER_HELLO = {
    "frame over its bound": ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "at most 1048576"),
    "empty frame": (_frame(b""), "not CBOR that is allowed here"),
    "frame that is no CBOR": (_frame(b"\xff\xff"), "not CBOR that is allowed here"),
    "number that is not in its shortest form": (
        _frame(b"\x83\x18\x08\x58\x20" + bytes(32) + b"\x50" + bytes(16)),
        "not the deterministic CBOR",
    ),
    "bytes behind the message": (
        _frame(encode([_TYPE_OF_DIGEST, bytes(32), bytes(16)]) + b"\x00"),
        "not the deterministic CBOR",
    ),
    "message that is a map": (_frame(b"\xa1\x61a\x02"), "a dict is not allowed here"),
    "message nested too deep": (_frame(b"\x81" * 9 + b"\x00"), "nested deeper than 8"),
    "message of an unknown type": (_frame(encode([99])), "a message of type 99 does not have this shape"),
    "digest that is too short": (_frame(encode([_TYPE_OF_DIGEST, bytes(31), bytes(16)])), "32 bytes are required here"),
    "second hello": (hello(Venue()), "Hello is not allowed while the link is LIVE"),
}


@pytest.mark.parametrize("attack", _BEFORE_HELLO)
async def test_wrong_first_frame_ends_the_link(attack: str, tmp_path: Path) -> None:
    data, reason = _BEFORE_HELLO[attack]
    async with scene(tmp_path) as at:
        raw = await at.link(at.attacker())
        await raw.say(data)
        await at.until_told(reason)
        assert at.network.refused == 1
        await at.expect_unharmed()


@pytest.mark.parametrize("attack", _AFTER_HELLO)
async def test_wrong_frame_ends_the_link(attack: str, tmp_path: Path) -> None:
    data, reason = _AFTER_HELLO[attack]
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker())
        await raw.say(data)
        await at.until_told(reason)
        assert at.network.refused == 1
        await at.expect_unharmed()


async def test_frame_cut_off_by_the_end_of_the_link_changes_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        (message,) = runs(_log(mallory, 10))
        await raw.say(encode_message(message)[:-1])
        await raw.hang_up()
        await at.until_told("mallory: the peer went away")
        assert at.network.refused == 0
        await at.expect_unharmed()


async def test_frames_that_come_byte_by_byte_are_understood(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        log = _log(mallory, 2)
        (message,) = runs(log)
        for byte in encode_message(message):
            await raw.say(bytes([byte]))
        while log.log_id not in at.victim.node.frontier.logs:
            await trio.lowlevel.checkpoint()
        await at.expect_unharmed()


# -- With the certificate of an enrolled device: logs ------------------------------------------------------------------


def _log(device: VenueDevice, entries: int, number: int = 0) -> LogWriter:
    log = LogWriter(device, number=number)
    for index in range(entries):
        log.append(Kind.ABORT, b"entry %d" % index)
    return log


def _run(log: LogWriter, entries: list[bytes]) -> Message:
    return RunMessage(log.log_id, len(entries), encode_run(entries))


def _without_genesis(log: LogWriter) -> Message:
    return _run(log, log.entries[1:])


def _with_a_gap(log: LogWriter) -> Message:
    return _run(log, [*log.entries[:2], *log.entries[3:]])


def _with_a_broken_link(log: LogWriter) -> Message:
    other = log.fork(2)
    other.append(Kind.ABORT, b"another")
    return _run(log, [*log.entries[:2], other.entries[2], *log.entries[3:]])


def _with_a_bad_last_signature(log: LogWriter) -> Message:
    last = log.entries[-1]
    return _run(log, [*log.entries[:-1], last[:-1] + bytes([last[-1] ^ 1])])


def _with_a_bad_genesis_signature(log: LogWriter) -> Message:
    forged = log.fork(0)
    forged.log_id = b""
    forged.append_forged(Kind.GENESIS, decode_entry(log.entries[0]).body)
    forged.log_id = forged.ids[0][:16]
    forged.append(Kind.ABORT, b"a good signature above the bad one")
    return _run(forged, forged.entries)


def _under_another_name(log: LogWriter) -> Message:
    return RunMessage(secrets.token_bytes(16), len(log.entries), encode_run(log.entries))


def _empty(log: LogWriter) -> Message:
    return RunMessage(log.log_id, 0, b"")


def _counted_wrong(log: LogWriter) -> Message:
    return RunMessage(log.log_id, len(log.entries) - 1, encode_run(log.entries))


def _longer_than_a_run(log: LogWriter) -> Message:
    while len(log.entries) <= RUN_ENTRIES_MAX:
        log.append(Kind.ABORT, b"x")
    return _run(log, log.entries)


def _not_canonical(log: LogWriter) -> Message:
    return _run(log, [*log.entries[:-1], log.entries[-1][:-64] + b"\x00" + log.entries[-1][-64:]])


_BAD_RUNS: dict[str, tuple[Callable[[LogWriter], Message], str]] = {
    "run of an unknown log without its genesis": (
        _without_genesis,
        "a piece of a log whose beginning is not held here",
    ),
    "run under another log's name": (_under_another_name, "a piece of a log whose beginning is not held here"),
    "run with a gap": (_with_a_gap, "where 2 comes next"),
    "run with a broken link": (_with_a_broken_link, "does not follow the one before it"),
    "run with a bad last signature": (_with_a_bad_last_signature, "signature does not verify"),
    "run with a bad genesis signature": (_with_a_bad_genesis_signature, "signature does not verify"),
    "empty run": (_empty, f"a run has 1 to {RUN_ENTRIES_MAX} entries, not 0"),
    "run that is counted wrong": (_counted_wrong, "a run is a sequence of canonical byte strings"),
    "run over its bound": (_longer_than_a_run, f"a run has 1 to {RUN_ENTRIES_MAX} entries, not {RUN_ENTRIES_MAX + 1}"),
    "entry that is not canonical": (_not_canonical, "deterministic CBOR"),
}


@pytest.mark.parametrize("attack", _BAD_RUNS)
async def test_bad_run_of_ones_own_log_ends_the_link_and_leaves_nothing(attack: str, tmp_path: Path) -> None:
    make, reason = _BAD_RUNS[attack]
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        logs_before = set(at.victim.node.frontier.logs)
        await raw.say_messages([make(_log(mallory, 5))])
        await at.until_told(reason)
        assert at.network.refused == 1
        assert set(at.victim.node.frontier.logs) == logs_before
        await at.expect_unharmed()


async def test_run_of_somebody_else_that_nobody_asked_for_ends_the_link(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        honest = _log(at.venue.device("honest", Role.READER), 3)
        raw = await at.greeted(at.attacker())
        await raw.say_messages(runs(honest))
        await at.until_told("a run that was neither asked for nor is its author's own")
        assert honest.log_id not in at.victim.node.frontier.logs
        await at.expect_unharmed()


async def test_sale_altered_by_a_relay_ends_the_relays_link_and_is_taken_from_another(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        honest = _log(at.venue.device("honest", Role.READER), 3)
        target = Position(honest.head_seq, honest.head_id)
        raw = await at.greeted(at.attacker(Role.COURIER))
        await raw.say_messages([Announce(((honest.log_id, target),))])
        await raw.hear_want(honest.log_id)
        altered = bytearray(honest.entries[-1])
        altered[-70] ^= 1
        await raw.say_messages([_run(honest, [*honest.entries[:-1], bytes(altered)])])
        await at.until_told("signature does not verify")

        good = await at.greeted(at.venue.device("good courier", Role.COURIER))
        await good.say_messages([Announce(((honest.log_id, target),))])
        await good.hear_want(honest.log_id)
        await good.say_messages(runs(honest))
        await _until_held(at, honest.log_id, target)
        await at.expect_unharmed()


async def test_log_written_with_a_certificate_of_another_venue_ends_the_link(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        stranger = _log(Venue("Last year").device("mallory", Role.READER), 3)
        raw = await at.greeted(at.attacker())
        await raw.say_messages(runs(stranger))
        await at.until_told("mallory: ")
        assert at.network.refused == 1
        await at.expect_unharmed()


async def test_announcer_that_never_serves_does_not_keep_the_log_from_others(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        honest = _log(at.venue.device("honest", Role.READER), 3)
        target = Position(honest.head_seq, honest.head_id)
        liar = await at.greeted(at.attacker(Role.COURIER))
        await liar.say_messages([Announce(((honest.log_id, target),))])
        await liar.hear_want(honest.log_id)
        good = await at.greeted(at.venue.device("good courier", Role.COURIER))
        await good.say_messages([Announce(((honest.log_id, target),))])
        await good.hear_want(honest.log_id)
        await good.say_messages(runs(honest))
        await _until_held(at, honest.log_id, target)
        await at.expect_unharmed()


async def test_storm_of_wants_ends_the_link(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker())
        (log,) = at.victim.node.frontier.logs.values()
        want = encode_message(Want(log.log_id, log.heads()[0], ()))
        await raw.say(want * (2 * WANTS_IN_FLIGHT_PER_LINK_MAX))
        await at.until_told("wants open at once")
        await at.expect_unharmed()


async def test_device_that_forks_its_own_log_keeps_its_link_and_is_proven(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        mallory = at.attacker()
        raw = await at.greeted(mallory)
        one = _log(mallory, 3)
        other = one.fork(3)
        other.append(Kind.ABORT, b"another story")
        await raw.say_messages(runs(one))
        await raw.say_messages(runs(other, first_seq=3))
        while at.victim.node.contested_from.get(one.log_id) != 3:
            await trio.lowlevel.checkpoint()
        while at.neighbour.node.contested_from.get(one.log_id) != 3:
            await trio.lowlevel.checkpoint()
        assert mallory.certificate.serial in {peer.serial for peer in at.victim.node.links.values()}
        assert at.network.refused == 0


async def test_attacks_one_after_the_other_leave_a_node_that_serves(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        for data, _ in _AFTER_HELLO.values():
            raw = await at.link(at.attacker())
            await raw.say(hello(at.venue) + data)
            await raw.hear(Hello)
            await _until_gone(at, raw.device)
        await at.expect_unharmed()


async def _until_held(at: Scene, log_id: bytes, target: Position) -> None:
    while log_id not in at.victim.node.frontier.logs or at.victim.node.frontier.logs[log_id].heads() != [target]:
        await trio.lowlevel.checkpoint()


async def _until_gone(at: Scene, device: VenueDevice) -> None:
    while any(link.peer.serial == device.certificate.serial for link in at.network.links.values()):
        await trio.lowlevel.checkpoint()


async def test_flood_of_made_up_logs_ends_the_link_before_it_fills_the_memory(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker(Role.COURIER))
        made_up = 0
        while not at.network.refused:
            names = [secrets.token_bytes(48) for _ in range(ANNOUNCE_LOGS_PER_FRAME_MAX)]
            await raw.say_messages([Announce(tuple((name[:16], Position(7, name[16:])) for name in names))])
            made_up += len(names)
            await trio.lowlevel.checkpoint()
            assert made_up < 4 * LOGS_MAX
        await at.until_told("speaks of more than")
        assert at.victim.node.pending_logs == 0
        await at.expect_unharmed()


async def test_flood_of_made_up_heads_of_one_log_is_kept_short(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        raw = await at.greeted(at.attacker(Role.COURIER))
        log_id = secrets.token_bytes(16)
        for _ in range(8):
            heads = [(log_id, Position(7, secrets.token_bytes(32))) for _ in range(ANNOUNCE_LOGS_PER_FRAME_MAX)]
            await raw.say_messages([Announce(tuple(heads))])
        await raw.say_messages([Digest(bytes(32))])
        await raw.hear(Buckets)
        offers = [len(wanted.offers) for wanted in at.victim.node._wants._logs.values()]
        assert sum(offers) <= BRANCHES_PER_LOG_MAX
        await at.expect_unharmed()


async def test_plans_that_answer_no_want_are_not_shown_to_anybody(tmp_path: Path) -> None:
    async with scene(tmp_path) as at:
        notices = at.victim.subscribe()
        raw = await at.greeted(at.attacker())
        await raw.say_messages([Plan(secrets.token_bytes(16), 10**9, 10**12)] * 1000)
        await raw.say_messages([Digest(bytes(32))])
        await raw.hear(Buckets)
        waiting = notices.statistics().current_buffer_used
        seen = [notices.receive_nowait() for _ in range(waiting)]
        assert waiting < 10
        assert not [notice for notice in seen if isinstance(notice, Planned)]
        await at.expect_unharmed()
