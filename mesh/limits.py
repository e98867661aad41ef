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
KEPT_LOGS_PER_FRAME_MAX: Final = 4096
BRANCHES_PER_LOG_MAX: Final = 16
"""Heads and islands of one log that are held; more are named and stay where they were received."""
ASIDE_BYTES_PER_LOG_MAX: Final = 1024 * 1024
"""What is taken in of one forked or revoked log from where it counts for nothing, by one run of a program: some 4,000
taps. More is named and stays where it was received; if a ruling lets it count, it is taken in."""
WANTS_IN_FLIGHT_PER_LINK_MAX: Final = 4096
LOGS_MAX: Final = 65_536
"""Logs a node holds: 300 devices, three lanes, seventy restarts each."""
NAME_CHARS_MAX: Final = 64
NAME_BYTES_MAX: Final = 64
"""Of UTF-8: what the X.509 library takes as a common name."""
ZONE_CHARS_MAX: Final = 32

# --- Links ------------------------------------------------------------------------------------------------------
LINKS_MAX: Final = 64
DIALS_MAX: Final = 8
"""Peers that a device dials at once."""
DIAL_S_MAX: Final = 3.0
"""An address where nobody has answered for this long is given up: a host without power says nothing at all."""
HANDSHAKE_S_MAX: Final = 10.0
HANDSHAKES_MAX: Final = 64
"""Accepted connections that have not shown a certificate yet; one more ends the one that has taken longest."""
ACCEPT_PAUSE_S: Final = 0.005
"""Between two accepted connections, whatever becomes of them; those that come faster wait in the kernel."""
HANDSHAKE_PAUSE_S: Final = 0.1
"""Between two accepted handshakes: one costs milliseconds of the thread that sells; strangers get a twentieth of it."""
REFUSED_PEER_S: Final = 5.0
"""A device that broke a rule is not listened to for this long: it may not break the next one at once."""
CROSSING_S: Final = 2.0
"""Two links between two devices made within this long crossed each other; later the newer one is the one that lives."""
KEEPALIVE_S: Final = 1.5
LINK_SILENCE_S_MAX: Final = 5.0
"""A peer that says nothing for this long is gone (three keepalives and a stall)."""
WANT_RETRY_S: Final = 2.0
"""A want that brought nothing for this long is retried at another announcer."""
REPLICA_PENDING_BYTES_MAX: Final = 8 * 1024 * 1024
"""Accepted and not yet written: beyond this, links are not read until the disk has caught up."""
OUTBOX_BYTES_MAX: Final = 16 * 1024 * 1024
"""What waits for a slow peer; beyond this the link is closed and the peer compares again when it is back."""

REPLICA_SYNC_S: Final = 2.0
"""Others' entries are on the disk for good at most this long after they were written, and a commit later."""
KEPT_HOLDERS_MAX: Final = 8
"""Devices that an author remembers as keeping one of its logs: those that keep most."""

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
CASE_TAPS_MAX: Final = 16
"""Taps that one double-spend case shows; two are proof enough."""
CASE_BYTES_MAX: Final = CASE_TAPS_MAX * 2 * ENTRY_BYTES_MAX
"""A double-spend case: a genesis and a tap for each branch, and the root."""

# --- Settlement -------------------------------------------------------------------------------------------------
UPSTREAM_BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
"""Body of one POST of runs, and of any other answer of the service that a gateway reads."""
UPSTREAM_RUNS_PER_BATCH_MAX: Final = 4096
SENTENCE_CHARS_MAX: Final = 400
"""Longest reason that the service gives for refusing a run."""
RECEIPT_BYTES_MAX: Final = 16 * 1024
RECEIPT_SET_ASIDE_IDS_MAX: Final = 256
"""Entries set aside that one receipt names; it counts them all."""
STORE_EPOCHS_MAX: Final = 64
"""Lives of the service's database that a device remembers; a backup is not restored that often in one event."""
RECEIPTS_PER_ANSWER_MAX: Final = 256
"""Receipts in one answer; 256 of the largest still fit into a batch."""
SETTLEMENT_CONNECTIONS_MAX: Final = 64
SETTLEMENT_REQUEST_S_MAX: Final = 60.0
"""From the first byte of a request to its last, and again for the answer: a slower client is let go."""
SETTLEMENT_IDLE_S_MAX: Final = 120.0
"""A connection without a request for this long is closed."""
HTTP_HEAD_BYTES_MAX: Final = 8 * 1024
VERIFY_ENTRIES_PER_STEP_MAX: Final = 512
"""Signatures checked in the background between two commits."""
UPSTREAM_RETRY_S: Final = 0.5
"""First pause after a failure upstream; it doubles up to the most, with jitter."""
UPSTREAM_RETRY_S_MAX: Final = 30.0
RECEIPT_PATIENCE_S: Final = 5.0
"""How long a receipt may wait for its last signatures to be checked before a gateway publishes it all the same."""
UPSTREAM_POLL_S: Final = 1.0
"""How often a gateway looks for new local entries and for receipts that advanced."""

# --- Identity and enrolment ---------------------------------------------------------------------------------------
CERTIFICATE_ROLES_MAX: Final = 16
TOKEN_URI_CHARS_MAX: Final = 2048
PIN_BYTES_MAX: Final = 256
LOGS_PER_SIGNER_MAX: Final = 1024
"""Logs that one process opens: three lanes, and a new log where a transaction was rolled back after signing."""
KEY_FILE_BYTES_MAX: Final = 4 * 1024
REQUEST_BYTES_MAX: Final = 1024
"""A device's request to be enrolled: a name, two keys, two signatures."""
ENROLMENT_BYTES_MAX: Final = 64 * 1024 * 1024
"""The authority's answer: root, certificate and starter runs of a large event."""

