"""How far this node and its peers are: what is held, what is coming and from whom, what each of them lacks. Pure.

What a peer holds is known from what it said: equal digests and equal buckets say that it held at that moment what was
held here; heads that it told and runs that it sent say the rest. It may hold more than it said, so what it lacks is
what it is *not known* to hold. Nothing here decides anything: it is for people who wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from mesh.core.backing import OwnLog
from mesh.core.certificate import DeviceCertificate
from mesh.core.frontier import Frontier, LogState, Position
from mesh.limits import BUCKETS_COUNT, LINK_SILENCE_S_MAX

PLAN_PATIENCE_S: Final = LINK_SILENCE_S_MAX
"""What a peer planned is not counted once nothing came from it for this long: it is wanted elsewhere by then."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Entries, and the logs that they are of."""

    logs: int
    entries: int


@dataclass(frozen=True, slots=True)
class Coming:
    """What peers said they are about to send, less what arrived since."""

    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PeerProgress:
    """One link."""

    link: int
    peer: DeviceCertificate
    zone: str
    met_at: float
    """On the clock of whoever moves the node."""
    in_step: bool
    """Whether the newest digest that the peer told is this node's."""
    they_lack: Amount
    we_lack: Amount
    coming: Coming


@dataclass(frozen=True, slots=True)
class Missing:
    """A log of which more is known to exist than is held."""

    log_id: bytes
    held_seq: int
    """-1 where nothing of it is held; what is held on an island does not count."""
    known_seq: int
    offered_by: tuple[int, ...]
    """Links, in the order in which they are asked."""

    @property
    def entries(self) -> int:
        """At least one: what differs may be a branch that is no longer than what is held."""
        return max(1, self.known_seq - self.held_seq)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Where a node stands at one moment."""

    entries: int
    logs: int
    peers: tuple[PeerProgress, ...]
    missing: tuple[Missing, ...]
    own_logs: tuple[OwnLog, ...]

    @property
    def coming(self) -> Coming:
        """From all peers together."""
        return Coming(sum(peer.coming.entries for peer in self.peers), sum(peer.coming.bytes for peer in self.peers))


@dataclass(frozen=True, slots=True)
class Linked:
    """What the node itself knows of one link."""

    link: int
    peer: DeviceCertificate
    zone: str
    has: Mapping[bytes, Position]
    """The newest position of each log that the peer is known to have."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Somebody on a link said to have a position that is not held."""

    log_id: bytes
    link: int
    target: Position


@dataclass(slots=True)
class _Plan:
    entries: int
    bytes: int


@dataclass(frozen=True, slots=True)
class _Level:
    """What was held in one bucket when its digest was this: how many entries of each log."""

    digest: bytes
    entries: Mapping[bytes, int]


@dataclass(slots=True)
class _Link:
    met_at: float
    digest: bytes = b""
    levels: list[_Level | None] = field(default_factory=lambda: [None] * BUCKETS_COUNT)
    """For each bucket the newest moment at which the peer held what was held here."""
    plans: dict[bytes, _Plan] = field(default_factory=dict)
    heard_at: float = 0.0


