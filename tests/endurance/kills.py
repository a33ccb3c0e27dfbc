"""Runs are killed at random moments of their provisioning; what is left after the sweep, and what was touched."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from provision import journal as journals
from provision.sweeper import ANOTHERS
from tests.endurance import census
from tests.endurance.stage import ROOT, Running, Say, Stage, begin, within

END = 240.0
"""Seconds that a run may take to end after it was told to, or after a process of it was killed."""
WATCH = 240.0
SECONDS = {"openstack": 120.0, "natvm": 75.0, "engine": 75.0}
"""Up to when a run of each kind is killed: its provisioning is over about then."""
WORDS = {
    "openstack": ("suites/openstack",),
    "natvm": ("suites/virtualbox", "suites/docker"),
    "engine": ("suites/docker",),
}
VICTIMS = {
    "pytest, SIGKILL": 30,
    "pytest, SIGTERM": 10,
    "pytest, SIGINT": 10,
    "pytest, SIGINT twice": 10,
    "a worker, SIGKILL": 10,
    "watcher, then pytest, SIGKILL": 15,
    "power cut": 15,
}
"""How often each is struck, in hundredths."""


@dataclass
class Row:
    """What is struck, and when; and how that ended."""

    number: int
    kind: str
    victim: str
    at: float
    doing: str = ""
    things: int = 0
    end_seconds: float = 0.0
    sweep_seconds: float = 0.0
    swept_by: str = ""
    left: list[str] = field(default_factory=list)
    touched: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.left or self.touched or self.hung)


def plan(kills: int, seed: int, kinds: list[str]) -> list[Row]:
    """The kills, the same for the same seed: each kind in turn, victim and moment by chance."""
    chance = random.Random(seed)
    rows = []
    for number in range(kills):
        kind = kinds[number % len(kinds)]
        (victim,) = chance.choices(list(VICTIMS), list(VICTIMS.values()))
        rows.append(Row(number + 1, kind, victim, round(chance.uniform(1.0, SECONDS[kind]), 1)))
    return rows


class Kills:
    """Makes the kills on a standing lab.

    Args:
        folder: for what the runs print.
        censuses: what is counted before and after.
        engine: lab file and DOCKER_HOST of the engine that is others' too.
    """

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        censuses: list[census.Census],
        engine: tuple[Path, str] | None,
        say: Say,
    ) -> None:
        self.stage = stage
        self.folder = folder
        self.censuses = censuses
        self.engine = engine
        self.say = say
        self.rows: list[Row] = []
        # by hand one sweeps after the other: each takes away what all dead runs have left
        self._sweeping = threading.Lock()

    def run(self, planned: list[Row], at_once: int = 1, first: int = 1) -> list[Row]:
        """Makes the kills.

        Args:
            first: number of the first one to make.
            at_once: runs that stand side by side, each struck at its own moment: the others' things are foreign to it.
        """
        before = census.count(self.censuses)
        stopped = threading.Event()
        signal.signal(signal.SIGINT, lambda *_: stopped.set())
        for place in range(first - 1, len(planned), at_once):
            if stopped.is_set():
                self.say("interrupted: what was seen so far is written down")
                break
            wave = planned[place : place + at_once]
            with ThreadPoolExecutor(at_once) as pool:
                runs = list(pool.map(self._strike, wave))
            after = census.settled(self.censuses, before)
            for thing in sorted(set(after) - set(before)):
                _whose(thing, wave, runs).left.append(thing)
            for name in sorted(before):
                if after.get(name) != before[name]:
                    wave[0].touched.append(f"{name}: {before[name]} -> {after.get(name, 'gone')}")
            before = after  # what one has left is not counted for the next
            for row in wave:
                self._told(row, len(planned))
                self.rows.append(row)
        return self.rows

    def _told(self, row: Row, of: int) -> None:
        state = "clean" if row.clean else f"LEFT {row.left} TOUCHED {row.touched} HUNG {row.hung}"
        self.say(
            f"{row.number}/{of} {row.kind} at {row.at:.1f} s ({row.victim}; {row.doing}; {row.things} things): "
            f"ended {row.end_seconds:.1f} s, swept by {row.swept_by} {row.sweep_seconds:.1f} s: {state}"
        )
        if row.clean:
            shutil.rmtree(self._folder(row), ignore_errors=True)

    def _folder(self, row: Row) -> Path:
        return self.folder / f"{row.number:03}"

    def _strike(self, row: Row) -> list[str]:
        """Makes a run, strikes it, and waits until nothing of it is left to sweep; the names of its runs."""
        folder = self._folder(row)
        words, environment = [*WORDS[row.kind], "-v", "-p", "no:randomly"], {}
        if row.kind == "engine":
            assert self.engine is not None
            words += ["--lab", str(self.engine[0])]
            environment["DOCKER_HOST"] = self.engine[1]
        run = begin(folder, words, environment)
        with suppress(subprocess.TimeoutExpired):
            run.process.wait(row.at)
        mine = _journals(run)
        row.things = sum(len(record.left) for record in journals.read_all() if record.path in mine)
        row.doing = _doing(run.text)
        watcher = run.watcher()
        struck = time.monotonic()
        if run.process.poll() is None:
            _hit(row.victim, run, watcher, mine)
        else:
            row.victim += " (it had ended)"
        if row.victim.startswith("a worker"):
            # it goes on: what it can no longer tell is unproven, and it removes its things itself
            run.process.send_signal(signal.SIGINT) if run.process.poll() is None else None
        if not within(END, lambda: run.process.poll() is not None):
            row.hung.append(f"pytest runs {END:.0f} s after it was struck")
            run.process.kill()
            run.process.wait()
        row.end_seconds = round(time.monotonic() - struck, 1)
        mine = mine or _journals(run)
        self._sweep(run, row)
        return [path.stem for path in mine]

    def _sweep(self, run: Running, row: Row) -> None:
        began = time.monotonic()
        row.swept_by = "its watcher" if _journals(run) else "the run itself"
        if not within(WATCH, lambda: not _watchers(run.token)):
            row.hung.append(f"the watcher runs {WATCH:.0f} s after the run's end")
        with self._sweeping:
            self._sweep_by_hand(run, row)
        row.sweep_seconds = round(time.monotonic() - began, 1)
        within(10, lambda: not census.processes(run.token))
        row.left += sorted(census.processes(run.token))

    def _sweep_by_hand(self, run: Running, row: Row) -> None:
        if not _journals(run):
            return
        row.swept_by = "lab sweep"
        environment = {**os.environ}
        lab = "box"
        if row.kind == "engine" and self.engine:
            lab, environment["DOCKER_HOST"] = str(self.engine[0]), self.engine[1]
        for words in ((), ("--remove",)):
            done = subprocess.run(
                [sys.executable, "-m", "provision", "lab", "sweep", "--lab", lab, *words],
                cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
        said = done.stdout + done.stderr
        (self._folder(row) / "sweep").write_text(said)
        if _journals(run) or (done.returncode and ANOTHERS not in said):
            row.left.append(f"lab sweep ended with {done.returncode}: {said[-900:]}")


def _hit(victim: str, run: Running, watcher: psutil.Process | None, paths: list[Path]) -> None:
    with suppress(psutil.Error, ProcessLookupError):
        if victim.startswith("a worker"):
            workers = [each for each in run.children() if each != watcher]
            if workers:
                random.choice(workers).kill()
                time.sleep(1.0)
            return
        if watcher and (victim.startswith("watcher") or victim == "power cut"):
            watcher.kill()
        if "SIGTERM" in victim:
            run.process.terminate()
        elif "SIGINT" in victim:
            run.process.send_signal(signal.SIGINT)
            if victim.endswith("twice"):
                time.sleep(1.0)
                run.process.send_signal(signal.SIGINT)
        else:
            run.process.kill()
        if victim == "power cut":
            run.process.wait()
            for path in paths:
                _cut(path)


def _cut(path: Path) -> None:
    """The last line of a journal as a power cut may leave it: what was not waited for is not on the disk."""
    with suppress(OSError):
        data = path.read_bytes()
        last = data.rstrip(b"\n").rfind(b"\n") + 1
        if b'"intend"' not in data[last:] and b'"begin"' not in data[last:]:
            os.truncate(path, last + (len(data) - last) // 2)


def _journals(run: Running) -> list[Path]:
    """The journals that a run has begun, and that are still there."""
    found = []
    for path in journals.folder().glob("*.jsonl"):
        with suppress(OSError, ValueError), path.open(encoding="utf-8") as file:
            if json.loads(file.readline()).get("pid") == run.process.pid:
                found.append(path)
    return found


def _whose(thing: str, wave: list[Row], runs: list[list[str]]) -> Row:
    return next(
        (row for row, names in zip(wave, runs, strict=True) if any(n in thing for n in names)), wave[0]
    )


def _watchers(token: str) -> list[str]:
    return [each for each in census.processes(token) if "provision.watcher" in each]


def _doing(text: str) -> str:
    """The last that the run told of what it was making, or checking."""
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    return lines[-1][-90:] if lines else "nothing told yet"


def as_json(rows: list[Row], **facts: Any) -> dict[str, Any]:
    return {
        **facts,
        "kills": len(rows),
        "things_in_journals": sum(row.things for row in rows),
        "left": sum(len(row.left) for row in rows),
        "foreign_touched": sum(len(row.touched) for row in rows),
        "hung": sum(len(row.hung) for row in rows),
        "slowest_end_seconds": max((row.end_seconds for row in rows), default=0.0),
        "slowest_sweep_seconds": max((row.sweep_seconds for row in rows), default=0.0),
        "rows": [asdict(row) for row in rows],
    }
