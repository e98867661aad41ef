"""`tapmesh sim`: play a scenario from a seed, see whether every check holds, and make what does not hold small."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from mesh.cli_output import errors_shown, say
from mesh.errors import LocalError
from mesh.testing.packaged import find_scenario, packaged
from mesh.testing.report import Shown, as_json, in_words, shrunk_text
from mesh.testing.run import play
from mesh.testing.scenario import Scenario
from mesh.testing.shrink import TRIES, Shrunk, shrink
from mesh.testing.sweep import Played, cores, players, replay_command, result, sweep

SEED_MAX: Final = 2**32 - 1
SEEDS_MAX: Final = 1_000_000
Progressed = Callable[[float, str], None]


class BadRequest(LocalError):
    """Options that do not go together, or say nothing that can be played."""


@click.command()
@click.argument("scenario", required=False)
@click.option("--list", "lists", is_flag=True, help="Name the packaged scenarios, and end.")
@click.option(
    "--seed", type=click.IntRange(0, SEED_MAX), metavar="N", help="The same seed, the same run  [default: the file's]"
)
@click.option("--seeds", metavar="A-B", help="Play all of these seeds, on every core.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write what happens.")
@click.option("--shrink", "shrinks", is_flag=True, help="Where a check is violated, look for a smaller scenario.")
@click.option(
    "--tries",
    default=TRIES,
    show_default=True,
    metavar="N",
    type=click.IntRange(1),
    help="Runs that --shrink may take.",
)
@click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, 256),
    help="Seeds that are played at once  [default: one for each core]",
)
def sim(scenario: str | None, *, lists: bool, in_json: bool, shrinks: bool, **options: object) -> None:
    """Play a whole venue in virtual time: readers, couriers, gateways, people, faults and thieves, from one seed.

    SCENARIO is a packaged one or a TOML file of your own; docs/SIMULATOR.md says what can be in it. Exit code 1 where a
    check is violated.

    \b
    Examples:
      tapmesh sim --list
      tapmesh sim full-chaos --seed 17
      tapmesh sim full-chaos --seeds 1-200
      tapmesh sim full-chaos --seed 17 --trace trace.txt
      tapmesh sim full-chaos --seed 17 --shrink > smaller.toml
    """
    if lists:
        _list()
        return
    with errors_shown():
        if scenario is None:
            raise BadRequest("say which scenario: 'tapmesh sim full-chaos', or a file; 'tapmesh sim --list' names all")
        shown = _play(scenario, find_scenario(scenario), shrinks=shrinks, **options)  # type: ignore[arg-type]
    if in_json:
        say(json.dumps(as_json(shown), indent=2))
    elif shown.shrunk is not None:
        say(shrunk_text(shown.shrunk, shown.failed[0]))
    else:
        for line in in_words(shown):
            say(line)
    if shown.failed:
        raise click.exceptions.Exit(1)


def _list() -> None:
    names = packaged()
    width = max(map(len, names))
    for name, about in names.items():
        say(f"{name:<{width}}  {about}")


def _play(
    named: str,
    scenario: Scenario,
    *,
    seed: int | None,
    seeds: str | None,
    trace: Path | None,
    shrinks: bool,
    tries: int,
    jobs: int | None,
) -> Shown:
    """Everything that was asked for, and how long it took."""
    if seeds is not None and seed is not None:
        raise BadRequest("--seed is for one seed and --seeds for many: leave one of them out")
    if trace is not None and (seeds is not None or shrinks):
        raise BadRequest("--trace writes what happens in one run: leave it out, or leave --seeds and --shrink out")
    began = time.monotonic()
    only = scenario.seed if seed is None else seed
    if seeds is not None:
        played = _many(scenario, _parsed(seeds), jobs or cores())
    elif shrinks:
        played = _many(scenario, range(only, only + 1), 1)
    else:
        played = [_one(scenario, only, named, trace)]
    shrunk = None
    if shrinks:
        first = next((one for one in played if not one.holds), None)
        if first is None:
            raise BadRequest(f"every check holds in {named} with {_these(played)}: there is nothing to make smaller")
        shrunk = _smaller(scenario, first, tries)
    return Shown(named, scenario, played, time.monotonic() - began, shrunk)


def _these(played: list[Played]) -> str:
    return f"seed {played[0].seed}" if len(played) == 1 else f"seeds {played[0].seed} to {played[-1].seed}"


def _parsed(seeds: str) -> range:
    first, dash, last = seeds.partition("-")
    if not (dash and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
        raise BadRequest(f"--seeds: {seeds!r} is no range of seeds: write --seeds 1-200")
    if not int(first) <= int(last) <= SEED_MAX:
        raise BadRequest(f"--seeds: {seeds!r} goes from the lower to the higher, which is at most {SEED_MAX}")
    found = range(int(first), int(last) + 1)
    if len(found) > SEEDS_MAX:
        raise BadRequest(f"--seeds: {len(found)} seeds are too many for one command, {SEEDS_MAX} may be played")
    return found


def _one(scenario: Scenario, seed: int, named: str, trace: Path | None) -> Played:
    """One seed in this process, line by line if a trace is wanted."""
    with _progress(f"{scenario.name}, seed {seed}") as told, _lines_to(trace) as tell, _replay_noted(named, seed):
        outcome = play(
            scenario, seed, tell=tell, progress=lambda part, world: told(part, f"{len(world.truth.paid)} paid")
        )
    return Played(seed, outcome)


def _many(scenario: Scenario, seeds: range, at_once: int) -> list[Played]:
    played: list[Played] = []
    with _progress(f"{scenario.name}, seeds {seeds[0]} to {seeds[-1]}") as told:
        for one in sweep(scenario, seeds, at_once=min(at_once, len(seeds))):
            played.append(one)
            broken = sum(not each.holds for each in played)
            told(len(played) / len(seeds), f"{len(played)} played, {broken} with violations")
    return played


def _smaller(scenario: Scenario, failed: Played, tries: int) -> Shrunk:
    """The smallest scenario found that breaks one of the same things."""

    def told(tried: int, what: str) -> None:
        progressed(tried / tries, f"run {tried} of at most {tries}: {what}")

    with _progress("Making it smaller") as progressed, players(1) as pool:

        def still_breaks(smaller: Scenario) -> bool:
            run = result(failed.seed, pool.submit(play, smaller, failed.seed))
            return bool(run.broken & failed.broken)

        return shrink(scenario, still_breaks, tries=tries, tell=told)


@contextmanager
def _replay_noted(named: str, seed: int) -> Iterator[None]:
    """An error of the program ends the command; its traceback then says how to see it again."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception):
            error.add_note(f"The simulated run ended here. It can be played again: {replay_command(named, seed)}")
        raise


@contextmanager
def _lines_to(path: Path | None) -> Iterator[Callable[[str], None] | None]:
    if path is None:
        yield None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise BadRequest(f"the trace cannot be written to {path}: {error.strerror}") from error
    with file:
        yield lambda line: print(line, file=file)


@contextmanager
def _progress(what: str) -> Iterator[Progressed]:
    """A bar on standard error where somebody watches; it is gone when the work is done."""
    if not sys.stderr.isatty():
        yield lambda part, text: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda part, text: bar.update(task, completed=part, description=f"{what}: {text}")
