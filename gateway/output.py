"""How the commands speak while they run: sentences for people, or one JSON object a line for programs."""

from __future__ import annotations

import json

import click


class Output:
    """Either sentences for people or JSON lines for programs; every line is flushed at once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    def event(self, name: str, sentence: str, **values: object) -> None:
        """Say that something happened: `sentence` for people, `name` and `values` for programs."""
        click.echo(json.dumps({"event": name, **values}) if self._as_json else sentence)

    def remark(self, sentence: str) -> None:
        """Something that only people need to know."""
        self.event("remark", sentence, text=sentence)


def parse_listen(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int]:
    """A click callback for HOST:PORT; port 0 lets the system choose."""
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise click.BadParameter(f"{value!r} is not HOST:PORT, for example 127.0.0.1:7443", context, parameter)
    return host.strip("[]"), int(port)
