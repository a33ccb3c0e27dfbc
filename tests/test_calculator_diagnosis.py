"""The diagnosis of a calculator, on real services in namespaces: each fault is put in, and is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from fixtures import calculator_diagnosis
from fixtures.calculator_diagnosis import Diagnosis, Fault, Wiring, diagnose, diagnose_service
from probes.calculator import (
    MICRO,
    Place,
    Request,
    calculate,
    called,
    last_words,
    listening_ports,
    log_sizes,
    logs_since,
    number_of,
    operations,
    requests,
)
from probes.host import NamespaceHost
from probes.observation import Unproven
from tests.calculator_world import BY_ITSELF, IMPLEMENTATIONS, listening
from tests.probes_world import Node, child, link, needs_root, nodes, rule, until

PORTS = {"calculator": 50000, "sum": 50001, "sub": 50002, "mul": 50003, "div": 50004}
CALCULATOR, BACK, NOBODY = "10.0.0.88", "10.0.2.20", "10.0.2.99"
ROUTE = (IPv4Network("10.0.2.0/24"), IPv4Address("10.0.1.4"))
EXPRESSION, RESULT = "(5+6)*2", 22
SILENT = """
import socket, sys, time
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("Listening on port :", sys.argv[1], flush=True)
time.sleep(1000)
"""


@dataclass
class World:
    """desktop - calculator - router - back: the calculator on its own host, all micro-services on another."""

    desktop: Node
    calculator: Node
    back: Node
    hosts: dict[str, NamespaceHost]

    def node(self, service: str) -> Node:
        return self.calculator if service == "calculator" else self.back


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with (
        nodes("desktop", "calculator", "router", "back") as (desktop, calculator, router, back),
        ExitStack() as stack,
    ):
        link(desktop, "10.0.0.9/24", calculator, f"{CALCULATOR}/24")
        link(calculator, "10.0.1.88/24", router, "10.0.1.4/24")
        link(back, f"{BACK}/24", router, "10.0.2.1/24")
        router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
        back.sh("ip route add default via 10.0.2.1")
        calculator.sh(f"ip route add default via 10.0.0.9; ip route add {ROUTE[0]} via {ROUTE[1]}")
        for node in (calculator, back):
            node.sh("nft add table ip t; nft add chain ip t input '{ type filter hook input priority 0; }'")
        made = {node.name: stack.enter_context(node.host()) for node in (desktop, calculator, back)}
        yield World(desktop, calculator, back, made)


@dataclass
class Five:
    """The five services as they run now, and as they are meant to be."""

    world: World
    wiring: Wiring

    def diagnose(self, expression: str = EXPRESSION, expected: int = RESULT) -> Diagnosis:
        desktop = self.world.hosts["desktop"]
        seen = calculate(desktop, self.wiring.calculator.url, expression, window=3)
        return diagnose(self.wiring, desktop, seen, expression, expected)


@contextmanager
def started(
    node: Node, argv: list[str], log: Path, settings: Mapping[str, str], *, dies: bool = False
) -> Iterator[None]:
    words = ["setpriv", "--pdeathsig", "KILL", "env", *(f"{key}={value}" for key, value in settings.items())]
    with child([*node.prefix, *words, *argv], log) as process:
        if dies:
            process.wait(20)
        else:
            until(lambda: listening(log) != [], f"{argv} listening ({log.read_text()!r})", within=30)
        yield


Changes = Mapping[str, list[str] | None]


@pytest.fixture
def five(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Five]]:
    """``five(settings={...}, div=None, sub=[...])``: all services but div, with other settings, sub as another program."""
    # nothing here is far away or slow
    monkeypatch.setattr(calculator_diagnosis, "WINDOW", 2.0)
    with ExitStack() as stack:

        def start(
            implementation: str = "python",
            settings: Mapping[str, str] | None = None,
            **changed: list[str] | None,
        ) -> Five:
            program = list(IMPLEMENTATIONS[implementation])
            environment = {f"{name.upper()}_URL": f"http://{BACK}:{PORTS[name]}" for name in MICRO}
            environment |= {"BACKEND_TIMEOUT": "1", **(settings or {})}
            places = {}
            for name, port in PORTS.items():
                log = tmp_path / f"{name}.log"
                log.touch()
                node = world.node(name)
                argv = changed.get(name, [*program, name, "--port", str(port)])
                if argv is not None:
                    dies = "nosuch" in " ".join(argv)
                    stack.enter_context(started(node, argv, log, environment, dies=dies))
                address = CALCULATOR if name == "calculator" else BACK
                places[name] = Place(name, world.hosts[node.name], address, port, str(log))
            wiring = Wiring(places.pop("calculator"), places, {"calculator": [ROUTE]})
            return Five(world, wiring)

        yield start


def python(name: str, port: int, *more: str) -> list[str]:
    return [*IMPLEMENTATIONS["python"], name, "--port", str(port), *more]


def says(found: Diagnosis, fault: Fault, *words: str) -> None:
    assert found.fault is fault, found
    missing = [word for word in words if word not in found.text]
    assert not missing, f"{missing} not in: {found}"


# ---------- logs and answers
def test_logs_are_read_whoever_wrote_them() -> None:
    log = """Listening on port : 50001
