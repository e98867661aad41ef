"""Bundle keys and known devices, answer by answer: who holds which key, who lacks one, who may have sealed a card."""

from __future__ import annotations

import hashlib
from itertools import permutations
from typing import Final

import pytest

from mesh.core.bundle_key import BOX_BYTES, KeyName, encode_sealed_keys
from mesh.core.certificate import DeviceCertificate
from mesh.core.frontier import Position
from mesh.core.kinds import Role
from mesh.core.revocation import Statement
from mesh.views.bundle_keys import BundleKeysView
from mesh.views.card_record import key_id
from mesh.views.devices import DevicesView
from mesh.views.trust import TrustView
from tests.factory import Venue, VenueDevice

MANAGER: Final = frozenset({Role.MANAGER})
LOG, AUTHOR_SERIAL = b"L" * 16, 900
IDS: Final = [hashlib.sha256(bytes([seq])).digest() for seq in range(8)]
LOW, HIGH = b"\x01" * 16, b"\x02" * 16


def box(letter: str) -> bytes:
    return letter.encode() * BOX_BYTES


def body(generation: int, name: bytes, **boxes: str) -> bytes:
    """A BUNDLE_KEY body; `s5="a"` is a box of a's for the device with serial number 5."""
    return encode_sealed_keys(KeyName(generation, name), {int(serial[1:]): box(one) for serial, one in boxes.items()})


def view_of(*bodies: bytes, roles: frozenset[Role] = MANAGER) -> tuple[BundleKeysView, TrustView]:
    """Entries of one log, from seq 1 on."""
    trust = TrustView()
    trust.open_log(LOG, AUTHOR_SERIAL)
    trust.hold(LOG, 0, bytes(32), IDS)
    view = BundleKeysView(trust)
    for seq, one in enumerate(bodies, 1):
        view.fold(LOG, seq, IDS[seq], roles, one)
    return view, trust


def revoke(trust: TrustView, serial: int, cut: int | None = None) -> None:
    places = {} if cut is None else {LOG: Position(cut, IDS[cut])}
    trust.revoke(Statement(serial, 1, places, repr((serial, cut)).encode()))


# -- Bundle keys ---------------------------------------------------------------------------------------------------


def test_before_the_first_key_there_is_none() -> None:
    view, _ = view_of()
    assert (view.current(), view.generation(), view.boxes_for(5)) == (None, 0, [])


def test_what_is_no_key_of_a_manager_counts_for_nothing_and_ends_nobody() -> None:
    view, _ = view_of(b"garbage", body(1, LOW, s5="a"))
    assert (view.current(), view.generation()) == (KeyName(1, LOW), 1)
    view, _ = view_of(body(1, LOW, s5="a"), roles=frozenset(Role) - MANAGER)
    assert (view.current(), view.generation(), view.boxes_for(5)) == (None, 0, [])


def test_in_use_is_the_highest_generation_and_of_two_the_smaller_id() -> None:
    bodies = [body(2, LOW, s5="a"), body(3, HIGH, s5="b"), body(3, LOW, s5="c"), body(1, LOW, s5="d")]
    for order in permutations(bodies):
        view, _ = view_of(*order)
        assert (view.current(), view.generation()) == (KeyName(3, LOW), 3)


@pytest.mark.proves("M7")
def test_exposed_key_is_used_no_more_and_its_generation_still_counts() -> None:
    view, trust = view_of(body(1, LOW, s5="a"), body(2, LOW, s5="b"), body(2, LOW, s6="c"), body(3, LOW, s7="d"))
    revoke(trust, 7)
    assert (view.current(), view.generation()) == (KeyName(2, LOW), 3)
    revoke(trust, 6)
    assert (view.current(), view.generation()) == (KeyName(1, LOW), 3)
    revoke(trust, 5)
    assert (view.current(), view.generation()) == (None, 3)


@pytest.mark.proves("M7")
def test_entries_outside_their_authors_cut_give_nobody_a_key_and_stay_readable() -> None:
    view, trust = view_of(body(1, LOW, s5="a"), body(9, LOW, s5="b"))
    revoke(trust, AUTHOR_SERIAL, cut=1)
    assert (view.current(), view.generation()) == (KeyName(1, LOW), 1)
    assert view.boxes_for(5) == [(KeyName(1, LOW), box("a")), (KeyName(9, LOW), box("b"))]


def test_two_entries_at_one_place_of_a_forked_log_are_both_read() -> None:
    view, _ = view_of(body(1, LOW, s5="a"))
    view.fold(LOG, 1, IDS[7], MANAGER, body(1, LOW, s6="b"))
    view.fold(b"M" * 16, 1, IDS[1], MANAGER, body(2, LOW, s6="c"))
    assert view.boxes_for(6) == [(KeyName(1, LOW), box("b")), (KeyName(2, LOW), box("c"))]
    assert view.boxes_for(5) == [(KeyName(1, LOW), box("a"))]


