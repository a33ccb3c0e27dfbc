"""Runs of one lab over time: what changed between two, and which claims flap over the last of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from reports.classroom import ClassError, find, reasons, when
from reports.runfile import RunFileError, Verdict, read
from reports.text import one_line

# what a change means for who looks after the lab, the worst first
KINDS = ("broken", "no longer told", "gone", "mended", "told again", "new", "other")


@dataclass(frozen=True)
class Change:
    """A claim whose verdict is another in the second run.

    Attributes:
        before, after: verdicts; ``absent`` where a run does not carry the claim, None where a check of it
            did not run.
        kind: one of :data:`KINDS`.
        reason: why it is not proven now, or was not before.
    """

    claim: str
    text: str
    before: str | None
    after: str | None
    kind: str
    reason: str = ""


@dataclass(frozen=True)
class Series:
    """A claim's verdicts over several runs, oldest first; ``absent`` where a run does not carry it."""

    claim: str
    text: str
    verdicts: tuple[str | None, ...]
    reason: str = ""

    @property
    def turns(self) -> int:
        """How often it went from holding to not holding or back, unproven and absent left aside."""
        said = [each for each in self.verdicts if each in (Verdict.PASS, Verdict.FAIL)]
        return sum(a != b for a, b in pairwise(said))

    @property
    def flaps(self) -> bool:
        """It failed and held again without anything lasting: two turns or more."""
        return self.turns >= 2


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """The claims whose verdict changed, what broke first."""
    old, new = before["claims"], after["claims"]
    was, is_ = reasons(before), reasons(after)
    changes = []
    for claim_id in dict.fromkeys([*new, *old]):
        a, b = (run[claim_id]["verdict"] if claim_id in run else "absent" for run in (old, new))
        if a != b:
            words = str((new.get(claim_id) or old[claim_id])["text"])
            reason = is_.get(claim_id) or was.get(claim_id, "")
            changes.append(Change(claim_id, words, a, b, _kind(a, b), reason))
    return sorted(changes, key=lambda each: KINDS.index(each.kind))


def _kind(before: str | None, after: str | None) -> str:
    silent = (Verdict.UNPROVEN, Verdict.SKIP, None)
    if after == Verdict.FAIL:
        return "broken"
    if before == Verdict.FAIL and after == Verdict.PASS:
        return "mended"
    if after == "absent":
        return "gone"
    if before == "absent":
        return "new"
    if after in silent and before in (Verdict.PASS, Verdict.FAIL):
        return "no longer told"
    return "told again" if before in silent and after == Verdict.PASS else "other"


def last_runs(sources: Sequence[Path], count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """The newest runs, oldest first, and what could not be read of the others.

    Raises:
        ClassError: nothing can be read there.
    """
    paths = [path for group in find(sources).values() for path in group]
    # a run's folder begins with its date: only what can be among the last is read
    paths = sorted(paths, key=lambda path: (path.parent.name, str(path)))[-count:]
    runs, problems = [], []
    for path in paths:
        try:
            runs.append(read(path))
        except RunFileError as error:
            problems.append(one_line(str(error), 300))
    if not runs:
        raise ClassError("\n".join(problems))
    return sorted(runs, key=when), problems


def series(runs: Sequence[Mapping[str, Any]]) -> list[Series]:
    """Every claim's way through the runs, in the newest run's order."""
    texts: dict[str, str] = {}
    for run in reversed(runs):
        for claim_id, claim in run["claims"].items():
            texts.setdefault(claim_id, str(claim["text"]))
    why = [reasons(run) for run in runs]
    return [
        Series(
            claim_id,
            words,
            tuple(
                run["claims"][claim_id]["verdict"] if claim_id in run["claims"] else "absent" for run in runs
            ),
            next((each[claim_id] for each in reversed(why) if claim_id in each), ""),
        )
        for claim_id, words in texts.items()
    ]
