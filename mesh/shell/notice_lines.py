"""What surfaces on a device, told to people in one paragraph and to programs in full."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from mesh.core.certificate import DeviceCertificate
from mesh.shell.device import (
    ConflictSurfaced,
    Device,
    ForkSurfaced,
    Noted,
    Notice,
    PeerInStep,
    PeerMet,
    PeerParted,
    Planned,
    RevocationHeard,
)
from mesh.shell.output import Json, Output
from mesh.views.evidence import Witnessed, check_case

PLAN_ENTRIES_WORTH_A_LINE: Final = 500
"""People are told of what arrives in bulk; programs are told of everything."""


def unix_ms() -> int:
    """Milliseconds since 1970 by this device's clock: for people, and never for deciding anything."""
    return time.time_ns() // 1_000_000


def tell(notice: Notice, device: Device, output: Output) -> None:
    """Say one notice."""
    match notice:
        case ConflictSurfaced():
            _tell_conflict(notice, device, output)
        case ForkSurfaced(log_id, from_seq):
            author = author_name(device, log_id)
            text = (
                f"FORK in a log of {author}: from entry {from_seq} on it counts for nothing until somebody rules. "
                f"Its sales are kept and the bar is paid; take that device aside (log {log_id.hex()})"
            )
            output.emit("fork", text, log=log_id.hex(), device=author, from_seq=from_seq)
        case RevocationHeard():
            _tell_revocation(notice, device, output)
        case Planned(log_id, entries, size):
            text = f"receiving {entries} entries of {author_name(device, log_id)} ({size / 1e6:.1f} MB)"
            shown = text if entries >= PLAN_ENTRIES_WORTH_A_LINE else None
            output.emit("plan", shown, log=log_id.hex(), entries=entries, bytes=size)
        case PeerMet(peer):
            text = f"linked to {peer.name} ({roles_text(peer)})"
            output.emit("met", text, peer=peer.name, roles=roles(peer))
        case PeerParted(peer, reason):
            output.emit("parted", f"link to {peer.name} ended: {reason}", peer=peer.name, reason=reason)
        case PeerInStep(peer, seconds):
            milliseconds = round(seconds * 1000, 1)
            text = f"in step with {peer.name} after {milliseconds:.0f} ms: both hold {device.entries_held} entries"
            output.emit("in_step", text, peer=peer.name, ms=milliseconds, entries=device.entries_held)
        case Noted(text):
            output.emit("note", text, text=text)


def author_name(device: Device, log_id: bytes) -> str:
    """Whose log it is, or the log's id where its beginning is not held yet."""
    log = device.node.frontier.logs.get(log_id)
    return log_id.hex() if log is None else log.genesis.certificate.name


def device_name(device: Device, serial: int) -> str:
    """What people call the device with this certificate, or its serial number where it was never heard of here."""
    certificate = device.devices.by_serial(serial)
    return f"the device with serial number {serial:x}" if certificate is None else certificate.name


def _tell_revocation(notice: RevocationHeard, device: Device, output: Output) -> None:
    statement = notice.statement
    name, own = device_name(device, statement.serial), statement.serial == device.certificate.serial
    places = ", ".join(f"log {log_id.hex()} to entry {place.seq}" for log_id, place in statement.cut.items())
    who = f"THIS DEVICE, {name}," if own else name
    held = ". The authority signed two different statements with that number: what both let count, counts"
    text = (
        f"REVOKED: {who} is trusted no more, by statement {statement.number} of the venue's authority. Of its entries "
        f"there count: {places or 'none'}. Its other sales are kept and the bar is paid"
        f"{held if len(device.node.revocations.holding(statement.serial)) > 1 else ''}"
    )
    output.emit(
        "revoked",
        text,
        device=name,
        serial=str(statement.serial),
        number=statement.number,
        own=own,
        cut=[{"log": log_id.hex(), "seq": place.seq, "id": place.id.hex()} for log_id, place in statement.cut.items()],
    )


def _tell_conflict(notice: ConflictSurfaced, device: Device, output: Output) -> None:
    amount = amount_writer(device)
    at_risk = notice.conflict.at_risk_minor
    # From the proof itself, not from what the view remembers: what is shown is what anyone can check.
    taps = check_case(notice.case, device.root).taps
    places = " and ".join(_place(tap, amount) for tap in taps)
    text = (
        f"DOUBLE SPEND of card {notice.conflict.card.hex()}: {amount(at_risk)} at risk. One record was spent at "
        f"{places}. The card is held here from now on; both bars are paid"
    )
    output.emit(
        "conflict",
        text,
        card=notice.conflict.card.hex(),
        consumed=notice.conflict.consumed.hex(),
        at_risk_minor=at_risk,
        surfaced_at=unix_ms(),
        taps=[_tap_fields(tap) for tap in taps],
        case=notice.case.hex(),
    )


def _place(tap: Witnessed, amount: Callable[[int], str]) -> str:
    return (
        f"{tap.device.name} ({amount(tap.tap.fact.amount_minor)}, log {tap.entry.log_id.hex()} seq {tap.entry.seq}, "
        f"entry {tap.entry.id.hex()})"
    )


def _tap_fields(tap: Witnessed) -> dict[str, Json]:
    return {
        "reader": tap.device.name,
        "amount_minor": tap.tap.fact.amount_minor,
        "log": tap.entry.log_id.hex(),
        "seq": tap.entry.seq,
        "entry": tap.entry.id.hex(),
        "tap": tap.tap.fact.tap_id.hex(),
        "time_ms": tap.entry.time_ms,
    }


def amount_writer(device: Device) -> Callable[[int], str]:
    """How amounts are written here: in the venue's currency, or in minor units where its document is not held."""
    document = device.venue.document()
    return (lambda amount: f"{amount} minor units") if document is None else document.currency.format


def roles_text(certificate: DeviceCertificate) -> str:
    """A device's roles, for people."""
    return ", ".join(roles(certificate)) or "no role"


def roles(certificate: DeviceCertificate) -> list[str]:
    """A device's roles, for programs."""
    return sorted(role.value for role in certificate.roles)
