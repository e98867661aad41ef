"""Coverage-guided fuzzing, and what an input may cost: see `tests/fuzz/targets.py` for the invariant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.core.codec import encode
from mesh.limits import FRAME_BYTES_MAX
from tests.conftest import unless_system
from tests.fuzz.catalogue import CORPUS, TARGETS, corpus_of, cost, inputs_of
from tools import fuzz

INPUTS_IN_EVERY_RUN = 100_000
INPUTS_IN_A_SOAK = 10_000_000
LACKING = "this machine has no Atheris, which has wheels for Linux on x86-64 only"


def _fuzz(inputs: int, seed: int, keep: Path) -> None:
    unless_system(has=fuzz.has_atheris(), lacking=LACKING)
    outcomes = fuzz.run(list(TARGETS), inputs, seed, keep)
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    assert not problems, "\n\n".join(problems)
    assert sum(outcome.inputs for outcome in outcomes) >= inputs
    assert all(outcome.coverage > 0 for outcome in outcomes), "a target is not instrumented"


def test_hundred_thousand_inputs_each_parse_to_themselves_or_are_the_peers_fault(tmp_path: Path) -> None:
    _fuzz(INPUTS_IN_EVERY_RUN, 1, tmp_path)


@pytest.mark.soak
def test_ten_million_inputs_each_parse_to_themselves_or_are_the_peers_fault(tmp_path: Path) -> None:
    _fuzz(INPUTS_IN_A_SOAK, 2, tmp_path)


@pytest.mark.parametrize("name", TARGETS)
def test_committed_inputs_keep_the_invariant_and_cost_what_their_size_allows(name: str) -> None:
    target = TARGETS[name]
    cost(target, target.valid[0])  # what is made at first need belongs to no input
    for data in inputs_of(name):
        assert cost(target, data).over(target, len(data)) is None


LARGE = {
    "zeros": bytes(FRAME_BYTES_MAX),
    "a string longer than memory": b"\x5b" + b"\xff" * 8,
    "an array longer than memory": b"\x9b\x7f" + b"\xff" * 7,
    "an array that claims a million items": b"\x9a\x00\x0f\xff\xff" + bytes(1000),
    "nothing but nesting": b"\x81" * 100_000,
    "many empty items": encode([b""] * 50_000),
    "a map of a million claims": b"\xba\x00\x0f\xff\xff",
    "text that is not UTF-8": b"\x7a\x00\x01\x00\x00" + b"\xff" * 65_536,
}


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "node"])
@pytest.mark.parametrize("what", LARGE)
def test_large_input_costs_what_its_size_allows(name: str, what: str) -> None:
    """Past its bound nothing is decoded at all; a length that is only claimed costs nothing."""
    target, data = TARGETS[name], LARGE[what]
    cost(target, data[:64])
    assert cost(target, data).over(target, len(data)) is None


def test_every_corpus_belongs_to_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {corpus_of(name).name for name in TARGETS}


def test_inputs_are_shared_out_completely() -> None:
    assert fuzz.share_out(100, ["a", "b"], [1, 2]) == {"a": 34, "b": 67}
