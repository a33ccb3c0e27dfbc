"""Files for the LMS: Moodle's worksheet, Gradescope's results, JUnit XML, against their documented formats."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from reports import classroom, csvtext, moodle, roster, rubric
from tests.formats import gradescope_takes, moodle_takes
from tests.hostile import FORMULA
from tests.recorded_runs import Group, record

# ---- Moodle


def worksheet(folder: Path, language: str, *rows: list[str], mark: str = "") -> Path:
    """As mod/assign/gradingtable.php writes it."""
    path = folder / "Notes.csv"
    path.write_bytes(mark.encode() + csvtext.written([moodle.HEADERS[language].columns, *rows]))
    return path


def test_moodles_columns_are_the_documented_ones() -> None:
    assert moodle.HEADERS["en"].columns == (
        "Identifier", "Full name", "Email address", "Status", "Grade", "Maximum grade",
        "Grade can be changed", "Last modified (grade)", "Feedback comments",
    )  # fmt: skip
    assert moodle.HEADERS["fr"].columns == (
        "Identifiant", "Nom complet", "Adresse de courriel", "Statut", "Note", "Note maximale",
        "La note peut être modifiée", "Dernière modification (note)", "Feedback par commentaires",
    )  # fmt: skip


@pytest.mark.parametrize(("language", "decimal", "space"), [("en", ".", " "), ("fr", ",", "")])
def test_moodles_worksheet_is_filled_in_and_otherwise_as_it_was(
    tmp_path: Path, members: list[classroom.Member], language: str, decimal: str, space: str
) -> None:
    maximum = f"20{decimal}00"
    rows = [
        [
            f"Participant{space}{n}",
            f"Étudiant {n}",
            f"student{n:03d}a@example.org",
            "-",
            "",
            maximum,
            "Oui",
            "-",
            "",
        ]
        for n in (1, 2, 3)
    ]
    rows.append(
        [
            f"Participant{space}9",
            FORMULA,
            "nobody@example.org",
            "-",
            f"7{decimal}00",
            maximum,
            "Oui",
            "x",
            "kept",
        ]
    )
    given = worksheet(tmp_path, language, *rows, mark="\ufeff")
    sheet = moodle.filled(given, members)
    taken = moodle_takes(sheet.content, language, decimal)
    by_name = {each.name: each for each in members}
    for n in (1, 2, 3):
        points = by_name[f"Group {n:02d}"].grade
        assert points is not None
        final = None if points.final is None else float(points.final)
        assert taken[str(n)][0] == final, "a grade that is not final stays empty: Moodle leaves it as it is"
        assert ("NAT VM" if language == "en" else "VM en mode NAT") in taken[str(n)][1]
    assert taken["9"] == (7.0, "kept")
    assert "Participant" in sheet.notes[0]
    assert "'=HYPERLINK" in sheet.content.decode()
    assert sheet.content.decode().count("\r\n") == 5


def test_moodles_worksheet_goes_by_group_too(tmp_path: Path, members: list[classroom.Member]) -> None:
    path = tmp_path / "w.csv"
    path.write_text(
        "Identifier,Full name,Group,Grade,Maximum grade,Last modified (grade),Feedback comments\n"
        "Participant 5,A B,group 02,,20.00,-,\n"
    )
    (row,) = csv.DictReader(io.StringIO(moodle.filled(path, members).content.decode()))
    assert "Docker" in row["Feedback comments"]


@pytest.mark.parametrize("language", ["en", "fr"])
def test_a_worksheet_is_made_of_the_rosters_identifiers(tmp_path: Path, language: str) -> None:
    record(tmp_path / "a", Group("A", 2))
    record(tmp_path / "b", Group("B", 4, ("not entered",)))
    path = tmp_path / "roster.csv"
    path.write_text(
        "group,members,moodle\nA,x@y.org z@y.org,Participant 11;Participant 12\nB,,Participant 13\n"
    )
    found = classroom.gather([tmp_path], rubric.load(), roster.load(path))
    taken = moodle_takes(moodle.made(found, language).content, language, "." if language == "en" else ",")
    assert {key: mark for key, (mark, _) in taken.items()} == {"11": 20.0, "12": 20.0, "13": None}
    assert ("open, for the instructor" if language == "en" else "en suspens") in taken["13"][1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Name,Grade\nA,1\n", "line 1: neither Identifier nor Identifiant is a column"),
        ("Identifier,Grade\nParticipant 1,\n", "line 1: no column Last modified (grade)"),
        ("Identifier,Grade,Last modified (grade)\n=1+1,,-\n", "line 2: '=1+1' is no identifier"),
        (
            "Identifier,Email address,Grade,Maximum grade,Last modified (grade)\n"
            "Participant 1,student010a@example.org,,100.00,-\n",
            "Maximum grade is 100.00, the rubric's is 20",
        ),
    ],
)
def test_a_wrong_worksheet_is_refused(
    tmp_path: Path, members: list[classroom.Member], content: str, said: str
) -> None:
    final = next(each for each in members if each.grade and each.grade.final is not None)
    assert final.entry is not None
    path = tmp_path / "w.csv"
    path.write_text(content.replace("student010a@example.org", final.entry.members[0]))
    with pytest.raises(csvtext.TableError) as caught:
        moodle.filled(path, members)
    assert said in str(caught.value)


# ---- Gradescope, JUnit


def test_gradescopes_results_keep_its_format(written: Path, members: list[classroom.Member]) -> None:
    for member in members:
        results = json.loads((written / "gradescope" / f"{member.slug}.json").read_text())
        gradescope_takes(results)
        assert member.grade is not None
        open_ = float(member.grade.sum("open"))
        assert (results["visibility"] == "hidden") == bool(open_)
        assert results["extra_data"]["open_points"] == open_
        assert bool(open_) == ("the instructor decides" in results["output"])
        assert not any("status" in test for test in results["tests"] if "open, for the" in test["output"])


def test_junit_tells_fail_unproven_and_not_run_apart(written: Path, members: list[classroom.Member]) -> None:
    root = ET.parse(written / "junit.xml").getroot()
    suites = {each.get("name"): each for each in root}
    for member in members:
        suite = suites[member.name]
        verdicts = list(member.verdicts.values())
        assert int(suite.get("tests", "")) == len(verdicts)
        assert (
            int(suite.get("failures", "")) == verdicts.count("fail") == len(suite.findall("testcase/failure"))
        )
        assert (
            int(suite.get("errors", "")) == verdicts.count("unproven") == len(suite.findall("testcase/error"))
        )
