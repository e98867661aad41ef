"""`tapmesh log`: look into any device's store, running, stopped or damaged. Changes nothing."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click

from mesh.cli_output import errors_shown, say
from mesh.cli_verify import finding_fields, finding_line, progress, raise_verdict, verdict_fields
from mesh.core.certificate import parse_venue_root
from mesh.errors import StorageError
from mesh.shell.keys import read_certificate
from mesh.shell.looking import Look, SeenEntry, SeenLog, find_log, look_into
from mesh.shell.verify import verify_store
from mesh.views.entry_fields import Shown, entry_fields, kind_name
from mesh.views.trust import LogTrust

_DIRECTORY = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The device's directory.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_SEQ = click.IntRange(min=0)


class NotWhole(StorageError):
    """Something in the store could not be read; what could be was shown."""


@click.group()
def log() -> None:
    """Look into a device's store."""


@log.command()
@_DIRECTORY
@_JSON
def ls(directory: Path, as_json: bool) -> None:
    """List every log that the device in DIR holds, its own first."""
    with errors_shown():
        look = look_into(directory)
        logs = look.logs()
        contested = look.contested_from(logs)
        trust = look.trust(logs, contested)
        for seen in logs:
            standing = None if seen.genesis is None else trust.log_trust(seen.log_id)
            fields = _log_fields(seen, contested.get(seen.log_id)) | _trust_fields(standing)
            line = _log_line(seen, contested.get(seen.log_id)) + _trust_text(standing)
            say(json.dumps(fields) if as_json else line)
        if not as_json:
            say(f"{len(logs)} logs, {sum(seen.entries for seen in logs)} entries")
        _end(look)


@log.command()
@click.argument("log_id")
@_DIRECTORY
@click.option("--from", "first_seq", type=_SEQ, default=0, help="Begin at this seq.")
@click.option("--to", "last_seq", type=_SEQ, help="End with this seq.")
@_JSON
@click.option("--raw", is_flag=True, help="The signed bytes of each entry, in hexadecimal.")
def show(log_id: str, directory: Path, first_seq: int, last_seq: int | None, as_json: bool, raw: bool) -> None:
    """Show the entries of the log whose id begins with LOG_ID. Amounts are in the currency's minor unit."""
    with errors_shown():
        look = look_into(directory)
        seen_log = find_log(look.logs(), log_id)
        if not (as_json or raw):
            say(_log_line(seen_log, None))
        for seen in look.entries(seen_log, first_seq, last_seq):
            if raw:
                say(seen.data.hex())
            elif as_json:
                say(json.dumps(_entry_fields(look, seen)))
            else:
                say(_entry_lines(look, seen))
        _end(look)


@log.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--root",
    "root_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The venue's root certificate ('tapmesh venue root'); trust no copy out of the store that is verified.",
)
@click.option("--all", "show_all", is_flag=True, help="Name everything that is wrong, not only what comes first.")
@_JSON
def verify(path: Path, root_file: Path, show_all: bool, as_json: bool) -> None:
    """Verify every entry, signature, role and link of the store in PATH, a device's directory or one of its files.

    Works on a copy, on a device that runs, and on a damaged file as far as it can be read. Changes nothing.
    Exit code 0: all of it holds. 3: the files are whole, but a device signed what it must not. 4: a file is damaged.

    \b
      tapmesh log verify ./bar-a --root venue.pem
      tapmesh log verify /media/stick/replica.db --root venue.pem --all
    """
    with errors_shown():
        root = parse_venue_root(read_certificate(root_file, "the venue's root certificate"))
        with progress("verifying", shown=not as_json) as tell:
            verdict = verify_store(path, root, tell)
        shown = verdict.findings if show_all or as_json else verdict.findings[:1]
        for finding in shown:
            say(json.dumps(finding_fields(finding)) if as_json else finding_line(finding))
        if as_json:
            say(json.dumps(verdict_fields(verdict)))
        raise_verdict(verdict)
    if not as_json:
        say(f"{verdict.entries} entries of {verdict.logs} logs verified: every signature, role and link holds")


