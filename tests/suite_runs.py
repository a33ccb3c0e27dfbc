"""Runs the suites in a process of their own, as their users do, and reads what they report."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from reports import runfile

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class SuiteRun:
    """A run that has ended: its exit status, what it printed, its run file."""

    status: int
    text: str
    folder: Path

    @property
    def run(self) -> dict[str, Any]:
        return dict(runfile.read(self.folder / "latest" / "run.json"))

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """The checks by file and name."""
        return {check["id"].rpartition("/")[2]: check for check in self.run["checks"]}

    @property
    def verdicts(self) -> dict[str, str]:
        return {name: check["verdict"] for name, check in self.checks.items()}


def begin(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Starts the suites; `words` are pytest's, `environment` adds to this process's own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, "--report-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str], folder: Path, within: float = 900) -> SuiteRun:
    """Waits for the suites' end."""
    try:
        text, _ = process.communicate(timeout=within)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return SuiteRun(process.returncode, text, folder)


def watcher_of(run: int) -> psutil.Process | None:
    """The process that outlives a run, by the run's process id; None where it is not there (yet).

    It has one at most. Other children of the run, such as its qemu-img, end while they are looked at.
    """
    found = []
    with suppress(psutil.NoSuchProcess):
        for each in psutil.Process(run).children():
            with suppress(psutil.NoSuchProcess):
                if "provision.watcher" in each.cmdline():
                    found.append(each)
    assert len(found) <= 1, found
    return found[0] if found else None


def run_suites(folder: Path, *words: str, within: float = 900, **environment: str) -> SuiteRun:
    """Runs the suites to their end."""
    return ended(begin(folder, *words, **environment), folder, within)
