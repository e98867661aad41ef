"""The golden vectors of docs/spec/card.md: what any implementation must accept, and what it must reject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nacl.signing import SigningKey

from mesh.core.signing import Domain, encode_statement
from mesh.views.card_record import CardRecord, decode_record, key_id, record_hash
from reader.card import Blank, Disagreeing, Shown, SlotState, Unreadable, card_id, open_slot, read_card, seal

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "card.json").read_text())
DEVICES: dict[str, Any] = {device["name"]: device for device in VECTORS["devices"]}


def keys_by_id(key: bytes) -> list[bytes]:
    enrolled = [device for device in VECTORS["devices"] if device["enrolled"]]
    return [bytes.fromhex(device["log_key"]) for device in enrolled if device["key_id"] == key.hex()]


def named(cases: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


class SeedSigner:
    """A device of the vectors."""

    def __init__(self, seed: str) -> None:
        self._key = SigningKey(bytes.fromhex(seed))

    @property
    def public_key(self) -> bytes:
        return bytes(self._key.verify_key)

    def sign(self, domain: Domain, message: bytes) -> bytes:
        return self._key.sign(encode_statement(domain, message)).signature


def test_a_card_id_is_the_keyed_hash_of_chip_and_applet() -> None:
    case = VECTORS["card_id"]
    made = card_id(*(bytes.fromhex(case[name]) for name in ("card_id_key", "uid", "serial")))
    assert made.hex() == case["card"]


@named(VECTORS["records"])
def test_a_record_encodes_hashes_and_seals_to_these_bytes(case: dict[str, Any]) -> None:
    fields: dict[str, Any] = {
        name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in case["fields"].items()
    }
    record = CardRecord(**fields)
    signer = SeedSigner(DEVICES[case["writer"]]["seed"])
    assert record.encode().hex() == case["encoded"] and decode_record(record.encode()) == record
    assert record_hash(record.encode()).hex() == case["hash"]
    assert record.reader == key_id(signer.public_key)
    assert seal(record, signer).hex() == case["sealed"]


@named(VECTORS["two_slots"])
def test_two_slots_show_this_card(case: dict[str, Any]) -> None:
    first, second = (bytes.fromhex(slot) for slot in case["slots"])
    match read_card((first, second), keys_by_id):
        case Blank(idle=idle):
            assert (case["view"], case["idle"]) == ("blank", idle)
        case Shown(record=record, idle=idle, previous=previous):
            assert (case["view"], case["idle"], case["record"]) == ("shown", idle, record.encode().hex())
            assert case["previous"] == (previous.encode().hex() if previous else None)
        case Disagreeing():
            assert case["view"] == "disagreeing"
        case Unreadable(unproven=unproven):
            assert (case["view"], case["unproven"]) == (
                "unreadable",
                unproven.encode().hex() if unproven else None,
            )


@pytest.mark.proves("S1.21")
@named(VECTORS["must_reject"])
def test_a_slot_that_must_be_rejected_is(case: dict[str, Any]) -> None:
    state = open_slot(bytes.fromhex(case["slot"]), keys_by_id).state
    assert state is not SlotState.VALID and state.value == case["state"]