def _end(look: Look) -> None:
    if look.problems:
        raise NotWhole(
            f"{'; '.join(look.problems)}. Everything else was shown. Nothing was changed: keep a copy of the files; "
            f"what other devices hold of these logs comes back from them"
        )


def _trust_fields(standing: LogTrust | None) -> dict[str, Shown]:
    if standing is None or not standing.revoked:
        return {"revoked": False}
    cuts: list[Shown] = [None if cut is None else {"seq": cut.seq, "id": cut.id.hex()} for cut in standing.cuts]
    return {"revoked": True, "cuts": cuts, "counted_to": standing.counted_to}


def _trust_text(standing: LogTrust | None) -> str:
    if standing is None or not standing.revoked:
        return ""
    if standing.counted_to is not None:
        return f", REVOKED, counts to {standing.counted_to}"
    if None in standing.cuts:
        return ", REVOKED, nothing of it counts"
    return ", REVOKED, nothing of it counts until the entry of its cut arrives"


def _log_fields(seen: SeenLog, contested_from: int | None) -> dict[str, Shown]:
    certificate = None if seen.genesis is None else seen.genesis.certificate
    return {
        "log": seen.log_id.hex(),
        "file": seen.file,
        "device": None if certificate is None else certificate.name,
        "roles": [] if certificate is None else sorted(role.value for role in certificate.roles),
        "lane": None if seen.genesis is None else seen.genesis.lane.name,
        "entries": seen.entries,
        "bytes": seen.size_bytes,
        "heads": [{"seq": b.head.seq, "id": b.head.id.hex()} for b in seen.branches if b.attached],
        "forks": len(seen.forks),
        "islands": seen.islands,
        "contested_from": contested_from,
        "unverified": seen.unverified,
    }


def _log_line(seen: SeenLog, contested_from: int | None) -> str:
    whose = "unknown device"
    if seen.genesis is not None:
        certificate = seen.genesis.certificate
        roles = ", ".join(sorted(role.value for role in certificate.roles))
        whose = f"{certificate.name} ({roles}) {seen.genesis.lane.name.lower()}"
    heads = ", ".join(f"{b.head.seq}:{b.head.id.hex()[:12]}" for b in seen.branches if b.attached)
    notes = [
        f"{len(seen.forks)} forks" if seen.forks else "",
        f"{seen.islands} islands" if seen.islands else "",
        f"contested from {contested_from}" if contested_from is not None else "",
        f"{seen.unverified} signatures to verify" if seen.unverified else "verified",
    ]
    described = ", ".join(note for note in notes if note)
    return f"{seen.log_id.hex()}  {whose}: {seen.entries} entries, {seen.size_bytes} bytes, head {heads}, {described}"


def _entry_fields(look: Look, seen: SeenEntry) -> dict[str, Shown]:
    if seen.entry is None:
        return {"branch": seen.branch, "seq": seen.seq, "problem": seen.problem, "bytes": seen.data.hex()}
    return {"branch": seen.branch, **entry_fields(seen.entry, look.root)}


def _entry_lines(look: Look, seen: SeenEntry) -> str:
    where = f"{seen.seq}" if seen.branch == 0 else f"{seen.seq} (branch {seen.branch})"
    if seen.entry is None:
        return f"{where}  CANNOT BE READ: {seen.problem}\n    {seen.data.hex()}"
    entry = seen.entry
    body = entry_fields(entry, look.root)["body"]
    assert isinstance(body, dict)
    lines = [f"{where}  {kind_name(entry.kind)}  {_time(entry.time_ms)}  {entry.id.hex()}"]
    lines += [f"    {name}: {_plain(value)}" for name, value in body.items()]
    return "\n".join(lines)


def _plain(value: Shown) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _time(time_ms: int) -> str:
    """The device's claim; some claims lie beyond every calendar."""
    try:
        return datetime.datetime.fromtimestamp(time_ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
