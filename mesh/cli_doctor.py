"""`tapmesh doctor`: READY, or what is missing and what to do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import click

from mesh.cli_output import EXIT_LOCAL, EXIT_STORAGE, say
from mesh.core.kinds import Role
from mesh.shell import doctor_device, doctor_network
from mesh.shell.doctor import NOT_READY, READY, Check, CheckUp, Outcome, Patient, is_ready
from mesh.shell.output import Json

CHECKS_GROUP: Final = "tapmesh.checks"
_LOAD_ERRORS: Final = (ImportError, AttributeError, SyntaxError)
_OWN: Final[tuple[CheckUp, ...]] = (
    doctor_device.identity,
    doctor_device.settings,
    doctor_device.stores,
    doctor_device.venue,
    doctor_device.peers_seen,
    doctor_device.clock,
    doctor_device.disk,
    doctor_device.versions,
    doctor_device.running,
)


@click.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The device's directory.",
)
@click.option("--device", "device_path", help="The NFC device [default: the one in the settings, else usb].")
@click.option("--no-network", is_flag=True, help="Look at the device only, not at what is around it.")
@click.option("--json", "in_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def doctor(context: click.Context, directory: Path, device_path: str | None, no_network: bool, in_json: bool) -> None:
    """Say READY, or what is missing and what to do. Changes nothing; the device's program may run meanwhile.

    Exit code 0 only if READY; 4 if a disk or a file on it is at fault; else 2.

    \b
      tapmesh doctor --dir /var/lib/tapmesh/bar-a
      tapmesh doctor --dir ./bar-a --device tty:USB0:pn532
      tapmesh doctor --dir ./courier --no-network --json
    """
    patient = Patient(directory, device_path, time.time())
    checks: list[Check] = []
    for check_up in _check_ups(patient, no_network=no_network):
        for check in check_up(patient):
            checks.append(check)
            if not in_json:
                _say_check(check)
    ready = is_ready(checks)
    if in_json:
        report: dict[str, Json] = {"ready": ready, "checks": [_fields(check) for check in checks]}
        say(json.dumps(report, ensure_ascii=False))
    else:
        bad = sum(check.outcome is Outcome.BAD for check in checks)
        say(READY if ready else f"{NOT_READY}: {bad} of {len(checks)} things must be put right")
    if not ready:
        context.exit(EXIT_STORAGE if any(check.storage for check in checks) else EXIT_LOCAL)


def _check_ups(patient: Patient, *, no_network: bool) -> Iterator[CheckUp]:
    yield from _OWN
    for point in entry_points(group=CHECKS_GROUP):
        try:
            yield point.load()
        except _LOAD_ERRORS as error:
            text, name = f"its check cannot be loaded ({type(error).__name__}: {error})", point.name
            yield lambda patient: [Check(name, Outcome.BAD, text, "install the program again")]  # noqa: B023
    if not no_network and not patient.has_role(Role.SETTLEMENT):
        yield doctor_network.network


def _say_check(check: Check) -> None:
    say(f"{check.outcome.value:<5} {check.name:<12} {check.found}")
    if check.todo is not None:
        say(f"{'':<18} -> {check.todo}")


def _fields(check: Check) -> dict[str, Json]:
    return {
        "name": check.name,
        "outcome": check.outcome.name.lower(),
        "found": check.found,
        "todo": check.todo,
        "facts": check.facts,
    }
