"""What the venue's office does to take a device out: sign a statement, publish it, give its bundles another key.

::

    DIR/authority/revoked/SERIAL-NUMBER.cbor    every statement the authority signed, before anybody sees it

Rules:

* A statement is in the register, durably and under a number that no other has, before it is published: so a command
  that was broken off cannot make the authority contradict itself. What was left unpublished the next one publishes.
* The first statement about a device cuts where its entries, as the office's manager holds them, stop counting now. What
  is contested then (a fork, a bad signature) stays outside, unless a place in it is named.
* Places that a later statement does not name stay where the one before it put them.
* The name of a revoked device is free for another one, and its join code is void before it is.
* A name means the device that has it now. Where several had it and a cut is given, only a fingerprint is clear enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

from mesh.core.certificate import DeviceCertificate
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES, entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane
from mesh.core.revocation import Revocations, Statement, parse_statement, sign_statement
from mesh.errors import LocalError, StorageError
from mesh.limits import ENTRY_BODY_BYTES_MAX, REVOCATION_CUT_LOGS_MAX, REVOCATION_NUMBER_MAX
from mesh.shell.authority import AUTHORITY_DIRECTORY, MANAGER_DIRECTORY, Authority, find_device, open_authority
from mesh.shell.bundle_key import Rotated, rotate
from mesh.shell.device import Device, open_device
from mesh.shell.files import make_new_directory, read_file, write_new_file
from mesh.shell.join_office import open_office
from mesh.shell.keys import load_identity
from mesh.shell.venue import NotIssued
from mesh.views.card_account import TapFact

REVOKED_DIRECTORY: Final = "revoked"


class OwnManager(LocalError):
    """The office's own manager was to be revoked; nothing was signed."""


class NoSuchPlace(LocalError):
    """A cut names a place that the office does not hold, or that is not the device's; nothing was signed."""


class SeveralOfThatName(LocalError):
    """A cut for one of several devices that had one name; nothing was signed."""


class NumbersUsedUp(LocalError):
    """No further statement can be made about a device; nothing was signed."""


class Wish(Enum):
    """A cut that is not named place by place."""

    HELD = "held"
    """Everything that the office's manager holds of the device now."""
    NONE = "none"
    """Nothing of the device counts."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of a cut as a person names it: LOG:SEQ, or LOG:SEQ:ID. Hexadecimal digits, as many as are needed."""

    log: str
    seq: int
    id: str = ""

    def __str__(self) -> str:
        return ":".join(filter(None, (self.log, str(self.seq), self.id)))


CutWish: TypeAlias = Wish | Sequence[Place] | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command has done, as the office's manager sees it; amounts are in the venue's currency."""

    device: DeviceCertificate
    statement: Statement
    is_new: bool
    """False where the same was said before, and only published again."""
    no_longer: tuple[TapFact, ...]
    """Taps that counted and do not any more."""
    again: tuple[TapFact, ...]
    """Taps that did not count and do now."""
    left_out: int
    """Logs that the cut has no room for; nothing of them counts."""
    rotated: Rotated | None


async def revoke(venue: Path, name: str, wish: CutWish) -> Outcome:
    """End the trust in an enrolled device, or move its cut; without a wish a revoked device stays as it is."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    certificate = _meant(authority, venue, name, wish)
    if certificate.serial == load_identity(venue / MANAGER_DIRECTORY).certificate.serial:
        raise OwnManager(
            f"{name!r} is the manager that publishes what this authority says, so it cannot revoke itself; nothing was "
            f"signed. If its keys are lost, keep the authority's directory and make another manager first"
        )
    async with open_device(venue / MANAGER_DIRECTORY) as device:
        said = await _publish_register(authority, device)
        holding = said.holding(certificate.serial)
        if holding:
            free_name(venue, certificate)
        if holding and wish is None:
            return Outcome(certificate, holding[0], False, (), (), 0, None)
        cut, left_out = await _cut(device, certificate, wish, holding)
        if len(holding) == 1 and dict(holding[0].cut) == cut:
            return Outcome(certificate, holding[0], False, (), (), left_out, None)
        before = device.cards.counted()
        statement = _sign(authority, certificate.serial, said.number(certificate.serial) + 1, cut)
        await device.append(Lane.CONTROL, Kind.REVOCATION, statement.body)
        free_name(venue, certificate)
        after = device.cards.counted()
        rotated = None if holding else await rotate(device)
        return Outcome(
            certificate, statement, True, _ordered(before - after), _ordered(after - before), left_out, rotated
        )


