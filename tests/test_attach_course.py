"""Five groups on the embedded lab, each with a project of its own: graded by what they built, however they named it."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from provision.box import runtime
from provision.holdings import Holdings, holdings
from reports import rubric, runfile
from tests.attach_groups import Course, Group, Variation

pytestmark = [pytest.mark.box, pytest.mark.course]
ROOT = Path(__file__).resolve().parent.parent
NAMES = {
    "front": "réseau de façade", "back": "30", "RT1": "passerelle", "RT2": "sum", "calculator": "machine-1",
    "sum": "machine-5", "sub": "machine-4", "mul": "machine-3", "div": "calc",
}  # fmt: skip


def clutter(group: Group) -> None:
    """What lies about in a student's project: a network of no use, a router that leads nowhere, a spare address."""
    network = group.network
    spare = network.create_network(name="test")
    network.create_subnet(network_id=spare.id, name="test", ip_version=4, cidr="192.168.200.0/24")
    network.create_router(name="routeur essai")
    network.create_ip(floating_network_id=group.cloud.external_network())
    network.create_security_group(name="vieux groupe")


def without_route(group: Group) -> None:
    """The route that everybody forgets."""
    route = group.topology.host("calculator").routes[0]
    done = group.hosts["calculator"].run("sudo -n ip route del %s", str(route.destination))
    assert done.succeeded, done.stderr


VARIATIONS = {
    "alpha": Variation(),
    "bravo": Variation(
        texts={"20.4.5.": "10.77.1.", "30.4.5.": "172.29.9.", '"port": 50000': '"port": 50017'},
        names=NAMES,
        after=clutter,
    ),
    "charlie": Variation(after=without_route),
    "delta": Variation(texts={"50000-50050": "5000-5010"}),
    "echo": Variation(),
}
NO_KEY = {"echo"}
EXAMINED = 25
"""Claims that observing checks of a cloud carry."""


def _claims(verdict: str, claims: str) -> dict[str, str]:
    return dict.fromkeys(claims.split(), verdict)


EXPECTED: dict[str, dict[str, str]] = {
    "alpha": {},
    "bravo": {},
    # nothing in the back network can be entered, for the way there leads through the calculator's VM
    "charlie": _claims("fail", "TOP-05 TOP-07 APP-09")
    | _claims("unproven", "TOP-03 TOP-06 TOP-08 APP-01 APP-02 APP-03 APP-04 APP-05 APP-07 APP-11"),
    "delta": _claims("fail", "APP-09 TOP-07") | _claims("unproven", "APP-11"),
    "echo": _claims("unproven", "OS-02 OS-04 OS-08 TOP-02 TOP-03 TOP-05 TOP-06 TOP-07 TOP-08")
    | _claims("unproven", "APP-01 APP-02 APP-03 APP-04 APP-05 APP-07 APP-11"),
}
COLUMNS = {"earned": "pass", "lost": "fail", "open": "unproven"}
# what a login leaves, and what a service that is asked logs
LOGINS_AND_LOGS = re.compile(r"/var/log/|/var/lib/sudo/|/run/|/proc/|/sys/|/dev/")
FOUND = "sudo -n find / -xdev -newermt @%s -not -type d"


@dataclass(frozen=True)
class Graded:
    """A class that was graded by one command.

    Attributes:
        runs: the groups' run files.
        requests: what each group's project was asked meanwhile, by HTTP method, as the cloud's services log it.
        written: files of the guests of one group that were written meanwhile.
    """

    folder: Path
    runs: dict[str, dict[str, Any]]
    before: dict[str, Holdings]
    after: dict[str, Holdings]
    requests: dict[str, Counter[str]]
    written: list[str]

    def verdicts(self, group: str) -> dict[str, str]:
        claims = self.runs[group]["claims"]
        return {
            id_: claim["verdict"] for id_, claim in claims.items() if claim["verdict"] not in ("", "skip")
        }

    def not_passed(self, group: str) -> dict[str, str]:
        return {id_: verdict for id_, verdict in self.verdicts(group).items() if verdict != "pass"}

    def told(self, group: str, claim: str) -> str:
        """Reasons and diagnoses of the checks of a claim that did not pass."""
        checks = [each for each in self.runs[group]["checks"] if claim in each["claims"]]
        return "\n".join(
            "\n".join([check["reason"], *check["diagnosis"]])
            for check in checks
            if check["verdict"] != "pass"
        )


@pytest.fixture(scope="module")
def course(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Course, dict[str, Group]]]:
    made = Course(tmp_path_factory.mktemp("course"))
    try:
        clouds = {name: made.enrol(name) for name in VARIATIONS}
        with ThreadPoolExecutor(2) as pool:  # as many as this machine boots at a time
            groups = list(pool.map(lambda name: made.build(name, clouds[name], VARIATIONS[name]), VARIATIONS))
        yield made, dict(zip(VARIATIONS, groups, strict=True))
    finally:
        made.remove()


