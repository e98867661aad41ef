"""`tapmesh reader`: sell at a bar."""

from __future__ import annotations

import re
from pathlib import Path

import click
import trio

from mesh.cli_output import errors_shown, say
from mesh.shell.network import Endpoint, Settings


class EndpointType(click.ParamType[Endpoint]):
    """HOST:PORT, with brackets around an IPv6 address."""

    name = "HOST:PORT"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        if isinstance(value, Endpoint):
            return value
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]]+)):([0-9]{1,5})", str(value))
        if match is None or int(match[3]) > 65535:
            self.fail(f"'{value}' is not HOST:PORT", param, ctx)
        return Endpoint(match[1] or match[2], int(match[3]))


@click.group()
def reader() -> None:
    """Run a reader: wristbands, orders, green or red."""


@reader.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), required=True, help="The device.")
@click.option("--device", "device_path", default="usb", show_default=True, help="NFC device, as nfcpy names it.")
@click.option("--zone", default="", help="The zone this reader stands in.")
@click.option("--peer", "peers", type=EndpointType(), multiple=True, help="Another device to stay linked to.")
@click.option("--listen", type=EndpointType(), default="0.0.0.0:0", show_default=True, help="Where others reach us.")
@click.option("--no-mdns", is_flag=True, help="Neither announce this reader nor look for others.")
@click.option("--json", "as_json", is_flag=True, help="Say what happens as JSON lines.")
def run(
    directory: Path,
    device_path: str,
    zone: str,
    peers: tuple[Endpoint, ...],
    listen: Endpoint,
    no_mdns: bool,
    as_json: bool,
) -> None:
    """Sell until `quit`.

    \b
    Orders come from standard input:
      sale 6.50    topup 20.00    cancel    served    not-served    quit
    An order waits until a wristband is held to the reader or it is cancelled.
    """
    from reader.app import Options, run_reader  # noqa: PLC0415 - nfcpy takes time to import; help should not

    settings = Settings(listen, peers, mdns=not no_mdns)
    with errors_shown():
        trio.run(run_reader, Options(directory, device_path, zone, settings, as_json), say)
