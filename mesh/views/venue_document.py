"""The venue document: what managers edit, also concurrently, and every device reads. Never money.

Each VENUE_CHANGE entry carries one raw Automerge change. It is taken up when

* its author's genesis certificate has the role `manager`,
* it is one plain change (:mod:`mesh.views.automerge_change`) whose actor id is the log id of the entry,

and it counts when some entry that carries it is not cut off by its author's revocation (:mod:`mesh.views.trust`), and
it belongs to the largest closed set of those (:mod:`mesh.views.closed_set`). The document is the same on
every device that holds the same entries, in whatever order they came. `digest` names its state: SHA-256 over its sorted
heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from mesh.core.currency import Currency
from mesh.core.kinds import Role
from mesh.errors import PeerError
from mesh.views.automerge_change import BadChange, Change, parse_change
from mesh.views.automerge_document import BadDocument, DocumentFields, Unreadable, load, read_fields
from mesh.views.closed_set import ClosedSet, Why, closed_set
from mesh.views.trust import TrustView


@dataclass(frozen=True, slots=True)
class VenueDocument:
    """What a device needs to know about its venue. `zones` are sorted; `digest` is 32 bytes."""

    name: str
    currency: Currency
    zones: tuple[str, ...]
    per_tap_cap_minor: int
    event: bytes
    """4 bytes that every card record of this event carries."""
    card_id_key: bytes
    """16 bytes; card ids in entries are hashes under this key, not chip serial numbers."""
    digest: bytes


@dataclass(frozen=True, slots=True)
class RefusedChange:
    """An entry that counts for nothing in the document, for good."""

    entry_id: bytes
    log_id: bytes
    seq: int
    reason: str


@dataclass(frozen=True, slots=True)
class StrandedChange:
    """An entry whose change does not count now; `missing` are hashes of changes that have not arrived."""

    entry_id: bytes
    log_id: bytes
    seq: int
    why: Why
    missing: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    entry_id: bytes
    log_id: bytes
    seq: int


@dataclass(frozen=True, slots=True)
class _State:
    closed: ClosedSet
    fields: DocumentFields | None
    problem: str | None


class VenueDocumentView:
    """The fold. Folding an entry twice changes nothing; the answers are functions of the set of entries folded."""

    __slots__ = ("_changes", "_places", "_refused", "_state", "_trust", "_version")

    def __init__(self, trust: TrustView | None = None) -> None:
        self._trust = TrustView() if trust is None else trust
        self._version = self._trust.version
        self._changes: dict[bytes, Change] = {}
        self._places: dict[bytes, set[_Place]] = {}
        self._refused: dict[bytes, RefusedChange] = {}
        self._state: _State | None = None

    def fold(self, log_id: bytes, seq: int, entry_id: bytes, roles: Collection[Role], body: bytes) -> None:
        """Take up one VENUE_CHANGE entry. `roles` are those of the log's genesis certificate. Never raises."""
        try:
            change = _checked(log_id, roles, body)
        except PeerError as error:
            self._refused[entry_id] = RefusedChange(entry_id, log_id, seq, str(error))
            return
        places, place = self._places.setdefault(change.hash, set()), _Place(entry_id, log_id, seq)
        if place not in places:
            # Also where the change is known: the entry that brought it before may have been cut off.
            places.add(place)
            self._changes[change.hash] = change
            self._state = None

    def document(self) -> VenueDocument | None:
        """The venue document, or None where none can be read: then :meth:`problem` says why."""
        state = self._current()
        if state.fields is None:
            return None
        digest = hashlib.sha256(b"".join(state.closed.heads)).digest()
        fields = state.fields
        return VenueDocument(
            name=fields.name,
            currency=Currency(fields.currency, fields.exponent),
            zones=fields.zones,
            per_tap_cap_minor=fields.per_tap_cap_minor,
            event=fields.event,
            card_id_key=fields.card_id_key,
            digest=digest,
        )

    def problem(self) -> str | None:
        """Why there is no document, in words for people; None where there is one."""
        return self._current().problem

    def changes(self) -> tuple[bytes, ...]:
        """The raw changes that count, ancestors first: what :func:`make_change` edits."""
        return tuple(change.raw for change in self._current().closed.order)

    def stranded(self) -> tuple[StrandedChange, ...]:
        """Entries whose changes do not count now, by entry id. Their authors' devices issue them again."""
        found = [
            StrandedChange(place.entry_id, place.log_id, place.seq, why, self._missing(digest))
            for digest, why in self._current().closed.stranded.items()
            for place in self._places[digest]
        ]
        return tuple(sorted(found, key=lambda stranded: stranded.entry_id))

    def refused(self) -> tuple[RefusedChange, ...]:
        """Entries that can never count, by entry id."""
        return tuple(self._refused[entry_id] for entry_id in sorted(self._refused))

    def _missing(self, digest: bytes) -> tuple[bytes, ...]:
        return tuple(sorted(set(self._changes[digest].dependencies) - self._changes.keys()))

    def _current(self) -> _State:
        if self._state is None or self._version != self._trust.version:
            self._version = self._trust.version
            self._state = _evaluate(self._changes, {digest for digest in self._changes if self._is_cut_off(digest)})
        return self._state

    def _is_cut_off(self, digest: bytes) -> bool:
        return all(self._trust.is_cut_off(p.log_id, p.seq, p.entry_id) for p in self._places[digest])


class NotAManager(PeerError):
    """The author of a change may not edit the venue document."""


class WrongActor(PeerError):
    """A change speaks for another author than the one who signed the entry."""


def _checked(log_id: bytes, roles: Collection[Role], body: bytes) -> Change:
    if Role.MANAGER not in roles:
        raise NotAManager("its author is not a manager")
    change = parse_change(body)
    if change.actor != log_id:
        raise WrongActor("its actor id is not the id of the log it is in")
    if change.seq < 1 or change.start_op < 1:
        raise BadChange("changes and operations are counted from one")
    return change


def _evaluate(changes: dict[bytes, Change], cut_off: set[bytes]) -> _State:
    """Find the closed set that Automerge can apply. Each round takes one unreadable change out, so it ends."""
    unreadable: set[bytes] = set()
    while True:
        closed = closed_set(changes, unreadable, cut_off)
        if not closed.order:
            return _State(closed, None, "no venue document has arrived here yet")
        raws = [change.raw for change in closed.order]
        try:
            fields = read_fields(load(raws))
        except Unreadable:
            unreadable.add(closed.order[_first_unreadable(raws)].hash)
        except BadDocument as error:
            return _State(closed, None, str(error))
        else:
            return _State(closed, fields, None)


def _first_unreadable(raws: list[bytes]) -> int:
    """Given that all of `raws` cannot be applied, return the index of a change after which a prefix no longer can."""
    readable, broken = 0, len(raws)
    while broken - readable > 1:
        middle = (readable + broken) // 2
        try:
            load(raws[:middle])
        except Unreadable:
            broken = middle
        else:
            readable = middle
    return broken - 1
