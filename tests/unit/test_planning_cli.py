"""`tapmesh plan` as an operator meets it: the example runs, mistakes get a sentence with a line, options override."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from mesh.planning.cli import plan
from mesh.planning.outcome import find_out, warnings
from mesh.planning.plan import GOSSIP_S, MEETING_S, Courier, Outage, Plan
from mesh.planning.plan_file import EXAMPLE, read_plan
from mesh.planning.plot import terminal_plot
from mesh.planning.report import in_words, show
from mesh.planning.written import Written, parse_courier, parse_outage

TREE: Final = Path(__file__).resolve().parents[2]
PAGE: Final = TREE / "docs" / "PLANNING.md"
FEW: Final = ("--samples", "40")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(plan, arguments, env={"COLUMNS": "80"})


def figures(*arguments: str) -> dict[str, Any]:
    """What `--json` prints."""
    done = run(*arguments, *FEW, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "venue-plan.toml"
    path.write_text(run("--example").stdout, encoding="utf-8")
    return path


def example_plan() -> Plan:
    return read_plan("example", EXAMPLE.encode()).written.plan()


def test_example_runs_and_shows_table_plot_and_words(example: Path) -> None:
    done = run(str(example), *FEW)
    assert (done.exit_code, done.stderr) == (0, "")
    for piece in (
        "by every reader",
        "on a second device",
        "clone refused at both bars",
        "What dominates is",
        "now p50",
    ):
        assert piece in done.stdout
    assert re.search("[⠁-⣿]{3}", done.stdout), "a line of the plot"
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80


def test_same_venue_by_options_gives_the_same_figures(example: Path) -> None:
    by_options = """
        --balance 60 --per-tap-cap 20 --sale 8.50 --sales-per-reader-minute 1.5 --pace 1m --travel 5m --gateway gate
        --zone main=18 --zone food=10 --zone forest=6 --zone gate=4 --outage main=6m/40m --blackout food=2m/4h
        --network main,food,gate --courier main,forest,gate:20m/1m --currency EUR --seed 1
    """
    assert figures(*by_options.split()) == figures(str(example))


@pytest.mark.parametrize(
    "options",
    [
        ("--outage", "main=none"),
        ("--zone", "forest=60"),
        ("--courier", "none"),
        ("--courier", "forest,gate:5m/30s"),
        ("--network", "none"),
        ("--gateway", "forest"),
        ("--balance", "10"),
        ("--travel", "0s"),
        ("--seed", "2"),
        ("--blackout", "gate=5m/30m"),
    ],
)
def test_option_overrides_the_file(example: Path, options: tuple[str, str]) -> None:
    assert figures(str(example), *options) != figures(str(example))


def test_never_is_null_in_json_with_a_field_that_says_so_and_a_sentence_on_the_screen() -> None:
    apart = ("--zone", "north=1", "--zone", "south=1")
    found = figures(*apart)
    assert found["clones"]["overall"]["every_reader"]["p50"] == {"seconds": None, "never": True}
    assert found["clones"]["same_zone"] is None
    assert found["money"]["to_gateway"]["p50"] == {"seconds": None, "never": True}
    shown = " ".join(run(*apart, *FEW).stdout.split())
    assert "100 % of the clones are never refused by every reader, until somebody carries the news." in shown
    assert "100 % of the taps are never at a gateway, until somebody carries the news." in shown


def test_json_is_the_only_output(example: Path) -> None:
    found = figures(str(example))
    assert (found["format"], found["seed"], found["samples"], found["currency"]) == ("tapmesh-plan/1", 1, 40, "EUR")
    assert found["clones"]["overall"]["every_reader"]["p99"]["never"] is False
    assert found["best_change"] in {change["what"] for change in found["changes"]}


def test_plot_file_holds_the_three_curves_and_loads_nothing(example: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plan.svg"
    done = run(str(example), *FEW, "--plot", str(plot))
    assert done.exit_code == 0, done.output
    svg = plot.read_text(encoding="utf-8")
    assert run(str(example), *FEW, "--plot", str(plot)).exit_code == 0
    assert plot.read_text(encoding="utf-8") == svg
    for name in ("clone refused at both bars", "clone refused at every reader", "money at a gateway"):
        assert name in svg
    assert not re.search(r"<script|<!--|href|@import|url\(|20\d\d-", svg)


@pytest.mark.parametrize(("force", "has"), [("1", True), ("0", False)])
def test_curves_have_letters_and_on_a_terminal_with_colours_also_those(
    monkeypatch: pytest.MonkeyPatch, force: str, has: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR", force)
    monkeypatch.delenv("NO_COLOR", raising=False)
    drawn = terminal_plot(find_out(example_plan(), 1, 20), 80, colours=has)
    assert ("\x1b[36m" in drawn) is has
    assert all(f"{letter} " in drawn for letter in "beg")


def test_plot_is_left_out_where_the_encoding_has_no_dots() -> None:
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show(find_out(example_plan(), 1, 20), Console(file=written, width=80))
    written.seek(0)
    assert "--plot FILE.svg writes one" in " ".join(written.read().split())


# -- Mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "instead", "said"),
    [
        ("readers = 18", 'readers = "18"', "line 18: readers must be a whole number"),
        ("readers = 18", "readers = -1", "line 18: zone 'main' has -1 readers"),
        ('"6m/40m"', '"6m of 40m"', "line 19: outage: '6m of 40m' does not say how long and how often"),
        ('"6m/40m"', '"40m/6m"', "line 19: zone 'main' cannot be down 40m/6m"),
        ('"6m/40m"', '"6 min/40m"', "line 19: outage"),
        ('every = "20m"', 'evry = "20m"', "line 40: 'evry' is no key of a courier (did you mean 'every'?)"),
        ('every = "20m"', "", "line 38: this courier has no every: add it"),
        ('every = "20m"', 'every = "2m"', "line 40: 3 stops of 1m each take longer"),
        (
            '"forest", "gate"]',
            '"forst", "gate"]',
            "line 39: there is no zone 'forst' for this courier: the zones are main",
        ),
        ('name = "food"', 'name = "main"', "line 22: there are two zones 'main'"),
        ("balance = 60.00", "balance = 60.001", "line 7: balance: '60.001' is not an amount of EUR"),
        ("balance = 60.00", "balance = 0", "line 7: balance must be more than nothing"),
        ('pace = "1m"', "pace = 60", "line 13: pace must be a text in quotes"),
        (
            'travel = "5m"',
            'travel = "5 minutes"',
            "line 14: travel: '5 minutes' is not a length of time: write it like",
        ),
        ('currency = "EUR"', 'currency = "euro"', "line 4: 'euro' is not a currency"),
        ("gateway = true", 'gateway = "yes"', "line 33: gateway must be true or false"),
        ('zones = ["main", "food", "gate"]', 'zones = "main"', "line 36: zones must be a list of zones"),
        ('name = "main"', "name = main", "is not TOML: Invalid value (at line 17, column 8)"),
        ("[money] ", "[mony]  ", "'mony' is no key (did you mean 'money'?)"),
    ],
)
def test_mistake_in_the_file_gets_its_line_and_what_to_write(
    tmp_path: Path, written: str, instead: str, said: str
) -> None:
    assert written in EXAMPLE
    path = tmp_path / "plan.toml"
    path.write_text(EXAMPLE.replace(written, instead, 1), encoding="utf-8")
    done = run(str(path), *FEW)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "There is no venue to plan yet"),
        (("--zone", "main"), "--zone: 'main' is half of it: write --zone main=12"),
        (("--zone", "main=many"), "--zone: 'many' is no number of readers: write --zone main=12"),
        (("--zone", "main=1"), "a clone needs two readers"),
        (("--zone", "a=2", "--outage", "b=1m/9m"), "--outage: there is no zone 'b'; the zones are a"),
        (("--zone", "a=2", "--outage", "a=1m"), "--outage: '1m' does not say how long and how often: write 6m/40m"),
        (("--zone", "a=2", "--courier", "a,b"), "--courier: 'a,b' is no round"),
        (("--zone", "a=2", "--courier", "a,b:20"), "--courier: '20' is not a length of time"),
        (("--zone", "a=2", "--network", "a"), "a network joins two zones or more"),
        (("--zone", "a=2", "--gateway", "b"), "--gateway: there is no zone 'b'"),
        (("--zone", "a=2", "--balance", "5,00"), "balance: '5,00' is not an amount of EUR: write it like 12.50"),
        (("--zone", "a=2", "--pace", "0s"), "write a pace of 1s or more"),
        (("--zone", "a=2", "--plot", "plan.pdf"), "plan.pdf should end in .svg"),
        (("--zone", "a=2", "--plot", "nowhere/plan.svg"), "there is no directory"),
        (("nowhere.toml",), "cannot be read from nowhere.toml"),
    ],
)
def test_mistake_in_an_option_is_named_with_what_to_write(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments, *FEW)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_option_that_breaks_the_plan_is_not_blamed_on_the_file(example: Path) -> None:
    done = run(str(example), "--courier", "main,nowhere:20m")
    assert done.exit_code == 2
    assert "there is no zone 'nowhere' for this courier" in " ".join(done.stderr.split())
    assert "line" not in done.stderr


def test_mistake_of_an_option_is_said_although_the_file_has_another_one(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(EXAMPLE.replace('"forest", "gate"]', '"forst", "gate"]'), encoding="utf-8")
    assert "'forst'" in run(str(path), *FEW).stderr
    assert run(str(path), *FEW, "--courier", "main,gate:20m").exit_code == 0
    done = run(str(path), *FEW, "--courier", "main,nowhere:20m")
    assert "'nowhere'" in done.stderr
    assert "forst" not in done.stderr


def test_what_an_operator_may_not_have_meant_is_said() -> None:
    alone = Written(zones=example_plan().zones, networks=(("food", "main"),)).plan()
    said = " ".join(warnings(alone))
    assert "The network food,main has no gateway" in said
    assert "Nothing leads to forest, gate" in said
    assert warnings(example_plan()) == []


def test_rounds_and_outages_are_read_with_their_times() -> None:
    assert parse_courier("main,gate:20m") == Courier(("main", "gate"), 1200.0, 60.0)
    assert parse_courier("main, gate:20m/90s") == Courier(("main", "gate"), 1200.0, 90.0)
    assert parse_outage("6m / 40m") == Outage(360.0, 2400.0)


# -- The page ----------------------------------------------------------------------------------------------------------


def test_page_states_the_constants_of_the_model() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"{GOSSIP_S:g} s for each step" in text
    assert f"{MEETING_S:g} s from being in reach" in text


def test_page_shows_what_the_example_prints_and_knows_every_option(example: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    shown = re.search(r"```text\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    printed = run(str(example)).stdout
    assert _lines(printed) == _lines(shown[1])
    options = [option for option in plan.params if isinstance(option, click.Option)]
    assert [option.opts[0] for option in options if option.opts[0] not in text] == []


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_every_paragraph_of_words_ends_as_a_sentence() -> None:
    words = in_words(find_out(example_plan(), 3, 50))
    assert len(words) >= 4
    assert all(paragraph.endswith((".", ".)")) for paragraph in words)
