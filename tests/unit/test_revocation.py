"""Statements of the authority, attack by attack; what a node does about them; what of a log counts."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Final

import pytest

from mesh.core.chain import parse_genesis
from mesh.core.codec import NotCanonical, TooLarge, encode
from mesh.core.entry import entry_id
from mesh.core.frontier import Position
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.messages import Announce, Bye, RunMessage
from mesh.core.revocation import (
    BadStatement,
    NotTheAuthority,
    Revocations,
    encode_serial,
    parse_statement,
    sign_statement,
)
from mesh.errors import PeerError
from mesh.limits import ENTRY_BODY_BYTES_MAX, REVOCATION_CUT_LOGS_MAX, REVOCATION_NUMBER_MAX
from mesh.views.cards import CardsView
from mesh.views.trust import TrustView
from tests.factory import LogWriter, Venue, VenueDevice, Wristband
from tests.harness import Mote, Puppet, World, runs_of

VENUE: Final = Venue("Revocation")
OFFICE: Final = VENUE.device("office", Role.MANAGER)
BAR: Final = VENUE.device("bar", Role.READER)
OTHER: Final = VENUE.device("other", Role.READER)
TILL: Final = VENUE.device("till", Role.TILL)
FILLER: Final = 999


def filled(device: VenueDevice, entries: int, number: int = 0) -> LogWriter:
    log = LogWriter(device, number=number)
    for _ in range(entries - 1):
        log.append(FILLER, b"")
    return log


def trust_of(*logs: LogWriter) -> TrustView:
    trust = TrustView()
    for log in logs:
        trust.open_log(log.log_id, log.device.certificate.serial)
        for run in runs_of(log):
            trust.fold(run)
    return trust


def counted(trust: TrustView, log: LogWriter) -> list[int]:
    return [seq for seq, identifier in enumerate(log.ids) if trust.counts(log.log_id, seq, identifier)]


def raw(device: VenueDevice) -> Callable[[bytes], bytes]:
    """What somebody who has a device's log key can sign with it."""
    return lambda message: device.log_key.sign(message).signature


# -- The statement -------------------------------------------------------------------------------------------------


def test_statement_says_again_what_was_signed() -> None:
    log = filled(BAR, 5)
    statement = parse_statement(VENUE.revocation(BAR, (log, 3), number=7), VENUE.root)
    assert (statement.serial, statement.number) == (BAR.certificate.serial, 7)
    assert statement.cut == {log.log_id: Position(3, log.ids[3])}


def test_largest_cut_fits_into_one_entry_and_one_place_more_is_refused() -> None:
    for count, fits in ((REVOCATION_CUT_LOGS_MAX, True), (REVOCATION_CUT_LOGS_MAX + 1, False)):
        cut = {number.to_bytes(16, "big"): Position(2**32 - 1, bytes(32)) for number in range(count)}
        serial = 2**159 - 1
        body = sign_statement(VENUE._key.sign, serial=serial, number=REVOCATION_NUMBER_MAX, cut=cut)
        assert len(body) <= ENTRY_BODY_BYTES_MAX
        if fits:
            assert parse_statement(body, VENUE.root).cut == cut
        else:
            with pytest.raises(BadStatement):
                parse_statement(body, VENUE.root)


@pytest.mark.proves("M7")
def test_nobody_but_the_authority_revokes() -> None:
    elsewhere = Venue("Elsewhere")
    for sign in (raw(BAR), raw(OFFICE), elsewhere._key.sign):
        body = sign_statement(sign, serial=BAR.certificate.serial, number=1, cut={})
        with pytest.raises(NotTheAuthority):
            parse_statement(body, VENUE.root)


@pytest.mark.proves("M7")
def test_no_byte_of_a_statement_can_be_changed() -> None:
    body = VENUE.revocation(BAR, (filled(BAR, 3), 2))
    for at in range(len(body)):
        with pytest.raises(PeerError):
            parse_statement(body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :], VENUE.root)


