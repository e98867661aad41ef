"""What every long-running program of a device shares: reader, courier, gateway and plain node.

A command takes its options from :func:`device_options` and hands them to :func:`run_program` with a body::

    @command.command()
    @device_options
    def run(options: Options) -> None:
        with errors_shown():
            run_program(options, body)

    async def body(program: Program) -> None:      # runs until it returns, a signal comes, or the disk fails
        async for line in program.commands():
            ...

The frame opens the device, takes part in the mesh, says READY, tells people and programs what surfaces, and ends
cleanly on SIGTERM and SIGINT. Errors come out of it, alone or in groups; `mesh.cli_output.errors_shown` gives each a
paragraph and an exit code.
"""

from __future__ import annotations

import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Final

import click
import trio

from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.limits import ZONE_CHARS_MAX
from mesh.shell.collector import leave_loaded_alone
from mesh.shell.device import Device, Notice, open_device
from mesh.shell.network import Endpoint, Network, Settings
from mesh.shell.notice_lines import roles, roles_text, tell
from mesh.shell.output import Json, Output
from mesh.shell.standard_input import input_lines
from mesh.shell.status import Reporter
from mesh.shell.status_socket import NoSocket, answering

RELEASE_YEAR: Final = 2026
"""A clock that shows an earlier year than this program was made in is wrong, and only that one surely is."""
HELD_PAUSE_S: Final = 0.25
"""Between two lines that say how much is held."""
EVERY_INTERFACE: Final = "0.0.0.0"


class UnknownZone(LocalError):
    """Nobody said in which zone this device is, and the venue document leaves a choice."""


class WrongRole(LocalError):
    """The device is not enrolled for what this program does."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all these programs take; see :func:`device_options` for what they mean."""

    directory: Path
    zone: str | None
    listen: Endpoint | None
    peers: tuple[Endpoint, ...]
    mdns: bool
    interface: str | None
    as_json: bool
    until_eof: bool

    def settings(self, *, zone_bound: bool) -> Settings:
        """How the network is to be used; without --listen on any port of the chosen interface, or of all."""
        listen = self.listen or Endpoint(self.interface or EVERY_INTERFACE, 0)
        interfaces = None if self.interface is None else (self.interface,)
        return Settings(listen, self.peers, self.mdns, interfaces, zone_bound)


class EndpointType(click.ParamType[Endpoint]):
    """HOST:PORT on a command line."""

    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        if isinstance(value, Endpoint):
            return value
        host, _, port = str(value).rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65_535:
            self.fail(f"{value!r} is not an address: write it like 192.0.2.7:7400", param, ctx)
        return Endpoint(host, int(port))


def device_options(command: Callable[..., object]) -> Callable[..., object]:
    """Give a click command the options of a long-running program; it receives them as `options: Options`."""
    endpoint = EndpointType()
    directory = click.Path(path_type=Path, file_okay=False)
    decorators = (
        click.option("--dir", "directory", type=directory, required=True, help="The device's directory."),
        click.option("--zone", help="The bar area this device is in; may be left out where the venue has only one."),
        click.option("--listen", type=endpoint, help="Where to listen [default: any port, on --interface or on all]."),
        click.option("--peer", "peers", type=endpoint, multiple=True, help="Dial this address too; repeatable."),
        click.option("--mdns/--no-mdns", default=True, help="Find other devices on the local network [default: yes]."),
        click.option("--interface", help="Use only the network interface with this IPv4 address."),
        click.option("--json", "as_json", is_flag=True, help="Say what happens as one JSON object a line."),
        click.option("--until-eof", is_flag=True, help="End when standard input ends, as a started helper should."),
    )

    @wraps(command)  # which also keeps the options that were put on the command below this decorator
    def collect(
        *,
        directory: Path,
        zone: str | None,
        listen: Endpoint | None,
        peers: tuple[Endpoint, ...],
        mdns: bool,
        interface: str | None,
        as_json: bool,
        until_eof: bool,
        **others: object,
    ) -> object:
        options = Options(directory, zone, listen, peers, mdns, interface, as_json, until_eof)
        return command(options=options, **others)

    for decorator in reversed(decorators):
        decorator(collect)
    return collect


@dataclass(slots=True)
class Program:
    """What the body of a program works with."""

    device: Device
    network: Network
    output: Output
    options: Options

    def emit(self, event: str, text: str | None, /, **fields: Json) -> None:
        """Say something: `text` to people, or `event` and `fields` as JSON where that was asked for."""
        self.output.emit(event, text, **fields)

    def tell_ready(self, **fields: Json) -> None:
        """Say that the program does its work now; once, and with `fields` of its own for programs."""
        certificate, zone = self.device.certificate, self.device.node.zone
        self.emit(
            "ready",
            f"READY {certificate.name} ({roles_text(certificate)}) in zone {zone}, port {self.network.port}",
            name=certificate.name,
            roles=roles(certificate),
            zone=zone,
            port=self.network.port,
            entries=self.device.entries_held,
            **fields,
        )

    async def commands(self) -> AsyncGenerator[str, None]:
        """Lines typed at the program, without empty ones. Ends when the input ends and --until-eof was given."""
        async with aclosing(input_lines()) as lines:
            async for line in lines:
                if line:
                    yield line
        if not self.options.until_eof:
            await trio.sleep_forever()


