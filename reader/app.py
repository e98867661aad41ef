"""A reader: the device, its mesh, its antenna and its staff, wired together. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import trio

from mesh.cli_node import tell_status
from mesh.core.currency import Currency
from mesh.core.kinds import Lane, Operation, Role
from mesh.errors import LocalError
from mesh.ports import StatementSigner
from mesh.shell.device import Device
from mesh.shell.notice_lines import author_name
from mesh.shell.program import Program
from reader import screen as screens
from reader.chips.profile import Antenna
from reader.journal import open_journal
from reader.tap_events import Cancel, Green, NotServed, Screen, Served
from reader.terminal import Command, Ring, Terminal
from reader.venue import NO_CURRENCY, VenueViews

SELLING_ROLES: Final = frozenset({Role.READER, Role.TILL})
COMMANDS_WAITING_MAX: Final = 16


class EnrolledIdentity:
    """Implements `Identity` over the device's certificate and key."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def name(self) -> str:
        return self._device.certificate.name

    @property
    def roles(self) -> frozenset[Role]:
        """None once this device heard that it was revoked: nothing that it writes from then on would count."""
        certificate = self._device.certificate
        return frozenset() if certificate.serial in self._device.trust.revocations else certificate.roles

    @property
    def signer(self) -> StatementSigner:
        return self._device.identity.signer


class Lines:
    """Implements `Display`: one line for each screen, for people or as JSON."""

    def __init__(self, program: Program, venue: VenueViews) -> None:
        self._program, self._venue = program, venue

    def show(self, screen: Screen, stages_ms: Mapping[str, float]) -> None:
        event, data = screens.fields(screen)
        if isinstance(screen, Green):
            data["stages_ms"] = {name: round(milliseconds, 3) for name, milliseconds in stages_ms.items()}
        self._program.emit(event, screens.line(screen, self._venue.currency), **data)

    def not_ours(self, reason: str) -> None:
        self._program.emit("not_ours", f"AMBER  {reason}. Nothing was charged.", reason=reason)

    def refused(self, reason: str) -> None:
        """What staff typed cannot be meant."""
        self._program.emit("refused", f"AMBER  {reason}", reason=reason)


async def serve(program: Program, radio: Antenna) -> None:
    """The body of `tapmesh reader run`: serve staff and wristbands until `quit`."""
    device = program.device
    if not device.certificate.roles & SELLING_ROLES:
        raise LocalError(
            f"{device.certificate.name} is enrolled neither as reader nor as till, so nothing it charges would count; "
            f"nothing was started. Use a device that was enrolled for selling"
        )
    venue = VenueViews(device.views, partial(author_name, device))
    lines = Lines(program, venue)
    # The money log of this process begins now, not in its first tap.
    await device.open_lane(Lane.MONEY)
    journal = await open_journal(device)
    terminal = Terminal(radio, journal, venue, EnrolledIdentity(device), lines, device.surroundings)
    send, receive = trio.open_memory_channel[Command](COMMANDS_WAITING_MAX)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(terminal.run, receive)
        async for line in program.commands():
            if line == "quit":
                break
            if line == "status":
                tell_status(program)
                continue
            try:
                await send.send(parse_command(line, venue.currency))
            except LocalError as error:
                lines.refused(str(error))
        nursery.cancel_scope.cancel()


def parse_command(line: str, currency: Currency) -> Command:
    """One line as typed; raises `LocalError` where it cannot be meant."""
    match line.split():
        case ["sale", amount]:
            return Ring(Operation.SALE, _amount(amount, currency))
        case ["topup", amount]:
            return Ring(Operation.TOP_UP, _amount(amount, currency))
        case ["cancel"]:
            return Cancel()
        case ["served"]:
            return Served()
        case ["not-served"]:
            return NotServed()
        case _:
            raise LocalError(
                f"unknown command {line!r}, nothing was charged; there are: sale 6.50, topup 20.00, cancel, served, "
                f"not-served, status, quit"
            )


def _amount(text: str, currency: Currency) -> int:
    if currency is NO_CURRENCY:
        raise LocalError("this device has no venue document yet: let it meet another device first. Nothing was charged")
    amount = currency.parse(text)
    if amount == 0:
        raise LocalError("an order is more than nothing; nothing was charged")
    return amount
