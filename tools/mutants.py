"""Tests that can fail: apply each committed patch, wrong in a way that matters, and see a named test turn red.

::

    make mutants                       # all of them, two at a time
    make mutants ARGS='fork revoked'   # those whose name contains one of these words

A mutant is a file of `tests/mutants`: why it matters, the tests that must notice, the scenario whose seeds find it or
why none does (tools/simulated_mutants.py), and a patch::

    Why: Two forks of equal height must show.
    Test: tests/unit/test_node.py::test_fork_of_equal_height_shows_in_the_digest
    Simulator: couriers-only, equivocator

    --- a/mesh/core/frontier.py
    +++ b/mesh/core/frontier.py
    @@ ...

Each is applied to a scratch copy of the tree and only its tests are run there. Before that all named tests must be
green on a copy without any patch. A patch that does not apply, a mutant that survives, that hangs, or that only breaks
an import is a failure. Nothing but this program's Python is needed: patches are applied here, line for line, wherever
in the file their lines stand, as long as that is one place.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parent.parent
MUTANTS: Final = TREE / "tests" / "mutants"
JOBS: Final = 2
ONE_MUTANT_S_MAX: Final = 240
COPIED: Final = ("mesh", "reader", "gateway", "tests", "tools", "pyproject.toml")
_TESTS_FAILED: Final = 1
"""pytest's exit code for failed tests; others mean that nothing was tested."""


class BadMutant(Exception):
    """A mutant's file cannot be read, or its patch does not apply to this tree."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines to be found, and what stands there afterwards."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """One way to be wrong."""

    name: str
    why: str
    tests: tuple[str, ...]
    hunks: tuple[Hunk, ...]
    simulator: str
    """By which scenario it is found; or "- " and why by none."""


def read_mutant(path: Path) -> Mutant:
    """Read one file, or raise :class:`BadMutant`."""
    head, _, patch = path.read_text(encoding="utf-8").partition("\n\n")
    said = [line.partition(": ") for line in head.splitlines()]
    why = [text for word, _, text in said if word == "Why"]
    tests = tuple(text for word, _, text in said if word == "Test")
    simulator = [text for word, _, text in said if word == "Simulator"]
    hunks = tuple(_hunks(patch))
    known = len(why) + len(tests) + len(simulator)
    if len(why) != 1 or len(simulator) != 1 or not tests or not hunks or known != len(said):
        raise BadMutant(
            f"{path.name}: a mutant has one line `Why:`, lines `Test:`, one line `Simulator:`, an empty line, and a "
            "patch"
        )
    return Mutant(path.stem, why[0], tests, hunks, simulator[0])


def _hunks(patch: str) -> list[Hunk]:
    hunks: list[Hunk] = []
    path = ""
    for line in patch.splitlines(keepends=True):
        mark, text = line[:1], line[1:]
        if line.startswith("+++ b/"):
            path = line[6:].rstrip()
        elif mark == "@":
            hunks.append(Hunk(path, "", ""))
        elif not line.startswith("--- "):
            last = hunks.pop()
            hunks.append(Hunk(path, last.before + text * (mark != "+"), last.after + text * (mark != "-")))
    return hunks


def apply(mutant: Mutant, tree: Path) -> None:
    """Change the files of `tree`, or raise :class:`BadMutant`: then the patch has to be made again."""
    for hunk in mutant.hunks:
        path = tree / hunk.path
        content = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = content.count(hunk.before)
        if found != 1 or hunk.before == hunk.after:
            raise BadMutant(
                f"{mutant.name}: its lines are {found} times in {hunk.path}; the code moved on, renew the patch"
            )
        path.write_text(content.replace(hunk.before, hunk.after), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant; `problem` is None where its tests turned red."""

    name: str
    seconds: float
    problem: str | None


def copy_tree(to: Path) -> None:
    """What the tests need, without environments, caches and history."""
    for name in COPIED:
        source = TREE / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__", "corpus"))
        else:
            shutil.copy2(source, to / name)


def run_tests(tree: Path, tests: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """pytest on the copy; its code comes before the installed one's on the path, also in processes that tests start."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", *options, *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=ONE_MUTANT_S_MAX, check=False
    )


def judge(mutant: Mutant) -> Verdict:
    """Apply one mutant to a scratch copy and run its tests."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        copy_tree(tree)
        try:
            apply(mutant, tree)
            done = run_tests(tree, mutant.tests, "-x")
        except BadMutant as error:
            return Verdict(mutant.name, 0.0, str(error))
        except subprocess.TimeoutExpired:
            return Verdict(mutant.name, time.monotonic() - begun, "its tests did not come to an end")
    problem = None
    if done.returncode == 0:
        problem = f"SURVIVED. {mutant.why}"
    elif done.returncode != _TESTS_FAILED or " failed" not in done.stdout:
        problem = f"its tests did not run:\n{done.stdout[-2000:]}{done.stderr[-1000:]}"
    return Verdict(mutant.name, time.monotonic() - begun, problem)


def unharmed(mutants: Sequence[Mutant]) -> str | None:
    """All named tests on a copy without a patch: a test that is red anyway proves nothing."""
    with tempfile.TemporaryDirectory() as directory:
        copy_tree(Path(directory))
        tests = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        done = run_tests(Path(directory), tests)
    return None if done.returncode == 0 else f"without any mutant:\n{done.stdout[-3000:]}{done.stderr[-1000:]}"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="make mutants ARGS=...", description=__doc__.partition("\n")[0])
    parser.add_argument("word", nargs="*", help="only mutants whose name contains one of these")
    wanted = parser.parse_args(words).word
    try:
        mutants = [read_mutant(path) for path in sorted(MUTANTS.glob("*.patch"))]
    except BadMutant as error:
        print(error, file=sys.stderr)
        return 1
    mutants = [mutant for mutant in mutants if not wanted or any(word in mutant.name for word in wanted)]
    problem = unharmed(mutants)
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1
    problems = []
    with ThreadPoolExecutor(JOBS) as pool:
        for verdict in pool.map(judge, mutants):
            print(
                f"{verdict.name:<48}{'red' if verdict.problem is None else 'NOT RED':<9}{verdict.seconds:5.1f} s",
                flush=True,
            )
            if verdict.problem is not None:
                problems.append(f"{verdict.name}: {verdict.problem}")
    print(f"{len(mutants) - len(problems)} of {len(mutants)} mutants turn a named test red")
    print("\n".join(problems), file=sys.stderr)
    return 1 if problems or not mutants else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
