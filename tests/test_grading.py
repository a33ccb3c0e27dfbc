"""A class from its roster: groups in processes of their own, one failing beside others, and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grading import __main__ as command_line
from grading import group as group_module
from grading.runner import ROOT, suites
from reports.roster import Entry

# stands in for pytest: records a run, or fails in one of the ways that there are
EXAMINER = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.recorded_runs import Group, record
cloud, runs = sys.argv[1], Path(sys.argv[2])
with open(runs.parent.parent / "turns.txt", "a") as turns:
    turns.write(cloud + "\\n")
if cloud == "broken":
    sys.exit("labproof: the cloud says 401: wrong password")
if cloud == "floods":
    print("\\x1b[31m<script>" + "x" * 30_000_000)
if cloud == "hangs":
    print("waiting", flush=True)
    time.sleep(600)
if cloud.startswith("slow"):
    (runs.parent / "began").write_text(str(time.monotonic()))
    time.sleep(1)
    (runs.parent / "ended").write_text(str(time.monotonic()))
number = sum(map(ord, cloud)) + 2 * len(list(runs.glob("*")))  # another run each time
record(runs, Group(cloud, number, ("no route",) if number % 2 else (), 5 if cloud == "killed" else None))
sys.exit(1 if number % 2 else 0)
"""


@pytest.fixture
def examiner(tmp_path: Path) -> Path:
    path = tmp_path / "examiner.py"
    path.write_text(EXAMINER.format(root=str(ROOT)))
    return path


def roster(folder: Path, *clouds: str) -> Path:
    path = folder / "course.csv"
    path.write_text("group,cloud\n" + "".join(f"Group {c},{c}\n" for c in clouds))
    return path


def grade(tmp_path: Path, examiner: Path, *words: str) -> int:
    return command_line.main(
        [str(tmp_path / "course.csv"), "-o", str(tmp_path / "out"), *words],
        lambda entry, runs: [sys.executable, str(examiner), entry.cloud, str(runs)],
    )


def turns(tmp_path: Path) -> list[str]:
    return sorted((tmp_path / "out" / "turns.txt").read_text().split())


