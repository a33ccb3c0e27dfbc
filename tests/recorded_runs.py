"""Recorded runs as a class of groups yields them: the suites' own checks, with what such a lab prints.

    python tests/recorded_runs.py FOLDER [GROUPS [nights]]   # FOLDER/<group>/runs/<run>/run.json, roster.csv,
                                                             # and FOLDER/../nights: a fortnight of one lab

Made with the project's own recorder, so that what a reader takes is what a run writes; the same seed gives
the same class.
"""

from __future__ import annotations

import ast
import csv
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from probes.observation import Observation, Outcome
from reports import drawing
from reports.claims import load
from reports.runfile import Check, RunFile, Verdict

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("sum", "sub", "mul", "div")
_START = datetime(2026, 11, 20, 8, 30, tzinfo=timezone(timedelta(hours=1)))


@dataclass(frozen=True)
class Fault:
    """What a group got wrong, or what befell the cloud.

    Attributes:
        verdicts: claim -> the verdict that it gets.
        reason: as the check says it; ``{x}`` are the group's names and addresses.
    """

    verdicts: Mapping[str, Verdict]
    reason: str
    diagnosis: tuple[str, ...] = ()


FAIL, UNPROVEN = Verdict.FAIL, Verdict.UNPROVEN
FAULTS = {
    "no route": Fault(
        {"TOP-05": FAIL, "TOP-07": FAIL},
        "{calculator} cannot reach {sum_ip}: no route",
        ("routing table of {calculator}: no way to {back}", "the next hop would be {leg}, the leg of {rt2}"),
    ),
    "wrong port": Fault(
        {"APP-09": FAIL, "APP-11": FAIL},
        "{floating}:50010 does not answer: filtered during 5.0 s",
        ("security group of {calculator}: tcp 5010 is open; 50010 is not", "the service listens on 50010"),
    ),
    "icmp closed": Fault(
        {"OS-07": FAIL, "OS-10": FAIL, "TOP-06": FAIL},
        "the desktop cannot reach {floating}: filtered, 4 of 4 packets lost",
        ("security group of {calculator}: no ingress rule for icmp",),
    ),
    "service down": Fault(
        {"APP-04": FAIL, "APP-06": FAIL, "APP-08": FAIL, "TOP-07": FAIL},
        "{div_ip}:50004 refuses the connection: nothing listens there",
        ("{div}: node DivService.js: Error: Cannot find module 'http-server'",),
    ),
    "wrong backend": Fault(
        {"APP-06": FAIL, "APP-07": FAIL, "APP-08": FAIL},
        "(5+6)*2 is 22; answered was: HTTP 502: mul does not answer at 12.7.5.99:50003",
        ("CalculatorService.js on {calculator} names 12.7.5.99; {mul} has {mul_ip}",),
    ),
    "two gateways": Fault(
        {"TOP-01": FAIL, "TOP-02": FAIL},
        "{rt2} holds {gateway}, the gateway of {front}",
        ("there is only one gateway per network; it belongs to {rt1}",),
    ),
    "no floating ip": Fault(
        {"OS-07": UNPROVEN, "OS-08": UNPROVEN, "APP-09": UNPROVEN},
        "{calculator} has no floating IP: the desktop has no address to try",
    ),
    "not entered": Fault(
        {"OS-02": UNPROVEN, "TOP-03": UNPROVEN, "TOP-05": UNPROVEN, "APP-05": UNPROVEN},
        "{sum} cannot be entered: Permission denied (publickey)",
        ("no key of this run opens the guest",),
    ),
    "cloud down": Fault(
        dict.fromkeys(("OP-01", "OP-02", "OP-03", "OP-04", "OP-05", "API-01", "API-03"), UNPROVEN),
        "the compute API did not answer within 60 s (503 Service Unavailable)",
    ),
    "no snapshot": Fault({"OP-01": FAIL, "OP-02": FAIL}, "no image of {calculator} is in the project"),
    "nat rule": Fault(
        {"NAT-08": FAIL, "NAT-10": FAIL, "NAT-11": FAIL},
        "10.1.5.89:1234 refuses the connection",
        ("the rule forwards 1234 to guest port 2222; the guest listens on 22",),
    ),
    "commit late": Fault({"CT-12": FAIL, "CT-14": FAIL}, "nano is not in ct3: command not found"),
}


