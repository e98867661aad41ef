"""`tapmesh gateway`: a node of the mesh that forwards everything to the settlement service."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import click
import trio

from gateway.app import GatewayOptions, RunningGateway, run_gateway
from gateway.output import Output, parse_listen
from gateway.sender import Forwarded, Published, Reached, Refused, SenderNotice, SentAgain, Unreachable
from gateway.upstreams.settlement import parse_upstream
from mesh.cli_output import errors_shown
from mesh.shell.network import Endpoint, Settings

_STDIN = 0
_LINE_BYTES_MAX = 4096


@click.group()
def gateway() -> None:
    """Forward the venue's logs to the settlement service, and bring its receipts back."""


def _parse_peers(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[Endpoint]:
    return [Endpoint(*parse_listen(context, parameter, value)) for value in values]


@gateway.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Directory of a device enrolled with --role gateway.",
)
@click.option("--upstream", required=True, help="The settlement service: https://HOST:PORT.")
@click.option("--listen", default="0.0.0.0:0", show_default=True, callback=parse_listen, help="HOST:PORT for the mesh.")
@click.option("--peer", "peers", multiple=True, callback=_parse_peers, help="HOST:PORT of a node to stay linked to.")
@click.option("--zone", default="", help="The zone this gateway is in.")
@click.option("--interface", "interfaces", multiple=True, help="Address to announce on; all by default.")
@click.option("--no-mdns", is_flag=True, help="Find nobody by mDNS; only --peer addresses are dialled.")
@click.option("--json", "as_json", is_flag=True, help="For programs: JSON instead of sentences.")
def run(
    directory: Path,
    upstream: str,
    listen: tuple[str, int],
    peers: list[Endpoint],
    zone: str,
    interfaces: tuple[str, ...],
    no_mdns: bool,
    as_json: bool,
) -> None:
    """Forward until stopped. Type 'status', 'resend' or 'quit'."""
    output = Output(as_json=as_json)
    with errors_shown():
        settings = Settings(Endpoint(*listen), tuple(peers), not no_mdns, interfaces or None)
        options = GatewayOptions(directory, parse_upstream(upstream), settings, zone)
        trio.run(_main, options, output)


async def _main(options: GatewayOptions, output: Output) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            start = partial(run_gateway, options, notify=partial(_say, output), report=output.remark)
            running: RunningGateway = await nursery.start(start)
            output.event(
                "listening",
                f"gateway {running.device.certificate.name!r} listens on port {running.network.port}, "
                f"forwards to {options.upstream}",
                port=running.network.port,
                upstream=str(options.upstream),
            )
            nursery.start_soon(_obey, running, output, nursery.cancel_scope)
            async for _ in signals:
                nursery.cancel_scope.cancel()


async def _obey(running: RunningGateway, output: Output, scope: trio.CancelScope) -> None:
    """Carry out what is typed. The end of standard input ends nothing: a service has none."""
    async for line in _lines():
        match line:
            case "":
                continue
            case "quit":
                scope.cancel()
            case "resend":
                running.sender.resend()
            case "status":
                _say_status(running, output)
            case _:
                output.remark(f"{line!r} is not a command here: status, resend, quit")


async def _lines() -> AsyncIterator[str]:
    """Lines of standard input, read in a thread that is left behind at the end."""
    pending = b""
    # Not through sys.stdin: a thread that holds its lock when the interpreter ends takes the process down with it.
    while data := await trio.to_thread.run_sync(os.read, _STDIN, _LINE_BYTES_MAX, abandon_on_cancel=True):
        *lines, pending = (pending + data).split(b"\n")
        pending = pending[:_LINE_BYTES_MAX]
        for line in lines:
            yield line.decode("utf-8", "replace").strip()


def _say(output: Output, notice: SenderNotice) -> None:
    match notice:
        case Forwarded(sent, stored, remaining):
            sentence = f"forwarded {sent} entries, {stored} of them new upstream; {remaining} to go"
            output.event("forwarded", sentence, sent=sent, stored=stored, remaining=remaining)
        case Refused(log_id, reason):
            sentence = f"the service refuses log {log_id.hex()}: {reason}. The other logs go on; this one is kept here"
            output.event("refused", sentence, log=log_id.hex(), reason=reason)
        case Unreachable(sentence):
            output.event("unreachable", sentence, text=sentence)
        case Reached(epoch):
            output.event("reached", "the settlement service answers", epoch=epoch.hex())
        case SentAgain(resent, changed):
            output.event("resent", f"resent {resent}, changed {changed}", resent=resent, changed=changed)
        case Published(receipts):
            output.event("receipts", f"published {receipts} receipts", receipts=receipts)


def _say_status(running: RunningGateway, output: Output) -> None:
    sender, tally = running.sender, running.sender.tally
    remaining, held = sender.remaining(), running.device.entries_held
    refused = {log_id.hex(): reason for log_id, reason in sender.refused().items()}
    reached = "reached" if sender.reached else "not reached"
    output.event(
        "status",
        f"upstream {reached}; {held} entries held, {remaining} to forward, {tally.sent} sent, {tally.stored} were new, "
        f"{tally.published} receipts published, {len(refused)} logs refused",
        reached=sender.reached,
        held=held,
        remaining=remaining,
        sent=tally.sent,
        stored=tally.stored,
        published=tally.published,
        links=len(running.network.links),
        refused=refused,
    )
