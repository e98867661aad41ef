"""A receipt: the settlement service's signed word for what of one log is safe (docs/spec/settlement.md).

::

    payload = deterministic CBOR of [1, log_id(16), head_seq, head_id(32), count, sum_minor, verified_up_to,
                                     set_aside_count, [entry ids], store_epoch(16), certificate]
    receipt = payload || Ed25519 signature over "tapmesh/receipt/1" || payload      (64 bytes, RFC 8032)

It is made after the service's database has committed, and says that every entry of the chain that ends in `head_id` is
on its disk. Anybody can check it from the venue root alone, because the certificate of the signing device is inside.
A forked log has one receipt per head. A receipt for an ancestor of a head already covered says nothing new.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import nacl.bindings
import nacl.exceptions

from mesh.core.certificate import DeviceCertificate, VenueRoot, parse_device_certificate
from mesh.core.codec import NotCanonical, TooLarge, decode_array, encode
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES, SIGNATURE_BYTES
from mesh.core.kinds import Role
from mesh.core.signing import Domain, SignStatement
from mesh.errors import PeerError
from mesh.limits import ENTRY_SEQ_MAX, RECEIPT_BYTES_MAX, RECEIPT_SET_ASIDE_IDS_MAX

RECEIPT_VERSION: Final = 1
RECEIPT_DOMAIN: Final = Domain.RECEIPT.value
STORE_EPOCH_BYTES: Final = 16
COUNT_MAX: Final = 2**53
"""Largest count or sum; the largest integer every JSON reader keeps exact."""


class BadReceipt(PeerError):
    """The bytes are not a receipt of this version; nothing is safer by it."""


class NotSettlement(PeerError):
    """The receipt was signed by a device of this venue that may not sign receipts; nothing is safer by it."""


class BadReceiptSignature(PeerError):
    """The receipt's signature does not verify under the key its certificate binds; nothing is safer by it."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the service says about the chain of `log_id` that ends in `head_id`, genesis included."""

    log_id: bytes
    head_seq: int
    head_id: bytes
    count: int
    """Entries of this log that are stored, all branches: `head_seq + 1`, or more if the log is forked."""
    sum_minor: int
    """Signed sales less signed voids along the chain, before the ledger judges them: for its author to compare."""
    verified_up_to: int
    """Signatures of the entries below this seq have been checked, each one; those that failed are set aside."""
    set_aside_count: int
    set_aside: tuple[bytes, ...]
    """Ids of stored entries of the chain that are not in order (malformed body, missing role, bad signature), by seq;
    the first `RECEIPT_SET_ASIDE_IDS_MAX` of `set_aside_count`."""
    store_epoch: bytes
    """Names one life of the service's database: after a backup was restored, earlier receipts may promise too much."""
    certificate: bytes

    @property
    def fully_verified(self) -> bool:
        return self.verified_up_to > self.head_seq


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """A receipt whose certificate and signature were checked, and who signed it."""

    receipt: Receipt
    signer: DeviceCertificate
    data: bytes


def sign_receipt(sign: SignStatement, receipt: Receipt) -> bytes:
    """The bytes of a receipt. `sign` is the settlement device's log key, the one `receipt.certificate` binds."""
    _check(receipt)
    payload = encode(
        [
            RECEIPT_VERSION,
            receipt.log_id,
            receipt.head_seq,
            receipt.head_id,
            receipt.count,
            receipt.sum_minor,
            receipt.verified_up_to,
            receipt.set_aside_count,
            list(receipt.set_aside),
            receipt.store_epoch,
            receipt.certificate,
        ]
    )
    return payload + sign(Domain.RECEIPT, payload)


def decode_receipt(data: bytes) -> Receipt:
    """Parse a receipt strictly, or raise a `PeerError`. Signature and certificate are not checked."""
    if len(data) > RECEIPT_BYTES_MAX:
        raise TooLarge(f"a receipt of {len(data)} bytes where at most {RECEIPT_BYTES_MAX} are allowed")
    if len(data) <= SIGNATURE_BYTES:
        raise NotCanonical("shorter than a signature")
    match decode_array(data[:-SIGNATURE_BYTES], bytes_max=RECEIPT_BYTES_MAX):
        case [
            int(version),
            bytes(log_id),
            int(head_seq),
            bytes(head_id),
            int(count),
            int(sum_minor),
            int(verified_up_to),
            int(set_aside_count),
            list(set_aside),
            bytes(epoch),
            bytes(certificate),
        ]:
            pass
        case _:
            raise BadReceipt("a receipt is an array of eleven fields (docs/spec/settlement.md)")
    integers = (version, head_seq, count, sum_minor, verified_up_to, set_aside_count)
    if any(isinstance(value, bool) for value in integers):
        raise BadReceipt("a receipt's numbers are integers")
    if version != RECEIPT_VERSION:
        raise BadReceipt(f"receipt version {version} is not known here")
    ids = tuple(identifier for identifier in set_aside if isinstance(identifier, bytes))
    if len(ids) != len(set_aside):
        raise BadReceipt("entries set aside are named by their ids")
    receipt = Receipt(
        log_id, head_seq, head_id, count, sum_minor, verified_up_to, set_aside_count, ids, epoch, certificate
    )
    _check(receipt)
    return receipt


def verify_receipt(data: bytes, root: VenueRoot) -> VerifiedReceipt:
    """Check everything about a receipt from the venue root alone, or raise a `PeerError`."""
    receipt = decode_receipt(data)
    signer = parse_device_certificate(receipt.certificate, root)
    if Role.SETTLEMENT not in signer.roles:
        raise NotSettlement(f"{signer.name!r} signed a receipt, but its certificate does not say settlement")
    message = data[-SIGNATURE_BYTES:] + RECEIPT_DOMAIN + data[:-SIGNATURE_BYTES]
    try:
        nacl.bindings.crypto_sign_open(message, signer.log_key)
    except nacl.exceptions.BadSignatureError as error:
        raise BadReceiptSignature(
            f"the receipt is not signed by {signer.name!r}, whose certificate it shows"
        ) from error
    return VerifiedReceipt(receipt, signer, data)


def _check(receipt: Receipt) -> None:
    lengths = (len(receipt.log_id), len(receipt.head_id), len(receipt.store_epoch))
    if lengths != (LOG_ID_BYTES, ID_BYTES, STORE_EPOCH_BYTES):
        raise BadReceipt("log id, head id or store epoch has the wrong length")
    if not (0 <= receipt.head_seq <= ENTRY_SEQ_MAX and receipt.head_seq < receipt.count <= COUNT_MAX):
        raise BadReceipt("head seq or count is out of range")
    if not 0 <= receipt.verified_up_to <= receipt.head_seq + 1:
        raise BadReceipt("more signatures are said to be verified than the chain has")
    if abs(receipt.sum_minor) > COUNT_MAX:
        raise BadReceipt("the sum is out of range")
    ids = receipt.set_aside
    if any(len(identifier) != ID_BYTES for identifier in ids) or len(set(ids)) != len(ids):
        raise BadReceipt("entries set aside are named by different ids of 32 bytes")
    if not len(ids) == min(receipt.set_aside_count, RECEIPT_SET_ASIDE_IDS_MAX):
        raise BadReceipt(f"the first {RECEIPT_SET_ASIDE_IDS_MAX} entries set aside are named, no more and no fewer")
    if receipt.set_aside_count > receipt.head_seq + 1:
        raise BadReceipt("more entries are set aside than the chain has")
