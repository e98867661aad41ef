"""How `tapmesh log verify` shows its progress and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mesh.errors import PeerError, StorageError
from mesh.shell.output import Json
from mesh.shell.verify import Blame, Finding, Verdict


class AuthorsAtFault(PeerError):
    """Devices signed what they must not; the files are whole."""


class FileAtFault(StorageError):
    """A file is not what was once accepted."""


@contextmanager
def progress(what: str, *, shown: bool) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error, where that is a terminal; call it with how many are done, of how many."""
    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def finding_line(finding: Finding) -> str:
    """One finding, for people."""
    log = "" if finding.log_id is None else f", log {finding.log_id.hex()}"
    whose = "" if finding.device is None else f" of {finding.device!r}"
    seq = "" if finding.seq is None else f", seq {finding.seq}"
    return f"WRONG: {finding.file}{log}{whose}{seq}: {finding.text} (to blame: {finding.blame.value})"


def finding_fields(finding: Finding) -> dict[str, Json]:
    """One finding, for programs."""
    return {
        "file": finding.file,
        "log": None if finding.log_id is None else finding.log_id.hex(),
        "device": finding.device,
        "seq": finding.seq,
        "blame": finding.blame.name.lower(),
        "text": finding.text,
    }


def verdict_fields(verdict: Verdict) -> dict[str, Json]:
    """The whole, for programs."""
    return {
        "logs": verdict.logs,
        "entries": verdict.entries,
        "signatures": verdict.signatures,
        "unchecked": verdict.unchecked,
        "islands": verdict.islands,
        "findings": len(verdict.findings) + verdict.more,
    }


def raise_verdict(verdict: Verdict) -> None:
    """Raise what the findings come to, or return where there are none."""
    if not verdict.findings:
        return
    count = len(verdict.findings) + verdict.more
    looked = f"{verdict.entries} entries of {verdict.logs} logs were looked at, {count} things are wrong"
    if verdict.unchecked:
        looked += f", {verdict.unchecked} entries could not be checked because their log's beginning is not whole"
    if any(finding.blame is Blame.FILE for finding in verdict.findings):
        raise FileAtFault(
            f"{looked}; at least one is the file's fault. Nothing was changed. Keep a copy of the files. What other "
            f"devices hold comes back from them: 'tapmesh device set-aside' renames replica.db, and the device syncs "
            f"anew. Never put own.db aside: it may be the only place where this device's sales are"
        )
    raise AuthorsAtFault(
        f"{looked}; the file is whole. What a device signed against the rules counts for nothing or is contested; "
        f"everything else counts. Take the named devices aside and ask whoever works there"
    )