# --- Venue document -----------------------------------------------------------------------------------------------
DOCUMENT_CHANGES_MAX: Final = 4096
DOCUMENT_OPERATIONS_MAX: Final = 16_384
"""Operations in all changes that count: the library's time grows with their square when all set one key."""
DOCUMENT_CHANGE_OPERATIONS_MAX: Final = 2048
"""Operations in one change. Run-length coding lets 20 bytes claim billions, so they are counted before any is read."""
DOCUMENT_KEY_BYTES_MAX: Final = 256
DOCUMENT_CHANGE_DEPENDENCIES_MAX: Final = 256
ZONES_MAX: Final = 64
VENUE_NAME_CHARS_MAX: Final = 64

# --- Discovery ----------------------------------------------------------------------------------------------------
DISCOVERED_NAMES_MAX: Final = 1024
"""Instances of our service on the local network that are followed at once."""
PEER_ADDRESSES_MAX: Final = 8
ANNOUNCED_AGAIN_S_MIN: Final = 10.0
ANNOUNCED_AGAIN_S_MAX: Final = 60.0
"""A node announces itself again within these, and a quarter: networks that are joined late find each other by it."""
ANNOUNCEMENTS_PER_S_MAX: Final = 5.0
"""Of all nodes on one network together, where the bounds above leave room; each is about 250 bytes of multicast."""

# --- Programs -----------------------------------------------------------------------------------------------------
COMMAND_BYTES_MAX: Final = 4096
"""One line typed at a running program."""

STATUS_REQUEST_BYTES_MAX: Final = 64
"""One question of `tapmesh status` at a running program."""
STATUS_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
STATUS_CLIENTS_MAX: Final = 8
"""Who may ask at once; one more is told so and let go."""
STATUS_SEND_S_MAX: Final = 2.0
"""How long whoever asked may take to read an answer; then it is let go."""
STATUS_IDLE_S_MAX: Final = 60.0
STATUS_PAUSE_S: Final = 0.2
"""An answer is given again for this long, so that many questions cost no more than one."""
STATUS_MISSING_LOGS_MAX: Final = 256
"""Logs known to exist and not held that one answer names; it counts them all."""

# --- Joining by code ----------------------------------------------------------------------------------------------
JOIN_PLACES_MAX: Final = 1024
"""Devices on one sheet of join codes, and in one readers.csv."""
JOIN_SHEETS_MAX: Final = 4096
JOIN_SHEET_BYTES_MAX: Final = 4 * 1024 * 1024
JOIN_CSV_BYTES_MAX: Final = 4 * 1024 * 1024
JOIN_ASK_BYTES_MAX: Final = 32
"""The first message of a device: until its secret was found good, it may make the office hold no more than this."""
JOIN_WORD_BYTES_MAX: Final = 4096
"""What the office says but for its answer: who the device will be, or why not."""
JOIN_CONNECTIONS_MAX: Final = 32
JOIN_CONNECTIONS_PER_ADDRESS_MAX: Final = 4
JOIN_WRONG_CODES_PER_ADDRESS_MAX: Final = 10
"""An address that gave this many wrong codes is not listened to again; a typing error never gets this far."""
JOIN_WRONG_CODES_MAX: Final = 100_000
"""After this many the office closes: with 300 codes out, the chance that one was guessed is 1 in 2,400 million."""
JOIN_WRONG_CODE_PAUSE_S: Final = 1.0
JOIN_ANSWERS_PER_DEVICE_MAX: Final = 20
"""How often one run of the office repeats a lost answer to the device that it is for."""
JOIN_STEP_S_MAX: Final = 30.0
JOIN_OFFICES_MAX: Final = 16
"""Offices that are tried, of those that announce themselves."""

# --- Settings -----------------------------------------------------------------------------------------------------
SETTINGS_BYTES_MAX: Final = 64 * 1024
"""A device's settings file."""

# --- Trust that changes -------------------------------------------------------------------------------------------
REVOCATION_CUT_LOGS_MAX: Final = 512
"""Logs that one revocation says something about; 57 bytes each, so that the largest still fits one entry."""
REVOCATION_NUMBER_MAX: Final = 2**32 - 1
BUNDLE_GENERATION_MAX: Final = 2**32 - 1
BUNDLE_BOXES_PER_ENTRY_MAX: Final = 256
"""Devices whose box of a bundle key is in one entry; a larger venue takes several."""

# --- Planning -----------------------------------------------------------------------------------------------------
PLAN_BYTES_MAX: Final = 64 * 1024
"""A file that describes a venue for `tapmesh plan`."""
PLAN_READERS_PER_ZONE_MAX: Final = 10_000
PLAN_COURIERS_MAX: Final = 64
PLAN_STOPS_MAX: Final = 64
"""Stops of one courier's round."""
PLAN_DURATION_S_MAX: Final = 24 * 3600.0
"""Any length of time in a plan: a round, an outage, a walk."""
PLAN_HORIZON_S: Final = 72 * 3600.0
"""Three days: what has not been heard by then is not heard during the event."""
PLAN_SAMPLES_MAX: Final = 1_000_000
PLAN_SEED_MAX: Final = 2**31 - 1
