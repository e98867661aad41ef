"""The Signer port over any key: what was signed is remembered here, wherever the key is kept.

The memory is shared by nobody: a copy of a signer could sign what the original signed already, so a signer cannot be
copied, pickled, or used in a forked child (which has a copy of all of its parent's memory).
"""

from __future__ import annotations

import os
import threading
from typing import NoReturn, Protocol

from mesh.core.entry import SIGNATURE_BYTES
from mesh.core.signing import Domain, EntryMemory, RefusedToSign, encode_statement
from mesh.errors import LocalError


class Key(Protocol):
    """A bare Ed25519 key: a file's, or a token's. Only :class:`LogSigner` holds one."""

    @property
    def public_key(self) -> bytes:
        """32 bytes."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature of any message, or a `LocalError` where the key cannot be used now."""
        ...


class KeyFailed(LocalError):
    """The key gave something that is not a signature, or cannot be used any more; nothing was signed."""


class OtherProcess(RefusedToSign):
    """The signer belongs to the process that made it, and this is another one."""


class LogSigner:
    """Implements :class:`mesh.ports.Signer` for one process; made by :func:`mesh.shell.keys.load_identity`."""

    __slots__ = ("_key", "_lock", "_memory", "_process")

    def __init__(self, key: Key) -> None:
        self._key = key
        self._memory = EntryMemory()
        self._lock = threading.Lock()
        self._process = os.getpid()

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key."""
        return self._key.public_key

    def sign_entry(self, *, log_id: bytes, seq: int, prev: bytes, time_ms: int, kind: int, body: bytes) -> bytes:
        """Sign the next entry of a log that this signer opened; see :class:`mesh.core.signing.EntryMemory`."""
        with self._lock:
            self._require_own_process()
            return self._memory.sign_next(
                self._bare, log_id=log_id, seq=seq, prev=prev, time_ms=time_ms, kind=kind, body=body
            )

    def next_seq(self, log_id: bytes) -> int | None:
        """The only seq that can be signed next in this log; `None` if nothing can."""
        with self._lock:
            return self._memory.next_seq(log_id)

    def sign(self, domain: Domain, message: bytes) -> bytes:
        """Sign a card seal, a receipt or a request; anything else raises :class:`mesh.core.signing.NotAStatement`."""
        statement = encode_statement(domain, message)
        with self._lock:
            self._require_own_process()
            return self._bare(statement)

    def _bare(self, message: bytes) -> bytes:
        signature = self._key.sign(message)
        if len(signature) != SIGNATURE_BYTES:
            raise KeyFailed(
                f"the key answered with {len(signature)} bytes instead of a signature, so nothing was signed. A tap "
                f"that was under way is finished from its stored intent. Check the token, then start the program again"
            )
        return signature

    def _require_own_process(self) -> None:
        if os.getpid() != self._process:
            raise OtherProcess(
                f"process {os.getpid()} asked to sign with a signer of process {self._process}, which goes on by "
                f"itself: both could sign one seq, and that is proof against this device. Nothing was signed. "
                f"Let each process open its own device; please report it"
            )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a signer is not copied: each copy would sign what the other one signed already")

    def __repr__(self) -> str:
        return f"LogSigner(public_key={self.public_key.hex()})"
