"""`tapmesh reader`: sell at a bar."""

from __future__ import annotations

from functools import partial

import click

from mesh.cli_output import errors_shown
from mesh.shell.program import Options, device_options, run_program


@click.group()
def reader() -> None:
    """Run a reader: wristbands, orders, green or red."""


@reader.command()
@device_options
@click.option("--device", "device_path", default="usb", show_default=True, help="NFC device, as nfcpy names it.")
def run(options: Options, device_path: str) -> None:
    """Sell with the device in DIR until it is stopped.

    \b
    Orders come from standard input:
      sale 6.50    topup 20.00    cancel    served    not-served    status    quit
    An order waits until a wristband is held to the reader or it is cancelled.
    """
    # Here, because nfcpy takes time to import, and asking for help should not.
    from reader.app import serve  # noqa: PLC0415
    from reader.chips.radio import open_radio  # noqa: PLC0415

    with errors_shown():
        radio = open_radio(device_path)
        run_program(options, partial(serve, radio=radio))
