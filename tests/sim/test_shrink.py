"""Shrinking: what is left still breaks the rule, and nothing more can be taken away of what does not matter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.testing.packaged import find_scenario
from mesh.testing.scenario import BadScenario, Fault, Scenario, check, parse_scenario
from mesh.testing.scenario_text import as_toml
from mesh.testing.shrink import reductions, shrink

Breaks = Callable[[Scenario], bool]


def full_chaos() -> Scenario:
    return find_scenario("full-chaos")


@pytest.mark.parametrize(
    "breaks",
    [
        lambda scenario: "power_cut" in scenario.faults,
        lambda scenario: scenario.faults.get("link_reset", 0) >= 2 and "crash" in scenario.faults,
        lambda scenario: "brancher" in scenario.adversaries,
        lambda scenario: bool(scenario.couriers) and any(zone.name == "forest" for zone in scenario.zones),
        lambda scenario: scenario.people.count >= 7,
        lambda scenario: scenario.duration_s > 50,
    ],
)
def test_smaller_scenario_has_only_what_breaks_the_rule(breaks: Breaks) -> None:
    found = shrink(full_chaos(), breaks, tries=1_000)
    assert not found.given_up
    assert breaks(found.scenario)
    for reduction in reductions(found.scenario):
        smaller = reduction.change(found.scenario)
        assert smaller == found.scenario or not (breaks(smaller) and is_valid(smaller)), reduction.what


def is_valid(scenario: Scenario) -> bool:
    try:
        check(scenario)
    except BadScenario:
        return False
    return True


def test_fault_that_matters_is_all_that_is_left() -> None:
    found = shrink(full_chaos(), lambda scenario: "power_cut" in scenario.faults, tries=1_000).scenario
    assert found.faults == {"power_cut": 1}
    assert (found.adversaries, found.couriers, len(found.zones)) == ({}, (), 1)
    assert found.people.count == 1
    assert found.duration_s < 20


def test_where_everything_matters_nothing_is_taken() -> None:
    whole = full_chaos()
    found = shrink(whole, lambda scenario: scenario == whole, tries=1_000)
    assert (found.scenario, found.kept, found.given_up) == (whole, (), False)


def test_bound_of_runs_ends_the_search_and_says_so() -> None:
    runs: list[Scenario] = []

    def breaks(scenario: Scenario) -> bool:
        runs.append(scenario)
        return "power_cut" in scenario.faults

    found = shrink(full_chaos(), breaks, tries=9)
    assert found.given_up
    assert found.tried == len(runs) == 9
    assert breaks(found.scenario)


def test_everything_that_is_tried_can_be_played_and_written() -> None:
    tried: list[Scenario] = []

    def breaks(scenario: Scenario) -> bool:
        tried.append(scenario)
        return "crash" in scenario.faults

    shrink(full_chaos(), breaks, tries=200)
    assert len(tried) > 20
    assert all(parse_scenario(as_toml(scenario)) == scenario for scenario in tried)


def test_what_is_tried_is_told_before_it_is_played() -> None:
    told: list[tuple[int, str]] = []
    found = shrink(full_chaos(), lambda scenario: True, tries=30, tell=lambda tried, what: told.append((tried, what)))
    assert [number for number, _ in told] == list(range(1, found.tried + 1))
    assert [what for _, what in told] == list(found.kept)


@given(st.sets(st.sampled_from([kind.value for kind in Fault if kind.value in full_chaos().faults])))
def test_any_set_of_faults_that_matters_together_is_found(needed: set[str]) -> None:
    found = shrink(full_chaos(), lambda scenario: needed <= set(scenario.faults), tries=2_000)
    assert set(found.scenario.faults) == needed
