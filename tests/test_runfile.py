"""The run file, and what is made of it."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from probes.observation import Observation, Outcome
from reports import __main__ as command_line
from reports import html
from reports.claims import CLAIMS_FILE, ClaimsError, load, objective, objectives_of
from reports.runfile import (
    OUTPUT_LIMIT,
    REDACTED,
    Check,
    RunFile,
    RunFileError,
    Verdict,
    new_run_id,
    read,
    redact,
    short_id,
    summarise,
)
from reports.text import cut, one_line, plain


def finished(folder: Path, *checks: Check) -> RunFile:
    run = RunFile(new_run_id(), load(), lab="box")
    run.planned = {each.id: each.claims for each in checks}
    run.open(folder)
    for each in checks:
        run.record(each)
    run.exit_status = 0
    run.write()
    return run


def check(name: str, *claims: str, verdict: Verdict = Verdict.PASS, output: str = "ok") -> Check:
    look = Observation(
        "ping", "desktop", "vm", "ping -c3 vm", Outcome.REACHABLE, output, {"ttl": 62}, 5.0, 0.1
    )
    return Check(f"suites/test_x.py::{name}", claims, verdict=verdict, observations=[look], started=4.0)


def test_run_ids_sort_by_time_and_carry_a_short_name() -> None:
    run_id = new_run_id(datetime.fromisoformat("2026-11-21T02:30:00+01:00"))
    assert re.fullmatch(r"20261121-023000-[a-z2-7]{5}", run_id)
    assert short_id(run_id) == run_id[-5:]
    assert len({new_run_id() for _ in range(100)}) == 100


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    run = finished(
        tmp_path, check("test_a", "OS-05", "TOP-05"), check("test_b", "OS-06", verdict=Verdict.FAIL)
    )
    document = read(tmp_path / "latest" / "run.json")
    assert document["checks"] == run.as_json()["checks"]
    assert document["checks"][0]["observations"][0]["numbers"] == {"ttl": 62}
    assert document["summary"]["verdicts"] == {"pass": 1, "fail": 1, "unproven": 0, "skip": 0}
    assert [each["key"] for each in document["summary"]["objectives"]] == ["6", "10/11"]
    assert document["not_proven"] == ["OS-06"]
    assert [each.name for each in (tmp_path / "latest").iterdir()] == ["run.json"]


def test_the_file_is_whole_after_each_check(tmp_path: Path) -> None:
    run = RunFile(new_run_id(), load())
    run.planned = {"suites/test_x.py::test_a": ("OS-05",), "suites/test_x.py::test_b": ("OS-06",)}
    path = run.open(tmp_path) / "run.json"
    assert read(path)["checks"] == []
    run.record(check("test_a", "OS-05"))
    assert len(read(path)["checks"]) == 1
    assert read(path)["exit_status"] is None
    assert read(path)["claims"]["OS-06"]["verdict"] is None


def test_recorded_again_a_check_is_replaced(tmp_path: Path) -> None:
    run = finished(tmp_path, check("test_a", "OS-05"))
    again = check("test_a", "OS-05")
    again.left_behind = "a port"
    run.record(again)
    document = read(tmp_path / "latest" / "run.json")
    assert len(document["checks"]) == 1
    assert document["left_behind"] == {"suites/test_x.py::test_a": "a port"}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["pass", "pass"], "pass"),
        (["pass", "fail", "unproven"], "fail"),
        (["pass", "unproven", "skip"], "unproven"),
        (["pass", "skip"], "pass"),
        (["skip"], "skip"),
    ],
)
def test_a_claim_holds_when_all_of_its_checks_do(tmp_path: Path, verdicts: list[str], expected: str) -> None:
    checks = [check(f"test_{n}", "OS-05", verdict=Verdict(each)) for n, each in enumerate(verdicts)]
    run = finished(tmp_path, *checks)
    assert run.as_json()["claims"]["OS-05"]["verdict"] == expected


def test_a_check_of_two_objectives_counts_in_each_but_once_overall() -> None:
    counts = summarise([{"verdict": "fail", "objectives": ["6", "10/11"]}])
    assert counts["verdicts"]["fail"] == 1
    assert [each["fail"] for each in counts["objectives"]] == [1, 1]
    assert counts["objectives"][1]["name"] == "Two networks"


def test_long_output_is_cut_and_undecodable_output_kept(tmp_path: Path) -> None:
    finished(tmp_path, check("test_a", "OS-05", output="\udcff\x00\x1b[1m" + "x" * 5_000_000 + "end"))
    path = tmp_path / "latest" / "run.json"
    output = read(path)["checks"][0]["observations"][0]["output"]
    assert output.startswith("\udcff\x00\x1b[1m")
    assert output.endswith("end")
    assert len(output) < OUTPUT_LIMIT + 100
    assert "characters left out" in output


@pytest.mark.parametrize(
    "facts",
    [
        {"password": "hunter2"},
        {"OS_PASSWORD": "hunter2"},
        {"nested": {"auth_token": "hunter2"}},
        {"list": [{"client_secret": ["hunter2"]}]},
        {"url": "mysql://nova:hunter2@db/nova"},
        {"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----"},
        {"header": f"X-Auth: gAAAA{'hunter2' * 10}"},
    ],
)
def test_secrets_are_left_out(facts: dict[str, Any]) -> None:
    clean = json.dumps(redact(facts), ensure_ascii=False)
    assert "hunter2" not in clean
    assert REDACTED in clean


def test_what_is_no_secret_stays() -> None:
    facts = {
        "driver": "TCG",
        "cpus": 2,
        "kvm": False,
        "none": None,
        "versions": {"nova": "26.2"},
        "ports": (1, 2),
    }
    assert redact(facts) == {**facts, "ports": [1, 2]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version 2; this Labproof reads version 1"),
        ({"checks": [{}]}, r"$.checks[0]"),
        ({"summary": {}}, "$.summary"),
        ({"run": "../../etc"}, "$.run"),
    ],
)
def test_a_wrong_run_file_is_refused_with_its_place(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    run = finished(tmp_path, check("test_a", "OS-05"))
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({**run.as_json(), **change}))
    with pytest.raises(RunFileError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "[" * 100_000])
def test_what_is_no_run_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(RunFileError, match=r"wrong\.json"):
        read(path)


def test_a_page_is_made_from_the_run_file_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, check("test_a", "OS-05", output="<b>bold</b>"))
    assert command_line.main(["html", str(tmp_path / "latest")]) == 0
    page = (tmp_path / "latest" / "run.html").read_text()
    assert "Desktop -&gt; the VM&#x27;s private address: ping fails" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "report: " in capsys.readouterr().out
    assert command_line.main(["html", str(tmp_path / "nothing.json")]) == 2
    assert "nothing.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "svg",
    [
        "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><style>@import 'http://x'</style><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><rect fill='url(http://x)'/><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><image href='http://x'/><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><foreignObject>alert</foreignObject><text>kept</text></svg>",
        "<svg xmlns='http://www.w3.org/2000/svg'><script xmlns='http://www.w3.org/1999/xhtml'>alert(1)</script>"
        "<text>kept</text></svg>",
    ],
)  # fmt: skip
def test_a_drawing_from_elsewhere_is_cleaned(svg: str) -> None:
    cleaned = html.clean_svg(svg)
    assert "kept" in cleaned
    assert "alert" not in cleaned
    assert "http://x" not in cleaned


@pytest.mark.parametrize("svg", ["", "<html/>", "<svg", "<!DOCTYPE x [<!ENTITY a 'b'>]><svg>&a;</svg>"])
def test_what_is_no_drawing_is_left_out(svg: str) -> None:
    assert html.clean_svg(svg) == ""


def test_text_is_made_readable() -> None:
    assert plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07ok\x00\x7f\r\nnext") == "red ok␀␡\nnext"
    assert plain("a\u202eb") == "a�b"
    assert cut("x" * 100, 40).startswith("x" * 30)
    assert "60 characters left out" in cut("x" * 100, 40)
    assert one_line("\n\n  first \nsecond") == "first"
    assert one_line("x" * 400, 10) == "x" * 9 + "…"


def test_the_list_of_claims_is_whole() -> None:
    claims = load()
    assert len(claims) > 60
    assert [each.key for each in objectives_of(claims.values())] == [
        "2/3", "4", "5", "6", "7", "8", "9", "10/11", "12"
    ]  # fmt: skip
    assert objective(99).name == "Objective 99"
    assert CLAIMS_FILE.name == "claims.toml"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[[claim]]\nid='A-1'\nobjective=1\n", "claim no. 1: KeyError: 'text'"),
        ("[[claim]]\nid='A-1'\nobjective='x'\ntext='t'\n", "claim no. 1: ValueError"),
        ("[[claim]]\nid='A-1'\nobjective=1\ntext='t'\n" * 2, "claim no. 2: id A-1 is there already"),
        ("[[claim", "cannot be read"),
        ("", "no [[claim]] in it"),
    ],
)
def test_a_wrong_list_of_claims_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "claims.toml"
    path.write_text(content)
    with pytest.raises(ClaimsError) as caught:
        load(path)
    assert said in str(caught.value)
