"""Objective 4: a VM behind NAT, who reaches whom, and port forwarding."""

from __future__ import annotations

import ipaddress
import re

import pytest

from probes.greeting import greeting
from probes.reach import command, fact, facts, not_reached, ping, reached, tcp

VM = "10.0.2.15"
SSH = 22
# host port -> who may use it
EVERYWHERE, LAN_ONLY, LOCAL_ONLY = 1234, 1235, 1236
LOOPBACK = "127.0.0.1"
BOOT = "cat /proc/sys/kernel/random/boot_id"


def greets(source, target, port):
    """The VM's SSH at a port, with time to greet: it may be making containers for other checks meanwhile."""
    return greeting(source, target, port, window=20)


@pytest.fixture(scope="module")
def has_its_address(natvm):
    """A look that shows, from inside, that the VM lives and has the address that others try."""
    return fact(natvm.host, f"ip -4 -o address show scope global | grep -F ' {VM}/'")


@pytest.fixture(scope="module")
def before(together, natvm, desktop, neighbour, lan_address, outside, has_its_address):
    """What must fail while no rule leads to the VM's SSH, tried all at once."""
    way_out = ping(desktop, outside)
    beside = ping(neighbour, lan_address)
    return together(
        {
            "desktop -> VM": lambda: not_reached(ping(desktop, VM), alive=[has_its_address, way_out]),
            "neighbour -> VM": lambda: not_reached(ping(neighbour, VM), alive=[has_its_address, beside]),
            "forwarding port": lambda: not_reached(
                tcp(desktop, lan_address, EVERYWHERE),
                tcp(desktop, LOOPBACK, EVERYWHERE),
                alive=[fact(natvm.host, "ss -Hltn sport = :22 | grep ."), way_out],
            ),
        }
    )


@pytest.fixture(scope="module")
def after(
    together,
    before,
    natvm,
    desktop,
    neighbour,
    lan_address,
    outside,
    has_its_address,
    web_in_the_vm,
    forwarded,
):
    """The same ways once there are rules, and the ways that rules do not open; tried all at once."""
    before.wait()
    forwarded("ssh", EVERYWHERE, SSH)
    forwarded("ssh-lan", LAN_ONLY, SSH, on=lan_address)
    forwarded("ssh-local", LOCAL_ONLY, SSH, on=LOOPBACK)
    by_the_rule = greets(desktop, lan_address, EVERYWHERE)
    own_ports = [tcp(natvm.host, LOOPBACK, port) for port in web_in_the_vm]
    return together(
        {
            "desktop by the rule": lambda: reached(by_the_rule, greets(desktop, LOOPBACK, EVERYWHERE)),
            "neighbour by all": lambda: reached(greets(neighbour, lan_address, EVERYWHERE)),
            "neighbour by LAN": lambda: reached(greets(neighbour, lan_address, LAN_ONLY)),
            "desktop by loopback": lambda: reached(greets(desktop, LOOPBACK, LOCAL_ONLY)),
            "neighbour by loopback": lambda: not_reached(
                tcp(neighbour, lan_address, LOCAL_ONLY),
                alive=[
                    greets(desktop, LOOPBACK, LOCAL_ONLY),
                    greets(neighbour, lan_address, EVERYWHERE),
                ],
            ),
            "web": lambda: not_reached(
                *(tcp(desktop, to, port) for to in (VM, lan_address, LOOPBACK) for port in web_in_the_vm),
                alive=[*own_ports, by_the_rule],
            ),
            "desktop -> VM": lambda: not_reached(
                ping(desktop, VM), tcp(desktop, VM, SSH), alive=[has_its_address, by_the_rule]
            ),
        }
    )


@pytest.mark.claim("NAT-01")
def test_the_vms_address_is_on_another_network_than_the_hosts(natvm, desktop):
    """The guest has 10.0.2.15/24, and the desktop has no address in that network."""
    seen = command(natvm.host, "ip -4 -o address show scope global")
    found = re.search(r"inet (\S+)", seen.output)
    assert found, f"the VM has no address: {seen}"
    assert found[1] == f"{VM}/24", f"the VM's address is {found[1]}, not {VM}/24"
    network = ipaddress.ip_interface(f"{VM}/24").network
    own = command(desktop, "ip -4 -o address show")
    here = [ipaddress.ip_interface(each) for each in re.findall(r"inet (\S+)", own.output)]
    assert here, f"the desktop's addresses cannot be read: {own}"
    shared = [str(each) for each in here if each.ip in network]
    assert not shared, f"the desktop has {', '.join(shared)} in the VM's own network"


