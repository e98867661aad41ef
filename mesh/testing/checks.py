"""What must hold at the end of every run, each with a name. docs/SIMULATOR.md has a page on each.

Everything here compares what the logs and the ledger say with what people saw and what really happened
(:class:`mesh.testing.world.Truth`), which no log has had a part in.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.settlement.ledger import Account
from mesh.core.chain import parse_genesis
from mesh.limits import BRANCHES_PER_LOG_MAX, LOGS_MAX, OPEN_INTENTS_MAX, OUTBOX_BYTES_MAX, WANTS_IN_FLIGHT_PER_LINK_MAX
from mesh.testing.audit import audit, signed_by_its_author
from mesh.testing.counter import stored_rows
from mesh.testing.device import Device
from mesh.testing.settled import settled_whole
from mesh.testing.starter import CARD_ID_KEY
from mesh.testing.world import World, held_in
from mesh.views.card_account import CREDITS, TapFact
from mesh.views.cards import CardsView
from reader.card import Blank, Shown, card_id, read_card

CARDS_LOOKED_AT: Final = 5_000
"""Cards whose balances are compared one by one, device by device."""


class Check(Enum):
    """The checkers, by the names that people read."""

    DURABLE_BEFORE_VISIBLE = "durable-before-visible"
    NOTHING_ACKNOWLEDGED_IS_LOST = "nothing-acknowledged-is-lost"
    MONEY_CONSERVED = "money-conserved"
    CONFLICTS_SURFACED = "conflicts-surfaced"
    NOBODY_FRAMED = "nobody-framed"
    CONVERGENCE = "convergence"
    REDUNDANCY = "redundancy"
    BOUNDED = "bounded"
    FAULTS_FIRED = "faults-fired"
    IN_TIME = "in-time"
    RULES_ENFORCED = "rules-enforced"
    COUNTED_RIGHTLY = "counted-rightly"
    EVIDENCE_SIGNED = "evidence-signed"
    SETTLED_WHOLE = "settled-whole"
    WRISTBANDS_GOOD = "wristbands-good"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that does not hold."""

    check: Check
    sentence: str

    def __str__(self) -> str:
        return f"{self.check.value}: {self.sentence}"


def examine(world: World) -> list[Violation]:
    """Every check over a world that has come together; empty if all hold."""
    return [Violation(check, sentence) for check, look in CHECKS.items() for sentence in look(world)]


def connected(world: World) -> list[Device]:
    """Who is up and can be reached by the others, if only by a courier."""
    return [device for device in world.honest if device.is_up]


# -- Durable before visible --------------------------------------------------------------------------------------------


def _durable_before_visible(world: World) -> Iterator[str]:
    for device, to in world.truth.visible_too_early:
        yield f"{device} sent {to} entries of its own that were not on its disk yet"
    for holder in world.honest:
        if holder.lives.words_broken:
            yield f"{holder.name} lost what it had told {holder.lives.words_broken} times to be on its disk for good"


# -- Nothing acknowledged is lost --------------------------------------------------------------------------------------


def _nothing_lost(world: World) -> Iterator[str]:
    """Every entry that was durable on an honest device is everywhere, unless the device is gone with its disk."""
    for author in world.honest:
        if author.gone:
            continue
        for log_id, ids in author.storage.own.entry_ids().items():
            for holder in connected(world):
                if holder is author:
                    continue
                held = holder.storage.replica.ids_of(log_id) | holder.storage.own.ids_of(log_id)
                if missing := len(ids - held):
                    yield f"{holder.name} lacks {missing} of {len(ids)} entries of a log of {author.name}"
    shown = set(world.truth.paid)
    signed = {fact.tap_id for view in _views(world)[:1] for fact in _all_facts(view)}
    gone = {device.name for device in world.devices.values() if device.gone or not device.is_honest}
    for tap_id in shown - signed - world.truth.rolled_away:
        if world.truth.paid[tap_id].device not in gone:
            yield f"an order that {world.truth.paid[tap_id].device} called paid is in no log"


# -- Money -------------------------------------------------------------------------------------------------------------


