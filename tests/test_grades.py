"""Rubrics and grades: points that add up, and nothing unproven that counts as a zero."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import __main__ as command_line
from reports.claims import load as load_claims
from reports.grades import grade, rounded
from reports.rubric import RUBRICS, Rubric, RubricError, load, show
from reports.runfile import Verdict

SMALL = """\
title = "small"
points = 6
out_of = 20
{options}
[[objective]]
name = "first"
points = 4
[objective.claims]
OS-05 = 3
OS-06 = {{ points = 1, partial = "none" }}

[[objective]]
name = {{ en = "second", fr = "deuxième" }}
points = 2
[objective.claims]
TOP-05 = 2
"""


def rubric(folder: Path, options: str = "", content: str = SMALL) -> Rubric:
    path = folder / "rubric.toml"
    path.write_text(content.format(options=options), encoding="utf-8")
    return load(path)


def run(**checks: str) -> dict[str, Any]:
    """A run in which each claim has as many checks as verdicts are named: ``OS_05="pass fail"``."""
    claims, made = {}, []
    for name, verdicts in checks.items():
        claim = name.replace("_", "-")
        said = verdicts.split()
        for number, verdict in enumerate(each for each in said if each != "none"):
            made.append(
                {
                    "id": f"t::{claim}{number}", "claims": [claim], "verdict": verdict,
                    "reason": f"{claim} is {verdict}",
                }
            )  # fmt: skip
        worst = next((v for v in ("fail", "unproven") if v in said), None)
        settled = None if "none" in said else "pass" if "pass" in said else "skip"
        claims[claim] = {"objective": 6, "text": claim, "verdict": worst or settled}
    return {"run": "20261121-023000-ab12c", "claims": claims, "checks": made}


def test_the_rubric_that_ships_grades_every_claim_of_objectives_4_to_12() -> None:
    shipped = load()
    assert shipped.points == sum(part.points for part in shipped.parts) == 100
    assert set(shipped.claims) == {c.id for c in load_claims().values() if 4 <= c.objective <= 12}
    assert shipped.unproven == "open"
    assert [path.name for path in RUBRICS.iterdir()] == ["lab.toml"]


def test_all_proven_is_all_points(tmp_path: Path) -> None:
    points = grade(run(OS_05="pass", OS_06="pass pass", TOP_05="pass"), rubric(tmp_path))
    assert (points.final, points.sum("earned"), points.flagged) == (20, 6, ())


def test_a_failed_claim_loses_its_points_and_no_others(tmp_path: Path) -> None:
    points = grade(run(OS_05="pass fail", OS_06="pass", TOP_05="pass"), rubric(tmp_path))
    assert points.sum("earned") == points.sum("lost") == 3
    assert points.final == 10


def test_unproven_is_open_and_no_zero(tmp_path: Path) -> None:
    points = grade(run(OS_05="unproven", OS_06="fail", TOP_05="pass"), rubric(tmp_path))
    assert points.final is None
    assert (points.lowest, points.highest) == (Fraction("6.67"), Fraction("16.67"))
    assert [(each.worth.claim, each.open, each.flag) for each in points.flagged] == [
        ("OS-05", 3, "OS-05 is unproven")
    ]
    assert points.as_json()["grade"] is None


@pytest.mark.parametrize(("rule", "final"), [("excluded", Fraction("13.33")), ("full", Fraction("16.67"))])
def test_a_rubric_says_otherwise_what_unproven_counts(tmp_path: Path, rule: str, final: Fraction) -> None:
    points = grade(
        run(OS_05="unproven", OS_06="fail", TOP_05="pass"), rubric(tmp_path, f'unproven = "{rule}"')
    )
    assert points.final == final
    assert [each.worth.claim for each in points.flagged] == ["OS-05"]


def test_what_did_not_run_is_open_however_the_rest_went(tmp_path: Path) -> None:
    points = grade(run(OS_05="none", OS_06="pass none", TOP_05="pass"), rubric(tmp_path))
    assert points.sum("open") == 4
    assert points.final is None


def test_what_was_not_to_be_looked_at_does_not_count(tmp_path: Path) -> None:
    points = grade(run(OS_05="pass", TOP_05="skip"), rubric(tmp_path))
    assert (points.sum("excluded"), points.counted, points.final) == (3, 3, 20)
    assert points.flagged == ()
    held = grade(run(OS_05="pass", TOP_05="skip"), rubric(tmp_path, 'not_examined = "open"'))
    assert (held.final, held.sum("open"), len(held.flagged)) == (None, 3, 2)


def test_nothing_examined_is_no_grade(tmp_path: Path) -> None:
    points = grade(run(), rubric(tmp_path))
    assert points.final is points.lowest is points.highest is None


def test_partial_credit_goes_by_checks(tmp_path: Path) -> None:
    made = rubric(tmp_path, 'partial = "checks"')
    points = grade(run(OS_05="pass fail unproven", OS_06="pass fail", TOP_05="pass skip"), made)
    first = points.claims[0]
    assert (first.earned, first.open, first.lost) == (1, 1, 1)
    assert points.claims[1].earned == 0, "the claim's own rule goes before the file's"
    assert points.claims[2].earned == 2


verdicts = st.lists(st.sampled_from([*map(str, Verdict), "none"]), min_size=1, max_size=4).map(" ".join)


@given(
    a=verdicts, b=verdicts, c=verdicts, partial=st.sampled_from(("none", "checks")),
    unproven=st.sampled_from(("open", "excluded", "full")),
)  # fmt: skip
def test_points_always_add_up_and_only_a_failure_loses_any(
    tmp_path_factory: pytest.TempPathFactory, a: str, b: str, c: str, partial: str, unproven: str
) -> None:
    made = rubric(tmp_path_factory.mktemp("r"), f'partial = "{partial}"\nunproven = "{unproven}"')
    points = grade(run(OS_05=a, OS_06=b, TOP_05=c), made)
    for each in points.claims:
        parts = (each.earned, each.open, each.excluded, each.lost)
        assert min(parts) >= 0
        assert sum(parts) == each.worth.points
    lost = {each.worth.claim for each in points.claims if each.lost}
    failed = {name for name, said in (("OS-05", a), ("OS-06", b), ("TOP-05", c)) if "fail" in said}
    assert lost <= failed
    if points.lowest is not None and points.highest is not None:
        assert 0 <= points.lowest <= points.highest <= 20


@pytest.mark.parametrize(
    ("was", "instead", "said"),
    [
        ("OS-05 = 3", "OS-5 = 3", "line 9: objective.1.claims.OS-5: unknown claim; OS-05?"),
        ("OS-05 = 3", "OS-05 = 2", "line 7: objective.1.points: is 4, but its claims' points add up to 3"),
        ("points = 6", "points = 7", "line 2: points: is 7, but the objectives' points add up to 6"),
        ("OS-05 = 3", "OS-05 = -3", "line 9: objective.1.claims.OS-05: -3 is no number of points"),
        ("OS-05 = 3", "OS-05 = nan", "objective.1.claims.OS-05: 'NaN' is no number of points"),
        ("OS-05 = 3", "OS-05 = true", "objective.1.claims.OS-05: True is no number"),
        ("TOP-05 = 2", "OS-06 = 2", "line 16: objective.2.claims.OS-06: is graded in objective 1 already"),
        ('title = "small"', "", "title"),
        ("points = 6", "points = 6\nlate_days = 2", "line 3: late_days: late and bonus rules are left to the LMS"),
        ("points = 6", 'points = 6\nunproven = "zero"', "never zero by itself"),
        ("points = 6", 'points = 6\npartial = "some"', "line 3: partial: 'some' is none of none, checks"),
        ("points = 6", "points = 6\nround_to = 0", "line 3: round_to: 0 is no number above 0"),
        ("points = 6", "points = 6\ncolour = 1", "line 3: colour: unknown key; there are title"),
        ('name = "first"', "", "objective.1: has no name"),
        ("[objective.claims]\nOS-05 = 3\nOS-06 = {{ points = 1, partial = \"none\" }}", "", "lists no claims"),
        ("OS-05 = 3", "OS-05 = 3\nOS-05 = 3", "cannot be read"),
        ("title", "[[[", "cannot be read"),
    ],
)  # fmt: skip
def test_a_wrong_rubric_is_refused_with_the_line(tmp_path: Path, was: str, instead: str, said: str) -> None:
    if was.startswith("title =") and not instead:
        rubric(tmp_path, content=SMALL.replace(was, instead))  # a title can be left out
        return
    assert was in SMALL
    with pytest.raises(RubricError) as caught:
        rubric(tmp_path, content=SMALL.replace(was, instead, 1))
    assert all(line.startswith(str(tmp_path / "rubric.toml")) for line in caught.value.problems)
    assert said in str(caught.value)


def test_lines_are_right_where_values_run_over_several(tmp_path: Path) -> None:
    content = 'title = """\n[[objective]]\nOS-99 = 1\n"""\n' + SMALL.partition("\n")[2].replace(
        "OS-05", "OS-99"
    )
    with pytest.raises(RubricError, match=r"line 12: objective\.1\.claims\.OS-99: unknown claim"):
        rubric(tmp_path, content=content)


def test_all_that_is_wrong_is_named_at_once_in_order(tmp_path: Path) -> None:
    content = SMALL.replace("OS-05", "OS-99").replace("TOP-05", "TOP-99").replace("out_of = 20", "out_of = 0")
    with pytest.raises(RubricError) as caught:
        rubric(tmp_path, content=content)
    assert [line.partition(": ")[2].partition(":")[0] for line in caught.value.problems] == [
        "line 3", "line 9", "line 16"
    ]  # fmt: skip


def test_a_rubric_is_named_or_is_a_file(tmp_path: Path) -> None:
    assert load("lab").source == RUBRICS / "lab.toml"
    with pytest.raises(RubricError, match=r"nothing: no rubric of that name ships \(there are: lab\)"):
        load("nothing")
    with pytest.raises(RubricError, match="cannot be read"):
        load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [("13.125", "0.25", "13.25"), ("13.1249", "0.25", "13"), ("12.5", "1", "13"), ("9.999", "0.01", "10")],
)
def test_grades_are_rounded_half_up(value: str, step: str, expected: str) -> None:
    assert rounded(Fraction(value), Fraction(step)) == Fraction(expected)
    assert show(Fraction(1, 3)) == "0.33"


def test_the_command_grades_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.recorded_runs import Group, record

    path = record(tmp_path, Group("Group 01", 1, ("no route", "cloud down")))
    assert command_line.main(["grade", str(path.parent)]) == 0
    said = capsys.readouterr().out
    assert "decide: OP-01 (1): the compute API did not answer within 60 s" in said
    assert "not final: points are open" in said
    document = json.loads((path.parent / "grade.json").read_text())
    assert document["grade"] is None
    assert document["points"]["open"] == 10
    assert document["points"]["lost"] == 6
    page = (path.parent / "grade.html").read_text()
    assert "For the instructor to decide" in page
    (tmp_path / "bad.toml").write_text("points = 1\n[[objective]]\n")
    assert command_line.main(["grade", str(path), "--rubric", str(tmp_path / "bad.toml")]) == 2
    assert "bad.toml: line 2: objective.1" in capsys.readouterr().err
