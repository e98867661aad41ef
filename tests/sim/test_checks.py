"""Every check can speak: a run that held is broken on purpose in one way, and exactly that is noticed.

The run is one in which everything a check looks at has happened: sales, a copied wristband in conflict, couriers, a
ledger. What is broken is what the world holds when all is over; whether the product can break it is for the mutants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from mesh.core.chain import check_run
from mesh.core.entry import entry_id, sign_entry
from mesh.core.frontier import Branch, Position, Segment
from mesh.core.kinds import Lane, Operation
from mesh.limits import (
    BRANCHES_PER_LOG_MAX,
    OPEN_INTENTS_MAX,
    OUTBOX_BYTES_MAX,
    WANTS_IN_FLIGHT_PER_LINK_MAX,
)
from mesh.testing.checks import CHECKS, Check
from mesh.testing.device import Device
from mesh.testing.people import card_of
from mesh.testing.process import Process
from mesh.testing.run import Outcome, play
from mesh.testing.scenario import Scenario, parse_scenario
from mesh.testing.store import MemoryStore
from mesh.testing.world import Paid, World
from mesh.views.everything import Views

SEEDS: Final = range(1, 30)
UNKNOWN_KIND: Final = 900
SCENARIO: Final = """
name = "to-be-broken"
duration_s = 80
settle_s = 60
[[zones]]
name = "north"
tills = 1
gateways = 1
connected = false
[[zones]]
name = "south"
tills = 1
connected = false
[[couriers]]
route = ["north", "south"]
dwell_s = 6
walk_s = 3
[people]
count = 12
moves = 0.3
clone_pace_s = [1, 4]
[faults]
card_cloned = 4
link_reset = 2
"""

Break = Callable[[World], None]


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return parse_scenario(SCENARIO)


@pytest.fixture(scope="module")
def unbroken(scenario: Scenario) -> Outcome:
    """The first seed in which a copied wristband came to a conflict."""
    return next(outcome for seed in SEEDS if (outcome := play(scenario, seed)).conflicts)


def seller(world: World) -> Device:
    """A bar that has sold something."""
    return world.devices[next(iter(sorted(paid.device for paid in world.truth.paid.values())))]


def running(device: Device) -> Process:
    assert device.process is not None
    return device.process


def own_log(device: Device) -> bytes:
    """The log of a device that has the most entries."""
    ids = device.storage.own.entry_ids()
    return max(ids, key=lambda log_id: len(ids[log_id]))


# -- What is broken ----------------------------------------------------------------------------------------------------


def sends_before_its_disk_has_it(world: World) -> None:
    bar, log_id = seller(world), own_log(seller(world))
    height = bar.storage.own.height(log_id)
    assert height is not None
    world.sends_run(bar.name, "office", log_id, height + 1, 1)


def loses_the_newest_entry_of_a_log(world: World) -> None:
    """On one device only: it also differs from the others now."""
    log_id = own_log(seller(world))
    replica = world.office.storage.replica

    def forget(store: MemoryStore) -> None:
        branch = store._logs[log_id][0]
        assert branch.tail is not None
        store._set(log_id, 0, replace(branch, tail=branch.tail.before))

    replica.transact(forget)


def entry_on_a_disk_reaches_nobody(world: World) -> None:
    """The zone's access point fails, a bar writes an entry, and its power goes."""
    bar = seller(world)
    world.network.zones_down.add(bar.zone)
    world.network_changed()
    world.clock.run_until(world.clock.now + 5.0)
    running(bar).append(Lane.CONTROL, UNKNOWN_KIND, b"nobody hears of it")
    world.clock.run_until(world.clock.now + 1.0)
    bar.power_cut(3600.0)


def shows_as_paid_what_no_log_has(world: World) -> None:
    bar = seller(world)
    world.truth.paid[bytes(16)] = Paid(bar.name, bytes(16), Operation.SALE, 500, 1.0)


def shows_another_amount_than_is_counted(world: World) -> None:
    tap_id, paid = next(iter(world.truth.paid.items()))
    world.truth.paid[tap_id] = replace(paid, amount_minor=paid.amount_minor + 1)


def counts_a_debit_that_nobody_was_shown(world: World) -> None:
    world.truth.paid.popitem()


def ledger_books_a_cent_too_much(world: World) -> None:
    ledger = world.settlement.ledger
    assert ledger is not None
    ledger._db.execute("UPDATE line SET amount_minor = amount_minor + 1 WHERE card = (SELECT min(card) FROM line)")


def settlement_service_stays_down(world: World) -> None:
    assert world.settlement.ledger is not None
    world.settlement.ledger.close()
    world.settlement.ledger = None


def device_did_not_prove_a_conflict(world: World) -> None:
    assert world.truth.surfaced, "there is a conflict in this run"
    proven = running(world.office).proven
    proven.remove(min(proven))


