"""A reader: the device, its mesh, its antenna and its staff, wired together. Nothing is decided here."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from mesh.core.currency import Currency
from mesh.core.kinds import Lane, Operation, Role
from mesh.errors import LocalError
from mesh.ports import Signer
from mesh.shell.device import ConflictSurfaced, Device, Noted, open_device
from mesh.shell.network import Network, Settings
from mesh.views.cards import CardStanding, Conflict
from reader import screen as screens
from reader.chips.radio import open_radio
from reader.journal import open_journal
from reader.ports import VenueTerms
from reader.tap_events import Cancel, Green, NotServed, Screen, Served
from reader.terminal import Command, Ring, Terminal

LINE_BYTES_MAX: Final = 256
NO_CURRENCY: Final = Currency("?", 2)
"""Before a venue document has come there are no orders, so no amount either."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    directory: Path
    device_path: str
    zone: str
    settings: Settings
    as_json: bool


class VenueViews:
    """Implements `Venue` over the device's views."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def terms(self) -> VenueTerms | None:
        document = self._device.venue.document()
        if document is None:
            return None
        return VenueTerms(
            document.event,
            document.card_id_key,
            document.currency,
            document.per_tap_cap_minor,
            document.digest,
        )

    def keys_by_id(self, key_id: bytes) -> Sequence[bytes]:
        return self._device.devices.sealing_keys(key_id)

    def standing(self, card: bytes, record_hash: bytes, parent: bytes, tap_id: bytes) -> CardStanding:
        return self._device.cards.standing(card, record_hash, parent, tap_id)

    def name_of(self, log_id: bytes) -> str:
        log = self._device.node.frontier.logs.get(log_id)
        return log_id.hex() if log is None else log.genesis.certificate.name

    @property
    def currency(self) -> Currency:
        terms = self.terms()
        return NO_CURRENCY if terms is None else terms.currency


class EnrolledIdentity:
    """Implements `Identity` over the device's certificate and key."""

    def __init__(self, device: Device) -> None:
        self._device = device

    @property
    def name(self) -> str:
        return self._device.certificate.name

    @property
    def roles(self) -> frozenset[Role]:
        return self._device.certificate.roles

    @property
    def signer(self) -> Signer:
        return self._device.identity.signer


class Lines:
    """Implements `Display`: one line for each thing that happens, for people or as JSON."""

    def __init__(self, venue: VenueViews, write: Callable[[str], None], *, as_json: bool) -> None:
        self._venue, self._write, self._as_json = venue, write, as_json

    def show(self, screen: Screen, stages_ms: Mapping[str, float]) -> None:
        if self._as_json:
            data = screens.fields(screen)
            if isinstance(screen, Green):
                data["stages_ms"] = {name: round(milliseconds, 3) for name, milliseconds in stages_ms.items()}
            self._write(json.dumps(data))
        else:
            self._write(screens.line(screen, self._venue.currency))

    def not_ours(self, reason: str) -> None:
        self.note("not_ours", f"AMBER  {reason}. Nothing was charged.")

    def double_spend(self, conflict: Conflict) -> None:
        if self._as_json:
            self._write(json.dumps(screens.conflict_fields(conflict)))
        else:
            self._write(screens.conflict_line(conflict, self._venue.currency, self._venue.name_of))

    def note(self, event: str, text: str) -> None:
        self._write(json.dumps({"event": event, "text": text}) if self._as_json else text)

    def ready(self, name: str, device_path: str, port: int) -> None:
        data = {"event": "ready", "name": name, "device": device_path, "port": port}
        text = f"{name} is ready: wristbands at {device_path}, mesh at port {port}. Type: sale 6.50 | topup 20 | cancel"
        self._write(json.dumps(data) if self._as_json else f"{text} | served | not-served | quit")


async def run_reader(options: Options, write: Callable[[str], None]) -> None:
    """Serve until `quit`, SIGINT or SIGTERM; `write` prints a line. Errors are `TapmeshError`, maybe in a group."""
    radio = open_radio(options.device_path)
    try:
        async with open_device(options.directory, zone=options.zone) as device:
            venue = VenueViews(device)
            lines = Lines(venue, write, as_json=options.as_json)
            # The log of this process begins now, not in the first tap.
            await device.open_lane(Lane.MONEY)
            terminal = Terminal(radio, await open_journal(device), venue, EnrolledIdentity(device), lines)
            send, receive = trio.open_memory_channel[Command](16)
            network = Network(device, options.settings, lambda text: lines.note("note", text))
            async with trio.open_nursery() as nursery:
                port = await nursery.start(network.run)
                nursery.start_soon(_alert, device, lines)
                nursery.start_soon(_until_signal, nursery.cancel_scope)
                nursery.start_soon(_obey_staff, send, venue, lines, nursery.cancel_scope)
                lines.ready(device.certificate.name, options.device_path, port)
                await terminal.run(receive)
    finally:
        radio.close()


async def _alert(device: Device, lines: Lines) -> None:
    """Say every double spend: those known already, then each as it surfaces."""
    notices = device.subscribe()
    for conflict in device.cards.all_conflicts():
        lines.double_spend(conflict)
    async for notice in notices:
        match notice:
            case ConflictSurfaced(conflict=conflict):
                lines.double_spend(conflict)
            case Noted(text=text):
                lines.note("note", text)
            case _:
                pass


async def _until_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return


async def _obey_staff(
    send: trio.MemorySendChannel[Command], venue: VenueViews, lines: Lines, scope: trio.CancelScope
) -> None:
    """Take staff's commands from standard input until it closes; wristbands are served after that too."""
    async for line in _stdin_lines():
        if line == "quit":
            scope.cancel()
            return
        try:
            command = parse_command(line, venue.currency)
        except LocalError as error:
            lines.note("refused", f"AMBER  {error}")
            continue
        if command is not None:
            await send.send(command)


def parse_command(line: str, currency: Currency) -> Command | None:
    """One line as typed; `None` where it is empty. Raises `LocalError` where it cannot be meant."""
    match line.split():
        case []:
            return None
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
            raise LocalError(f"'{line}' is no command; nothing was charged. Type sale 6.50, topup 20.00, cancel, ...")


def _amount(text: str, currency: Currency) -> int:
    if currency is NO_CURRENCY:
        raise LocalError("this device has no venue document yet: let it meet another device first. Nothing was charged")
    amount = currency.parse(text)
    if amount == 0:
        raise LocalError("an order is more than nothing; nothing was charged")
    return amount


async def _stdin_lines() -> AsyncIterator[str]:
    """Lines of standard input, read in a thread that may be left behind; no line is longer than it may be."""
    rest = b""
    while True:
        data = await trio.to_thread.run_sync(os.read, sys.stdin.fileno(), 4096, abandon_on_cancel=True)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:LINE_BYTES_MAX]
        for line in lines:
            yield line[:LINE_BYTES_MAX].decode("utf-8", "replace").strip()