def test_each_group_is_examined_and_the_class_is_graded(
    tmp_path: Path, examiner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster(tmp_path, "alpha", "beta", "gamma")
    assert grade(tmp_path, examiner, "-q") == 0
    out = tmp_path / "out" / "class"
    assert "Group alpha" in (out / "index.html").read_text()
    assert len(list((out / "groups").iterdir())) == 3
    said = capsys.readouterr()
    assert f"class: {out / 'index.html'}" in said.out
    assert "Group beta: " in said.err
    assert "(3 of 3)" in said.err
    assert "\x1b" not in said.err


def test_one_that_breaks_never_stops_the_others(
    tmp_path: Path, examiner: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster(tmp_path, "broken", "killed", "alpha", "floods", "beta")
    assert grade(tmp_path, examiner, "--parallel", "2") == 1
    said = capsys.readouterr().err
    assert (
        "Group broken: broken: exit status 1 and no run file: labproof: the cloud says 401: wrong password"
        in said
    )
    assert "Group killed: broken: exit status" in said
    rows = (tmp_path / "out" / "class" / "grades.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == [
        "group", "Group broken", "Group killed", "Group alpha", "Group floods", "Group beta"
    ]  # fmt: skip
    assert "no run of this group was found" in rows[1]
    assert (tmp_path / "out" / "group-floods" / "output.log").stat().st_size <= group_module.OUTPUT_KEPT


def test_no_more_than_the_limit_at_once_and_no_less(tmp_path: Path, examiner: Path) -> None:
    roster(tmp_path, *(f"slow{n}" for n in range(5)))
    assert grade(tmp_path, examiner, "--parallel", "2") == 0
    folders = list((tmp_path / "out").glob("group-slow*"))
    events = [(float((f / "began").read_text()), 1) for f in folders]
    events += [(float((f / "ended").read_text()), -1) for f in folders]
    at_once, most = 0, 0
    for _, step in sorted(events):
        at_once += step
        most = max(most, at_once)
    assert most == 2


def test_what_is_done_is_not_done_again(tmp_path: Path, examiner: Path) -> None:
    roster(tmp_path, "alpha", "broken", "beta")
    assert grade(tmp_path, examiner) == 1
    assert grade(tmp_path, examiner) == 1
    assert turns(tmp_path) == ["alpha", "beta", "broken", "broken"]
    assert grade(tmp_path, examiner, "--only", "group alpha", "--again") == 0
    assert turns(tmp_path).count("alpha") == 2
    roster(tmp_path, "alpha", "gamma")
    (tmp_path / "course.csv").write_text("group,cloud\nGroup alpha,delta\n")
    assert grade(tmp_path, examiner) == 0
    assert "delta" in turns(tmp_path), "another cloud under the same name is another group's work"


def test_a_group_that_hangs_is_interrupted(
    tmp_path: Path, examiner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_line, "_number", float)
    roster(tmp_path, "hangs", "alpha")
    assert grade(tmp_path, examiner, "--time-limit", "0.03") == 1
    state = json.loads((tmp_path / "out" / "group-hangs" / "state.json").read_text())
    assert state["status"] == "timed out"
    assert json.loads((tmp_path / "out" / "group-alpha" / "state.json").read_text())["status"] == "ended"


RUNNER = """
import sys
sys.path.insert(0, {root!r})
from grading.__main__ import main
words = lambda entry, runs: [sys.executable, {examiner!r}, entry.cloud, str(runs)]
sys.exit(main([{roster!r}, "-o", {out!r}, "--parallel", "2", "-q"], words))
"""


@pytest.fixture
def started(tmp_path: Path, examiner: Path) -> Iterator[subprocess.Popen[str]]:
    path = roster(tmp_path, "alpha", "hangs", "beta")
    code = RUNNER.format(root=str(ROOT), examiner=str(examiner), roster=str(path), out=str(tmp_path / "out"))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    states = [tmp_path / "out" / f"group-{each}" / "state.json" for each in ("alpha", "beta")]
    waiting = tmp_path / "out" / "group-hangs" / "output.log"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if all(each.exists() for each in states) and waiting.exists() and waiting.stat().st_size:
            break
        time.sleep(0.1)
    yield process
    process.kill()
    process.communicate()


def test_interrupted_it_ends_its_processes_and_goes_on_where_it_was(
    tmp_path: Path, examiner: Path, started: subprocess.Popen[str]
) -> None:
    started.send_signal(signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "the same command goes on" in said
    assert not alive(examiner, "hangs")
    examiner.write_text(EXAMINER.format(root=str(ROOT)).replace('"hangs"', '"never"'))
    assert grade(tmp_path, examiner) == 0
    assert turns(tmp_path) == ["alpha", "beta", "hangs", "hangs"]


def test_killed_outright_its_orphan_keeps_its_group_to_itself(
    tmp_path: Path, examiner: Path, started: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    started.kill()
    started.wait()
    (orphan,) = alive(examiner, "hangs")
    try:
        assert grade(tmp_path, examiner) == 1
        assert "Group hangs: busy: a process of an earlier run still examines it" in capsys.readouterr().err
        assert turns(tmp_path) == ["alpha", "beta", "hangs"]
    finally:
        os.kill(orphan, signal.SIGKILL)


def alive(examiner: Path, cloud: str) -> list[int]:
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = each.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(examiner).encode() in words and cloud.encode() in words:
            found.append(int(each.parent.name))
    return found


def test_where_every_group_breaks_each_reason_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster(tmp_path, "alpha", "beta")
    code = "print('usage: x'); print('x: error: no such option'); print('  rootdir: y'); raise SystemExit(4)"
    words = [str(tmp_path / "course.csv"), "-o", str(tmp_path / "out")]
    assert command_line.main(words, lambda entry, runs: [sys.executable, "-c", code]) == 1
    said = capsys.readouterr().err
    assert "Group alpha: broken: exit status 4 and no run file: x: error: no such option" in said
    assert "there is nothing to grade" in said
    assert command_line.main(words, lambda entry, runs: ["/no/such/program"]) == 1
    assert "/no/such/program: cannot be run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "nobody"], "--only: no group nobody in the roster"),
        (["--rubric", "none"], "none: no rubric of that name ships"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(
    tmp_path: Path, examiner: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    roster(tmp_path, "alpha")
    assert grade(tmp_path, examiner, *words) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_suites_are_attached_to_the_group(tmp_path: Path) -> None:
    words = suites("campus", ["-k", "topology"])(Entry("A", "a", cloud="lab-a"), tmp_path)
    assert words[1:3] == ["-m", "pytest"]
    assert str(ROOT / "suites") in words
    assert words[words.index("--attach") + 1] == "lab-a"
    assert words[words.index("--report-dir") + 1] == str(tmp_path)
    assert words[-2:] == ["--lab", "campus"]
    submission = tmp_path / "a.toml"
    submission.write_text("")
    plain = suites()(Entry("A", "a", submission=submission), tmp_path)
    assert str(ROOT / "suites") in plain
    assert plain[plain.index("--attach") + 1] == str(submission)


def test_the_suites_know_what_they_are_told(tmp_path: Path) -> None:
    words = suites("campus", ["--collect-only", "-q"])(Entry("A", "a", cloud="lab-a"), tmp_path)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_the_second_router_alone_links_the_two_networks" in done.stdout
    assert "test_removing_the_topology_leaves_nothing" not in done.stdout
