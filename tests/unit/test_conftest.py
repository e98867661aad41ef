"""Tests that need a program of the system skip where people work and fail where a skip would be a lost proof."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ABSENT = "tapmesh-no-such-program"


def test_program_that_is_there_is_given_by_its_path(require_program: Callable[[str], str]) -> None:
    assert Path(require_program("sh")).is_file()


def test_program_that_is_missing_skips_the_test_and_says_which(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TAPMESH_REQUIRE_SYSTEM_TESTS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=ABSENT):
        require_program(ABSENT)


def test_program_that_is_missing_in_continuous_integration_fails_the_test(
    require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPMESH_REQUIRE_SYSTEM_TESTS", "1")
    with pytest.raises(pytest.fail.Exception, match=ABSENT):
        require_program(ABSENT)


def test_right_that_is_missing_in_continuous_integration_fails_the_test(
    require_system: Callable[[bool, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAPMESH_REQUIRE_SYSTEM_TESTS", "1")
    with pytest.raises(pytest.fail.Exception, match="no network namespaces"):
        require_system(False, "no network namespaces may be made here")
