"""`tapmesh node`: a device that only takes part in the mesh, such as a manager's or a spare one that keeps copies."""

from __future__ import annotations

import click

from mesh.cli_output import errors_shown
from mesh.shell.notice_lines import device_name
from mesh.shell.program import Options, Program, device_options, run_program


@click.group()
def node() -> None:
    """Take part in the mesh and keep copies; sell nothing."""


@node.command()
@device_options
def run(options: Options) -> None:
    """Run the device in DIR until it is stopped. Commands on standard input: status, quit."""
    with errors_shown():
        run_program(options, _body)


async def _body(program: Program) -> None:
    async for line in program.commands():
        match line.split():
            case ["status"]:
                tell_status(program)
            case ["quit"]:
                return
            case _:
                program.emit("unknown", f"unknown command {line!r}; there are: status, quit", command=line)


def tell_status(program: Program) -> None:
    """Say who is linked and what is held."""
    device = program.device
    names = sorted(peer.name for peer in device.node.links.values())
    logs = len(device.node.frontier.logs)
    linked = ", ".join(names) or "nobody"
    revoked = sorted(device_name(device, serial) for serial in device.trust.revocations.serials())
    out = f"; revoked: {', '.join(revoked)}" if revoked else ""
    program.emit(
        "status",
        f"{device.certificate.name}: {device.entries_held} entries in {logs} logs, linked to {linked}{out}",
        zone=device.node.zone,
        entries=device.entries_held,
        logs=logs,
        links=names,
        digest=device.node.frontier.digest().hex(),
        unverified=device.verifier.pending,
        conflicts=len(device.cards.all_conflicts()),
        revoked=revoked,
    )
