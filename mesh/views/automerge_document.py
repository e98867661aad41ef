"""The only file that talks to Automerge: apply checked changes, read the venue's fields, make a new change.

The bindings (automerge 1.0.0rc1) raise a plain `Exception` for bytes they dislike, and a Rust panic arrives as
`pyo3_runtime.PanicException`, a `BaseException` that leaves the document it happened in locked. Both are caught here,
in one place, and the document is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from automerge.core import ROOT, Document, ObjType, ScalarType, Transaction

from mesh.core.currency import CURRENCY_EXPONENT_MAX, is_currency_code
from mesh.errors import LocalError, PeerError
from mesh.limits import (
    AMOUNT_MINOR_MAX,
    DOCUMENT_CHANGE_OPERATIONS_MAX,
    ENTRY_BODY_BYTES_MAX,
    VENUE_NAME_CHARS_MAX,
    ZONE_CHARS_MAX,
    ZONES_MAX,
)
from mesh.views.automerge_change import parse_change

EVENT_BYTES: Final = 4
CARD_ID_KEY_BYTES: Final = 16
ACTOR_BYTES: Final = 16
_T = TypeVar("_T")


class Unreadable(PeerError):
    """Automerge cannot apply these changes."""


class BadDocument(PeerError):
    """The document lacks a field, or a manager put something there that cannot be meant."""


class BadEdit(LocalError):
    """An edit that changes nothing or cannot be meant; no change was made."""


@dataclass(frozen=True, slots=True)
class DocumentFields:
    """The fields of a complete venue document, checked."""

    name: str
    currency: str
    exponent: int
    zones: tuple[str, ...]
    per_tap_cap_minor: int
    event: bytes
    card_id_key: bytes


@dataclass(frozen=True, slots=True)
class Edit:
    """What a manager changes; None leaves a field as it is. Zones merge one by one, other fields by last writer."""

    name: str | None = None
    currency: str | None = None
    exponent: int | None = None
    zones_added: tuple[str, ...] = ()
    zones_removed: tuple[str, ...] = ()
    per_tap_cap_minor: int | None = None
    event: bytes | None = None
    card_id_key: bytes | None = None


def load(changes: Sequence[bytes]) -> Document:
    """Apply a closed set of raw changes, ancestors first, or raise :class:`Unreadable`."""
    document = _guarded(lambda: Document.load(b"".join(changes)))
    if len(_guarded(lambda: document.get_changes([]))) != len(changes):
        raise Unreadable("Automerge left a change out")
    return document


def read_fields(document: Document) -> DocumentFields:
    """Read and check the venue's fields, or raise :class:`BadDocument`."""
    scalars = {field: _guarded(partial(_scalar, document, field)) for field in _SCALARS}
    for field, allowed in _SCALARS.items():
        if not allowed(scalars[field]):
            raise BadDocument(
                f"the venue document's field {field!r} is missing or cannot be meant: a manager corrects it"
            )
    zones = _guarded(lambda: _zones(document))
    if not 1 <= len(zones) <= ZONES_MAX or not all(map(is_zone_name, zones)):
        raise BadDocument("the venue document's zones are missing or cannot be meant: a manager corrects them")
    name, currency, exponent = scalars["name"], scalars["currency"], scalars["exponent"]
    cap, event, card_id_key = scalars["per_tap_cap_minor"], scalars["event"], scalars["card_id_key"]
    assert isinstance(name, str) and isinstance(currency, str) and isinstance(exponent, int)
    assert isinstance(cap, int) and isinstance(event, bytes) and isinstance(card_id_key, bytes)
    return DocumentFields(name, currency, exponent, zones, cap, event, card_id_key)


def make_change(changes: Sequence[bytes], actor: bytes, edit: Edit) -> bytes:
    """Return one raw change by `actor` (16 bytes: the log id it will be an entry of) on top of `changes`.

    `changes` are those that count (`VenueDocumentView.changes()`); empty makes the first document, and then the edit
    sets every field. Raises :class:`BadEdit` where the result would not be a readable document.
    """
    if len(actor) != ACTOR_BYTES:
        raise BadEdit("the actor of a change is the 16-byte id of the log it goes into")
    _check_zones(edit.zones_added)
    document = load(changes) if changes else Document()
    document.set_actor(actor)
    heads = document.get_heads()
    with document.transaction() as transaction:
        _apply(transaction, edit)
    made = document.get_changes(heads)
    if not made:
        raise BadEdit("the edit changes nothing; no change was made")
    raw = made[0].raw_bytes
    if len(raw) > ENTRY_BODY_BYTES_MAX or parse_change(raw).operations > DOCUMENT_CHANGE_OPERATIONS_MAX:
        raise BadEdit("the edit does not fit into one entry: make several smaller ones")
    try:
        read_fields(load([*changes, raw]))
    except BadDocument as error:
        raise BadEdit(f"the edit was not made: {error}") from error
    return raw