class Progress:
    """Listens in on what a node hears; :meth:`status` puts it together."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._links: dict[int, _Link] = {}
        self._levels: list[_Level | None] = [None] * BUCKETS_COUNT
        self._all: tuple[bytes, list[_Level | None]] | None = None
        """The newest of each bucket, when this was the digest of everything."""

    # -- What the node hears -----------------------------------------------------------------------------------------

    def met(self, link: int, now: float) -> None:
        """The peer's hello was accepted."""
        self._links[link] = _Link(now)

    def link_down(self, link: int) -> None:
        self._links.pop(link, None)

    def heard_digest(self, link: int, digest: bytes) -> None:
        """The peer told the digest of everything that it holds."""
        state = self._links[link]
        state.digest = digest
        if digest == self._frontier.main_digest():
            if self._all is None or self._all[0] != digest:
                self._all = digest, list(self._levels_now())
            state.levels = self._all[1].copy()

    def heard_buckets(self, link: int, digests: Sequence[bytes]) -> None:
        """The peer told the digests of its buckets."""
        state = self._links[link]
        for index, (ours, theirs) in enumerate(zip(self._frontier.bucket_digests(), digests, strict=True)):
            if ours == theirs:
                state.levels[index] = self._level_now(index, ours)

    def heard_bucket_logs(self, link: int, differing: AbstractSet[int]) -> None:
        """The peer named buckets that differ from ours: the others are equal, if no further frame names them."""
        state = self._links[link]
        for index, ours in enumerate(self._frontier.bucket_digests()):
            now = self._level_now(index, ours)
            if index not in differing:
                state.levels[index] = now
            elif state.levels[index] is now:
                state.levels[index] = None

    def planned(self, link: int, log_id: bytes, entries: int, size: int, now: float) -> None:
        """The peer says that so many entries and bytes of a log are coming: the answer to a want."""
        state = self._links[link]
        state.plans[log_id] = _Plan(entries, size)
        state.heard_at = now

    def arrived(self, link: int, log_id: bytes, entries: int, size: int, now: float) -> None:
        """A run of a log came on the link."""
        state = self._links[link]
        state.heard_at = now
        plan = state.plans.get(log_id)
        if plan is not None:
            plan.entries -= entries
            plan.bytes = max(0, plan.bytes - size)
            if plan.entries <= 0:
                del state.plans[log_id]

    # -- Where everything stands -------------------------------------------------------------------------------------

    def status(
        self, links: Iterable[Linked], offers: Iterable[Offer], own_logs: Iterable[OwnLog], now: float
    ) -> NodeStatus:
        """Put together what is known. Takes time by how much differs from the peers, not by how much is held."""
        missing = tuple(self._missing(offers))
        peers = tuple(self._peer(linked, missing, now) for linked in links)
        logs = self._frontier.logs
        return NodeStatus(sum(map(_entries_of, logs.values())), len(logs), peers, missing, tuple(own_logs))

    def _missing(self, offers: Iterable[Offer]) -> Iterator[Missing]:
        by_log: dict[bytes, list[Offer]] = {}
        for offer in offers:
            by_log.setdefault(offer.log_id, []).append(offer)
        for log_id, offered in by_log.items():
            links = tuple(dict.fromkeys(offer.link for offer in offered))
            yield Missing(log_id, self._held_seq(log_id), max(offer.target.seq for offer in offered), links)

    def _held_seq(self, log_id: bytes) -> int:
        log = self._frontier.logs.get(log_id)
        return -1 if log is None else max((branch.head.seq for branch in log.attached()), default=-1)

    def _peer(self, linked: Linked, missing: Sequence[Missing], now: float) -> PeerProgress:
        state = self._links[linked.link]
        ahead = [one for one in missing if linked.link in one.offered_by]
        return PeerProgress(
            link=linked.link,
            peer=linked.peer,
            zone=linked.zone,
            met_at=state.met_at,
            in_step=state.digest == self._frontier.main_digest(),
            they_lack=self._they_lack(state, linked.has),
            we_lack=Amount(len(ahead), sum(one.entries for one in ahead)),
            coming=_coming(state, now),
        )

    def _they_lack(self, state: _Link, has: Mapping[bytes, Position]) -> Amount:
        logs = entries = 0
        for index, (digest, level) in enumerate(zip(self._frontier.bucket_digests(), state.levels, strict=True)):
            if level is not None and level.digest == digest:
                continue
            for log_id in self._frontier.bucket_ids(index):
                count = _lacking(self._frontier.logs[log_id], level, has.get(log_id))
                logs, entries = logs + (count > 0), entries + count
        return Amount(logs, entries)

    def _levels_now(self) -> Iterator[_Level]:
        for index, digest in enumerate(self._frontier.bucket_digests()):
            yield self._level_now(index, digest)

    def _level_now(self, index: int, digest: bytes) -> _Level:
        level = self._levels[index]
        if level is None or level.digest != digest:
            logs = self._frontier.logs
            counts = {log_id: _entries_of(logs[log_id]) for log_id in self._frontier.bucket_ids(index)}
            level = self._levels[index] = _Level(digest, counts)
        return level


def _entries_of(log: LogState) -> int:
    return sum(branch.head.seq - branch.from_seq + 1 for branch in log.branches.values())


def _lacking(log: LogState, level: _Level | None, has: Position | None) -> int:
    """How many entries of a log a peer is not known to hold."""
    held_then = 0 if level is None else level.entries.get(log.log_id, 0)
    lacking = _entries_of(log) - held_then
    if has is None:
        return lacking
    if len(log.branches) == 1:
        # One chain: whoever has its head has everything below it.
        return max(0, min(lacking, log.branches[min(log.branches)].head.seq - has.seq))
    return 0 if [has] == log.heads() else lacking


def _coming(state: _Link, now: float) -> Coming:
    if now - state.heard_at > PLAN_PATIENCE_S:
        return Coming(0, 0)
    return Coming(sum(plan.entries for plan in state.plans.values()), sum(plan.bytes for plan in state.plans.values()))
