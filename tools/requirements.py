"""`make requirements`: for each line of docs/requirements.md, what proves it.

A line is proven by collected tests that carry `@pytest.mark.proves("S1.7")`, and by committed measurements named in the
document's last column. Three things are faults, and end the command with exit code 1: an implemented line without
proof, a marker that names no line, and a measurement that is not in the tree. A test that is marked to be skipped or to
fail proves nothing. Whether the proofs hold is for `make test` to say.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from enum import Enum
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

TREE: Final = Path(__file__).resolve().parent.parent
DOCUMENT: Final = "docs/requirements.md"
LINE_ID: Final = re.compile(r"(?:M|B|S\d\.)\d+")
COLUMNS: Final = 4

# Requirement line -> the tests that carry its marker, by node id without parameters.
Proofs = Mapping[str, Sequence[str]]


class Status(Enum):
    """How far a line is: the word in the document's second column."""

    IMPLEMENTED = "implemented"
    NOT_YET = "not yet"


class Unclear(Exception):
    """The document or a marker cannot be understood; the message says where."""


@dataclass(frozen=True, slots=True)
class Line:
    """One requirement: `identity` as in `S1.7`, and the measurements (paths in the tree) that prove it beside tests."""

    identity: str
    status: Status
    statement: str
    measurements: tuple[str, ...] = ()


def parse(document: str) -> list[Line]:
    """Read the table rows of the document; raises :class:`Unclear` for a row that is not exactly as it should be."""
    lines: dict[str, Line] = {}
    for number, row in enumerate(document.splitlines(), start=1):
        cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
        if not row.startswith("|") or cells[0] in {"line", "---"}:
            continue
        if len(cells) != COLUMNS or not LINE_ID.fullmatch(cells[0]):
            raise Unclear(f"{DOCUMENT}:{number}: a row is `| line | status | statement | measured by |`")
        identity, status, statement, measured = cells
        if identity in lines:
            raise Unclear(f"{DOCUMENT}:{number}: {identity} is there twice")
        if status not in {known.value for known in Status}:
            raise Unclear(
                f"{DOCUMENT}:{number}: the status of {identity} is '{status}', not 'implemented' or 'not yet'"
            )
        lines[identity] = Line(identity, Status(status), statement, tuple(measured.replace(",", " ").split()))
    return list(lines.values())


def faults(lines: Sequence[Line], proofs: Proofs, tree: Path) -> list[str]:
    """Return one sentence for each reason why the document is not true; empty when it is."""
    known = {line.identity for line in lines}
    found = [
        f"{test} claims to prove {identity}, which is no line of {DOCUMENT}"
        for identity, tests in proofs.items()
        if identity not in known
        for test in tests
    ]
    for line in lines:
        found += [
            f"{line.identity} is measured by {path}, which is not in the tree"
            for path in line.measurements
            if not (tree / path).is_file()
        ]
        if line.status is Status.IMPLEMENTED and not line.measurements and not proofs.get(line.identity):
            found.append(f"{line.identity} is marked implemented, and nothing proves it: {line.statement}")
    return found


def report(lines: Sequence[Line], proofs: Proofs) -> str:
    """Return the lines with their proofs below them, and one sentence of totals."""
    rows = []
    for line in lines:
        rows.append(f"{line.identity:<6}{line.status.value:<13}{line.statement}")
        for test, cases in Counter(proofs.get(line.identity, ())).items():
            rows.append(f"{'':<19}{test}" + (f" ({cases} cases)" if cases > 1 else ""))
        rows += [f"{'':<19}measured: {path}" for path in line.measurements]
    implemented = sum(line.status is Status.IMPLEMENTED for line in lines)
    touched = sum(line.status is Status.NOT_YET and bool(proofs.get(line.identity)) for line in lines)
    rows.append("")
    rows.append(f"{implemented} of {len(lines)} lines are implemented; of the rest, {touched} have a test already.")
    return "\n".join(rows)


@dataclass(slots=True)
class MarkerCollector:
    """A pytest plugin that notes which collected test proves which line."""

    proofs: dict[str, list[str]] = field(default_factory=dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if any(item.get_closest_marker(name) for name in ("skip", "xfail")):
                continue
            test = item.nodeid.split("[")[0]
            for marker in item.iter_markers("proves"):
                if not marker.args or not all(isinstance(identity, str) for identity in marker.args):
                    raise pytest.UsageError(f"{test}: proves() names lines, as in proves('S1.7')")
                for identity in marker.args:
                    self.proofs.setdefault(identity, []).append(test)


def collect(tree: Path) -> Proofs:
    """Let pytest collect the tests below `tree`, without running them; raises :class:`Unclear` if it cannot."""
    collector = MarkerCollector()
    said = StringIO()
    with redirect_stdout(said):
        code = pytest.main(["--collect-only", "-q", "--rootdir", str(tree), str(tree / "tests")], plugins=[collector])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
        raise Unclear(f"pytest could not collect the tests, so nothing is known about their proofs:\n{said.getvalue()}")
    return collector.proofs


def main() -> int:
    """Print the report and the faults; return the exit code."""
    try:
        lines = parse((TREE / DOCUMENT).read_text(encoding="utf-8"))
        proofs = collect(TREE)
    except Unclear as unclear:
        print(unclear, file=sys.stderr)
        return 1
    print(report(lines, proofs))
    found = faults(lines, proofs, TREE)
    for sentence in found:
        print(f"FAULT: {sentence}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
