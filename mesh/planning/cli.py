"""`tapmesh plan`: before the gates open, how soon clones would be noticed, and how late money would settle."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from mesh.cli_output import errors_shown, say
from mesh.limits import PLAN_BYTES_MAX, PLAN_SAMPLES_MAX, PLAN_SEED_MAX
from mesh.planning.outcome import as_json, find_out
from mesh.planning.plan import BadPlan, Plan, Zone, parse_length
from mesh.planning.plan_file import EXAMPLE, PlanFile, read_plan
from mesh.planning.plot import require_plot_file, save_plot
from mesh.planning.report import show
from mesh.planning.written import NOTHING, Written, names, parse_courier, parse_outage, with_zone
from mesh.shell.files import read_file


@click.command()
@click.argument("plan_file", metavar="[PLAN.toml]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--example", is_flag=True, help="Print an example PLAN.toml, with comments, and end.")
@click.option("--zone", "zones", multiple=True, metavar="NAME=READERS", help="A bar area, or its number of readers.")
@click.option("--gateway", "gateways", multiple=True, metavar="ZONE", help="A gateway stands in this zone.")
@click.option("--network", "networks", multiple=True, metavar="ZONE,ZONE", help="A network joins these zones.")
@click.option(
    "--outage", "outages", multiple=True, metavar="ZONE=6m/40m", help="Cut off 6 minutes of each 40, on average."
)
@click.option(
    "--blackout", "blackouts", multiple=True, metavar="ZONE=2m/4h", help="Its access point fails: readers are alone."
)
@click.option(
    "--courier", "couriers", multiple=True, metavar="ZONE,ZONE:20m[/1m]", help="A round in 20 minutes, 1 at each stop."
)
@click.option("--currency", metavar="CODE", help="ISO 4217  [default: EUR]")
@click.option("--balance", metavar="AMOUNT", help="On the wristband that is copied  [default: 50]")
@click.option("--per-tap-cap", metavar="AMOUNT", help="The most a tap may take  [default: the balance]")
@click.option("--sale", metavar="AMOUNT", help="An average sale  [default: 8]")
@click.option("--sales-per-reader-minute", type=float, metavar="NUMBER", help="At the peak  [default: 1.5]")
@click.option("--pace", metavar="TIME", help="From tap to tap of the copy in one zone  [default: 1m]")
@click.option("--travel", metavar="TIME", help="And to another zone; 0s with an accomplice  [default: 5m]")
@click.option("--seed", type=click.IntRange(1, PLAN_SEED_MAX), help="The same seed, the same figures  [default: 1]")
@click.option("--samples", type=click.IntRange(1, PLAN_SAMPLES_MAX), help="Clones to draw  [default: 4000]")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.svg", help="Write the plot too.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object and nothing else.")
def plan(plan_file: Path | None, plot: Path | None, *, example: bool, in_json: bool, **options: Any) -> None:
    """When would a clone be noticed, how much could it spend, how late would money settle?

    Describe the venue by a file, by options, or by both: --zone, --outage and --blackout change that one zone of the
    file; --gateway, --network and --courier replace all of the file's; 'none' stands for no value. Zones hear each
    other through a gateway on a common network, or through a courier.

    \b
    Examples:
      tapmesh plan --example > venue-plan.toml
      tapmesh plan venue-plan.toml
      tapmesh plan venue-plan.toml --courier main,forest,gate:20m --courier forest,gate:10m
      tapmesh plan --zone main=18 --zone forest=6 --zone gate=2 --gateway gate --network main,gate \\
        --outage main=6m/40m --courier main,forest,gate:20m --plot plan.svg

    The figures come from clones drawn at random over a drawn venue, not from the real programs: docs/PLANNING.md says
    what is assumed.
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return
    with errors_shown():
        written, venue = _venue(plan_file, options)
        if plot is not None:
            require_plot_file(plot)
        with _progress() as progress:
            outcome = find_out(venue, written.seed, written.samples, progress)
        if plot is not None:
            save_plot(outcome, plot)
        if in_json:
            say(json.dumps(as_json(outcome), indent=2))
            return
        show(outcome, Console(highlight=False))
        if plot is not None:
            say(f"The plot is in {plot}.")


