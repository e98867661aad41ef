"""Every bound in the system, with its unit last in the name (DESIGN.md, rule 8).

A value over its bound is refused by the side that sees it, with the error that blames the right party. Changing
one of these is a protocol change where the comment says so.
"""

from typing import Final

# --- Entry (protocol) -------------------------------------------------------------------------------------------
ENTRY_BODY_BYTES_MAX: Final = 32 * 1024
"""Largest body of one entry. A fork proof embeds two entries and a genesis: all but absurdly large ones fit."""
ENTRY_BYTES_MAX: Final = ENTRY_BODY_BYTES_MAX + 256
"""Largest entry: payload and signature."""
ENTRY_SEQ_MAX: Final = 2**32 - 1
ENTRY_KIND_MAX: Final = 2**16 - 1
TIME_MS_MAX: Final = 2**53
"""Milliseconds since 1970; the largest integer every JSON reader keeps exact."""
CBOR_DEPTH_MAX: Final = 8
"""Deepest nesting of any value we decode."""
CERTIFICATE_BYTES_MAX: Final = 4 * 1024
KNOWN_HEADS_MAX: Final = 512
"""How many earlier heads of its own device a genesis may name."""

# --- Sync (protocol) --------------------------------------------------------------------------------------------
FRAME_BYTES_MAX: Final = 1024 * 1024
"""One frame on a link, without its 4-byte length."""
HELLO_FRAME_BYTES_MAX: Final = 1024
"""Until the hello has been checked a peer may make us hold no more than this."""
RUN_ENTRIES_MAX: Final = 512
RUN_BYTES_MAX: Final = 256 * 1024
"""A run stops at whichever comes first; one entry always fits."""
BUCKETS_COUNT: Final = 64
FRONTIER_LOGS_PER_FRAME_MAX: Final = 4096
LOCATOR_IDS_MAX: Final = 40
"""Known ids at exponentially growing distances: 32 for the longest log, and the heads of forks."""
ANNOUNCE_LOGS_PER_FRAME_MAX: Final = 4096
BRANCHES_PER_LOG_MAX: Final = 16
"""Heads and islands of one log that are held; more are named and stay where they were received."""
WANTS_IN_FLIGHT_PER_LINK_MAX: Final = 4096
LOGS_MAX: Final = 65_536
"""Logs a node holds: 300 devices, three lanes, seventy restarts each."""
NAME_CHARS_MAX: Final = 64
ZONE_CHARS_MAX: Final = 32

# --- Links ------------------------------------------------------------------------------------------------------
LINKS_MAX: Final = 64
HANDSHAKE_S_MAX: Final = 10.0
KEEPALIVE_S: Final = 5.0
LINK_SILENCE_S_MAX: Final = 15.0
"""A peer that says nothing for this long is gone (three keepalives)."""
WANT_RETRY_S: Final = 2.0
"""A want that brought nothing for this long is retried at another announcer."""

# --- Cards ------------------------------------------------------------------------------------------------------
AMOUNT_MINOR_MAX: Final = 2**31 - 1
"""Largest amount or balance, in the currency's minor unit (cents)."""
CARD_SLOT_BYTES_MAX: Final = 128
CARD_SEQ_MAX: Final = 2**32 - 1
CARD_IMAGE_BYTES_MAX: Final = 256 * 1024
"""The file that holds an emulated wristband: its memory and its history."""
CARD_IMAGE_HISTORY_MAX: Final = 512
"""Earlier memories that an emulated wristband can be rolled back to; older ones are forgotten."""
INTENT_BYTES_MAX: Final = 1024
OPEN_INTENTS_MAX: Final = 1024
"""Unresolved taps of one reader: wristbands that were pulled away and never came back."""

# --- Settlement -------------------------------------------------------------------------------------------------
UPSTREAM_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024

# --- Identity and enrolment ---------------------------------------------------------------------------------------
CERTIFICATE_ROLES_MAX: Final = 16
KEY_FILE_BYTES_MAX: Final = 4 * 1024
REQUEST_BYTES_MAX: Final = 1024
"""A device's request to be enrolled: a name, two keys, two signatures."""
ENROLMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""The authority's answer: root, certificate and starter runs of a large event."""

# --- Venue document -----------------------------------------------------------------------------------------------
DOCUMENT_CHANGES_MAX: Final = 4096
DOCUMENT_CHANGE_OPERATIONS_MAX: Final = 2048
"""Operations in one change. Run-length coding lets 20 bytes claim billions, so they are counted before any is read."""
DOCUMENT_CHANGE_DEPENDENCIES_MAX: Final = 256
ZONES_MAX: Final = 64
VENUE_NAME_CHARS_MAX: Final = 64

# --- Discovery ----------------------------------------------------------------------------------------------------
DISCOVERED_NAMES_MAX: Final = 1024
"""Instances of our service on the local network that are followed at once."""
PEER_ADDRESSES_MAX: Final = 8
