"""`tapmesh device history`: what came back of a device that lost its disk, and what did not, each with its amount."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from mesh.cli_output import errors_shown, say
from mesh.errors import StorageError
from mesh.shell.history import History, history_of
from mesh.views.entry_fields import Shown as Field
from mesh.views.recovered import LogLeft, Recovered, Shown, Sum


class NotWhole(StorageError):
    """Something in the store could not be read; the history tells of the rest."""


@click.command("history")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The device that is asked: the one enrolled again, or any other of the venue.",
)
@click.option("--of", "name", help="Name of the device that lost its disk [default: the name of the device in DIR].")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def history_command(directory: Path, name: str | None, as_json: bool) -> None:
    """Show what is left of a device that lost its disk.

    Held: entries that came back from others. Shown by wristbands: taps whose entries are gone, and what they were.
    Missing: entries that somebody knew of. Changes nothing, also while the device runs.

    \b
      tapmesh device history --dir /var/lib/tapmesh/bar-b
      tapmesh device history --dir ./event/manager --of "Bar B"
    """
    with errors_shown():
        history = history_of(directory, name)
        if as_json:
            say(json.dumps(_fields(history)))
        else:
            for line in history_lines(history):
                say(line)
        if history.problems:
            raise NotWhole(
                f"{'; '.join(history.problems)}. What was shown is of everything else: there may be more. Keep a copy "
                f"of these files"
            )


def history_lines(history: History) -> list[str]:
    """What people read: each amount in the venue's currency, or in minor units where its document is not here."""
    left, amount = history.recovered, _amount_writer(history)
    lines = []
    for device in left.devices:
        revoked = ", REVOKED" if device.serial in left.revoked else ""
        lines.append(f"{device.name!r}, fingerprint {device.fingerprint}{revoked}")
        lines += [f"  {_log_line(log, amount)}" for log in left.logs if log.serial == device.serial]
    lines.append(f"Held, nothing of it is lost: {_sums_text(left.held, amount)}")
    if left.not_counted:
        lines.append(f"  of that not counted against wristbands: {_sums_text(left.not_counted, amount)}")
    lines += _shown_lines("Shown by wristbands only", left.shown, history)
    lines += _shown_lines("Shown by wristbands, several taps together, the last of them its", left.together, history)
    lines += _shown_lines("Given up by the device itself, to be credited and not missed", left.given_up, history)
    lines += _shown_lines("By nobody known, perhaps its, before a record of another", left.perhaps, history)
    if left.hearsay:
        lines.append(f"Said to be its, without a seal that proves it: {len(left.hearsay)} records; they count nothing")
    return lines + _unknown_lines(left, amount)


def _log_line(log: LogLeft, amount: Callable[[int], str]) -> str:
    lane = "of a lane nobody knows" if log.lane is None else log.lane.name.lower()
    text = f"log {log.log_id.hex()} {lane}: {log.entries} of {log.known_entries} known entries"
    if log.first_time_ms is not None and log.last_time_ms is not None:
        text += f", {_time(log.first_time_ms)} to {_time(log.last_time_ms)} by its clock"
    if not log.missing:
        return text
    money = "amount unknown" if log.missing_sales_minor is None else f"sales of {amount(log.missing_sales_minor)}"
    return f"{text}; {log.missing} MISSING, {money}"


def _shown_lines(title: str, shown: Sequence[Shown], history: History) -> list[str]:
    if not shown:
        return []
    amount = _amount_writer(history)
    lines = [f"{title}: {_total_text(shown, amount)}"]
    for one in shown:
        seqs = f"{one.gap.first_seq}" if one.gap.writes == 1 else f"{one.gap.first_seq} to {one.gap.last_seq}"
        where = f"{history.names[one.shown_in.log_id]!r} {one.shown_in.log_id.hex()[:8]}:{one.shown_in.seq}"
        lines.append(f"  wristband {one.card.hex()}, write {seqs}: {_gap_text(one, amount)}, read by {where}")
    return lines


def _gap_text(one: Shown, amount: Callable[[int], str]) -> str:
    if one.gap.spent_minor is None or one.gap.credited_minor is None:
        return "UNKNOWN AMOUNT, its records do not lie on one line"
    parts = [("spent", one.gap.spent_minor), ("credited", one.gap.credited_minor)]
    return ", ".join(f"{what} {amount(minor)}" for what, minor in parts if minor) or amount(0)


