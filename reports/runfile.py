"""The run file: everything that a run found, as one JSON document. All other reports derive from it."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from probes.observation import Observation
from reports.claims import Claim, objective
from reports.redaction import REDACTED, SECRET_KEY, known
from reports.text import cut

VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("run.schema.json")
OUTPUT_LIMIT = 64 * 1024  # characters of one observation that are kept; a class of runs is read into memory

_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"  # RFC 4648, in lower case


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    UNPROVEN = "unproven"
    SKIP = "skip"


class RunFileError(Exception):
    """A run file cannot be used; the text names the file, the place in it and the reason."""


def new_run_id(now: datetime | None = None) -> str:
    """A new run's name such as ``20261121-023000-ab12c``: local time, so that folders sort as people expect.

    The last part, :func:`short_id`, is what names on a shared cloud carry (``labproof-ab12c-front``).
    """
    moment = now or datetime.now().astimezone()
    return f"{moment:%Y%m%d-%H%M%S}-{''.join(secrets.choice(_BASE32) for _ in range(5))}"


def short_id(run_id: str) -> str:
    return run_id.rpartition("-")[2]


def redact(value: Any, key: str = "") -> Any:
    """A copy of ``value`` without this run's secrets, nor what looks like one, by its key or by its form."""
    if key and SECRET_KEY.search(key) and value not in (None, "", True, False):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(k): redact(v, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redact(each) for each in value]
    if isinstance(value, (int, float)) or value is None:
        return value
    return known.clean(str(value))


def cleaned(value: Any) -> Any:
    """A copy of ``value``, plain data, without secrets in its texts; its keys are ours and tell of none."""
    if isinstance(value, str):
        return known.clean(value)
    if isinstance(value, Mapping):
        return {key: cleaned(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(each) for each in value]
    return value


@dataclass
class Check:
    """One check as it went.

    Attributes:
        id: the check's node id; ``title`` the first line of its docstring.
        claims: ids of the claims it carries.
        acts: whether it changes the lab.
        verdict: ``None`` while it runs.
        reason: one line for people: why it failed, could not be made or was skipped.
        diagnosis: what is known of where it broke, a line each.
        observations: what was looked at for it, oldest first.
        traceback: for who maintains the check.
        left_behind: what its tear-down could not remove; the verdict stands beside it.
        phases: seconds of set-up, call and tear-down.
        started: Unix time.
    """

    id: str
    claims: tuple[str, ...]
    title: str = ""
    acts: bool = False
    verdict: Verdict | None = None
    reason: str = ""
    diagnosis: list[str] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    traceback: str = ""
    left_behind: str = ""
    phases: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.time)

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())

    @property
    def where(self) -> list[str]:
        """The hosts that were looked from, in order of first use."""
        return list(dict.fromkeys(observation.source for observation in self.observations))

    def as_json(self, claims: Mapping[str, Claim]) -> dict[str, Any]:
        carried = [claims[each] for each in self.claims if each in claims]
        return {
            "id": self.id,
            "title": self.title,
            "claims": list(self.claims),
            "objectives": list(dict.fromkeys(objective(claim.objective).key for claim in carried)),
            "verdict": self.verdict,
            "reason": self.reason,
            "diagnosis": self.diagnosis,
            "acts": self.acts,
            "where": self.where,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "phases": {phase: round(seconds, 3) for phase, seconds in self.phases.items()},
            "left_behind": self.left_behind,
            "observations": [_observation(each) for each in self.observations],
            "traceback": cut(self.traceback, OUTPUT_LIMIT),
        }


def _observation(observation: Observation) -> dict[str, Any]:
    document = observation.as_json()
    document["output"] = cut(document["output"], OUTPUT_LIMIT)
    return document


