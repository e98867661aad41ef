"""A node: everything it holds, everyone it talks to. Events in, effects out; no I/O, no clock, no randomness.

What happens to an entry from elsewhere, and what can go wrong at each step:

1. It arrives in a run, against a want or pushed by its author. Otherwise: the peer's fault, the link closes.
2. The run passes the rules of :mod:`mesh.core.chain`. Otherwise: the peer's fault, the link closes, nothing is kept.
3. It is placed (:mod:`mesh.core.intake`): it extends a branch, is a duplicate, is a fork, or is an island.
4. `Accepted` tells the shell to store and fold it; other links hear of the new head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mesh.core.catching_up import CatchingUp, Step
from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Genesis, Run, check_run, parse_genesis, split_run, verify_tip
from mesh.core.entry import LOG_ID_BYTES, entry_id, verify_signature
from mesh.core.events import (
    Close,
    Compared,
    Effect,
    Event,
    InStep,
    LinkDown,
    LinkUp,
    Located,
    Met,
    Moved,
    Note,
    OwnAppended,
    PeerPlan,
    Received,
    Revoked,
    Send,
    Serve,
    SignatureFailed,
    Tick,
)
from mesh.core.frontier import (
    Branch,
    Frontier,
    LogState,
    LogSummary,
    Position,
    Segment,
    TooManyLogs,
)
from mesh.core.gossip import Wants
from mesh.core.intake import Intake
from mesh.core.kinds import Role
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
from mesh.core.printable import printable
from mesh.core.revocation import Revocations, parse_statement
from mesh.core.session import Session
from mesh.core.zone import accepts_zone
from mesh.errors import PeerError
from mesh.limits import (
    ANNOUNCE_LOGS_PER_FRAME_MAX,
    KEEPALIVE_S,
    LINK_SILENCE_S_MAX,
    LOGS_MAX,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
)

ANNOUNCE_PAUSE_S: Final = 0.01
"""News is collected this long, so that many entries of one log cost one announcement."""
FRONTIER_LOGS_PER_FRAME: Final = 1024


class UnwantedRun(PeerError):
    """A run that was neither asked for nor is its author's own."""


class UnknownLogPiece(PeerError):
    """A piece of a log whose genesis is not held: without it nobody can say whose it is."""


class WrongZone(PeerError):
    """A link between zones that neither end may bridge."""


class TooMuchTalk(PeerError):
    """A peer speaks of more logs than a venue can have."""


class WantStorm(PeerError):
    """More wants than an honest peer keeps open."""


@dataclass(slots=True)
class _Link:
    peer: DeviceCertificate
    session: Session
    heard: float
    said: float
    zone: str = ""
    live: bool = False
    asked: set[bytes] = field(default_factory=set)
    """Logs that were wanted on this link at some time: late answers are no offence."""
    unplanned: set[bytes] = field(default_factory=set)
    """Logs wanted on this link whose plan has not come yet: one plan a want is told to people."""
    has: dict[bytes, Position] = field(default_factory=dict)
    """The newest position of each log that the peer is known to have."""
    news: dict[bytes, Position] = field(default_factory=dict)
    serving: int = 0


def _revoked(peer: DeviceCertificate) -> str:
    return f"{peer.name} was revoked by the venue's authority"


