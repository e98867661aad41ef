"""Coverage-guided fuzzing of everything that reads bytes from outside, with Atheris (libFuzzer for Python).

::

    python -m tools.fuzz run --inputs 100000           # every target, two at a time; what `make test` does
    python -m tools.fuzz run --target session --inputs 1000000 --keep found
    python -m tools.fuzz replay session found/session/crash-0a1b
    python -m tools.fuzz shrink found                   # take what found new paths into the committed corpus

The targets and the invariant are in `tests/fuzz/targets.py`. Atheris has wheels for Linux on x86-64 only; elsewhere
`run` ends with code 3 and says so, and the same targets are still tried by Hypothesis and on the committed corpus.
The same seed and corpus try the same inputs again.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from tests.fuzz.catalogue import TARGETS, corpus_of, cost

TREE: Final = Path(__file__).resolve().parent.parent
JOBS: Final = 2
ONE_INPUT_S_MAX: Final = 60
"""Only an input that never ends is ended by this; bounds are counted in steps."""
NO_ATHERIS: Final = 3


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fuzzing one target came to. `problem` is for people, None where nothing was found."""

    target: str
    inputs: int
    corpus: int
    """Inputs that each found a new path, committed ones included."""
    coverage: int
    steps_max: int
    memory_bytes_max: int
    seconds: float
    problem: str | None


