"""A process that outlives a run, and removes what the run left when it was killed.

It is started by the run, in a session of its own, and reads from a pipe of which the run has the other end: the
word ``done`` tells it that the run removed its things itself; an end without it, that the run died. Then it
sweeps by the run's journal (:mod:`provision.sweeper`). Killed itself, it leaves the journal for ``lab sweep``.

Nothing secret is on its command line; how the cloud is reached, it reads where the run did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from provision import journal as journals
from provision.box.paths import state

ROOT = Path(__file__).resolve().parent.parent
DONE = b"done\n"
DEAF = 'trap "" INT TERM HUP; exec "$@"'
"""Who stops a run often stops all of its session or service: the watcher is there for what comes after."""
LOGS = 20
"""So many logs of watchers that had something to do are kept."""
TRIES = 3
AGAIN = 30.0
DEATH = 10.0


class Watcher:
    """The watcher of a run, from the run's side.

    Args:
        journal: the run's journal.
        lab: the lab file.
    """

    def __init__(self, journal: Path, lab: Path) -> None:
        words = ["--lab", str(lab.resolve()), "--journal", str(journal.resolve())]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        # in the run's own folder: a clouds.yaml may be there
        self._process = subprocess.Popen(
            ["sh", "-c", DEAF, "sh", sys.executable, "-m", "provision.watcher", *words],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def dismiss(self) -> None:
        """The run has removed what it made: the watcher ends."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.write(DONE)
            self._process.stdin.flush()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def leave(self) -> None:
        """The run ends, and has left something: the watcher tries once more to remove it."""
        assert self._process.stdin
        with suppress(BrokenPipeError):
            self._process.stdin.close()


def log_of(run: str) -> Path:
    """What the watcher of a run that died has written."""
    return state() / "watchers" / f"{run}.log"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m provision.watcher", description=__doc__)
    parser.add_argument("--lab", required=True)
    parser.add_argument("--journal", type=Path, required=True)
    args = parser.parse_args(argv)
    # read without Python's buffer: whatever else comes, the end of the file is the end of the run
    said = b""
    while chunk := os.read(0, 64):
        said += chunk
    if said.endswith(DONE) or not args.journal.exists():
        return 0
    return _sweep(args.journal, args.lab)


def _sweep(path: Path, lab_name: str) -> int:
    from provision.connection import cloud_of
    from provision.lab import Lab
    from provision.sweeper import Sweeper

    record = journals.read(path)
    log = log_of(record.run)
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _prune(log.parent)
    with log.open("a", encoding="utf-8", buffering=1) as file:

        def tell(line: str) -> None:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")

        if not _died(path):
            tell(f"run {record.run} closed its pipe and still runs; nothing is removed")
            return 1
        tell(f"run {record.run} has died; its journal has {len(record.left)} things")
        try:
            lab = Lab.load(lab_name)
            sweeper = Sweeper(lab, lambda: cloud_of(lab), tell)
            for attempt in range(TRIES):
                if attempt:
                    time.sleep(AGAIN)
                swept = sweeper.remove(journals.read(path))
                for each in swept.removed:
                    tell(f"removed: {each}")
                for each in swept.left:
                    tell(f"left behind: {each}")
                if not swept.left:
                    tell("all of it is removed")
                    return 0
                if not path.exists():
                    return 0
        except Exception as error:  # noqa: BLE001 - there is nobody else to tell it to
            tell(f"not removed: {error!r}; `python -m provision lab sweep` shows what is there")
    return 1


def _died(path: Path) -> bool:
    """Whether the run has ended; the pipe may close a moment before."""
    end = time.monotonic() + DEATH
    while journals.read(path).alive:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _prune(folder: Path) -> None:
    # a log that goes meanwhile is another watcher's doing, and no reason not to sweep
    with suppress(FileNotFoundError):
        logs = sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime)
        for old in logs[: -LOGS + 1]:
            old.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
