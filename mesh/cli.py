"""`tapmesh`: one command whose subcommands are entry points, so that `mesh` imports neither reader nor gateway.

A subcommand is loaded when it is named. One that is broken or missing shows as such and does not take the others along.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, Final

import click

from mesh.cli_examples import with_examples
from mesh.cli_output import errors_shown
from mesh.cli_settings import with_settings
from mesh.errors import LocalError

COMMANDS_GROUP: Final = "tapmesh.commands"
_LOAD_ERRORS: Final = (ImportError, AttributeError, SyntaxError)


class CommandUnavailable(LocalError):
    """A subcommand is installed but cannot be loaded."""


class LazyGroup(click.Group):
    """A click group over entry points; `found` maps names to them, by default those installed."""

    def __init__(self, *arguments: Any, found: Mapping[str, EntryPoint] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._found = found

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands, without loading any."""
        return sorted({*self.commands, *self._entry_points()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand; where that fails, a command that says so."""
        point = self._entry_points().get(cmd_name)
        if point is None:
            return super().get_command(ctx, cmd_name)
        try:
            command = point.load()
        except _LOAD_ERRORS as error:
            return _unavailable(cmd_name, f"{type(error).__name__}: {error}")
        if not isinstance(command, click.Command):
            return _unavailable(cmd_name, f"{point.value} is not a command")
        return with_examples(cmd_name, with_settings(command))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; errors of ours become a paragraph and an exit code."""
        with errors_shown():
            return super().invoke(ctx)

    def _entry_points(self) -> Mapping[str, EntryPoint]:
        if self._found is None:
            self._found = {point.name: point for point in entry_points(group=COMMANDS_GROUP)}
        return self._found


def _unavailable(name: str, reason: str) -> click.Command:
    def fail(**_ignored: object) -> None:
        raise CommandUnavailable(
            f"'tapmesh {name}' cannot be loaded ({reason}). Nothing was changed. The other commands still work; "
            f"install the program again, with its dependencies, to get this one back."
        )

    arguments = click.Argument(["anything"], nargs=-1, type=click.UNPROCESSED)
    settings = {"ignore_unknown_options": True, "help_option_names": []}
    summary = f"(cannot be loaded: {reason})"
    return click.Command(name, callback=fail, params=[arguments], context_settings=settings, short_help=summary)


def _version() -> str:
    try:
        return version("tapmesh")
    except PackageNotFoundError:
        return "not installed, run from its source tree"


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_version(), prog_name="tapmesh")
def main() -> None:
    """Keep festival bars selling when the network is gone, and catch cloned wristbands offline.

    \b
    Begin with an event and its first two bars, on one machine:
      tapmesh venue init ./event --name "Riverside 2031" --currency EUR --zone north --per-tap-cap 50
      tapmesh venue enrol "Bar A" --role reader --venue ./event --device ./bar-a
      tapmesh venue enrol "Bar B" --role reader --venue ./event --device ./bar-b
      tapmesh reader run --dir ./bar-a --device usb

    \b
    Forty readers, each by a code of its own (docs/OPERATING.md has the whole night):
      tapmesh venue enrol --from readers.csv --page codes.html --venue ./event
      tapmesh venue welcome --venue ./event
      tapmesh join CODE                      on each device
      tapmesh doctor --dir DIR               READY, or what to do
    """