class Node:
    """The production core of every device; what it runs on (sockets, a simulator) is not its business."""

    def __init__(self, identity: DeviceCertificate, root: VenueRoot, zone: str) -> None:
        self.frontier = Frontier()
        self._intake = Intake(self.frontier, root)
        self._identity = identity
        self._root = root
        self.zone = zone
        self.zone_bound = False
        """Whether a role that bridges zones is not used: a courier on foot is in one zone at a time."""
        self._links: dict[int, _Link] = {}
        self._catching_up = CatchingUp()
        self._wants = Wants(self.frontier.holds)
        self._news_since: float | None = None

    # -- Interface -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Advance by one event. `now` is seconds on a monotonic clock of the caller's."""
        effects: list[Effect] = []
        match event:
            case Received(link, data):
                self._on_link(link, effects, lambda: self._receive(link, data, now, effects))
            case OwnAppended(run):
                self._own_appended(run, effects)
            case LinkUp(link, peer):
                self._link_up(link, peer, now, effects)
            case LinkDown(link):
                self._forget(link)
            case Located():
                self._located(event)
            case Compared(token, entries):
                self._intake.compared(token, entries, effects)
            case SignatureFailed(log_id, seq):
                self._intake.contest(log_id, seq, effects)
            case Moved(zone):
                self.zone = zone
                for link in list(self._links):
                    self._drop(link, "this device was carried to another zone", effects, blame_peer=False)
            case Tick():
                self._tick(now, effects)
        if any(isinstance(effect, Revoked) for effect in effects):
            self._drop_revoked(effects)
        self._ask(now, effects)
        self._collect_news(now)
        self._tell_news(now, effects)
        # A quarter of a second apart even while a liar's offers keep something wanted for ever.
        if isinstance(event, Tick) or not self._wants.pending_logs():
            self._catch_up(now, effects)
        return effects

    def deadline(self) -> float | None:
        """When to send a :class:`Tick` at the latest, besides a regular one every quarter of a second."""
        return None if self._news_since is None else self._news_since + ANNOUNCE_PAUSE_S

    def wanted_bytes(self, link: int) -> int:
        """How many bytes of a link it takes until something can happen: fewer need not be brought as an event."""
        known = self._links.get(link)
        return 1 if known is None else known.session.wanted_bytes

    def restore(self, log_id: bytes, genesis: Genesis, branches: list[Branch], *, own: bool) -> None:
        """Put back a log read from the store at start; it was checked when it was accepted."""
        self.frontier.open_log(log_id, genesis)
        for branch in branches:
            self.frontier.restore_branch(log_id, branch)
        if own:
            self._intake.own.add(log_id)

    def restore_control(self, run: Run) -> list[Effect]:
        """Look through a restored run of a control log for fork proofs and revocations."""
        effects: list[Effect] = []
        self._intake.read_control(run, effects)
        return effects

    def restore_statement(self, body: bytes) -> list[Effect]:
        """Put back a revocation that was kept apart from its entry, or raise a `PeerError` if it is none."""
        effects: list[Effect] = []
        self._intake.revoke(parse_statement(body, self._root), effects)
        return effects

    @property
    def revocations(self) -> Revocations:
        """Who is out, by the authority's statements that were heard here."""
        return self._intake.revocations

    @property
    def contested_from(self) -> dict[bytes, int]:
        """From which seq on a log counts for nothing."""
        return self._intake.contested_from

    @property
    def links(self) -> dict[int, DeviceCertificate]:
        """The peers whose hello has been accepted, by link."""
        return {number: link.peer for number, link in self._links.items() if link.live}

    def zone_of(self, link: int) -> str:
        """Where the peer of a link says it is; nothing before its hello."""
        known = self._links.get(link)
        return "" if known is None else known.zone

    @property
    def pending_logs(self) -> int:
        """Logs of which something is known to exist and is not held yet."""
        return self._wants.pending_logs()

    # -- Messages --------------------------------------------------------------------------------------------------

    def _on_link(self, number: int, effects: list[Effect], work: Callable[[], None]) -> None:
        if number not in self._links:
            return
        try:
            work()
        except PeerError as error:
            self._drop(number, str(error), effects)

    def _drop(self, number: int, reason: str, effects: list[Effect], *, blame_peer: bool = True) -> None:
        self._forget(number)
        effects.append(Send(number, encode_message(Bye(reason))))
        effects.append(Close(number, reason, blame_peer))

    def _link_up(self, number: int, peer: DeviceCertificate, now: float, effects: list[Effect]) -> None:
        session, digest = Session(self._root.venue_id), self.frontier.digest()
        self._links[number] = _Link(peer, session, now, now)
        self._catching_up.link_up(number, digest)
        if peer.serial in self.revocations:
            self._drop(number, _revoked(peer), effects)
        else:
            effects.append(Send(number, session.hello(self.zone, digest)))

    def _drop_revoked(self, effects: list[Effect]) -> None:
        """The revoked set grew: no link to anybody in it is left open, and nothing more is served on it."""
        gone = {number for number, link in self._links.items() if link.peer.serial in self.revocations}
        effects[:] = [effect for effect in effects if not isinstance(effect, Serve) or effect.link not in gone]
        for number in sorted(gone):
            self._drop(number, _revoked(self._links[number].peer), effects)

    def _forget(self, number: int) -> None:
        self._links.pop(number, None)
        self._catching_up.link_down(number)
        self._wants.link_down(number)

    def _receive(self, number: int, data: bytes, now: float, effects: list[Effect]) -> None:
        link = self._links[number]
        link.heard = now
        for message in link.session.receive(data):
            self._on_message(number, link, message, now, effects)
            if number not in self._links:
                return

    def _on_message(self, number: int, link: _Link, message: Message, now: float, effects: list[Effect]) -> None:
        match message:
            case RunMessage():
                self._on_run(number, link, message, now, effects)
            case Hello(_, zone, digest):
                roles = self._identity.roles - {Role.COURIER} if self.zone_bound else self._identity.roles
                if not accepts_zone(self.zone, roles, zone, link.peer.roles):
                    raise WrongZone(f"a {self.zone!r} node takes zone {zone!r} only from couriers and gateways")
                link.live, link.zone = True, zone
                effects.append(Met(number, link.peer))
                self._catching_up.met(number)
                self._on_digest(number, digest, now, effects)
            case Digest(digest):
                self._on_digest(number, digest, now, effects)
            case Buckets(digests):
                self._send_frontier(number, digests, effects)
            case FrontierPart(logs):
                for summary in logs:
                    self._on_summary(number, link, summary)
            case Announce(heads):
                for log_id, head in heads:
                    self._heard_of(link, log_id, max(head, link.has.get(log_id, head)))
                    self._wants.offer(number, log_id, head)
            case Want():
                self._on_want(number, link, message, effects)
            case Missing(log_id, target):
                self._wants.failed(number, log_id, target)
            case Plan(log_id, entries, size):
                if log_id in link.unplanned:
                    link.unplanned.discard(log_id)
                    effects.append(PeerPlan(number, log_id, entries, size))
            case Bye(reason):
                self._forget(number)
                effects.append(Close(number, f"the peer said: {printable(reason)}", blame_peer=False))

    def _on_digest(self, number: int, digest: bytes, now: float, effects: list[Effect]) -> None:
        if self._catching_up.heard(number, digest, self.frontier.digest(), now):
            self._compare(number, effects)

    def _compare(self, number: int, effects: list[Effect]) -> None:
        effects.append(Send(number, encode_message(Buckets(tuple(self.frontier.bucket_digests())))))

    def _tell_digest(self, number: int, now: float, effects: list[Effect]) -> None:
        digest = self.frontier.digest()
        self._links[number].said = now
        self._catching_up.told(number, digest, now)
        effects.append(Send(number, encode_message(Digest(digest))))

    def _catch_up(self, now: float, effects: list[Effect]) -> None:
        if self._catching_up.any:
            for number, step in self._catching_up.steps(self.frontier.digest(), now):
                match step:
                    case Step.TELL:
                        self._tell_digest(number, now, effects)
                    case Step.COMPARE:
                        self._compare(number, effects)
                    case Step.IN_STEP:
                        effects.append(InStep(number))

    def _send_frontier(self, number: int, theirs: tuple[bytes, ...], effects: list[Effect]) -> None:
        ours = self.frontier.bucket_digests()
        logs = [
            log
            for index, (mine, other) in enumerate(zip(ours, theirs, strict=True))
            if mine != other
            for log in self.frontier.bucket(index)
        ]
        parts = [logs[at : at + FRONTIER_LOGS_PER_FRAME] for at in range(0, len(logs), FRONTIER_LOGS_PER_FRAME)] or [[]]
        for index, part in enumerate(parts):
            message = FrontierPart(tuple(part), last=index == len(parts) - 1)
            effects.append(Send(number, encode_message(message)))

    def _on_summary(self, number: int, link: _Link, summary: LogSummary) -> None:
        log = self.frontier.logs.get(summary.log_id)
        if summary.heads:
            self._heard_of(link, summary.log_id, max(summary.heads))
        single = len(summary.heads) == 1 and log is not None and len(log.branches) == 1
        for head in summary.heads:
            if single and log is not None and head.seq < log.branches[min(log.branches)].head.seq:
                # Most likely it is merely behind. If it forked, its own want shows that: its head is not on our chain.
                continue
            self._wants.offer(number, summary.log_id, head)
        if log is not None:
            for island in summary.islands:
                self._wants.offer(number, summary.log_id, island.tip, piece=True)

    @staticmethod
    def _heard_of(link: _Link, log_id: bytes, head: Position) -> None:
        link.has[log_id] = head
        if len(link.has) > LOGS_MAX:
            raise TooMuchTalk(f"the peer speaks of more than {LOGS_MAX} logs")

    def _on_want(self, number: int, link: _Link, want: Want, effects: list[Effect]) -> None:
        log = self.frontier.logs.get(want.log_id)
        branch = None if log is None else self._branch_for(log, want.target)
        if log is None or branch is None:
            effects.append(Send(number, encode_message(Missing(want.log_id, want.target))))
            return
        link.serving += 1
        if link.serving > WANTS_IN_FLIGHT_PER_LINK_MAX:
            raise WantStorm(f"more than {WANTS_IN_FLIGHT_PER_LINK_MAX} wants open at once")
        first = branch.from_seq if not branch.attached else 0
        segments = tuple(log.path(branch, first, branch.head.seq))
        link.has[want.log_id] = branch.head
        effects.append(Serve(number, want.log_id, segments, want.locator, int(log.genesis.lane), pushed=False))

    @staticmethod
    def _branch_for(log: LogState, target: Position) -> Branch | None:
        found = log.branch_of(target)
        if found is None and len(log.branches) == 1:
            (only,) = log.branches.values()
            found = only if only.head.seq >= target.seq else None
        return found

    def _located(self, event: Located) -> None:
        link = self._links.get(event.link)
        if link is None:
            return
        link.serving = max(0, link.serving - 1)
        for position in event.locator:
            if position == event.after:
                break
            # The peer holds this and our chain does not: a branch that we have not seen.
            self._wants.offer(event.link, event.log_id, position)
            break

    # -- Runs ------------------------------------------------------------------------------------------------------

    def _on_run(self, number: int, link: _Link, message: RunMessage, now: float, effects: list[Effect]) -> None:
        log_id = message.log_id
        entries = split_run(message.count, message.blob)
        log = self.frontier.logs.get(log_id)
        genesis = log.genesis if log is not None else self._genesis_of(log_id, entries)
        if log_id not in link.asked and genesis.certificate.log_key != link.peer.log_key:
            raise UnwantedRun("a run that was neither asked for nor is its author's own")
        run = check_run(log_id, entries, message.blob)
        verify_tip(run, genesis.certificate.log_key)
        tip = Position(run.last_seq, run.tip_id)
        link.has[log_id] = max(tip, link.has.get(log_id, tip))
        if log is None:
            verify_signature(entries[0], genesis.certificate.log_key)
            try:
                self.frontier.open_log(log_id, genesis)
            except TooManyLogs as error:
                # Whoever relays it is blameless; it stays where it was received.
                effects.append(Note(f"{error}: {log_id.hex()} of {genesis.certificate.name} is not kept"))
                return
        self._intake.take_in(run, effects)
        self._wants.progress(number, log_id, now)

    def _genesis_of(self, log_id: bytes, entries: list[bytes]) -> Genesis:
        if entry_id(entries[0])[:LOG_ID_BYTES] != log_id:
            raise UnknownLogPiece("a piece of a log whose beginning is not held here")
        return parse_genesis(entries[0], self._root)

    # -- Own entries, news and time --------------------------------------------------------------------------------

    def _own_appended(self, run: Run, effects: list[Effect]) -> None:
        """Own entries are on disk: hold them, push them to whoever has what they follow, announce them to the rest."""
        log_id = run.log_id
        branch = self._intake.own_appended(run, effects)
        lane = int(self.frontier.logs[log_id].genesis.lane)
        before = None if run.first_seq == 0 else Position(run.first_seq - 1, run.prev)
        for number, link in self._links.items():
            if link.live and link.has.get(log_id) == before:
                link.has[log_id] = branch.head
                link.news.pop(log_id, None)
                segments = (Segment(branch.number, run.first_seq, run.last_seq),)
                effects.append(Serve(number, log_id, segments, (), lane, pushed=True))

    def _ask(self, now: float, effects: list[Effect]) -> None:
        for ask in self._wants.next(now):
            link = self._links[ask.link]
            link.asked.add(ask.log_id)
            link.unplanned.add(ask.log_id)
            log = self.frontier.logs.get(ask.log_id)
            locator = () if log is None else tuple(log.locator())
            effects.append(Send(ask.link, encode_message(Want(ask.log_id, ask.target, locator))))

    def _collect_news(self, now: float) -> None:
        heads = self._intake.new_heads
        if not heads:
            return
        for link in self._links.values():
            if link.live:
                link.news |= {log_id: head for log_id, head in heads.items() if self._is_news(link, log_id, head)}
        heads.clear()
        self._news_since = now if self._news_since is None else self._news_since

    def _is_news(self, link: _Link, log_id: bytes, head: Position) -> bool:
        """Whether a peer should hear of a head: not of one that it has, nor of one it is just bringing us past."""
        known = link.has.get(log_id)
        if known is None or known == head:
            return known is None
        return head.seq >= known.seq or len(self.frontier.logs[log_id].branches) > 1

    def _tell_news(self, now: float, effects: list[Effect]) -> None:
        if self._news_since is None or now < self._news_since + ANNOUNCE_PAUSE_S:
            return
        self._news_since = None
        for number, link in self._links.items():
            heads = [(log_id, head) for log_id, head in link.news.items() if self._is_news(link, log_id, head)]
            link.news.clear()
            for at in range(0, len(heads), ANNOUNCE_LOGS_PER_FRAME_MAX):
                part = tuple(heads[at : at + ANNOUNCE_LOGS_PER_FRAME_MAX])
                effects.append(Send(number, encode_message(Announce(part))))
                link.said = now

    def _tick(self, now: float, effects: list[Effect]) -> None:
        self._wants.expire(now)
        for number, link in list(self._links.items()):
            if now - link.heard > LINK_SILENCE_S_MAX:
                self._drop(number, "nothing heard for too long", effects, blame_peer=False)
            elif link.live and now - link.said >= KEEPALIVE_S:
                self._tell_digest(number, now, effects)