def _money_conserved(world: World) -> Iterator[str]:
    """Greens are the counted debits, to the cent; what was credited and not spent is what the cards have left."""
    views = _views(world)
    if not views:
        yield "no honest device is up"
        return
    view = views[0]
    honest_logs = _logs_of(world, view, lambda device: device.is_honest)
    counted = {fact for card in view.cards() for fact in view.account(card).counted}
    of_honest = [fact for fact in counted if fact.log in honest_logs]
    by_tap = {fact.tap_id: fact for fact in of_honest}
    if len(by_tap) != len(of_honest):
        yield "an order was debited twice"
    aborted = {fact.tap_id for card in view.cards() for fact in view.account(card).uncounted}
    for tap_id, paid in world.truth.paid.items():
        fact = by_tap.get(tap_id)
        if fact is None and (world.devices[paid.device].gone or tap_id in world.truth.rolled_away):
            continue  # it was on that device only, and is lost with it
        if not world.devices[paid.device].is_honest:
            continue
        if fact is None:
            why = "is not counted" if tap_id in aborted else "is in no log"
            yield f"{paid.device} showed {paid.amount_minor} as paid, and that {why}"
        elif (fact.amount_minor, fact.operation) != (paid.amount_minor, int(paid.operation)):
            yield f"{paid.device} showed {paid.amount_minor} as paid, and {fact.amount_minor} is counted"
    for tap_id in by_tap.keys() - world.truth.paid.keys():
        if not _may_be_unshown(world, tap_id):
            yield f"{by_tap[tap_id].amount_minor} was debited and never shown as paid"
    yield from _ledger(world, view)


def _may_be_unshown(world: World, tap_id: bytes) -> bool:
    """Committed on a device that died for good before it could show it: nobody is left to show it."""
    return any(tap_id in stored_rows(device.storage.own) for device in world.devices.values() if device.gone)


def _ledger(world: World, view: CardsView) -> Iterator[str]:
    ledger = world.settlement.ledger
    if ledger is None or not world.every_gateway:
        if world.gateways:
            yield "the settlement service is down at the end"
        return
    totals = ledger.totals()
    if sum(totals.accounts.values()) != 0:
        yield f"the ledger's lines sum to {sum(totals.accounts.values())}, not to nothing"
    facts = [fact for card in view.cards() for fact in view.account(card).counted]
    credits_minor = sum(fact.amount_minor for fact in facts if fact.operation in CREDITS)
    debits_minor = sum(fact.amount_minor for fact in facts if fact.operation not in CREDITS)
    balances = sum(view.account(card).balance_minor for card in view.cards())
    if credits_minor - debits_minor != balances:
        yield f"credits {credits_minor} less debits {debits_minor} are not the balances {balances}"
    contested_minor = _contested_sales(view)
    if world.overflowing():
        # The service may have room for other branches of a liar than this device: it pays those from suspense too.
        contested_minor = max(contested_minor, totals.accounts[Account.SUSPENSE])
    sales = -totals.accounts[Account.VENUE_SALES]
    if not debits_minor <= sales <= debits_minor + contested_minor:
        yield f"the ledger pays the bars {sales}, where {debits_minor} is counted and {contested_minor} contested"
    cash = totals.accounts[Account.TOP_UP_CASH]
    if cash < credits_minor:
        yield f"the ledger has {cash} of top-up cash, where {credits_minor} was credited"


def _contested_sales(view: CardsView) -> int:
    uncounted = (fact for card in view.cards() for fact in view.account(card).uncounted)
    return sum(fact.amount_minor for fact in uncounted if fact.operation not in CREDITS)


# -- Conflicts and accusations -----------------------------------------------------------------------------------------


def _conflicts_surfaced(world: World) -> Iterator[str]:
    """Each conflict that the merged logs show was proven, offline, at every device that is connected."""
    views = _views(world)
    if not views:
        return
    in_conflict = {conflict.card for conflict in views[0].all_conflicts()}
    for card in sorted(in_conflict):
        for device in connected(world):
            assert device.process is not None
            if card not in device.process.proven:
                yield f"{device.name} did not prove the conflict of card {card.hex()}"
    yield from _found(world, views[0], in_conflict)


def _found(world: World, view: CardsView, in_conflict: set[bytes]) -> Iterator[str]:
    """Every wristband that really bought twice with one state is in conflict, whatever a view made of it."""
    counted = {fact.tap_id for card in set(world.truth.double_spent.values()) for fact in view.account(card).counted}
    for (one, other), card in world.truth.double_spent.items():
        if card not in in_conflict and {one, other} <= counted:
            yield f"card {card.hex()} paid twice with one state, and nobody noticed"
        elif not {one, other} <= counted and not _lost_with_a_device(world, one, other):
            yield f"card {card.hex()} paid twice with one state, and one of the two does not count"


def _lost_with_a_device(world: World, *tap_ids: bytes) -> bool:
    """Whether one of these orders was on a device only that is gone, or was rolled back, with its disk."""
    return any(
        world.devices[world.truth.paid[tap_id].device].gone or tap_id in world.truth.rolled_away for tap_id in tap_ids
    )


