"""The planning model against venues that can be computed by hand."""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt
from typing import Final

import pytest

from mesh.planning.changes import clones_to_compare
from mesh.planning.clone import Sample, _Copy, clone_noticed, sample_seed
from mesh.planning.contacts import World
from mesh.planning.figures import Quantiles, clone_classes, draw, last_zones
from mesh.planning.outcome import find_out
from mesh.planning.plan import (
    GOSSIP_S,
    MEETING_S,
    BadPlan,
    Courier,
    Money,
    Outage,
    Plan,
    Thief,
    Zone,
    format_length,
    parse_length,
)
from mesh.planning.settle import money_figures

MONEY: Final = Money(balance_minor=5000, sale_minor=800, sales_per_reader_minute=1.5, per_tap_cap_minor=2000)
ACCOMPLICE: Final = Thief(pace_s=60.0, travel_s=0.0)
ROUND_S: Final = 1200.0
STAY_S: Final = 60.0
SAMPLES: Final = 1_000

APART: Final = Plan(zones=(Zone("north", 1), Zone("south", 1)), networks=(), couriers=(), money=MONEY, thief=ACCOMPLICE)
WALKED: Final = replace(APART, couriers=(Courier(("north", "south"), ROUND_S, STAY_S),))
WIRED: Final = replace(APART, zones=(Zone("north", 2, gateway=True), Zone("south", 2)), networks=(("north", "south"),))


def samples(plan: Plan, count: int = SAMPLES) -> list[Sample]:
    return list(draw(plan, 1, count))


def distance_from_uniform(values: list[float], low: float, high: float) -> float:
    """Kolmogorov's distance between the values and the uniform distribution."""
    ranked, count = sorted(values), len(values)
    expected = [(value - low) / (high - low) for value in ranked]
    return max(max(abs(at - rank / count), abs(at - (rank + 1) / count)) for rank, at in enumerate(expected))


def test_without_outages_news_takes_one_gossip_in_a_zone_and_two_across_a_network() -> None:
    world = World(WIRED, 1)
    assert world.spread("south", 10.0) == [10.0 + 2 * GOSSIP_S, 10.0 + GOSSIP_S]
    found = samples(replace(WIRED, thief=Thief(60.0, 300.0)))
    assert all(sample.refused_at_once and sample.taps == 0 and sample.every_reader_s == 0 for sample in found)
    assert {sample.settled_s for sample in found} == {GOSSIP_S, 2 * GOSSIP_S}
    assert {sample.alone_s for sample in found} == {GOSSIP_S}


def test_accomplice_at_another_bar_of_a_connected_venue_makes_one_tap() -> None:
    found = [sample for sample in samples(WIRED) if sample.first_zone != sample.second_zone]
    assert all(sample.taps == 1 and sample.spent_minor == 2000 and not sample.refused_at_once for sample in found)
    assert {sample.every_reader_s for sample in found} == {2 * GOSSIP_S}


def test_clone_in_two_zones_that_nothing_joins_is_never_noticed_and_spends_the_balance() -> None:
    for sample in samples(APART, 50):
        assert (sample.first_bar_s, sample.both_bars_s, sample.every_reader_s) == (inf, inf, inf)
        assert (sample.taps, sample.spent_minor) == (3, 5000)
        assert (sample.settled_s, sample.alone_s) == (inf, inf)


def test_courier_between_two_zones_brings_word_to_the_first_bar_within_one_round() -> None:
    """The next stop but one is at most a round away; which one is next is uniform in half a round."""
    found = samples(WALKED)
    earliest = ROUND_S / 2 + MEETING_S + 2 * GOSSIP_S - STAY_S
    first = [sample.first_bar_s for sample in found]
    assert earliest <= min(first) and max(first) <= earliest + ROUND_S / 2 <= ROUND_S
    assert distance_from_uniform(first, earliest, earliest + ROUND_S / 2) < 1.63 / sqrt(len(found))


def test_courier_between_two_zones_brings_word_to_the_other_bar_half_a_round_later() -> None:
    for sample in samples(WALKED, 200):
        assert sample.both_bars_s == pytest.approx(sample.first_bar_s + ROUND_S / 2)
        assert sample.every_reader_s == sample.both_bars_s


def test_news_of_one_tap_reaches_the_other_zone_uniformly_over_a_whole_round() -> None:
    arrivals = [World(WALKED, sample_seed(1, number)).spread("north", 0.0)[1] for number in range(SAMPLES)]
    earliest = ROUND_S / 2 + MEETING_S + 2 * GOSSIP_S - STAY_S
    assert distance_from_uniform(arrivals, earliest, earliest + ROUND_S) < 1.63 / sqrt(SAMPLES)


def test_first_tap_waits_for_the_courier_as_the_only_copy() -> None:
    """The courier is the second device: at once where present, else at the next stay, a round at most."""
    alone = [sample.alone_s for sample in samples(WALKED)]
    assert max(alone) <= ROUND_S - STAY_S + MEETING_S + 2 * GOSSIP_S
    present = sum(delay == 2 * GOSSIP_S for delay in alone) / len(alone)
    assert present == pytest.approx((STAY_S - MEETING_S) / ROUND_S, abs=0.02)


