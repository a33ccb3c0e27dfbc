"""Objective 9: each service by itself, the calculator that calls them, and their logs; in every arrangement of the lab."""

from __future__ import annotations

from functools import partial

import pytest

from fixtures.calculator import BY_OTHERS, EVERYWHERE
from probes.calculator import listening_ports, log_sizes, logs_since, requests
from probes.observation import Unproven

everywhere = pytest.mark.parametrize("app", EVERYWHERE, indirect=True)
on_one_machine = pytest.mark.parametrize("app", [BY_OTHERS, "one_vm"], indirect=True)
# numbers that nothing else here asks for: what is logged of them was logged for this check
ASKED = {"sum": (41, 7, 48), "sub": (41, 7, 34), "mul": (41, 7, 287), "div": (861, 7, 123)}


QUESTIONS = {
    "sum": {"2 3": 5},
    "sub": {"5 3": 2, "8 3": 5, "12 3": 9},
    "mul": {"12 3": 36},
    "div": {"15 5": 3},
}


@pytest.fixture(scope="module")
def asked(request, together):
    """What the micro-services of an arrangement answer: those whose checks were selected, all asked at once."""
    selected = {item.name for item in request.session.items}
    made = {}

    def of(app, arrangement):
        if arrangement not in made:
            made[arrangement] = together(
                {
                    name: partial(app.service_answers, app.beside(name), name, questions)
                    for name, questions in QUESTIONS.items()
                    if f"test_the_{name}_service_answers[{arrangement}]" in selected
                }
            )
        return made[arrangement]

    return of


@pytest.fixture
def answers(request, app, asked):
    """``answers("sum")``: SumService answers what it is asked, from another VM where there is one."""
    return lambda name: asked(app, request.node.callspec.id).result(name)


@everywhere
@pytest.mark.claim("APP-01")
def test_the_sum_service_answers(answers):
    """POST "2 3" to SumService, from another VM where there is one: 5."""
    answers("sum")


@everywhere
@pytest.mark.claim("APP-02")
def test_the_sub_service_answers(answers):
    """POST to SubService: "5 3" is 2, "8 3" is 5, "12 3" is 9."""
    answers("sub")


@everywhere
@pytest.mark.claim("APP-03")
def test_the_mul_service_answers(answers):
    """POST "12 3" to MulService: 36."""
    answers("mul")


@everywhere
@pytest.mark.claim("APP-04")
def test_the_div_service_answers(answers):
    """POST "15 5" to DivService: 3."""
    answers("div")


@everywhere
@pytest.mark.claim("APP-05")
def test_each_service_logs_its_port_and_each_request(app):
    """Each log names the port that is listened on, and of a request A, B and the result of the service's own operation."""
    start = logs_since(app.places.values(), dict.fromkeys(app.places, 0))
    for name, place in app.places.items():
        ports = listening_ports(start[name])
        assert ports, f"{name} has not logged the port that it listens on: {start[name][-300:]!r}"
        assert ports[-1] == place.port, f"{name} has logged port {ports[-1]}; it is meant to be {place.port}"
    sizes = log_sizes(app.micro)
    for name, (a, b, result) in ASKED.items():
        app.service_answers(app.places[name].host, name, {f"{a} {b}": result})
    logs = logs_since(app.micro, sizes)
    for name, (a, b, result) in ASKED.items():
        mine = [each for each in requests(logs[name]) if (each.a, each.b) == (a, b)]
        assert mine, f"{name} was asked {a} {b} and did not log A = {a}, B = {b}: {logs[name]!r}"
        logged = [(each.operation, each.result) for each in mine]
        assert logged == [(name, result)], (
            f"{name} was asked {a} {b} once and logged {logged}, not {name} with {result}: {logs[name]!r}"
        )


@on_one_machine
@pytest.mark.claim("APP-06")
def test_all_five_on_one_vm_compute(app):
    """All five on one machine: (5+6)*2 answers "result = 22", (10+26)*2 answers 72; every operation takes its part."""
    for expression, expected in {"(5+6)*2": 22, "(10+26)*2": 72, "(9-4)*(8/2)": 20}.items():
        app.answers(app.calculator.host, expression, expected)


@everywhere
@pytest.mark.claim("APP-07")
def test_the_calculator_really_calls_the_micro_services(app):
    """For (5+6)*2 SumService and MulService log one request each, and the two others none."""
    counts = app.calls("(5+6)*2", 22)
    if extra := [name for name, count in counts.items() if count > 1]:
        counts = app.calls("(5+6)*2", 22)  # somebody else may have asked at the same time
        if not any(counts[name] > 1 for name in extra):
            raise Unproven(f"others were asking the services meanwhile: {counts}")
    assert counts == {"sum": 1, "sub": 0, "mul": 1, "div": 0}, f"requests logged for (5+6)*2: {counts}"


@everywhere
@pytest.mark.claim("APP-07")
def test_each_operation_is_done_by_its_micro_service(app):
    """For (9-4)*(8/2) SubService, MulService and DivService log one request each, and SumService none."""
    counts = app.calls("(9-4)*(8/2)", 20)
    assert counts == {"sum": 0, "sub": 1, "mul": 1, "div": 1}, f"requests logged for (9-4)*(8/2): {counts}"