def _nobody_framed(world: World) -> Iterator[str]:
    """No card is held that was never copied nor lied about; no honest device is contested, revoked or hung up on."""
    views = _views(world)
    for conflict in views[0].all_conflicts() if views else ():
        named = {_author(world, tap.log_id) for tap in conflict.taps}
        liars = {device.name for device in world.devices.values() if not device.is_honest}
        if conflict.card not in world.truth.copied_cards and not named & liars:
            yield f"card {conflict.card.hex()} is held, and was never copied"
    for device in connected(world):
        assert device.process is not None
        for log_id, seq in device.process.node.contested_from.items():
            author = _author(world, log_id)
            if author in world.devices and world.devices[author].is_honest:
                yield f"{device.name} contests a log of {author} from seq {seq}, and {author} never signed two ways"
        for other in world.honest:
            if other.certificate.serial in device.process.node.revocations:
                yield f"{device.name} believes that {other.name} was revoked"
    for blamer, blamed, reason in world.truth.blamed:
        if world.devices[blamer].is_honest and world.devices[blamed].is_honest:
            yield f"{blamer} hung up on {blamed}: {reason}"


# -- Convergence -------------------------------------------------------------------------------------------------------


def _convergence(world: World) -> Iterator[str]:
    """Byte-identical logs and equal views at every device that is connected.

    Left out is nothing but the entries of logs of which a liar signed more branches than a device keeps
    (:meth:`World.overflowing`): each device may hold others of those. What follows from them for anybody's money has to
    be the same all the same.
    """
    devices = connected(world)
    if not devices:
        return
    first, *others = devices
    overflowing = world.overflowing()
    expected = _summary(first, overflowing)
    for device in others:
        found = _summary(device, overflowing)
        for name, value in expected.items():
            if found[name] != value:
                yield f"{device.name} and {first.name} differ in {name}"


def _summary(device: Device, overflowing: frozenset[bytes]) -> dict[str, object]:
    process = device.process
    assert process is not None
    cards = process.cards
    logs = device.storage.replica.entry_ids() | device.storage.own.entry_ids()
    return {
        "logs": {log_id: ids for log_id, ids in logs.items() if log_id not in overflowing},
        "names of logs": logs.keys(),
        "frontier": held_in(process.node.frontier, overflowing),
        "facts": cards.digest() if not overflowing else None,
        "balances": {card: cards.account(card).balance_minor for card in _looked_at(cards)},
        "conflicts": {(conflict.card, conflict.consumed) for conflict in cards.all_conflicts()},
        "refusals": {at: why for at, why in cards.refused().items() if at[0] not in overflowing},
        "venue document": process.views.venue.document(),
        "devices": process.views.devices.all(),
        "revocations": sorted(process.views.trust.revocations.serials()),
        "contested logs": process.node.contested_from,
    }


