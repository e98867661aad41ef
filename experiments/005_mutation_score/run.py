"""Mutate `mesh/core` and `mesh/views` with mutmut, module by module, and print what survived as JSON. See README.md."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

TREE: Final = Path(__file__).resolve().parents[2]
COPIED: Final = ("mesh", "reader", "gateway", "tests", "tools")
ADDRESS_SPACE_BYTES_MAX: Final = 4 * 1024**3
"""A mutant that allocates without end is killed by this, and not by the machine."""
IMPURE: Final = re.compile(r"^(from (mesh\.shell|gateway|tools)|import (trio|subprocess))", re.MULTILINE)
NOT_ABOUT_CODE: Final = {f"test_{name}.py" for name in ("imports", "conftest", "requirements", "specs", "mutants")}
CONFIGURATION: Final = """
[tool.mutmut]
source_paths = ["mesh"]
only_mutate = ["mesh/core/*.py", "mesh/views/*.py"]
also_copy = ["reader", "gateway", "tools"]
do_not_mutate_patterns = ['^\\s*raise ', '^\\s*assert ', 'effects\\.append\\(Note\\(', '^\\s*problem = ']
pytest_add_cli_args = ["-p", "no:cacheprovider", "--hypothesis-profile=mutation"]
pytest_add_cli_args_test_selection = {tests}
timeout_multiplier = 10.0
timeout_constant = 5.0
use_git_change_detection = false
track_dependencies = false
"""
PROFILE: Final = (
    'settings.register_profile("mutation", deadline=None, derandomize=True, max_examples=25, database=None)'
)


def prepare(directory: Path) -> None:
    """A copy of the tree that mutmut may write to."""
    for name in COPIED:
        shutil.copytree(TREE / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    unit = sorted((TREE / "tests" / "unit").glob("*.py"))
    chosen = [path for path in unit if path.name not in NOT_ABOUT_CODE and not IMPURE.search(path.read_text())]
    tests = [str(path.relative_to(TREE)) for path in chosen]
    tests += ["tests/property/test_cards.py", "tests/vectors/test_vectors.py"]
    configuration = CONFIGURATION.format(tests=json.dumps(tests))
    (directory / "pyproject.toml").write_text((TREE / "pyproject.toml").read_text() + configuration)
    conftest = directory / "tests" / "conftest.py"
    conftest.write_text(conftest.read_text().replace("settings.load_profile", PROFILE + "\nsettings.load_profile"))


def mutmut(directory: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False).stdout


def scores(directory: Path) -> dict[str, object]:
    """What every mutant came to that was tried so far."""
    counted: dict[str, Counter[str]] = {}
    survivors: dict[str, list[str]] = {}
    for line in mutmut(directory, "results", "--all", "true").splitlines():
        name, _, verdict = line.strip().partition(": ")
        if not name.startswith("mesh.") or verdict == "not checked":
            continue
        module = ".".join(name.split(".")[:3])
        counted.setdefault(module, Counter())[verdict] += 1
        if verdict in {"survived", "no tests"}:
            diff = [text for text in mutmut(directory, "show", name).splitlines() if re.match(r"[-+] ", text)]
            survivors.setdefault(module, []).append(f"{name.rpartition('.')[2]} ({verdict}): " + " => ".join(diff))
    modules = {module: {**counts, "killed_share": _share(counts)} for module, counts in sorted(counted.items())}
    together = sum(counted.values(), Counter())
    return {"together": {**together, "killed_share": _share(together)}, "modules": modules, "survivors": survivors}


def _share(counts: Counter[str]) -> float:
    return round((counts["killed"] + counts["timeout"]) / max(1, counts.total()), 3)


def main() -> None:
    directory = Path(sys.argv[1])
    if not directory.exists():
        directory.mkdir(parents=True)
        prepare(directory)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES_MAX, ADDRESS_SPACE_BYTES_MAX))
    os.nice(19)
    for module in sys.argv[2:]:
        mutmut(directory, "run", "--max-children", "1", f"{module}.*")
    found = scores(directory)
    if not found["modules"]:
        sys.exit("no mutant was tried: do the tests pass without one, and do the modules have these names?")
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
