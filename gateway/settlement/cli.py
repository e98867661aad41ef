"""`tapmesh settlement`: run the service, look at its ledger, check it."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from functools import partial
from pathlib import Path

import click
import trio

from gateway.settlement.app import run_settlement
from gateway.settlement.audit import audit
from gateway.settlement.database import DATABASE_FILE
from gateway.settlement.ledger import Account
from gateway.settlement.report import ledger_report
from gateway.settlement.service import BatchTaken
from gateway.settlement.sqlite_store import SqliteLedger
from gateway.settlement.store import Totals
from mesh.cli_output import errors_shown, say
from mesh.errors import StorageError
from mesh.shell.keys import load_identity
from mesh.shell.network import Endpoint
from mesh.shell.output import Output
from mesh.shell.program import EndpointType

_DIRECTORY = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of a device enrolled with --role settlement.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of sentences.")


@click.group()
def settlement() -> None:
    """The service that books every tap once and signs receipts for it."""


@settlement.command()
@_DIRECTORY
@click.option(
    "--listen",
    default="127.0.0.1:7443",
    show_default=True,
    type=EndpointType(),
    help="Where to listen; port 0 lets the system choose.",
)
@click.option(
    "--after-restore",
    is_flag=True,
    help="The ledger was restored from a backup: start a new epoch, so that gateways send again what is lost here.",
)
@_JSON
def run(directory: Path, listen: Endpoint, after_restore: bool, as_json: bool) -> None:
    """Take entries from gateways until stopped (Ctrl-C)."""
    output = Output(as_json)

    def taken(batch: BatchTaken) -> None:
        output.emit(
            "batch",
            f"{batch.sender}: {batch.stored} new entries, {batch.known} known",
            sender=batch.sender,
            stored=batch.stored,
            known=batch.known,
            set_aside=batch.set_aside,
        )
        for sentence in batch.refused:
            output.emit("refused", f"refused: {sentence}", text=sentence)

    def remark(text: str) -> None:
        output.emit("note", text, text=text)

    async def main() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                start = partial(run_settlement, directory, listen.host, new_epoch=after_restore, taken=taken)
                bound: int = await nursery.start(partial(start, report=remark), listen.port)
                where = f"https://{listen.host}:{bound}"
                output.emit("ready", f"READY settlement service on {where}", address=where, port=bound)
                async for _ in signals:
                    nursery.cancel_scope.cancel()

    with errors_shown():
        trio.run(main)


@settlement.command()
@_DIRECTORY
@_JSON
def show(directory: Path, as_json: bool) -> None:
    """Show the ledger: totals, conflicts, contested logs, what was set aside. Also while the service runs."""
    with errors_shown():
        identity = load_identity(directory)
        with closing(SqliteLedger(directory / DATABASE_FILE, identity.root, read_only=True)) as store:
            if as_json:
                say(json.dumps(ledger_report(store)))
                return
            _show_totals(store.totals())
            for conflict in store.conflicts(100):
                places = " and ".join(f"{tap.author} ({tap.amount_minor})" for tap in conflict.taps)
                say(f"conflict: card {conflict.card.hex()}, {places}; at risk {conflict.at_risk_minor}")
            for log in store.contested_logs(100):
                say(f"contested: {log.author}, log {log.log_id.hex()} from seq {log.from_seq}, {log.heads} heads")
            for revoked in store.revoked_logs(100):
                end = "nothing of it counts" if revoked.counted_to is None else f"counts to seq {revoked.counted_to}"
                say(f"revoked: {revoked.author}, log {revoked.log_id.hex()}, {end}; the rest is in suspense")
            for entry in store.set_aside(100):
                say(f"set aside: {entry.author}, log {entry.log_id.hex()} seq {entry.seq}: {entry.reason}")


def _show_totals(totals: Totals) -> None:
    say(f"{totals.entries} entries of {totals.logs} logs, {totals.verified} signatures checked")
    say(f"{totals.taps} taps of {totals.cards} cards; amounts in minor units, debits positive:")
    for account in Account:
        say(f"  {account.name.lower().replace('_', ' '):<16} {totals.accounts[account]:>14}")
    say("the books balance" if totals.balanced else "THE BOOKS DO NOT BALANCE: run 'tapmesh settlement verify'")


@settlement.command()
@_DIRECTORY
def verify(directory: Path) -> None:
    """Book every stored entry again, check every signature, and compare with the ledger. Changes nothing."""
    with errors_shown():
        outcome = audit(directory, load_identity(directory).root)
        if outcome.differences:
            raise StorageError(
                f"the ledger differs from its own entries: {'; '.join(outcome.differences)}. It was left as it is; the "
                f"entries decide. Restore a backup, start with --after-restore, and let the gateways send again"
            )
    say(f"{outcome.entries} entries booked again: the ledger is what its entries say")