def test_outages_delay_their_part_of_the_taps_by_their_mean_length() -> None:
    """At any moment the zone is cut off with probability 6/40, and for an exponential 6 minutes more."""
    plan = replace(
        WIRED, zones=(Zone("hub", 0, gateway=True), Zone("bars", 2, Outage(360.0, 2400.0))), networks=(("hub", "bars"),)
    )
    found = [sample.settled_s for sample in samples(plan, 4_000)]
    late = [delay for delay in found if delay > 2 * GOSSIP_S + MEETING_S]
    assert len(late) / len(found) == pytest.approx(0.15, abs=0.01)
    assert sum(late) / len(late) == pytest.approx(360.0, rel=0.1)


def test_zone_cut_off_for_ever_is_one_that_no_network_joins() -> None:
    cut = replace(WIRED, zones=(Zone("north", 2, gateway=True), Zone("south", 2, Outage(600.0, 600.0))))
    assert World(cut, 1).spread("south", 0.0) == [inf, GOSSIP_S]


def test_gateway_that_is_cut_off_joins_nothing() -> None:
    cut = replace(WIRED, zones=(Zone("north", 2, Outage(600.0, 600.0), gateway=True), Zone("south", 2)))
    assert World(cut, 1).spread("south", 0.0) == [inf, GOSSIP_S]


def test_courier_meets_nobody_behind_a_dead_access_point() -> None:
    dark = replace(WALKED, zones=(Zone("north", 1), Zone("south", 1, blackout=Outage(600.0, 600.0))))
    reached = World(dark, 1).spread("north", 0.0)
    assert reached[1] == inf
    assert reached[2] < ROUND_S


def test_readers_behind_a_dead_access_point_do_not_hear_each_other() -> None:
    dark = replace(APART, zones=(Zone("north", 5, blackout=Outage(600.0, 600.0)),), thief=Thief(60.0, 300.0))
    for sample in samples(dark, 50):
        assert not sample.refused_at_once
        assert (sample.both_bars_s, sample.alone_s, sample.spent_minor) == (inf, inf, 5000)


def test_network_without_a_gateway_joins_no_zones() -> None:
    assert World(replace(APART, networks=(("north", "south"),)), 1).spread("north", 0.0) == [GOSSIP_S, inf]


def test_refused_thief_goes_on_in_the_zone_that_hears_last() -> None:
    """Two bars of one zone refuse the copy at once; the forest, which nobody walks to, takes it."""
    forest = replace(APART, zones=(Zone("main", 2), Zone("forest", 1)), thief=Thief(60.0, 300.0))
    refused = [sample for sample in samples(forest, 100) if sample.refused_at_once]
    assert refused
    assert all((sample.taps, sample.spent_minor, sample.both_bars_s) == (3, 5000, 0.0) for sample in refused)


def test_thief_stays_where_the_next_tap_is_taken_and_else_goes_where_news_comes_last() -> None:
    plan = replace(APART, zones=(Zone("main", 2), Zone("camp", 1), Zone("forest", 1)), thief=Thief(60.0, 300.0))
    world = World(plan, 1)
    copy = _Copy(plan, world, world.spread("main", 0.0))
    assert copy._next("main", 0.0, {"main": 61.0, "camp": 700.0, "forest": 900.0}) == ("main", 60.0)
    assert copy._next("main", 0.0, {"main": 60.0, "camp": 700.0, "forest": 900.0}) == ("forest", 300.0)
    assert copy._next("main", 0.0, {"main": 60.0, "camp": 900.0, "forest": 700.0}) == ("camp", 300.0)
    assert copy._next("main", 0.0, {"main": 60.0, "camp": 300.0, "forest": 300.0}) is None