def first_document(actor: bytes, fields: DocumentFields) -> bytes:
    """The change that makes a venue's document; see :func:`make_change`."""
    check_fields(fields)
    edit = Edit(
        name=fields.name,
        currency=fields.currency,
        exponent=fields.exponent,
        zones_added=fields.zones,
        per_tap_cap_minor=fields.per_tap_cap_minor,
        event=fields.event,
        card_id_key=fields.card_id_key,
    )
    return make_change((), actor, edit)


def check_fields(fields: DocumentFields) -> None:
    """Raise :class:`BadEdit` where a field cannot be meant; what :func:`read_fields` checks when reading."""
    for field, allowed in _SCALARS.items():
        if not allowed(getattr(fields, field)):
            raise BadEdit(f"the venue document's field {field!r} cannot be {getattr(fields, field)!r}")
    _check_zones(fields.zones)


def _check_zones(zones: tuple[str, ...]) -> None:
    for zone in zones:
        if not is_zone_name(zone):
            raise BadEdit(f"{zone!r} cannot be a zone: it has 1 to {ZONE_CHARS_MAX} printable ASCII characters")


def is_zone_name(zone: object) -> bool:
    """Zones are announced in mDNS and shown to people: 1 to 32 printable ASCII characters, no space at either end."""
    if not isinstance(zone, str) or not 1 <= len(zone) <= ZONE_CHARS_MAX:
        return False
    return zone.isascii() and zone.isprintable() and zone == zone.strip()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= VENUE_NAME_CHARS_MAX and value.isprintable()


def _is_within(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


_SCALARS: Final[dict[str, Callable[[object], bool]]] = {
    "name": _is_name,
    "currency": lambda value: isinstance(value, str) and is_currency_code(value),
    "exponent": lambda value: _is_within(value, 0, CURRENCY_EXPONENT_MAX),
    "per_tap_cap_minor": lambda value: _is_within(value, 1, AMOUNT_MINOR_MAX),
    "event": lambda value: isinstance(value, bytes) and len(value) == EVENT_BYTES,
    "card_id_key": lambda value: isinstance(value, bytes) and len(value) == CARD_ID_KEY_BYTES,
}


def _scalar(document: Document, key: str) -> object:
    found = document.get(ROOT, key)
    if found is None or not isinstance(found[0], tuple):
        return None
    kind, value = found[0]
    # The bindings take bytes and give back a list of integers.
    return bytes(value) if kind == ScalarType.Bytes and isinstance(value, list | bytes) else value


def _zones(document: Document) -> tuple[str, ...]:
    found = document.get(ROOT, "zones")
    if found is None or found[0] != ObjType.Map:
        return ()
    return tuple(sorted(document.keys(found[1])))


def _apply(transaction: Transaction, edit: Edit) -> None:
    for key, kind, value in (
        ("name", ScalarType.Str, edit.name),
        ("currency", ScalarType.Str, edit.currency),
        ("exponent", ScalarType.Int, edit.exponent),
        ("per_tap_cap_minor", ScalarType.Int, edit.per_tap_cap_minor),
        ("event", ScalarType.Bytes, edit.event),
        ("card_id_key", ScalarType.Bytes, edit.card_id_key),
    ):
        if value is not None:
            transaction.put(ROOT, key, kind, value)
    found = transaction.get(ROOT, "zones")
    if not edit.zones_added and not edit.zones_removed:
        return
    zones = found[1] if found is not None and found[0] == ObjType.Map else None
    if zones is None:
        zones = transaction.put_object(ROOT, "zones", ObjType.Map)
    for zone in edit.zones_added:
        transaction.put(zones, zone, ScalarType.Boolean, True)
    for zone in edit.zones_removed:
        transaction.delete(zones, zone)


def _guarded(call: Callable[[], _T]) -> _T:
    """Run a call into Automerge; see this module's first lines for what it may raise."""
    try:
        return call()
    except BaseException as error:
        if type(error) is Exception or type(error).__name__ == "PanicException":
            raise Unreadable(f"Automerge cannot apply a change: {error}") from error
        raise
