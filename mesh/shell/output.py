"""What a long-running program says on standard output: a line for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import click

Json: TypeAlias = "str | int | float | bool | None | Sequence[Json] | Mapping[str, Json]"


@dataclass(slots=True)
class Output:
    """Says each thing once, in the one form or the other. A listener that has gone away stops nothing."""

    as_json: bool
    _gone: bool = False

    def emit(self, event: str, text: str | None, /, **fields: Json) -> None:
        """Say that `event` happened: `text` to people (None: they need not know), `fields` to programs."""
        line = json.dumps({"event": event, **fields}, ensure_ascii=False) if self.as_json else text
        if line is None or self._gone:
            return
        try:
            click.echo(line)
        except BrokenPipeError:
            # Whoever read this ended first; a bar goes on selling.
            self._gone = True
