"""Objective 9 on the NAT VM: all five in one machine, behind one forwarded port; and what is told when one is broken."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from fixtures.calculator_diagnosis import Fault
from probes.calculator import calculate, calculation, number_of
from probes.observation import Unproven
from probes.reach import not_reached, tcp
from provision.calculator.deploy import DeploymentError

LOOPBACK = "127.0.0.1"
NOBODY = "http://10.0.2.99:50003"
EXPRESSION, RESULT = "(5+6)*2", 22


@pytest.mark.claim("APP-06")
def test_the_forwarded_port_leads_the_desktop_to_the_calculator(one_vm, desktop):
    """From the desktop, through its own forwarded port: (5+6)*2 answers "result = 22"."""
    one_vm.answers(desktop, EXPRESSION, RESULT, one_vm.desktop_url)


@pytest.mark.claim("APP-11")
def test_nothing_but_the_forwarded_port_leads_into_the_vm(one_vm, desktop, lan_address):
    """The micro-services' ports answer the desktop at none of its addresses, nor at the VM's; the VM itself they answer."""
    ports = [place.port for place in one_vm.micro]
    vm = one_vm.calculator
    not_reached(
        *(tcp(desktop, address, port) for address in (lan_address, LOOPBACK, vm.address) for port in ports),
        tcp(desktop, vm.address, vm.port),
        alive=[
            calculation(desktop, one_vm.desktop_url, EXPRESSION),
            *(tcp(vm.host, vm.address, port) for port in ports),
        ],
    )


@contextmanager
def module_missing(app):
    """The calculator's program is started without the file that it is in."""
    calculator = app.running["calculator"]
    with refused(calculator):
        calculator.configure(files=())
    yield


@contextmanager
def wrong_address(app):
    """The calculator looks for MulService where nobody is."""
    calculator = app.running["calculator"]
    calculator.configure(environment={**calculator.environment, "MUL_URL": NOBODY})
    yield


@contextmanager
def not_started(app):
    """MulService is not running."""
    app.running["mul"].stop()
    yield


@contextmanager
def refused(running):
    """Something that is not to start: that it does is no break."""
    try:
        yield
    except DeploymentError:
        return
    raise Unproven(
        f"{running.service.name} starts, though its file is missing: the break could not be put in"
    )


BREAKS = [
    (module_missing, Fault.CALCULATOR_NOT_STARTED, ("nothing listens on port 50000", "its log ends")),
    (wrong_address, Fault.WRONG_ADDRESS, (f"looks for mul at {NOBODY}", "it is at http://10.0.2.15:50003")),
    (not_started, Fault.BACKEND_NOT_STARTED, ("mul: nothing listens on port 50003",)),
]


@pytest.mark.acts
@pytest.mark.claim("APP-12")
@pytest.mark.parametrize(("broken", "fault", "words"), BREAKS, ids=[each[0].__name__ for each in BREAKS])
def test_what_is_broken_is_told_by_name(one_vm, desktop, broken, fault, words):
    """A calculator that cannot start, or cannot reach a micro-service (wrong address, not started), is told apart."""
    url = one_vm.desktop_url
    if number_of(calculate(desktop, url, EXPRESSION)) != RESULT:
        raise Unproven("the calculator does not answer rightly before anything is broken")
    try:
        with broken(one_vm):
            # longer than a calculator waits for a micro-service
            seen = calculate(desktop, url, EXPRESSION, window=7)
            assert number_of(seen) != RESULT, f"broken, the calculator still answers rightly: {seen}"
            told = one_vm.diagnosis(desktop, seen, EXPRESSION, RESULT)
    finally:
        one_vm.mend()
    assert told.fault is fault, f"{broken.__name__} was told as {told}"
    missing = [each for each in words if each not in told.text]
    assert not missing, f"{told} does not say {missing}"
    one_vm.answers(desktop, EXPRESSION, RESULT, url)
