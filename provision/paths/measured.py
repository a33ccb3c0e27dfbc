"""What was measured of paths: observations, by source, address and what was sent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from probes.observation import Observation, Outcome
from provision.paths.configuration import ICMP, Traffic


@dataclass(frozen=True)
class Question:
    """What an observation asked."""

    source: str
    target: IPv4Address
    traffic: Traffic


@dataclass(frozen=True)
class Measured:
    """The last answer to each question; looks that could not be made are left out."""

    answers: dict[Question, Outcome]

    def outcome(self, question: Question) -> Outcome | None:
        return self.answers.get(question)

    def reached_by(self, target: IPv4Address, traffic: Traffic | None, but: str) -> list[str]:
        """The other sources that reached an address, by that traffic if one is named."""
        found = [
            question.source
            for question, outcome in self.answers.items()
            if question.target == target
            and outcome is Outcome.REACHABLE
            and traffic in (None, question.traffic)
            and question.source != but
        ]
        return sorted(set(found))

    def reached_from(self, source: str, but: IPv4Address) -> list[IPv4Address]:
        """The other addresses that a source reached."""
        return sorted(
            {
                question.target
                for question, outcome in self.answers.items()
                if question.source == source and outcome is Outcome.REACHABLE and question.target != but
            }
        )


def asked(seen: Observation) -> Question | None:
    """What a look at reachability asked; None for another look, and for one at a name.

    >>> asked(Observation("http", "sum", "http://20.4.5.88:50000/", "curl ...", Outcome.FILTERED))
    Question(source='sum', target=IPv4Address('20.4.5.88'), traffic=Traffic(protocol='tcp', port=50000))
    """
    target, port = seen.target, int(seen.numbers.get("port", 0))
    if seen.probe == "http":
        try:
            url = urlsplit(seen.target)
            target, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        except ValueError:
            return None
    elif seen.probe not in ("ping", "tcp", "greeting"):
        return None
    try:
        address = IPv4Address(target)
    except ValueError:
        return None
    if seen.probe == "ping":
        return Question(seen.source, address, ICMP)
    return Question(seen.source, address, Traffic("tcp", port)) if port else None


def measured(observations: Iterable[Observation]) -> Measured:
    """The answers of many looks."""
    answers: dict[Question, Outcome] = {}
    for seen in sorted(observations, key=lambda each: each.started):
        question = asked(seen)
        if question is not None and seen.outcome is not Outcome.NOT_MADE:
            answers[question] = seen.outcome
    return Measured(answers)
