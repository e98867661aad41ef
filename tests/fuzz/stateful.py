"""Fuzzing what has a memory: a link's session in any chunks, and a node that two peers talk to in any order.

The bytes are a script. A session must say the same whatever the chunks were; a node must raise nothing, keep what it
holds of a liar bounded, hold no entry that nobody signed, and accuse no log that did not fork.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from mesh.core.chain import check_run, encode_run
from mesh.core.codec import encode
from mesh.core.entry import entry_id
from mesh.core.events import (
    Accepted,
    Attached,
    Close,
    Compared,
    Contested,
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Located,
    OwnAppended,
    ReadBack,
    Received,
    Relabel,
    Serve,
    Tick,
)
from mesh.core.frontier import Island, LogSummary, Position
from mesh.core.messages import (
    Announce,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Message,
    Missing,
    Plan,
    RunMessage,
    Want,
    encode_message,
)
from mesh.core.node import Node
from mesh.core.session import Session, State
from mesh.errors import PeerError
from mesh.limits import BRANCHES_PER_LOG_MAX, FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from tests.factory import LogWriter
from tests.fuzz.targets import WORLD, Target
from tests.harness import MemoryStore
from tests.vectors.make import BAR_A, BAR_B, COURIER, STRANGER, VENUE, messages

_HELLO: Final = encode_message(Hello(VENUE.root.venue_id, "north", bytes(32)))


# -- A session in any chunks -------------------------------------------------------------------------------------------


@dataclass
class _Heard:
    messages: list[Message] = field(default_factory=list)
    error: type[PeerError] | None = None
    left: int = 0


def _listen(stream: bytes, sizes: bytes) -> _Heard:
    """Feed a session chunk by chunk, `sizes` over and over; stop at an error or a bye, as a link does."""
    session, heard, at, turn = Session(VENUE.root.venue_id), _Heard(), 0, 0
    while at < len(stream) and session.state is not State.CLOSED:
        size = sizes[turn % len(sizes)] + 1
        wanted = session.wanted_bytes
        expecting_hello = session.state is State.EXPECT_HELLO
        chunk = stream[at : at + size]
        at, turn = at + size, turn + 1
        try:
            news = session.receive(chunk)
        except PeerError as error:
            heard.error = type(error)
            break
        assert not (news and len(chunk) < wanted), "a frame was complete before the bytes that it was said to want"
        bound = HELLO_FRAME_BYTES_MAX if expecting_hello and not news else FRAME_BYTES_MAX
        assert session.buffered_bytes < 4 + bound + size
        heard.messages += news
        heard.left = session.buffered_bytes
    return heard


def reread_session(data: bytes) -> bytes:
    """First byte: how many chunk sizes follow; then the stream."""
    count = data[0] % 16 if data else 0
    sizes, stream = data[1 : 1 + count] or b"\xff", data[1 + count :]
    heard, byte_by_byte = _listen(stream, sizes), _listen(stream, b"\x00")
    assert heard.error is byte_by_byte.error or Bye in map(type, byte_by_byte.messages)
    said = b"".join(map(encode_message, byte_by_byte.messages))
    assert stream.startswith(said)
    if heard.error is None:
        assert heard.messages == byte_by_byte.messages
        assert Bye in map(type, heard.messages) or len(said) + heard.left == len(stream)
    else:
        assert byte_by_byte.messages[: len(heard.messages)] == heard.messages
    return data


# -- A node that two peers talk to -------------------------------------------------------------------------------------

_STRANGERS_LOG: Final = LogWriter(STRANGER)
_LOGS: Final = (WORLD.bar_a, WORLD.fork, WORLD.bar_b, WORLD.till, WORLD.earlier, _STRANGERS_LOG)
_SIGNED: Final = frozenset(entry for log in _LOGS[:-1] for entry in log.entries)
_FORKED: Final = WORLD.bar_a.log_id
_OWN: Final = LogWriter(COURIER)
_OWN.append(40_001, b"own")
_PEERS: Final = (BAR_A.certificate, BAR_B.certificate)
_LINKS_MAX: Final = 40
"""Links that one script opens."""


class _Script:
    """Reads numbers off the input; past its end everything is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, size: int) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


class _Theatre:
    """A node, its store, and what it asked for."""

    def __init__(self) -> None:
        self.node = Node(COURIER.certificate, VENUE.root, "north")
        self.store = MemoryStore()
        self.questions: deque[ReadBack] = deque()
        self.wanted: deque[Serve] = deque()
        self.links: dict[int, int] = {}
        self.opened = 0
        self.now = 0.0
        self.own_entries = 0

    def post(self, event: Event) -> None:
        for effect in self.node.handle(event, self.now):
            self._carry_out(effect)
        offers = sum(len(wanted.offers) for wanted in self.node._wants._logs.values())
        known = len(self.node._wants._logs)
        assert offers <= known * BRANCHES_PER_LOG_MAX * max(1, len(self.links))

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Accepted(run=run):
                assert set(run.entries) <= _SIGNED or run.log_id == _OWN.log_id, "an entry that nobody signed"
                self.store.add(effect)
            case Relabel(log_id, branch, into):
                self.store.relabel(log_id, branch, into)
            case Attached():
                pass
            case ReadBack():
                self.questions.append(effect)
            case Serve():
                self.wanted.append(effect)
            case Close(link):
                self.links.pop(link, None)
            case Contested(log_id, seq):
                assert (log_id, seq) == (_FORKED, 3), "a log that did not fork is accused"
            case _:
                pass

    def answer(self) -> None:
        if self.questions:
            question = self.questions.popleft()
            pieces = [self.store.read(question.log_id, piece) for piece in question.pieces]
            self.post(Compared(question.token, pieces))

    def locate(self, which: int) -> None:
        if self.wanted:
            effect = self.wanted.popleft()
            after = effect.locator[which % len(effect.locator)] if effect.locator else None
            self.post(Located(effect.link, effect.log_id, effect.locator, after))

    def open(self, peer: int) -> None:
        if self.opened < _LINKS_MAX:
            self.opened += 1
            self.links[self.opened] = peer
            self.post(LinkUp(self.opened, _PEERS[peer]))
            self.post(Received(self.opened, _HELLO))

    def append(self) -> None:
        if self.own_entries < len(_OWN.entries):
            entry = _OWN.entries[self.own_entries]
            self.own_entries += 1
            run = check_run(_OWN.log_id, [entry])
            self.post(OwnAppended(run))


