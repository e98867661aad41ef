"""Stores that earlier programs left open, and say what they said then. Their directories are never made again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from gateway.settlement.database import LedgerDamaged
from gateway.settlement.sqlite_store import SqliteLedger
from mesh.core.certificate import parse_venue_root
from mesh.shell.keys import read_certificate
from mesh.shell.looking import look_into
from mesh.shell.store import Durability, RunStore, StoreDamaged
from tests.ondisk.reading import LEDGER, OWN, REPLICA, ROOT, describe

FIXTURES: Final = sorted(path.parent for path in Path(__file__).parent.glob("*/expected.json"))


@pytest.fixture(params=FIXTURES, ids=lambda path: path.name)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one fixture: opening writes."""
    return Path(shutil.copytree(request.param, tmp_path / "device"))


def expected(kept: Path) -> dict[str, Any]:
    words: dict[str, Any] = json.loads((kept / "expected.json").read_text(encoding="utf-8"))
    return words


def test_there_are_fixtures() -> None:
    assert FIXTURES


@pytest.mark.proves("S3.5")
def test_stores_of_an_earlier_program_say_what_they_said_then(kept: Path) -> None:
    found = json.loads(json.dumps(describe(kept)))
    for name, then in expected(kept).items():
        assert found[name] == then, name


def test_stores_of_an_earlier_program_say_it_again_after_they_were_opened(kept: Path) -> None:
    describe(kept)
    (kept / "unused.key").unlink()
    assert json.loads(json.dumps(describe(kept)))["frontier"] == expected(kept)["frontier"]


def test_stores_of_an_earlier_program_can_be_looked_into(kept: Path) -> None:
    look = look_into(kept)
    assert sum(log.entries for log in look.logs()) == expected(kept)["entries"]
    assert look.problems == []


def make_newer(path: Path) -> bytes:
    """What a program of the next version would leave."""
    database = apsw.Connection(str(path))
    database.execute("PRAGMA user_version=2; PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    return path.read_bytes()


@pytest.mark.parametrize("name", [OWN, REPLICA])
def test_store_of_a_newer_program_is_refused_by_its_version_and_keeps_every_byte(kept: Path, name: str) -> None:
    before = make_newer(kept / name)
    with pytest.raises(StoreDamaged, match=rf"{name} .*version 2.*reads (version )?1"):
        RunStore(kept / name, Durability.POWER_CUT)
    assert (kept / name).read_bytes() == before


def test_ledger_of_a_newer_program_is_refused_by_its_version_and_keeps_every_byte(kept: Path) -> None:
    root = parse_venue_root(read_certificate(kept / ROOT, "the root"))
    before = make_newer(kept / LEDGER)
    with pytest.raises(LedgerDamaged, match=rf"{LEDGER} .*version 2.*reads (version )?1"):
        SqliteLedger(kept / LEDGER, root)
    assert (kept / LEDGER).read_bytes() == before
