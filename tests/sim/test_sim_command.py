"""`tapmesh sim` as a person meets it: a run, many runs, a trace, JSON, a failure that says how to see it again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from mesh.testing.checks import Check, Violation
from mesh.testing.cli import sim
from mesh.testing.packaged import packaged, packaged_text
from mesh.testing.report import Shown, as_json, in_words, shrunk_text
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Scenario, parse_scenario
from mesh.testing.shrink import Shrunk
from mesh.testing.sweep import Played, players, result

TREE: Final = Path(__file__).resolve().parents[2]
QUICK: Final = """
name = "quick"
seed = 4
duration_s = 20
settle_s = 40
[[zones]]
name = "bar"
gateways = 1
[people]
count = 6
"""
NEVER: Final = QUICK.replace("gateways = 1", "gateways = 0") + "[faults]\nuplink_down = 1\nlink_reset = 1\n"
"""No gateway, no uplink: that fault cannot happen, so the run fails."""


@pytest.fixture
def quick(tmp_path: Path) -> str:
    path = tmp_path / "quick.toml"
    path.write_text(QUICK, encoding="utf-8")
    return str(path)


@pytest.fixture
def never(tmp_path: Path) -> str:
    path = tmp_path / "never.toml"
    path.write_text(NEVER, encoding="utf-8")
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(sim, arguments)


def figures(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return play(parse_scenario(QUICK), 4)


def test_run_that_holds_says_so_with_its_figures(quick: str, outcome: Outcome) -> None:
    done = run(quick)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{quick}, seed 4: every check holds\n")
    assert f"{outcome.paid} paid" in done.stdout
    assert outcome.trace_hash in done.stdout


def test_seed_of_the_command_goes_before_the_files(quick: str, outcome: Outcome) -> None:
    assert figures(quick)["runs"][0]["trace_hash"] == outcome.trace_hash
    assert figures(quick, "--seed", "4")["runs"][0]["trace_hash"] == outcome.trace_hash
    assert figures(quick, "--seed", "5")["runs"][0]["trace_hash"] != outcome.trace_hash


def test_json_has_the_same_keys_for_one_seed_and_for_many(quick: str) -> None:
    one, many = figures(quick), figures(quick, "--seeds", "3-5", "--jobs", "1")
    assert one.keys() == many.keys()
    assert one["runs"][0].keys() == many["runs"][1].keys() == {
        *("scenario seed trace_hash violations simulated_s together_after_s events entries paid declined".split()),
        *("conflicts cards_copied fired open_taps copies holds program_error replay".split()),
    }  # fmt: skip
    assert one["format"] == "tapmesh-sim/1"
    assert many["seeds"] == {"first": 3, "last": 5, "count": 3}
    assert [each["seed"] for each in many["runs"]] == [3, 4, 5]
    assert many["runs"][1] == one["runs"][0]
    assert many["holds"] is True
    assert many["simulated_s"] == pytest.approx(sum(each["simulated_s"] for each in many["runs"]))


def test_failure_has_a_sentence_and_one_command_that_replays_it(never: str) -> None:
    done = run(never, "--seed", "9")
    assert done.exit_code == 1
    assert "faults-fired: uplink_down was to happen 1 times and never did" in done.stdout
    (replay,) = re.findall(r"Replay it: (.*)", done.stdout)
    assert replay == f"tapmesh sim {never} --seed 9"
    assert "--shrink" in done.stdout
    again = run(*replay.split()[2:])
    assert "faults-fired: uplink_down" in again.stdout


def test_failed_seeds_of_many_are_listed(never: str) -> None:
    done = run(never, "--seeds", "1-2", "--jobs", "1")
    assert done.exit_code == 1
    assert "seeds 1 to 2: 2 did not hold" in done.stdout
    assert "failed: 1, 2" in done.stdout


def test_shrinking_prints_a_scenario_that_still_fails(never: str, tmp_path: Path) -> None:
    done = run(never, "--seed", "9", "--shrink", "--tries", "12")
    assert done.exit_code == 1
    smaller = tmp_path / "smaller.toml"
    smaller.write_text(done.stdout, encoding="utf-8")
    assert "#     tapmesh sim smaller.toml --seed 9" in done.stdout
    scenario = parse_scenario(done.stdout)
    assert scenario.faults == {"uplink_down": 1}
    assert scenario.duration_s < 20
    assert run(str(smaller)).stdout.count("faults-fired: uplink_down") == 1


def test_shrunk_scenario_is_in_the_json(never: str) -> None:
    found = figures(never, "--seed", "9", "--shrink", "--tries", "3")["shrunk"]
    assert (found["tried"], found["given_up"]) == (3, True)
    assert parse_scenario(found["toml"]).seed == 9


def test_trace_has_a_line_for_what_happens(quick: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    assert run(quick, "--trace", str(trace)).exit_code == 0
    lines = trace.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 200
    assert any("shows Green" in line for line in lines)
    moments = [float(line.split()[0]) for line in lines]
    assert moments == sorted(moments)


def test_list_names_every_packaged_scenario_with_what_it_is() -> None:
    lines = run("--list").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(packaged())
    assert all(len(line.split()) > 6 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which scenario"),
        (("ful-chaos",), "did you mean 'full-chaos'?"),
        (("elsewhere/mine.toml",), "elsewhere/mine.toml cannot be read: No such file"),
        (("two-zones", "--seed", "1", "--seeds", "1-2"), "--seed is for one seed and --seeds for many"),
        (("two-zones", "--seeds", "1-2", "--trace", "t"), "--trace writes what happens in one run"),
        (("two-zones", "--seeds", "7"), "'7' is no range of seeds: write --seeds 1-200"),
        (("two-zones", "--seeds", "9-7"), "goes from the lower to the higher"),
        (("two-zones", "--seeds", "0-4000000000"), "too many for one command"),
        (("two-zones", "--trace", "nowhere/trace"), "the trace cannot be written to nowhere/trace"),
    ],
)
def test_wrong_input_gets_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert said in " ".join(done.stderr.split())


def test_there_is_nothing_to_shrink_where_every_check_holds(quick: str) -> None:
    done = run(quick, "--shrink")
    assert done.exit_code == 2
    assert "every check holds" in done.stderr


def test_command_is_installed_and_plays_a_packaged_scenario() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("tapmesh"), "sim", "two-zones", "--seed", "2"],
        capture_output=True,
        text=True,
        check=True,
        cwd=TREE,
    )
    assert done.stdout.startswith("two-zones, seed 2: every check holds")
    assert packaged_text("two-zones").startswith("# ")


# -- Errors of the program ---------------------------------------------------------------------------------------------


def fails_in_the_middle(scenario: Scenario, seed: int) -> Outcome:
    """Stands for a run that ends with a mistake of the program."""
    return play(scenario, seed, after=lambda world: world.devices["nobody"].boot())


def test_error_of_the_program_is_a_finding_with_its_traceback() -> None:
    with players(1) as pool:
        played = result(4, pool.submit(fails_in_the_middle, parse_scenario(QUICK), 4))
    assert not played.holds
    assert played.broken == {"KeyError in <lambda> (test_sim_command.py)"}
    (line, *_) = played.sentences()[0].splitlines()
    assert line == "the program ended with KeyError in <lambda> (test_sim_command.py)"
    shown = Shown("quick", parse_scenario(QUICK), [played], 1.0)
    (one,) = as_json(shown)["runs"]
    assert "KeyError: 'nobody'" in one["program_error"]
    assert one["trace_hash"] is None
    assert any("Replay it: tapmesh sim quick --seed 4" in line for line in in_words(shown))


def test_what_was_violated_is_compared_without_who_and_how_much(outcome: Outcome) -> None:
    def broken(sentence: str) -> frozenset[str]:
        violations = (Violation(Check.CONVERGENCE, sentence),)
        return Played(1, replace(outcome, violations=violations)).broken

    assert broken("bar north 1 and office differ in logs") == broken("till south 12 and bar x 2 (copy) differ in logs")
    assert broken("card 0011223344556677 is held 3 times") == broken("card ffeeddccbbaa9988 is held 20 times")
    assert broken("bar north 1 and office differ in logs") != broken("bar north 1 and office differ in balances")


def test_smaller_scenario_says_whether_the_search_was_over(outcome: Outcome) -> None:
    failed = Played(4, replace(outcome, violations=(Violation(Check.IN_TIME, "never"),)))
    over = Shrunk(parse_scenario(QUICK), 30, ("no crash",), given_up=False)
    assert "nothing more could go" in shrunk_text(over, failed)
    assert "--tries allows more" in shrunk_text(replace(over, given_up=True), failed)
