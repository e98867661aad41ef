"""`tapmesh status`: where a device stands, asked of the program that runs with it, or read from its files."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from mesh.cli_output import errors_shown, say
from mesh.errors import LocalError
from mesh.shell.doctor import Patient
from mesh.shell.notice_lines import unix_ms
from mesh.shell.status import status_on_disk
from mesh.shell.status_lines import Document, lines_of
from mesh.shell.status_socket import NoAnswer, NotRunning, asking

PATIENCE_S: Final = 10.0
FOLLOW_S: Final = 1.0
EXIT_NOT_RUNNING: Final = 5
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"


class NoDirectory(LocalError):
    """There is no such directory, or it is not one."""


@click.command()
@click.argument("place", type=click.Path(path_type=Path), metavar="[DIR]", required=False)
@click.option("--dir", "directory", type=click.Path(path_type=Path), help="The device's directory; or say it alone.")
@click.option("--follow", is_flag=True, help="Say it again every second, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")
@click.pass_context
def status(context: click.Context, place: Path | None, directory: Path | None, follow: bool, as_json: bool) -> None:
    """Say what a device holds, how far its peers are, and what money is on this device only.

    Asks the program that runs with the device; where none does, its files say what is on the disk, and nothing about
    peers. Changes nothing.

    Exit code 0: the program answered. 5: no program runs, and what is on the disk was shown. 2, 3, 4: an error.

    \b
      tapmesh status /var/lib/tapmesh/bar-a
      tapmesh status --dir ./bar-a --follow
      tapmesh status ./courier --json
    """
    with errors_shown():
        where = _directory(place, directory)
        try:
            for document in _asked(where, follow=follow):
                _show(document, as_json=as_json, follow=follow)
            return
        except NotRunning:
            _require_unused(where)
            _show(status_on_disk(where, unix_ms()), as_json=as_json, follow=False)
        except KeyboardInterrupt:
            return
    context.exit(EXIT_NOT_RUNNING)


def _directory(place: Path | None, directory: Path | None) -> Path:
    where = place or directory
    if where is None:
        raise NoDirectory("which device? Say its directory: tapmesh status DIR; nothing was changed")
    try:
        is_there = where.is_dir()
    except PermissionError as error:
        raise NoDirectory(f"{where} belongs to another user, who alone may ask; nothing was changed") from error
    if not is_there:
        raise NoDirectory(
            f"there is no directory {where}: nothing can be said about a device there, and nothing was changed. Say "
            f"the one that 'tapmesh reader run --dir' or the like is given"
        )
    return where


def _require_unused(directory: Path) -> None:
    process = Patient(directory, None, time.time()).running
    if process is not None:
        raise NoAnswer(
            f"process {process} has the device in {directory} open and cannot be asked: it is just starting, or is no "
            f"program that answers. That says nothing about its money. Ask again in a moment"
        )


def _asked(directory: Path, *, follow: bool) -> Iterator[Document]:
    with asking(directory, PATIENCE_S) as program:
        yield program.ask()
        while follow:
            time.sleep(FOLLOW_S)
            yield program.ask()


def _show(document: Document, *, as_json: bool, follow: bool) -> None:
    if as_json:
        say(json.dumps(document, ensure_ascii=False))
        return
    if follow and sys.stdout.isatty():
        click.echo(_HOME_AND_CLEAR, nl=False)
    for line in lines_of(document):
        say(line)
    if follow and not sys.stdout.isatty():
        say("")