@dataclass
class Group:
    """A group's own names and addresses, and what it got wrong."""

    name: str
    seed: int
    faults: tuple[str, ...] = ()
    killed_after: int | None = None
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        style = rng.choice(("{}", "{}_vm", "instance_{}", f"grp{self.seed:02d}-{{}}"))
        front, back = rng.choice((("20.4.5", "30.4.5"), ("13.0.0", "12.7.5"), ("10.5.7", "10.5.8")))
        hosts = {each: style.format(each) for each in ("calculator", *SERVICES)}
        last = rng.sample(range(20, 240), 5)
        self.names = {
            **hosts,
            "rt1": rng.choice(("RT1", "router_0", "r-public")),
            "rt2": rng.choice(("RT2", "router_1", "r-interne")),
            "front": rng.choice(("front", "private_network_2", "reseau-calc")),
            "back": rng.choice(("back", "private_network", "reseau-services")),
            "front_cidr": f"{front}.0/24",
            "back_cidr": f"{back}.0/24",
            "gateway": f"{front}.1",
            "leg": f"{front}.{rng.randint(2, 9)}",
            "calculator_ip": f"{front}.{last[0]}",
            **{f"{s}_ip": f"{back}.{last[1 + n]}" for n, s in enumerate(SERVICES)},
            "floating": f"192.168.37.{rng.randint(10, 220)}",
        }

    def topology(self) -> str:
        n = self.names
        floating = "" if "no floating ip" in self.faults else n["floating"]
        return drawing.draw(
            drawing.Model(
                (
                    drawing.Network("public", "192.168.37.0/24", external=True),
                    drawing.Network(n["front"], n["front_cidr"]),
                    drawing.Network(n["back"], n["back_cidr"]),
                ),
                (
                    drawing.Router(
                        n["rt1"],
                        drawing.Link("public", "192.168.37.71"),
                        (drawing.Link(n["front"], n["gateway"]),),
                    ),
                    drawing.Router(
                        n["rt2"],
                        None,
                        (
                            drawing.Link(n["front"], n["leg"]),
                            drawing.Link(n["back"], n["back_cidr"].replace("0/24", "1")),
                        ),
                    ),
                ),
                (
                    drawing.Server(
                        n["calculator"], (drawing.Link(n["front"], n["calculator_ip"]),), floating_ip=floating
                    ),
                    *(drawing.Server(n[s], (drawing.Link(n["back"], n[f"{s}_ip"]),)) for s in SERVICES),
                ),
            )
        )


