"""What the outside must provide: small Protocols that the shell implements and tests can implement too."""

from __future__ import annotations

from typing import Protocol


class Signer(Protocol):
    """Holds a device's log key: a key file today, a secure element tomorrow. The key never leaves it."""

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key, as bound in the device's certificate."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature (RFC 8032) of `message`, which carries its own domain prefix."""
        ...
