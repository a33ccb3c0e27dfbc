"""What Moodle and Gradescope make of a file, as their sources and their documentation say."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pytest

from reports import moodle

_RESULTS = {"score", "execution_time", "output", "output_format", "test_output_format", "test_name_format",
            "visibility", "stdout_visibility", "extra_data", "tests", "leaderboard"}  # fmt: skip
_TEST = {"score", "max_score", "status", "name", "name_format", "number", "output", "output_format", "tags",
         "visibility", "extra_data"}  # fmt: skip
_VISIBILITY = {"hidden", "after_due_date", "after_published", "visible"}


def gradescope_takes(results: dict[str, Any]) -> None:
    """The format of https://gradescope-autograders.readthedocs.io/en/latest/specs/."""
    assert set(results) <= _RESULTS
    assert isinstance(results["score"], float)
    assert isinstance(results["execution_time"], int)
    assert results["visibility"] in _VISIBILITY
    assert results["stdout_visibility"] in _VISIBILITY
    assert results["output_format"] in {"text", "html", "simple_format", "md", "ansi"}
    for test in results["tests"]:
        assert set(test) <= _TEST
        assert 0 <= test["score"] <= test["max_score"]
        assert test.get("status", "passed") in {"passed", "failed"}
        assert test["visibility"] in _VISIBILITY
        assert all(isinstance(test[key], str) for key in ("name", "number", "output"))
        assert all(isinstance(each, str) for each in test["tags"])
    assert results["score"] == pytest.approx(sum(test["score"] for test in results["tests"]))


def moodle_takes(content: bytes, language: str, decimal: str) -> dict[str, tuple[float | None, str]]:
    """What importgradeslib.php makes of a file: identifier -> grade (None is skipped) and comment."""
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"))))
    names = moodle.HEADERS[language]
    columns = {name: rows[0].index(name) for name in (names.identifier, names.grade, names.modified)}
    feedback = rows[0].index(names.feedback)
    assert feedback > 0, "Moodle takes no feedback from the first column"
    taken = {}
    for row in rows[1:]:
        unique = re.fullmatch(r"Participant ?(\d+)", row[columns[names.identifier]])
        assert unique is not None
        mark = row[columns[names.grade]].replace(decimal, ".")
        taken[unique[1]] = (float(mark) if mark else None, row[feedback])
    return taken