async def rotate_bundle_key(venue: Path) -> Rotated:
    """Give the venue a new bundle key, as the office's manager; what the register holds is published first."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    async with open_device(venue / MANAGER_DIRECTORY) as device:
        await _publish_register(authority, device)
        known = {certificate.serial for certificate in device.devices.all()}
        for certificate in authority.issued():
            if certificate.serial not in known:
                await device.append(Lane.CONTROL, Kind.DEVICE, certificate.der)
        return await rotate(device)


def registered(authority: Authority) -> list[Statement]:
    """Every statement that the authority signed, by device and number."""
    directory = authority.directory / REVOKED_DIRECTORY
    paths = sorted(directory.glob("*.cbor")) if directory.exists() else []
    meaning = "a revocation in the authority's register"
    return [
        parse_statement(read_file(path, bytes_max=ENTRY_BODY_BYTES_MAX, meaning=meaning), authority.root)
        for path in paths
    ]


def retire(venue: Path, name: str) -> tuple[DeviceCertificate, bool]:
    """Free the name of a device that is gone for good; False if it was free already. What it signed counts on."""
    authority = open_authority(venue / AUTHORITY_DIRECTORY)
    certificate = _meant(authority, venue, name, None)
    if certificate.serial == load_identity(venue / MANAGER_DIRECTORY).certificate.serial:
        raise OwnManager(f"{name!r} is this office's own manager: it is not gone, it would publish this")
    return certificate, free_name(venue, certificate)


def free_name(venue: Path, certificate: DeviceCertificate) -> bool:
    """Free a device's name for another one, its join code being void first; False if it was free already."""
    office = open_office(venue)
    if any(holder.serial == certificate.serial for holder in office.authority.holders()):
        office.make_void(certificate.name)
    return office.authority.release_name(certificate)


def _meant(authority: Authority, venue: Path, words: str, wish: CutWish) -> DeviceCertificate:
    found = find_device(authority, words)
    if not found:
        raise NotIssued(f"no device called {words!r} is enrolled in {venue}; 'tapmesh venue show' lists those that are")
    if len(found) > 1 and wish is not None:
        listed = ", ".join(certificate.fingerprint for certificate in found)
        raise SeveralOfThatName(
            f"{len(found)} devices were called {words!r}; nothing was signed. Say which one by its fingerprint, the "
            f"one that has the name now first: {listed}"
        )
    return found[0]


async def _publish_register(authority: Authority, device: Device) -> Revocations:
    """Publish what a command that was broken off left in the register; returns everything that was ever said."""
    said = Revocations(registered(authority))
    for serial in said.serials():
        for statement in said.holding(serial):
            if device.trust.revocations.number(serial) < statement.number:
                await device.append(Lane.CONTROL, Kind.REVOCATION, statement.body)
    for serial in device.trust.revocations.serials():
        for statement in device.trust.revocations.holding(serial):
            said.add(statement)
    return said


def _sign(authority: Authority, serial: int, number: int, cut: Mapping[bytes, Position]) -> Statement:
    if number > REVOCATION_NUMBER_MAX:
        raise NumbersUsedUp("this device's statements have used up their numbers; it stays revoked as it is")
    body = sign_statement(authority.key.sign, serial=serial, number=number, cut=cut)
    directory = authority.directory / REVOKED_DIRECTORY
    if not directory.exists():
        make_new_directory(directory)
    write_new_file(directory / f"{serial:040x}-{number:010d}.cbor", body)
    return parse_statement(body, authority.root)


