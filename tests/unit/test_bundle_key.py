"""The bundle key: who can open a generation, which one is used, and that no order of arrival changes the answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import permutations
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import SealedBox
from nacl.signing import SigningKey, VerifyKey

from mesh.core.bundle_key import (
    BadBundleKey,
    BoxDoesNotOpen,
    KeyName,
    NoBoxForIt,
    decode_sealed_keys,
    encode_sealed_keys,
    key_id,
    may_hold_bundle_key,
    open_box,
    seal_for,
)
from mesh.core.codec import encode
from mesh.core.kinds import Kind, Lane, Role
from mesh.core.revocation import Statement, parse_statement
from mesh.errors import PeerError
from mesh.limits import BUNDLE_BOXES_PER_ENTRY_MAX, BUNDLE_GENERATION_MAX, ENTRY_BODY_BYTES_MAX
from mesh.views.bundle_keys import BundleKeysView
from mesh.views.trust import TrustView
from tests.factory import LogWriter, Venue, VenueDevice
from tests.harness import runs_of

VENUE: Final = Venue("Bundles")
OFFICE, SECOND = VENUE.device("office", Role.MANAGER), VENUE.device("second", Role.MANAGER)
BARS: Final = [VENUE.device(f"bar {number}", Role.READER) for number in range(3)]
PHONE: Final = VENUE.device("phone", Role.COURIER)
EVERYONE: Final = (OFFICE, SECOND, *BARS, PHONE)


def seed_of(device: VenueDevice) -> bytes:
    return device.link_key.private_bytes_raw()


def key_of(label: str) -> bytes:
    return hashlib.sha256(label.encode()).digest()


def sealed(key: bytes, generation: int, *devices: VenueDevice) -> bytes:
    boxes = {
        d.certificate.serial: seal_for(key, d.certificate.link_key, key_of(f"{generation} {d.certificate.serial}"))
        for d in devices
    }
    return encode_sealed_keys(KeyName(generation, key_id(key)), boxes)


def opened(view: BundleKeysView, device: VenueDevice) -> dict[KeyName, bytes]:
    boxes = view.boxes_for(device.certificate.serial)
    return {name: open_box(name, box, seed_of(device)) for name, box in boxes}


# -- Boxes ---------------------------------------------------------------------------------------------------------


def test_box_is_libsodiums_sealed_box() -> None:
    key, bar = key_of("a"), BARS[0]
    box = seal_for(key, bar.certificate.link_key, key_of("seed"))
    private = SigningKey(seed_of(bar)).to_curve25519_private_key()
    assert SealedBox(private).decrypt(box) == key
    made_by_libsodium = SealedBox(VerifyKey(bar.certificate.link_key).to_curve25519_public_key()).encrypt(key)
    assert open_box(KeyName(1, key_id(key)), made_by_libsodium, seed_of(bar)) == key


@pytest.mark.proves("B3")
def test_box_opens_for_its_device_alone_and_only_unchanged() -> None:
    key, bar = key_of("a"), BARS[0]
    name, box = KeyName(1, key_id(key)), seal_for(key, bar.certificate.link_key, key_of("seed"))
    for other in EVERYONE:
        if other is not bar:
            with pytest.raises(BoxDoesNotOpen):
                open_box(name, box, seed_of(other))
    for at in range(len(box)):
        with pytest.raises(BoxDoesNotOpen):
            open_box(name, box[:at] + bytes([box[at] ^ 1]) + box[at + 1 :], seed_of(bar))


def test_box_that_holds_another_key_than_its_entry_says_is_refused() -> None:
    box = seal_for(key_of("another"), BARS[0].certificate.link_key, key_of("seed"))
    with pytest.raises(BoxDoesNotOpen):
        open_box(KeyName(1, key_id(key_of("a"))), box, seed_of(BARS[0]))


def test_link_key_that_is_no_point_gets_no_box() -> None:
    with pytest.raises(NoBoxForIt):
        seal_for(key_of("a"), bytes(32), key_of("seed"))


@pytest.mark.proves("B3")
def test_courier_holds_no_bundle_key_whatever_else_it_is() -> None:
    assert not may_hold_bundle_key(frozenset({Role.COURIER}))
    assert not may_hold_bundle_key(frozenset({Role.COURIER, Role.READER}))
    assert not may_hold_bundle_key(frozenset())
    assert all(may_hold_bundle_key(frozenset({role})) for role in Role if role is not Role.COURIER)


# -- The entry -----------------------------------------------------------------------------------------------------


def test_entry_says_again_what_was_sealed_and_the_largest_fits() -> None:
    boxes = {2**159 - 1 - number: bytes(80) for number in range(BUNDLE_BOXES_PER_ENTRY_MAX)}
    name = KeyName(BUNDLE_GENERATION_MAX, bytes(16))
    body = encode_sealed_keys(name, boxes)
    assert len(body) <= ENTRY_BODY_BYTES_MAX
    assert (decode_sealed_keys(body).name, decode_sealed_keys(body).boxes) == (name, boxes)
    with pytest.raises(BadBundleKey):
        decode_sealed_keys(encode_sealed_keys(name, boxes | {5: bytes(80)}))


BOX: Final = [b"\x05", bytes(80)]


@pytest.mark.parametrize(
    "shape",
    [
        [2, 1, bytes(16), []],
        [True, 1, bytes(16), []],
        [1, 0, bytes(16), []],
        [1, True, bytes(16), []],
        [1, BUNDLE_GENERATION_MAX + 1, bytes(16), []],
        [1, 1, bytes(15), []],
        [1, 1, bytes(16), [BOX, BOX]],
        [1, 1, bytes(16), [[b"\x06", bytes(80)], BOX]],
        [1, 1, bytes(16), [[b"\x05", bytes(79)]]],
        [1, 1, bytes(16), [[b"\x00\x05", bytes(80)]]],
        [1, 1, bytes(16), [[b"", bytes(80)]]],
        [1, 1, bytes(16)],
    ],
)
def test_entry_that_breaks_a_rule_is_refused(shape: list[object]) -> None:
    with pytest.raises(PeerError):
        decode_sealed_keys(encode(shape))  # type: ignore[arg-type]


# -- Which key is used ---------------------------------------------------------------------------------------------


def view_of(pieces: Sequence[LogWriter | Statement]) -> BundleKeysView:
    trust = TrustView()
    view = BundleKeysView(trust)
    for piece in pieces:
        if isinstance(piece, Statement):
            trust.revoke(piece)
            continue
        certificate = piece.device.certificate
        trust.open_log(piece.log_id, certificate.serial)
        for run in runs_of(piece):
            trust.fold(run)
            for seq, (fields, identifier) in enumerate(zip(run.fields, run.ids, strict=True), run.first_seq):
                if fields[5] == Kind.BUNDLE_KEY:
                    view.fold(run.log_id, seq, identifier, certificate.roles, fields[6])
    return view


def orders(*pieces: LogWriter | Statement) -> Iterable[tuple[LogWriter | Statement, ...]]:
    return permutations(pieces)


def control(device: VenueDevice, *bodies: bytes, number: int = 0) -> LogWriter:
    log = LogWriter(device, Lane.CONTROL, number=number)
    for body in bodies:
        log.append(Kind.BUNDLE_KEY, body)
    return log


def revoked(device: VenueDevice, *cut: tuple[LogWriter, int]) -> Statement:
    return parse_statement(VENUE.revocation(device, *cut), VENUE.root)


@pytest.mark.proves("B3")
@pytest.mark.proves("M7")
def test_revoked_device_cannot_open_the_new_generation_and_the_others_still_open_the_old_one() -> None:
    first, second = key_of("1"), key_of("2")
    log = control(OFFICE, sealed(first, 1, OFFICE, *BARS), sealed(second, 2, OFFICE, *BARS[1:]))
    view = view_of([log, revoked(BARS[0])])
    assert view.current() == KeyName(2, key_id(second))
    assert set(opened(view, BARS[0]).values()) == {first}
    assert set(opened(view, BARS[1]).values()) == {first, second}
    assert opened(view, PHONE) == {}


@pytest.mark.proves("M7")
def test_key_that_a_revoked_device_has_is_not_used_for_anything_new() -> None:
    log = control(OFFICE, sealed(key_of("1"), 1, OFFICE, BARS[1]), sealed(key_of("2"), 2, OFFICE, *BARS))
    for order in orders(log, revoked(BARS[0])):
        assert view_of(order).current() == KeyName(1, key_id(key_of("1")))
    for order in orders(log, revoked(BARS[0]), revoked(BARS[1])):
        assert view_of(order).current() is None


def test_two_managers_that_rotate_at_once_end_with_the_same_key_everywhere() -> None:
    one, other = control(OFFICE, sealed(key_of("1"), 4, *BARS)), control(SECOND, sealed(key_of("2"), 4, *BARS))
    smaller = min(key_id(key_of("1")), key_id(key_of("2")))
    for order in orders(one, other):
        assert view_of(order).current() == KeyName(4, smaller)
        assert set(opened(view_of(order), BARS[0]).values()) == {key_of("1"), key_of("2")}


def test_of_two_rotations_at_once_the_one_that_knew_of_a_revocation_is_used() -> None:
    for label in "abcdef":
        unaware = control(OFFICE, sealed(key_of("unaware"), 4, *BARS))
        aware = control(SECOND, sealed(key_of(label), 4, *BARS[1:]))
        for order in orders(unaware, aware, revoked(BARS[0])):
            assert view_of(order).current() == KeyName(4, key_id(key_of(label)))


def test_manager_that_was_revoked_cannot_use_up_the_generations() -> None:
    stolen = control(SECOND, sealed(key_of("1"), 1, *BARS), sealed(key_of("2"), BUNDLE_GENERATION_MAX, *BARS))
    view = view_of([stolen, revoked(SECOND, (stolen, 1))])
    assert (view.current(), view.generation()) == (KeyName(1, key_id(key_of("1"))), 1)


def test_nobody_but_a_manager_gives_the_venue_a_key() -> None:
    assert view_of([control(BARS[0], sealed(key_of("1"), 9, *BARS))]).current() is None


def test_device_enrolled_later_lacks_a_box_until_an_entry_of_its_own_brings_it() -> None:
    key = key_of("1")
    log = control(OFFICE, sealed(key, 1, *BARS[:2]))
    name = KeyName(1, key_id(key))
    certificates = [device.certificate for device in (*BARS, PHONE)]
    assert view_of([log]).without_box(name, certificates) == [BARS[2].certificate]
    log.append(Kind.BUNDLE_KEY, sealed(key, 1, BARS[2]))
    assert view_of([log]).without_box(name, certificates) == []
    assert opened(view_of([log]), BARS[2]) == {name: key}


@given(st.data())
def test_order_of_entries_and_revocations_does_not_matter(data: st.DataObject) -> None:
    """Against the rule as it is written: highest generation, smallest id, among those no revoked device has."""
    drawn = []
    for number in range(data.draw(st.integers(1, 6))):
        author = data.draw(st.sampled_from((OFFICE, SECOND)))
        holders = data.draw(st.lists(st.sampled_from(BARS), unique=True, min_size=1))
        key, generation = key_of(str(data.draw(st.integers(0, 4)))), data.draw(st.integers(1, 3))
        drawn.append((control(author, sealed(key, generation, *holders), number=number), key, generation, holders))
    gone = data.draw(st.lists(st.sampled_from((*BARS, SECOND)), unique=True, max_size=3))
    pieces: list[LogWriter | Statement] = [log for log, *_ in drawn]
    pieces += [revoked(device) for device in gone]
    again = data.draw(st.lists(st.sampled_from(pieces), max_size=3))
    view = view_of(data.draw(st.permutations([*pieces, *again])))
    counted = [(key, generation, holders) for log, key, generation, holders in drawn if log.device not in gone]
    names = {(generation, key) for key, generation, _ in counted}
    exposed = {(g, k) for g, k in names for key, gen, h in counted if (gen, key) == (g, k) and set(h) & set(gone)}
    safe = sorted(((-generation, key_id(key)) for generation, key in names - exposed))
    assert view.current() == (KeyName(-safe[0][0], safe[0][1]) if safe else None)
