"""The reachability matrix: its data, its place in the run file, and how it reads."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from probes.observation import Observation, Outcome
from provision.paths.configuration import Traffic
from provision.paths.matrix import Cell, Matrix, matrix
from reports import html, terminal
from reports import matrix as shown
from reports.claims import load
from reports.runfile import Check, RunFile, RunFileError, Verdict, new_run_id, read, validate
from tests.paths_world import both, healthy, listening, no_rules, topology, unseen

TWO = topology("two-networks")


def look(source: str, target: str, outcome: Outcome, port: int = 0) -> Observation:
    numbers = {"port": float(port)} if port else {}
    return Observation("tcp" if port else "ping", source, target, "", outcome, "", numbers, 1.0, 0.1)


def cell(made: Matrix, source: str, target: str, what: str) -> Cell:
    return next(each for each in made.of(source, target) if each.traffic == Traffic.parse(what))


def test_every_pair_is_asked_and_the_intention_alone_is_enough() -> None:
    made = matrix(TWO)
    assert made.sources == ("calculator", "sum", "sub", "mul", "div", "desktop", "outside")
    assert {(c.source, c.target) for c in made.cells} >= {
        (a, b) for a in made.sources[:5] for b in made.sources[:5] if a != b
    }
    assert [str(c.traffic) for c in made.of("desktop", "calculator")] == ["icmp", "tcp 22", "tcp 50000"]
    assert all(c.configured is None and c.measured is None and c.agrees for c in made.cells)
    assert cell(made, "calculator", "sum", "tcp 50001").intended is Outcome.REACHABLE
    assert cell(made, "desktop", "sum", "icmp").intended is Outcome.FILTERED


def test_the_desktop_is_asked_for_the_floating_ip_and_a_neighbour_for_the_fixed_address() -> None:
    made = matrix(TWO, healthy("two-networks"))
    assert cell(made, "sum", "calculator", "icmp").address == IPv4Address("20.4.5.88")
    assert cell(made, "desktop", "calculator", "icmp").address == IPv4Address("192.168.37.3")


def test_cells_that_disagree_say_why() -> None:
    made = matrix(TWO, both(no_rules("services"), listening("div"))(healthy("two-networks")))
    assert {(c.target, str(c.traffic)) for c in made.unlike} == {
        ("sum", "tcp 50001"), ("sub", "tcp 50002"), ("mul", "tcp 50003"), ("div", "tcp 50004")
    }  # fmt: skip
    assert len(made.unlike) == 16
    assert cell(made, "calculator", "sum", "tcp 50001").why == (
        "no rule of security group services lets tcp 50001 in from calculator; intended: tcp 50001-50004 from group lab"
    )


def test_what_was_measured_stands_beside_and_may_disagree() -> None:
    seen = [
        look("calculator", "30.4.5.215", Outcome.REACHABLE),
        look("calculator", "30.4.5.109", Outcome.FILTERED),
        look("desktop", "30.4.5.215", Outcome.UNREACHABLE),
        look("calculator", "30.4.5.215", Outcome.REFUSED, 50001),
    ]
    made = matrix(TWO, healthy("two-networks"), seen)
    assert cell(made, "calculator", "sum", "icmp").agrees
    assert cell(made, "desktop", "sum", "icmp").agrees, "which word a lost packet gets does not count"
    assert (
        cell(made, "calculator", "sub", "icmp").why == "as configured it should arrive, and it was filtered"
    )
    assert not cell(made, "calculator", "sum", "tcp 50001").agrees, "refused is not lost, and not reached"
    assert len(made.unlike) == 2


def test_guests_that_were_not_seen_leave_no_hole() -> None:
    made = matrix(TWO, unseen("calculator", "sum", "sub", "mul", "div")(healthy("two-networks")))
    assert made.unlike == ()


def finished(folder: Path, *matrices: dict[str, Any]) -> Path:
    run = RunFile(new_run_id(), load(), lab="box")
    check = Check("suites/test_x.py::test_a", ("OS-05",), verdict=Verdict.PASS, started=1.0)
    run.planned = {check.id: check.claims}
    path = run.open(folder) / "run.json"
    run.matrices.extend(matrices)
    run.record(check)
    run.exit_status = 0
    run.write()
    return path


def broken() -> dict[str, Any]:
    return matrix(TWO, no_rules("services")(healthy("two-networks"))).as_json()


def test_it_is_kept_in_the_run_file_and_read_again(tmp_path: Path) -> None:
    document = read(finished(tmp_path, broken()))
    assert document["matrices"] == [json.loads(json.dumps(broken()))]


def test_a_run_file_of_before_still_reads(tmp_path: Path) -> None:
    path = finished(tmp_path)
    document = json.loads(path.read_text(encoding="utf-8"))
    del document["matrices"]
    path.write_text(json.dumps(document), encoding="utf-8")
    old = read(path)
    assert "lp-matrix-table" not in html.page(old).partition("<body>")[2]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"cells": None}, "$.matrices[0].cells"),
        ({"sources": [1]}, "$.matrices[0].sources[0]"),
        ({"cells": [{"source": "a"}]}, "$.matrices[0].cells[0]"),
    ],
)
def test_a_matrix_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any], place: str) -> None:
    document = read(finished(tmp_path, broken()))
    document["matrices"] = [{**broken(), **change}]
    with pytest.raises(RunFileError) as error:
        validate(document, "run.json")
    assert place in str(error.value)


def test_the_page_shows_what_disagrees(tmp_path: Path) -> None:
    page = html.page(read(finished(tmp_path, broken())))
    assert "Who reaches whom: two-networks. 16 of 100 not as intended, 0 measured" in page
    assert page.count('class="lp-matrix-mark lp-matrix-unlike" title=') == 16
    assert "calculator, sub, mul, div → sum tcp 50001" in page
    assert "no rule of security group services lets tcp 50001 in from calculator" in page


def test_the_fragment_is_whole_markup() -> None:
    fragment = ET.fromstring(shown.html(broken()))
    rows = fragment.findall(".//tbody/tr")
    assert [row.find("th").text for row in rows][:2] == ["calculator", "sum"]  # type: ignore[union-attr]
    assert all(len(row.findall("td")) == 7 for row in rows)


def test_the_terminal_shows_all_of_one_that_disagrees_and_a_line_of_one_that_does_not() -> None:
    class Lines:
        def __init__(self) -> None:
            self.lines: list[str] = []

        def write_sep(self, sep: str, title: str | None = None, **markup: bool) -> None:
            self.lines.append(title or sep)

        def write_line(self, line: str | bytes, **markup: bool) -> None:
            self.lines.append(str(line))

        def write(self, content: str, **markup: bool) -> None:
            self.lines.append(content)

    run = {
        "summary": {"verdicts": dict.fromkeys(("pass", "fail", "unproven", "skip"), 0), "objectives": []},
        "planned": 0, "checks": [], "claims": {}, "left_behind": {},
        "matrices": [matrix(TWO, healthy("two-networks")).as_json(), broken()],
    }  # fmt: skip
    told = Lines()
    terminal.summary(run, told)
    assert "who reaches whom: two-networks. all 100 as intended, 0 measured" in told.lines
    assert sum(line.startswith("from \\ to") for line in told.lines) == 1
    assert sum(line.startswith("! ") for line in told.lines) == 4
    row = next(line for line in told.lines if line.startswith("calculator  "))
    assert "✓icmp ✓22 !✓→·50001!" in row


HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e" + "x" * 100_000


def test_hostile_text_comes_out_harmless() -> None:
    made = broken()
    made["topology"] = HOSTILE
    made["sources"][0] = made["targets"][0] = HOSTILE
    for each in made["cells"]:
        each["why"] = HOSTILE
        for key in ("source", "target"):
            each[key] = HOSTILE if each[key] == "calculator" else each[key]
    for said in (shown.html(made), shown.text(made)):
        assert "<script>" not in said or said.startswith("who reaches whom")
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert len(said) < 400_000
    assert "<script>" not in shown.html(made)


def test_an_empty_matrix_is_a_table_without_rows() -> None:
    empty = Matrix("t", (), (), ()).as_json()
    assert "all 0 as intended" in shown.text(empty)
    assert "<tbody></tbody>" in shown.html(empty)