# -- The cut -----------------------------------------------------------------------------------------------------------


async def _cut(
    device: Device, certificate: DeviceCertificate, wish: CutWish, holding: Sequence[Statement]
) -> tuple[dict[bytes, Position], int]:
    """The places of a wish, and how many logs had no room in the cut."""
    match wish:
        case Wish.NONE:
            return {}, 0
        case None | Wish.HELD:
            return await _held(device, certificate.serial)
        case places:
            cut = dict(holding[0].cut) if len(holding) == 1 else {}
            cut.update([await _resolve(device, certificate, place) for place in places])
            if len(cut) > REVOCATION_CUT_LOGS_MAX:
                raise NoSuchPlace(f"a cut names at most {REVOCATION_CUT_LOGS_MAX} logs; nothing was signed")
            return cut, 0


async def _held(device: Device, serial: int) -> tuple[dict[bytes, Position], int]:
    """Where each log of the device stops counting here; of too many, those with money come first."""
    logs = device.node.frontier.logs
    order = {Lane.MONEY: 0, Lane.CONTROL: 1, Lane.TELEMETRY: 2}
    held = sorted(
        (log_id for log_id in device.trust.logs_of(serial) if log_id in logs),
        key=lambda log_id: (order[logs[log_id].genesis.lane], log_id),
    )
    cut: dict[bytes, Position] = {}
    for log_id in held[:REVOCATION_CUT_LOGS_MAX]:
        contested_from = device.trust.contested_from(log_id)
        heads = logs[log_id].heads()
        if contested_from is None and heads:
            cut[log_id] = heads[-1]
        elif contested_from:
            (data, *others) = await device.read_entry(log_id, contested_from - 1)
            if others:
                raise StorageError(f"log {log_id.hex()} forks before the place where it is known to; check the store")
            cut[log_id] = Position(contested_from - 1, entry_id(data))
    return cut, max(0, len(held) - REVOCATION_CUT_LOGS_MAX)


async def _resolve(device: Device, certificate: DeviceCertificate, place: Place) -> tuple[bytes, Position]:
    """Find the one entry that a place means among what is held; one named in full need not be held here."""
    logs = device.node.frontier.logs
    found = [log_id for log_id in device.trust.logs_of(certificate.serial) if log_id.hex().startswith(place.log)]
    if len(place.log) == 2 * LOG_ID_BYTES and len(place.id) == 2 * ID_BYTES and not found:
        return bytes.fromhex(place.log), Position(place.seq, bytes.fromhex(place.id))
    if len(found) != 1:
        many = "not one log" if not found else "more than one log"
        raise NoSuchPlace(
            f"{place.log!r} begins {many} of {certificate.name!r} that this office holds; nothing was signed. Give "
            f"more digits, or let the manager's device meet one that holds it"
        )
    (log_id,) = found
    entries = await device.read_entry(log_id, place.seq) if log_id in logs else []
    ids = [identifier for identifier in map(entry_id, entries) if identifier.hex().startswith(place.id)]
    if not ids and len(place.id) == 2 * ID_BYTES:
        return log_id, Position(place.seq, bytes.fromhex(place.id))
    if len(ids) != 1:
        choice = ", ".join(identifier.hex() for identifier in ids) or "none is held"
        raise NoSuchPlace(
            f"{place} does not name one entry ({choice}); nothing was signed. Where the log forked, say which one: "
            f"LOG:SEQ:ID"
        )
    return log_id, Position(place.seq, ids[0])


def _ordered(facts: set[TapFact]) -> tuple[TapFact, ...]:
    return tuple(sorted(facts, key=lambda fact: (fact.log, fact.seq, fact.entry_id)))