def card_that_nobody_copied_is_held(world: World) -> None:
    world.truth.copied_cards.clear()


def honest_log_is_contested_everywhere(world: World) -> None:
    log_id = own_log(seller(world))
    for device in world.devices.values():
        running(device).node.contested_from[log_id] = 3


def honest_device_hung_up_on_another(world: World) -> None:
    world.broke_a_rule("office", seller(world).name, "it sent something that breaks a rule")


def device_lost_its_views(world: World) -> None:
    process = running(world.devices["till south 1"])
    process.views = Views(process.root)


def every_entry_was_sent_ten_times(world: World) -> None:
    for name in world.devices:
        world.truth.sent[name] += 10 * world.devices[name].accepted


def outbox_was_over_its_bound(world: World) -> None:
    running(world.office).most_outbox_bytes = OUTBOX_BYTES_MAX + 1


def more_logs_were_served_than_may_be_asked_for(world: World) -> None:
    running(world.office).most_jobs = 2 * WANTS_IN_FLIGHT_PER_LINK_MAX + 1


def log_has_too_many_branches_everywhere(world: World) -> None:
    """In what is compared with nobody: the frontier of one node, behind its digests."""
    log = running(world.office).node.frontier.logs[own_log(seller(world))]
    for number in range(100, 101 + BRANCHES_PER_LOG_MAX):
        log.branches[number] = Branch(number, 1, bytes(32), Position(1, bytes(32)), None, attached=False)


def too_many_taps_are_open(world: World) -> None:
    own = seller(world).storage.own
    _, body = (b"", b"") if not own.intents() else own.intents()[0]

    def fill(store: MemoryStore) -> None:
        for at in range(OPEN_INTENTS_MAX + 1):
            store.put_intent(at.to_bytes(16, "big"), body)

    own.transact(fill)


def fault_never_happened(world: World) -> None:
    del world.fired["link_reset"]


def venue_never_came_together(world: World) -> None:
    world.together_at = None


def link_to_a_liar_was_kept(world: World) -> None:
    world.truth.let_pass.append(("office", "bar south 1", "left an entry out"))


def revoked_device_still_has_its_links(world: World) -> None:
    linked = next(iter(running(world.office).links.values())).end.peer
    world.truth.revoked[linked.serial] = {}


def wristband_that_no_reader_sealed_was_good_for_money(world: World) -> None:
    world.truth.sold_to_forged.append("bar south 1")


def fork_that_no_view_was_told_of(world: World) -> None:
    """A bar is a liar after all: every disk holds a second entry at the seq of its first."""
    bar, log_id = seller(world), own_log(seller(world))
    bar.is_honest = False
    genesis = bar.storage.own.read_entries(log_id, Segment(0, 0, 0))
    rival = sign_entry(
        bar.enrolled.sign_anything,
        log_id=log_id,
        seq=1,
        prev=entry_id(genesis[0]),
        time_ms=1,
        kind=UNKNOWN_KIND,
        body=b"",
    )
    run = check_run(log_id, [rival])

    def write(store: MemoryStore) -> None:
        store.add_branch(log_id, 99, 1, run.prev, parent=0, attached=True)
        store.append_run(run, 99, verified=True)

    for device in world.honest:
        device.storage.replica.transact(write)


def case_holds_what_nobody_signed(world: World) -> None:
    kept = running(world.office)._kept
    place, (genesis, entry) = next(iter(kept.items()))
    kept[place] = (genesis, entry[:-1] + bytes([entry[-1] ^ 1]))


def service_signed_none_of_its_receipts(world: World) -> None:
    assert world.settlement.signed
    world.settlement.signed.clear()


def receipt_says_a_cent_too_much(world: World) -> None:
    ledger = world.settlement.ledger
    assert ledger is not None
    log = ledger._logs.by_id[own_log(seller(world))]
    log.heads[0].sum_minor += 1


def wristband_is_unreadable(world: World) -> None:
    spoilt = world.truth.bands[0]
    spoilt.slots[:] = [bytes([1]) * len(slot) for slot in spoilt.slots]
    world.truth.copied_cards -= {card_of(spoilt)}


def rule_breaker_was_not_hung_up_on(world: World) -> None:
    world.truth.let_pass.append((seller(world).name, "rule breaker 1", "sent a frame of a kind that there is not"))


def bar_sold_to_a_forged_wristband(world: World) -> None:
    world.truth.sold_to_forged.append(seller(world).name)


def liar_whose_cut_is_empty_counts(world: World) -> None:
    """A bar that sold was dishonest and revoked, so that nothing of it counts; it is off, with no link to anybody."""
    bar = seller(world)
    bar.is_honest = False
    bar.power_cut(3600.0)
    world.clock.run_until(world.clock.now + 5.0)
    world.truth.revoked[bar.certificate.serial] = {}


