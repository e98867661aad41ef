"""`tapmesh device set-aside`: go on without a damaged replica.db, and keep it."""

from __future__ import annotations

from pathlib import Path

import click

from mesh.cli_output import errors_shown, say
from mesh.core.certificate import parse_venue_root
from mesh.shell.keys import ROOT_FILE, read_certificate
from mesh.shell.setting_aside import set_replica_aside


@click.command("set-aside")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The device's directory.",
)
def set_aside(directory: Path) -> None:
    """Rename a damaged replica.db, so that this device can start and other devices fill it again.

    Nothing is deleted, and a file that is whole stays where it is. own.db, which holds what this device sold, is never
    set aside.
    """
    with errors_shown():
        root = parse_venue_root(read_certificate(directory / ROOT_FILE, "the venue's root certificate"))
        aside = set_replica_aside(directory, root)
    say(f"{aside.name} is what replica.db was. Keep it until the venue is settled: it may hold the only copy of what a")
    say("lost device sold. Start this device again; the other devices send it everything they have.")
