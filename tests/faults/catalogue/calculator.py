"""Faults of objectives 9 to 11: the five services on the NAT VM, and on five VMs over two networks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from probes.reach import tcp
from provision.calculator.deploy import DeploymentError, Running
from tests.calculator_world import BY_ITSELF
from tests.faults.catalogue.one_vm import rule_added, rule_removed
from tests.faults.fault import fault
from tests.faults.scopes import CALCULATOR, OVER
from tests.faults.world import World

ONE_VM, TWO = "one-vm", "two-networks"
NOBODY = "http://10.0.2.99:50003"
ALL_OVER = "APP-01 APP-02 APP-03 APP-04 APP-09 TOP-07"
FROM_LOGS = "APP-05 APP-07"

SLOW = """
import http.server, sys, time
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(60)
print("Listening on port : " + sys.argv[1], flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Answer).serve_forever()
"""
EMPTY = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("Listening on port : " + sys.argv[1], flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(4096)
    connection.close()
"""
BROKEN = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(500, "TypeError: cannot read properties of undefined")
print("Listening on port : " + sys.argv[1], flush=True)
http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Answer).serve_forever()
"""


@contextmanager
def _otherwise(world: World, topology: str, name: str) -> Iterator[Running]:
    """One service, to be run otherwise than it should be; put right at the end."""
    try:
        yield world.services(topology)[name]
    finally:
        world.mend_services(topology)


def _replaced(world: World, topology: str, name: str, program: str) -> Iterator[None]:
    """Another program in a service's place, on its port."""
    script = world.folder / f"{name}_broken.py"
    script.write_text(program)
    with _otherwise(world, topology, name) as service:
        service.configure(files=(script,), command=f"python3 {script.name} {{port}}")
        yield


@fault(
    "sub-answers-a-plus-b", "SubService was copied from SumService and still adds", CALCULATOR,
    red="APP-02 APP-05 APP-06 APP-07", words="sub, asked 5 3 by natvm, answers '8', not 2", everyday=True,
)  # fmt: skip
def sub_answers_a_plus_b(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "sub") as sub:
        sub.configure(command=sub.program.command.replace("{service}", "sum"))
        yield


@fault(
    "wrong-address-of-mul", "The calculator has MulService's address of another lab", CALCULATOR,
    red="APP-06 APP-07",
    words=f"the calculator looks for mul at {NOBODY}, but it is at http://10.0.2.15:50003", everyday=True,
)  # fmt: skip
def wrong_address_of_mul(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "calculator") as calculator:
        calculator.configure(environment={**calculator.environment, "MUL_URL": NOBODY})
        yield


@fault(
    "addresses-swapped", "The calculator has the addresses of SumService and SubService the wrong way round", CALCULATOR,
    red="APP-06 APP-07", words=("the calculator looks for sum at", "the calculator looks for sub at"),
)  # fmt: skip
def addresses_swapped(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "calculator") as calculator:
        given = calculator.environment
        swapped = {"SUM_URL": given["SUB_URL"], "SUB_URL": given["SUM_URL"]}
        calculator.configure(environment={**given, **swapped})
        yield


@fault(
    "div-not-started", "DivService was not started", CALCULATOR,
    red="APP-04 APP-05 APP-06 APP-07", open_="APP-11", words="div: nothing listens on port 50004",
    everyday=True, control="tcp",
)  # fmt: skip
def div_not_started(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "div") as div:
        div.stop()
        yield


@fault(
    "calculator-not-started", "A module that the calculator needs is missing: it does not start", CALCULATOR,
    red="APP-06 APP-07", open_="APP-11", words="nothing listens on port 50000", everyday=True, control="http",
)  # fmt: skip
def calculator_not_started(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "calculator") as calculator:
        with suppress(DeploymentError):
            calculator.configure(files=())
        yield


@fault(
    "calculator-computes-by-itself", "The calculator computes by itself and asks no micro-service", CALCULATOR,
    red="APP-07", words="logged no request for it", everyday=True,
)  # fmt: skip
def calculator_computes_by_itself(world: World) -> Iterator[None]:
    script = world.folder / "by_itself.py"
    script.write_text(BY_ITSELF)
    with _otherwise(world, ONE_VM, "calculator") as calculator:
        calculator.configure(files=(script,), command="python3 by_itself.py")
        yield