def test_boxes_of_a_device_are_its_own_each_once_by_generation() -> None:
    bodies = [body(3, LOW, s5="a", s6="b"), body(1, HIGH, s5="c"), body(1, LOW, s5="d"), body(3, LOW, s5="a")]
    view, _ = view_of(*bodies, body(4, LOW, s6="e"))
    assert view.boxes_for(5) == [
        (KeyName(1, LOW), box("d")),
        (KeyName(1, HIGH), box("c")),
        (KeyName(3, LOW), box("a")),
    ]


# -- Who lacks a box -----------------------------------------------------------------------------------------------

VENUE: Final = Venue("Bundle keys exactly")
OFFICE: Final = VENUE.device("office", Role.MANAGER)
BARS: Final = [VENUE.device(f"bar {number}", Role.READER) for number in range(3)]
PHONE: Final = VENUE.device("phone", Role.COURIER)


def certificates(*devices: VenueDevice) -> list[DeviceCertificate]:
    return [device.certificate for device in devices]


def sealed_for(generation: int, *devices: VenueDevice) -> bytes:
    return encode_sealed_keys(
        KeyName(generation, LOW), {device.certificate.serial: bytes(BOX_BYTES) for device in devices}
    )


def test_devices_without_a_box_are_live_no_couriers_and_listed_by_serial_number() -> None:
    view, trust = view_of(sealed_for(1, BARS[1]), sealed_for(2, BARS[0]))
    all_of_them = certificates(PHONE, BARS[2], BARS[1], BARS[0], OFFICE)
    assert view.without_box(KeyName(1, LOW), all_of_them) == certificates(OFFICE, BARS[0], BARS[2])
    assert view.without_box(KeyName(1, HIGH), all_of_them) == certificates(OFFICE, *BARS)
    revoke(trust, BARS[2].certificate.serial)
    assert view.without_box(KeyName(1, LOW), all_of_them) == certificates(OFFICE, BARS[0])
    assert view.entitled(all_of_them) == certificates(BARS[1], BARS[0], OFFICE)


# -- Devices -------------------------------------------------------------------------------------------------------


def test_device_is_known_by_its_certificate_whoever_published_it() -> None:
    view = DevicesView(VENUE.root)
    bar = BARS[0].certificate
    assert (view.by_serial(bar.serial), view.all(), view.sealing(key_id(bar.log_key))) == (None, [], [])
    for _ in range(2):
        view.fold(bar.der)
        view.add(bar)
        assert view.by_serial(bar.serial) == bar
        assert view.all() == [bar]
        assert view.sealing(key_id(bar.log_key)) == [bar]
        assert view.sealing_keys(key_id(bar.log_key)) == [bar.log_key]
    assert view.by_serial(OFFICE.certificate.serial) is None
    assert view.sealing_keys(key_id(BARS[1].certificate.log_key)) == []


def test_what_is_no_certificate_of_this_venue_counts_for_nothing() -> None:
    view = DevicesView(VENUE.root)
    for stranger in (Venue("Another").device("bar 0", Role.READER).certificate.der, b"garbage", b""):
        view.fold(stranger)
    assert view.all() == []


def test_devices_are_listed_by_name_and_of_one_name_by_serial_number() -> None:
    venue = Venue("Names")
    twins = [venue.device("north bar", Role.READER) for _ in range(2)]
    others = [venue.device(name, Role.READER) for name in ("south bar", "east bar")]
    view = DevicesView(venue.root)
    for device in (others[0], twins[1], others[1], twins[0]):
        view.add(device.certificate)
    assert view.all() == certificates(others[1], *twins, others[0])


@pytest.mark.parametrize("role", list(Role))
def test_readers_and_tills_seal_wristbands_and_nobody_else_does(role: Role) -> None:
    device = Venue("Seals").device("device", role, Role.MANAGER).certificate
    view = DevicesView(Venue("Seals").root)
    view.add(device)
    expected = [device] if role in {Role.READER, Role.TILL} else []
    assert view.sealing(key_id(device.log_key)) == expected
    assert view.sealing_keys(key_id(device.log_key)) == [one.log_key for one in expected]


def test_two_keys_with_one_id_are_both_tried() -> None:
    """Four bytes name a device in a record: of many devices, two may share them."""
    view = DevicesView(VENUE.root)
    one = BARS[0].certificate
    same_key = DeviceCertificate(b"der", 10**6, "bar again", one.roles, bytes(32), one.log_key)
    view.add(one)
    view.add(same_key)
    assert view.sealing(key_id(one.log_key)) == [one, same_key]
    assert view.all() == [one, same_key]
