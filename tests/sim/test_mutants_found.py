"""Every mutant of protocol or money says by which scenario it is found, and a few that are found soon are looked for.

`make mutants` plays all of them; experiments/008_mutants_in_the_simulator has what came of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from mesh.testing.packaged import packaged
from mesh.testing.scenario import Adversary, Fault
from mesh.testing.shell import run_shell
from tools.mutants import MUTANTS, read_mutant
from tools.simulated_mutants import NOT_CONCERNED, find

PATHS: Final = sorted(MUTANTS.glob("*.patch"))
NAMES: Final = {fault.value for fault in Fault} | {adversary.value for adversary in Adversary}
SHELL: Final = {"disk_fails"}
FOUND_SOON: Final = {
    "022-role_unchecked": "counted-rightly",
    "030-seal_unchecked": "rules-enforced",
    "034-intents_forgotten_at_restart": "every green is a counted debit",
    "036-commit_without_fsync": "durable before visible",
}
"""By mutant, the check that speaks."""
SEEDS_MAX: Final = 3


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_mutant_names_a_scenario_that_there_is_or_says_why_none_finds_it(path: Path) -> None:
    where = read_mutant(path).simulator
    if where.startswith(NOT_CONCERNED):
        assert len(where.removeprefix(NOT_CONCERNED).split()) > 4
        return
    scenario, *besides = where.split(", ")
    assert scenario == "shell" or scenario in packaged()
    assert set(besides) <= (SHELL if scenario == "shell" else NAMES)


@pytest.mark.parametrize("name", FOUND_SOON)
def test_mutant_is_found_by_one_of_the_first_seeds_and_by_its_check(name: str) -> None:
    finding = find(read_mutant(MUTANTS / f"{name}.patch"), SEEDS_MAX)
    assert finding.seed is not None
    assert finding.check == FOUND_SOON[name]


@pytest.mark.parametrize("seed", [1, 2])
def test_shell_seed_with_a_disk_that_fails_breaks_no_rule(seed: int) -> None:
    assert run_shell(seed, disk_fails=True).trace_hash == run_shell(seed, disk_fails=True).trace_hash