def _venue(path: Path | None, options: dict[str, Any]) -> tuple[Written, Plan]:
    """The file, the options over it, and the plan that they make."""
    found: PlanFile | None = None
    if path is not None:
        found = read_plan(str(path), read_file(path, bytes_max=PLAN_BYTES_MAX, meaning="the plan"))
    written = _overridden(Written() if found is None else found.written, options)
    if not written.zones:
        raise BadPlan(
            "There is no venue to plan yet: give each zone and its readers, as --zone main=12 --zone forest=4, or a "
            "file. 'tapmesh plan --example > venue-plan.toml' writes one to begin with; --help has the rest"
        )
    try:
        return written, written.plan()
    except BadPlan as error:
        raise (error if found is None else found.blames(error)) from error


def _overridden(written: Written, options: dict[str, Any]) -> Written:
    for text in options["zones"]:
        written = _with_readers(written, *_assigned("--zone", text, "main=12"))
    for key, example in (("outage", "main=6m/40m"), ("blackout", "main=2m/4h")):
        for text in options[f"{key}s"]:
            name, value = _assigned(f"--{key}", text, example)
            times = None if value == NOTHING else _option(f"--{key}", parse_outage, value)
            written = _option(f"--{key}", with_zone, written, name, {key: times})
    if options["gateways"]:
        written = replace(written, zones=tuple(replace(zone, gateway=False) for zone in written.zones))
        for name in _unless_nothing(options["gateways"]):
            written = _option("--gateway", with_zone, written, name, {"gateway": True})
    if options["networks"]:
        written = replace(written, networks=tuple(names(text) for text in _unless_nothing(options["networks"])))
    if options["couriers"]:
        walks = tuple(_option("--courier", parse_courier, text) for text in _unless_nothing(options["couriers"]))
        written = replace(written, couriers=walks)
    amounts = {key: options[key] for key in ("balance", "per_tap_cap", "sale") if options[key] is not None}
    thief = written.thief
    for key in ("pace", "travel"):
        if options[key] is not None:
            thief = replace(thief, **{f"{key}_s": _option(f"--{key}", parse_length, options[key])})
    others = {
        key: options[key]
        for key in ("currency", "sales_per_reader_minute", "seed", "samples")
        if options[key] is not None
    }
    return replace(written, amounts={**written.amounts, **amounts}, thief=thief, **others)


def _with_readers(written: Written, name: str, text: str) -> Written:
    if not text.isascii() or not text.isdigit():
        raise BadPlan(f"--zone: {text!r} is no number of readers: write --zone {name}=12")
    readers = int(text[:9])
    if all(zone.name != name for zone in written.zones):
        return replace(written, zones=(*written.zones, Zone(name, readers)))
    return with_zone(written, name, {"readers": readers})


def _assigned(option: str, text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name.strip() or not equals or not value.strip():
        raise BadPlan(f"{option}: {text!r} is half of it: write {option} {example}")
    return name.strip(), value.strip()


def _unless_nothing(texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text != NOTHING]


def _option(option: str, parse: Callable[..., Any], *values: object) -> Any:
    """What `parse` makes of an option's value; its complaint names the option."""
    try:
        return parse(*values)
    except BadPlan as error:
        raise BadPlan(f"{option}: {error}") from error


@contextmanager
def _progress() -> Iterator[Callable[[float], None]]:
    """A bar on standard error where somebody watches; it is gone when the work is done."""
    if not sys.stderr.isatty():
        yield lambda part: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Drawing clones", total=1.0)
        yield lambda part: bar.update(task, completed=part)
