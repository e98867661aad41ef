"""Which changes of a venue document count: a pure function of the set of changes, whatever order they came in.

A change counts when all of these hold:

* no other change claims the same place (actor and seq): where an author wrote two, neither counts,
* every change it depends on counts, and the one before it by the same author is among its ancestors,
* its operations begin right after the highest operation it knew, so that no author can use up the numbers,
* the document stays within `DOCUMENT_CHANGES_MAX` changes and `DOCUMENT_OPERATIONS_MAX` operations.

Changes are taken in one order that all devices agree on: ancestors first, then by hash. What is left is *stranded*:
kept, shown, and counted as soon as what it lacks arrives.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from mesh.limits import DOCUMENT_CHANGES_MAX, DOCUMENT_OPERATIONS_MAX
from mesh.views.automerge_change import Change


class Why(Enum):
    """Why a change does not count, in words for people."""

    MISSING = "it builds on a change that has not arrived here"
    FOLLOWS = "it builds on a change that does not count"
    CONTESTED = "its author signed another change for the same place"
    OUT_OF_ORDER = "its author left out a change or a number"
    FULL = "the venue document has reached its size limit"
    UNREADABLE = "its operations cannot be applied"
    REVOKED = "its author was revoked, and it is outside the cut"


@dataclass(frozen=True, slots=True)
class ClosedSet:
    """`order`: the changes that count, ancestors first. `stranded`: why each of the others does not."""

    order: tuple[Change, ...]
    stranded: Mapping[bytes, Why]
    heads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    """What the author of a change knew: changes by actor, and the highest operation."""

    clock: Mapping[bytes, int]
    max_op: int


def closed_set(
    changes: Mapping[bytes, Change], unreadable: Collection[bytes] = (), cut_off: Collection[bytes] = ()
) -> ClosedSet:
    """Evaluate the rules above over changes by hash; `unreadable` and `cut_off` ones count for nothing."""
    stranded = _excluded(changes, unreadable, cut_off)
    waiting = {digest: len(set(change.dependencies)) for digest, change in changes.items()}
    followers: dict[bytes, list[bytes]] = {}
    for digest, change in changes.items():
        for dependency in set(change.dependencies):
            followers.setdefault(dependency, []).append(digest)
    ready = [digest for digest, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[Change] = []
    known: dict[bytes, _Known] = {}
    operations = 0
    while ready:
        change = changes[heapq.heappop(ready)]
        before = _knowledge(change, known)
        why = stranded.get(change.hash) or _broken_rule(change, before, len(order), operations)
        if why is not None:
            stranded[change.hash] = why
            continue
        known[change.hash] = _Known({**before.clock, change.actor: change.seq}, max(before.max_op, change.max_op))
        order.append(change)
        operations += change.operations
        for follower in followers.get(change.hash, ()):
            waiting[follower] -= 1
            if waiting[follower] == 0:
                heapq.heappush(ready, follower)
    for digest, change in changes.items():
        if digest not in known and digest not in stranded:
            missing = any(dependency not in changes for dependency in change.dependencies)
            stranded[digest] = Why.MISSING if missing else Why.FOLLOWS
    depended_on = {dependency for change in order for dependency in change.dependencies}
    heads = tuple(sorted(change.hash for change in order if change.hash not in depended_on))
    return ClosedSet(tuple(order), stranded, heads)


def _excluded(
    changes: Mapping[bytes, Change], unreadable: Collection[bytes], cut_off: Collection[bytes]
) -> dict[bytes, Why]:
    places = Counter((change.actor, change.seq) for digest, change in changes.items() if digest not in cut_off)
    excluded = dict.fromkeys(unreadable, Why.UNREADABLE)
    for digest, change in changes.items():
        if digest in cut_off:
            excluded[digest] = Why.REVOKED
        elif places[change.actor, change.seq] > 1:
            excluded[digest] = Why.CONTESTED
    return excluded


def _knowledge(change: Change, known: Mapping[bytes, _Known]) -> _Known:
    clock: dict[bytes, int] = {}
    max_op = 0
    for dependency in change.dependencies:
        max_op = max(max_op, known[dependency].max_op)
        for actor, seq in known[dependency].clock.items():
            clock[actor] = max(seq, clock.get(actor, 0))
    return _Known(clock, max_op)


def _broken_rule(change: Change, before: _Known, count: int, operations: int) -> Why | None:
    if change.seq != before.clock.get(change.actor, 0) + 1 or change.start_op != before.max_op + 1:
        return Why.OUT_OF_ORDER
    if count >= DOCUMENT_CHANGES_MAX or operations + change.operations > DOCUMENT_OPERATIONS_MAX:
        return Why.FULL
    return None