def suite_checks() -> Iterator[tuple[str, tuple[str, ...], str, bool]]:
    """The suites' checks as they are written: id, claims, first line of the docstring, whether it acts."""
    for path in sorted((ROOT / "suites").glob("*/test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            marks = [ast.unparse(each) for each in node.decorator_list]
            claims = tuple(
                argument.value
                for each in node.decorator_list
                if isinstance(each, ast.Call) and ast.unparse(each.func).endswith("mark.claim")
                for argument in each.args
                if isinstance(argument, ast.Constant)
            )
            if claims:
                doc = (ast.get_docstring(node) or "").splitlines()
                acts = any(each.endswith("mark.acts") for each in marks)
                yield f"{path.relative_to(ROOT)}::{node.name}", claims, doc[0] if doc else "", acts


def record(folder: Path, group: Group, started: datetime | None = None, *, lab: str = "campus") -> Path:
    """Writes one run of a group into a folder of its own in ``folder``; returns the run file."""
    rng = random.Random(f"{group.seed} {group.faults}")
    started = started or _START + timedelta(minutes=17 * group.seed)
    checks = list(suite_checks())
    run = RunFile(f"{started:%Y%m%d-%H%M%S}-{_letters(group.seed)}", load(), lab=lab)
    run.started = started
    run.planned = {check_id: claims for check_id, claims, _, _ in checks}
    run.facts.update(
        {"driver": "cloud", "cloud": {"region": "RegionOne", "project": group.name}, "python": "3.11.2"}
    )
    run.timings += [
        {"step": s, "seconds": round(rng.uniform(2, 40), 3)} for s in ("networks", "routers", "servers")
    ]
    run.drawings.append({"title": "two networks, as the cloud reports it", "svg": group.topology()})
    clock = started.timestamp()
    for number, (check_id, claims, title, acts) in enumerate(checks):
        if number == group.killed_after:
            break
        check = _check(group, rng, Check(check_id, claims, title=title, acts=acts, started=clock))
        run.checks[check.id] = check.as_json(run.claims)
        clock += check.seconds
    run.exit_status = None if group.killed_after is not None else int(bool(group.faults))
    document_folder = folder / run.id
    document_folder.mkdir(parents=True)
    run.path = document_folder / "run.json"
    run._clock -= clock - started.timestamp()
    run._texts = {}
    for check_id, document in run.checks.items():
        run._texts[check_id] = _dumps(document)
    run.write()
    return run.path


def _check(group: Group, rng: random.Random, check: Check) -> Check:
    verdict, fault = Verdict.PASS, None
    for name in group.faults:
        for claim in check.claims:
            if claim in FAULTS[name].verdicts:
                verdict, fault = FAULTS[name].verdicts[claim], FAULTS[name]
    if check.claims[0].startswith("DUP-04"):
        verdict, check.reason = (
            Verdict.SKIP,
            "the lab's hypervisor is QEMU: VERR_ACCESS_DENIED is VirtualBox's",
        )
    check.verdict = verdict
    if fault is not None:
        check.reason = fault.reason.format(**group.names)
        check.diagnosis = [check.reason, *(each.format(**group.names) for each in fault.diagnosis)]
    began = check.started
    for _ in range(rng.choice((1, 2, 3, 5, 8, 13)) if verdict is not Verdict.SKIP else 0):
        look = _look(group, rng, check, began)
        check.observations.append(look)
        began += look.seconds
    if fault is not None:
        check.observations.append(
            Observation(
                "tcp", "desktop", group.names["floating"], f"nc -vz {group.names['floating']} 50010",
                Outcome.FILTERED if verdict is FAIL else Outcome.NOT_MADE,
                f"{check.reason}\n", {"sent": 4, "received": 0}, began, 5.0,
            )
        )  # fmt: skip
        check.traceback = f"suites/x.py:60: in test\n    reached(...)\nE   AssertionError: {check.reason}"
    check.phases = {"setup": 0.01, "call": round(began - check.started + 0.2, 3), "teardown": 0.01}
    return check


def _look(group: Group, rng: random.Random, check: Check, began: float) -> Observation:
    n = group.names
    kind = check.claims[0].partition("-")[0]
    makers: dict[str, Callable[[], tuple[str, str, str, str, Outcome]]] = {
        "APP": lambda: _ask(n, rng),
        "CT": lambda: ("natvm", "docker", "docker ps --all --no-trunc", _DOCKER, Outcome.SEEN),
        "API": lambda: ("api", "openstack", "openstack router list", _table(n), Outcome.SEEN),
        "OP": lambda: (
            "api",
            n["calculator"],
            f"openstack server show {n['calculator']}",
            _table(n),
            Outcome.SEEN,
        ),
    }
    source, target, command, output, outcome = makers.get(kind, lambda: _ping(n, rng, kind))()
    seconds = round(rng.uniform(0.05, 2.5), 3)
    return Observation(kind.lower(), source, target, command, outcome, output, {"ttl": 62.0}, began, seconds)


def _ping(n: Mapping[str, str], rng: random.Random, kind: str) -> tuple[str, str, str, str, Outcome]:
    if kind in ("NAT", "DUP", "CMP"):
        source, target = rng.choice(
            (("desktop", "10.0.2.15"), ("natvm", "10.1.5.89"), ("neighbour", "10.0.2.15"))
        )
    else:
        source = rng.choice(("desktop", n["calculator"], n["sum"], n["mul"]))
        target = (
            n["floating"] if source == "desktop" else n[rng.choice(("sum_ip", "mul_ip", "calculator_ip"))]
        )
    lines = [
        f"64 bytes from {target}: icmp_seq={i} ttl=62 time={rng.uniform(0.4, 3):.2f} ms" for i in range(1, 5)
    ]
    output = "\n".join(
        [f"PING {target} ({target}) 56(84) bytes of data.", *lines, "", f"--- {target} ping statistics ---",
         "4 packets transmitted, 4 received, 0% packet loss, time 3004ms"]
    )  # fmt: skip
    return source, target, f"ping -n -c 4 -W 1 {target}", output, Outcome.REACHABLE


def _ask(n: Mapping[str, str], rng: random.Random) -> tuple[str, str, str, str, Outcome]:
    if rng.random() < 0.5:
        url = f"http://{n['floating']}:50000"
        command = f"curl -sS --max-time 5 -d '(5+6)*2' {url}"
        return "desktop", url, command, "result = 22", Outcome.REACHABLE
    service = rng.choice(SERVICES)
    log = "\n".join(f"New request :\nA = {a}\nB = 3\nA + B = {a + 3}" for a in range(rng.randint(2, 20)))
    path = f"/var/log/labproof-{service}.log"
    return n[service], f"log of {service}", f"cat {path}", f"Listening on port : 50001\n{log}", Outcome.SEEN


def _table(n: Mapping[str, str]) -> str:
    rows = enumerate(("rt1", "rt2", "calculator", *SERVICES))
    return "\n".join(
        ["+--------------------------------------+------------------+--------+",
         "| ID                                   | Name             | Status |",
         *(f"| 5c2f1b7e-93d0-4c0e-a6c1-0f4d3c2b1a{i:02} | {n[k]:16.16} | ACTIVE |" for i, k in rows),
         "+--------------------------------------+------------------+--------+"]
    )  # fmt: skip


_DOCKER = "\n".join(
    ["CONTAINER ID   IMAGE       COMMAND       STATUS          PORTS                  NAMES"]
    + [
        f'{i:012x}   debian:12   "/bin/bash"   Up {i} minutes    0.0.0.0:2223->22/tcp   ct{i}'
        for i in range(1, 4)
    ]
)


def _letters(seed: int) -> str:
    rng = random.Random(f"id {seed}")
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz234567") for _ in range(5))


def _dumps(document: object) -> str:
    import json

    return json.dumps(document, ensure_ascii=False)


def groups(count: int, seed: int = 1) -> list[Group]:
    """A class: some flawless, most with one or two faults, a few with many, one killed on the way."""
    rng = random.Random(seed)
    made = []
    for number in range(1, count + 1):
        faults = rng.sample(sorted(FAULTS), rng.choices((0, 1, 2, 3, 5, 8), (10, 25, 25, 20, 14, 6))[0])
        killed = 41 if number % 37 == 0 else None
        made.append(Group(f"Group {number:02d}", number, tuple(faults), killed))
    return made


def class_of(folder: Path, count: int, seed: int = 1) -> Path:
    """Writes a class of recorded runs and its roster; returns the roster."""
    made = groups(count, seed)
    for group in made:
        record(folder / group.name.lower().replace(" ", "-") / "runs", group)
    roster = folder / "roster.csv"
    with roster.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["group", "cloud", "members"])
        for group in made:
            mails = ";".join(f"student{group.seed:03d}{letter}@example.org" for letter in "ab")
            writer.writerow([group.name, f"lab-{group.seed:02d}", mails])
    return roster


def nights(folder: Path, count: int, seed: int = 7) -> None:
    """Writes the runs of one lab over so many nights; two claims flap, one breaks and stays broken."""
    rng = random.Random(seed)
    for night in range(count):
        faults = ["icmp closed"] if night % 3 == 1 else []
        faults += ["commit late"] if night >= count * 2 // 3 else []
        faults += ["cloud down"] if rng.random() < 0.15 else []
        group = Group("campus", seed, tuple(faults))
        record(folder, group, _START + timedelta(days=night))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(class_of(target, int(sys.argv[2]) if len(sys.argv) > 2 else 100))
    if "nights" in sys.argv[3:]:
        nights(target.parent / "nights", 14)