def test_copy_is_taken_once_a_pace_until_its_bar_has_heard() -> None:
    """The copy is shown at 0, and its bar hears of the first tap later: one tap a pace until then, at least."""
    poor = replace(WALKED, money=replace(MONEY, balance_minor=1_000_000, per_tap_cap_minor=100))
    for number in range(200):
        seed = sample_seed(1, number)
        sample = clone_noticed(poor, seed)
        second = poor.zones.index(poor.zone(sample.second_zone))
        heard = World(poor, seed).spread(sample.first_zone, 0.0)[second]
        assert sample.taps >= 1 + int(heard // 60.0)
        assert sample.spent_minor == sample.taps * 100


def test_reader_that_heard_of_the_original_refuses_the_copys_second_tap_even_without_its_first() -> None:
    """The copy then shows a record whose parent another known tap consumed (`sibling` in mesh.views.cards)."""
    plan = replace(
        APART,
        zones=(Zone("north", 2, gateway=True), Zone("south", 2), Zone("forest", 2)),
        networks=(("north", "south"),),
        couriers=(Courier(("north", "forest"), 2400.0, 60.0),),
        thief=Thief(pace_s=1500.0, travel_s=0.0),
    )
    moved = []
    for number in range(300):
        seed = sample_seed(1, number)
        sample = clone_noticed(plan, seed)
        if sample.second_zone == "forest" != sample.first_zone:
            world = World(plan, seed)
            heard_here = world.spread(sample.first_zone, 0.0)[2] <= 1500.0
            copy_unheard_there = min(world.spread("forest", 0.0)[:2]) > 1500.0
            if heard_here and copy_unheard_there:
                moved.append(sample.taps)
    assert moved
    assert set(moved) == {1}


def test_amount_is_bounded_by_the_cap_of_each_tap_and_by_the_balance() -> None:
    uncapped = replace(APART, money=replace(MONEY, per_tap_cap_minor=None))
    assert {(sample.taps, sample.spent_minor) for sample in samples(uncapped, 20)} == {(1, 5000)}
    odd = replace(APART, money=replace(MONEY, balance_minor=5001))
    assert {(sample.taps, sample.spent_minor) for sample in samples(odd, 20)} == {(3, 5001)}


def test_money_under_way_is_the_rate_times_the_delay() -> None:
    figures = money_figures(WIRED, samples(WIRED))
    assert figures.hour_minor == 4 * 90 * 800
    assert figures.on_one_device == pytest.approx(GOSSIP_S / 3600)
    assert figures.not_at_gateway == pytest.approx(1.5 * GOSSIP_S / 3600, rel=0.05)
    lost = money_figures(APART, samples(APART, 20))
    assert (lost.not_at_gateway_minor, lost.never_at_gateway) == (lost.hour_minor, 1.0)


def test_quantiles_are_values_of_the_sample_and_never_is_above_all() -> None:
    assert Quantiles.of(range(1, 101)) == Quantiles(50, 99, 100)
    assert Quantiles.of([inf, 1.0]) == Quantiles(1.0, inf, inf)
    assert Quantiles.of([3.0]) == Quantiles(3.0, 3.0, 3.0)


def test_classes_split_the_clones_by_their_two_bars() -> None:
    classes = clone_classes(samples(WIRED))
    assert classes.same_zone is not None and classes.across_zones is not None
    assert classes.same_zone.clones + classes.across_zones.clones == classes.overall.clones == SAMPLES
    assert classes.across_zones.clones / SAMPLES == pytest.approx(2 / 3, abs=0.04)
    assert clone_classes(samples(APART, 20)).same_zone is None


def test_zone_that_hears_last_is_named() -> None:
    forest = Zone("forest", 1)
    plan = replace(
        WIRED,
        zones=(*WIRED.zones, forest),
        couriers=(Courier(("north", "forest"), ROUND_S, STAY_S),),
        thief=Thief(60.0, 300.0),
    )
    only_wired = [sample for sample in samples(plan) if "forest" not in {sample.first_zone, sample.second_zone}]
    assert last_zones(only_wired)[0].zone == "forest"
    assert last_zones(only_wired)[0].part == 1.0


def test_shorter_round_and_another_courier_are_tried_and_the_network_is_found_to_help_most() -> None:
    plan = replace(WALKED, zones=(Zone("north", 2, gateway=True), Zone("south", 2)), thief=Thief(60.0, 300.0))
    comparison = find_out(plan, 1, 300).comparison
    tried = {effect.text for effect in comparison.changes}
    assert {"one more courier on the round north,south:20m", "the round north,south:15m instead of 20m"} <= tried
    assert comparison.best_change is not None
    assert comparison.best_change.text == "a network from south to the gateway in north"
    assert comparison.best_change.every_reader_s.worst == 0
    assert comparison.main_cause is not None
    assert comparison.main_cause.text == "the lack of a network in south"


def test_venue_that_only_gossips_has_no_cause_and_needs_no_change() -> None:
    comparison = find_out(replace(WIRED, thief=Thief(60.0, 300.0)), 1, 100).comparison
    assert (comparison.main_cause, comparison.best_change) == (None, None)


def test_many_things_to_try_are_tried_on_fewer_clones() -> None:
    assert [clones_to_compare(venues) for venues in (0, 13, 32, 10_000)] == [4_000, 4_000, 1_625, 500]
    assert find_out(WALKED, 1, 40).comparison.clones == 40


def test_progress_goes_up_to_the_end() -> None:
    heard: list[float] = []
    find_out(WALKED, 1, 1000, heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("0.5s", 0.5), ("1.5h", 5400), ("1h0m5s", 3605)]
)
def test_lengths_of_time_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_length(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "20 min", "-5m", "5m1h", "25h", "1e9s", "٣m"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(BadPlan):
        parse_length(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "0.25s"), (9.999, "10s"), (59.6, "1m"), (90, "1m30s"), (3599.7, "1h"), (5400, "1h30m")],
)
def test_lengths_of_time_are_written_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert format_length(seconds) == text
