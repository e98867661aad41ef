"""A local network of this test alone, and what was started on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.system.lan import Lan, lacking, lan


@pytest.fixture
def place(require_system: Callable[[bool, str], None]) -> Iterator[Lan]:
    """A network of namespaces; the test is skipped, in CI fails, where this machine or user cannot have one."""
    lacks = lacking()
    require_system(not lacks, lacks)
    with lan() as made:
        yield made


@pytest.fixture
def programs(place: Lan) -> Iterator[ExitStack]:
    """Everything that was started ends before the network does."""
    with ExitStack() as stack:
        yield stack
