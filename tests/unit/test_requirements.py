"""The list of requirements cannot claim what nothing proves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.requirements import DOCUMENT, TREE, Line, Status, Unclear, collect, faults, parse, report

DOCUMENT_OF_TWO = """
# Requirements

| line | status | statement | measured by |
|---|---|---|---|
| S1.1 | implemented | A tap clears with no network. | |
| S1.2 | not yet | Local authorisation takes well under 100 ms. | experiments/002/result.json |
"""

IMPLEMENTED = Line("S1.1", Status.IMPLEMENTED, "A tap clears with no network.")
NOT_YET = Line("S1.2", Status.NOT_YET, "Local authorisation takes well under 100 ms.")


def test_document_is_read_as_lines_with_status_and_measurements() -> None:
    first, second = parse(DOCUMENT_OF_TWO)
    assert first == IMPLEMENTED
    assert second == Line("S1.2", Status.NOT_YET, NOT_YET.statement, ("experiments/002/result.json",))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("| S1.1 | done | It works. | |", "not 'implemented' or 'not yet'"),
        ("| S1.1 | implemented | It works. |", "a row is"),
        ("| S1 | implemented | It works. | |", "a row is"),
        ("| S1.1 | not yet | It works. | |\n| S1.1 | not yet | It works. | |", "twice"),
    ],
)
def test_row_that_is_not_as_it_should_be_is_refused(row: str, complaint: str) -> None:
    with pytest.raises(Unclear, match=complaint):
        parse(row)


def test_implemented_line_without_proof_is_a_fault(tmp_path: Path) -> None:
    assert [fault.split()[0] for fault in faults([IMPLEMENTED], {}, tmp_path)] == ["S1.1"]


def test_implemented_line_with_a_test_is_no_fault(tmp_path: Path) -> None:
    assert faults([IMPLEMENTED], {"S1.1": ["tests/test_tap.py::test_clears"]}, tmp_path) == []


def test_line_that_is_not_yet_implemented_needs_no_proof(tmp_path: Path) -> None:
    assert faults([NOT_YET], {}, tmp_path) == []


def test_marker_that_names_no_line_is_a_fault(tmp_path: Path) -> None:
    found = faults([IMPLEMENTED], {"S1.1": ["one"], "S9.9": ["tests/test_tap.py::test_clears"]}, tmp_path)
    assert found == [f"tests/test_tap.py::test_clears claims to prove S9.9, which is no line of {DOCUMENT}"]


def test_committed_measurement_is_a_proof_and_a_missing_one_is_a_fault(tmp_path: Path) -> None:
    measured = Line("S1.1", Status.IMPLEMENTED, "A tap clears.", ("result.json",))
    assert faults([measured], {}, tmp_path) == ["S1.1 is measured by result.json, which is not in the tree"]
    (tmp_path / "result.json").write_text("{}", encoding="utf-8")
    assert faults([measured], {}, tmp_path) == []


def test_report_shows_below_each_line_what_proves_it() -> None:
    shown = report([IMPLEMENTED, NOT_YET], {"S1.1": ["test_clears", "test_clears"], "S1.2": ["test_fast"]})
    assert "test_clears (2 cases)" in shown
    assert shown.endswith("1 of 2 lines are implemented; of the rest, 1 have a test already.")


def test_markers_are_collected_and_a_skipped_test_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    proves(line): proof\n", encoding="utf-8")
    (tmp_path / "tests" / "test_collected_for_requirements.py").write_text(
        "import pytest\n\n"
        "@pytest.mark.proves('S1.1', 'M4')\n@pytest.mark.parametrize('bar', 'AB')\ndef test_tap(bar): ...\n\n"
        "@pytest.mark.skip\n@pytest.mark.proves('S1.2')\ndef test_skipped(): ...\n\n"
        "@pytest.mark.xfail\n@pytest.mark.proves('S1.3')\ndef test_failing(): ...\n",
        encoding="utf-8",
    )
    tap = "tests/test_collected_for_requirements.py::test_tap"
    assert collect(tmp_path) == {"S1.1": [tap, tap], "M4": [tap, tap]}


def test_tests_that_cannot_be_collected_are_an_error_and_not_an_empty_list(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_broken_for_requirements.py").write_text(
        "import there_is_no_such_module", encoding="utf-8"
    )
    with pytest.raises(Unclear, match="there_is_no_such_module"):
        collect(tmp_path)


def test_requirements_of_this_tree_can_be_read() -> None:
    identities = [line.identity for line in parse((TREE / DOCUMENT).read_text(encoding="utf-8"))]
    assert {"M1", "S1.23", "S4.12", "B10"} <= set(identities)