def case_is_kept_with_a_signature_that_is_none(world: World) -> None:
    kept = running(world.office)._kept
    key = min(kept)
    genesis, entry = kept[key]
    kept[key] = genesis, bytes([*entry[:-1], entry[-1] ^ 1])


def receipt_is_published_that_the_service_did_not_sign(world: World) -> None:
    world.settlement.signed.clear()


def wristband_holds_nothing_that_can_be_read(world: World) -> None:
    band = next(band for band in world.truth.bands if any(map(any, band.slots)) and card_of(band) not in copied(world))
    for slot, data in enumerate(band.slots):
        band.write(slot, bytes([255] * len(data)))


def copied(world: World) -> set[bytes]:
    return world.truth.copied_cards


BREAKS: Final[list[tuple[Break, set[Check]]]] = [
    (sends_before_its_disk_has_it, {Check.DURABLE_BEFORE_VISIBLE}),
    (loses_the_newest_entry_of_a_log, {Check.NOTHING_ACKNOWLEDGED_IS_LOST, Check.CONVERGENCE}),
    (entry_on_a_disk_reaches_nobody, {Check.NOTHING_ACKNOWLEDGED_IS_LOST}),
    (shows_as_paid_what_no_log_has, {Check.NOTHING_ACKNOWLEDGED_IS_LOST, Check.MONEY_CONSERVED}),
    (shows_another_amount_than_is_counted, {Check.MONEY_CONSERVED}),
    (counts_a_debit_that_nobody_was_shown, {Check.MONEY_CONSERVED}),
    (ledger_books_a_cent_too_much, {Check.MONEY_CONSERVED}),
    (settlement_service_stays_down, {Check.MONEY_CONSERVED}),
    (device_did_not_prove_a_conflict, {Check.CONFLICTS_SURFACED}),
    (card_that_nobody_copied_is_held, {Check.NOBODY_FRAMED}),
    (honest_log_is_contested_everywhere, {Check.NOBODY_FRAMED}),
    (honest_device_hung_up_on_another, {Check.NOBODY_FRAMED}),
    (device_lost_its_views, {Check.CONVERGENCE}),
    (every_entry_was_sent_ten_times, {Check.REDUNDANCY}),
    (outbox_was_over_its_bound, {Check.BOUNDED}),
    (more_logs_were_served_than_may_be_asked_for, {Check.BOUNDED}),
    (log_has_too_many_branches_everywhere, {Check.BOUNDED}),
    (too_many_taps_are_open, {Check.BOUNDED}),
    (fault_never_happened, {Check.FAULTS_FIRED}),
    (venue_never_came_together, {Check.IN_TIME}),
    (rule_breaker_was_not_hung_up_on, {Check.RULES_ENFORCED}),
    (bar_sold_to_a_forged_wristband, {Check.RULES_ENFORCED}),
    (liar_whose_cut_is_empty_counts, {Check.COUNTED_RIGHTLY}),
    (case_is_kept_with_a_signature_that_is_none, {Check.EVIDENCE_SIGNED}),
    (receipt_is_published_that_the_service_did_not_sign, {Check.SETTLED_WHOLE}),
    (wristband_holds_nothing_that_can_be_read, {Check.WRISTBANDS_GOOD}),
    (link_to_a_liar_was_kept, {Check.RULES_ENFORCED}),
    (revoked_device_still_has_its_links, {Check.RULES_ENFORCED}),
    (wristband_that_no_reader_sealed_was_good_for_money, {Check.RULES_ENFORCED}),
    (fork_that_no_view_was_told_of, {Check.COUNTED_RIGHTLY}),
    (case_holds_what_nobody_signed, {Check.EVIDENCE_SIGNED}),
    (service_signed_none_of_its_receipts, {Check.SETTLED_WHOLE}),
    (receipt_says_a_cent_too_much, {Check.SETTLED_WHOLE}),
    (wristband_is_unreadable, {Check.WRISTBANDS_GOOD}),
]


def test_run_that_is_broken_below_holds(unbroken: Outcome) -> None:
    assert unbroken.violations == ()
    assert unbroken.conflicts >= 1
    assert unbroken.paid > 30


@pytest.mark.parametrize(("breaks", "checks"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_broken_on_purpose_is_noticed_by_its_check_alone(
    scenario: Scenario, unbroken: Outcome, breaks: Break, checks: set[Check]
) -> None:
    outcome = play(scenario, unbroken.seed, after=breaks)
    assert {violation.check for violation in outcome.violations} == checks
    assert all(len(violation.sentence.split()) > 3 for violation in outcome.violations)


def test_every_check_is_seen_to_speak() -> None:
    assert {check for _, checks in BREAKS for check in checks} == set(CHECKS) == set(Check)
