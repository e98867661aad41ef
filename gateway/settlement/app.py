"""Starting a settlement service from its directory. Wiring only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from gateway.settlement.database import DATABASE_FILE
from gateway.settlement.server import listen, require_settlement, serve
from gateway.settlement.service import BatchTaken, SettlementService
from gateway.settlement.sqlite_store import SqliteLedger
from mesh.shell.keys import load_identity
from mesh.shell.lock import exclusive


async def run_settlement(
    directory: Path,
    host: str,
    port: int,
    *,
    new_epoch: bool = False,
    taken: Callable[[BatchTaken], None] = lambda batch: None,
    report: Callable[[str], None] = lambda text: None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; reports the port that is listened on when ready."""
    identity = load_identity(directory)
    require_settlement(identity)
    with exclusive(directory):
        listeners = await listen(host, port)
        store = SqliteLedger(directory / DATABASE_FILE, identity.root, new_epoch=new_epoch)
        try:
            service = SettlementService(store, identity.certificate, identity.signer, taken=taken)
            task_status.started(listeners[0].socket.getsockname()[1])
            await serve(service, identity, listeners, report=report)
        finally:
            store.close()
