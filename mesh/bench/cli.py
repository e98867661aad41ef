"""`tapmesh bench`: measurements, for people and (`--json`) for programs."""

from __future__ import annotations

import json
from typing import Any

import click

from mesh.bench.sync import measure_sync
from mesh.bench.workload import Scale
from mesh.cli_output import say


@click.group()
def bench() -> None:
    """Measure this machine. Nothing here is a test: numbers are for reading and comparing."""


@bench.command()
@click.option("--entries", default=200_000, show_default=True, type=click.IntRange(min=1_000), help="Signed entries.")
@click.option("--logs", default=50, show_default=True, type=click.IntRange(min=2), help="Logs that hold them.")
@click.option("--cards", default=None, type=click.IntRange(min=10), help="Wristbands  [default: 2 in 5 entries]")
@click.option("--clones", default=100, show_default=True, type=click.IntRange(min=0), help="Wristbands spent twice.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(min=1), help="The median is reported.")
@click.option("--seed", default=1, show_default=True, help="Varies cards and amounts.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def sync(entries: int, logs: int, cards: int | None, clones: int, rounds: int, seed: int, *, as_json: bool) -> None:
    """Replicate a festival's taps between two processes over TLS, and find every cloned wristband."""
    scale = Scale(entries, logs, entries * 2 // 5 if cards is None else cards, clones)
    result = measure_sync(scale, rounds, seed, _quiet if as_json else say)
    if as_json:
        click.echo(json.dumps(result))
    else:
        _show(result)


def _quiet(text: str) -> None:
    """A program reads the result only."""


def _show(result: dict[str, Any]) -> None:
    memory = result["peak_rss_mb"]
    say(f"{result['entries_per_s']:,} entries/s of {result['entry_bytes']} bytes, until the last card can be asked for")
    limit = result["limit_entries_per_s"]
    say(f"{result['share_of_limit']:.0%} of decode, links and insert alone ({limit:,} entries/s)")
    say(f"every signature verified after {result['all_signatures_verified_s']} s")
    say(f"{result['wire_bytes_per_entry']} bytes on the wire and {result['disk_bytes_per_entry']} on disk an entry")
    say(f"peak memory: sender {memory['sender']} MB, receiver {memory['receiver']} MB")
    say(f"{result['conflicts_found']} cloned wristbands among {result['cards']:,}, all found")
