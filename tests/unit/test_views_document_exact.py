"""The venue document's fields at each of their bounds, what an edit leaves alone, and what it may not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from automerge.core import ROOT, Document, ObjType, ScalarType, Transaction

from mesh.limits import AMOUNT_MINOR_MAX, ENTRY_BODY_BYTES_MAX, VENUE_NAME_CHARS_MAX, ZONE_CHARS_MAX, ZONES_MAX
from mesh.views.automerge_change import parse_change
from mesh.views.automerge_document import (
    BadDocument,
    BadEdit,
    DocumentFields,
    Edit,
    Unreadable,
    _guarded,
    check_fields,
    first_document,
    is_zone_name,
    load,
    make_change,
    read_fields,
)

LOG_A, LOG_B = b"A" * 16, b"B" * 16
FIELDS: Final = DocumentFields("Riverside", "EUR", 2, ("north", "south"), 5000, b"2031", b"k" * 16)
FIRST: Final = first_document(LOG_A, FIELDS)


def made(edit: Callable[[Transaction], object]) -> bytes:
    """What some other program may have put on top of the first document."""
    document = Document.load(FIRST)
    document.set_actor(LOG_B)
    heads = document.get_heads()
    with document.transaction() as transaction:
        edit(transaction)
    raw: bytes = document.get_changes(heads)[0].raw_bytes
    return raw


def fields_after(edit: Callable[[Transaction], object]) -> DocumentFields:
    return read_fields(load([FIRST, made(edit)]))


def put(key: str, kind: ScalarType, value: Any) -> Callable[[Transaction], object]:
    return lambda transaction: transaction.put(ROOT, key, kind, value)


# -- Reading -------------------------------------------------------------------------------------------------------


def test_first_document_is_read_back_field_by_field_and_is_its_authors() -> None:
    raw = first_document(LOG_A, FIELDS)
    assert read_fields(load([raw])) == FIELDS
    change = parse_change(raw)
    assert (change.actor, change.seq, change.start_op, change.operations) == (LOG_A, 1, 1, 9)
    document = load([raw])
    found = document.get(ROOT, "zones")
    assert found is not None and found[0] == ObjType.Map
    for zone in FIELDS.zones:
        marked = document.get(found[1], zone)
        assert marked is not None and marked[0] == (ScalarType.Boolean, True)


GOOD: Final[list[tuple[str, ScalarType, Any]]] = [
    ("name", ScalarType.Str, "x"),
    ("name", ScalarType.Str, "é" * VENUE_NAME_CHARS_MAX),
    ("currency", ScalarType.Str, "JPY"),
    ("exponent", ScalarType.Int, 0),
    ("exponent", ScalarType.Int, 4),
    ("per_tap_cap_minor", ScalarType.Int, 1),
    ("per_tap_cap_minor", ScalarType.Int, AMOUNT_MINOR_MAX),
    ("per_tap_cap_minor", ScalarType.Uint, 900),
    ("event", ScalarType.Bytes, bytes(4)),
    ("card_id_key", ScalarType.Bytes, bytes(16)),
]
BAD: Final[list[tuple[str, ScalarType, Any]]] = [
    ("name", ScalarType.Str, ""),
    ("name", ScalarType.Str, "x" * (VENUE_NAME_CHARS_MAX + 1)),
    ("name", ScalarType.Str, "two\nlines"),
    ("name", ScalarType.Bytes, b"bytes"),
    ("currency", ScalarType.Str, "EURO"),
    ("currency", ScalarType.Str, "eur"),
    ("currency", ScalarType.Int, 978),
    ("exponent", ScalarType.Int, -1),
    ("exponent", ScalarType.Int, 5),
    ("exponent", ScalarType.Boolean, True),
    ("exponent", ScalarType.Str, "2"),
    ("per_tap_cap_minor", ScalarType.Int, 0),
    ("per_tap_cap_minor", ScalarType.Int, AMOUNT_MINOR_MAX + 1),
    ("per_tap_cap_minor", ScalarType.Boolean, True),
    ("event", ScalarType.Bytes, bytes(3)),
    ("event", ScalarType.Bytes, bytes(5)),
    ("event", ScalarType.Str, "2031"),
    ("card_id_key", ScalarType.Bytes, bytes(15)),
    ("card_id_key", ScalarType.Bytes, bytes(17)),
    ("card_id_key", ScalarType.Str, "k" * 16),
]


@pytest.mark.parametrize(("key", "kind", "value"), GOOD)
def test_values_at_the_end_of_their_range_are_read(key: str, kind: ScalarType, value: Any) -> None:
    changed: dict[str, Any] = {key: value}
    assert fields_after(put(key, kind, value)) == replace(FIELDS, **changed)
    check_fields(replace(FIELDS, **changed))
    assert read_fields(load([first_document(LOG_A, replace(FIELDS, **changed))])) == replace(FIELDS, **changed)


@pytest.mark.parametrize(("key", "kind", "value"), BAD)
def test_values_that_cannot_be_meant_are_named_where_they_are_read_and_where_they_are_made(
    key: str, kind: ScalarType, value: Any
) -> None:
    with pytest.raises(BadDocument, match=f"field '{key}' is missing or cannot be meant"):
        fields_after(put(key, kind, value))
    changed: dict[str, Any] = {key: value}
    for check in (check_fields, lambda fields: first_document(LOG_A, fields)):
        with pytest.raises(BadEdit) as refused:
            check(replace(FIELDS, **changed))
        assert str(refused.value) == f"the venue document's field {key!r} cannot be {value!r}"


@pytest.mark.parametrize("key", ["name", "currency", "exponent", "per_tap_cap_minor", "event", "card_id_key"])
def test_a_field_that_was_taken_away_or_made_a_list_is_missing(key: str) -> None:
    for edit in (
        lambda transaction: transaction.delete(ROOT, key),
        lambda transaction: transaction.put_object(ROOT, key, ObjType.Map),
        lambda transaction: transaction.put_object(ROOT, key, ObjType.List),
    ):
        with pytest.raises(BadDocument, match=f"field '{key}' is missing"):
            fields_after(edit)


def zones_of(*zones: str) -> Callable[[Transaction], object]:
    def edit(transaction: Transaction) -> None:
        made_here = transaction.put_object(ROOT, "zones", ObjType.Map)
        for zone in zones:
            transaction.put(made_here, zone, ScalarType.Boolean, True)

    return edit


def test_zones_are_read_in_order_up_to_their_number() -> None:
    assert fields_after(zones_of("b", "a", "c")).zones == ("a", "b", "c")
    most = [f"{number:02}" for number in range(ZONES_MAX)]
    assert fields_after(zones_of(*most)).zones == tuple(most)
    for zones in ([], [*most, "one more"], ["good", "bad\n"], ["bad\n", "good"]):
        with pytest.raises(BadDocument, match="zones are missing or cannot be meant"):
            fields_after(zones_of(*zones))


@pytest.mark.parametrize(
    "edit",
    [
        put("zones", ScalarType.Str, "north"),
        lambda transaction: transaction.delete(ROOT, "zones"),
        lambda transaction: transaction.put_object(ROOT, "zones", ObjType.List),
    ],
)
def test_zones_of_another_shape_are_missing(edit: Callable[[Transaction], object]) -> None:
    with pytest.raises(BadDocument, match="zones are missing"):
        fields_after(edit)


@pytest.mark.parametrize("zone", ["n", "north stage", "z" * ZONE_CHARS_MAX, "~!"])
def test_zone_names_are_printable_ascii(zone: str) -> None:
    assert is_zone_name(zone)


@pytest.mark.parametrize(
    "zone", ["", "z" * (ZONE_CHARS_MAX + 1), "nörth", "no\nrth", " north", "north ", "\x7f", 7, None]
)
def test_what_cannot_be_announced_or_shown_is_no_zone_name(zone: object) -> None:
    assert not is_zone_name(zone)


def test_changes_are_loaded_all_of_them_or_not_at_all() -> None:
    cap = make_change([FIRST], LOG_B, Edit(per_tap_cap_minor=700))
    assert read_fields(load([FIRST, cap])).per_tap_cap_minor == 700
    orphan = make_change([FIRST, cap], LOG_B, Edit(name="Lakeside"))
    with pytest.raises(Unreadable, match="cannot apply a change: "):
        load([FIRST, orphan])
    with pytest.raises(Unreadable, match="left a change out"):
        load([FIRST, cap, cap])
    with pytest.raises(Unreadable, match="cannot apply a change: "):
        load([FIRST, b"garbage that is no chunk"])


# -- What the library raises ---------------------------------------------------------------------------------------


class PanicException(BaseException):
    """Named as the library names a panic."""


def raising(error: BaseException) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


@pytest.mark.parametrize("error", [Exception("bytes it dislikes"), PanicException("bytes it dislikes")])
def test_what_the_library_raises_is_an_unreadable_change(error: BaseException) -> None:
    with pytest.raises(Unreadable) as caught:
        _guarded(raising(error))
    assert str(caught.value) == "Automerge cannot apply a change: bytes it dislikes"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a mistake of ours"), SystemExit(1)])
def test_nothing_else_is_hidden_as_an_unreadable_change(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        _guarded(raising(error))
    assert caught.value is error
    assert _guarded(lambda: 7) == 7


# -- Editing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (Edit(name="Lakeside"), {"name": "Lakeside"}),
        (Edit(currency="JPY"), {"currency": "JPY"}),
        (Edit(exponent=0), {"exponent": 0}),
        (Edit(per_tap_cap_minor=1), {"per_tap_cap_minor": 1}),
        (Edit(event=b"2032"), {"event": b"2032"}),
        (Edit(card_id_key=b"l" * 16), {"card_id_key": b"l" * 16}),
        (Edit(zones_added=("west", "east")), {"zones": ("east", "north", "south", "west")}),
        (Edit(zones_removed=("south",)), {"zones": ("north",)}),
        (Edit(zones_added=("west",), zones_removed=("north",)), {"zones": ("south", "west")}),
        (Edit(name="Lakeside", zones_added=("west",)), {"name": "Lakeside", "zones": ("north", "south", "west")}),
    ],
)
def test_an_edit_changes_what_it_names_and_leaves_the_rest(edit: Edit, changed: dict[str, Any]) -> None:
    raw = make_change([FIRST], LOG_B, edit)
    assert read_fields(load([FIRST, raw])) == replace(FIELDS, **changed)
    change, first = parse_change(raw), parse_change(FIRST)
    assert (change.actor, change.seq, change.dependencies) == (LOG_B, 1, (first.hash,))
    assert change.start_op == first.max_op + 1
    assert change.operations == len(changed) + (
        len(edit.zones_added) + len(edit.zones_removed) - 1 if "zones" in changed else 0
    )


def test_two_managers_who_add_zones_at_once_both_keep_theirs() -> None:
    changes = [
        make_change([FIRST], name * 16, Edit(zones_added=(zone,))) for name, zone in ((b"B", "east"), (b"C", "west"))
    ]
    assert read_fields(load([FIRST, *changes])).zones == ("east", "north", "south", "west")
    cure = made(put("zones", ScalarType.Str, "broken"))
    fixed = make_change([FIRST, cure], b"D" * 16, Edit(zones_added=("north",)))
    assert read_fields(load([FIRST, cure, fixed])).zones == ("north",)


def refused(edit: Edit, actor: bytes = LOG_B, changes: tuple[bytes, ...] = (FIRST,)) -> str:
    with pytest.raises(BadEdit) as error:
        make_change(changes, actor, edit)
    return str(error.value)


@pytest.mark.parametrize("actor", [b"", b"B" * 15, b"B" * 17])
def test_the_actor_of_a_change_is_the_id_of_its_log(actor: bytes) -> None:
    assert refused(Edit(name="Lakeside"), actor) == "the actor of a change is the 16-byte id of the log it goes into"


def test_an_edit_that_changes_nothing_is_not_made() -> None:
    assert refused(Edit()) == "the edit changes nothing; no change was made"


def test_an_edit_that_leaves_no_readable_document_is_not_made_and_says_why() -> None:
    assert refused(Edit(per_tap_cap_minor=0)) == (
        "the edit was not made: the venue document's field 'per_tap_cap_minor' is missing or cannot be meant: "
        "a manager corrects it"
    )
    assert refused(Edit(zones_removed=("north", "south"))).startswith(
        "the edit was not made: the venue document's zones"
    )
    assert refused(Edit(name="Riverside"), changes=()).startswith("the edit was not made: the venue document's field")


@pytest.mark.parametrize("zones", [("bad\n",), ("good", ""), ("", "good")])
def test_a_name_that_can_be_no_zone_is_said_whichever_it_is(zones: tuple[str, ...]) -> None:
    bad = next(zone for zone in zones if not is_zone_name(zone))
    said = f"{bad!r} cannot be a zone: it has 1 to 32 printable ASCII characters"
    assert refused(Edit(zones_added=zones)) == said
    with pytest.raises(BadEdit) as error:
        check_fields(replace(FIELDS, zones=zones))
    assert str(error.value) == said


def test_an_edit_larger_than_an_entry_is_to_be_made_in_several() -> None:
    said = "the edit does not fit into one entry: make several smaller ones"
    spare = ENTRY_BODY_BYTES_MAX - len(made(put("card_id_key", ScalarType.Bytes, bytes(20_000)))) + 20_000
    assert len(made(put("card_id_key", ScalarType.Bytes, bytes(spare)))) == ENTRY_BODY_BYTES_MAX
    assert refused(Edit(card_id_key=bytes(spare + 1))) == said
    assert refused(Edit(card_id_key=bytes(spare))).startswith("the edit was not made")
    zones = tuple(f"{number:04}" for number in range(2048))
    assert refused(Edit(zones_added=zones)).startswith("the edit was not made: the venue document's zones")
