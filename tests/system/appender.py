"""A program over the same frame as ours that signs entries as fast as it can and says which are on its disk."""

from __future__ import annotations

import click

from mesh.cli_output import errors_shown
from mesh.core.kinds import Kind, Lane
from mesh.shell.program import Options, Program, device_options, run_program
from mesh.views.tap_entry import AbortBody


@click.command()
@device_options
def appender(options: Options) -> None:
    """Append until killed."""
    with errors_shown():
        run_program(options, _append_for_ever)


async def _append_for_ever(program: Program) -> None:
    index = 0
    while True:
        body = AbortBody(index.to_bytes(16, "big"), bytes(32)).encode()
        done = await program.device.append(Lane.MONEY, Kind.ABORT, body)
        program.emit("appended", None, log=done.log_id.hex(), seq=done.seq, id=done.id.hex())
        index += 1
