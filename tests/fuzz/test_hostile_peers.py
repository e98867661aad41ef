"""Enrolled peers that say anything at any time: the node never fails, and honest peers still get what is there.

Messages are well-formed (ill-formed ones end in the session) and as mean as can be: heads, pieces and locators of logs
that exist, do not exist, or exist in two versions, on several links at once, with the store answering late.
"""

from __future__ import annotations

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from mesh.core.frontier import Island, LogSummary, Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import (
    Announce,
    BucketLogs,
    Buckets,
    Digest,
    FrontierPart,
    Kept,
    Message,
    Missing,
    Plan,
    Quiet,
    RunMessage,
    Tell,
    Want,
)
from mesh.limits import WANT_RETRY_S
from tests.factory import LogWriter, Venue
from tests.harness import Puppet, World, runs_of

VENUE: Final = Venue("Hostile")
SELF, FRIEND = VENUE.device("this one", Role.READER), VENUE.device("friend", Role.COURIER)
ROGUES: Final = [VENUE.device(f"rogue {number}", Role.READER) for number in range(2)]


def versions() -> list[LogWriter]:
    """Two logs of each rogue, one of them forked twice."""
    found = []
    for rogue in ROGUES:
        log = LogWriter(rogue)
        for number in range(6):
            log.append(99, bytes([number]))
        one, other = log.fork(3), log.fork(5)
        for branch in (one, other):
            for _ in range(3):
                branch.append(99, b"other")
        control = LogWriter(rogue, Lane.CONTROL)
        control.append(Kind.FORK_PROOF, b"nonsense")
        found += [log, one, other, control]
    return found


LOGS: Final = versions()
PLACES: Final = [(log.log_id, Position(seq, entry)) for log in LOGS for seq, entry in enumerate(log.ids)]
STRANGE: Final = [(bytes(16), Position(0, bytes(32))), (LOGS[0].log_id, Position(2**32 - 1, bytes(32)))]
EVERY_PLACE: Final = [*PLACES, *STRANGE, (LOGS[0].log_id, Position(2, LOGS[1].ids[3]))]
PLACE = st.integers(0, len(EVERY_PLACE) - 1).map(EVERY_PLACE.__getitem__)
SHORT = st.binary(min_size=16, max_size=16)
POSITION = PLACE.map(lambda place: place[1])


def island(start: int, tip: Position) -> Island:
    return Island(min(start, tip.seq), tip)


SUMMARY = st.builds(
    LogSummary,
    PLACE.map(lambda place: place[0]),
    st.lists(POSITION, max_size=4).map(tuple),
    st.lists(st.builds(island, st.integers(0, 9), POSITION), max_size=4).map(tuple),
)
MESSAGE: st.SearchStrategy[Message] = st.one_of(
    st.builds(lambda place, locator: Want(place[0], place[1], tuple(locator)), PLACE, st.lists(POSITION, max_size=5)),
    st.builds(lambda place: Quiet(place[0]), PLACE),
    st.builds(
        lambda buckets, digests: BucketLogs(buckets, tuple(digests)),
        st.frozensets(st.integers(0, 63), max_size=64),
        st.lists(SHORT, max_size=6),
    ),
    st.builds(lambda digests: Tell(tuple(digests)), st.lists(SHORT, max_size=6)),
    st.builds(lambda heads: Announce(tuple(heads)), st.lists(PLACE, max_size=6)),
    st.builds(FrontierPart, st.lists(SUMMARY, max_size=4).map(tuple)),
    st.builds(lambda place: Missing(place[0], place[1]), PLACE),
    st.builds(lambda place: Plan(place[0], 2**40, 2**60), PLACE),
    st.builds(lambda place, seq: Kept(((place[0], seq),)), PLACE, st.integers(0, 2**32 - 1)),
    st.just(Buckets((bytes(16),) * 64)),
    st.builds(Digest, st.binary(min_size=32, max_size=32), SHORT),
    st.builds(lambda place, blob: RunMessage(place[0], 2, blob), PLACE, st.binary(max_size=20)),
)


@st.composite
def pieces(draw: st.DrawFn) -> Message:
    log = draw(st.sampled_from(LOGS))
    first = draw(st.integers(0, log.head_seq))
    run = runs_of(log, first, draw(st.integers(first, log.head_seq)))[0]
    return RunMessage(run.log_id, len(run.entries), b"".join(blob for _, _, blob in _blobs(log, first, run.last_seq)))


def _blobs(log: LogWriter, first: int, last: int) -> list[tuple[bytes, int, bytes]]:
    part = log.fork(last + 1)
    return part.runs(first)


STEPS = st.lists(st.tuples(st.integers(0, 6), st.one_of(pieces(), pieces(), MESSAGE)), min_size=5, max_size=40)


@given(STEPS)
def test_node_survives_whatever_enrolled_peers_say_and_still_serves_its_friends(
    steps: list[tuple[int, Message]],
) -> None:
    world = World()
    mote = world.join(SELF)
    log = mote.open_log()
    peers = [Puppet(mote, device) for device in (*ROGUES, *ROGUES)]
    for choice, message in steps:
        if choice < len(peers):
            if not peers[choice].connected:
                peers[choice] = Puppet(mote, ROGUES[choice % 2])
            peers[choice].say(message)
        elif choice == 4 and mote.questions:
            mote.answer()
        elif choice == 5:
            world.tick(WANT_RETRY_S / 2)
        else:
            mote.append(log, 99, b"sold")
        for peer in peers:
            peer.heard()
    while mote.questions:
        mote.answer()
    assert set(mote.contested) <= {version.log_id for version in LOGS if version.head_seq > 2}
    for state in mote.node.frontier.logs.values():
        held = [b for b in state.branches.values() if b.attached]
        segments = [segment for branch in held for segment in state.path(branch, 0, branch.head.seq)]
        assert mote.store.read(state.log_id, segments)
    friend = world.join(FRIEND)
    for peer in peers:
        peer.leave()
    world.connect(mote, friend)
    world.heal()
    assert set(log.entries) <= friend.store.everything()
    attached = {b.head.id for s in mote.node.frontier.logs.values() for b in s.branches.values() if b.attached}
    theirs = {b.head.id for s in friend.node.frontier.logs.values() for b in s.branches.values() if b.attached}
    assert attached <= theirs