PLACE: Final = [bytes(16), 1, bytes(32)]


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ([2, b"\x05", 1, []], BadStatement),
        ([True, b"\x05", 1, []], BadStatement),
        ([1, b"", 1, []], BadStatement),
        ([1, b"\x00\x05", 1, []], BadStatement),
        ([1, b"\x80" + bytes(19), 1, []], BadStatement),
        ([1, b"\x05", 0, []], BadStatement),
        ([1, b"\x05", True, []], BadStatement),
        ([1, b"\x05", REVOCATION_NUMBER_MAX + 1, []], BadStatement),
        ([1, b"\x05", 1, [PLACE, PLACE]], BadStatement),
        ([1, b"\x05", 1, [[b"\x01" * 16, 1, bytes(32)], PLACE]], BadStatement),
        ([1, b"\x05", 1, [[bytes(15), 1, bytes(32)]]], BadStatement),
        ([1, b"\x05", 1, [[bytes(16), -1, bytes(32)]]], BadStatement),
        ([1, b"\x05", 1, [[bytes(16), 2**32, bytes(32)]]], BadStatement),
        ([1, b"\x05", 1, [[bytes(16), True, bytes(32)]]], BadStatement),
        ([1, b"\x05", 1, [[bytes(16), 1, bytes(31)]]], BadStatement),
        ([1, b"\x05", 1, [[bytes(16), 1]]], BadStatement),
        ([1, b"\x05", 1], BadStatement),
    ],
)
def test_statement_that_breaks_a_rule_is_refused_though_the_authority_signed_it(
    shape: list[object], error: type[PeerError]
) -> None:
    signature = VENUE._key.sign(b"tapmesh/revocation/1" + encode(shape))  # type: ignore[arg-type]
    with pytest.raises(error):
        parse_statement(encode([*shape, signature]), VENUE.root)  # type: ignore[list-item]


def test_bytes_that_are_not_the_one_encoding_are_refused() -> None:
    body = VENUE.revocation(BAR)
    for data in (body + b"\x00", b"", b"\x98\x05" + body[1:]):
        with pytest.raises(NotCanonical):
            parse_statement(data, VENUE.root)
    with pytest.raises(TooLarge):
        parse_statement(bytes(ENTRY_BODY_BYTES_MAX + 1), VENUE.root)


def test_certificate_signed_by_the_root_is_never_a_statement() -> None:
    """The root signs certificates too: what it signs there begins otherwise than the domain of a statement."""
    assert not BAR.certificate.der.startswith(b"tapmesh")
    assert encode_serial(2**159 - 1) == b"\x7f" + b"\xff" * 19


# -- Which statement holds -----------------------------------------------------------------------------------------


@pytest.mark.proves("M7")
def test_highest_number_holds_whether_it_raises_or_lowers_the_cut() -> None:
    log = filled(BAR, 6)
    said = [parse_statement(VENUE.revocation(BAR, (log, seq), number=n), VENUE.root) for n, seq in ((1, 2), (2, 4))]
    said.append(parse_statement(VENUE.revocation(BAR, (log, 1), number=3), VENUE.root))
    for count, expected in ((1, [0, 1, 2]), (2, [0, 1, 2, 3, 4]), (3, [0, 1])):
        for order in permutations(said[:count]):
            trust = trust_of(log)
            for statement in order:
                trust.revoke(statement)
            assert counted(trust, log) == expected


@pytest.mark.proves("M7")
def test_where_the_authority_contradicts_itself_only_what_both_let_count_counts() -> None:
    log, second = filled(BAR, 6), filled(BAR, 3, 1)
    one = parse_statement(VENUE.revocation(BAR, (log, 4), (second, 2)), VENUE.root)
    other = parse_statement(VENUE.revocation(BAR, (log, 2)), VENUE.root)
    settled = parse_statement(VENUE.revocation(BAR, (log, 5), number=2), VENUE.root)
    for order in permutations((one, other)):
        trust = trust_of(log, second)
        for statement in order:
            trust.revoke(statement)
        assert (counted(trust, log), counted(trust, second)) == ([0, 1, 2], [])
        assert trust.log_trust(log.log_id).counted_to == 2
        trust.revoke(settled)
        assert counted(trust, log) == [0, 1, 2, 3, 4, 5]