@fault(
    "sum-on-the-wrong-port", "SumService listens on 50011 in place of 50001", CALCULATOR,
    red="APP-01 APP-05 APP-06 APP-07", open_="APP-11", words="50011",
)  # fmt: skip
def sum_on_the_wrong_port(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "sum") as sum_:
        with suppress(DeploymentError):
            sum_.configure(command=sum_.program.command.replace("{port}", "50011"), within=8)
        yield


@fault(
    "slow-service", "MulService takes a minute for each answer", CALCULATOR,
    red="APP-03 APP-06 APP-07", open_="APP-05", words="mul",
)  # fmt: skip
def slow_service(world: World) -> Iterator[None]:
    yield from _replaced(world, ONE_VM, "mul", SLOW)


@fault(
    "empty-reply", "DivService takes the connection and hangs up: empty reply from server", CALCULATOR,
    red="APP-04 APP-05 APP-06 APP-07", words="div",
)  # fmt: skip
def empty_reply(world: World) -> Iterator[None]:
    yield from _replaced(world, ONE_VM, "div", EMPTY)


@fault(
    "service-error", "SubService answers every request with an internal error", CALCULATOR,
    red="APP-02 APP-05 APP-06 APP-07", words="HTTP 500",
)  # fmt: skip
def service_error(world: World) -> Iterator[None]:
    yield from _replaced(world, ONE_VM, "sub", BROKEN)


@fault(
    "service-logs-nothing", "SumService does not log its requests", CALCULATOR,
    red="APP-05 APP-07", words="sum",
)  # fmt: skip
def service_logs_nothing(world: World) -> Iterator[None]:
    with _otherwise(world, ONE_VM, "sum") as sum_:
        command = f"sh -c '{sum_.program.command} | grep --line-buffered Listening'"
        sum_.configure(command=command)
        yield


@fault(
    "forwarding-of-the-calculator-missing", "No port of the host is forwarded to the calculator", CALCULATOR,
    red="APP-06", open_="APP-11", words="50000",
)  # fmt: skip
def forwarding_of_the_calculator_missing(world: World) -> Iterator[None]:
    machine = world.machine()
    rule = next(each for each in machine.vm.forwardings() if each.name == "calculator")
    machine.vm.unforward(rule.name)
    machine.vm.forward(type(rule)(rule.name, rule.host_port, 50010))
    yield
    machine.vm.unforward(rule.name)
    machine.vm.forward(rule)


def _whole_range(rule: Any) -> bool:
    return bool((rule.port_range_min, rule.port_range_max) == (50001, 50004))


@fault(
    "port-50003-closed", "The group's ports were typed in two parts, and 50003 forgotten", OVER,
    red=f"{ALL_OVER.replace('APP-01 APP-02 ', '').replace(' APP-04', '')} APP-07", open_="APP-11",
    words="no rule of mul's security groups (lab, services) lets calculator in to TCP port 50003", everyday=True,
)  # fmt: skip
def port_50003_closed(world: World) -> Iterator[None]:
    two = world.standing(TWO)
    way = tcp(two.hosts["calculator"], two.address("mul"), 50003)
    lab = two.deployment.security_groups["lab"].id
    parts = [
        rule_added(
            world,
            TWO,
            "services",
            protocol="tcp",
            port_range_min=first,
            port_range_max=last,
            remote_group_id=lab,
        )
        for first, last in ((50001, 50002), (50004, 50004))
    ]
    with parts[0], parts[1], rule_removed(world, TWO, "services", _whole_range):
        world.has_effect(way, reached=False)
        yield
    world.has_effect(way, reached=True)


