"""What one signed entry must keep, beside its place in the chain: a function a rule, which says what is wrong or None.

An entry that breaks one is kept and replicated all the same; it counts for nothing, and whoever signed it is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mesh.core.bundle_key import decode_sealed_keys
from mesh.core.certificate import VenueRoot, parse_device_certificate
from mesh.core.chain import Genesis
from mesh.core.entry import Entry
from mesh.core.fork import check_fork_proof
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.receipt import verify_receipt
from mesh.core.revocation import parse_statement
from mesh.errors import PeerError
from mesh.views.automerge_change import parse_change
from mesh.views.entry_fields import kind_name
from mesh.views.tap_entry import decode_abort
from mesh.views.tap_rules import CountedTap, Refusal, author_of, read_tap

Rule = Callable[[Entry, Genesis, VenueRoot], str | None]

_LANES: Final = {
    Kind.FORK_PROOF: Lane.CONTROL,
    Kind.REVOCATION: Lane.CONTROL,
    Kind.VENUE_CHANGE: Lane.CONTROL,
    Kind.DEVICE: Lane.CONTROL,
    Kind.RECEIPT: Lane.CONTROL,
    Kind.BUNDLE_KEY: Lane.CONTROL,
    Kind.BUNDLE_KEY: Lane.CONTROL,
    Kind.TAP: Lane.MONEY,
    Kind.ABORT: Lane.MONEY,
}
_ROLES: Final = {
    Kind.VENUE_CHANGE: frozenset({Role.MANAGER}),
    Kind.DEVICE: frozenset({Role.MANAGER}),
    Kind.BUNDLE_KEY: frozenset({Role.MANAGER}),
    Kind.BUNDLE_KEY: frozenset({Role.MANAGER}),
}
"""Who may write kinds that need a role as such; what a tap needs depends on its operation."""


def in_its_lane(entry: Entry, genesis: Genesis, root: VenueRoot) -> str | None:
    """A kind is looked for in one lane only."""
    lane = _LANES.get(_kind(entry), genesis.lane)
    if lane is genesis.lane:
        return None
    return f"a {kind_name(entry.kind)} in the {genesis.lane.name.lower()} lane counts for nothing"


def by_a_role_that_may(entry: Entry, genesis: Genesis, root: VenueRoot) -> str | None:
    """Roles are those of the genesis certificate, for the log's life."""
    needed = _ROLES.get(_kind(entry))
    if needed is None or needed & genesis.certificate.roles:
        return None
    names = " or ".join(sorted(role.value for role in needed))
    return f"a {kind_name(entry.kind)} counts only from a device enrolled as {names}, and this one is not"


def body_holds(entry: Entry, genesis: Genesis, root: VenueRoot) -> str | None:
    """The body is what its kind says, and proves what it claims to."""
    try:
        match entry.kind:
            case Kind.TAP:
                return _tap(entry, genesis)
            case Kind.ABORT:
                decode_abort(entry.body)
            case Kind.FORK_PROOF:
                check_fork_proof(entry.body, root)
            case Kind.REVOCATION:
                parse_statement(entry.body, root)
            case Kind.BUNDLE_KEY:
                decode_sealed_keys(entry.body)
            case Kind.DEVICE:
                parse_device_certificate(entry.body, root)
            case Kind.RECEIPT:
                verify_receipt(entry.body, root)
            case Kind.VENUE_CHANGE:
                parse_change(entry.body)
            case Kind.REVOCATION:
                parse_statement(entry.body, root)
            case Kind.BUNDLE_KEY:
                decode_sealed_keys(entry.body)
            case _:
                pass
    except PeerError as error:
        return f"its body is no {kind_name(entry.kind)}: {error}"
    return None


RULES: Final[tuple[Rule, ...]] = (in_its_lane, by_a_role_that_may, body_holds)


def first_broken_rule(entry: Entry, genesis: Genesis, root: VenueRoot) -> str | None:
    """What is wrong with an entry; None where every rule is kept."""
    return next((wrong for rule in RULES if (wrong := rule(entry, genesis, root)) is not None), None)


def _kind(entry: Entry) -> Kind:
    """The entry's kind; unknown ones are carried for later versions and break no rule."""
    return Kind(entry.kind) if entry.kind in Kind.__members__.values() else Kind.GENESIS


def _tap(entry: Entry, genesis: Genesis) -> str | None:
    judged = read_tap(entry.body, author_of(genesis.certificate), entry_id=entry.id, log=0, seq=entry.seq)
    match judged:
        case CountedTap() | Refusal.UNKNOWN_OPERATION:
            return None
        case Refusal():
            return f"the tap counts for nothing: {judged.value}"
