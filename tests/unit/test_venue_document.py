"""The venue document: one answer whatever the order, and no manager can stop a reader with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pytest
from automerge.core import ROOT, Document, ScalarType
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.currency import Currency
from mesh.core.kinds import Role
from mesh.limits import ENTRY_BODY_BYTES_MAX
from mesh.views.automerge_change import BadChange, ChangeTooBig, parse_change
from mesh.views.automerge_document import BadEdit, DocumentFields, Edit, first_document, make_change
from mesh.views.closed_set import Why
from mesh.views.venue_document import VenueDocument, VenueDocumentView

MANAGER = frozenset({Role.MANAGER})
LOG_A, LOG_B, LOG_C = b"A" * 16, b"B" * 16, b"C" * 16
FIELDS = DocumentFields("Riverside", "EUR", 2, ("north", "south"), 5000, b"2031", b"k" * 16)
FIRST = first_document(LOG_A, FIELDS)

Entry = tuple[bytes, int, bytes]
"""Log id, seq, body."""


def _entry_id(entry: Entry) -> bytes:
    return hashlib.sha256(repr(entry).encode()).digest()


def _view(entries: Sequence[Entry], roles: frozenset[Role] = MANAGER) -> VenueDocumentView:
    view = VenueDocumentView()
    for entry in entries:
        view.fold(entry[0], entry[1], _entry_id(entry), roles, entry[2])
    return view


def _document(view: VenueDocumentView) -> VenueDocument:
    document = view.document()
    assert document is not None, view.problem()
    return document


def _number(value: int) -> bytes:
    """Unsigned LEB128; below 64 it is also the signed one."""
    encoded = b""
    while value > 0x7F:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])


def _chunk(content: bytes) -> bytes:
    framed = b"\x01" + _number(len(content)) + content
    return bytes.fromhex("856f4a83") + hashlib.sha256(framed).digest()[:4] + framed


def _handmade(
    *,
    actor: bytes = LOG_B,
    seq: int = 1,
    start_op: int = 1,
    dependencies: Sequence[bytes] = (),
    rows: int = 1,
    action: int = 1,
    key_specification: int = 0x15,
) -> bytes:
    """A change no honest library writes: `rows` times "put null under a", run-length coded."""
    run = _number(rows * 2 if rows >= 64 else rows)  # an even number of seven bits keeps the sign bit clear
    columns = {
        key_specification: run + b"\x01a",
        0x34: _number(rows * 2 if rows >= 64 else rows),
        0x42: run + _number(action),
        0x56: run + b"\x00",
        0x70: run + b"\x00",
    }
    header = _number(len(dependencies)) + b"".join(sorted(dependencies)) + _number(len(actor)) + actor
    header += _number(seq) + _number(start_op) + b"\x00\x00\x00"
    header += _number(len(columns)) + b"".join(_number(key) + _number(len(data)) for key, data in columns.items())
    return _chunk(header + b"".join(columns.values()))


def test_first_document_of_a_venue_is_read_back() -> None:
    document = _document(_view([(LOG_A, 1, FIRST)]))
    heads = hashlib.sha256(parse_change(FIRST).hash).digest()
    assert document == VenueDocument(
        "Riverside", Currency("EUR", 2), ("north", "south"), 5000, b"2031", b"k" * 16, heads
    )


def test_envelope_agrees_with_the_library_that_wrote_it() -> None:
    changes = [FIRST, make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=1, zones_added=("east",)))]
    for theirs in Document.load(b"".join(changes)).get_changes([]):
        ours = parse_change(theirs.raw_bytes)
        assert (ours.hash, ours.actor, ours.seq, ours.start_op) == (
            theirs.hash,
            theirs.actor_id,
            theirs.seq,
            theirs.start_op,
        )
        assert (ours.max_op, ours.dependencies) == (theirs.max_op, tuple(theirs.deps))


def test_without_any_entry_there_is_no_document_and_it_says_so() -> None:
    view = VenueDocumentView()
    assert view.document() is None
    assert view.problem() == "no venue document has arrived here yet"


def test_two_managers_who_add_zones_at_once_both_succeed() -> None:
    east = make_change([FIRST], LOG_B, Edit(zones_added=("east",)))
    west = make_change([FIRST], LOG_C, Edit(zones_added=("west",), zones_removed=("south",)))
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, east), (LOG_C, 1, west)])
    assert _document(view).zones == ("east", "north", "west")


def test_edit_of_a_merged_document_names_both_heads() -> None:
    east = make_change([FIRST], LOG_B, Edit(zones_added=("east",)))
    west = make_change([FIRST], LOG_C, Edit(zones_added=("west",)))
    merged = _view([(LOG_A, 1, FIRST), (LOG_B, 1, east), (LOG_C, 1, west)])
    cap = make_change(merged.changes(), b"D" * 16, Edit(per_tap_cap_minor=900))
    assert set(parse_change(cap).dependencies) == {parse_change(east).hash, parse_change(west).hash}


def _history() -> list[Entry]:
    """Two managers at once, one who edits twice, one who equivocates and one whose change is missing its parent."""
    east = make_change([FIRST], LOG_B, Edit(zones_added=("east",)))
    cap = make_change([FIRST, east], LOG_B, Edit(per_tap_cap_minor=700))
    west = make_change([FIRST], LOG_C, Edit(zones_added=("west",), per_tap_cap_minor=300))
    one, two = (make_change([FIRST], b"D" * 16, Edit(name=name)) for name in ("One", "Two"))
    lost = make_change([FIRST], b"E" * 16, Edit(name="Lost"))
    stranded = make_change([FIRST, lost], b"F" * 16, Edit(name="Stranded"))
    unreadable = _handmade(actor=b"G" * 16, action=60)
    pairs = [(LOG_A, FIRST), (LOG_B, east), (LOG_B, cap), (LOG_C, west), (b"D" * 16, one), (b"D" * 16, two)]
    pairs += [(b"F" * 16, stranded), (b"G" * 16, unreadable), (LOG_C, east), (LOG_B, b"garbage")]
    return [(log_id, seq, body) for seq, (log_id, body) in enumerate(pairs, 1)]


HISTORY = _history()
IN_ORDER = _view(HISTORY)


@pytest.mark.proves("M3")
@given(st.permutations(HISTORY), st.lists(st.sampled_from(HISTORY)), st.integers(0, len(HISTORY)))
def test_document_is_the_same_in_any_order_with_repeats_and_however_often_it_is_read(
    shuffled: list[Entry], repeats: list[Entry], read_after: int
) -> None:
    view = _view(shuffled[:read_after])
    view.document()
    for log_id, seq, body in [*shuffled[read_after:], *repeats]:
        view.fold(log_id, seq, _entry_id((log_id, seq, body)), MANAGER, body)
    assert view.document() == IN_ORDER.document()
    assert view.document() is not None
    assert view.stranded() == IN_ORDER.stranded()
    assert view.refused() == IN_ORDER.refused()


def test_every_entry_that_does_not_count_is_shown_with_its_reason() -> None:
    reasons = {(stranded.log_id[:1], stranded.why) for stranded in IN_ORDER.stranded()}
    assert reasons == {
        (b"D", Why.CONTESTED),
        (b"F", Why.MISSING),
        (b"G", Why.UNREADABLE),
    }
    assert {refused.log_id[:1] for refused in IN_ORDER.refused()} == {b"B", b"C"}


def test_change_that_arrives_before_what_it_builds_on_is_stranded_until_then() -> None:
    cap = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=700))
    view = _view([(LOG_B, 1, cap)])
    assert view.document() is None
    (stranded,) = view.stranded()
    assert (stranded.why, stranded.missing) == (Why.MISSING, (parse_change(FIRST).hash,))
    view.fold(LOG_A, 1, b"first", MANAGER, FIRST)
    assert _document(view).per_tap_cap_minor == 700
    assert view.stranded() == ()


@pytest.mark.proves("M7")
def test_change_by_a_device_that_is_not_a_manager_counts_for_nothing() -> None:
    cap = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=1_000_000))
    view = _view([(LOG_A, 1, FIRST)])
    view.fold(LOG_B, 1, b"id", frozenset({Role.READER, Role.TILL}), cap)
    assert _document(view).per_tap_cap_minor == 5000
    assert [refused.reason for refused in view.refused()] == ["its author is not a manager"]


def test_change_that_speaks_for_another_author_is_refused() -> None:
    cap = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=1_000_000))
    view = _view([(LOG_A, 1, FIRST), (LOG_C, 1, cap)])
    assert _document(view).per_tap_cap_minor == 5000
    assert "actor id" in view.refused()[0].reason


def test_whole_document_or_two_changes_in_one_entry_are_refused() -> None:
    document = Document.load(FIRST).save()
    cap = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=700))
    for body in (document, FIRST + cap, FIRST + FIRST, b""):
        with pytest.raises(BadChange):
            parse_change(body)


def test_compressed_change_is_refused_before_it_is_inflated() -> None:
    document = Document(LOG_B)
    with document.transaction() as transaction:
        transaction.put(ROOT, "name", ScalarType.Str, "y" * 100_000)
    compressed = document.get_changes([])[0].bytes
    assert len(compressed) < ENTRY_BODY_BYTES_MAX
    with pytest.raises(BadChange, match="uncompressed"):
        parse_change(compressed)


def test_compressed_column_is_refused_before_it_is_inflated() -> None:
    with pytest.raises(BadChange, match="compressed"):
        parse_change(_handmade(key_specification=0x1D))


def test_twenty_bytes_that_claim_a_billion_operations_are_refused_before_they_are_expanded() -> None:
    bomb = _handmade(rows=10**9)
    assert len(bomb) < 120
    with pytest.raises(ChangeTooBig):
        parse_change(bomb)


def test_handmade_change_is_otherwise_one_the_library_takes() -> None:
    view = _view([(LOG_B, 1, _handmade())])
    assert view.stranded() == ()
    assert view.problem() is not None


@pytest.mark.parametrize("deviation", [{"seq": 2}, {"start_op": 2**31}, {"start_op": 5}])
def test_author_who_leaves_out_numbers_is_stranded_alone(deviation: dict[str, int]) -> None:
    greedy = _handmade(dependencies=[parse_change(FIRST).hash], **{"start_op": 10, **deviation})  # type: ignore[arg-type]
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, greedy)])
    assert [stranded.why for stranded in view.stranded()] == [Why.OUT_OF_ORDER]
    assert _document(view).name == "Riverside"


def test_unreadable_change_takes_only_those_that_build_on_it_along() -> None:
    poison = _handmade(start_op=parse_change(FIRST).max_op + 1, dependencies=[parse_change(FIRST).hash], action=60)
    follower = _handmade(
        actor=LOG_C,
        start_op=parse_change(poison).max_op + 1,
        dependencies=[parse_change(poison).hash],
    )
    cap = make_change([FIRST], b"D" * 16, Edit(per_tap_cap_minor=700))
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, poison), (LOG_C, 1, follower), (b"D" * 16, 1, cap)])
    assert _document(view).per_tap_cap_minor == 700
    assert {(s.log_id, s.why) for s in view.stranded()} == {(LOG_B, Why.UNREADABLE), (LOG_C, Why.FOLLOWS)}


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("per_tap_cap_minor", ScalarType.Str, "5000"),
        ("per_tap_cap_minor", ScalarType.Int, -1),
        ("per_tap_cap_minor", ScalarType.Boolean, True),
        ("per_tap_cap_minor", ScalarType.Int, 2**40),
        ("currency", ScalarType.Str, "euro"),
        ("exponent", ScalarType.Int, 9),
        ("event", ScalarType.Bytes, b"12345"),
        ("card_id_key", ScalarType.Null, None),
        ("name", ScalarType.Str, "x" * 65),
        ("zones", ScalarType.Str, "north"),
    ],
)
def test_field_that_cannot_be_meant_leaves_no_document_and_names_itself(
    key: str, kind: ScalarType, value: str | int | bytes | None
) -> None:
    document = Document.load(FIRST)
    document.set_actor(LOG_B)
    heads = document.get_heads()
    with document.transaction() as transaction:
        transaction.put(ROOT, key, kind, value)
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, document.get_changes(heads)[0].raw_bytes)])
    assert view.document() is None
    assert key in (view.problem() or "")


def test_manager_corrects_a_field_that_cannot_be_meant() -> None:
    document = Document.load(FIRST)
    document.set_actor(LOG_B)
    heads = document.get_heads()
    with document.transaction() as transaction:
        transaction.put(ROOT, "per_tap_cap_minor", ScalarType.Str, "lots")
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, document.get_changes(heads)[0].raw_bytes)])
    view.fold(LOG_C, 1, b"cure", MANAGER, make_change(view.changes(), LOG_C, Edit(per_tap_cap_minor=800)))
    assert _document(view).per_tap_cap_minor == 800


@pytest.mark.parametrize(
    "edit",
    [
        Edit(),
        Edit(per_tap_cap_minor=0),
        Edit(zones_removed=("north", "south")),
        Edit(zones_added=("no\nrth",)),
        Edit(name=""),
    ],
)
def test_edit_that_cannot_be_meant_is_refused_where_it_is_made(edit: Edit) -> None:
    with pytest.raises(BadEdit):
        make_change([FIRST], LOG_B, edit)


def test_first_document_must_be_complete() -> None:
    with pytest.raises(BadEdit):
        first_document(LOG_A, replace(FIELDS, zones=()))
    with pytest.raises(BadEdit):
        make_change((), LOG_A, Edit(name="Riverside"))


@given(st.binary(max_size=200))
def test_garbage_counts_for_nothing(garbage: bytes) -> None:
    view = _view([(LOG_A, 1, FIRST), (LOG_B, 1, garbage)])
    assert _document(view).name == "Riverside"
    assert len(view.refused()) == 1


@given(st.integers(0, len(FIRST) - 13), st.integers(1, 255))
def test_change_damaged_and_given_a_fresh_checksum_never_ends_the_reader(at: int, flip: int) -> None:
    content = bytearray(FIRST[10:] if FIRST[9] < 0x80 else FIRST[11:])
    content[at % len(content)] ^= flip
    view = _view([(LOG_A, 1, _chunk(bytes(content)))])
    view.document()
    assert view.problem() is not None or view.document() is not None
