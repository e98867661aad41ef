"""What the merged logs say, as a tap asks it: the terms, whose seals hold, what speaks against a wristband. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from mesh.core.currency import Currency
from mesh.views.card_record import NO_PARENT, record_hash
from mesh.views.cards import CardStanding
from mesh.views.everything import Views
from reader.card import BLANK_HASH, Blank, CardView, Shown, card_id, read_card
from reader.ports import Venue, VenueTerms
from reader.risk import Presented

NO_CURRENCY: Final = Currency("?", 2)
"""Before a venue document has come there are no orders, so no amount either."""


class VenueViews:
    """Implements `Venue` over a device's views."""

    def __init__(self, views: Views, name_of: Callable[[bytes], str]) -> None:
        self._views = views
        self.name_of = name_of

    def terms(self) -> VenueTerms | None:
        document = self._views.venue.document()
        if document is None:
            return None
        return VenueTerms(
            document.event,
            document.card_id_key,
            document.currency,
            document.per_tap_cap_minor,
            document.digest,
        )

    def keys_by_id(self, key_id: bytes) -> Sequence[bytes]:
        return self._views.devices.sealing_keys(key_id)

    def standing(
        self, card: bytes, record_hash: bytes, parent: bytes, tap_id: bytes, writer: bytes | None
    ) -> CardStanding:
        standing = self._views.cards.standing(card, record_hash, parent, tap_id)
        revoked = [] if writer is None else self._revoked(writer)
        if not revoked or self._views.cards.writes(card, record_hash):
            return standing
        return replace(standing, unvouched=revoked[0])

    def _revoked(self, writer: bytes) -> list[str]:
        """Names of the revoked devices among those that a record's writer may be."""
        known = self._views.devices.sealing(writer)
        return [device.name for device in known if device.serial in self._views.trust.revocations]

    @property
    def currency(self) -> Currency:
        terms = self.terms()
        return NO_CURRENCY if terms is None else terms.currency


def present(venue: Venue, slots: tuple[bytes, bytes], uid: bytes, serial: bytes, tap_id: bytes) -> Presented:
    """A wristband as it was read, with everything that is known here about the record it shows.

    `uid` and `serial` are the chip's, as for :func:`reader.card.card_id`; `tap_id` is that of the order at the counter.
    """
    terms = venue.terms()
    view = read_card(slots, venue.keys_by_id)
    if terms is None:
        return Presented(b"", view, None)
    card = card_id(terms.card_id_key, uid, serial)
    shown = _record_of_view(view)
    standing = None
    if shown is not None:
        record, parent, writer = shown
        standing = venue.standing(card, record, parent, tap_id, writer)
    return Presented(card, view, standing)


def _record_of_view(view: CardView) -> tuple[bytes, bytes, bytes | None] | None:
    """(hash of the record shown, its parent, key id of its writer), or `None` where there is no record to ask about."""
    match view:
        case Shown(record=record):
            return record_hash(record.encode()), record.parent, record.reader
        case Blank():
            return BLANK_HASH, NO_PARENT, None
        case _:
            return None