@pytest.fixture(scope="module")
def graded(course: tuple[Course, dict[str, Group]]) -> Graded:
    made, groups = course
    rows = ["group,submission"]
    for name, group in groups.items():
        submission = made.folder / f"{name}.toml"
        key = "" if name in NO_KEY else f'[guests]\nkey = "{group.key.file}"\n'
        submission.write_text(f'cloud = "{name}"\nclouds_file = "clouds.yaml"\n{key}')
        rows.append(f"{name},{submission.name}")
    roster = made.folder / "roster.csv"
    roster.write_text("\n".join(rows) + "\n")
    folder = made.folder / "out"
    before = {name: holdings(group.cloud) for name, group in groups.items()}
    watched = groups["alpha"].entered()
    clocks = {name: host.run("date +%s").stdout.strip() for name, host in watched.items()}
    logs = Logs()
    done = subprocess.run(
        [sys.executable, "-m", "grading", str(roster), "--lab", "box", "--parallel", "2", "-q", "-o", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    requests = {name: logs.requests(group.cloud.project) for name, group in groups.items()}
    since = {name: host.run(FOUND, clocks[name], timeout=60).stdout.split() for name, host in watched.items()}
    assert all(since.values()), f"not even the services' logs are seen to be written: {since}"
    written = [
        f"{name}: {file}"
        for name, files in since.items()
        for file in files
        if not LOGINS_AND_LOGS.match(file)
    ]
    for host in reversed([*watched.values()]):
        host.close()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    runs = {name: dict(runfile.read(folder / name / "runs" / "latest" / "run.json")) for name in groups}
    after = {name: holdings(group.cloud) for name, group in groups.items()}
    return Graded(folder, runs, before, after, requests, written)


class Logs:
    """The logs of the cloud's services from now on."""

    LINE = re.compile(r'\[[^]]* [0-9a-f]{32} ([0-9a-f]{32}) [^]]*\] [0-9.]+ "([A-Z]+) /')

    def __init__(self) -> None:
        box = runtime.running()
        assert box is not None
        folder = box.data / "log"
        self._files = [folder / f"{name}.log" for name in ("neutron-server", "nova-api", "glance-api")]
        self._sizes = [file.stat().st_size for file in self._files]

    def requests(self, project: str) -> Counter[str]:
        """How often a project's users asked, by HTTP method."""
        found: Counter[str] = Counter()
        for file, size in zip(self._files, self._sizes, strict=True):
            with file.open("rb") as stream:
                stream.seek(size)
                text = stream.read().decode(errors="replace")
            found.update(method for whose, method in self.LINE.findall(text) if whose == project)
        return found


def test_nothing_was_written(graded: Graded) -> None:
    """The cloud's own logs know no request that writes, the projects and the guests are as they were."""
    assert graded.after == graded.before
    for group, requests in graded.requests.items():
        assert requests["GET"] > 20, f"{group} was not looked at: {requests}"
        assert set(requests) <= {"GET", "HEAD"}, f"{group}: {requests}"
        facts = graded.runs[group]["facts"]["attach"]
        assert (facts["writes"], facts["refused"]) == (0, 0)
    assert not graded.written, "written in the guests:\n" + "\n".join(graded.written)


@pytest.mark.parametrize("group", VARIATIONS)
def test_each_group_is_judged_by_what_it_built(graded: Graded, group: str) -> None:
    assert graded.not_passed(group) == EXPECTED[group]
    assert len(graded.verdicts(group)) == EXAMINED


@pytest.mark.parametrize(
    ("group", "claim", "words"),
    [
        ("charlie", "TOP-05", "calculator has no route to 30.4.5.0/24; RT2's leg 20.4.5.4 would lead there"),
        ("delta", "APP-09", "no rule of calculator's security groups"),
        ("echo", "TOP-05", "the submission names no key"),
    ],
)
def test_what_is_wrong_is_named(graded: Graded, group: str, claim: str, words: str) -> None:
    assert words in graded.told(group, claim)


def test_roles_are_found_whatever_the_names(graded: Graded) -> None:
    roles = graded.runs["bravo"]["facts"]["attach"]["roles"]
    assert {part: role.partition(" (")[0] for part, role in roles.items()} == {**NAMES, "vm": "machine-1"}


def test_the_points_are_those_of_the_verdicts(graded: Graded) -> None:
    """A claim that is proven earns its points, one that fails loses them, one that cannot be told leaves them open."""
    worth = {each.claim: each.points for part in rubric.load().parts for each in part.claims}
    with (graded.folder / "class" / "grades.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = {row["group"]: row for row in csv.DictReader(file)}
    for group, row in rows.items():
        sums = dict.fromkeys(("pass", "fail", "unproven"), Fraction(0))
        for claim, verdict in graded.verdicts(group).items():
            sums[verdict] += worth.get(claim, 0)
        told = {verdict: Fraction(row[column]) for column, verdict in COLUMNS.items()}
        assert told == sums, group
    assert [rows[group]["grade"] for group in ("alpha", "bravo")] == ["20", "20"]
