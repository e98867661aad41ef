"""A scenario and a seed are a whole run: the same in any process, on any Python, with any hash seed, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mesh.testing.packaged import find_scenario
from mesh.testing.run import Outcome, play
from tests.sim.golden import PLAYED, committed, hash_of

TREE: Final = Path(__file__).resolve().parents[2]
SEED: Final = 3


@pytest.fixture(scope="module")
def played() -> Outcome:
    return play(find_scenario("full-chaos"), SEED)


@pytest.mark.proves("B8")
@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_same_seed_is_the_same_run_in_another_process_with_other_hashes(played: Outcome, hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONHASHSEED": hash_seed}
    program = (
        "from mesh.testing.packaged import find_scenario; from mesh.testing.run import play; "
        f"print(play(find_scenario('full-chaos'), {SEED}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=TREE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(played)


def test_run_leaves_nothing_behind_that_changes_the_next(played: Outcome) -> None:
    play(find_scenario("one-bar"), 1)
    assert play(find_scenario("full-chaos"), SEED) == played


def test_who_looks_on_changes_nothing(played: Outcome) -> None:
    lines: list[str] = []
    parts: list[float] = []
    looked_at = play(
        find_scenario("full-chaos"), SEED, tell=lines.append, progress=lambda part, world: parts.append(part)
    )
    assert looked_at == played
    assert len(lines) > 1_000
    assert parts == sorted(parts)


def test_another_seed_is_another_run(played: Outcome) -> None:
    assert play(find_scenario("full-chaos"), SEED + 1).trace_hash != played.trace_hash


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in PLAYED.items() for seed in seeds])
def test_trace_is_the_golden_one(name: str, seed: int) -> None:
    assert hash_of(name, seed) == committed()[name][str(seed)], (
        "this seed is another run than it was; if that is meant: python -m tests.sim.golden, and say why in the commit"
    )


def test_golden_file_has_what_is_played() -> None:
    assert {name: tuple(map(int, seeds)) for name, seeds in committed().items()} == PLAYED