def test_revoked_serial_stays_revoked_and_nobody_else_is() -> None:
    revocations = Revocations([parse_statement(VENUE.revocation(BAR), VENUE.root)])
    assert BAR.certificate.serial in revocations
    assert OTHER.certificate.serial not in revocations
    assert not revocations.add(parse_statement(VENUE.revocation(BAR), VENUE.root))


# -- What a cut lets count -----------------------------------------------------------------------------------------


@pytest.mark.proves("M7")
def test_cut_names_an_entry_and_not_a_height() -> None:
    """Whoever has the key forks below the cut: what counts is the branch that the authority named, and only that."""
    log = filled(BAR, 6)
    forged = log.fork(2)
    for _ in range(4):
        forged.append(FILLER, b"forged")
    for order in permutations((log, forged)):
        trust = trust_of(*order)
        trust.contest(log.log_id, 2)
        trust.revoke(parse_statement(VENUE.revocation(BAR, (log, 4)), VENUE.root))
        assert (counted(trust, log), counted(trust, forged)) == ([0, 1, 2, 3, 4], [0, 1])


@pytest.mark.proves("B2")
def test_stolen_key_that_forks_after_its_revocation_undoes_nothing_that_was_sold_before() -> None:
    till, bar = LogWriter(TILL), LogWriter(BAR)
    band = Wristband(VENUE, 1)
    band.issue(till, 5000)
    band.sell(bar, 650)
    forged = bar.fork(1)
    band.clone().sell(forged, 700)
    world = World()
    mote = world.join(OTHER)
    for log in (till, bar, forged):
        author = Puppet(mote, log.device)
        for run in runs_of(log):
            author.send_run(run)
        while mote.questions:
            mote.answer()
        author.leave()
    assert mote.cards.account(band.card).balance_minor == 5000
    hear(mote, VENUE.revocation(BAR, (bar, bar.head_seq)))
    assert mote.cards.account(band.card).balance_minor == 4350


def test_entries_count_once_the_entry_of_the_cut_is_here_and_what_lies_between() -> None:
    log = filled(BAR, 7)
    trust = TrustView()
    trust.open_log(log.log_id, BAR.certificate.serial)
    trust.revoke(parse_statement(VENUE.revocation(BAR, (log, 5)), VENUE.root))
    seen = []
    for first, last in ((0, 1), (4, 6), (2, 3)):
        version = trust.version
        trust.fold(runs_of(log, first, last)[0])
        assert trust.version > version
        seen.append(counted(trust, log))
    assert seen == [[], [4, 5], [0, 1, 2, 3, 4, 5]]


def test_log_that_the_cut_does_not_name_counts_nothing_not_even_one_begun_later() -> None:
    named, unnamed = filled(BAR, 3), filled(BAR, 3, 1)
    trust = trust_of(named)
    trust.revoke(parse_statement(VENUE.revocation(BAR, (named, 2)), VENUE.root))
    trust.open_log(unnamed.log_id, BAR.certificate.serial)
    trust.fold(runs_of(unnamed)[0])
    assert (counted(trust, named), counted(trust, unnamed)) == ([0, 1, 2], [])


def test_cut_that_names_a_log_of_another_device_says_nothing_about_it() -> None:
    mine, theirs = filled(BAR, 3), filled(OTHER, 3)
    trust = trust_of(mine, theirs)
    trust.revoke(parse_statement(VENUE.revocation(BAR, (theirs, 1)), VENUE.root))
    assert (counted(trust, mine), counted(trust, theirs)) == ([], [0, 1, 2])


