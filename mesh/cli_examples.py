"""What each group's help shows beside its commands: lines that can be typed as they are. A test parses every one."""

from __future__ import annotations

from typing import Final

import click

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "bench": ("tapmesh bench sync --entries 20000 --logs 10",),
    "courier": (
        "tapmesh courier run --dir ./phone --zone north",
        "walk south                               typed, when it has been carried there",
    ),
    "device": (
        "tapmesh device request --dir ./bar-a --name 'Bar A'",
        "tapmesh device accept bar-a.answer --dir ./bar-a",
        "tapmesh device load friday.starter --dir ./bar-a",
        "tapmesh device settings --dir ./bar-a",
        "tapmesh device history --dir ./bar-a",
    ),
    "gateway": ("tapmesh gateway run --dir ./gateway --upstream https://192.0.2.20:7443 --zone north",),
    "log": (
        "tapmesh log ls --dir ./bar-a",
        "tapmesh log show 5f3a --dir ./bar-a --from 100 --to 120",
        "tapmesh log verify ./bar-a --root venue.pem",
    ),
    "node": ("tapmesh node run --dir ./spare --zone north",),
    "reader": (
        "tapmesh reader run --dir ./bar-a --zone north --device usb",
        "sale 6.50                                typed, then hold a wristband to the reader",
    ),
    "settlement": (
        "tapmesh settlement run --dir ./settlement --listen 0.0.0.0:7443",
        "tapmesh settlement show --dir ./settlement",
        "tapmesh settlement verify --dir ./settlement",
    ),
    "venue": (
        "tapmesh venue init ./event --name 'Riverside 2031' --zone north --zone south --per-tap-cap 50",
        "tapmesh venue enrol --from readers.csv --page codes.html --venue ./event",
        "tapmesh venue welcome --venue ./event",
        "tapmesh venue codes --venue ./event",
        "tapmesh venue edit --venue ./event --per-tap-cap 30",
    ),
    "wristband": (
        "tapmesh wristband new band.json",
        "tapmesh wristband run --port 54321 --image band.json",
        "tapmesh wristband clone band.json forged.json",
    ),
}
"""Lines of a shell begin with `tapmesh`; others are typed at the program that runs."""


def with_examples(name: str, command: click.Command) -> click.Command:
    """Give a group its examples, under its commands."""
    lines = EXAMPLES.get(name)
    if isinstance(command, click.Group) and lines and command.epilog is None:
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
    return command