def _total_text(shown: Sequence[Shown], amount: Callable[[int], str]) -> str:
    spent, credited = (sum(values) for values in _clear_amounts(shown))
    unclear = sum(one.gap.spent_minor is None for one in shown)
    tail = f", and {unclear} of unknown amount" if unclear else ""
    writes = sum(one.gap.writes for one in shown)
    return f"{writes} taps, spent {amount(spent)}, credited {amount(credited)}{tail}"


def _clear_amounts(shown: Sequence[Shown]) -> tuple[list[int], list[int]]:
    gaps = [one.gap for one in shown]
    return (
        [gap.spent_minor for gap in gaps if gap.spent_minor is not None],
        [gap.credited_minor for gap in gaps if gap.credited_minor is not None],
    )


def _unknown_lines(left: Recovered, amount: Callable[[int], str]) -> list[str]:
    missing = sum(log.missing for log in left.logs)
    lines = [
        f"Entries known to be missing: {missing}" + (". What wristbands show may be among them." if missing else "")
    ]
    if left.revoked and (left.shown or left.together):
        lines.append("It is revoked: a seal may also be from whoever has its disk. Ask the bar before booking these.")
    if left.shown or left.together:
        lines.append("Accounts and the settlement's books count signed entries only: not what wristbands alone show.")
    if left.unseen_sales_minor_max is None:
        bound = "Nothing bounds its amount: the device could raise balances"
    else:
        bound = f"Sales at most {amount(left.unseen_sales_minor_max)}: so much was on the wristbands last seen here"
    lines.append(f"What nobody received, of wristbands not used since, CANNOT BE KNOWN. {bound}.")
    return lines


def _sums_text(sums: Sequence[Sum], amount: Callable[[int], str]) -> str:
    texts = [f"{s.taps} x {s.operation.name.lower().replace('_', '-')} ({amount(s.amount_minor)})" for s in sums]
    return ", ".join(texts) or "no taps"


def _amount_writer(history: History) -> Callable[[int], str]:
    return (lambda amount: f"{amount} minor units") if history.currency is None else history.currency.format


def _time(time_ms: int) -> str:
    """The device's claim; some claims lie beyond every calendar."""
    try:
        return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


# -- For programs ------------------------------------------------------------------------------------------------------


def _fields(history: History) -> dict[str, Field]:
    left = history.recovered
    return {
        "name": history.name,
        "devices": [
            {"fingerprint": device.fingerprint, "name": device.name, "revoked": device.serial in left.revoked}
            for device in left.devices
        ],
        "logs": [_log_fields(log) for log in left.logs],
        "held": _sum_fields(left.held),
        "not_counted": _sum_fields(left.not_counted),
        "shown": [_shown_fields(one) for one in left.shown],
        "together": [_shown_fields(one) for one in left.together],
        "perhaps": [_shown_fields(one) for one in left.perhaps],
        "given_up": [_shown_fields(one) for one in left.given_up],
        "hearsay": [
            {"card": one.card.hex(), "log": one.shown_in.log_id.hex(), "seq": one.shown_in.seq} for one in left.hearsay
        ],
        "missing_entries": sum(log.missing for log in left.logs),
        "unseen_sales_minor_max": left.unseen_sales_minor_max,
        "problems": list(history.problems),
    }


def _log_fields(log: LogLeft) -> dict[str, Field]:
    return {
        "log": log.log_id.hex(),
        "lane": None if log.lane is None else log.lane.name,
        "entries": log.entries,
        "known_entries": log.known_entries,
        "first_time_ms": log.first_time_ms,
        "last_time_ms": log.last_time_ms,
        "missing_sales_minor": log.missing_sales_minor,
    }


def _sum_fields(sums: Sequence[Sum]) -> dict[str, Field]:
    return {one.operation.name: {"taps": one.taps, "amount_minor": one.amount_minor} for one in sums}


def _shown_fields(one: Shown) -> dict[str, Field]:
    return {
        "card": one.card.hex(),
        "first_write": one.gap.first_seq,
        "last_write": one.gap.last_seq,
        "spent_minor": one.gap.spent_minor,
        "credited_minor": one.gap.credited_minor,
        "log": one.shown_in.log_id.hex(),
        "seq": one.shown_in.seq,
    }
