"""A damaged store: whatever page of it is gone, it is named or nothing was lost; it is set aside only on demand."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Final

import apsw
import pytest

from mesh.errors import StorageError
from mesh.shell.store import StoreDamaged
from tests.ondisk.reading import OWN, REPLICA, describe

FIXTURE: Final = Path(__file__).parents[1] / "ondisk" / "001_first_venue"
PAGE_BYTES: Final = 4096


def outcome(directory: Path) -> str:
    """What a start says: the stores as they were, or the name of the damaged one."""
    expected = json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))
    try:
        found = json.loads(json.dumps(describe(directory)))
    except StorageError as error:
        assert isinstance(error, StoreDamaged) or "disk image is malformed" in str(error)
        return next(name for name in (OWN, REPLICA) if name in str(error))
    assert found == expected
    return "whole"


@pytest.mark.parametrize("kind", ["garbage", "zeros", "one bit"])
@pytest.mark.parametrize("name", [OWN, REPLICA])
def test_any_damaged_page_is_named_or_was_not_needed(tmp_path: Path, name: str, kind: str) -> None:
    rng = random.Random(kind)
    pages = (FIXTURE / name).stat().st_size // PAGE_BYTES
    outcomes = []
    for page in range(pages):
        directory = Path(shutil.copytree(FIXTURE, tmp_path / f"{page}"))
        content = bytearray((directory / name).read_bytes())
        at = page * PAGE_BYTES
        match kind:
            case "garbage":
                content[at : at + PAGE_BYTES] = rng.randbytes(PAGE_BYTES)
            case "zeros":
                content[at : at + PAGE_BYTES] = bytes(PAGE_BYTES)
            case _:
                content[at + rng.randrange(PAGE_BYTES)] ^= 1 << rng.randrange(8)
        (directory / name).write_bytes(content)
        outcomes.append(outcome(directory))
    assert set(outcomes) <= {name, "whole"}
    assert kind == "one bit" or outcomes.count(name) >= pages // 2


CHANGES: Final = {
    "a head that is not the newest entry": "UPDATE run SET tip = zeroblob(32) WHERE number = 1",
    "a run that is missing": "DELETE FROM run WHERE first_seq = 0 AND log = (SELECT log FROM run WHERE first_seq = 2)",
    "a run that lies elsewhere": "UPDATE run SET first_seq = 7, last_seq = 8 WHERE first_seq = 5",
    "a branch that leaves a parent that is not there": "UPDATE branch SET parent = 9 WHERE parent = 0",
    "a branch that follows something else": "UPDATE branch SET prev = zeroblob(32) WHERE number = 1",
    "a genesis of another log": "UPDATE log SET genesis = (SELECT genesis FROM log WHERE number = 1) WHERE number = 2",
}


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_store_that_sqlite_calls_whole_and_is_no_set_of_chains_is_named(tmp_path: Path, change: str) -> None:
    directory = Path(shutil.copytree(FIXTURE, tmp_path / "device"))
    database = apsw.Connection(str(directory / REPLICA))
    database.execute(CHANGES[change])
    assert database.changes() > 0
    database.close()
    with pytest.raises(StoreDamaged, match=r"replica\.db"):
        describe(directory)
