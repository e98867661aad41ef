"""The numbers that name kinds of entry, lanes of replication and roles of devices.

These numbers are on disk and on the wire for ever. An unknown kind is stored, forwarded and counts for nothing, so a
new feature takes a new number and never changes what an old one means.
"""

from enum import Enum, IntEnum


class Kind(IntEnum):
    """What an entry's body is. Who may write it is decided by the views, never by replication."""

    GENESIS = 0
    FORK_PROOF = 1
    REVOCATION = 2
    """A statement of the venue's authority that a device is trusted no more; anybody may carry it."""
    VENUE_CHANGE = 3
    DEVICE = 4
    """A device certificate, published by a manager so that every reader knows every seal before doors."""
    RECEIPT = 5
    BUNDLE_KEY = 6
    """A generation of the key that courier bundles are encrypted under, sealed for each live device."""
    TAP = 16
    ABORT = 17


class Lane(IntEnum):
    """One log per lane and process start; lanes are replicated in this order."""

    CONTROL = 0
    MONEY = 1
    TELEMETRY = 2


class Role(Enum):
    """What a device may do, as written in its certificate."""

    READER = "reader"
    TILL = "till"
    MANAGER = "manager"
    COURIER = "courier"
    GATEWAY = "gateway"
    SETTLEMENT = "settlement"


class Operation(IntEnum):
    """What a tap did to the card. Each one raises the card's seq by one."""

    ISSUE = 0
    TOP_UP = 1
    SALE = 2
    VOID = 3
    REFUND = 4
    PAYOUT = 5
    REISSUE = 6