@pytest.mark.proves("M4")
def test_clone_that_a_raised_cut_brings_to_light_is_reported_then() -> None:
    till, bar, other = LogWriter(TILL), LogWriter(BAR), LogWriter(OTHER)
    band = Wristband(VENUE, 1)
    band.issue(till, 5000)
    clone = band.clone()
    band.sell(bar, 650)
    clone.sell(other, 700)
    view = CardsView()
    view.revoke(parse_statement(VENUE.revocation(BAR, (bar, 0)), VENUE.root))
    for log in (till, bar, other):
        view.open_log(log.log_id, parse_genesis(log.entries[0], VENUE.root))
        assert [view.fold(run) for run in runs_of(log)] == [[]]
    assert view.conflicts(band.card) == ()
    assert view.revoke(parse_statement(VENUE.revocation(BAR, (bar, 1), number=2), VENUE.root)) == [band.card]
    assert len(view.conflicts(band.card)) == 1


# -- The node ------------------------------------------------------------------------------------------------------


def hear(mote: Mote, body: bytes) -> None:
    """The office comes by with a statement."""
    control = LogWriter(OFFICE, Lane.CONTROL, number=mote.world.next_number())
    control.append(Kind.REVOCATION, body)
    office = Puppet(mote, OFFICE)
    office.send_run(runs_of(control)[0])
    office.leave()


@pytest.mark.proves("M7")
def test_link_to_a_revoked_device_closes_the_moment_its_revocation_is_heard() -> None:
    mote = World().join(OTHER)
    bar, till = Puppet(mote, BAR), Puppet(mote, TILL)
    hear(mote, VENUE.revocation(BAR))
    assert (bar.connected, till.connected) == (False, True)
    assert "revoked" in mote.closed[-1].reason
    assert mote.closed[-1].blame_peer
    assert mote.node.revocations.number(BAR.certificate.serial) == 1


@pytest.mark.proves("M7")
def test_revoked_device_that_dials_is_told_why_and_gets_nothing_else() -> None:
    mote = World().join(OTHER)
    mote.append(mote.open_log(), FILLER, b"secret")
    hear(mote, VENUE.revocation(BAR))
    bar = Puppet(mote, BAR, hello=False)
    assert not bar.connected
    heard = bar.heard()
    assert heard
    assert all(isinstance(message, Bye) and "revoked" in message.reason for message in heard)


@pytest.mark.proves("M7")
def test_revoked_device_is_served_nothing_of_what_arrived_with_its_revocation() -> None:
    mote = World().join(OTHER)
    bar = Puppet(mote, BAR)
    bar.heard()
    till = Puppet(mote, TILL)
    control = mote.open_log(Lane.CONTROL)
    statement = VENUE.revocation(BAR)
    mote.append(control, Kind.REVOCATION, statement)
    assert not bar.connected
    told = [[m.blob for m in peer.heard() if isinstance(m, RunMessage)] for peer in (bar, till)]
    assert [any(statement in blob for blob in blobs) for blobs in told] == [False, True]


def test_entries_of_a_revoked_device_are_welcome_from_anybody_else() -> None:
    mote = World().join(OTHER)
    hear(mote, VENUE.revocation(BAR))
    log = filled(BAR, 4)
    relay = Puppet(mote, TILL)
    relay.say(Announce(((log.log_id, Position(log.head_seq, log.head_id)),)))
    relay.send_run(runs_of(log)[0])
    assert relay.connected
    assert len(mote.store.entries(log.log_id)) == 4


def test_forged_revocation_is_named_and_revokes_nobody_and_its_relay_is_blameless() -> None:
    mote = World().join(OTHER)
    bar = Puppet(mote, BAR)
    hear(mote, sign_statement(raw(BAR), serial=TILL.certificate.serial, number=1, cut={}))
    assert bar.connected
    assert mote.node.revocations.serials() == []
    assert "revokes nobody" in mote.notes[-1]


def test_revocation_in_a_money_log_is_no_revocation() -> None:
    mote = World().join(OTHER)
    money = LogWriter(TILL)
    money.append(Kind.REVOCATION, VENUE.revocation(BAR))
    Puppet(mote, TILL).send_run(runs_of(money)[0])
    assert mote.node.revocations.serials() == []


def test_id_of_a_log_entry_is_all_that_a_cut_needs() -> None:
    log = filled(BAR, 3)
    assert [entry_id(data) for data in log.entries] == log.ids
