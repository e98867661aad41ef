"""How commands speak: results on standard output, errors in one paragraph on standard error, an exit code for scripts.

==  ===========================================================================================
0   done
1   a program error: please report it
2   the command cannot do what was asked; nothing was changed (`LocalError`, and click's own errors)
3   what was given from outside breaks a rule: a file, a certificate, a peer (`PeerError`)
4   the disk failed or holds something unexpected (`StorageError`)
5   `tapmesh status` alone: no program runs with the device, and what is on its disk was shown
==  ===========================================================================================
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import click

from mesh.errors import LocalError, PeerError, StorageError, TapmeshError

LINE_CHARS: Final = 100
EXIT_LOCAL: Final = 2
EXIT_PEER: Final = 3
EXIT_STORAGE: Final = 4
EXIT_OTHER: Final = 1


def exit_code(error: TapmeshError) -> int:
    """The exit code that says who is to blame; see this module's table."""
    match error:
        case LocalError():
            return EXIT_LOCAL
        case PeerError():
            return EXIT_PEER
        case StorageError():
            return EXIT_STORAGE
        case _:
            return EXIT_OTHER


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turn errors raised inside, also out of trio's nurseries, into a paragraph and an exit code."""
    try:
        yield
    except TapmeshError as error:
        _end(error)
    except BaseExceptionGroup as group:
        ours, others = group.split(TapmeshError)
        if ours is None or others is not None:
            raise
        _end(_worst(ours))


def say(text: str) -> None:
    """One line of result, for people."""
    click.echo(text)


def _end(error: TapmeshError) -> NoReturn:
    paragraph = textwrap.fill(str(error), LINE_CHARS, break_long_words=False, break_on_hyphens=False)
    click.echo(f"Error: {paragraph}", err=True)
    raise click.exceptions.Exit(exit_code(error)) from error


def _worst(group: BaseExceptionGroup[TapmeshError]) -> TapmeshError:
    """Of several errors at once the one with the highest exit code: a failing disk outranks a lost peer."""
    found = [_worst(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return max(found, key=exit_code)
