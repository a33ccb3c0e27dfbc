"""The files in docs/examples: they do what they say, and name what is there."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from provision.attach.submission import ROLES, Submission
from reports import roster
from tests.recorded_runs import Group, record

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"

# stands in for make: notes what it was asked for, and has a run recorded in place of the suites'
MAKE = """#!/bin/sh
echo "$@" >>"{notes}"
test -e "{next}" || exit 2
mv "{next}"/* "{reports}/" && ln -sfn "$(ls "{reports}" | grep ^20 | tail -1)" "{reports}/latest"
exit {status}
"""


class Night:
    """A copy of the project's folder as far as the script needs it, and nights made to order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = folder / "labproof"
        self.reports = folder / "re ports"
        self.reports.mkdir()
        (self.repository / "docs" / "examples").mkdir(parents=True)
        shutil.copy(EXAMPLES / "nightly.sh", self.repository / "docs" / "examples")
        (self.repository / ".venv" / "bin").mkdir(parents=True)
        (self.repository / ".venv" / "bin" / "python").symlink_to(sys.executable)
        (folder / "bin").mkdir()

    def __call__(
        self, day: int, *faults: str, status: int = 0, runs: bool = True
    ) -> subprocess.CompletedProcess[str]:
        coming = self.folder / "next"
        if runs:
            started = datetime.fromisoformat("2026-11-20T03:00:00+01:00") + timedelta(days=day)
            run = record(coming, Group("lab", 7, faults), started)
            (run.parent / "junit.xml").write_text(f"<testsuites name='{day}'/>")
            (run.parent / "report.html").write_text("report")
        make = self.folder / "bin" / "make"
        make.write_text(
            MAKE.format(notes=self.folder / "notes", next=coming, reports=self.reports, status=status)
        )
        make.chmod(0o755)
        done = subprocess.run(
            [self.repository / "docs" / "examples" / "nightly.sh", "campus", self.reports, "-k", "topology"],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
            },
        )
        shutil.rmtree(coming, ignore_errors=True)
        return done


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def test_a_night_keeps_the_suites_status_and_tells_what_changed(night: Night) -> None:
    first = night(0)
    assert (first.returncode, first.stderr) == (0, "")
    second = night(1, "icmp closed", status=2)
    assert second.returncode == 2
    assert re.search(r"broken +OS-07 +pass -> fail", second.stdout)
    assert "OS-10" in (night.reports / "changes.txt").read_text()
    for name in ("report.html", "changes.html", "trend.html"):
        assert (night.reports / name).is_file()
    assert "'1'" in (night.reports / "junit.xml").read_text()
    assert "LAB=campus" in (night.folder / "notes").read_text()
    assert f"--report-dir '{night.reports}' -k topology" in (night.folder / "notes").read_text()


def test_a_night_without_a_run_is_no_success(night: Night) -> None:
    assert night(0).returncode == 0
    for status in (0, 2):
        done = night(1, status=status, runs=False)
        assert done.returncode != 0
        assert "no run came of it" in done.stderr


def test_old_runs_are_removed_and_nothing_else(night: Night) -> None:
    night(0)
    (old,) = (each for each in night.reports.glob("20*") if each.is_dir())
    kept = night.reports / "2025 by hand"
    kept.mkdir()
    for each in (old, kept):
        os.utime(each, (1_600_000_000, 1_600_000_000))
    assert night(1).returncode == 0
    assert not old.exists()
    assert kept.exists()
    assert (night.reports / "latest" / "run.json").is_file()


def test_two_nights_never_run_at_once(night: Night) -> None:
    with (night.reports / ".nightly").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = night(0)
    assert done.returncode == 3
    assert "the night before still runs" in done.stderr


def scripts(text: str) -> set[str]:
    return set(re.findall(r"docs/examples/[\w.-]+", text))


@pytest.mark.parametrize("name", sorted(each.name for each in EXAMPLES.iterdir()))
def test_what_an_example_names_is_there(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert all((ROOT / each).exists() for each in scripts(text))
    if name not in ("nightly.sh", "roster.csv", "submission.toml", "labproof-nightly.timer"):
        assert "docs/examples/nightly.sh" in text


@pytest.mark.parametrize(
    ("name", "when"),
    [("gitlab-ci.yml", 'CI_PIPELINE_SOURCE == "schedule"'), ("github-nightly.yml", "'cron': '0 3 * * *'")],
)
def test_the_ci_files_are_yaml_and_keep_the_reports_of_a_bad_night(name: str, when: str) -> None:
    document: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text(encoding="utf-8"))
    assert when in str(document)
    if name == "gitlab-ci.yml":
        job = document["nightly"]
        assert job["artifacts"]["when"] == job["cache"]["when"] == "always"
        assert job["artifacts"]["reports"]["junit"] == "nightly/junit.xml"
    else:
        steps = document["jobs"]["labproof"]["steps"]
        after = [each for each in steps if "save" in each.get("uses", "") or "upload" in each.get("uses", "")]
        assert [each["if"] for each in after] == ["always()"] * 2


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for name in ("labproof-nightly.service", "labproof-nightly.timer"):
        text = (EXAMPLES / name).read_text().replace("/srv/labproof/docs/examples/nightly.sh", "/bin/true")
        (tmp_path / name).write_text(text.replace("User=labproof", "User=root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))], capture_output=True, text=True
    )
    said = [line for line in done.stderr.splitlines() if "labproof" in line]
    assert said == []


def test_the_submission_reads(tmp_path: Path) -> None:
    text = (EXAMPLES / "submission.toml").read_text(encoding="utf-8")
    (tmp_path / "group-07.key").write_text("")
    (tmp_path / "clouds.yaml").write_text("")
    (tmp_path / "as it is.toml").write_text(text)
    read = Submission.load(tmp_path / "as it is.toml")
    assert (read.cloud, read.login, read.key) == ("lab-g07", "user", tmp_path / "group-07.key")
    assert (read.ports, read.logs) == ({"calculator": 50010}, {"sum": "/home/user/SumService.log"})
    (tmp_path / "all of it.toml").write_text(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    read = Submission.load(tmp_path / "all of it.toml")
    assert read.clouds_file == tmp_path / "clouds.yaml"
    assert set(read.roles) == set(ROLES) - {"sub", "mul", "div"}


def test_the_roster_reads() -> None:
    entries = roster.load(EXAMPLES / "roster.csv")
    assert [each.cloud for each in entries] == ["lab-g01", "lab-g02", "lab-g03"]
    assert entries[0].members == ("amina@example.org", "bruno@example.org")
    assert entries[0].moodle == ("Participant 1001", "Participant 1002")
