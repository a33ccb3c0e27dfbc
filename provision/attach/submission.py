"""Submission files: where a group's work is, how its guests are entered, and what is called how in it.

A submission is TOML, handed in by the group or written by the instructor::

    cloud = "lab-g07"                  # entry of clouds.yaml
    clouds_file = "clouds.yaml"        # from this file's folder; left out, where openstacksdk looks

    [guests]
    login = "user"                     # left out, the lab file's
    key = "id_ed25519"                 # opens the guests; without it they are looked at from outside alone

    [roles]                            # only what is not found by itself: names or ids, as the cloud lists them
    calculator = "our calculator"

    [ports]
    calculator = 50010

    [logs]
    sum = "/home/user/sum.log"

The name of a cloud alone stands for a file that names it and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provision import tables
from provision.lab import Lab
from provision.tables import Key, Table, read_table

SERVICES = ("sum", "sub", "mul", "div", "calculator")
ROLES = ("front", "back", "first_router", "second_router", "vm", "calculator", "sum", "sub", "mul", "div")
KIND = "a submission file"


class SubmissionError(tables.RefusedError):
    """A submission file is refused."""


@dataclass(frozen=True)
class Submission:
    """Where somebody's work is.

    Attributes:
        cloud: entry of clouds.yaml for the project.
        clouds_file: the clouds.yaml to read; None for the lab's.
        login: user of the guests; None for the lab's.
        key: private key file that opens them; None where they cannot be entered.
        roles: role -> name or id, as the cloud lists it, of what is not to be looked for.
        ports: service -> TCP port that it listens on.
        logs: service -> path of its log on its host.
        source: the file; None for the name of a cloud alone.
    """

    cloud: str
    clouds_file: Path | None = None
    login: str | None = None
    key: Path | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    source: Path | None = None

    @classmethod
    def load(cls, given: str | Path) -> Submission:
        """Reads a submission.

        Args:
            given: a file (what ends in ``.toml``, or is there), or else the name of a cloud.

        Raises:
            SubmissionError: the file cannot be read, or anything in it is wrong; names every problem.
        """
        path = Path(given)
        if path.suffix != ".toml" and not tables.is_file(path):
            if not str(given).strip():
                raise SubmissionError(["neither a submission file nor the name of a cloud"])
            return cls(str(given))
        try:
            document = tables.read_document(path)
        except tables.RefusedError as error:
            raise SubmissionError(error.problems) from error
        return cls.from_document(document, path)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], source: Path) -> Submission:
        """Makes a submission of a parsed file; refuses it whole with every problem (:class:`SubmissionError`)."""
        values: dict[str, Any] = {}
        problems = list(read_table(document, TOP, "", values, source, KIND))
        if "cloud" not in document:
            problems.append("cloud: is missing: the entry of clouds.yaml for the project")
        tables_of: dict[str, Any] = {key: _of(values, key) for key in ("roles", "ports", "logs")}
        problems += _twice(tables_of["roles"])
        if problems:
            raise SubmissionError([f"{source}: {problem}" for problem in problems])
        plain = {key: value for key, value in values.items() if "." not in key}
        return cls(**plain, **tables_of, source=source)

    def adapted(self, lab: Lab) -> Lab:
        """The lab, with the submission's project in place of its own.

        Flavors are those that the project's servers have: none stands for another.
        """
        return replace(
            lab,
            cloud=self.cloud,
            clouds_file=self.clouds_file or lab.clouds_file,
            login=self.login or lab.login,
            ssh_key=self.key,
            flavors={},
        )


def _of(values: Mapping[str, Any], table: str) -> dict[str, Any]:
    lead = f"{table}."
    return {key.removeprefix(lead): value for key, value in values.items() if key.startswith(lead)}


def _twice(roles: Mapping[str, str]) -> Iterator[str]:
    """Two networks, or two routers, that are one. Services may share a server."""
    for one, other in (("front", "back"), ("first_router", "second_router")):
        if one in roles and roles[one] == roles.get(other):
            yield f"roles.{other}: is {roles[one]!r}, as {one}: there are two of them"


def _log(value: Any, source: Path) -> str:
    path = tables.text(value, source)
    if not path.startswith("/") or "\n" in path:
        raise ValueError("must be the whole path of a file on the service's host, such as /home/user/sum.log")
    return path


TOP: Table = {
    "cloud": Key("cloud", tables.text),
    "clouds_file": Key("clouds_file", tables.file),
    "guests": {"login": Key("login", tables.text), "key": Key("key", tables.file)},
    "roles": {name: Key(f"roles.{name}", tables.text) for name in ROLES},
    "ports": {name: Key(f"ports.{name}", tables.port) for name in SERVICES},
    "logs": {name: Key(f"logs.{name}", _log) for name in SERVICES},
}
