"""What every test may ask for: programs of the system, and how many examples a property is tried on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import settings

# Set by continuous integration: what the system lacks is then a failure, because there a skipped test is a lost proof.
SYSTEM_TESTS_REQUIRED: Final = "TAPMESH_REQUIRE_SYSTEM_TESTS"

# `make test` repeats itself exactly, so a failure there is there again on the next run; `make soak` searches.
settings.register_profile("default", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("soak", deadline=None, max_examples=2_000, print_blob=True)
settings.load_profile("default")


def unless_system(*, has: bool, lacking: str) -> None:
    """Go on if the system has what the test needs; otherwise skip, or fail in CI, saying what is `lacking`."""
    if has:
        return
    if os.environ.get(SYSTEM_TESTS_REQUIRED):
        pytest.fail(f"{lacking}; {SYSTEM_TESTS_REQUIRED} is set, so this test must run here", pytrace=False)
    pytest.skip(f"{lacking}; continuous integration runs this test")


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """Return `require_program(name) -> path`: the program's path, or the test skips (in CI: fails) naming it."""

    def find(name: str) -> str:
        path = shutil.which(name)
        unless_system(has=path is not None, lacking=f"this machine has no `{name}` (.ci/run names its package)")
        assert path is not None
        return path

    return find


@pytest.fixture
def require_system() -> Callable[[bool, str], None]:
    """Return `require_system(has, lacking)`, for needs that are not a program: a right, a kernel feature."""

    def check(has: bool, lacking: str) -> None:
        unless_system(has=has, lacking=lacking)

    return check
