"""Which changes of the venue document count, rule by rule and at each bound; what is said of those that do not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import permutations
from typing import Final

import pytest

from mesh.core.currency import Currency
from mesh.core.frontier import Position
from mesh.core.kinds import Role
from mesh.core.revocation import Statement
from mesh.limits import DOCUMENT_CHANGES_MAX, DOCUMENT_OPERATIONS_MAX
from mesh.views.automerge_change import Change, parse_change
from mesh.views.automerge_document import DocumentFields, Edit, first_document, make_change
from mesh.views.closed_set import ClosedSet, Why, closed_set
from mesh.views.trust import TrustView
from mesh.views.venue_document import RefusedChange, StrandedChange, VenueDocument, VenueDocumentView


def change(
    name: str, actor: str, seq: int, start_op: int, *builds_on: str, operations: int = 1, tag: str = ""
) -> Change:
    """A change whose hash is its name; `builds_on` are the names of others."""
    dependencies = tuple(one.encode() for one in builds_on)
    return Change(name.encode(), actor.encode(), seq, start_op, operations, dependencies, tag.encode())


def evaluated(
    *changes: Change, unreadable: Sequence[str] = (), cut_off: Sequence[str] = ()
) -> tuple[str, dict[str, Why], str]:
    """Names in order, why the others are stranded, and the heads; the same however the changes came."""
    found: list[ClosedSet] = []
    orders = list(permutations(changes)) if len(changes) < 6 else [changes, changes[::-1]]
    for order in orders:
        by_hash = {one.hash: one for one in order}
        found.append(closed_set(by_hash, [one.encode() for one in unreadable], [one.encode() for one in cut_off]))
    assert all(one == found[0] for one in found)
    order_of = "".join(one.hash.decode() for one in found[0].order)
    stranded = {digest.decode(): why for digest, why in found[0].stranded.items()}
    return order_of, stranded, "".join(head.decode() for head in found[0].heads)


# -- Order and heads -----------------------------------------------------------------------------------------------


def test_nothing_comes_to_nothing() -> None:
    assert closed_set({}) == ClosedSet((), {}, ())


def test_ancestors_come_first_and_then_the_smaller_hash() -> None:
    changes = (
        change("m", "A", 1, 1),
        change("z", "A", 2, 2, "m"),
        change("c", "B", 1, 2, "m"),
        change("a", "C", 1, 3, "z", "c"),
        change("b", "D", 1, 1),
    )
    assert evaluated(*changes) == ("bmcza", {}, "ab")


def test_a_change_may_name_what_it_builds_on_twice() -> None:
    assert evaluated(change("b", "A", 1, 1), change("a", "B", 1, 2, "b", "b")) == ("ba", {}, "a")


def test_heads_are_what_no_counted_change_builds_on() -> None:
    changes = (change("a", "A", 1, 1), change("b", "B", 1, 2, "a"), change("c", "C", 1, 9, "a"))
    assert evaluated(*changes) == ("ab", {"c": Why.OUT_OF_ORDER}, "b")
    assert evaluated(*changes[:2], unreadable="b") == ("a", {"b": Why.UNREADABLE}, "a")


# -- Why a change does not count -----------------------------------------------------------------------------------


def test_a_change_waits_for_what_has_not_arrived_and_its_followers_with_it() -> None:
    first, second, third = change("a", "A", 1, 1, "x"), change("b", "B", 1, 2, "a"), change("c", "C", 1, 1)
    assert evaluated(first, second, third) == ("c", {"a": Why.MISSING, "b": Why.FOLLOWS}, "c")
    both = change("d", "D", 1, 2, "a", "x", "c")
    assert evaluated(first, both, third) == ("c", {"a": Why.MISSING, "d": Why.MISSING}, "c")


def test_where_an_author_wrote_two_changes_for_one_place_neither_counts() -> None:
    base, follower = change("a", "A", 1, 1), change("d", "D", 1, 3, "b")
    twins = change("b", "B", 1, 2, "a"), change("c", "B", 1, 2, "a")
    assert evaluated(base, *twins, follower) == (
        "a",
        {"b": Why.CONTESTED, "c": Why.CONTESTED, "d": Why.FOLLOWS},
        "a",
    )
    others = change("b", "B", 1, 2, "a"), change("c", "C", 1, 2, "a"), change("e", "B", 2, 3, "b")
    assert evaluated(base, *others) == ("abce", {}, "ce")


@pytest.mark.proves("M7")
def test_a_change_that_is_cut_off_contests_nothing() -> None:
    base, twins = change("a", "A", 1, 1), (change("b", "B", 1, 2, "a"), change("c", "B", 1, 2, "a"))
    assert evaluated(base, *twins, cut_off="c") == ("ab", {"c": Why.REVOKED}, "b")
    assert evaluated(base, *twins, cut_off="bc") == ("a", {"b": Why.REVOKED, "c": Why.REVOKED}, "a")


def test_of_several_reasons_the_one_that_lasts_is_shown() -> None:
    base, twins = change("a", "A", 1, 1), (change("b", "B", 1, 2, "a"), change("c", "B", 1, 2, "a"))
    stranded = evaluated(base, *twins, unreadable="abc", cut_off="a")[1]
    assert stranded == {"a": Why.REVOKED, "b": Why.CONTESTED, "c": Why.CONTESTED}
    assert evaluated(base, unreadable="a") == ("", {"a": Why.UNREADABLE}, "")


@pytest.mark.parametrize(("seq", "start_op"), [(2, 2), (0, 2), (1, 1), (1, 3)])
def test_an_author_begins_with_number_one_right_after_what_it_knew(seq: int, start_op: int) -> None:
    base = change("a", "A", 1, 1)
    assert evaluated(base, change("b", "B", seq, start_op, "a")) == ("a", {"b": Why.OUT_OF_ORDER}, "a")


def test_the_first_of_all_operations_is_number_one() -> None:
    assert evaluated(change("a", "A", 1, 2)) == ("", {"a": Why.OUT_OF_ORDER}, "")
    assert evaluated(change("a", "A", 1, 0)) == ("", {"a": Why.OUT_OF_ORDER}, "")


def test_an_author_knows_its_change_before_through_any_path_of_ancestors() -> None:
    changes = [change("a", "A", 1, 1), change("b", "A", 2, 2, "a"), change("c", "C", 1, 2, "a")]
    assert evaluated(*changes, change("d", "A", 3, 3, "b", "c")) == ("abcd", {}, "d")
    assert evaluated(*changes, change("d", "A", 3, 3, "c", "b")) == ("abcd", {}, "d")
    assert evaluated(*changes, change("d", "A", 3, 3, "c")) == ("abc", {"d": Why.OUT_OF_ORDER}, "bc")
    assert evaluated(*changes, change("d", "C", 2, 3, "c", "b")) == ("abcd", {}, "d")
    assert evaluated(*changes, change("d", "A", 2, 3, "b", "c"))[1]["d"] is Why.CONTESTED


def test_operations_are_numbered_after_the_highest_of_all_ancestors() -> None:
    long, short = change("a", "A", 1, 1, operations=7), change("b", "B", 1, 1, operations=2)
    for builds_on in (("a", "b"), ("b", "a")):
        assert evaluated(long, short, change("c", "C", 1, 8, *builds_on)) == ("abc", {}, "c")
        stranded = evaluated(long, short, change("c", "C", 1, 3, *builds_on))[1]
        assert stranded == {"c": Why.OUT_OF_ORDER}
    empty = change("b", "B", 1, 8, "a", operations=0)
    assert evaluated(long, empty, change("c", "C", 1, 8, "b")) == ("abc", {}, "c")


def test_the_document_takes_operations_up_to_its_limit_and_smaller_changes_after_a_large_one() -> None:
    half = DOCUMENT_OPERATIONS_MAX // 2
    parts = [change(name, name, 1, 1, operations=half) for name in "ab"]
    assert evaluated(*parts) == ("ab", {}, "ab")
    assert evaluated(*parts, change("c", "C", 1, 1)) == ("ab", {"c": Why.FULL}, "ab")
    assert evaluated(*parts, change("c", "C", 1, 1, operations=0)) == ("abc", {}, "abc")
    less = [parts[0], change("b", "B", 1, 1, operations=half - 1)]
    assert evaluated(*less, change("c", "C", 1, 1, operations=2), change("d", "D", 1, 1)) == (
        "abd",
        {"c": Why.FULL},
        "abd",
    )


def test_the_document_takes_changes_up_to_its_limit() -> None:
    changes = {
        one.hash: one
        for seq in range(1, DOCUMENT_CHANGES_MAX + 2)
        for one in [change(f"{seq:05}", "A", seq, 1, *([f"{seq - 1:05}"] if seq > 1 else []), operations=0)]
    }
    found = closed_set(changes)
    assert len(found.order) == DOCUMENT_CHANGES_MAX
    assert found.stranded == {f"{DOCUMENT_CHANGES_MAX + 1:05}".encode(): Why.FULL}
    assert found.heads == (f"{DOCUMENT_CHANGES_MAX:05}".encode(),)


# -- The view of entries -------------------------------------------------------------------------------------------

MANAGER: Final = frozenset({Role.MANAGER})
LOG_A, LOG_B, LOG_C = b"A" * 16, b"B" * 16, b"C" * 16
FIELDS: Final = DocumentFields("Riverside", "EUR", 2, ("north", "south"), 5000, b"2031", b"k" * 16)
FIRST: Final = first_document(LOG_A, FIELDS)
CAP: Final = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=700))
NAME: Final = make_change([FIRST, CAP], LOG_B, Edit(name="Lakeside"))
IDS: Final = [hashlib.sha256(bytes([number])).digest() for number in range(8)]


def digest_of(*heads: bytes) -> bytes:
    return hashlib.sha256(b"".join(sorted(parse_change(raw).hash for raw in heads))).digest()


def test_the_document_has_every_field_and_names_its_heads() -> None:
    west = make_change([FIRST], LOG_C, Edit(zones_added=("west",)))
    for order in permutations([(LOG_A, FIRST), (LOG_B, CAP), (LOG_C, west)]):
        view = VenueDocumentView()
        for seq, (log_id, raw) in enumerate(order, 1):
            view.fold(log_id, seq, IDS[seq], MANAGER, raw)
        assert view.document() == VenueDocument(
            name="Riverside",
            currency=Currency("EUR", 2),
            zones=("north", "south", "west"),
            per_tap_cap_minor=700,
            event=b"2031",
            card_id_key=b"k" * 16,
            digest=digest_of(CAP, west),
        )
        assert view.problem() is None
        assert (view.changes()[0], set(view.changes())) == (FIRST, {FIRST, CAP, west})
        assert (view.stranded(), view.refused()) == ((), ())


def test_refused_entries_are_shown_in_full_by_entry_id() -> None:
    view = VenueDocumentView()
    view.fold(LOG_A, 5, b"id 3", MANAGER, b"garbage")
    view.fold(LOG_A, 6, b"id 1", MANAGER, CAP)
    view.fold(LOG_B, 7, b"id 2", frozenset(Role) - MANAGER, CAP)
    assert view.refused() == (
        RefusedChange(b"id 1", LOG_A, 6, "its actor id is not the id of the log it is in"),
        RefusedChange(b"id 2", LOG_B, 7, "its author is not a manager"),
        RefusedChange(b"id 3", LOG_A, 5, "not an uncompressed Automerge change"),
    )
    assert view.stranded() == () and view.changes() == ()
    assert view.problem() == "no venue document has arrived here yet"


def test_stranded_entries_are_shown_in_full_by_entry_id_with_what_they_lack() -> None:
    view = VenueDocumentView()
    west = make_change([FIRST], LOG_C, Edit(zones_added=("west",)))
    both = make_change([FIRST, CAP, west], LOG_C, Edit(name="Both"))
    hashes = {raw: parse_change(raw).hash for raw in (FIRST, CAP, west, both)}
    view.fold(LOG_C, 9, b"id 2", MANAGER, both)
    view.fold(LOG_C, 9, b"id 1", MANAGER, both)
    view.fold(LOG_B, 4, b"id 3", MANAGER, CAP)
    assert view.stranded() == (
        StrandedChange(b"id 1", LOG_C, 9, Why.MISSING, (hashes[west],)),
        StrandedChange(b"id 2", LOG_C, 9, Why.MISSING, (hashes[west],)),
        StrandedChange(b"id 3", LOG_B, 4, Why.MISSING, (hashes[FIRST],)),
    )
    bare = VenueDocumentView()
    bare.fold(LOG_C, 9, b"id 1", MANAGER, both)
    [stranded] = bare.stranded()
    assert stranded.missing == tuple(sorted((hashes[CAP], hashes[west])))
    bare.fold(LOG_C, 8, b"id 0", MANAGER, west)
    assert [(one.entry_id, one.missing) for one in bare.stranded()] == [
        (b"id 0", (hashes[FIRST],)),
        (b"id 1", (hashes[CAP],)),
    ]


def trusting(*bodies: bytes) -> tuple[VenueDocumentView, TrustView]:
    """The first document, and entries of log B from seq 1 on, whose author can be revoked."""
    trust = TrustView()
    for log_id, serial in ((LOG_A, 1), (LOG_B, 2)):
        trust.open_log(log_id, serial)
        trust.hold(log_id, 0, bytes(32), IDS)
    view = VenueDocumentView(trust)
    view.fold(LOG_A, 1, IDS[1], MANAGER, FIRST)
    for seq, body in enumerate(bodies, 1):
        view.fold(LOG_B, seq, IDS[seq], MANAGER, body)
    return view, trust


def cut(seq: int | None, number: int) -> Statement:
    places = {} if seq is None else {LOG_B: Position(seq, IDS[seq])}
    return Statement(2, number, places, bytes([number]))


@pytest.mark.proves("M7")
def test_changes_outside_the_cut_count_no_more_and_again_with_a_raised_cut() -> None:
    view, trust = trusting(CAP, NAME)
    for number, seq, expected in (
        (1, 2, ("Lakeside", 700)),
        (2, 1, ("Riverside", 700)),
        (3, None, ("Riverside", 5000)),
    ):
        trust.revoke(cut(seq, number))
        document = view.document()
        assert document is not None
        assert (document.name, document.per_tap_cap_minor) == expected
    hashes = [parse_change(raw).hash for raw in (CAP, NAME)]
    assert len(set(hashes)) == 2
    assert [(one.seq, one.why) for one in sorted(view.stranded(), key=lambda one: one.seq)] == [
        (1, Why.REVOKED),
        (2, Why.REVOKED),
    ]
    trust.revoke(cut(2, 4))
    assert view.stranded() == ()


@pytest.mark.proves("M7")
def test_a_change_counts_while_one_of_the_entries_that_carry_it_does() -> None:
    view, trust = trusting(CAP, CAP)
    trust.revoke(cut(1, 1))
    assert view.changes() == (FIRST, CAP)
    trust.revoke(cut(0, 2))
    assert view.changes() == (FIRST,)
    assert [one.seq for one in sorted(view.stranded(), key=lambda one: one.seq)] == [1, 2]
    assert {one.why for one in view.stranded()} == {Why.REVOKED}


def test_a_change_inside_the_cut_that_builds_on_one_outside_counts_no_more() -> None:
    view, trust = trusting(NAME, CAP)
    assert view.changes() == (FIRST, CAP, NAME)
    trust.revoke(cut(1, 1))
    assert view.changes() == (FIRST,)
    assert {(one.seq, one.why) for one in view.stranded()} == {(1, Why.FOLLOWS), (2, Why.REVOKED)}


def test_change_that_comes_again_inside_the_cut_counts_though_it_was_looked_for_before() -> None:
    view, trust = trusting()
    view.fold(LOG_B, 3, IDS[3], MANAGER, CAP)
    trust.revoke(cut(2, 1))
    before = view.document()
    view.fold(LOG_B, 2, IDS[2], MANAGER, CAP)
    after = view.document()
    assert before is not None and after is not None
    assert (before.per_tap_cap_minor, after.per_tap_cap_minor) == (5000, 700)
