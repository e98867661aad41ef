"""A node: everything it holds, everyone it talks to. Events in, effects out; no I/O, no clock, no randomness.

What happens to an entry from elsewhere, and what can go wrong at each step:

1. It arrives in a run, against a want or pushed by its author. Otherwise: the peer's fault, the link closes.
2. The run passes the rules of :mod:`mesh.core.chain`. Otherwise: the peer's fault, the link closes, nothing is kept.
3. It is placed (:mod:`mesh.core.intake`): it extends a branch, is a duplicate, is a fork, or is an island.
4. `Accepted` tells the shell to store and fold it; other links get it or hear of it.

How news travels (:mod:`mesh.core.feeding`): a want asks for a log up to a position *and for what will follow*, so each
node is *fed* a log by one neighbour, and feeds those that wanted it. Neighbours that are not fed are reminded of new
heads a little later, and want what they miss: then they are fed by whoever reminded them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mesh.core import comparing
from mesh.core.backing import Backing
from mesh.core.catching_up import CatchingUp, Step
from mesh.core.certificate import DeviceCertificate, VenueRoot
from mesh.core.chain import Genesis, Run, check_run, parse_genesis, split_run, verify_tip
from mesh.core.entry import LOG_ID_BYTES, entry_id, verify_signature
from mesh.core.events import (
    Accepted,
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
    ReadBack,
    Received,
    Revoked,
    Send,
    Serve,
    SignatureFailed,
    Stored,
    Tick,
)
from mesh.core.feeding import Feeders
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
    BucketLogs,
    Buckets,
    Bye,
    Digest,
    FrontierPart,
    Hello,
    Kept,
    Message,
    Missing,
    Plan,
    Quiet,
    RunMessage,
    Tell,
    Want,
    encode_message,
)
from mesh.core.neighbour import Neighbour
from mesh.core.news import News
from mesh.core.printable import printable
from mesh.core.progress import Linked, NodeStatus, Offer, Progress
from mesh.core.revocation import Revocations, parse_statement
from mesh.core.session import Session
from mesh.core.zone import accepts_zone
from mesh.errors import PeerError
from mesh.limits import (
    KEEPALIVE_S,
    LINK_SILENCE_S_MAX,
    LOGS_MAX,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
)

ASIDE_PAUSE_S: Final = 5.0
"""Logs that are set aside are compared at most this often on a link."""
PUSHED_BYTES_MAX: Final = 4 * 1024
"""Runs up to this size are passed on as they came; larger ones are read from the store when the link can take them."""


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
        self._links: dict[int, Neighbour] = {}
        self._catching_up = CatchingUp()
        self._wants = Wants(self.frontier.holds)
        self._news = News(self.frontier, self._intake.own, identity.serial)
        self._signed_tips: set[bytes] = set()
        """Ids of entries that ended the runs of the event at hand, and whose signatures were verified."""
        self._feeders = Feeders()
        self._progress = Progress(self.frontier)
        self._backing = Backing(self.frontier, self._intake.own, self._intake.contested_from)

    # -- Interface -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Advance by one event. `now` is seconds on a monotonic clock of the caller's."""
        effects: list[Effect] = []
        match event:
            case Received(link, data):
                self._on_link(link, effects, lambda: self._receive(link, data, now, effects))
            case OwnAppended(run):
                self._intake.own_appended(run, effects)
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
            case Stored(heights):
                effects += self._backing.stored(heights, self.links)
            case Moved(zone):
                self.zone = zone
                for link in list(self._links):
                    self._drop(link, "this device was carried to another zone", effects, blame_peer=False)
            case Tick():
                self._tick(now, effects)
        if any(isinstance(effect, Revoked) for effect in effects):
            self._drop_revoked(effects)
        self._feed(effects)
        self._ask(now, effects)
        self._tell_news(now, effects)
        # A quarter of a second apart even while a liar's offers keep something wanted for ever.
        if isinstance(event, Tick) or not self._wants.pending_logs():
            self._catch_up(now, effects)
        return effects

    def deadline(self) -> float | None:
        """When to send a :class:`Tick` at the latest, besides a regular one every quarter of a second."""
        return self._news.deadline()

    def wanted_bytes(self, link: int) -> int:
        """How many bytes of a link it takes until something can happen: fewer need not be brought as an event."""
        known = self._links.get(link)
        return 1 if known is None else known.session.wanted_bytes

    def restore(self, log_id: bytes, genesis: Genesis, branches: list[Branch], *, own: bool) -> None:
        """Put back a log read from the store at start; it was checked when it was accepted."""
        self._intake.opened(self.frontier.open_log(log_id, genesis))
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

    def status(self, now: float) -> NodeStatus:
        """What is held and what is not, who the peers are and how far each is, and who keeps this device's own logs."""
        links = [Linked(number, link.peer, link.zone, link.has) for number, link in self._links.items() if link.live]
        offers = (Offer(log_id, link, target) for log_id, link, target in self._wants.offers())
        return self._progress.status(links, offers, self._backing.own_logs(self.revocations), now)

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
        session, digest = Session(self._root.venue_id), self.frontier.main_digest()
        self._backing.link_up(number, digest)
        self._links[number] = Neighbour(peer, session, now, now)
        self._catching_up.link_up(number, digest, leads=self._identity.serial <= peer.serial)
        if peer.serial in self.revocations:
            self._drop(number, _revoked(peer), effects)
        else:
            effects.append(Send(number, session.hello(self.zone, digest, self.frontier.aside_digest())))

    def _drop_revoked(self, effects: list[Effect]) -> None:
        """The revoked set grew: no link to anybody in it is left open, and nothing more is served on it."""
        gone = {number for number, link in self._links.items() if link.peer.serial in self.revocations}
        effects[:] = [effect for effect in effects if not isinstance(effect, Serve) or effect.link not in gone]
        for number in sorted(gone):
            self._drop(number, _revoked(self._links[number].peer), effects)

    def _forget(self, number: int) -> None:
        if self._links.pop(number, None) is not None:
            self._feeders.link_down(number)
        self._progress.link_down(number)
        self._backing.link_down(number)
        self._catching_up.link_down(number)
        self._wants.link_down(number)

    def _receive(self, number: int, data: bytes, now: float, effects: list[Effect]) -> None:
        link = self._links[number]
        link.heard = now
        for message in link.session.receive(data):
            self._on_message(number, link, message, now, effects)
            if number not in self._links:
                return

    def _on_message(self, number: int, link: Neighbour, message: Message, now: float, effects: list[Effect]) -> None:
        match message:
            case RunMessage():
                self._on_run(number, link, message, now, effects)
            case Hello(_, zone, digest, _, aside):
                roles = self._identity.roles - {Role.COURIER} if self.zone_bound else self._identity.roles
                if not accepts_zone(self.zone, roles, zone, link.peer.roles):
                    raise WrongZone(f"a {self.zone!r} node takes zone {zone!r} only from couriers and gateways")
                link.live, link.zone = True, zone
                effects.append(Met(number, link.peer))
                self._progress.met(number, now)
                effects += self._backing.met(number, link.peer, digest)
                self._catching_up.met(number)
                self._on_digest(number, digest, now, effects)
                self._on_aside(number, link, aside, now, effects)
            case Digest(digest, aside):
                self._on_digest(number, digest, now, effects)
                self._on_aside(number, link, aside, now, effects)
            case Buckets() | BucketLogs() | Tell() | FrontierPart():
                self._on_comparing(number, link, message, effects)
            case Announce(heads):
                self._on_announce(number, link, heads)
            case Want():
                self._on_want(number, link, message, effects)
            case Missing(log_id, target):
                self._wants.failed(number, log_id, target)
            case Plan(log_id, entries, size):
                if log_id in link.unplanned:
                    link.unplanned.discard(log_id)
                    self._progress.planned(number, log_id, entries, size, now)
                    effects.append(PeerPlan(number, log_id, entries, size))
            case Quiet(log_id):
                link.fed.discard(log_id)
            case Kept():
                self._backing.heard(number, message, link.peer)
            case Bye(reason):
                self._forget(number)
                effects.append(Close(number, f"the peer said: {printable(reason)}", blame_peer=False))

    def _on_digest(self, number: int, digest: bytes, now: float, effects: list[Effect]) -> None:
        self._progress.heard_digest(number, digest)
        if self._catching_up.heard(number, digest, self.frontier.main_digest(), now):
            self._compare(number, effects)

    def _on_aside(self, number: int, link: Neighbour, theirs: bytes, now: float, effects: list[Effect]) -> None:
        if theirs != self.frontier.aside_digest() and now - link.aside_told_at >= ASIDE_PAUSE_S:
            link.aside_told_at = now
            self._send_frontier(number, self.frontier.aside_summaries(), effects)

    def _compare(self, number: int, effects: list[Effect]) -> None:
        effects.append(Send(number, encode_message(Buckets(tuple(self.frontier.bucket_digests())))))

    def _tell_digest(self, number: int, now: float, effects: list[Effect]) -> None:
        digest = self.frontier.main_digest()
        self._links[number].said = now
        self._catching_up.told(number, digest, now)
        effects.append(Send(number, encode_message(Digest(digest, self.frontier.aside_digest()))))

    def _catch_up(self, now: float, effects: list[Effect]) -> None:
        if self._catching_up.is_due(now):
            for number, step in self._catching_up.steps(self.frontier.main_digest(), now):
                match step:
                    case Step.TELL:
                        self._tell_digest(number, now, effects)
                    case Step.COMPARE:
                        self._compare(number, effects)
                    case Step.IN_STEP:
                        effects.append(InStep(number))

    def _on_comparing(self, number: int, link: Neighbour, message: Message, effects: list[Effect]) -> None:
        match message:
            case Buckets(digests):
                self._progress.heard_buckets(number, digests)
                answers = comparing.bucket_logs(self.frontier, digests)
                effects += [Send(number, encode_message(answer)) for answer in answers]
            case BucketLogs():
                self._progress.heard_bucket_logs(number, message.buckets)
                found = comparing.differences(self.frontier, message)
                link.has |= {log.log_id: log.heads()[-1] for log in found.same if log.heads()}
                self._send_frontier(number, found.ours, effects)
                if found.theirs is not None:
                    effects.append(Send(number, encode_message(found.theirs)))
            case Tell():
                self._send_frontier(number, comparing.told(self.frontier, message), effects)
            case FrontierPart(logs):
                for summary in logs:
                    self._on_summary(number, link, summary)
            case _:
                pass

    def _send_frontier(self, number: int, logs: Sequence[LogSummary], effects: list[Effect]) -> None:
        parts = comparing.frontier_parts(self.frontier, logs)
        effects += [Send(number, encode_message(part)) for part in parts]

    def _on_summary(self, number: int, link: Neighbour, summary: LogSummary) -> None:
        log = self.frontier.logs.get(summary.log_id)
        if summary.heads:
            self._heard_of(link, summary.log_id, max(summary.heads))
        for head in summary.heads:
            if len(summary.heads) > 1 or not self._is_behind(summary.log_id, head):
                self._offer(number, summary.log_id, head)
        if log is not None:
            for island in summary.islands:
                self._offer(number, summary.log_id, island.tip, piece=True)

    def _is_behind(self, log_id: bytes, head: Position) -> bool:
        """Whether a head is below ours, of a log with one branch: most likely its holder is merely behind.

        If it forked, its own want shows that: its head is not on our chain.
        """
        log = self.frontier.logs.get(log_id)
        return log is not None and len(log.branches) == 1 and head.seq < log.branches[min(log.branches)].head.seq

    def _offer(self, number: int, log_id: bytes, target: Position, *, piece: bool = False) -> None:
        if not self._intake.overflows(log_id, target.seq):
            self._wants.offer(number, log_id, target, piece=piece)

    def _on_announce(self, number: int, link: Neighbour, heads: tuple[tuple[bytes, Position], ...]) -> None:
        for log_id, head in heads:
            self._heard_of(link, log_id, max(head, link.has.get(log_id, head)))
            if not self._is_behind(log_id, head):
                self._offer(number, log_id, head)

    @staticmethod
    def _heard_of(link: Neighbour, log_id: bytes, head: Position) -> None:
        link.has[log_id] = head
        if len(link.has) > LOGS_MAX:
            raise TooMuchTalk(f"the peer speaks of more than {LOGS_MAX} logs")

    def _on_want(self, number: int, link: Neighbour, want: Want, effects: list[Effect]) -> None:
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
        link.fed.add(want.log_id)
        effects.append(Serve(number, want.log_id, segments, want.locator, self._news.lane_of(log), pushed=False))

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

    def _on_run(self, number: int, link: Neighbour, message: RunMessage, now: float, effects: list[Effect]) -> None:
        log_id = message.log_id
        entries = split_run(message.count, message.blob)
        log = self.frontier.logs.get(log_id)
        genesis = log.genesis if log is not None else self._genesis_of(log_id, entries)
        if log_id not in link.asked and genesis.certificate.log_key != link.peer.log_key:
            raise UnwantedRun("a run that was neither asked for nor is its author's own")
        run = check_run(log_id, entries, message.blob)
        verify_tip(run, genesis.certificate.log_key)
        self._signed_tips.add(run.tip_id)
        tip = Position(run.last_seq, run.tip_id)
        link.has[log_id] = max(tip, link.has.get(log_id, tip))
        self._progress.arrived(number, log_id, message.count, len(message.blob), now)
        if log is None:
            verify_signature(entries[0], genesis.certificate.log_key)
            try:
                self._intake.opened(self.frontier.open_log(log_id, genesis))
            except TooManyLogs as error:
                # Whoever relays it is blameless; it stays where it was received.
                effects.append(Note(f"{error}: {log_id.hex()} of {genesis.certificate.name} is not kept"))
                return
        before = len(effects)
        self._intake.take_in(run, effects)
        is_new = any(isinstance(effect, Accepted | ReadBack) for effect in effects[before:])
        self._wants.progress(number, log_id, now)
        if len(self.frontier.logs[log_id].branches) == 1:
            from_author = genesis.certificate.log_key == link.peer.log_key
            too_many = self._feeders.arrived(number, log_id, is_new=is_new, from_author=from_author)
            if too_many is not None:
                self._quieten(too_many, log_id, effects)

    def _quieten(self, number: int, log_id: bytes, effects: list[Effect]) -> None:
        """Ask a neighbour that feeds us what somebody else does to stop; once, until the log is wanted there again."""
        quieted = self._links[number].quieted
        if log_id not in quieted:
            quieted.add(log_id)
            effects.append(Send(number, encode_message(Quiet(log_id))))

    def _genesis_of(self, log_id: bytes, entries: list[bytes]) -> Genesis:
        if entry_id(entries[0])[:LOG_ID_BYTES] != log_id:
            raise UnknownLogPiece("a piece of a log whose beginning is not held here")
        return parse_genesis(entries[0], self._root)

    # -- Own entries, news and time --------------------------------------------------------------------------------

    def _feed(self, effects: list[Effect]) -> None:
        """Push what was accepted just now to whoever is fed its log and has all that is before it."""
        for accepted in [effect for effect in effects if isinstance(effect, Accepted) and effect.attached]:
            log = self.frontier.logs[accepted.run.log_id]
            is_own = log.log_id in self._intake.own
            if accepted.on_disk if is_own else len(log.branches) == 1:
                self._push(log, accepted, effects, is_own=is_own)
        self._signed_tips.clear()

    def _push(self, log: LogState, accepted: Accepted, effects: list[Effect], *, is_own: bool) -> None:
        run, log_id = accepted.run, log.log_id
        head = Position(run.last_seq, run.tip_id)
        before = None if run.first_seq == 0 else Position(run.first_seq - 1, run.prev)
        blob: bytes | None = None
        for number, link in self._links.items():
            if not link.live or not (is_own or log_id in link.fed) or link.has.get(log_id) != before:
                continue
            if blob is None:
                is_signed = is_own or run.tip_id in self._signed_tips
                blob = run.blob if is_signed and sum(map(len, run.entries)) <= PUSHED_BYTES_MAX else b""
            link.has[log_id] = head
            link.news.pop(log_id, None)
            segments = (Segment(accepted.branch, run.first_seq, run.last_seq),)
            effects.append(Serve(number, log_id, segments, (), self._news.lane_of(log), pushed=True, blob=blob))

    def _ask(self, now: float, effects: list[Effect]) -> None:
        for ask in self._wants.next(now):
            self._want(ask.link, ask.log_id, ask.target, effects)
        for log_id in self._feeders.take_unfed():
            self._find_feeder(log_id, effects)

    def _want(self, number: int, log_id: bytes, target: Position, effects: list[Effect]) -> None:
        link = self._links[number]
        link.asked.add(log_id)
        link.unplanned.add(log_id)
        link.quieted.discard(log_id)
        log = self.frontier.logs.get(log_id)
        locator = () if log is None else tuple(log.locator())
        effects.append(Send(number, encode_message(Want(log_id, target, locator))))

    def _find_feeder(self, log_id: bytes, effects: list[Effect]) -> None:
        """Ask who was ahead of us last, and is not fed by us, for what will follow: before anything is missed."""
        log = self.frontier.logs.get(log_id)
        if log is None or self._feeders.is_fed(log_id) or len(log.branches) != 1:
            return
        ahead = [
            number
            for number, link in sorted(self._links.items())
            if link.live and log_id in link.has and log_id not in link.fed
        ]
        if ahead:
            number = max(ahead, key=lambda number: self._links[number].has[log_id])
            self._feeders.grafted(number, log_id)
            self._want(number, log_id, self._links[number].has[log_id], effects)

    def _tell_news(self, now: float, effects: list[Effect]) -> None:
        if self._intake.new_heads:
            self._news.collect(self._intake.new_heads, self._links, now)
            self._intake.new_heads.clear()
        for number, announce in list(self._news.due(self._links, now)):
            self._links[number].said = now
            effects.append(Send(number, encode_message(announce)))

    def _tick(self, now: float, effects: list[Effect]) -> None:
        self._wants.expire(now)
        for number, link in list(self._links.items()):
            if now - link.heard > LINK_SILENCE_S_MAX:
                self._drop(number, "nothing heard for too long", effects, blame_peer=False)
            elif link.live and now - link.said >= KEEPALIVE_S:
                self._tell_digest(number, now, effects)