def _position(script: _Script, log: LogWriter) -> Position:
    seq = script.byte() % (len(log.ids) + 2)
    if seq < len(log.ids):
        return Position(seq, log.ids[seq])
    return Position(script.byte(), bytes([script.byte()]) * 32)


def _log(script: _Script) -> LogWriter:
    return _LOGS[script.byte() % len(_LOGS)]


def _run(script: _Script) -> Message:
    log = _log(script)
    first = script.byte() % len(log.entries)
    entries = log.entries[first : first + 1 + script.byte() % 4]
    damage = script.byte()
    if damage & 0x80:
        at = script.byte() * 5 % len(entries[-1])
        entries = [*entries[:-1], entries[-1][:at] + bytes([entries[-1][at] ^ 1 << damage % 8]) + entries[-1][at + 1 :]]
    return RunMessage(log.log_id, len(entries) + (damage & 0x7F == 1), encode_run(entries))


def _message(script: _Script) -> Message:
    match script.byte() % 9:
        case 0 | 1 | 2:
            return _run(script)
        case 3:
            log = _log(script)
            return Want(
                log.log_id, _position(script, log), tuple(_position(script, log) for _ in range(script.byte() % 4))
            )
        case 4:
            log = _log(script)
            return Announce(((log.log_id, _position(script, log)),))
        case 5:
            log = _log(script)
            heads = tuple(_position(script, log) for _ in range(script.byte() % 3))
            islands = tuple(Island(0, _position(script, log)) for _ in range(script.byte() % 3))
            return FrontierPart((LogSummary(log.log_id, heads, islands),))
        case 6:
            return Digest(bytes([script.byte()]) * 32)
        case 7:
            return Buckets((bytes([script.byte()]) * 16,) * 64)
        case _:
            log = _log(script)
            return Missing(log.log_id, _position(script, log)) if script.byte() % 2 else Plan(log.log_id, 3, 9)


def reread_node(data: bytes) -> bytes:
    """One byte says what happens next, those after it the details."""
    script, stage = _Script(data), _Theatre()
    stage.open(0)
    while not script.over:
        match script.byte() % 10:
            case 0 | 1 | 2 | 3:
                link = script.byte() % (stage.opened + 1)
                stage.post(Received(link, encode_message(_message(script))))
            case 4:
                stage.now += script.byte() / 32
                stage.post(Tick())
            case 5:
                stage.answer()
            case 6:
                stage.locate(script.byte())
            case 7:
                stage.open(script.byte() % len(_PEERS))
            case 8:
                link = script.byte() % (stage.opened + 1)
                if stage.links.pop(link, None) is not None:
                    stage.post(LinkDown(link))
            case _:
                if script.byte() % 2:
                    stage.append()
                else:
                    body = encode([script.byte() % 11, script.take(script.byte() % 40)])
                    stage.post(Received(script.byte() % 3, len(body).to_bytes(4, "big") + body))
    while stage.questions:
        stage.answer()
    ids = {entry_id(entry) for entry in stage.store.everything()}
    assert len(ids) == len(stage.store.everything())
    return data


def _scripts() -> tuple[bytes, ...]:
    give = bytes([0, 1])
    whole = [give + bytes([0, log, 0, 3, 0]) for log in range(len(_LOGS))]
    island = give + bytes([0, 0, 2, 3, 0]) + b"\x05"
    return (
        b"".join(whole),
        whole[0] + island + give + bytes([0, 1, 0, 3, 0]) + b"\x05\x05",
        give + bytes([3, 0, 0, 0]) + b"\x06\x00\x04\x20",
        give + bytes([5, 0, 1, 2, 0]) + b"\x04\xff\x07\x01\x08\x01",
    )


_FRAMES: Final = [encode_message(message) for _, message in messages(WORLD) if not isinstance(message, Hello)]

STATEFUL: Final = {
    "session": Target(
        reread_session,
        (
            b"\x00" + _HELLO * 2,
            *(b"\x03\x00\x05\x40" + _HELLO + frame for frame in _FRAMES),
        ),
        bytes_max=1024,
        steps_base=8_000,
        steps_per_byte=200,
        memory_per_byte=512,
        share=2,
    ),
    "node": Target(
        reread_node,
        _scripts(),
        bytes_max=256,
        steps_base=60_000,
        steps_per_byte=6_000,
        memory_base=2 * 1024 * 1024,
        memory_per_byte=64 * 1024,
        share=1,
    ),
}
"""Bytes as a script of what happens one after the other."""
