"""The class: groups in parallel up to a limit, each by itself, resumed where it was interrupted."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from grading.group import Command, Ended, Turn
from grading.progress import Progress
from reports.roster import Entry
from reports.text import one_line

ROOT = Path(__file__).resolve().parent.parent


def suites(lab: str = "", arguments: Sequence[str] = ()) -> Command:
    """What examines a group: the suites' observing checks, attached to its cloud or its submission file.

    Args:
        lab: lab file, or its name; empty for the suites' own default.
        arguments: further ones for pytest; without any, all suites.
    """

    def words(entry: Entry, runs: Path) -> list[str]:
        attach = str(entry.submission.resolve()) if entry.submission else entry.cloud
        given = [*arguments] or ["-q"]
        named = any(not each.startswith("-") and Path(each.partition("::")[0]).exists() for each in given)
        paths = [] if named else [str(ROOT / "suites")]
        made = [
            sys.executable,
            "-m",
            "pytest",
            "--rootdir",
            str(ROOT),
            "-c",
            str(ROOT / "pyproject.toml"),
            *paths,
        ]
        made += [*given, "--attach", attach, "--report-dir", str(runs.absolute())]
        place = str(Path(lab).absolute()) if lab.endswith(".toml") else lab
        return [*made, "--lab", place] if lab else made

    return words


class InterruptedRunError(Exception):
    """It was told to stop; what had ended stays, the same command goes on with the rest."""


def run(
    entries: Sequence[Entry],
    folder: Path,
    command: Command,
    progress: Progress,
    *,
    parallel: int = 4,
    limit: float = 3600.0,
    again: bool = False,
) -> list[Ended]:
    """Examines every group that is not done yet.

    A group that breaks, takes too long or cannot be started never stops the others.

    Args:
        parallel: groups at the same time.
        limit: seconds that one may take.
        again: examine those that are done, too.

    Returns:
        How each group's turn ended, now or before, in the roster's order.

    Raises:
        InterruptedRunError: by a signal (SIGINT, SIGTERM).
        OSError: a submission file cannot be read.
    """
    turns = [Turn(entry, folder, command) for entry in entries]
    return asyncio.run(_all(turns, progress, parallel, limit, again))


async def _all(
    turns: Sequence[Turn], progress: Progress, parallel: int, limit: float, again: bool
) -> list[Ended]:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, task.cancel)
    places = asyncio.Semaphore(parallel)
    progress.total(len(turns))

    async def one(turn: Turn) -> Ended:
        if not again and (before := turn.done()):
            progress.kept(before)
            return before
        async with places:
            progress.begins(turn)
            try:
                ended = await turn.take(limit)
            except OSError as error:
                ended = Ended(turn.entry.group, "broken", reason=one_line(str(error)))
            progress.ends(turn, ended)
            return ended

    watching = asyncio.create_task(_watch(progress))
    try:
        return list(await asyncio.gather(*map(one, turns)))
    except asyncio.CancelledError:
        raise InterruptedRunError from None
    finally:
        watching.cancel()


async def _watch(progress: Progress) -> None:
    while True:
        await asyncio.sleep(1)
        progress.looks()
