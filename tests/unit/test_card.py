"""The two slots of a wristband: what it shows, whatever was torn, and what may be written next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.core.kinds import Operation, Role
from mesh.limits import AMOUNT_MINOR_MAX, CARD_SEQ_MAX
from mesh.views.card_record import RECORD_BYTES, SEALED_BYTES, CardRecord, key_id
from reader.card import (
    BLANK_SLOT,
    BalanceTooHigh,
    Blank,
    CardWornOut,
    Disagreeing,
    NotEnoughBalance,
    Shown,
    SlotState,
    Unreadable,
    card_id,
    next_record,
    open_slot,
    read_card,
    seal,
)
from tests.counter import EUR
from tests.factory import Venue, VenueDevice

VENUE = Venue()
BAR = VENUE.device("bar", Role.READER, Role.TILL)
OTHER = VENUE.device("other bar", Role.READER, Role.TILL)
STRANGER = VENUE.device("not known here yet", Role.READER)
KEYS = {key_id(device.public_key): [device.public_key] for device in (BAR, OTHER)}
CARD, EVENT = b"\x11" * 8, b"\x22" * 4


def keys_by_id(key: bytes) -> list[bytes]:
    return KEYS.get(key, [])


def after(current: CardRecord | None, amount: int, device: VenueDevice = BAR) -> CardRecord:
    operation = Operation.TOP_UP if amount > 0 else Operation.SALE
    return next_record(
        current, operation, abs(amount), card=CARD, event=EVENT, reader=key_id(device.public_key), currency=EUR
    )


def chain(*steps: tuple[int, VenueDevice]) -> list[tuple[CardRecord, bytes]]:
    """Records and their sealed bytes, one for each (amount, writer)."""
    made: list[tuple[CardRecord, bytes]] = []
    for amount, device in steps:
        record = after(made[-1][0] if made else None, amount, device)
        made.append((record, seal(record, device)))
    return made


def torn(old: bytes, new: bytes, count: int) -> bytes:
    return new[:count] + old[count:]


@pytest.mark.proves("S1.3", "S1.21")
def test_the_newer_of_parent_and_child_is_the_card_whichever_slot_holds_it() -> None:
    (first, sealed_first), (second, sealed_second) = chain((2000, BAR), (-650, OTHER))
    for slots, idle in (((sealed_first, sealed_second), 0), ((sealed_second, sealed_first), 1)):
        assert read_card(slots, keys_by_id) == Shown(second, sealed_second, idle=idle, previous=first)


@pytest.mark.parametrize("count", range(SEALED_BYTES))
@pytest.mark.parametrize("writer", [BAR, OTHER, STRANGER], ids=["same bar", "other bar", "unknown writer"])
@pytest.mark.proves("S1.17", "B5")
def test_a_write_torn_at_any_byte_never_shows_a_record_that_was_not_sealed(writer: VenueDevice, count: int) -> None:
    (_, oldest), (second, sealed_second) = chain((2000, BAR), (-650, OTHER))
    new = seal(after(second, -200, writer), writer)
    view = read_card((torn(oldest, new, count), sealed_second), keys_by_id)
    match view:
        case Shown(record=record, sealed=sealed, idle=idle):
            assert (record, sealed, idle) == (second, sealed_second, 0)
        case Unreadable(unproven=record):
            # Whoever lacks the writer's key cannot tell a torn record from a whole one, and must not spend the old one.
            assert writer is STRANGER and count > 33 and record == after(second, -200, writer)
        case _:
            pytest.fail(f"{view}")


@pytest.mark.parametrize("count", range(SEALED_BYTES))
def test_the_first_write_torn_at_any_byte_leaves_a_blank_card(count: int) -> None:
    [(_, new)] = chain((2000, BAR))
    assert read_card((torn(BLANK_SLOT, new, count), BLANK_SLOT), keys_by_id) == Blank(idle=0, is_torn=count > 0)


@pytest.mark.parametrize("count", range(SEALED_BYTES))
def test_the_second_write_torn_at_any_byte_leaves_the_first_record(count: int) -> None:
    (first, sealed_first), (_, new) = chain((2000, BAR), (-650, OTHER))
    assert read_card((sealed_first, torn(BLANK_SLOT, new, count)), keys_by_id) == Shown(
        first, sealed_first, idle=1, previous=None, is_torn=count > 0
    )


@given(
    steps=st.lists(st.tuples(st.integers(1, 500), st.sampled_from([BAR, OTHER])), min_size=1, max_size=6),
    data=st.data(),
)
def test_any_history_with_a_torn_end_shows_its_last_whole_record(
    steps: list[tuple[int, VenueDevice]], data: st.DataObject
) -> None:
    made = chain((100_000, BAR), *((-amount, device) for amount, device in steps))
    slots = [BLANK_SLOT, BLANK_SLOT]
    for number, (_, sealed) in enumerate(made[:-1]):
        slots[number % 2] = sealed
    count = data.draw(st.integers(0, SEALED_BYTES - 1))
    idle = (len(made) - 1) % 2
    slots[idle] = torn(slots[idle], made[-1][1], count)
    view = read_card((slots[0], slots[1]), keys_by_id)
    if slots[idle] == made[-1][1]:
        # What the tear left out was there already: the write is whole.
        assert isinstance(view, Shown) and (view.record, view.idle) == (made[-1][0], 1 - idle)
    else:
        assert isinstance(view, Shown) and (view.record, view.idle) == (made[-2][0], idle)


def test_a_record_of_a_writer_unknown_here_is_not_answered_with_the_one_before_it() -> None:
    (_, sealed_first), (second, sealed_second) = chain((2000, BAR), (-650, STRANGER))
    assert read_card((sealed_first, sealed_second), keys_by_id) == Unreadable(second)
    assert read_card((sealed_second, BLANK_SLOT), keys_by_id) == Unreadable(second)


def test_a_record_over_one_of_an_unknown_writer_is_the_card() -> None:
    _, (_, sealed_second), (third, sealed_third) = chain((2000, BAR), (-650, STRANGER), (-100, BAR))
    assert read_card((sealed_third, sealed_second), keys_by_id) == Shown(
        third, sealed_third, idle=1, previous=None, is_torn=True
    )


@pytest.mark.parametrize("pair", [(0, 2), (0, 0), (1, 3)])
def test_two_valid_records_that_are_not_parent_and_child_disagree(pair: tuple[int, int]) -> None:
    made = chain((2000, BAR), (-650, OTHER), (-100, BAR), (-50, OTHER))
    (first, sealed_first), (second, sealed_second) = made[pair[0]], made[pair[1]]
    assert read_card((sealed_first, sealed_second), keys_by_id) == Disagreeing((first, second))


def test_two_children_of_one_record_disagree() -> None:
    [(first, _)] = chain((2000, BAR))
    ours, theirs = after(first, -650, BAR), after(first, -100, OTHER)
    assert isinstance(read_card((seal(ours, BAR), seal(theirs, OTHER)), keys_by_id), Disagreeing)


def test_two_broken_slots_are_unreadable() -> None:
    [(_, sealed)] = chain((2000, BAR))
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    assert read_card((broken, broken), keys_by_id) == Unreadable(None)
    assert read_card((b"\xff" * SEALED_BYTES, b"\xff" * SEALED_BYTES), keys_by_id) == Unreadable(None)


@given(st.binary(min_size=SEALED_BYTES, max_size=SEALED_BYTES))
def test_no_bytes_make_a_valid_slot_without_a_signature(data: bytes) -> None:
    assert open_slot(data, keys_by_id).state is not SlotState.VALID


@given(st.integers(0, SEALED_BYTES * 8 - 1))
def test_one_flipped_bit_breaks_a_seal(bit: int) -> None:
    [(_, sealed)] = chain((2000, BAR))
    flipped = bytearray(sealed)
    flipped[bit // 8] ^= 1 << bit % 8
    assert open_slot(bytes(flipped), keys_by_id).state in {SlotState.BROKEN, SlotState.UNKNOWN_WRITER}


def test_of_two_keys_with_one_id_either_may_have_sealed() -> None:
    [(record, sealed)] = chain((2000, BAR))
    both: Callable[[bytes], list[bytes]] = lambda key: [OTHER.public_key, BAR.public_key]  # noqa: E731
    assert open_slot(sealed, both).state is SlotState.VALID
    assert open_slot(sealed, both).record == record


@pytest.mark.proves("S2.3")
def test_a_sale_lowers_the_balance_and_raises_seq_and_what_was_spent() -> None:
    first = after(None, 2000)
    second = after(first, -650, OTHER)
    assert (first.seq, first.balance, first.offline_spent) == (1, 2000, 0)
    assert (second.seq, second.balance, second.offline_spent) == (2, 1350, 650)
    assert second.reader == key_id(OTHER.public_key)


def test_a_sale_above_the_balance_says_what_is_there_and_what_is_needed() -> None:
    with pytest.raises(NotEnoughBalance, match=r"not enough balance: has EUR 20\.00, needs EUR 20\.01"):
        after(after(None, 2000), -2001)
    with pytest.raises(NotEnoughBalance, match=r"has EUR 0\.00"):
        after(None, -1)


def test_amounts_and_seq_stop_at_what_a_record_holds() -> None:
    full = after(None, AMOUNT_MINOR_MAX)
    with pytest.raises(BalanceTooHigh, match="Nothing was charged"):
        after(full, 1)
    spent = after(full, -AMOUNT_MINOR_MAX)
    with pytest.raises(BalanceTooHigh, match="Nothing was charged"):
        after(after(spent, 100), -1)
    worn = CardRecord(CARD, EVENT, CARD_SEQ_MAX, 100, 0, 1, 0, bytes(4), bytes(8))
    with pytest.raises(CardWornOut, match="replace it"):
        after(worn, -1)


def test_a_card_id_depends_on_the_event_key_the_chip_and_the_applet() -> None:
    key, uid, serial = bytes(16), b"\x02" * 7, b"\x05" * 8
    ids = {
        card_id(key, uid, serial),
        card_id(b"\x01" * 16, uid, serial),
        card_id(key, uid[:-1], serial),
        card_id(key, uid, serial[:-1]),
        card_id(key, uid[:-1], uid[-1:] + serial),
    }
    assert len(ids) == 5 and all(len(one) == 8 for one in ids)
    assert RECORD_BYTES + 64 == SEALED_BYTES
