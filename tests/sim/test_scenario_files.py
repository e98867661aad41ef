"""Scenario files: packaged ones can be played and are written as TOML again; mistakes get a sentence."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Final

import pytest

from mesh.testing.checks import Check
from mesh.testing.network import Quality
from mesh.testing.packaged import find_scenario, packaged, packaged_text
from mesh.testing.scenario import (
    Adversary,
    BadScenario,
    Courier,
    Disk,
    Fault,
    People,
    Scenario,
    Zone,
    load_scenario,
    parse_scenario,
)
from mesh.testing.scenario_text import as_toml

TREE: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (TREE / "docs" / "SIMULATOR.md").read_text(encoding="utf-8")
NAMES: Final = list(packaged())
SMALL: Final = """
name = "small"
[[zones]]
name = "north"
[[zones]]
name = "south"
"""
COURIER: Final = '[[couriers]]\nroute = ["north", "south"]\n'


@pytest.mark.parametrize("name", NAMES)
def test_packaged_scenario_is_called_as_its_file_and_says_what_it_is(name: str) -> None:
    assert find_scenario(name).name == name
    assert len(packaged()[name].split()) > 5


@pytest.mark.parametrize("name", NAMES)
def test_scenario_written_as_toml_reads_back_equal(name: str) -> None:
    scenario = find_scenario(name)
    assert parse_scenario(as_toml(scenario)) == scenario


def test_text_of_a_scenario_escapes_what_toml_needs() -> None:
    scenario = parse_scenario(SMALL.replace("small", 'with \\"quotes\\" and \\\\'))
    assert parse_scenario(as_toml(scenario)) == scenario


def test_file_and_packaged_name_are_the_same_scenario(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(packaged_text("two-zones"), encoding="utf-8")
    assert load_scenario(path) == find_scenario(str(path)) == find_scenario("two-zones")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "this is not TOML"),
        (SMALL.replace("name", "nam", 1), "nam is not known; did you mean 'name'?"),
        ("[[zones]]\nname = 'north'", "name is missing"),
        ("name = 'none'\nzones = []", "at least one zone"),
        (SMALL.replace("south", "north"), "no two of the same name"),
        (SMALL + "readers = 'two'", "readers is a whole number, not 'two'"),
        (SMALL + "readers = -1", "readers is a whole number from 0 on, not -1"),
        (SMALL + "readers = 5000", "at most 2000 devices"),
        (SMALL.replace('"north"', '"north"\ntills = 0') + "tills = 0", "somewhere there must be a till"),
        (SMALL.replace('"north"', '"north"\nreaders = 0') + "readers = 0", "somewhere there must be a reader"),
        (SMALL.replace("south", "a zone with a very long name"), "a zone's name is plain text of 1 to 16 characters"),
        (SMALL.replace("small", ""), "name is plain text of 1 to 32 characters"),
        (SMALL + COURIER.replace("south", "forest"), "a courier walks to 'forest', but the zones are north, south"),
        (SMALL + COURIER.replace("south", "north"), "a courier walks between zones: give the route at least two"),
        (SMALL + COURIER + "dwell_s = 0", "dwell_s and walk_s are more than nothing"),
        (SMALL + "[faults]\npower_cuts = 1", "there is no fault 'power_cuts'; did you mean 'power_cut'?"),
        (SMALL + "[faults]\nearthquake = 1", "there is no fault 'earthquake'; there are: backbone_down"),
        (SMALL + "[faults]\ncrash = 0.5", "'crash' happens a whole number of times, not 0.5"),
        (SMALL + "[adversaries]\nlair = 1", "there is no adversary 'lair'"),
        (SMALL + "[people]\nmoves = 5", "people.moves is a share, from 0 to 1 (0.05 is one in twenty), not 5"),
        (SMALL + "[people]\nprice_cents = [900, 300]", "people.price_cents goes from least to most"),
        (SMALL + "[people]\nprice_cents = [300]", "people.price_cents has 2 values (least and most), not 1"),
        (SMALL + "[people]\nprice_cents = 300", "people.price_cents is a list, not 300"),
        (SMALL + "[people]\ntop_up_cents = [5, 20]", "people.top_up_cents begins with 100 or more"),
        (SMALL + "[people]\ncount = 1000000", "at most 200000 people come"),
        (SMALL + "[network]\nrate_kbit_s = 0", "network.rate_kbit_s is more than nothing, not 0"),
        (SMALL + "[network]\nloss = nan", "network.loss is a number from 0 on, not nan"),
        (SMALL.replace('"small"', '"small"\nduration_s = 0'), "duration_s and settle_s are more than nothing"),
        (SMALL.replace('"small"', '"small"\npeople = 5'), "people is a table: [people]"),
        (SMALL.replace('"small"', '"small"\ntick_s = 0'), "tick_s is more than nothing"),
    ],
)
def test_mistake_in_a_scenario_gets_a_sentence(text: str, said: str) -> None:
    with pytest.raises(BadScenario, match=re.escape(said)):
        parse_scenario(text)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), (b"\xff\xfe", "is not text"), (b"#" * 70_000, "longer than a scenario")],
)
def test_file_that_is_no_scenario_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadScenario, match=f"mine.toml.* {said}"):
        find_scenario(str(path))


# -- The page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*Fault, *Adversary], ids=lambda kind: kind.value)
def test_every_fault_and_adversary_has_a_line_on_the_page(kind: Fault | Adversary) -> None:
    assert re.search(rf"^\| `{kind.value}` \| .{{20,}} \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("check", Check, ids=lambda check: check.value)
def test_every_check_has_a_page_of_its_own(check: Check) -> None:
    assert f"(checks/{check.value}.md)" in PAGE
    page = (TREE / "docs" / "checks" / f"{check.value}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {check.value}\n")
    for part in ("**What must hold.**", "**Why.**", "**How it is checked.**", "**Left out.**"):
        assert part in page


def test_every_page_in_the_folder_is_about_a_check() -> None:
    assert {path.stem for path in (TREE / "docs" / "checks").glob("*.md")} == {check.value for check in Check}


@pytest.mark.parametrize("name", NAMES)
def test_every_packaged_scenario_is_on_the_page(name: str) -> None:
    assert f"| `{name}` |" in PAGE


def test_every_key_of_a_scenario_is_on_the_page() -> None:
    keys = {one.name for table in (Scenario, Zone, Courier, People, Quality, Disk) for one in fields(table)}
    assert len(keys) > 30
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()


def test_example_on_the_page_is_a_scenario() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert parse_scenario(example).name == "two-bars"
