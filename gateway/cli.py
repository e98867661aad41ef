"""`tapmesh gateway`: a node of the mesh that forwards everything to the settlement service."""

from __future__ import annotations

from functools import partial

import click

from gateway.app import forwarding
from gateway.sender import Forwarded, Published, Reached, Refused, Sender, SenderNotice, SentAgain, Unreachable
from gateway.upstreams.settlement import UpstreamAddress, parse_upstream
from mesh.cli_output import errors_shown
from mesh.core.kinds import Role
from mesh.shell.program import Options, Program, device_options, run_program


@click.group()
def gateway() -> None:
    """Forward the venue's logs to the settlement service, and bring its receipts back."""


@gateway.command()
@device_options
@click.option("--upstream", required=True, help="The settlement service: https://HOST:PORT.")
def run(options: Options, upstream: str) -> None:
    """Forward until stopped. Commands on standard input: status, resend, quit."""
    with errors_shown():
        address = parse_upstream(upstream)
        run_program(options, partial(_body, address), role=Role.GATEWAY)


async def _body(address: UpstreamAddress, program: Program) -> None:
    async with forwarding(program.device, address, partial(_say, program)) as sender:
        async for line in program.commands():
            match line.split():
                case ["status"]:
                    _say_status(program, sender)
                case ["resend"]:
                    sender.resend()
                case ["quit"]:
                    return
                case _:
                    text = f"unknown command {line!r}; there are: status, resend, quit"
                    program.emit("unknown", text, command=line)


def _say(program: Program, notice: SenderNotice) -> None:
    match notice:
        case Forwarded(sent, stored, remaining):
            text = f"forwarded {sent} entries, {stored} of them new upstream; {remaining} to go"
            program.emit("forwarded", text, sent=sent, stored=stored, remaining=remaining)
        case Refused(log_id, reason):
            text = f"the service refuses log {log_id.hex()}: {reason}. The other logs go on; this one is kept here"
            program.emit("refused", text, log=log_id.hex(), reason=reason)
        case Unreachable(text):
            program.emit("unreachable", text, text=text)
        case Reached(epoch):
            program.emit("reached", "the settlement service answers", epoch=epoch.hex())
        case SentAgain(resent, changed):
            program.emit("resent", f"resent {resent}, changed {changed}", resent=resent, changed=changed)
        case Published(receipts):
            program.emit("receipts", f"published {receipts} receipts", receipts=receipts)


def _say_status(program: Program, sender: Sender) -> None:
    tally, remaining, held = sender.tally, sender.remaining(), program.device.entries_held
    refused: list[str] = [f"{log_id.hex()}: {reason}" for log_id, reason in sender.refused().items()]
    program.emit(
        "status",
        f"upstream {'reached' if sender.reached else 'not reached'}; {held} entries held, {remaining} to forward, "
        f"{tally.sent} sent, {tally.stored} of them new, {tally.published} receipts published, "
        f"{len(refused)} logs refused",
        reached=sender.reached,
        entries=held,
        remaining=remaining,
        sent=tally.sent,
        stored=tally.stored,
        published=tally.published,
        links=len(program.network.links),
        refused=refused,
    )
