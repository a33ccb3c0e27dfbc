"""What a look at a broken lab is worth: detected, rightly told, nobody else accused; and the sums over a catalogue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.fault import Fault

RED, TURNED = ("fail",), ("fail", "unproven")


@dataclass(frozen=True)
class Row:
    """What became of one fault.

    Attributes:
        missed: claims that did not turn as they should have, with their verdicts.
        accused: claims that turned though the fault does not concern them, with their verdicts.
        stayed: how many claims should have stayed as they were.
        diagnosed: whether a check that turned names the fault.
        seconds: that the look took; ``needed``, what putting in and taking out took besides.
        error: why the fault could not be put in or taken out.
    """

    id: str
    what: str
    scope: str
    red: list[str]
    open: list[str]
    words: list[str]
    claims: dict[str, str]
    missed: dict[str, str]
    accused: dict[str, str]
    stayed: int
    diagnosed: bool
    told: str
    seconds: float
    needed: float
    report: str = ""
    error: str = ""

    @property
    def detected(self) -> bool:
        return not self.missed and not self.error

    def __str__(self) -> str:
        if self.error:
            return f"{self.id}: {self.error}"
        parts = [] if self.detected else [f"not detected: {_list(self.missed)}"]
        parts += [] if self.diagnosed else [f"not told as {' or '.join(self.words)!s}"]
        parts += [f"accused: {_list(self.accused)}"] if self.accused else []
        return f"{self.id}: {'; '.join(parts) or 'as it should be'}"


def _list(claims: Mapping[str, str]) -> str:
    return ", ".join(f"{id_} is {verdict}" for id_, verdict in claims.items())


def judge(
    fault: Fault, claims: Mapping[str, str], told: str, *, seconds: float = 0.0, needed: float = 0.0,
    report: str = "", error: str = "",
) -> Row:  # fmt: skip
    """Holds what was seen against what the fault should do.

    Args:
        claims: verdicts of the claims that the fault's scope carries.
        told: reasons and diagnoses of the checks that turned.
    """
    wanted = {**dict.fromkeys(fault.open, TURNED), **dict.fromkeys(fault.red, RED)}
    others = [id_ for id_ in claims if id_ not in wanted]
    return Row(
        fault.id, fault.what, fault.scope.name, sorted(fault.red), sorted(fault.open), list(fault.words),
        dict(claims),
        missed={id_: claims.get(id_, "not run") for id_, kinds in wanted.items() if claims.get(id_) not in kinds},
        accused={id_: claims[id_] for id_ in others if claims[id_] != "pass"},
        stayed=len(others), diagnosed=any(word in told for word in fault.words), told=told[:4000],
        seconds=round(seconds, 1), needed=round(needed, 1), report=report, error=error,
    )  # fmt: skip


@dataclass
class Score:
    """The sums.

    Attributes:
        healthy: verdicts of each run on the healthy lab.
        mutants: looks at broken labs without the positive controls that the fault is seen by.
    """

    rows: list[Row] = field(default_factory=list)
    healthy: list[dict[str, str]] = field(default_factory=list)
    mutants: list[Row] = field(default_factory=list)

    def as_json(self, **more: Any) -> dict[str, Any]:
        """What `detection.json` holds."""
        alarms = [
            {"run": number, "claim": id_, "verdict": verdict}
            for number, run in enumerate(self.healthy, 1)
            for id_, verdict in run.items()
            if verdict != "pass"
        ]
        return {
            "version": 1,
            "faults": len(self.rows),
            "detected": sum(row.detected for row in self.rows),
            "diagnosed": sum(row.diagnosed for row in self.rows),
            "claims_watched": len({id_ for row in self.rows for id_ in row.claims}),
            "collateral": sum(len(row.accused) for row in self.rows),
            "should_have_stayed": sum(row.stayed for row in self.rows),
            "healthy_runs": len(self.healthy),
            "false_alarms": len(alarms),
            "without_controls": len(self.mutants),
            "without_controls_detected": sum(row.detected for row in self.mutants),
            **more,
            "alarms": alarms,
            "rows": [{**asdict(row), "detected": row.detected} for row in self.rows],
        }


def summary(score: Mapping[str, Any]) -> list[str]:
    """The sums as lines for people."""
    faults, stayed = score["faults"] or 1, score["should_have_stayed"] or 1
    return [
        f"faults {score['faults']}: detected {score['detected']} ({100 * score['detected'] / faults:.1f} %), "
        f"rightly told {score['diagnosed']} ({100 * score['diagnosed'] / faults:.1f} %)",
        f"claims watched {score['claims_watched']}; wrongly accused {score['collateral']} of {score['should_have_stayed']} "
        f"that should have stayed ({100 * score['collateral'] / stayed:.2f} %)",
        f"healthy runs {score['healthy_runs']}: false alarms {score['false_alarms']}",
        f"without its positive controls, each kind in turn: detected {score['without_controls_detected']} of "
        f"{score['without_controls']} (wanted: none)",
    ]  # fmt: skip


def not_as_it_should_be(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.detected or not row.diagnosed or row.accused]
