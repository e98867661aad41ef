"""What a device does about a store that is damaged or gone: it names it, says what that means, and replaces nothing.

* own.db holds what this device sold and what it must never forget. No program replaces it, and one that is gone is
  noticed by a mark that was made beside it when it was new.
* replica.db holds others' entries, which peers send again. It is renamed, never deleted, when somebody asks for it: it
  may hold the only copy of what a device that is lost has sold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mesh.shell.files import write_new_file
from mesh.shell.store import Durability, RunStore, StoreDamaged

MARK_SUFFIX: Final = ".made"


class StoreGone(StoreDamaged):
    """own.db was there once and is not any more."""


def open_own(path: Path, *, vfs: str | None = None) -> RunStore:
    """Open and check own.db, making it at this device's first start only; raises :class:`StoreDamaged`."""
    mark = path.with_name(path.name + MARK_SUFFIX)
    if mark.exists() and (not path.exists() or path.stat().st_size == 0):
        raise StoreGone(
            f"{path} is gone or empty, though this device has sold or signed before. It holds every sale that has not "
            f"reached another device yet: put the file back, with the one that ends in -wal. If it is lost for good, "
            f"delete {mark.name}: the device then begins anew, and what other devices hold of its sales still counts"
        )
    with own_damage_explained(path):
        store = RunStore(path, Durability.POWER_CUT, vfs=vfs)
        try:
            store.check()
            if not mark.exists():
                write_new_file(mark, b"own.db was made. Delete this file only when own.db is lost for good.\n")
        except BaseException:
            store.close()
            raise
    return store


@contextmanager
def own_damage_explained(path: Path) -> Iterator[None]:
    """Add to the name of the damage what it means for the money, and what to do."""
    try:
        yield
    except StoreDamaged as error:
        raise StoreDamaged(
            f"{error}. It holds what this device sold, so nothing replaces it by itself. What reached another device "
            f"is safe there. Keep the whole directory as it is; 'tapmesh log ls --dir {path.parent}' shows what can "
            f"still be read. Sell on with another device"
        ) from error


@contextmanager
def replica_damage_explained(path: Path) -> Iterator[None]:
    """As for own.db."""
    try:
        yield
    except StoreDamaged as error:
        raise StoreDamaged(
            f"{error}. Nothing that this device sold is in it, and no sale is lost here. To sell on, run 'tapmesh "
            f"device set-aside --dir {path.parent}' and start again: the other devices send everything they have. Keep "
            f"the file that is set aside until the venue is settled: it may hold the only copy of what a lost device "
            f"sold"
        ) from error
