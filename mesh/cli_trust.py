"""`tapmesh venue revoke` and `rotate-bundle-key`: the office takes a device out, and says what of it counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import click
import trio

from mesh.cli_device import DIRECTORY, FILE, describe
from mesh.cli_output import errors_shown, say
from mesh.core.enrolment import make_starter
from mesh.core.entry import ID_BYTES, LOG_ID_BYTES
from mesh.core.kinds import Operation
from mesh.limits import ENTRY_SEQ_MAX
from mesh.shell.bundle_key import Rotated
from mesh.shell.files import require_absent, write_new_file
from mesh.shell.revoke import CutWish, Outcome, Place, Wish, retire, revoke, rotate_bundle_key
from mesh.shell.venue import NoDocument, edit_document, starter
from mesh.views.automerge_document import Edit
from mesh.views.card_account import TapFact

_PLACE: Final = re.compile(rf"([0-9a-f]{{4,{2 * LOG_ID_BYTES}}}):([0-9]{{1,10}})(?::([0-9a-f]{{4,{2 * ID_BYTES}}}))?")
_VENUE = click.option("--venue", type=DIRECTORY, required=True, help="The directory that 'venue init' made.")


class _CutType(click.ParamType["Wish | Place"]):
    name = "held|none|LOG:SEQ[:ID]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Wish | Place:
        if isinstance(value, Wish | Place):
            return value
        text = str(value).lower()
        if text in {wish.value for wish in Wish}:
            return Wish(text)
        match = _PLACE.fullmatch(text)
        if match is None or int(match[2]) > ENTRY_SEQ_MAX:
            self.fail(f"{value!r} is no cut: write held, none, or LOG:SEQ as 'tapmesh log ls' shows them", param, ctx)
        return Place(match[1], int(match[2]), match[3] or "")


@click.command("revoke")
@click.argument("name")
@_VENUE
@click.option(
    "--cut",
    "cuts",
    type=_CutType(),
    multiple=True,
    help="What of the device still counts: everything held here now [default the first time], nothing, or its log LOG "
    "up to entry SEQ; repeatable for several logs.",
)
@click.option("--out", type=FILE, help="New file that any device can take with 'tapmesh device load'.")
def revoke_command(name: str, venue: Path, cuts: tuple[Wish | Place, ...], out: Path | None) -> None:
    """End the venue's trust in the device NAME, or say anew what of it counts. A fingerprint will do for NAME.

    Its links close wherever this is heard. What it sold stays, and its bar is paid; outside the cut no wristband is
    debited. The manager's device carries the statement: start it, or hand the file of --out to a device. Its name is
    free for the device that takes its place.

    \b
      tapmesh venue revoke "Bar A" --venue ./event --out bar-a-is-out.starter
      tapmesh venue revoke "Bar A" --venue ./event --cut 5e1fa0c2:118      what it sold until then counts after all
    """
    with errors_shown():
        if out is not None:
            require_absent(out)
        outcome = trio.run(partial(revoke, venue, name, _wish(cuts)))
        amount = _amount_writer(venue)
        if out is not None:
            write_new_file(out, make_starter(trio.run(starter, venue)), private=True)
    _say_outcome(outcome, amount)
    if out is not None:
        say(f"Written to {out}: hand it to any device ('tapmesh device load'), it passes the statement on.")


@click.command("retire")
@click.argument("name")
@_VENUE
def retire_command(name: str, venue: Path) -> None:
    """Free the name of a device that is gone for good, for the one that takes its place.

    For a device whose disk nobody else can have: dead, and in your hands. Its taps and the wristbands it wrote go on
    counting, so wristbands bring back what it lost. If somebody else may have the disk: 'tapmesh venue revoke', which
    frees the name as well.

    \b
      tapmesh venue retire "Bar B" --venue ./event
    """
    with errors_shown():
        certificate, is_new = retire(venue, name)
    say(f"{'Retired' if is_new else 'Was retired already'}: {describe(certificate)}. Its name is free, its code void.")
    say(f"Next: tapmesh venue enrol --from readers.csv --venue {venue}, with {certificate.name!r} still on the list.")
    say(f"If it ever turns up: another has the name, so say tapmesh venue revoke '{certificate.fingerprint}'.")


@click.command("rotate-bundle-key")
@_VENUE
def rotate_command(venue: Path) -> None:
    """Give the venue a new key for courier bundles.

    Every live device but couriers can open it, and old bundles stay readable. Revoking a device does this by itself.
    """
    with errors_shown():
        rotated = trio.run(rotate_bundle_key, venue)
    _say_rotated(rotated)


def _wish(cuts: Sequence[Wish | Place]) -> CutWish:
    wishes = [cut for cut in cuts if isinstance(cut, Wish)]
    places = [cut for cut in cuts if isinstance(cut, Place)]
    if wishes and len(cuts) > 1:
        raise click.UsageError("'held' and 'none' stand alone; nothing was signed")
    return wishes[0] if wishes else places or None


def _amount_writer(venue: Path) -> Callable[[int], str]:
    """In the venue's currency, or in minor units where its document cannot be read: no reason to revoke nobody."""
    try:
        return trio.run(edit_document, venue, Edit()).currency.format
    except NoDocument:
        return lambda amount: f"{amount} minor units"


def _say_outcome(outcome: Outcome, amount: Callable[[int], str]) -> None:
    statement = outcome.statement
    if not outcome.is_new:
        say(f"{describe(outcome.device)} was revoked already, by statement {statement.number}. Nothing was changed.")
        return
    say(f"Revoked: {describe(outcome.device)}, by statement {statement.number}.")
    for log_id, place in sorted(statement.cut.items()):
        say(f"  counts: log {log_id.hex()} up to entry {place.seq} ({place.id.hex()[:16]})")
    if not statement.cut:
        say("  nothing of it counts. If that is only because this office held none of its entries: let the manager's")
        say(f"  device meet the others, then 'tapmesh venue revoke {outcome.device.name!r} --cut held' counts them.")
    if outcome.left_out:
        say(f"  {outcome.left_out} logs found no room in the cut: nothing of them counts.")
    for text, facts in (("no longer count", outcome.no_longer), ("count again", outcome.again)):
        if facts:
            say(f"  {_money(facts, amount)} {text}, of what this office holds.")
    if not (outcome.no_longer or outcome.again):
        say("  In money nothing changes, of what this office holds.")
    say("Whatever it sold outside that is kept, its bar is paid from suspense, and no wristband is debited.")
    if outcome.rotated is not None:
        _say_rotated(outcome.rotated)


def _money(facts: Sequence[TapFact], amount: Callable[[int], str]) -> str:
    sums: dict[int, list[int]] = {}
    for fact in facts:
        sums.setdefault(fact.operation, []).append(fact.amount_minor)
    parts = [
        f"{len(amounts)} x {Operation(operation).name.lower().replace('_', '-')} ({amount(sum(amounts))})"
        for operation, amounts in sorted(sums.items())
    ]
    return ", ".join(parts)


def _say_rotated(rotated: Rotated) -> None:
    holders = ", ".join(rotated.holders) or "nobody"
    say(f"Bundle key: generation {rotated.name.generation} ({rotated.name.key_id.hex()}), for {holders}.")
    for name in rotated.left_out:
        say(f"  {name!r} cannot be given it: its certificate's link key is not usable. Enrol it anew.")
