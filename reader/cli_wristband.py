"""`tapmesh wristband`: emulated wristbands, for trying things out and for attacking them.

Importing this module is cheap, because presenting a wristband means starting this command.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import click

from mesh.cli_output import errors_shown
from reader.chips.image import BadImage, blank_image, load_image, newest_seq, save_image, slot_records


@click.group()
def wristband() -> None:
    """Emulate an NFC wristband (ISO-DEP, Type 4A) on this machine; clone it, roll it back."""


_IMAGE = click.Path(path_type=Path, dir_okay=False)


@wristband.command()
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="UDP port of 127.0.0.1: the reader's.")
@click.option("--image", type=_IMAGE, required=True, help="The wristband's file; made, blank, if it is not there.")
@click.option("--serial", help="16 hexadecimal digits for a wristband that is made now; random if left out.")
@click.option("--block-ms", type=click.FloatRange(0, 1000), help="Milliseconds to program 16 bytes (default 2.5).")
@click.option("--tear-after", type=click.IntRange(0, 106), help="Be pulled away after this many bytes of a write.")
@click.option("--no-waiting", is_flag=True, help="Answer as fast as this machine can, not as a chip does.")
@click.option("--json", "as_json", is_flag=True, help="Say what happens as JSON lines.")
def run(
    port: int,
    image: Path,
    serial: str | None,
    block_ms: float | None,
    tear_after: int | None,
    no_waiting: bool,
    as_json: bool,
) -> None:
    """Hold a wristband to the reader at PORT until stopped."""
    # Here, because nfcpy takes longer to import than the other subcommands take to run.
    from reader.chips.emulator import NO_WAITING, REAL_CHIP, Emulator, PulledAway  # noqa: PLC0415

    def tell(event: str, count: int) -> None:
        data = {"event": event, "port": port, "bytes": count}
        click.echo(json.dumps(data) if as_json else f"{event.upper()} {count or ''}".rstrip())

    timing = NO_WAITING if no_waiting else REAL_CHIP
    if block_ms is not None:
        timing = replace(timing, block_us=block_ms * 1000)
    with errors_shown():
        if not image.exists():
            save_image(image, blank_image(_serial(serial)))
        emulator = Emulator(image, port, timing, tear_after, tell)
    tell("ready", 0)
    with suppress(PulledAway, KeyboardInterrupt):
        emulator.run()


@wristband.command()
@click.argument("file", type=_IMAGE)
@click.option("--serial", help="16 hexadecimal digits; random if left out.")
def new(file: Path, serial: str | None) -> None:
    """Make a blank wristband."""
    with errors_shown():
        if file.exists():
            raise BadImage(f"{file} is there already, and a wristband is not overwritten: choose another file")
        save_image(file, blank_image(_serial(serial)))


@wristband.command()
@click.argument("file", type=_IMAGE)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Show what a wristband holds. Seals are not checked here: amounts are in the currency's minor unit."""
    with errors_shown():
        image = load_image(file)
    slots = [
        None
        if record is None
        else {
            "seq": record.seq,
            "balance_minor": record.balance,
            "offline_spent_minor": record.offline_spent,
            "card": record.card.hex(),
            "reader": record.reader.hex(),
            "parent": record.parent.hex(),
        }
        for record in slot_records(image.memory)
    ]
    history = sorted({newest_seq(memory) for memory in image.history})
    if as_json:
        data = {"uid": image.uid.hex(), "serial": image.serial.hex(), "slots": slots, "history_seqs": history}
        click.echo(json.dumps(data))
        return
    click.echo(f"uid {image.uid.hex()}  serial {image.serial.hex()}")
    for index, slot in enumerate(slots):
        words = "empty or torn" if slot is None else "  ".join(f"{name} {value}" for name, value in slot.items())
        click.echo(f"slot {index}: {words}")
    click.echo(f"can be rolled back to seq {', '.join(map(str, history)) or 'nothing: it was never written'}")


@wristband.command()
@click.argument("source", type=_IMAGE)
@click.argument("target", type=_IMAGE)
def clone(source: Path, target: Path) -> None:
    """Copy a wristband with its uid and serial, as a forger with blank chips does."""
    with errors_shown():
        save_image(target, load_image(source))


@wristband.command()
@click.argument("file", type=_IMAGE)
@click.option("--to", "seq", type=click.IntRange(0), required=True, help="The seq that it is to show again.")
def rollback(file: Path, seq: int) -> None:
    """Put an earlier state back, as somebody with a dump of his own wristband does."""
    with errors_shown():
        save_image(file, load_image(file).rolled_back(seq))


def _serial(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise BadImage(f"'{text}' is not a serial: give 16 hexadecimal digits") from error
