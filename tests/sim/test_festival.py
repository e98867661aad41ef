"""Three days, 80,000 people, 395,000 taps, 300 readers, and zones without a network for minutes at a time.

About an hour and some gigabytes, so in `make soak`; experiments/010_festival has the result of a run. An hour with a
tenth of the readers is played in `make test`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from mesh.testing.packaged import find_scenario
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Scenario

OF_THE_WRISTBAND: Final = frozenset({"not_enough_balance", "no_balance_yet", "held", "older_state", "copy"})
"""Why an order may be declined when everything is as it should be: nothing among it is for lack of a network."""


def an_hour_of_it(scenario: Scenario) -> Scenario:
    """A tenth of the readers and of the people for an hour, in the same rhythm of zones."""
    zones = tuple(replace(zone, readers=max(1, zone.readers // 10), tills=1) for zone in scenario.zones[:4])
    people = replace(scenario.people, count=300, taps_per_s=0.5, by_hour=(), orders_max=0)
    faults = {"power_cut": 3, "uplink_down": 2, "link_reset": 5, "card_cloned": 4, "card_rolled_back": 1}
    return replace(
        scenario,
        zones=zones,
        people=people,
        faults=faults,
        duration_s=3600.0,
        settle_s=1800.0,
        fault_lasts_s=(60.0, 300.0),
    )


def holds(outcome: Outcome) -> None:
    assert [str(violation) for violation in outcome.violations] == []
    assert set(outcome.declined) <= OF_THE_WRISTBAND
    assert outcome.fired["zone_down"] > 0


@pytest.mark.proves("S1.22", "S1.23")
def test_an_hour_with_zones_down_for_minutes_is_settled_exactly_once_and_no_tap_is_refused_for_it() -> None:
    outcome = play(an_hour_of_it(find_scenario("festival")), 1)
    holds(outcome)
    assert outcome.paid > 1_000
    assert outcome.conflicts > 0


@pytest.mark.soak
@pytest.mark.proves("S1.22", "S1.23")
def test_three_days_of_a_festival_are_settled_exactly_once_and_every_clone_is_found() -> None:
    outcome = play(find_scenario("festival"), 1)
    holds(outcome)
    assert outcome.paid >= 395_000
    assert outcome.conflicts > 0
