"""One link: what may be said when, and what a peer can make us hold."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.messages import (
    BadMessage,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Message,
    WrongVersion,
    decode_message,
    encode_message,
)
from mesh.core.session import TRANSITIONS, FrameTooLarge, OutOfTurn, Session, State, WrongVenue
from mesh.errors import PeerError
from mesh.limits import FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX
from tests.vectors.make import World, messages

VENUE_ID = bytes(range(32))
HELLO = encode_message(Hello(VENUE_ID, "north", bytes(32)))
SAMPLES: dict[type[Message], Message] = {type(message): message for _, message in messages(World())}
SAMPLES[Hello] = Hello(VENUE_ID, "", bytes(32))


def live() -> Session:
    session = Session(VENUE_ID)
    session.receive(HELLO)
    return session


def closed() -> Session:
    session = live()
    session.receive(encode_message(Bye("")))
    return session


STATES: dict[State, Callable[[], Session]] = {
    State.EXPECT_HELLO: lambda: Session(VENUE_ID),
    State.LIVE: live,
    State.CLOSED: closed,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_message_is_taken_exactly_where_the_table_allows_it(state: State, kind: type[Message]) -> None:
    session = STATES[state]()
    following = TRANSITIONS.get((state, kind))
    frame = encode_message(SAMPLES[kind])
    if following is None:
        with pytest.raises(PeerError):
            session.receive(frame)
        assert session.state is state
    else:
        assert session.receive(frame) == [SAMPLES[kind]]
        assert session.state is following


@pytest.mark.proves("M7")
def test_stranger_and_last_years_reader_are_turned_away_by_their_hello() -> None:
    with pytest.raises(WrongVenue):
        Session(VENUE_ID).receive(encode_message(Hello(bytes(32), "", bytes(32))))


def test_peer_of_another_version_is_told_so() -> None:
    with pytest.raises(WrongVersion, match="version 3"):
        Session(VENUE_ID).receive(encode_message(Hello(VENUE_ID, "", bytes(32), version=3)))


def test_second_hello_is_out_of_turn() -> None:
    with pytest.raises(OutOfTurn):
        live().receive(HELLO)


def test_nothing_is_taken_after_a_bye() -> None:
    with pytest.raises(OutOfTurn):
        closed().receive(b"")


def test_our_own_hello_is_the_first_thing_to_say() -> None:
    frame = Session(VENUE_ID).hello("south", bytes(32))
    assert decode_message(frame[4:]) == Hello(VENUE_ID, "south", bytes(32))


def test_before_its_hello_a_peer_can_make_us_hold_a_kilobyte_and_afterwards_a_megabyte() -> None:
    session = Session(VENUE_ID)
    with pytest.raises(FrameTooLarge):
        session.receive((HELLO_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    session = live()
    session.receive(FRAME_BYTES_MAX.to_bytes(4, "big") + bytes(100))
    assert session.buffered_bytes == 104
    with pytest.raises(FrameTooLarge):
        live().receive((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))


def test_frame_of_nothing_is_refused() -> None:
    with pytest.raises(PeerError):
        live().receive(bytes(4))


def test_noise_on_the_line_is_refused() -> None:
    for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" * 5, b"\x00\x00\x00\x01\xff"):
        with pytest.raises(PeerError):
            Session(VENUE_ID).receive(noise)


def test_run_with_the_shape_of_a_want_is_no_message() -> None:
    with pytest.raises(BadMessage):
        live().receive(b"\x00\x00\x00\x02\x81\x05")


SAID: list[Message] = [Digest(bytes([number]) * 32) for number in range(4)] + [SAMPLES[Buckets], SAMPLES[FrontierPart]]
STREAM = HELLO + b"".join(map(encode_message, SAID))


@given(st.sets(st.integers(1, len(STREAM) - 1)))
def test_messages_are_the_same_however_the_bytes_are_cut(cuts: set[int]) -> None:
    session, heard = Session(VENUE_ID), list[Message]()
    for start, end in pairwise([0, *sorted(cuts), len(STREAM)]):
        heard += session.receive(STREAM[start:end])
    assert heard[1:] == SAID
    assert session.buffered_bytes == 0
