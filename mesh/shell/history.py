"""The history of a device that lost its disk, from what any other device of the venue holds. Changes nothing.

A device that is enrolled again has new keys and a new serial number; the name is what people know it by. So history is
asked for a name, and means every device that ever had it, but for the one that is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh.core.certificate import DeviceCertificate, parse_device_certificate
from mesh.core.currency import Currency
from mesh.core.device_name import same_device_name
from mesh.core.kinds import Lane
from mesh.errors import LocalError
from mesh.shell.keys import CERTIFICATE_FILE, read_certificate
from mesh.shell.looking import look_into
from mesh.views.everything import Views
from mesh.views.recovered import Recovered, RecoveredView


class NobodyOfThatName(LocalError):
    """No other device of that name is known here."""


@dataclass(frozen=True, slots=True)
class History:
    """What is left of every device of one name. `problems` is what could not be read here."""

    name: str
    recovered: Recovered
    currency: Currency | None
    names: dict[bytes, str]
    """By log id: which device wrote it."""
    problems: Sequence[str]


def history_of(directory: Path, name: str | None) -> History:
    """Work out what `directory` holds of the devices called `name`, by default of the name of the device in it."""
    look = look_into(directory)
    own = parse_device_certificate(
        read_certificate(directory / CERTIFICATE_FILE, "this device's certificate"), look.root
    )
    asked = own.name if name is None else name
    logs = look.logs()
    views = Views(look.root)
    recovered = RecoveredView(views.cards, views.devices, look.root)
    known = [(log, log.genesis) for log in logs if log.genesis is not None]
    contested = look.contested_from(logs)
    for log, genesis in known:
        views.cards.open_log(log.log_id, genesis)
        recovered.open_log(log.log_id, genesis)
        if log.log_id in contested:
            views.cards.contest(log.log_id, contested[log.log_id])
    for statement in look.statements(logs):
        views.cards.revoke(statement)
    for log, genesis in sorted(known, key=lambda one: one[1].lane is not Lane.CONTROL):
        for run in look.runs(log):
            views.fold(run, genesis, contested.get(log.log_id))
            recovered.fold(run)
    serials = {device.serial for device in _named(views.devices.all(), asked)} - {own.serial}
    if not serials:
        others = ", ".join(sorted({repr(device.name) for device in views.devices.all() if device != own}))
        raise NobodyOfThatName(
            f"no other device called {asked!r} is known in {directory} (known are {others or 'none'}). If it lost its "
            f"disk, let this device meet the others first; --of asks for another name"
        )
    document = views.venue.document()
    currency = None if document is None else document.currency
    names = {log.log_id: genesis.certificate.name for log, genesis in known}
    return History(asked, recovered.recover(serials), currency, names, look.problems)


def _named(devices: Sequence[DeviceCertificate], name: str) -> list[DeviceCertificate]:
    return [device for device in devices if same_device_name(device.name, name)]
