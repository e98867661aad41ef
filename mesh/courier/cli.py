"""`tapmesh courier`: a device that carries logs between zones that cannot reach each other.

On foot it is in one zone at a time: it links only with who is there, takes what it lacks, gives what they lack, and
says when it is in step with each. Then somebody carries it into the next zone and tells it so.
"""

from __future__ import annotations

import click

from mesh.cli_output import errors_shown
from mesh.core.kinds import Role
from mesh.errors import LocalError
from mesh.shell.program import Options, Program, check_zone, device_options, run_program


@click.group()
def courier() -> None:
    """Carry logs between zones."""


@courier.command()
@device_options
def run(options: Options) -> None:
    """Run the courier in DIR until it is stopped. Commands on standard input: walk ZONE, status, quit."""
    with errors_shown():
        run_program(options, _body, role=Role.COURIER, zone_bound=True)


async def _body(program: Program) -> None:
    await tell_carried(program, "carrying")
    async for line in program.commands():
        match line.split(maxsplit=1):
            case ["walk", zone]:
                await walk(program, zone)
            case ["status"]:
                await tell_carried(program, "status")
            case ["quit"]:
                return
            case _:
                program.emit("unknown", f"unknown command {line!r}; there are: walk ZONE, status, quit", command=line)


async def walk(program: Program, zone: str) -> None:
    """Leave everybody here and meet who is in `zone`."""
    try:
        check_zone(program.device, zone, program.output)
    except LocalError as error:
        program.emit("refused", str(error), reason=str(error))
        return
    await program.network.move(zone)
    await tell_carried(program, "walked")


async def tell_carried(program: Program, event: str) -> None:
    """Say where this courier is and how much it carries; what it says is on its disk."""
    device, zone = program.device, program.device.node.zone
    entries, size = await device.replica.read(lambda store: store.size())
    names = sorted(peer.name for peer in device.node.links.values())
    program.emit(
        event,
        f"in zone {zone}, carrying {entries} entries ({size / 1e6:.2f} MB), linked to {', '.join(names) or 'nobody'}",
        zone=zone,
        entries=entries,
        bytes=size,
        logs=len(device.node.frontier.logs),
        links=names,
        port=program.network.port,
        digest=device.node.frontier.digest().hex(),
    )
