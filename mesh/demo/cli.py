"""`tapmesh demo`: see the main job done, by the real programs, in about a minute."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import click
import trio

from mesh.cli_output import errors_shown, say
from mesh.demo.play import PANELS, last_line, play_demo, require
from mesh.demo.stage import Lines, Panels, Silent, Stage


@click.command()
@click.option("--seed", default=1, show_default=True, type=click.IntRange(min=1), help="Varies cards and amounts.")
@click.option("--no-courier", is_flag=True, help="The control: nobody carries the logs, and the third tap goes green.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Where case.cbor and venue.pem are left  [default: here]",
)
def demo(seed: int, out: Path, *, no_courier: bool, as_json: bool) -> None:
    """Four bars, a cloned wristband, a courier, a gateway and a settlement service, as real processes on loopback.

    Exit code 0 only if every check held. Leaves case.cbor, the proof of the double spend, and venue.pem, the root from
    which anybody can check it.
    """
    stage: Stage = Silent() if as_json else Panels(PANELS) if sys.stdout.isatty() else Lines()
    with errors_shown():
        outcome = trio.run(partial(play_demo, seed, stage, with_courier=not no_courier))
        if outcome.case is not None:
            (out / "case.cbor").write_bytes(outcome.case)
            (out / "venue.pem").write_bytes(outcome.root_pem)
        if as_json:
            click.echo(json.dumps(outcome.figures))
        else:
            if no_courier:
                say("control without a courier: the third tap went green, and the clone was found only by the gateway")
            say(last_line(outcome.figures))
        require(outcome)