@fault(
    "typo-5010", "A typo in the rule for the calculator's port: 5000-5010 for 50000-50050", OVER,
    red="APP-09 TOP-07", open_="APP-11", words="no rule of calculator's security groups",
)  # fmt: skip
def typo_5010(world: World) -> Iterator[None]:
    two = world.standing(TWO)
    way = tcp(world.desktop, two.floating_ip("calculator"), 50000)
    with (
        rule_added(world, TWO, "calculator", protocol="tcp", port_range_min=5000, port_range_max=5010),
        rule_removed(world, TWO, "calculator", lambda rule: rule.port_range_min == 50000),
    ):
        world.has_effect(way, reached=False)
        yield
    world.has_effect(way, reached=True)


@fault(
    "services-rule-for-output", "The rule for the services' ports was made for output in place of input", OVER,
    red=f"{ALL_OVER} APP-07", open_="APP-11", words="security groups (lab, services) lets calculator in",
)  # fmt: skip
def services_rule_for_output(world: World) -> Iterator[None]:
    two = world.standing(TWO)
    way = tcp(two.hosts["calculator"], two.address("sum"), 50001)
    with (
        rule_added(
            world,
            TWO,
            "services",
            direction="egress",
            protocol="tcp",
            port_range_min=50001,
            port_range_max=50004,
        ),
        rule_removed(world, TWO, "services", _whole_range),
    ):
        world.has_effect(way, reached=False)
        yield
    world.has_effect(way, reached=True)


@fault(
    "application-without-its-route", "The static route is missing when the application is tried", OVER,
    red=ALL_OVER, open_="APP-11 APP-05 APP-07",
    words="it sends it to 20.4.5.1; its route 30.4.5.0/24 via 20.4.5.4 is not there", everyday=True,
)  # fmt: skip
def application_without_its_route(world: World) -> Iterator[None]:
    two = world.standing(TWO)
    calculator, route = two.hosts["calculator"], two.topology.host("calculator").routes[0]
    world.guest(calculator, "sudo ip route del %s", route.destination)
    yield
    world.guest(calculator, "sudo ip route replace %s via %s", route.destination, route.via)


@fault(
    "port-outside-the-campus-range", "The calculator listens on 50060, outside of what the campus lets through", OVER,
    red="APP-05 APP-07 APP-09 TOP-07", open_="APP-11", words="50060",
)  # fmt: skip
def port_outside_the_campus_range(world: World) -> Iterator[None]:
    with _otherwise(world, TWO, "calculator") as calculator:
        with suppress(DeploymentError):
            command = calculator.program.command.replace("{port}", "50060")
            calculator.configure(command=command, within=8)
        yield


@fault(
    "sum-on-loopback-alone", "SumService listens on 127.0.0.1 alone", OVER,
    red="APP-01 APP-05 APP-07 APP-09 TOP-07", open_="APP-11", words="127.0.0.1",
)  # fmt: skip
def sum_on_loopback_alone(world: World) -> Iterator[None]:
    with _otherwise(world, TWO, "sum") as sum_:
        sum_.configure(bind="127.0.0.1")
        yield


@fault(
    "service-crashed-over", "SubService's process hangs: it is stopped in the middle", OVER,
    red="APP-02", open_="APP-05 APP-07", words="sub",
)  # fmt: skip
def service_crashed_over(world: World) -> Iterator[None]:
    sub = world.services(TWO)["sub"]
    pids = " ".join(map(str, sub.processes()))
    world.guest(sub.host, f"sudo kill -STOP {pids}")
    yield
    world.guest(sub.host, f"sudo kill -CONT {pids}")


@fault(
    "guests-disk-full", "The disk of SumService's VM is full: its log is not written", OVER,
    red="APP-05", open_="APP-07", words="sum",
)  # fmt: skip
def guests_disk_full(world: World) -> Iterator[None]:
    sum_ = world.standing(TWO).hosts["sum"]
    # what is left after it is written, which takes an emulated disk long; then the log's last block: what is appended
    # needs a new one
    room = "$(($(df -P / | awk 'END { print $4 }') - 1024))"
    script = f"fallocate -l {room}K /var/full; cat /dev/zero > /var/full2; head -c 4096 /dev/zero >> $1; true"
    try:
        world.guest(sum_, "sudo sh -c %s sh /var/log/labproof-sum.log 2>/dev/null", script)
        yield
    finally:
        world.guest(sum_, "sudo rm -f /var/full /var/full2")
