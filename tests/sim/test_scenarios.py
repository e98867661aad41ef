"""Whole venues from a seed: no seed of a packaged scenario violates a check.

The failing message is the command that plays a seed again. A seed that once failed is a test of its own, by name, in
failed_seeds.toml.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from mesh.testing.packaged import find_scenario
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Adversary, Fault, Scenario, drawn, parse_scenario
from mesh.testing.sweep import cores, replay_command, sweep

FAILED: Final = Path(__file__).with_name("failed_seeds.toml")
SEEDS: Final = range(1, 201)
SOAK_SEEDS: Final = range(1_001, 2_001)
SEEDS_OF_OTHERS: Final = range(1, 11)
OTHERS: Final = ("two-zones", "couriers-only", "slow-links", "one-bar")


def played(name: str, seeds: range) -> list[Outcome]:
    """The outcomes of these seeds, if every check holds in all of them."""
    found = list(sweep(find_scenario(name), seeds, at_once=cores()))
    failed = [one for one in found if not one.holds]
    said = [
        "\n".join([f"{replay_command(name, one.seed)}     (--shrink looks for a smaller one)", *one.sentences()])
        for one in failed
    ]
    assert not failed, f"{len(failed)} of {len(found)} seeds failed:\n" + "\n".join(said)
    return [one.outcome for one in found if one.outcome is not None]


@pytest.mark.proves("B8", "M4", "M5", "M6", "S1.16", "S1.17", "S1.18", "S1.19")
def test_two_hundred_venues_in_full_chaos_violate_nothing() -> None:
    outcomes = played("full-chaos", SEEDS)
    asked = find_scenario("full-chaos")
    happened = {kind for outcome in outcomes for kind, count in outcome.fired.items() if count}
    assert happened >= set(asked.faults) | set(asked.adversaries)
    assert sum(outcome.conflicts for outcome in outcomes) > len(outcomes) / 10
    assert min(outcome.paid for outcome in outcomes) > 20


@pytest.mark.soak
def test_a_thousand_venues_in_full_chaos_violate_nothing() -> None:
    played("full-chaos", SOAK_SEEDS)


@pytest.mark.soak
def test_fifty_venues_with_every_adversary_at_once_violate_nothing() -> None:
    played("bad-company", range(1, 51))


@pytest.mark.parametrize("name", OTHERS)
def test_ten_seeds_of_each_smaller_scenario_violate_nothing(name: str) -> None:
    assert all(outcome.paid for outcome in played(name, SEEDS_OF_OTHERS))


def failed_seeds() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(FAILED.read_text(encoding="utf-8"))["seeds"]
    return found


@pytest.mark.parametrize("once", [pytest.param(seed, id=seed["name"]) for seed in failed_seeds()])
def test_seed_that_once_failed_holds(once: dict[str, Any]) -> None:
    text = once["scenario"]
    scenario = parse_scenario(text) if "\n" in text else find_scenario(text)
    outcome = play(scenario, once["seed"])
    assert outcome.violations == (), f"it was once wrong because: {once['was_wrong']}"


def test_failed_seeds_have_names_and_say_what_was_wrong() -> None:
    found = failed_seeds()
    assert len({seed["name"] for seed in found}) == len(found)
    assert all(seed.keys() == {"name", "scenario", "seed", "was_wrong"} for seed in found)
    assert all(len(seed["was_wrong"].split()) > 8 for seed in found)


# -- What full chaos is made of ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_chaos() -> Scenario:
    return find_scenario("full-chaos")


def test_full_chaos_has_every_kind_of_fault_and_adversary(full_chaos: Scenario) -> None:
    assert {kind.value for kind in Fault} == set(full_chaos.faults)
    assert {kind.value for kind in Adversary} == set(full_chaos.adversaries)


def test_every_adversary_comes_often_in_two_hundred_seeds(full_chaos: Scenario) -> None:
    come = [kind for seed in SEEDS for kind in drawn(full_chaos, seed).adversaries]
    assert min(come.count(kind) for kind in full_chaos.adversaries) >= 5


def test_who_comes_follows_from_name_and_seed(full_chaos: Scenario) -> None:
    assert [drawn(full_chaos, seed) for seed in SEEDS] == [drawn(full_chaos, seed) for seed in SEEDS]
    assert drawn(drawn(full_chaos, 5), 5) == drawn(full_chaos, 5)
