"""What the outside must provide: small Protocols that the shell implements and tests can implement too."""

from __future__ import annotations

from typing import Protocol

from mesh.core.signing import Domain


class StatementSigner(Protocol):
    """What seals cards and vouches for receipts and requests with a device's log key; it signs no entries."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key, as bound in the device's certificate."""
        ...

    def sign(self, domain: Domain, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) over domain and message; never one over an entry."""
        ...


class Signer(StatementSigner, Protocol):
    """Holds a device's log key: a key file, or a key inside a PKCS#11 token. The key never leaves it.

    Entries are a structured operation of their own, because the signer remembers what it signed: whatever a caller
    does, no two entries at one seq come out (:class:`mesh.core.signing.EntryMemory` gives the rules, and the errors).
    Safe to call from several threads.
    """

    def sign_entry(self, *, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes) -> bytes:
        """Return the bytes of the next entry of a log this signer opened (seq 0 opens one), or `RefusedToSign`."""
        ...

    def next_seq(self, log_id: bytes) -> int | None:
        """The only seq that :meth:`sign_entry` would sign in this log; `None` if it never will again."""
        ...
