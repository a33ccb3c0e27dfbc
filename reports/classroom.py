"""A class: the newest run of each group, graded; found in a folder, named by run files, or by a roster."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from reports.grades import Grade, grade
from reports.roster import Entry, slug
from reports.rubric import Rubric
from reports.runfile import RunFileError, Verdict, read
from reports.text import one_line

_FEW = 8  # runs from which on several processes read them


_Work = tuple[str, str, list[Path], Entry | None]


class ClassError(Exception):
    """No class can be made of what was named; the text says why."""


@dataclass(frozen=True)
class Member:
    """A group of the class, with what its run came to.

    Attributes:
        name: the group's; ``slug`` is what its files are called.
        path: its run file; None where there is none.
        verdicts: claim -> verdict in the run; None for one of which a check did not run.
        reasons: claim -> why it failed or is unproven, a line.
        problem: why there is no grade: no run, or one that cannot be read.
    """

    name: str
    slug: str
    path: Path | None = None
    run: str = ""
    started: str = ""
    verdicts: Mapping[str, str | None] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    grade: Grade | None = None
    problem: str = ""
    entry: Entry | None = None


def find(sources: Sequence[Path]) -> dict[str, list[Path]]:
    """Run files by group: the folder under the one named, or a run file's own.

    Raises:
        ClassError: something named is not there, or nothing was found.
    """
    found: dict[str, list[Path]] = {}
    for source in sources:
        if source.is_dir():
            for path in _below(source):
                parts = path.relative_to(source).parts
                group = parts[0] if len(parts) > 1 else source.resolve().name
                found.setdefault(group, []).append(path)
        elif source.is_file():
            group = source.parent.resolve().name if source.name == "run.json" else source.stem
            found.setdefault(group, []).append(source)
        else:
            raise ClassError(f"{source}: there is no such folder or file")
    if not found:
        raise ClassError(f"{', '.join(map(str, sources))}: no run.json in it")
    return found


def _below(folder: Path) -> Iterator[Path]:
    # links are not followed: `latest` leads to a run that is there by its own name
    for here, folders, files in os.walk(folder):
        folders.sort()
        if "run.json" in files:
            yield Path(here) / "run.json"


def gather(sources: Sequence[Path], rubric: Rubric, roster: Sequence[Entry] | None = None) -> list[Member]:
    """The class: every group of the roster, or else every group found, with its newest run graded.

    A run that cannot be read leaves its group without a grade and says why; the others are not touched.

    Raises:
        ClassError: see :func:`find`; or nothing of the roster was found.
    """
    found = {slug(group) or "group": (group, paths) for group, paths in find(sources).items()}
    if roster is None:
        work: list[_Work] = [(group, key, paths, None) for key, (group, paths) in found.items()]
        work.sort(key=lambda each: _natural(each[1]))
    else:
        work = [(each.group, each.slug, found.get(each.slug, ("", []))[1], each) for each in roster]
        if not any(paths for _, _, paths, _ in work):
            raise ClassError(f"no group of the roster has a run there; there are: {', '.join(found)[:300]}")
    make = partial(_member, rubric)
    if sum(len(paths) for _, _, paths, _ in work) < _FEW:
        return [make(each) for each in work]
    with ProcessPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
        return list(pool.map(make, work, chunksize=4))


def _natural(name: str) -> list[tuple[int, str]]:
    """Group 2 before group 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name[:80])]


def _member(rubric: Rubric, work: _Work) -> Member:
    name, key, paths, entry = work
    newest: tuple[float, Path, dict[str, Any]] | None = None
    problem = "no run of this group was found"
    for path in paths:
        try:
            run = read(path)
        except RunFileError as error:
            problem = one_line(str(error), 300)
            continue
        if newest is None or when(run) > newest[0]:
            newest = (when(run), path, run)
    if newest is None:
        return Member(name, key, problem=problem, entry=entry)
    _, path, run = newest
    return Member(
        name,
        key,
        path,
        run["run"],
        run["started"],
        {claim_id: claim["verdict"] for claim_id, claim in run["claims"].items()},
        reasons(run),
        grade(run, rubric),
        entry=entry,
    )


def when(run: Mapping[str, Any]) -> float:
    """A run's start as Unix time; 0 where the file does not say it."""
    try:
        return datetime.fromisoformat(run["started"]).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def reasons(run: Mapping[str, Any]) -> dict[str, str]:
    """Why each claim that is not proven is not, a line."""
    found: dict[str, str] = {}
    for check in run["checks"]:
        for claim_id in check["claims"]:
            claim = run["claims"].get(claim_id)
            if claim and check["verdict"] == claim["verdict"] != Verdict.PASS and check["reason"]:
                found.setdefault(claim_id, one_line(check["reason"], 200))
    return found


@dataclass(frozen=True)
class Missed:
    """How a claim went over the class."""

    claim: str
    failed: int
    unproven: int
    examined: int
    reason: str


def missed(members: Sequence[Member]) -> list[Missed]:
    """Claims that anybody missed, the most failed first; with the most common reason."""
    counts: dict[str, list[str | None]] = {}
    said: dict[str, list[str]] = {}
    for member in members:
        for claim_id, verdict in member.verdicts.items():
            counts.setdefault(claim_id, []).append(verdict)
            if verdict == Verdict.FAIL and claim_id in member.reasons:
                said.setdefault(claim_id, []).append(member.reasons[claim_id])
    rows = []
    for claim_id, verdicts in counts.items():
        failed, unproven = verdicts.count(Verdict.FAIL), verdicts.count(Verdict.UNPROVEN)
        examined = sum(each in (Verdict.PASS, Verdict.FAIL, Verdict.UNPROVEN) for each in verdicts)
        if failed or unproven:
            common = max(said.get(claim_id, [""]), key=said.get(claim_id, [""]).count)
            rows.append(Missed(claim_id, failed, unproven, examined, common))
    return sorted(rows, key=lambda each: (-each.failed, -each.unproven))


def distribution(members: Sequence[Member], out_of: Fraction, bins: int = 10) -> list[tuple[float, int, int]]:
    """Grades in equal steps: lower end, groups whose grade is final, groups whose lowest grade it is."""
    step = out_of / bins
    counted = [[0, 0] for _ in range(bins)]
    for member in members:
        if member.grade is None or member.grade.lowest is None:
            continue
        place = min(int(member.grade.lowest / step), bins - 1)
        counted[place][member.grade.final is None] += 1
    return [(float(step * number), final, open_) for number, (final, open_) in enumerate(counted)]
