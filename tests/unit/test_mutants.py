"""The committed mutants fit this tree. `make mutants` runs them; a patch that the code left behind shows here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.mutants import MUTANTS, TREE, BadMutant, Hunk, Mutant, apply, read_mutant

PATHS = sorted(MUTANTS.glob("*.patch"))
MUTANTS_MIN = 20


def test_there_are_enough_of_them_and_each_has_its_own_number() -> None:
    assert len(PATHS) >= MUTANTS_MIN
    assert len({path.name[:3] for path in PATHS}) == len(PATHS)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_mutant_applies_to_this_tree_and_names_tests_that_there_are(path: Path, tmp_path: Path) -> None:
    mutant = read_mutant(path)
    for changed in {hunk.path for hunk in mutant.hunks}:
        (tmp_path / changed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / changed).write_text((TREE / changed).read_text(encoding="utf-8"), encoding="utf-8")
    apply(mutant, tmp_path)
    for hunk in mutant.hunks:
        compile((tmp_path / hunk.path).read_text(encoding="utf-8"), hunk.path, "exec")
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name or 'test_'}", (TREE / file).read_text(encoding="utf-8"), re.MULTILINE)


def test_patch_that_no_longer_applies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("once\nonce\n", encoding="utf-8")
    for before in ("gone\n", "once\n"):
        with pytest.raises(BadMutant, match=r"the code moved on"):
            apply(Mutant("x", "y", ("z",), (Hunk("one.py", before, "other\n"),), "shell"), tmp_path)


def test_file_without_a_reason_is_no_mutant(tmp_path: Path) -> None:
    path = tmp_path / "001-x.patch"
    path.write_text("Test: a::b\n\n--- a/x\n+++ b/x\n@@\n-a\n+b\n", encoding="utf-8")
    with pytest.raises(BadMutant):
        read_mutant(path)