Body = Callable[[Program], Awaitable[None]]


def run_program(
    options: Options,
    body: Body,
    *,
    role: Role | None = None,
    zone_bound: bool = False,
    tells_ready: bool = True,
) -> None:
    """Run a device with its network until `body` returns or a signal ends it; errors of ours come out.

    `role` is what the device must be enrolled as; `zone_bound` is for devices that are in one place at a time. A body
    that has more to prepare says :meth:`Program.tell_ready` itself: then `tells_ready` is False.
    """
    trio.run(partial(_run, options, body, role=role, zone_bound=zone_bound, tells_ready=tells_ready))


async def _run(options: Options, body: Body, *, role: Role | None, zone_bound: bool, tells_ready: bool) -> None:
    output = Output(options.as_json)
    remark = clock_remark(time.time())
    if remark is not None:
        output.emit("note", remark, text=remark)
    async with open_device(options.directory, zone=options.zone or "") as device:
        leave_loaded_alone()
        if role is not None and role not in device.certificate.roles:
            raise WrongRole(
                f"{device.certificate.name} is enrolled as {roles_text(device.certificate)}, not as {role.value}; "
                f"nothing was started. Use the device that was enrolled for this, or enrol another one"
            )
        _settle_zone(device, options.zone, output)
        network = Network(
            device, options.settings(zone_bound=zone_bound), lambda text: output.emit("note", text, text=text)
        )
        notices = device.subscribe()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, nursery.cancel_scope)
            nursery.start_soon(_tell_all, notices, device, output)
            nursery.start_soon(_tell_growth, device, output)
            await nursery.start(network.run)
            await nursery.start(_answer_status, device, output)
            program = Program(device, network, output, options)
            if tells_ready:
                program.tell_ready()
            await body(program)
            nursery.cancel_scope.cancel()


async def _answer_status(device: Device, output: Output, *, task_status: trio.TaskStatus[None]) -> None:
    """Let `tapmesh status` ask; a program whose socket cannot be made sells all the same."""
    try:
        async with answering(device.identity.directory, Reporter(device).report):
            task_status.started()
            await trio.sleep_forever()
    except NoSocket as error:
        output.emit("note", str(error), text=str(error))
        task_status.started()


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


async def _tell_all(notices: trio.MemoryReceiveChannel[Notice], device: Device, output: Output) -> None:
    async for notice in notices:
        tell(notice, device, output)


async def _tell_growth(device: Device, output: Output) -> None:
    """Tell programs what is held, whenever it changed, a few times a second at most."""
    told = None
    while True:
        digest = device.node.frontier.digest()
        if digest != told:
            told = digest
            output.emit("held", None, entries=device.entries_held, digest=digest.hex())
        await trio.sleep(HELD_PAUSE_S)


def clock_remark(unix_s: float) -> str | None:
    """What to say about a clock that shows this time; nothing unless it is surely wrong.

    >>> clock_remark(0.0)
    "this device's clock shows the year 1970: times it writes are wrong until it is set; money is not affected"
    """
    year = time.gmtime(unix_s).tm_year
    if year >= RELEASE_YEAR:
        return None
    return (
        f"this device's clock shows the year {year}: times it writes are wrong until it is set; money is not affected"
    )


def _settle_zone(device: Device, asked: str | None, output: Output) -> None:
    """Take the zone that was asked for, or the only one of the venue."""
    zones = _zones(device)
    if asked is not None:
        check_zone(device, asked, output)
    elif len(zones) == 1:
        device.node.zone = zones[0]
    else:
        choice = f"the venue has {', '.join(zones)}" if zones else "no venue document is held here yet"
        raise UnknownZone(f"in which zone is this device? Say --zone NAME ({choice}); nothing was started")


def check_zone(device: Device, zone: str, output: Output) -> None:
    """Raise :class:`UnknownZone` for what cannot be a zone's name; say so where the venue does not know the zone."""
    if not 1 <= len(zone) <= ZONE_CHARS_MAX or not zone.isprintable():
        raise UnknownZone(f"a zone's name has 1 to {ZONE_CHARS_MAX} printable characters; nothing was changed")
    zones = _zones(device)
    if zones and zone not in zones:
        text = (
            f"zone {zone!r} is not in the venue document ({', '.join(zones)}): a typing error leaves this device alone"
        )
        output.emit("note", text, text=text)


def _zones(device: Device) -> tuple[str, ...]:
    document = device.venue.document()
    return () if document is None else document.zones
