"""With whom a device keeps links: a random graph of few links. Events in, effects out; chance and time are arguments.

A link costs traffic for everything that anybody sells, so a device keeps few. That few are enough rests on chance: a
graph in which everybody dials two others at random is connected with near certainty however many there are (Fenner and
Frieze, 1982), and it stays so when a third of it goes dark. The rules, in the order in which they are applied:

* **Kept.** An address that a person gave (`--peer`) is dialled whenever there is no link to whoever was met there.
* **Own zone.** A device wants `LINKS_WANTED` links and counts those that came to it; half as many it dials itself, so
  that nobody who comes in numbers is all its company. Where there are fewer peers than that, it links with all of them.
* **Other zones.** A device that bridges zones wants `LINKS_ACROSS_WANTED` in each that it hears of.
* **Room.** Twice what it wants is the most that it lets in; more are turned away without blame and go elsewhere. This
  does not bind bridges (they are few, and are where news comes from), nor those of whom discovery has not told: they
  came by an address from a person and may have nowhere else to go.
* **Pauses.** A lost link is replaced at once. Each failure doubles two pauses, both jittered: the candidate's, and the
  zone's. A link that came about forgets them. A peer that broke a rule is not dialled for `REFUSED_PEER_S`.
* **Rotation.** Once a minute a device exchanges one link that it dialled for another, at random: first the new one,
  then the old. So parts of a graph that fell apart find each other, and liars do not stay anybody's only company.

What discovery says is a rumour: a lost name ends no link, and only a link says whether somebody lives.
`docs/spec/overlay.md` is this page with its numbers; docs/adr/0049-few-links-at-random.md says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar

from mesh.core.overlay_events import (
    Dial,
    DialFailed,
    Drop,
    Effect,
    Event,
    Found,
    InStep,
    Linked,
    Lost,
    Met,
    Parted,
    Tick,
)
from mesh.limits import DIALS_MAX, DISCOVERED_NAMES_MAX, LINKS_MAX, REFUSED_PEER_S

LINKS_WANTED: Final = 4
LINKS_ACROSS_WANTED: Final = 2
SPREAD_S: Final = 0.2
"""Dials are spread over this long, so that what all devices hear at once does not make them do the same."""
LARGER_WAITS_S: Final = 0.5
"""Of two devices that hear of each other at once one dials first, or there are two links where one is wanted."""
SLOW_DIAL_S: Final = 1.0
"""A dial that takes longer is not waited for: another is tried beside it."""
RETRY_S_MIN: Final = 0.2
RETRY_S_MAX: Final = 60.0
RETRY_LACKING_S_MAX: Final = 10.0
"""Where links are lacking, and for addresses that a person gave."""
ZONE_PAUSE_S_MAX: Final = 2.0
ROTATE_S: Final = 60.0
ROTATE_ALONE: Final = 30
"""Among more than so many a device passes its turn over, the more often the more there are: each exchange takes from
both ends the neighbour that fed them a fifth of all logs."""
ROTATE_AGAIN_S: Final = 5.0
"""After a rotation that did not come about."""
SETTLE_S: Final = 5.0
"""After a start it takes so long until whoever discovery did not tell of counts as beyond its reach."""
RECENT_S: Final = 300.0
"""Whoever was linked this lately is not looked for while there are others."""
LASTING_S: Final = 10.0
"""A link that did not last so long counts as a dial that came to nothing."""
ENOUGH_LINKS: Final = "it has links enough; others have room"
ROTATED: Final = "links are exchanged for others now and then"

Jitter: TypeAlias = Callable[[float, float], float]
"""A number between two others, as `random.uniform`."""
_Choice = TypeVar("_Choice")


@dataclass(slots=True)
class _Candidate:
    """Somebody who can be dialled: a node that discovery told of, or an address from a person (`is_kept`)."""

    name: str
    node: str | None = None
    zone: str | None = None
    is_kept: bool = False
    dialled_at: float = -math.inf
    failures: int = 0
    failed_at: float = -math.inf
    pause_s: float = 0.0
    not_before: float = -math.inf
    linked_at: float = -math.inf

    def ready_at(self, pause_s_max: float) -> float:
        return max(self.not_before, self.failed_at + min(self.pause_s, pause_s_max))


@dataclass(slots=True)
class _Link:
    node: str
    bridges: bool
    candidate: str | None
    zone: str | None
    met: bool = False
    in_step: bool = False
    leaving: bool = False


@dataclass(slots=True)
class _Pace:
    """When the next dial into a zone may go out, and how many in a row came to nothing."""

    next_at: float = -math.inf
    misses: int = 0


@dataclass(slots=True)
class Overlay:
    """The policy of one device in one place; whoever is carried to another starts with a fresh one.

    `node` is the device's own name, `kept` are the addresses that a person gave, `now` when it begins, in seconds.
    """

    node: str
    zone: str
    jitter: Jitter
    now: float
    bridges: bool = False
    """Whether it links zones; not while it is bound to one."""
    kept: tuple[str, ...] = ()
    wanted: int = LINKS_WANTED
    passes_by: bool = False
    """Whether it is here for a short time, as a courier on foot: it waits for nobody to dial first."""
    discovers: bool = True
    """Whether discovery runs at all; without it everybody comes by an address from a person."""
    _candidates: dict[str, _Candidate] = field(default_factory=dict)
    """Whom discovery told of, by node."""
    _addresses: dict[str, _Candidate] = field(default_factory=dict)
    """What a person gave."""
    _dialling: dict[str, _Candidate] = field(default_factory=dict)
    _links: dict[int, _Link] = field(default_factory=dict)
    _paces: dict[str, _Pace] = field(default_factory=dict)
    _rotate_at: float = 0.0
    _settled_at: float = 0.0
    _newcomer: str | None = None
    """The candidate that is dialled to take another's place."""

    def __post_init__(self) -> None:
        for name in self.kept:
            self._addresses[name] = _Candidate(name, is_kept=True)
        self._rotate_at = self.now + ROTATE_S * self.jitter(0.5, 1.5)
        self._settled_at = self.now + SETTLE_S if self.discovers else self.now

    @property
    def most(self) -> int:
        """How many links in its own zone a device has at most, of those that are counted (see the rules)."""
        return 2 * self.wanted

    # -- Interface -------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Advance by one event. `now` is seconds on a monotonic clock of the caller's."""
        self.now = now
        match event:
            case Found(node, zone):
                self._found(node, zone, now)
            case Lost(node):
                self._candidates.pop(node, None)
            case Linked():
                self._linked(event, now)
            case DialFailed(name, node):
                self._dial_failed(name, node, now)
            case Parted(link, blame_peer):
                self._parted(link, blame_peer, now)
            case InStep(link) if link in self._links:
                self._links[link].in_step = True
            case Met(link, zone) if link in self._links:
                self._links[link].met, self._links[link].zone = True, zone
            case InStep() | Met() | Tick():
                pass
        effects: list[Effect] = []
        if isinstance(event, Met):
            self._met(event.link, now, effects)
        self._make_room(effects)
        for candidate in self._lacking(now):
            self._dial(candidate, now, effects)
        self._rotate(now, effects)
        return effects

    def deadline(self) -> float:
        """When to send a :class:`Tick` at the latest."""
        moments = [self._rotate_at] if self._newcomer is None else []
        if not self._may_dial():
            return min(moments, default=math.inf)
        moments += [candidate.ready_at(RETRY_LACKING_S_MAX) for candidate in self._idle(self._addresses)]
        slow = [candidate.dialled_at + SLOW_DIAL_S for candidate in self._dialling.values()]
        moments += [moment for moment in slow if moment > self.now]
        for zone in self._zones_lacking():
            due = self._pace(zone).next_at
            if due > self.now:
                moments.append(due)
                continue
            longest = self._pause_s_max(zone)
            ready = [c.ready_at(longest) for c in self._idle(self._candidates) if c.zone == zone]
            if ready:
                moments.append(min(ready))
        return min(moments, default=math.inf)

    def has_room(self, node: str, now: float, *, bridges: bool, candidate: str | None) -> bool:
        """Whether a peer whose certificate is known by now is let in; `candidate` is what was dialled, if anything."""
        self.now = now
        if any(link.node == node for link in self._links.values()):
            return True  # It takes the place of its own link.
        if len(self._links) >= LINKS_MAX:
            return False
        is_kept = candidate in self._addresses or node in self._kept_nodes()
        return is_kept or not self._is_counted(node, bridges=bridges) or len(self._counted()) < self.most

    def links_in(self, zone: str) -> int:
        """To how many nodes of a zone there are links that are to stay."""
        return len({link.node for link in self._links.values() if link.zone == zone and not link.leaving})

    # -- What happened ---------------------------------------------------------------------------------------------

    def _found(self, node: str, zone: str, now: float) -> None:
        known = self._candidates.get(node)
        if known is not None:
            known.zone, known.failures, known.pause_s = zone, 0, 0.0
            return
        if len(self._candidates) >= DISCOVERED_NAMES_MAX:
            return
        waits = LARGER_WAITS_S if node < self.node and not (self.bridges or self.passes_by) else 0.0
        self._candidates[node] = _Candidate(node, node, zone, not_before=now + waits)
        if zone == self.zone or self.bridges:
            # The first peer is met at once: a courier is here for seconds. The others are chosen among those heard of.
            spread = SPREAD_S if self.links_in(zone) else SPREAD_S / 4
            pace = self._pace(zone)
            if pace.next_at < now - SPREAD_S:  # Many names in a row put nothing off.
                pace.next_at = now + self.jitter(0.0, spread)

    def _linked(self, event: Linked, now: float) -> None:
        involved = self._involved(event.node, event.candidate)
        zone = next((candidate.zone for candidate in involved if candidate.zone is not None), None)
        self._links[event.link] = _Link(event.node, event.bridges, event.candidate, zone)
        for candidate in involved:
            candidate.linked_at = now
        if event.candidate is not None:
            self._dialling.pop(event.candidate, None)
            self._answered(event.candidate, event.node)

    def _met(self, number: int, now: float, effects: list[Effect]) -> None:
        link = self._links.get(number)
        if link is None:
            return
        if link.zone is not None:
            self._pace(link.zone).misses = 0
        if link.candidate is not None and link.candidate == self._newcomer:
            self._newcomer, self._rotate_at = None, now + ROTATE_S * self.jitter(0.5, 1.5)
            old = [other for other in self._exchangeable() if other != number]
            if old and self.links_in(self.zone) > self.wanted:
                self._drop(self._one_of(old), ROTATED, effects)

    def _parted(self, number: int, blame_peer: bool, now: float) -> None:
        link = self._links.pop(number, None)
        if link is None:
            return
        for candidate in self._involved(link.node, link.candidate):
            if now - candidate.linked_at >= LASTING_S or link.leaving:
                candidate.failures, candidate.pause_s = 0, 0.0
            elif link.met:
                # Two boxes with one certificate take each other's links: they are to take turns, not to race.
                self._failed(candidate, now)
            candidate.linked_at = now
            if blame_peer:
                candidate.not_before = max(candidate.not_before, now + REFUSED_PEER_S)
        if not link.met and link.candidate is not None:
            self._missed(link.candidate, now)
        elif link.zone is not None:
            pace = self._pace(link.zone)
            pace.next_at = max(pace.next_at, now + self.jitter(0.0, SPREAD_S))

    def _dial_failed(self, name: str, node: str | None, now: float) -> None:
        self._dialling.pop(name, None)
        if node is not None:
            self._answered(name, node)
        self._missed(name, now)

    def _answered(self, name: str, node: str) -> None:
        """An address that a person gave turned out to be this node's."""
        if name in self._addresses:
            self._addresses[name].node = node

    def _missed(self, name: str, now: float) -> None:
        """A dial came to nothing: pause, for longer each time."""
        if name == self._newcomer:
            self._newcomer, self._rotate_at = None, now + ROTATE_AGAIN_S * self.jitter(0.5, 1.5)
        candidate = self._candidates.get(name) or self._addresses.get(name)
        if candidate is None or candidate.node in self._nodes():
            return
        self._failed(candidate, now)
        if candidate.zone is not None:
            pace = self._pace(candidate.zone)
            longest = min(ZONE_PAUSE_S_MAX, SPREAD_S * 2.0 ** min(pace.misses, 16))
            pace.misses += 1
            pace.next_at = max(pace.next_at, now + longest * self.jitter(0.5, 1.0))

    def _failed(self, candidate: _Candidate, now: float) -> None:
        candidate.failures += 1
        candidate.failed_at = now
        candidate.pause_s = self.jitter(0.75, 1.0) * min(RETRY_S_MAX, RETRY_S_MIN * 2.0 ** min(candidate.failures, 16))

    # -- What follows ----------------------------------------------------------------------------------------------

    def _lacking(self, now: float) -> Iterator[_Candidate]:
        """Whom to dial now: addresses that are to be kept, and one candidate for each zone with too few links."""
        for candidate in self._idle(self._addresses):
            if candidate.ready_at(RETRY_LACKING_S_MAX) <= now and self._may_dial():
                yield candidate
        for zone in self._zones_lacking():
            pace = self._pace(zone)
            if now < pace.next_at or not self._may_dial():
                continue
            ready = self._ready(zone, now)
            fewest = min((candidate.failures for candidate in ready), default=0)
            ready = [candidate for candidate in ready if candidate.failures == fewest]
            if ready:
                pace.next_at = now + self.jitter(SPREAD_S / 4, SPREAD_S)
                yield self._one_of(self._not_recent(ready, now))

    def _rotate(self, now: float, effects: list[Effect]) -> None:
        if now < self._rotate_at or self._newcomer is not None:
            return
        here, old = self.links_in(self.zone), self._exchangeable()
        if here < self.wanted or not old:
            self._rotate_at = now + ROTATE_AGAIN_S * self.jitter(0.5, 1.5)
            return
        self._rotate_at = now + ROTATE_S * self.jitter(0.5, 1.5)
        if here > self.wanted and self._dialled_here() > self.wanted // 2:
            self._drop(self._one_of(old), ENOUGH_LINKS, effects)
            return
        known = sum(candidate.zone == self.zone for candidate in self._candidates.values())
        if self.jitter(0.0, 1.0) * known > ROTATE_ALONE:
            return  # Others rotate meanwhile: among many, one exchange every other second keeps the graph random.
        # Failures are no reason here: the other part of a graph that fell apart is whom nobody could reach.
        ready = self._not_recent(self._ready(self.zone, now), now)
        if ready and len(self._counted()) < self.most and self._may_dial():
            newcomer = self._one_of(ready)
            self._newcomer = newcomer.name
            self._dial(newcomer, now, effects)

    def _make_room(self, effects: list[Effect]) -> None:
        """Discovery told of peers that are here already: more than were to be let in."""
        for number in self._counted()[self.most :]:
            self._drop(number, ENOUGH_LINKS, effects)

    def _dial(self, candidate: _Candidate, now: float, effects: list[Effect]) -> None:
        candidate.dialled_at = now
        self._dialling[candidate.name] = candidate
        effects.append(Dial(candidate.name))

    def _drop(self, number: int, reason: str, effects: list[Effect]) -> None:
        self._links[number].leaving = True
        effects.append(Drop(number, reason))

    # -- Who is what -----------------------------------------------------------------------------------------------

    def _zones_lacking(self) -> list[str]:
        """Zones in which links are wanted, those with the fewest first."""
        zones = {self.zone: None}
        if self.bridges:
            zones |= {c.zone: None for c in self._candidates.values() if c.zone is not None}
        lacking = [zone for zone in zones if self._lacks(zone)]
        return sorted(lacking, key=self.links_in)

    def _lacks(self, zone: str) -> bool:
        dialling = sum(
            c.zone == zone and c.name != self._newcomer and self.now < c.dialled_at + SLOW_DIAL_S
            for c in self._dialling.values()
        )
        coming = self.links_in(zone) + dialling
        if zone != self.zone:
            return coming < LINKS_ACROSS_WANTED
        lacks_own = self._dialled_here() + dialling < self.wanted // 2
        return coming < self.wanted or (lacks_own and len(self._counted()) + dialling < self.most)

    def _dialled_here(self) -> int:
        """Links in the own zone that this device dialled and keeps."""
        return sum(
            link.candidate is not None and link.zone == self.zone and not link.leaving for link in self._links.values()
        )

    def _exchangeable(self) -> list[int]:
        """Links that rotation may end: dialled from here after a choice, in the own zone, and in step."""
        return [
            number
            for number, link in self._links.items()
            if link.candidate is not None
            and link.zone == self.zone
            and link.in_step
            and not link.leaving
            and not self._is_kept(link)
        ]

    def _counted(self) -> list[int]:
        """Links for which there are only so many places, the oldest first."""
        return [
            number
            for number, link in self._links.items()
            if not link.leaving and self._is_counted(link.node, bridges=link.bridges) and not self._is_kept(link)
        ]

    def _is_counted(self, node: str, *, bridges: bool) -> bool:
        candidate = self._candidates.get(node)
        is_here = self.now < self._settled_at if candidate is None else candidate.zone == self.zone
        return is_here and not bridges

    def _is_kept(self, link: _Link) -> bool:
        return link.candidate in self._addresses or link.node in self._kept_nodes()

    def _kept_nodes(self) -> set[str]:
        return {address.node for address in self._addresses.values() if address.node is not None}

    def _involved(self, node: str, dialled: str | None) -> list[_Candidate]:
        """What is known of a peer: what discovery said, and what was dialled."""
        known = {node: self._candidates.get(node)}
        if dialled is not None:
            known[dialled] = self._candidates.get(dialled) or self._addresses.get(dialled)
        return [candidate for candidate in known.values() if candidate is not None]

    def _idle(self, some: Mapping[str, _Candidate]) -> list[_Candidate]:
        """Those of some candidates that are neither linked nor being dialled."""
        busy = self._nodes() | {link.candidate for link in self._links.values() if link.candidate is not None}
        return [c for c in some.values() if c.name not in self._dialling and c.name not in busy and c.node not in busy]

    def _ready(self, zone: str, now: float) -> list[_Candidate]:
        longest = self._pause_s_max(zone)
        return [c for c in self._idle(self._candidates) if c.zone == zone and c.ready_at(longest) <= now]

    def _not_recent(self, candidates: list[_Candidate], now: float) -> list[_Candidate]:
        return [candidate for candidate in candidates if now - candidate.linked_at > RECENT_S] or candidates

    def _pause_s_max(self, zone: str) -> float:
        wanted = self.wanted if zone == self.zone else LINKS_ACROSS_WANTED
        return RETRY_S_MAX if self.links_in(zone) >= wanted else RETRY_LACKING_S_MAX

    def _nodes(self) -> set[str | None]:
        return {link.node for link in self._links.values()}

    def _may_dial(self) -> bool:
        dialling = len(self._dialling)
        return dialling < DIALS_MAX and len(self._links) + dialling < LINKS_MAX

    def _pace(self, zone: str) -> _Pace:
        if len(self._paces) >= DISCOVERED_NAMES_MAX:
            self._paces.clear()  # Made-up zones: at worst somebody is dialled a moment early.
        return self._paces.setdefault(zone, _Pace())

    def _one_of(self, some: list[_Choice]) -> _Choice:
        return some[min(int(self.jitter(0, len(some))), len(some) - 1)]
