"""The systemd units: they are valid, they confine what they run, and what they run is a command that exists."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mesh.cli import main
from tests.programs import PATIENCE_S, TREE

UNITS = TREE / "packaging" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
COMMAND = "/usr/local/bin/tapmesh"
EXPOSURE_MAX = 25
"""Tenths, as `systemd-analyze security` counts: 0 is confined entirely, 100 not at all."""


def _settings(name: str, section: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    current = ""
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif "=" in line and not line.startswith("#") and current == section:
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_there_is_a_unit_for_each_program_that_runs_all_night() -> None:
    assert SERVICES == [
        "tapmesh-courier.service",
        "tapmesh-gateway.service",
        "tapmesh-reader@.service",
        "tapmesh-settlement.service",
    ]


@pytest.fixture
def laid_out(tmp_path: Path) -> Path:
    """The units as they would be installed, with a program that is there on every machine in our command's place."""
    for path in UNITS.iterdir():
        text = path.read_text(encoding="utf-8").replace(COMMAND, "/bin/true")
        (tmp_path / path.name.replace("@.", "@bar-a.")).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", SERVICES)
def test_unit_is_valid_and_confined(name: str, laid_out: Path, require_program: Callable[[str], str]) -> None:
    analyze = require_program("systemd-analyze")
    unit = str(laid_out / name.replace("@.", "@bar-a."))
    checks = (
        ["verify", "--man=no", "--recursive-errors=no", unit],
        ["security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}", unit],
    )
    for arguments in checks:
        done = subprocess.run(
            [analyze, *arguments], check=False, capture_output=True, text=True, timeout=PATIENCE_S, cwd=laid_out
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_unit_starts_a_command_as_it_is_with_the_directory_that_it_may_write(name: str) -> None:
    service = _settings(name, "Service")
    (line,) = service["ExecStart"]
    program, *words = shlex.split(line.replace("%i", "bar-a"))
    assert program == COMMAND
    group = main.get_command(click.Context(main), words[0])
    assert isinstance(group, click.Group)
    command = group.get_command(click.Context(group), words[1])
    assert command is not None
    given = command.make_parser(click.Context(command)).parse_args(words[2:])[0]
    assert str(given["directory"]) == f"/var/lib/{service['StateDirectory'][0].replace('%i', 'bar-a')}"


@pytest.mark.parametrize("name", SERVICES)
def test_failed_disk_is_tried_again_with_a_limit(name: str) -> None:
    service, unit = _settings(name, "Service"), _settings(name, "Unit")
    assert service["Restart"] == ["on-failure"]
    assert "RestartPreventExitStatus" not in service
    tries_s = int(service["RestartSec"][0]) * int(unit["StartLimitBurst"][0])
    assert 0 < tries_s < int(unit["StartLimitIntervalSec"][0])
