"""The golden vectors: the committed files are what the script makes, and the code does with each what they say."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

import mesh.core.certificate
import mesh.core.chain
import mesh.core.codec
import mesh.core.entry
import mesh.core.fork
import mesh.core.messages
import mesh.core.revocation
import mesh.errors
import mesh.views.evidence
from mesh.core.certificate import parse_venue_root
from mesh.core.chain import check_run, first_bad_signature, parse_genesis, split_run, verify_tip
from mesh.core.entry import LOG_ID_BYTES, decode_entry, entry_id, verify_signature
from mesh.core.fork import check_fork_proof
from mesh.core.messages import decode_message, encode_message
from mesh.core.revocation import parse_statement
from mesh.errors import PeerError
from mesh.views.evidence import check_case
from tests.vectors.make import DIRECTORY, make

FILES: Final = ("entry.json", "run.json", "fork_proof.json", "wire.json", "case.json", "revocation.json")
VECTORS: Final[dict[str, Any]] = {
    name: json.loads((DIRECTORY / name).read_text(encoding="utf-8")) for name in FILES if (DIRECTORY / name).exists()
}
ERRORS: Final[dict[str, type[PeerError]]] = {
    name: error
    for module in (
        mesh.core.certificate,
        mesh.core.chain,
        mesh.core.codec,
        mesh.core.entry,
        mesh.core.fork,
        mesh.core.messages,
        mesh.core.revocation,
        mesh.errors,
        mesh.views.evidence,
    )
    for name, error in vars(module).items()
    if isinstance(error, type) and issubclass(error, PeerError)
}


def rejects(file: str) -> pytest.MarkDecorator:
    cases = VECTORS[file]["must_reject"]
    return pytest.mark.parametrize("vector", cases, ids=[case["name"] for case in cases])


def refused(vector: dict[str, Any]) -> pytest.RaisesExc[PeerError]:
    return pytest.raises(ERRORS[vector["error"]])


def test_committed_files_are_what_the_script_makes() -> None:
    made = make()
    assert set(made) == set(FILES)
    for name, content in made.items():
        assert (DIRECTORY / name).read_text(encoding="utf-8") == content, f"run python -m tests.vectors.make ({name})"


@pytest.mark.proves("S1.12")
@pytest.mark.parametrize("vector", VECTORS["entry.json"]["valid"], ids=lambda vector: f"kind {vector['kind']}")
def test_entry_reads_as_the_vector_says(vector: dict[str, Any]) -> None:
    entry = decode_entry(bytes.fromhex(vector["entry"]))
    assert {
        "entry": entry.data.hex(),
        "id": entry.id.hex(),
        "log_id": entry.log_id.hex(),
        "seq": entry.seq,
        "prev": entry.prev.hex(),
        "time_ms": entry.time_ms,
        "kind": entry.kind,
        "body": entry.body.hex(),
    } == vector


@rejects("entry.json")
def test_entry_is_refused(vector: dict[str, str]) -> None:
    with refused(vector):
        decode_entry(bytes.fromhex(vector["entry"]))


def take_in(file: dict[str, Any], count: int, blob: bytes) -> mesh.core.chain.Run:
    """What a node does with a run, for the log of the vectors or, from a genesis on, for the log it names."""
    entries = split_run(count, blob)
    log_id, key = bytes.fromhex(file["log_id"]), bytes.fromhex(file["log_key"])
    if decode_entry(entries[0]).seq == 0:
        log_id = entry_id(entries[0])[:LOG_ID_BYTES]
        key = parse_genesis(entries[0], parse_venue_root(bytes.fromhex(file["root"]))).certificate.log_key
        verify_signature(entries[0], key)
    run = check_run(log_id, entries)
    verify_tip(run, key)
    return run


@pytest.mark.proves("M2")
@pytest.mark.proves("S1.11")
@pytest.mark.parametrize("vector", VECTORS["run.json"]["valid"], ids=lambda vector: str(vector["name"]))
def test_run_is_taken_in(vector: dict[str, Any]) -> None:
    file = VECTORS["run.json"]
    run = take_in(file, vector["count"], bytes.fromhex(vector["blob"]))
    assert (run.first_seq, run.tip_id.hex()) == (vector["first_seq"], vector["tip_id"])
    bad = first_bad_signature(run, bytes.fromhex(file["log_key"]))
    assert bad == (1 if vector["name"] == "bad signature below a good one" else None)


@pytest.mark.proves("M2")
@rejects("run.json")
def test_run_is_refused(vector: dict[str, Any]) -> None:
    with refused(vector):
        take_in(VECTORS["run.json"], vector["count"], bytes.fromhex(vector["blob"]))


@pytest.mark.proves("B2")
def test_fork_proof_convicts_from_the_venue_root_alone() -> None:
    file = VECTORS["fork_proof.json"]
    for vector in file["valid"]:
        proof = check_fork_proof(bytes.fromhex(vector["body"]), parse_venue_root(bytes.fromhex(file["root"])))
        assert (proof.log_id.hex(), proof.seq) == (vector["log_id"], vector["seq"])


@rejects("fork_proof.json")
def test_fork_proof_is_refused(vector: dict[str, str]) -> None:
    with refused(vector):
        check_fork_proof(
            bytes.fromhex(vector["body"]), parse_venue_root(bytes.fromhex(VECTORS["fork_proof.json"]["root"]))
        )


@pytest.mark.parametrize("vector", VECTORS["wire.json"]["valid"], ids=lambda vector: str(vector["name"]))
def test_message_survives_a_round_trip(vector: dict[str, str]) -> None:
    frame = bytes.fromhex(vector["frame"])
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert encode_message(decode_message(frame[4:])) == frame


@rejects("wire.json")
def test_message_is_refused(vector: dict[str, str]) -> None:
    with refused(vector):
        decode_message(bytes.fromhex(vector["content"]))


@pytest.mark.proves("B1")
def test_case_is_checked_from_the_venue_root_alone() -> None:
    file = VECTORS["case.json"]
    for vector in file["valid"]:
        case = check_case(bytes.fromhex(vector["case"]), parse_venue_root(bytes.fromhex(file["root"])))
        assert case.card.hex() == file["card"]
        assert sorted(witness.device.name for witness in case.taps) == vector["devices"]
        assert sorted(witness.tap.fact.amount_minor for witness in case.taps) == sorted(vector["amounts_minor"])


@rejects("case.json")
def test_case_is_refused(vector: dict[str, str]) -> None:
    with refused(vector):
        check_case(bytes.fromhex(vector["case"]), parse_venue_root(bytes.fromhex(VECTORS["case.json"]["root"])))


@pytest.mark.parametrize("vector", VECTORS["revocation.json"]["valid"], ids=lambda vector: vector["name"])
def test_statement_reads_as_the_vector_says(vector: dict[str, Any]) -> None:
    root = parse_venue_root(bytes.fromhex(VECTORS["revocation.json"]["root"]))
    statement = parse_statement(bytes.fromhex(vector["statement"]), root)
    assert (str(statement.serial), statement.number) == (vector["serial"], vector["number"])
    cut = [[log_id.hex(), place.seq, place.id.hex()] for log_id, place in sorted(statement.cut.items())]
    assert cut == vector["cut"]


@rejects("revocation.json")
def test_statement_is_refused(vector: dict[str, str]) -> None:
    root = parse_venue_root(bytes.fromhex(VECTORS["revocation.json"]["root"]))
    with refused(vector):
        parse_statement(bytes.fromhex(vector["statement"]), root)