def has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def share_out(inputs: int, names: Sequence[str], shares: Sequence[int]) -> dict[str, int]:
    """How many inputs each target gets; together at least `inputs`."""
    return {name: -(-inputs * share // sum(shares)) for name, share in zip(names, shares, strict=True)}


def _start(name: str, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz.one", corpus_of(name).name, *options]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(TREE)}
    return subprocess.run(
        command, cwd=TREE, env=environment, capture_output=True, text=True, errors="replace", check=False
    )


def fuzz(name: str, inputs: int, seed: int, keep: Path) -> Outcome:
    """Fuzz one target in a process of its own; new inputs and failing ones are left in `keep`."""
    slug = corpus_of(name).name
    found, valid, failed = keep / slug, keep / "valid" / slug, keep / "failed" / slug
    for directory in (found, valid, failed):
        directory.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(TARGETS[name].valid):
        (valid / str(index)).write_bytes(data)
    directories = [str(path) for path in (found, corpus_of(name), valid) if path.is_dir()]
    begun = time.monotonic()
    options = [f"-runs={inputs}", f"-seed={seed}", f"-timeout={ONE_INPUT_S_MAX}", "-print_final_stats=1"]
    done = _start(name, [*directories, *options, f"-artifact_prefix={failed}/"])
    problem = None
    if done.returncode != 0:
        told = (done.stdout + done.stderr).split("=== Uncaught Python exception: ===")[-1]
        trace = "\n".join(line for line in told.splitlines() if not line.startswith("INFO:"))[-3000:]
        crash = next(iter(sorted(failed.iterdir())), None)
        problem = f"{name}: {trace}\nagain: python -m tools.fuzz replay '{name}' {crash}"
    return Outcome(
        target=name,
        inputs=_number(r"stat::number_of_executed_units:\s*(\d+)", done.stderr),
        corpus=0,
        coverage=_number(r"cov: (\d+)", done.stderr),
        steps_max=0,
        memory_bytes_max=0,
        seconds=round(time.monotonic() - begun, 1),
        problem=problem,
    )


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def measured(outcome: Outcome, keep: Path) -> Outcome:
    """Count what each input cost that found a new path; a bound that is broken is a problem."""
    target, steps, memory = TARGETS[outcome.target], 0, 0
    cost(target, target.valid[0])  # what is made at first need belongs to no input
    directories = (keep / corpus_of(outcome.target).name, corpus_of(outcome.target))
    inputs = [path for directory in directories for path in sorted(directory.glob("*"))]
    for path in inputs if outcome.problem is None else ():
        data = path.read_bytes()
        counted = cost(target, data)
        broken = counted.over(target, len(data))
        if broken is not None:
            return replace(outcome, problem=f"{outcome.target}: {path}: {broken}")
        steps, memory = max(steps, counted.steps), max(memory, counted.memory)
    return replace(outcome, corpus=len(inputs), steps_max=steps, memory_bytes_max=memory)


def run(names: Sequence[str], inputs: int, seed: int, keep: Path, jobs: int = JOBS) -> list[Outcome]:
    """Fuzz these targets, a few at a time, and return what came of each."""
    budget = share_out(inputs, names, [TARGETS[name].share for name in names])
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(fuzz, name, budget[name], seed, keep) for name in names]
        outcomes = [future.result() for future in waiting]
    return [measured(outcome, keep) for outcome in outcomes]


def replay(name: str, path: Path) -> int:
    """Try one input again, with the traceback."""
    data = path.read_bytes()
    counted = cost(TARGETS[name], data)
    broken = counted.over(TARGETS[name], len(data))
    print(broken or f"keeps the invariant: {counted.steps} steps, {counted.memory} bytes of memory")
    return 0 if broken is None else 1


def shrink(names: Sequence[str], found: Path) -> None:
    """Make each committed corpus a smallest set that still finds every path which it and `found` find."""
    for name in names:
        directory = corpus_of(name)
        with tempfile.TemporaryDirectory() as empty:
            sources = [str(path) for path in (directory, found / directory.name) if path.is_dir()]
            done = _start(name, [empty, *sources, "-set_cover_merge=1"])
            if done.returncode != 0:
                raise SystemExit(f"{name}: {done.stderr[-2000:]}")
            chosen = {path.name[:16]: path.read_bytes() for path in Path(empty).iterdir()}
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            path.unlink()
        for file_name, data in chosen.items():
            (directory / file_name).write_bytes(data)
        print(f"{name}: {len(chosen)} inputs, {sum(map(len, chosen.values()))} bytes")


def _table(outcomes: Sequence[Outcome]) -> str:
    lines = [f"{'target':<22}{'inputs':>10}{'corpus':>8}{'cov':>6}{'steps':>9}{'memory':>10}{'s':>8}"]
    lines += [
        f"{o.target:<22}{o.inputs:>10}{o.corpus:>8}{o.coverage:>6}{o.steps_max:>9}{o.memory_bytes_max:>10}{o.seconds:>8}"
        for o in outcomes
    ]
    lines.append(f"{'together':<22}{sum(o.inputs for o in outcomes):>10}")
    return "\n".join(lines)


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz", description=__doc__.partition("\n")[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    running = modes.add_parser("run", help="fuzz")
    running.add_argument("--inputs", type=int, default=100_000, help="all targets together")
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--jobs", type=int, default=JOBS)
    running.add_argument("--target", action="append", help="only this one; may be given several times")
    running.add_argument("--keep", type=Path, help="leave what was found here")
    running.add_argument("--result", type=Path, help="write the figures here, as JSON")
    replaying = modes.add_parser("replay", help="try one input again")
    replaying.add_argument("target")
    replaying.add_argument("file", type=Path)
    shrinking = modes.add_parser("shrink", help="renew the committed corpus")
    shrinking.add_argument("found", type=Path)
    shrinking.add_argument("--target", action="append")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    chosen = _arguments(arguments)
    if chosen.mode == "replay":
        return replay(chosen.target, chosen.file)
    if not has_atheris():
        print("Atheris is not here: it has wheels for Linux on x86-64 only. Nothing was fuzzed.", file=sys.stderr)
        return NO_ATHERIS
    names = chosen.target or list(TARGETS)
    if chosen.mode == "shrink":
        shrink(names, chosen.found)
        return 0
    with ExitStack() as stack:
        keep = chosen.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        outcomes = run(names, chosen.inputs, chosen.seed, keep.resolve(), chosen.jobs)
    print(_table(outcomes))
    if chosen.result is not None:
        chosen.result.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    print("\n\n".join(problems), file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
