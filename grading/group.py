"""One group's turn: the suites in a process of their own, what it printed, and how it ended."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from reports.roster import Entry
from reports.runfile import RunFileError, read, write_whole
from reports.text import one_line, plain

Command = Callable[[Entry, Path], Sequence[str]]

OUTPUT_KEPT = 10 * 1024 * 1024  # bytes of what a group's process prints
GRACE = 30.0  # seconds that an interrupted process has to write its reports

_HEAD = 4_096  # bytes of a run file that hold its counts
_COUNTS = re.compile(r'"(pass|fail|unproven|skip)": (\d+)')


class BusyError(Exception):
    """A process of an earlier, killed run still examines the group."""


@dataclass(frozen=True)
class Ended:
    """How a group's turn ended; kept in ``state.json`` in the group's folder.

    Attributes:
        status: ``ended`` with a whole run file, ``broken`` without one, ``timed out``, ``busy``.
        work: what was examined and how, so that another roster's is not taken for it.
        reason: one line, where it did not end well.
        counts: verdicts of the run.
    """

    group: str
    status: str
    work: str = ""
    run: str = ""
    reason: str = ""
    seconds: float = 0.0
    counts: dict[str, int] | None = None

    @property
    def well(self) -> bool:
        return self.status == "ended"


class Turn:
    """A group's turn in a folder of its own: ``runs/``, ``output.log``, ``state.json``.

    Args:
        entry: the group.
        folder: of the class.
        command: what examines it; told the entry and where the run's folder is to be made.
    """

    def __init__(self, entry: Entry, folder: Path, command: Command) -> None:
        self.entry = entry
        self.folder = folder / entry.slug
        self.runs = self.folder / "runs"
        self.words = [str(word) for word in command(entry, self.runs)]
        self._before: set[Path] = set()
        content = entry.submission.read_bytes() if entry.submission else b""
        self.work = hashlib.sha256("\0".join(self.words).encode() + b"\0" + content).hexdigest()[:16]

    def done(self) -> Ended | None:
        """How the same work ended before, if it did and its run is still there."""
        try:
            ended = Ended(**json.loads((self.folder / "state.json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        there = ended.well and ended.work == self.work and (self.folder / ended.run).is_file()
        return ended if there else None

    async def take(self, limit: float) -> Ended:
        """Examines the group.

        Args:
            limit: seconds that it may take; then it is interrupted, and killed if it does not heed that.

        Raises:
            OSError: its folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return Ended(
                    self.entry.group,
                    "busy",
                    reason="a process of an earlier run still examines it; it is left to end",
                )
            (self.folder / "state.json").unlink(missing_ok=True)
            self._before = set(self._run_files())
            ended = await self._run(lock, limit)
            state = json.dumps(asdict(ended), ensure_ascii=False, indent=1) + "\n"
            write_whole(self.folder / "state.json", state.encode("utf-8", "backslashreplace"))
            return ended

    def so_far(self) -> dict[str, int]:
        """Verdicts of the run that goes on, and the checks ``planned``."""
        path = self._newest()
        if path is None:
            return {}
        with suppress(OSError), path.open("rb") as stream:
            head = stream.read(_HEAD).decode("utf-8", "replace")
            planned = re.search(r'"planned": (\d+)', head)
            verdicts = head.partition('"verdicts"')[2].partition("}")[0]
            return {
                "planned": int(planned[1]) if planned else 0,
                **{kind: int(count) for kind, count in _COUNTS.findall(verdicts)},
            }
        return {}

    async def _run(self, lock: IO[str], limit: float) -> Ended:
        clock = time.monotonic()

        def ended(status: str, reason: str = "", **more: Any) -> Ended:
            seconds = round(time.monotonic() - clock, 1)
            return Ended(self.entry.group, status, self.work, reason=reason, seconds=seconds, **more)

        try:
            # the lock goes with the process: killed with this one gone, it still keeps the next run off
            process = await asyncio.create_subprocess_exec(
                *self.words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        except OSError as error:
            return ended("broken", f"{self.words[0]}: cannot be run: {error}")
        output = asyncio.create_task(self._keep(process))
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), limit)
            timed_out = False
        except TimeoutError:
            timed_out = True
        finally:
            await asyncio.shield(_end(process))
            last = await asyncio.shield(output)
        if timed_out:
            return ended("timed out", f"took more than {limit / 60:g} minutes and was interrupted")
        return self._judge(process.returncode, last, ended)

    def _judge(self, status: int | None, last: str, ended: Callable[..., Ended]) -> Ended:
        path = self._newest()
        if path is None:
            return ended("broken", f"exit status {status} and no run file: {last or 'it printed nothing'}")
        try:
            run = read(path)
        except RunFileError as error:
            return ended("broken", one_line(str(error)))
        found = {"run": str(path.relative_to(self.folder)), "counts": run["summary"]["verdicts"]}
        if run["exit_status"] is None or status not in (0, 1):
            return ended("broken", f"exit status {status} before the run's end: {last}", **found)
        return ended("ended", **found)

    def _run_files(self) -> list[Path]:
        """Links such as ``latest`` left aside; by name, which begins with the time."""
        return sorted(each for each in self.runs.glob("*/run.json") if not each.parent.is_symlink())

    def _newest(self) -> Path | None:
        """The run file that this turn has made."""
        made = [each for each in self._run_files() if each not in self._before]
        return made[-1] if made else None

    async def _keep(self, process: asyncio.subprocess.Process) -> str:
        """Keeps what the process prints, to a limit; returns the last line that tells of an error, or just the last."""
        assert process.stdout is not None
        kept, tail = 0, b""
        with (self.folder / "output.log").open("wb") as stream:
            while chunk := await process.stdout.read(65_536):
                stream.write(chunk[: OUTPUT_KEPT - kept])
                stream.flush()
                kept = min(kept + len(chunk), OUTPUT_KEPT)
                tail = (tail + chunk)[-4_096:]
        lines = [line.strip() for line in plain(tail.decode("utf-8", "replace")).splitlines() if line.strip()]
        telling = [line for line in lines if "error" in line.lower()] or lines
        return one_line(telling[-1]) if telling else ""


async def _end(process: asyncio.subprocess.Process) -> None:
    """Interrupts a process that still runs, then kills it and all that it has started."""
    for number, patience in ((signal.SIGINT, GRACE), (signal.SIGKILL, 10.0)):
        if process.returncode is not None:
            break
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # what it may have left in its session