@pytest.mark.claim("NAT-02")
def test_the_vm_reaches_its_host(natvm, lan_address):
    """VM -> the host's address on its network: ping succeeds."""
    reached(ping(natvm.host, lan_address))


@pytest.mark.claim("NAT-03")
def test_the_host_does_not_reach_the_vm(before):
    """Host -> 10.0.2.15: every packet is lost, while the VM has that address and the host reaches the outside."""
    before.result("desktop -> VM")


@pytest.mark.claim("NAT-04")
def test_the_neighbour_does_not_reach_the_vm(before):
    """Neighbour's host -> 10.0.2.15: every packet is lost, while it reaches the VM's host."""
    before.result("neighbour -> VM")


@pytest.mark.claim("NAT-05")
def test_the_vm_reaches_the_outside(natvm, outside):
    """VM -> a host on the internet: ping succeeds through NAT."""
    reached(ping(natvm.host, outside))


@pytest.mark.acts
@pytest.mark.claim("NAT-07")
def test_before_the_rule_nothing_answers_at_the_forwarding_port(before):
    """Host port 1234: no connection at the host's LAN address nor at 127.0.0.1, though the VM's SSH listens."""
    before.result("forwarding port")


@pytest.mark.acts
@pytest.mark.claim("NAT-08")
def test_by_the_rule_an_ssh_session_opens_in_the_vm(after, natvm, by_port):
    """TCP host:1234 -> guest:22: the session from the host is in this very VM."""
    after.result("desktop by the rule")
    there, here = facts(fact(by_port(EVERYWHERE), BOOT), fact(natvm.host, BOOT))
    assert there.output.strip() == here.output.strip() != "", f"the session is in another machine: {there}"


@pytest.mark.acts
@pytest.mark.claim("NAT-09")
def test_the_rule_forwards_ssh_alone(after):
    """Guest ports 80 and 443, where something listens, stay out of the host's reach at every address."""
    after.result("web")


@pytest.mark.acts
@pytest.mark.claim("NAT-10")
def test_a_file_made_over_the_forwarded_session_is_in_the_vm(after, natvm, by_port):
    """COUCOU, made on the VM's desktop through host port 1234, is seen there from another session."""
    session = by_port(EVERYWHERE)
    made = command(session, "mkdir -p ~/Desktop && head -c 9 /dev/urandom | base64 | tee ~/Desktop/COUCOU")
    assert made.numbers.get("status") == 0, f"the file could not be made: {made}"
    seen = command(natvm.host, "cat ~/Desktop/COUCOU")
    assert seen.output.strip() == made.output.strip() != "", f"the file in the VM is another: {seen}"


@pytest.mark.acts
@pytest.mark.claim("NAT-11")
def test_the_address_that_a_rule_is_bound_to_decides_who_gets_in(after):
    """Bound to all addresses or to the LAN one, the neighbour reaches the VM's SSH; bound to 127.0.0.1 it does not."""
    for row in ("neighbour by all", "neighbour by LAN", "desktop by loopback", "neighbour by loopback"):
        after.result(row)


@pytest.mark.acts
@pytest.mark.claim("NAT-12")
def test_the_vms_own_address_stays_out_of_reach_and_the_port_closes_with_its_rule(
    after, natvm, desktop, lan_address, unforward
):
    """With the rule the host still does not reach 10.0.2.15; without it the port is closed again."""
    after.result("desktop -> VM")
    after.wait()
    unforward("ssh")
    not_reached(
        tcp(desktop, lan_address, EVERYWHERE),
        tcp(desktop, LOOPBACK, EVERYWHERE),
        alive=[greets(desktop, lan_address, LAN_ONLY)],
    )
