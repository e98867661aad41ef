"""Setting a damaged replica.db aside, when somebody asks for it: it is renamed with its log, and nothing is deleted."""

from __future__ import annotations

import re
from collections import deque
from contextlib import closing
from pathlib import Path
from typing import Final

from mesh.core.certificate import VenueRoot
from mesh.core.chain import parse_genesis
from mesh.errors import LocalError, PeerError
from mesh.shell.files import sync_directory
from mesh.shell.loading import check_log
from mesh.shell.lock import exclusive
from mesh.shell.store import REPLICA_FILE, Durability, RunStore, StoreDamaged

ASIDE: Final = re.compile(r"replica\.db\.damaged-(\d+)(-wal)?")


class NothingToSetAside(LocalError):
    """replica.db is whole, or not there."""


def set_replica_aside(directory: Path, root: VenueRoot) -> Path:
    """Rename a damaged replica.db, with its log, to ``replica.db.damaged-N``; returns the new name. Deletes nothing.

    Raises :class:`NothingToSetAside` if it is whole, and `StoreInUse` while the device runs.
    """
    path = directory / REPLICA_FILE
    with exclusive(directory):
        if not path.exists():
            raise NothingToSetAside(f"{path} is not there; a start makes it, and other devices fill it")
        if _is_whole(path, root):
            raise NothingToSetAside(
                f"{path} is whole, so it stays: every entry in it was read and follows the one before it. Nothing was "
                f"changed"
            )
        taken = [int(found[1]) for name in directory.iterdir() if (found := ASIDE.fullmatch(name.name)) is not None]
        aside = path.with_name(f"{path.name}.damaged-{max(taken, default=0) + 1}")
        # The log first: a database that is found without its log is older than it looks, a log alone misleads nobody.
        for suffix in ("-wal", ""):
            source = path.with_name(path.name + suffix)
            if source.exists():
                source.rename(aside.with_name(aside.name + suffix))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        sync_directory(directory)
    return aside


def _is_whole(path: Path, root: VenueRoot) -> bool:
    """Whether everything in the file can be read and is a set of chains. A disk that refuses to be read raises."""
    try:
        with closing(RunStore(path, Durability.PROCESS, read_only=True)) as store:
            store.check()
            for log in store.logs():
                parse_genesis(log.genesis, root)
                deque(check_log(store, log), maxlen=0)
    except (StoreDamaged, PeerError):
        return False
    return True
