"""What the sweeps run on: a simulated disk, and one device whose keys are on the real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mesh.core.kinds import Role
from mesh.shell.keys import Identity, load_identity
from mesh.testing.disk import DiskVfs, simulated_disk
from tests.factory import Venue


@pytest.fixture
def vfs() -> Iterator[DiskVfs]:
    with simulated_disk() as vfs:
        yield vfs


@pytest.fixture(scope="session")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    bar = Venue().device("bar A", Role.READER)
    return load_identity(bar.write_directory(tmp_path_factory.mktemp("keys") / "bar-a"))
