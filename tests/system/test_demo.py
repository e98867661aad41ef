"""`tapmesh demo` keeps its promises, and its proof convinces a script that has none of our code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKER = Path(__file__).parents[2] / "experiments" / "000_check_a_case" / "run.py"
DEMO_S_MAX = 240


def play(out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "mesh", "demo", "--json", "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEMO_S_MAX, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def check_case(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHECKER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEMO_S_MAX, check=False)


@pytest.mark.proves("M4", "M5", "M6", "S1.1", "S1.14", "S1.15", "S1.16", "S1.18", "B1")
def test_clone_is_caught_offline_at_both_bars_and_every_green_is_settled_once(tmp_path: Path) -> None:
    figures = play(tmp_path, "--seed", "5")
    assert figures["ok"]
    (spend,) = figures["double_spends"]
    assert sorted(spend["readers"]) == ["Bar A", "Bar C"]
    assert set(spend["surfaced_ms"]) == {"Bar A", "Bar C"}
    assert figures["declined_after_proof"]
    assert figures["settled"]["amount_minor"] == figures["greens_minor"] > 0
    assert figures["resent"] > 0
    assert figures["replayed_new"] == figures["lost"] == 0

    held = check_case(tmp_path / "case.cbor", tmp_path / "venue.pem")
    assert held.returncode == 0, held.stdout + held.stderr
    assert "Bar A" in held.stdout
    assert "Bar C" in held.stdout
    flipped = check_case("--flip", tmp_path / "case.cbor", tmp_path / "venue.pem")
    assert flipped.returncode == 0, flipped.stdout + flipped.stderr


def test_without_a_courier_the_third_tap_goes_green(tmp_path: Path) -> None:
    figures = play(tmp_path, "--seed", "6", "--no-courier")
    assert figures["ok"]
    assert not figures["declined_after_proof"]
    assert figures["settled"]["amount_minor"] == figures["greens_minor"] > 0
    assert not (tmp_path / "case.cbor").exists()