def _looked_at(cards: CardsView) -> list[bytes]:
    """Every card, or of many some: a balance is a function of facts and trust, which are compared whole."""
    every = sorted(cards.cards())
    return every[:: 1 + len(every) // CARDS_LOOKED_AT]


def _redundancy(world: World) -> Iterator[str]:
    """An entry enters a node once, or nearly: what was sent against what had to be."""
    accepted = sum(device.accepted for device in world.honest)
    sent = sum(world.truth.sent[device.name] for device in world.honest)
    if accepted and sent / accepted > world.scenario.copies_max:
        yield f"{sent / accepted:.2f} copies of an entry entered a node, at most {world.scenario.copies_max} may"


# -- Bounds ------------------------------------------------------------------------------------------------------------


def _bounded(world: World) -> Iterator[str]:
    """Nothing grew past its bound, whoever pushed."""
    for device in connected(world):
        process = device.process
        assert process is not None
        logs = process.node.frontier.logs
        if len(logs) > LOGS_MAX:
            yield f"{device.name} holds {len(logs)} logs"
        widest = max((len(log.branches) for log in logs.values()), default=0)
        if widest > BRANCHES_PER_LOG_MAX:
            yield f"{device.name} holds {widest} branches of one log"
        if process.most_outbox_bytes > OUTBOX_BYTES_MAX:
            yield f"{device.name} had {process.most_outbox_bytes} bytes waiting for one peer"
        if process.most_jobs > 2 * WANTS_IN_FLIGHT_PER_LINK_MAX:
            yield f"{device.name} had {process.most_jobs} logs to serve on one link"
        if len(device.storage.own.intents()) > OPEN_INTENTS_MAX:
            yield f"{device.name} has {len(device.storage.own.intents())} open taps"


# -- Whoever breaks a rule ---------------------------------------------------------------------------------------------


def _rules_enforced(world: World) -> Iterator[str]:
    """Whoever broke a rule on a link was hung up on; nobody has a link to a device that is known to be revoked."""
    for device_name, liar, rule in sorted(set(world.truth.let_pass)):
        yield f"{device_name} kept its link to {liar}, who {rule}"
    for device in connected(world):
        assert device.process is not None
        for link in device.process.links.values():
            if link.end.peer.serial in world.truth.revoked:
                yield f"{device.name} has a link to {link.end.peer.name}, which is revoked"
    enrolled = _enrolled(world)
    for device in connected(world)[:1]:
        assert device.process is not None
        for log in device.process.node.frontier.logs.values():
            if log.genesis.certificate.der not in enrolled:
                yield f"{device.name} holds a log of somebody whom the authority never enrolled"
    for name in world.truth.sold_to_forged:
        yield f"{name} sold to a wristband whose record no reader ever sealed"


def _counted_rightly(world: World) -> Iterator[str]:
    """Of what liars signed nothing counts that may not, worked out from the bytes (:mod:`mesh.testing.audit`)."""
    devices = connected(world)
    if devices and any(not device.is_honest for device in world.devices.values()):
        process = devices[0].process
        assert process is not None
        yield from audit(devices[0], process.cards, _enrolled(world), world.truth.revoked)


def _evidence_signed(world: World) -> Iterator[str]:
    """Whatever a device holds against anybody was signed by whom it accuses."""
    enrolled = _enrolled(world)
    for device in connected(world):
        assert device.process is not None
        for genesis, entry in device.process.witnessed():
            if not signed_by_its_author(genesis, entry, enrolled):
                yield f"{device.name} keeps a case with an entry that its author did not sign"


def _wristbands_good(world: World) -> Iterator[str]:
    """Whatever tears and power cuts did to it: every wristband that was never copied can be read at the end."""
    for device in connected(world)[:1]:
        assert device.process is not None
        keys = device.process.views.devices.sealing_keys
        for band in world.truth.bands:
            view = read_card(band.content, keys)
            if card_id(CARD_ID_KEY, band.serial, b"") not in world.truth.copied_cards and not isinstance(
                view, Shown | Blank
            ):
                yield f"{band.name} can be read nowhere any more: {type(view).__name__.lower()}"


def _enrolled(world: World) -> dict[bytes, Device]:
    return {device.certificate.der: device for device in world.devices.values()}


# -- The run itself ----------------------------------------------------------------------------------------------------


def _faults_fired(world: World) -> Iterator[str]:
    """A run in which something that was to go wrong never did proves nothing about it."""
    for name, count in {**world.scenario.faults, **world.scenario.adversaries}.items():
        if count and not world.fired[name]:
            yield f"{name} was to happen {count} times and never did: lengthen the run, or leave it out"


def _in_time(world: World) -> Iterator[str]:
    """Once all was healed, everything came together within the scenario's bound."""
    if world.together_at is None:
        yield f"{world.scenario.settle_s:g} s after healing the venue had not come together: {world.still_open()}"


CHECKS: Final[dict[Check, Callable[[World], Iterator[str]]]] = {
    Check.DURABLE_BEFORE_VISIBLE: _durable_before_visible,
    Check.NOTHING_ACKNOWLEDGED_IS_LOST: _nothing_lost,
    Check.MONEY_CONSERVED: _money_conserved,
    Check.CONFLICTS_SURFACED: _conflicts_surfaced,
    Check.NOBODY_FRAMED: _nobody_framed,
    Check.CONVERGENCE: _convergence,
    Check.REDUNDANCY: _redundancy,
    Check.BOUNDED: _bounded,
    Check.FAULTS_FIRED: _faults_fired,
    Check.IN_TIME: _in_time,
    Check.RULES_ENFORCED: _rules_enforced,
    Check.COUNTED_RIGHTLY: _counted_rightly,
    Check.EVIDENCE_SIGNED: _evidence_signed,
    Check.SETTLED_WHOLE: settled_whole,
    Check.WRISTBANDS_GOOD: _wristbands_good,
}


# -- Looking -----------------------------------------------------------------------------------------------------------


def _views(world: World) -> list[CardsView]:
    return [device.process.cards for device in connected(world) if device.process is not None]


def _all_facts(view: CardsView) -> Iterator[TapFact]:
    for card in view.cards():
        account = view.account(card)
        yield from account.counted
        yield from account.uncounted


def _logs_of(world: World, view: CardsView, wanted: Callable[[Device], bool]) -> set[int]:
    """The view's numbers of the logs that these devices write."""
    found = set()
    for number, log_id in view.log_ids().items():
        author = _author(world, log_id)
        if author in world.devices and wanted(world.devices[author]):
            found.add(number)
    return found


def _author(world: World, log_id: bytes) -> str:
    for device in world.devices.values():
        if device.process is not None and (log := device.process.node.frontier.logs.get(log_id)) is not None:
            return log.genesis.certificate.name
    for device in world.devices.values():
        for stored in device.storage.own.logs():
            if stored.log_id == log_id:
                return parse_genesis(stored.genesis, world.venue.root).certificate.name
    return ""


def unfinished(world: World) -> Tally[str]:
    """Open taps by device: orders whose wristband never came back, amounts unknown."""
    return Tally({d.name: n for d in world.devices.values() if (n := len(d.storage.own.intents())) and not d.gone})
