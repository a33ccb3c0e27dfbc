"""A class's pages and files: what they hold, the formats they keep, and hostile input in each of them."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import xml.etree.ElementTree as ET
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from probes.observation import Observation, Outcome
from reports import __main__ as command_line
from reports import (
    classroom,
    csvtext,
    gradescope,
    handing,
    history,
    historypage,
    html,
    junit,
    moodle,
    roster,
    rubric,
)
from reports.claims import load as load_claims
from reports.grades import grade
from reports.runfile import Check, RunFile, Verdict, new_run_id, read
from tests.hostile import EVIL, FORMULA, HUGE, MARKUP, Page
from tests.recorded_runs import Group, class_of, nights, record


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    class_of(folder, 12)
    later = datetime.fromisoformat("2026-12-01T08:00:00+01:00")
    record(folder / "group-01" / "runs", Group("Group 01", 1, ("no route",)), later)
    return folder


@pytest.fixture(scope="module")
def members(course: Path) -> list[classroom.Member]:
    return classroom.gather([course], rubric.load(), roster.load(course / "roster.csv"))


@pytest.fixture(scope="module")
def written(course: Path, members: list[classroom.Member], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    handing.write_class(folder, members, rubric.load(), say=lambda line: None)
    return folder


def evil_run(folder: Path, group: str = "evil") -> Path:
    """A run whose every text is hostile, recorded as any other."""
    run = RunFile(new_run_id(), load_claims(), lab=EVIL)
    checks = []
    for number, verdict in enumerate(Verdict):
        look = Observation(EVIL, EVIL, EVIL, EVIL, Outcome.REACHABLE, EVIL + HUGE, {}, 5.0, 0.1)
        checks.append(
            Check(
                f"suites/t.py::test_{number}[{EVIL}]", (("OS-05", "OS-06", "TOP-05", "CT-01")[number],),
                title=EVIL, verdict=verdict, reason=EVIL, diagnosis=[EVIL, HUGE], observations=[look],
                traceback=EVIL + HUGE, left_behind=EVIL, started=4.0,
            )
        )  # fmt: skip
    run.planned = {each.id: each.claims for each in checks}
    run.facts = {EVIL: EVIL}
    run.timings = [{"step": EVIL, "seconds": 1.0}]
    run.drawings = [
        {"title": EVIL, "svg": "<svg xmlns='http://www.w3.org/2000/svg' class='lp-topology' onload='alert(1)'>"
         "<style>body{display:none}</style><a href='http://evil.invalid'><text>x</text></a>"
         "<g id='lp-objectives' style='position:fixed'><title>vm</title><rect class='lp-box'/></g></svg>"}
    ]  # fmt: skip
    run.open(folder / group / "runs")
    for each in checks:
        run.record(each)
    run.exit_status = 1
    run.write()
    assert run.path is not None
    return run.path


# ---- the pages


def test_each_group_has_its_newest_run_and_a_page(written: Path, members: list[classroom.Member]) -> None:
    overview = Page((written / "index.html").read_text())
    assert overview.harmless()
    for member in members:
        page = (written / "groups" / f"{member.slug}.html").read_text()
        assert f"<h1>{member.name}</h1>" in page
        assert member.run in page
        others = [each.name for each in members if each is not member]
        assert not any(f">{name}<" in page for name in others), "a page to hand back names no other group"


def test_each_cell_leads_to_its_evidence(written: Path, members: list[classroom.Member]) -> None:
    overview = Page((written / "index.html").read_text())
    cells = [each for each in overview.links if "#" in each and each.startswith("groups/")]
    assert len(cells) == sum(len(each.verdicts) for each in members)
    ids = {path.name: set(Page(path.read_text()).ids) for path in (written / "groups").iterdir()}
    for cell in cells:
        name, _, target = cell.removeprefix("groups/").partition("#")
        assert target in ids[name]


def test_links_within_a_page_lead_somewhere_and_ids_are_unique(written: Path) -> None:
    for path in (written / "index.html", *(written / "groups").iterdir()):
        page = Page(path.read_text())
        assert len(page.ids) == len(set(page.ids))
        assert {each[1:] for each in page.links if each.startswith("#")} <= set(page.ids)


def test_a_failure_is_marked_on_the_drawing(members: list[classroom.Member]) -> None:
    (member,) = (each for each in members if each.name == "Group 01")
    assert member.path is not None
    page = html.page(read(member.path))
    marked = re.findall(r'class="lp-mark" aria-label="([^"]*)"><circle [^>]*class="lp-at-(\w+)"', page)
    marks = dict.fromkeys(marked)
    assert any(label.endswith(": fail, TOP-07, TOP-05") and kind == "fail" for label, kind in marks)
    drawn = ET.fromstring(re.findall(r"<svg [^>]*lp-topology.*?</svg>", page, re.S)[0])
    assert drawn.get("role") == "group", "an image's contents cannot be reached with the keyboard"


def test_score_and_drawing_come_before_the_objectives(members: list[classroom.Member]) -> None:
    assert members[1].path is not None
    body = html.body(read(members[1].path), members[1].grade, sections=["<section>a matrix</section>"])
    order = ["lp-score", 'class="lp-drawings"', "a matrix", 'id="lp-objectives"', 'class="lp-evidence"']
    assert sorted(order, key=body.index) == order


def test_a_full_labs_report_is_small_enough_to_send(tmp_path: Path) -> None:
    path = record(tmp_path, Group("big", 3, ("cloud down", "service down")))
    run = read(path)
    for check in run["checks"]:
        look = {**check["observations"][0], "output": "x" * 60_000} if check["observations"] else None
        check["observations"] = [look] * 30 if look else []
    page = html.page(run, grade(run, rubric.load()))
    assert len(page.encode()) < 2_000_000
    assert "characters left out" in page


def test_the_overview_of_100_groups_is_fast_to_make(tmp_path: Path) -> None:
    class_of(tmp_path, 100)
    began = time.monotonic()
    assert command_line.main(["class", str(tmp_path), "--roster", str(tmp_path / "roster.csv")]) == 0
    assert time.monotonic() - began < 60
    assert (tmp_path / "class" / "index.html").stat().st_size < 2_000_000


def test_french_and_english_are_in_one_page(written: Path) -> None:
    page = (written / "groups" / "group-02.html").read_text()
    assert 'lang="fr">Après la route statique' in page
    assert 'lang="en">After the static route' in page
    assert page.count('class="en"') == page.count('class="fr"')


def test_every_claim_has_a_french_wording() -> None:
    from reports.markup import _french, claim_words

    assert set(_french()) == set(load_claims())
    assert "ping échoue" in claim_words("NAT-03", load_claims()["NAT-03"].text)
    assert claim_words("NAT-03", "worded otherwise then") == "worded otherwise then"


# ---- a class that is not whole


def test_what_cannot_be_read_leaves_its_group_without_a_grade_and_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "group-01", Group("Group 01", 1))
    (tmp_path / "group-02").mkdir()
    (tmp_path / "group-02" / "run.json").write_text("{")
    list_of = tmp_path / "roster.csv"
    list_of.write_text("group;members\nGroup 01;\nGroup 02;\nGroup 03;\n")
    assert command_line.main(["class", str(tmp_path), "--roster", str(list_of)]) == 0
    said = capsys.readouterr().out
    assert "no grade: Group 02: " in said
    assert "run.json: cannot be read" in said
    assert "no grade: Group 03: no run of this group was found" in said
    rows = list(csv.DictReader((tmp_path / "class" / "grades.csv").open(encoding="utf-8")))
    assert [row["grade"] for row in rows] == ["20", "", ""]


def test_a_class_of_nothing_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["class", str(tmp_path)]) == 2
    assert "no run.json in it" in capsys.readouterr().err
    assert command_line.main(["class", str(tmp_path / "none")]) == 2
    assert "there is no such folder or file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,cloud\nA,a\n", "line 1: no column `group`"),
        ("group,cloud\n", "no group in it"),
        ("group,cloud\nA,a\n a ,b\n", "line 3: group: a and line 2's have the same files"),
        ("group,cloud\n!!!,a\n", "line 2: group: '!!!' has no letter or digit"),
        ("group,cloud,submission\nA,a,b.toml\n", "line 2: cloud, submission: one of them"),
        ("group,submission\nA,none.toml\n", "line 2: submission: 'none.toml' is no file"),
        ("group,cloud\nA,--flag\n", "line 2: cloud: '--flag' is no name"),
        ("group,cloud\nA,a,b,c\n", "line 2: 4 cells under 2 columns"),
        ("group,group\nA,B\n", "line 1: column group is there twice"),
        ('group,cloud\n"A,a\n', "line"),
        ("", "there is nothing in it"),
    ],
)
def test_a_wrong_roster_is_refused_with_the_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "roster.csv"
    path.write_text(content)
    with pytest.raises(roster.RosterError) as caught:
        roster.load(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_roster_is_read_as_spreadsheets_save_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "roster.csv"
    path.write_bytes("groupe;cloud;membres\r\nÉquipe 1;lab-1;a@x.fr, b@x.fr\r\n".encode(encoding))
    (entry,) = roster.load(path)
    assert (entry.group, entry.slug, entry.members) == ("Équipe 1", "quipe-1", ("a@x.fr", "b@x.fr"))


# ---- Moodle


def worksheet(folder: Path, language: str, *rows: list[str], mark: str = "") -> Path:
    """As mod/assign/gradingtable.php writes it."""
    path = folder / "Notes.csv"
    path.write_bytes(mark.encode() + csvtext.written([moodle.HEADERS[language].columns, *rows]))
    return path


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


# ---- hostile input


def test_hostile_input_is_harmless_in_every_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evil_run(tmp_path)
    listed = tmp_path / "roster.csv"
    with listed.open("w", newline="") as stream:
        csv.writer(stream).writerows([["group", "members", "moodle"], ["evil", FORMULA, "Participant 1"]])
    out = tmp_path / "class"
    words = ["class", str(tmp_path / "evil"), "-o", str(out)]
    assert command_line.main(words) == 0
    members = classroom.gather([tmp_path], rubric.load(), roster.load(listed))
    handing.write_class(out, members, rubric.load(), say=lambda line: None)
    run = read(path)
    pages = {
        "group": (out / "groups" / "evil.html").read_text(),
        "overview": (out / "index.html").read_text(),
        "report": html.page(run),
        "comparison": historypage.comparison(run, {**run, "claims": {}, "checks": []}),
        "trend": historypage.trend([run, run], [EVIL]),
    }
    for name, content in pages.items():
        page = Page(content)
        assert page.harmless(), (name, page.scripts, page.loads, page.handlers, page.links[:5])
        assert len(content.encode("utf-8", "replace")) < 2_000_000
        assert "body{display:none}" not in content
        assert "position:fixed" not in content
    assert MARKUP in Page(pages["group"]).text, "it is there to be read, as what it is"
    assert Page(pages["group"]).ids.count("lp-objectives") == 1
    for name in ("grades.csv", "moodle-en.csv", "moodle-fr.csv"):
        for row in csv.reader(io.StringIO((out / name).read_text(encoding="utf-8"))):
            assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in row), name
            assert not any(cell.startswith("-") and cell != "-" for cell in row), name
            assert "\x1b" not in "".join(row)
    for name in ("junit.xml", "gradescope/evil.json", "grades.json", "grades.csv"):
        content = (out / name).read_text(encoding="utf-8")
        assert len(content) < 1_000_000, name
        assert "\x1b" not in content, name
        assert "\\u001b" not in content, name
    ET.parse(out / "junit.xml")
    gradescope_takes(json.loads((out / "gradescope" / "evil.json").read_text()))
    for words in (["grade", str(path)], ["compare", str(path), str(path)], ["trend", str(tmp_path / "evil")]):
        assert command_line.main(words) == 0
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert len(said.out) < 100_000


@pytest.mark.parametrize("text", [FORMULA, "+1", "-1+1", "@SUM(A1)", "\t=1", "  =1", "＝1"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert csvtext.cell(text).startswith("'")
    assert csvtext.cell("-") == "-"
    assert csvtext.cell("Group 1") == "Group 1"


def test_a_claim_id_of_a_foreign_run_file_is_harmless_too(tmp_path: Path) -> None:
    run = read(record(tmp_path, Group("x", 5, ("no route",))))
    run["claims"][EVIL] = {"objective": 6, "text": EVIL, "verdict": "fail"}
    run["checks"][0]["claims"].append(EVIL)
    run["checks"][0]["objectives"] = []
    run["not_proven"].append(EVIL)
    run["started"] = EVIL
    page = Page(html.page(run))
    assert page.harmless()
    assert len(page.ids) == len(set(page.ids))
    assert history.compare(run, run) == []
    assert b"<script" not in junit.of_class(
        [classroom.Member(EVIL, "x", verdicts={EVIL: "fail"}, reasons={EVIL: EVIL})], {}
    )
    gradescope_takes(gradescope.results(run, grade(run, rubric.load()), load_claims()))


# ---- over time


def test_two_runs_are_compared_claim_by_claim(tmp_path: Path) -> None:
    before = read(record(tmp_path / "a", Group("x", 6, ("no route", "commit late"))))
    after = read(record(tmp_path / "b", Group("x", 6, ("no route", "cloud down"))))
    del before["claims"]["API-02"]
    changes = {each.claim: each.kind for each in history.compare(before, after)}
    assert changes.pop("API-02") == "new"
    assert changes == {
        "CT-12": "mended", "CT-14": "mended",
        **dict.fromkeys(("OP-01", "OP-02", "OP-03", "OP-04", "OP-05", "API-01", "API-03"), "no longer told"),
    }  # fmt: skip
    reverse = {each.claim: each.kind for each in history.compare(after, before)}
    assert reverse["CT-12"] == "broken"
    assert reverse["OP-01"] == "told again"
    assert reverse["API-02"] == "gone"
    assert next(iter(reverse.values())) == "broken", "what broke comes first"


def test_the_trend_names_what_flaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nights(tmp_path, 9)
    (tmp_path / "20991231-000000-aaaaa").mkdir()
    (tmp_path / "20991231-000000-aaaaa" / "run.json").write_text("{")
    (tmp_path / "latest").symlink_to(next(tmp_path.glob("2026*")).name)
    assert command_line.main(["trend", str(tmp_path), "-n", "7"]) == 0
    said = capsys.readouterr()
    assert re.search(r"flaps: OS-07 [+x]+x[+x]* ", said.out)
    assert "flaps: CT-12" not in said.out, "what breaks once and stays broken does not flap"
    assert "left out: " in said.err
    page = (tmp_path / "trend.html").read_text()
    assert "the last 6 runs" in page
    assert command_line.main(["trend", str(tmp_path / "nothing")]) == 2


@pytest.mark.parametrize(
    ("verdicts", "flaps"),
    [
        (("pass", "fail", "pass"), True),
        (("pass", "pass", "fail", "fail"), False),
        (("pass", "unproven", "pass"), False),
        (("fail", "unproven", "pass", "absent", "fail"), True),
        ((None, "skip"), False),
    ],
)
def test_flapping_is_two_turns(verdicts: tuple[str | None, ...], flaps: bool) -> None:
    assert history.Series("OS-07", "", verdicts).flaps is flaps
