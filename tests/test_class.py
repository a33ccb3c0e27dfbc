"""A class's pages and files: what they hold, the formats they keep, and hostile input in each of them."""

from __future__ import annotations

import csv
import io
import json
import re
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

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
    roster,
    rubric,
)
from reports.claims import load as load_claims
from reports.grades import grade
from reports.runfile import read
from tests.formats import gradescope_takes
from tests.hostile import EVIL, FORMULA, MARKUP, Page, evil_run
from tests.recorded_runs import Group, class_of, record

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


def test_without_a_roster_groups_stand_as_people_count(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        record(tmp_path / f"group-{number}", Group("x", number))
    found = classroom.gather([tmp_path], rubric.load())
    assert [each.name for each in found] == ["group-9", "group-10", "group-100"]


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
