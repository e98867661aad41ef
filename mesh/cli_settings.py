"""Options that may also be set by the environment or a file: how the command line takes them (mesh.shell.settings).

Applied to every command as it is loaded, so that no program has to say it again: an option of a known name reads its
variable and the files, and `--dir`, which says which device's file that is, is read before the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from mesh.cli_output import errors_shown, say
from mesh.shell.settings import (
    BY_PARAMETER,
    DIRECTORY_VARIABLE,
    KNOWN,
    VENUE_VARIABLE,
    Known,
    Setting,
    Settings,
    machine_file,
    read_settings,
)

_PROGRAM: Final = "run"
"""Settings are for programs that run until stopped; every one of them is its group's `run`."""


def with_settings(command: click.Command) -> click.Command:
    """Let the command, and every command below it, take the settings."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_settings(below)
        return command
    directory = next((option for option in _options(command) if option.name == "directory"), None)
    for option in _options(command):
        match option.name:
            case "directory" if "--dir" in option.opts:
                option.envvar = DIRECTORY_VARIABLE
            case "venue":
                option.envvar = VENUE_VARIABLE
            case str(name) if name in BY_PARAMETER and command.name == _PROGRAM and directory is not None:
                option.envvar = BY_PARAMETER[name].variable
                option.show_envvar = True
    if directory is not None and command.name == _PROGRAM:
        directory.is_eager = True
        directory.callback = _reading(directory.callback)
    return command


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _reading(before: Callable[..., Any] | None) -> Callable[[click.Context, click.Parameter, Path | None], Any]:
    """A callback for --dir that reads the device's settings, which the other options then fall back to."""

    def read(context: click.Context, parameter: click.Parameter, directory: Path | None) -> Any:
        if directory is not None and not context.resilient_parsing:
            with errors_shown():
                context.default_map = read_settings(directory).by_parameter()
        return directory if before is None else before(context, parameter, directory)

    return read


@click.command("settings")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The device's directory.",
)
@click.option("--json", "in_json", is_flag=True, help="As one JSON object.")
def settings_command(directory: Path, in_json: bool) -> None:
    """Show what the device's programs are set to, and by what.

    A flag beats the environment, that beats DIR/device.toml, and that beats the machine's file.
    """
    with errors_shown():
        found = read_settings(directory)
    rows = [(known, *_value(known, found)) for known in KNOWN]
    if in_json:
        say(json.dumps({known.key: {"value": value, "from": source} for known, value, source in rows}))
        return
    for known, value, source in rows:
        shown = "-" if value is None else json.dumps(value)
        say(f"{known.key:<10} {shown:<28} {source:<32} {known.meaning}")
    say(f"Files: {directory / 'device.toml'}, {machine_file()}")


def _value(known: Known, found: Settings) -> tuple[Setting | None, str]:
    """A setting's value and where it is from. An environment variable is shown as it is written."""
    value = found.value(known.key)
    if os.environ.get(known.variable):
        return value, known.variable
    if value is not None:
        return value, str(found.sources[known.key])
    return None, "not set: the program's default"