New request :
A = 2
B = 3
A + B = 5
2026-11-21 10:00:01 sum[12]: New request:
2026-11-21 10:00:01 sum[12]: A=12.5
2026-11-21 10:00:01 sum[12]: B=-3
2026-11-21 10:00:01 sum[12]: A+B=9.5
New request :
Refused : nothing
"""
    first, second, third = requests(log)
    assert first == Request("sum", 2, 3, 5)
    assert (second.operation, float(second.a or 0), second.b, float(second.result or 0)) == (
        "sum",
        12.5,
        -3,
        9.5,
    )
    assert third == Request()
    assert listening_ports(log) == [50001]
    assert called({"sum": log, "sub": ""}) == {"sum": {"sum": 2, "": 1}, "sub": {}}


@pytest.mark.parametrize(
    ("expression", "needed"),
    [
        ("(5+6)*2", ["sum", "mul"]),
        ("(10+26)*2", ["sum", "mul"]),
        ("2*(7-4)/3", ["sub", "mul", "div"]),
        ("1+2+3", ["sum", "sum"]),
        ("7", []),
    ],
)
def test_an_expression_says_which_services_it_needs(expression: str, needed: list[str]) -> None:
    assert operations(expression) == needed


def test_last_words_are_those_that_speak_of_an_error() -> None:
    node = "loader:1148\n  throw err;\nError: Cannot find module 'sync-request'\n    at x\n\nNode.js v20"
    assert last_words(node) == "Error: Cannot find module 'sync-request'"
    assert last_words("one\ntwo\n\n") == "two"
    assert last_words("") == ""


# ---------- the faults
pytestmark = needs_root


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_healthy_calculator_has_no_fault(five: Callable[..., Five], implementation: str) -> None:
    """What is asked is answered and logged by either implementation, and the diagnosis blames nobody."""
    made = five(implementation)
    places = list(made.wiring.micro.values())
    sizes = log_sizes(places)
    answer = calculate(made.world.hosts["desktop"], made.wiring.calculator.url, EXPRESSION)
    assert number_of(answer) == RESULT
    logs = logs_since(places, sizes)
    assert called(logs) == {"sum": {"sum": 1}, "sub": {}, "mul": {"mul": 1}, "div": {}}
    assert requests(logs["mul"]) == [Request("mul", 11, 2, 22)]
    says(made.diagnose(), Fault.UNKNOWN, "sum logged 1 request", "mul logged 1 request", "result = 22")


def test_a_log_that_was_begun_anew_tells_nothing(five: Callable[..., Five]) -> None:
    made = five()
    places = [made.wiring.micro["sum"]]
    sizes = log_sizes(places)
    Path(places[0].log_file).write_text("")
    with pytest.raises(Unproven, match=r"begun anew of sum \(http"):
        logs_since(places, sizes)


def test_calculator_not_started(five: Callable[..., Five]) -> None:
    missing = [sys.executable, "-c", "import nosuch_module"]
    found = five(calculator=missing).diagnose()
    says(found, Fault.CALCULATOR_NOT_STARTED, "port 50000", "No module named 'nosuch_module'")


def test_node_calculator_not_started(five: Callable[..., Five]) -> None:
    missing = ["node", "-e", "require('nosuch-request')"]
    found = five("node", calculator=missing).diagnose()
    says(found, Fault.CALCULATOR_NOT_STARTED, "Cannot find module 'nosuch-request'")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_backend_not_started(five: Callable[..., Five], implementation: str) -> None:
    found = five(implementation, mul=None).diagnose()
    says(found, Fault.BACKEND_NOT_STARTED, "mul: nothing listens on port 50003 of back", "its log is empty")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_wrong_backend_address(five: Callable[..., Five], implementation: str) -> None:
    found = five(implementation, settings={"MUL_URL": f"http://{NOBODY}:50003"}).diagnose()
    says(
        found, Fault.WRONG_ADDRESS, f"looks for mul at http://{NOBODY}:50003", f"it is at http://{BACK}:50003",
        "answers calculator there",
    )  # fmt: skip


def test_wrong_address_of_which_nothing_is_known(five: Callable[..., Five]) -> None:
    """A calculator with its addresses written into it, that says nothing of them either."""
    constants = [
        "sh", "-c",
        f"export MINUS={BACK}; exec {sys.executable} -c \"$1\"", "sh",
        BY_ITSELF.replace("send_response(200)", "send_response(502)").replace("{eval(asked)}", "?"),
    ]  # fmt: skip
    found = five(calculator=["env", "-u", "SUM_URL", "-u", "MUL_URL", *constants]).diagnose()
    says(found, Fault.WRONG_ADDRESS, "requests for sum never reach it", f"http://{BACK}:50001")


def test_wrong_port_in_the_calculators_settings(five: Callable[..., Five]) -> None:
    found = five(settings={"SUM_URL": f"http://{BACK}:50010"}).diagnose()
    says(found, Fault.WRONG_PORT, f"looks for sum at http://{BACK}:50010", f"it is at http://{BACK}:50001")


def test_wrong_port_of_a_service(five: Callable[..., Five]) -> None:
    found = five(mul=python("mul", 50013)).diagnose()
    says(found, Fault.WRONG_PORT, "mul listens on port 50013 of back", "meant to on 50003")


def test_wrong_port_of_the_calculator(five: Callable[..., Five]) -> None:
    found = five(calculator=python("calculator", 5010)).diagnose()
    says(found, Fault.WRONG_PORT, "calculator listens on port 5010 of calculator", "meant to on 50000")


def test_backend_answering_wrong_values(five: Callable[..., Five]) -> None:
    found = five(sub=python("sum", 50002)).diagnose("(9-4)*2", 10)
    says(found, Fault.WRONG_VALUES, "sub, asked 5 3 by calculator, answers '8', not 2")


def test_calculator_computing_by_itself(five: Callable[..., Five]) -> None:
    found = five(calculator=[sys.executable, "-c", BY_ITSELF]).diagnose()
    says(found, Fault.BY_ITSELF, "(5+6)*2 is answered by 22", "sum and mul logged no request")


def test_route_missing_altogether(world: World, five: Callable[..., Five]) -> None:
    made = five()
    world.calculator.sh(f"ip route del {ROUTE[0]}; ip route del default")
    try:
        found = made.diagnose()
    finally:
        world.calculator.sh(f"ip route add default via 10.0.0.9; ip route add {ROUTE[0]} via {ROUTE[1]}")
    says(
        found,
        Fault.ROUTE_MISSING,
        f"for sum ({BACK})",
        "no way there",
        "route 10.0.2.0/24 via 10.0.1.4 is not there",
    )


def test_route_missing_beside_a_default_one(world: World, five: Callable[..., Five]) -> None:
    made = five()
    world.calculator.sh(f"ip route del {ROUTE[0]}")
    try:
        found = made.diagnose()
    finally:
        world.calculator.sh(f"ip route add {ROUTE[0]} via {ROUTE[1]}")
    says(found, Fault.ROUTE_MISSING, "sends it to 10.0.0.9", "route 10.0.2.0/24 via 10.0.1.4 is not there")


def test_backends_port_closed(world: World, five: Callable[..., Five]) -> None:
    made = five()
    with rule(world.back, "iifname router tcp dport 50003 drop"):
        found = made.diagnose()
    says(
        found, Fault.GROUP_CLOSED, "mul listens on port 50003", "does not arrive (filtered; ping: reachable)"
    )


def test_calculators_port_closed(world: World, five: Callable[..., Five]) -> None:
    made = five()
    with rule(world.calculator, "iifname desktop tcp dport 50000 drop"):
        found = made.diagnose()
    says(
        found,
        Fault.GROUP_CLOSED,
        "calculator listens on port 50000",
        f"desktop sends to {CALCULATOR} port 50000",
    )


def test_what_the_lab_says_of_the_closed_port_is_told(world: World, five: Callable[..., Five]) -> None:
    made = five()
    told = Diagnosis(Fault.GROUP_CLOSED, "services lets tcp 50001-50002 in, not 50003")
    wiring = Wiring(
        made.wiring.calculator, made.wiring.micro, made.wiring.routes,
        lambda host, place: told if (host.name, place.name) == ("calculator", "mul") else None,
    )  # fmt: skip
    with rule(world.back, "iifname router tcp dport 50003 drop"):
        assert Five(world, wiring).diagnose() == told


def test_backend_that_hangs(five: Callable[..., Five]) -> None:
    found = five(mul=[sys.executable, "-c", SILENT, "50003"]).diagnose()
    says(found, Fault.NO_ANSWER, "mul (http", "does not answer its own host either")


def test_bound_to_another_address(five: Callable[..., Five]) -> None:
    found = five(mul=python("mul", 50003, "--bind", "127.0.0.1")).diagnose()
    says(found, Fault.BOUND_ELSEWHERE, "mul listens on 127.0.0.1 port 50003 alone", f"not on {BACK}")


def test_a_service_by_itself(world: World, five: Callable[..., Five]) -> None:
    """A micro-service that is asked without the calculator."""
    made = five(sub=python("sum", 50002), div=None)
    desktop = world.hosts["calculator"]
    says(diagnose_service(made.wiring, desktop, "sum"), Fault.UNKNOWN, "answers calculator rightly: '5'")
    says(diagnose_service(made.wiring, desktop, "sub"), Fault.WRONG_VALUES, "answers '8', not 2")
    says(diagnose_service(made.wiring, desktop, "div"), Fault.BACKEND_NOT_STARTED, "port 50004 of back")
