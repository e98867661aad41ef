"""What a terminal needs from the device it runs on: three small Protocols that `app.py` (and tests) implement.

* :class:`TapJournal`: durable money. Each call returns only when the bytes survive a power cut.
* :class:`Venue`: what the merged logs say, from memory; a tap never waits for the network or the disk here.
* :class:`Identity`: who this device is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh.core.currency import Currency
from mesh.core.kinds import Role
from mesh.ports import StatementSigner
from mesh.views.cards import CardStanding
from reader.intent import Intent, OpenIntent


@dataclass(frozen=True, slots=True)
class VenueTerms:
    """What this device holds of the venue document, as one tap applies it."""

    event: bytes
    """4 bytes, in every card record."""
    card_id_key: bytes
    """16 bytes; turns chip serial numbers into card ids."""
    currency: Currency
    per_tap_cap_minor: int
    document: bytes
    """SHA-256 over the sorted heads of the document, 32 bytes."""


class TapJournal(Protocol):
    """The device's own store, as a tap sees it; failures are `StorageError` and end the process."""

    async def store_intent(self, intent: Intent) -> None:
        """Make `intent` durable (fsync returned) before a byte of it goes to a card."""
        ...

    async def commit(self, intent: Intent) -> None:
        """Append the TAP entry and note in the same transaction that the intent is committed."""
        ...

    async def abort(self, intent: Intent) -> None:
        """Append the ABORT entry and drop the intent in the same transaction."""
        ...

    async def drop_intent(self, tap_id: bytes) -> None:
        """Forget the intent: its end is known. Dropping one that is not there is fine."""
        ...

    def open_intents(self) -> Sequence[OpenIntent]:
        """What was stored and not dropped, oldest first, and whether each was committed. Read once, at the start."""
        ...


class Venue(Protocol):
    """Views over the merged logs, kept in memory."""

    def terms(self) -> VenueTerms | None:
        """The venue document's part in a tap; `None` while this device holds no document."""
        ...

    def keys_by_id(self, key_id: bytes) -> Sequence[bytes]:
        """The 32-byte log keys, with this 4-byte id, of devices enrolled as reader or till."""
        ...

    def standing(
        self, card: bytes, record_hash: bytes, parent: bytes, tap_id: bytes, writer: bytes | None
    ) -> CardStanding:
        """What is known that speaks against this card showing this record, leaving out the tap `tap_id` itself.

        `record_hash` is SHA-256 of the record, 32 zero bytes for a blank card; `parent` and `writer` (the key id of
        the device that wrote it) are the record's own fields, `writer` None for a blank card.
        """
        ...

    def name_of(self, log_id: bytes) -> str:
        """The name people call the device that writes this log; its id in hexadecimal where unknown."""
        ...


class Identity(Protocol):
    """This device."""

    @property
    def name(self) -> str:
        """As enrolled."""
        ...

    @property
    def roles(self) -> frozenset[Role]:
        """From its certificate: `reader` may sell, `till` may raise a balance."""
        ...

    @property
    def signer(self) -> StatementSigner:
        """Seals card records with the log key; entries are the journal's to sign."""
        ...
