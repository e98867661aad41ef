"""Mutants in the simulator: each one that concerns protocol or money is found by a seed, fifty at the most.

::

    python -m tools.simulated_mutants                # all of them, one after the other; `make mutants` does it too
    python -m tools.simulated_mutants fork revoked   # those whose name contains one of these words

The head of a mutant (tests/mutants, tools/mutants.py) says where it is to be found, or why no seed can find it::

    Simulator: one-bar                     # a packaged scenario
    Simulator: two-zones, swindler         # with an adversary, or a fault that happens twice, of these names
    Simulator: shell                       # a seed of the real shell (mesh.testing.shell)
    Simulator: shell, disk_fails           # with what `run_shell` takes besides
    Simulator: - TLS is stood in for       # not one of protocol or money

Found means that a check speaks, or that the program ends with an error. On the tree without any mutant the same seeds
must be silent: the first few are played here before anything else.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tools.mutants import MUTANTS, BadMutant, Mutant, apply, copy_tree, read_mutant

SEEDS_MAX: Final = 50
ONE_MUTANT_S_MAX: Final = 600
NOT_CONCERNED: Final = "- "

PLAY: Final = """
import json, sys, traceback
from dataclasses import replace
from mesh.testing.packaged import find_scenario
from mesh.testing.run import play
from mesh.testing.scenario import Fault
from mesh.testing.shell import run_shell

name, extra, first, last, every = sys.argv[1], sys.argv[2].split(), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]

def one(seed):
    if name == "shell":
        run_shell(seed, **{one: True for one in extra})
        return []
    scenario = find_scenario(name)
    faults = {one: 2 for one in extra if one in {fault.value for fault in Fault}}
    adversaries = {one: 1 for one in extra if one not in faults}
    scenario = replace(
        scenario, faults={**scenario.faults, **faults}, adversaries={**scenario.adversaries, **adversaries}
    )
    return [str(violation) for violation in play(scenario, seed).violations]

def innermost(error):
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

for seed in range(first, last + 1):
    try:
        found = one(seed)
    except (Exception, BaseExceptionGroup) as group:
        error = innermost(group)
        rule = getattr(error, "rule", None)
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {at.name} ({at.filename.rpartition('/')[2]})"
        found = [str(error) if rule else f"the program ends: {where}: {error}"]
    print(json.dumps([seed, found]), flush=True)
    if found and not every:
        break
"""
"""Run in the copied tree, so that its code is the mutant's."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one mutant. `seed` is None where no seed found it."""

    mutant: str
    where: str
    seed: int | None
    check: str
    sentence: str
    seconds: float


def concerned(mutants: Sequence[Mutant]) -> list[Mutant]:
    """Those that a seed has to find."""
    return [mutant for mutant in mutants if not mutant.simulator.startswith(NOT_CONCERNED)]


def seeds(tree: Path, where: str, first: int, last: int, *, every: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Play seeds of a copied tree; (seed, what was found) of each, until one finds something or `every` is played."""
    name, _, extra = where.partition(",")
    command = [sys.executable, "-c", PLAY, name, extra.replace(",", " "), str(first), str(last), "every" * every]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            for line in process.stdout:
                seed, found = json.loads(line)
                yield seed, found
            if process.wait():
                yield first, [f"the program ends: {process.stderr.read()[-300:]}"]
        finally:
            process.kill()


def find(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> Finding:
    """Apply a mutant to a copy of the tree and play seeds until one finds it."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        apply(mutant, tree)
        for seed, found in seeds(tree, mutant.simulator, 1, seeds_max):
            if found:
                check = found[0].partition(":")[0]
                return Finding(mutant.name, mutant.simulator, seed, check, found[0], _since(begun))
            if time.monotonic() - begun > ONE_MUTANT_S_MAX:
                break
    return Finding(mutant.name, mutant.simulator, None, "", "", _since(begun))


def _since(begun: float) -> float:
    return round(time.monotonic() - begun, 1)


def unharmed(wheres: Sequence[str], last: int) -> list[str]:
    """What speaks without any mutant, in the first seeds of each place where mutants are looked for."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        return [
            f"{where} seed {seed} without any mutant: {found[0]}"
            for where in wheres
            for seed, found in seeds(tree, where, 1, last, every=True)
            if found
        ]


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.simulated_mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("word", nargs="*", help="only mutants whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write what was found to this file")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, metavar="N", help="give up after N seeds")
    parser.add_argument("--unharmed", type=int, default=2, metavar="N", help="first play N seeds without any mutant")
    wanted = parser.parse_args(words)
    try:
        mutants = [read_mutant(path) for path in sorted(MUTANTS.glob("*.patch"))]
    except BadMutant as error:
        print(error, file=sys.stderr)
        return 1
    mutants = [one for one in mutants if not wanted.word or any(word in one.name for word in wanted.word)]
    looked_for = concerned(mutants)
    red = unharmed(sorted({one.simulator for one in looked_for}), wanted.unharmed) if wanted.unharmed else []
    for sentence in red:
        print(sentence, flush=True)
    findings = []
    for mutant in looked_for:
        finding = find(mutant, wanted.seeds)
        findings.append(finding)
        said = "NOT FOUND" if finding.seed is None else f"seed {finding.seed}: {finding.sentence[:80]}"
        print(f"{finding.mutant:<48}{finding.where:<32}{finding.seconds:6.1f} s  {said}", flush=True)
    found = sum(finding.seed is not None for finding in findings)
    print(f"{found} of {len(findings)} mutants of protocol or money are found within {wanted.seeds} seeds")
    if wanted.json is not None:
        wanted.json.write_text(json.dumps([asdict(one) for one in findings], indent=1) + "\n", encoding="utf-8")
    return 1 if red or found < len(findings) or not mutants else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
