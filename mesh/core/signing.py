"""What a device's log key may sign: the memory that makes a fork impossible, and the domains of everything else.

One key signs entries, seals cards and vouches for receipts and requests, so every signed message begins with its
domain, and no domain is the beginning of another. Entries are a distinct, structured operation, because only they can
convict: two signatures by one key at one seq of one log are a *fork proof*, whoever's mistake it was.

The rules of :class:`EntryMemory`, in the order in which they are applied:

* seq 0 opens a log: it is a genesis (kind, no log id, no prev), and its log is this signer's from then on,
* any other entry continues a log that this signer opened itself, and no other,
* its seq is the one after the last signed: not a lower or equal one, not one further on,
* its prev is the id of the entry signed last, the very bytes,
* a log whose signing failed halfway is closed: a signature may have been made, so nothing may follow at that seq.

The memory lives as long as its process: every start opens new logs, so what is not in it was opened by somebody else
(docs/adr/0080). Pure: the caller brings the key, and the lock.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

from mesh.core.entry import LOG_ID_BYTES, NO_PREV, SIGNATURE_DOMAIN, encode_payload, entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind
from mesh.errors import LocalError
from mesh.limits import LOGS_PER_SIGNER_MAX

_UNTOUCHED: Final = (
    "Nothing was signed, and what was signed before stays good. Start the program again: it opens new logs, and a tap "
    "that was under way is finished from its stored intent. It is a fault of the program, so please report it"
)


class Domain(Enum):
    """What a log key signs besides entries; the value goes in front of the message. Entries are not in here."""

    CARD = b"tapmesh/card/1"
    RECEIPT = b"tapmesh/receipt/1"
    REQUEST = b"tapmesh/request/1"


RawSign: TypeAlias = Callable[[bytes], bytes]
"""The bare key: from any message to its 64-byte Ed25519 signature (RFC 8032). Never handed out by a signer."""
SignStatement: TypeAlias = Callable[[Domain, bytes], bytes]
"""The port's `sign`: from a domain and a message to 64 bytes of signature over both."""


class RefusedToSign(LocalError):
    """The signer was asked for something that it must not sign; nothing was signed."""


class SeqAlreadySigned(RefusedToSign):
    """A lower or equal seq of a log: a second signature there is proof against this device."""


class SeqSkipped(RefusedToSign):
    """A seq further on than the next one: the entries between could never be signed any more."""


class NotOurLog(RefusedToSign):
    """A log that this signer did not open: another process's, an earlier start's, or one closed by a failure."""


class NotTheLastEntry(RefusedToSign):
    """A prev that is not the entry signed last: the chain would break at this device's own hand."""


class NoGenesis(RefusedToSign):
    """An entry 0 that is no genesis, or a genesis that is not entry 0."""


class TooManyLogs(RefusedToSign):
    """One process opened more logs than any program has a use for."""


class NotAStatement(RefusedToSign):
    """An entry, or something of no known domain, where a card seal, a receipt or a request is signed."""


def encode_statement(domain: object, message: bytes) -> bytes:
    """The bytes to sign for a message of a domain, or :class:`NotAStatement`; entries never pass here."""
    if type(domain) is not Domain:
        raise NotAStatement(
            f"asked to sign something as {domain!r}, which is neither a card, a receipt nor a request; entries are "
            f"signed by sign_entry alone, which knows what was signed before. {_UNTOUCHED}"
        )
    return domain.value + message


class EntryMemory:
    """The logs that one signer opened, and the last entry it signed in each. Use under a lock: one entry at a time."""

    __slots__ = ("_heads", "_opened")

    def __init__(self) -> None:
        self._heads: dict[bytes, Position] = {}
        self._opened: set[bytes] = set()
        """Every log that was ever opened, also those that a failure closed."""

    def next_seq(self, log_id: bytes) -> int | None:
        """The only seq that can be signed in this log; `None` where nothing can, ever."""
        head = self._heads.get(log_id)
        return None if head is None else head.seq + 1

    def sign_next(
        self, sign: RawSign, *, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes
    ) -> bytes:
        """Sign one entry and return its bytes, or raise :class:`RefusedToSign` before `sign` is called.

        (A genesis that was signed before is recognised by its id, which is only there after: those bytes are the same
        once more, and are not handed out.)

        Fields out of range raise as in :func:`mesh.core.entry.encode_payload`, and change nothing. Whatever `sign`
        raises goes through, and closes the log.
        """
        payload = encode_payload(log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=kind, body=body)
        if seq == 0:
            self._require_genesis(prev, kind)
        else:
            self._take(log_id, seq, prev, kind)
        entry = payload + sign(SIGNATURE_DOMAIN + payload)
        identifier = entry_id(entry)
        if seq == 0:
            log_id = identifier[:LOG_ID_BYTES]
            self._open(log_id)
        self._heads[log_id] = Position(seq, identifier)
        return entry

    def _open(self, log_id: bytes) -> None:
        """Never a log a second time: whoever asks with the same genesis would begin again at seq 1."""
        if log_id in self._opened:
            raise SeqAlreadySigned(
                f"asked to open log {log_id.hex()} again with the same genesis: what was signed in it would be signed "
                f"once more, and two entries at one seq are proof against this device. Start the program again"
            )
        self._opened.add(log_id)

    def _require_genesis(self, prev: bytes, kind: int) -> None:
        if kind != Kind.GENESIS or prev != NO_PREV:
            raise NoGenesis(f"asked to sign an entry 0 that does not open a log. {_UNTOUCHED}")
        if len(self._opened) >= LOGS_PER_SIGNER_MAX:
            raise TooManyLogs(
                f"this program opened {LOGS_PER_SIGNER_MAX} logs since its start, where three are usual. {_UNTOUCHED}"
            )

    def _take(self, log_id: bytes, seq: int, prev: bytes, kind: int) -> None:
        head = self._heads.get(log_id)
        if head is None:
            raise NotOurLog(
                f"asked to continue log {log_id.hex()}, which this process did not open. Another process, an earlier "
                f"start or a copy of this device may have gone on in it, and a second entry at one seq would be proof "
                f"against this device: its sales from there on would be contested. {_UNTOUCHED}"
            )
        if seq <= head.seq:
            raise SeqAlreadySigned(
                f"asked to sign seq {seq} of log {log_id.hex()} again, after seq {head.seq}. Two entries at one seq "
                f"are proof against this device: its sales from there on would be contested. {_UNTOUCHED}"
            )
        if seq > head.seq + 1:
            raise SeqSkipped(
                f"asked to sign seq {seq} of log {log_id.hex()} right after seq {head.seq}: the entries between could "
                f"never follow, and nobody would take in the rest. {_UNTOUCHED}"
            )
        if prev != head.id:
            raise NotTheLastEntry(
                f"asked to sign seq {seq} of log {log_id.hex()} after another entry than the one signed before it: "
                f"the chain would break and nothing from there on would count. {_UNTOUCHED}"
            )
        if kind == Kind.GENESIS:
            raise NoGenesis(f"asked to sign a genesis at seq {seq} of log {log_id.hex()}. {_UNTOUCHED}")
        # Until the signature is there, the log is nobody's: if the key fails now, no second try may sign this seq.
        del self._heads[log_id]