class RunFile:
    """A run's record while it goes: kept in memory, and on disk after each check.

    A check is turned into JSON once; writing again joins the texts, so that a long run costs no more per
    check than a short one but for the bytes written.
    """

    def __init__(self, run_id: str, claims: Mapping[str, Claim], *, lab: str = "") -> None:
        self.id = run_id
        self.lab = lab
        self.claims = claims
        self.planned: dict[str, tuple[str, ...]] = {}
        self.facts: dict[str, Any] = {}
        self.drawings: list[dict[str, str]] = []
        self.matrices: list[dict[str, Any]] = []
        self.timings: list[dict[str, Any]] = []
        self.checks: dict[str, dict[str, Any]] = {}
        self.path: Path | None = None
        self.exit_status: int | None = None
        self.started = datetime.now().astimezone()
        self._clock = time.monotonic()
        self._texts: dict[str, str] = {}

    def open(self, report_dir: Path) -> Path:
        """Makes the run's folder, and ``latest`` beside it a link to it; returns the folder.

        Raises:
            RunFileError: the folder cannot be made.
        """
        folder = report_dir / self.id
        try:
            folder.mkdir(parents=True)
            link = report_dir / f".latest-{self.id}"
            link.symlink_to(self.id)
            link.replace(report_dir / "latest")
        except OSError as error:
            raise RunFileError(f"{folder}: the run's folder cannot be made: {error}") from error
        self.path = folder / "run.json"
        self.write()
        return folder

    def record(self, check: Check) -> None:
        document = {**cleaned(check.as_json(self.claims)), "id": check.id}
        self.checks[check.id] = document
        self._texts[check.id] = _dumps(document)
        self.write()

    def head(self) -> dict[str, Any]:
        """The document but for its checks."""
        checks = list(self.checks.values())
        carried = _claims(self.planned, checks, self.claims)
        return {
            "version": VERSION,
            "run": self.id,
            "lab": str(self.facts.get("lab") or self.lab),
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 3),
            "exit_status": self.exit_status,
            "planned": len(self.planned),
            "summary": summarise(checks),
            "claims": carried,
            "not_proven": [each for each, claim in carried.items() if claim["verdict"] != Verdict.PASS],
            "left_behind": {each["id"]: each["left_behind"] for each in checks if each["left_behind"]},
            "facts": redact(self.facts),
            "timings": cleaned(self.timings),
            "drawings": cleaned(self.drawings),
            "matrices": cleaned(self.matrices),
        }

    def as_json(self) -> dict[str, Any]:
        return {**self.head(), "checks": list(self.checks.values())}

    def write(self) -> None:
        """Replaces the file as a whole: a reader, or a kill, never meets half of it."""
        if self.path is None:
            return
        head = _dumps(self.head(), indent=1).removesuffix("\n}")
        checks = ",\n".join(self._texts.values())
        text = f'{head},\n "checks": [\n{checks}\n ]\n}}\n'
        # A lone surrogate (undecodable output) has no UTF-8; written as \udcXX it is JSON all the same.
        write_whole(self.path, text.encode("utf-8", "backslashreplace"))


def summarise(checks: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts of verdicts, overall and per objective; a check of two objectives counts in each."""
    overall = dict.fromkeys(map(str, Verdict), 0)
    objectives: dict[str, dict[str, int]] = {}
    for check in checks:
        if check["verdict"] is None:
            continue
        overall[check["verdict"]] += 1
        for key in check["objectives"]:
            objectives.setdefault(key, dict.fromkeys(map(str, Verdict), 0))[check["verdict"]] += 1
    order = sorted(objectives, key=lambda key: objective(int(key.partition("/")[0])))
    named = [
        {"key": key, "name": objective(int(key.partition("/")[0])).name, **objectives[key]} for key in order
    ]
    return {"verdicts": overall, "objectives": named}


def _claims(
    planned: Mapping[str, tuple[str, ...]], checks: Iterable[Mapping[str, Any]], claims: Mapping[str, Claim]
) -> dict[str, dict[str, Any]]:
    verdicts: dict[str, list[str | None]] = {}
    done = {check["id"]: check["verdict"] for check in checks}
    for check_id, carried in planned.items():
        for claim_id in carried:
            verdicts.setdefault(claim_id, []).append(done.get(check_id))
    return {
        each: {
            "objective": claim.objective,
            "text": claim.text,
            "verdict": _claim_verdict(verdicts[each]),
        }
        for each, claim in claims.items()
        if each in verdicts
    }


def _claim_verdict(verdicts: list[str | None]) -> str | None:
    """A claim holds when all of its checks pass; one that did not run leaves it open."""
    for decisive in (Verdict.FAIL, Verdict.UNPROVEN):
        if decisive in verdicts:
            return decisive
    if None in verdicts:
        return None
    return Verdict.PASS if Verdict.PASS in verdicts else Verdict.SKIP


def read(path: Path) -> dict[str, Any]:
    """A run file's document, checked against the schema.

    Raises:
        RunFileError: not readable, not JSON, another version, or not of the schema's form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunFileError(f"{path}: cannot be read: {error}") from error
    if isinstance(document, dict) and document.get("version") != VERSION:
        raise RunFileError(
            f"{path}: version {document.get('version')!r}; this Labproof reads version {VERSION}"
        )
    validate(document, str(path))
    assert isinstance(document, dict)
    return document


def validate(document: Any, source: str) -> None:
    """Raises:
    RunFileError: with the place and the reason of the first offence.
    """
    import jsonschema

    problem = jsonschema.exceptions.best_match(_validator().iter_errors(document))
    if problem is not None:
        reason = problem.message if len(problem.message) < 300 else problem.message[:300] + "…"
        raise RunFileError(f"{source}: {problem.json_path}: {reason}")


@cache
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def write_whole(path: Path, content: bytes) -> None:
    """Writes beside the file and then renames, so that the path always leads to a whole one."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _dumps(document: Any, indent: int | None = None) -> str:
    return json.dumps(document, ensure_ascii=False, indent=indent, default=str, allow_nan=False)
