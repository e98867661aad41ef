"""Venues of real shells under a mock clock: no seed breaks a rule, and each is the same run wherever it is played.

A seed that fails is played again, line by line, with `python -m mesh.testing.shell SEED`. One that once failed stays
here by name. Where a change of the product moves the golden hashes on purpose, the failing test prints the new ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mesh.testing.shell import Violation, run_shell
from mesh.testing.shell_checks import DURABLE_BEFORE_VISIBLE

TREE: Final = Path(__file__).resolve().parents[2]
GOLDEN: Final = Path(__file__).with_name("shell_golden.json")
SEEDS: Final = range(1, 16)
SOAK_SEEDS: Final = range(100, 1_100)
SOAK_AT_ONCE: Final = 50
RESET_DURING_GOODBYE: Final = 27
TORN_AT_TWO_BARS: Final = 811
ELSEWHERE: Final = 2
"""The seed that is also played in a process of its own."""


@pytest.mark.proves("M4", "S1.17", "S1.18")
@pytest.mark.parametrize("seed", SEEDS)
def test_venue_of_real_shells_keeps_every_rule(seed: int) -> None:
    outcome = run_shell(seed)
    assert outcome.greens > 0 and outcome.looks > 0


def test_disk_that_syncs_nothing_is_found_by_the_first_thing_that_is_shown() -> None:
    """That a seed can fail: what devices show is not what their disks would hold."""
    with pytest.raises(Violation) as broken:
        run_shell(1, lies_about_sync=True)
    assert broken.value.rule == DURABLE_BEFORE_VISIBLE


@pytest.mark.soak
@pytest.mark.parametrize("first", SOAK_SEEDS[::SOAK_AT_ONCE])
def test_no_seed_of_many_breaks_a_rule(first: int) -> None:
    for seed in range(first, first + SOAK_AT_ONCE):
        run_shell(seed)


def test_link_that_was_reset_during_its_goodbye_ends_no_program() -> None:
    """A frame that was queued while the one before broke off met the broken stream, and the whole bar stopped."""
    run_shell(RESET_DURING_GOODBYE)


def test_wristband_torn_at_two_bars_over_one_record_is_served_again() -> None:
    """Half a key id of one bar and half of another: the wristband was refused everywhere, as of an unknown writer."""
    run_shell(TORN_AT_TWO_BARS)


def test_trace_of_three_seeds_is_the_golden_one() -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {seed: run_shell(int(seed)).trace_hash for seed in golden} == golden
    assert len(golden) == 3


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_same_seed_has_the_same_trace_in_another_process_with_other_hashes(hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(TREE), "PYTHONHASHSEED": hash_seed}
    program = f"from mesh.testing.shell import run_shell; print(run_shell({ELSEWHERE}).trace_hash)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=TREE, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == run_shell(ELSEWHERE).trace_hash


def test_other_seeds_have_other_traces() -> None:
    assert run_shell(1).trace_hash != run_shell(2).trace_hash
