"""Objective 6: one VM on a private network, the router, the floating IP and the security group.

Checks with windows to wait for come first, those of servers that boot last: the waits overlap.
"""

from __future__ import annotations

import ipaddress
import re

import pytest

from probes.reach import command, not_reached, ping, reached, tcp, wait_until
from provision.guests import hostname_of

# what an agent needs to carry out a change of rules or addresses that the API has accepted
TAKES_EFFECT = 30
ANY = "0.0.0.0/0"


@pytest.fixture(scope="module")
def looks(looked, operations, desktop, lab):
    """What the checks see of the one VM as it is meant to be."""
    # one without a floating IP cannot be entered: that is for the checks to tell that need it
    private, floating, vm = (
        operations.address("vm"),
        lambda: operations.floating_ip("vm"),
        lambda: operations.hosts["vm"],
    )

    def outwards():
        route = command(desktop, "ip -4 route get %s", floating())
        found = re.search(r"src (\S+)", route.output)
        assert found, f"the desktop has no way to the cloud: {route}"
        return reached(ping(vm(), found[1]), ping(vm(), lab.outside))

    return looked(
        {
            "test_the_vm_has_an_address_of_its_subnet": lambda: command(
                vm(), "ip -4 -o address show scope global"
            ),
            "test_with_the_router_the_vm_reaches_the_desktop_and_the_outside": outwards,
            "test_the_private_address_is_out_of_the_desktops_reach": lambda: not_reached(
                ping(desktop, private),
                tcp(desktop, private, 22),
                alive=[ping(desktop, floating()), tcp(desktop, floating(), 22)],
            ),
            "test_the_floating_ip_answers_the_desktop": lambda: reached(ping(desktop, floating())),
            "test_ssh_to_the_floating_ip_opens_a_session_in_that_very_vm": lambda: command(
                vm(), "hostname; ip -4 -o address show scope global"
            ),
        }
    )


@pytest.mark.claim("OS-02")
def test_the_vm_has_an_address_of_its_subnet(operations, inventory_of, seen):
    """The address that the cloud reports is inside the subnet's range, and the guest has it."""
    network = inventory_of(operations).network("private")
    address = ipaddress.ip_address(operations.address("vm"))
    assert address in network.cidr, f"{address} is not in {network.cidr}"
    guest = seen()
    assert f" {address}/{network.cidr.prefixlen} " in guest.output, (
        f"the guest does not have {address}: {guest}"
    )


@pytest.mark.acts
@pytest.mark.claim("OS-06")
def test_each_rule_of_the_security_group_opens_and_closes_by_itself(operations, desktop, vm, rules):
    """Nothing gets in but what a rule lets in: ICMP opens ping alone, TCP 22 opens SSH alone, and each closes again."""
    address, inner = operations.floating_ip("guarded"), operations.address("guarded")
    icmp, ssh = ping(desktop, address), tcp(desktop, address, 22)
    # a VM of the same group may enter: it shows that the closed one lives; another floating IP, that the way there is good
    wait_until(ping(vm, inner), reached=True, within=120)
    wait_until(tcp(vm, inner, 22), reached=True, within=120)
    alive = [ping(vm, inner), tcp(vm, inner, 22), ping(desktop, operations.floating_ip("vm"))]
    not_reached(icmp, ssh, alive=alive)
    with rules("closed", protocol="icmp"):
        wait_until(icmp, reached=True, within=TAKES_EFFECT)
        not_reached(ssh, alive=[*alive, icmp])
    with rules("closed", protocol="tcp", port=22):
        wait_until(ssh, reached=True, within=TAKES_EFFECT)
        # it went with its own rule, and this one does not open it
        wait_until(icmp, reached=False, within=TAKES_EFFECT, alive=[*alive, ssh])
    wait_until(ssh, reached=False, within=TAKES_EFFECT, alive=alive)


@pytest.mark.claim("OS-04")
@pytest.mark.usefixtures("outside")
def test_with_the_router_the_vm_reaches_the_desktop_and_the_outside(seen):
    """VM -> desktop and VM -> outside: ping succeeds."""
    seen()


@pytest.mark.claim("OS-05")
def test_the_private_address_is_out_of_the_desktops_reach(seen):
    """Desktop -> private address: nothing answers, while the same VM answers at its floating IP."""
    seen()


@pytest.mark.claim("OS-07")
def test_the_floating_ip_answers_the_desktop(operations, inventory_of, seen):
    """The floating IP is out of the public range, and desktop -> VM ping succeeds over it."""
    address = operations.deployment.hosts["vm"].floating_ip
    assert address is not None, "the cloud reports no floating IP for vm; the document gives it one"
    public = inventory_of(operations).external_cidr
    if public is not None:
        assert address in public, f"the floating IP {address} is not in the public range {public}"
    seen()


@pytest.mark.claim("OS-08")
def test_ssh_to_the_floating_ip_opens_a_session_in_that_very_vm(operations, cloud, seen):
    """In the session the VM's own fixed address is seen, and the name that the cloud gave it."""
    session = seen()
    address = operations.address("vm")
    assert f" {address}/" in session.output, (
        f"the session is in another machine: {address} is not among\n{session.output}"
    )
    name = cloud.api.compute.get_server(operations.deployment.hosts["vm"].server_id).name
    called = session.output.split()[0]
    assert hostname_of(name) in (called.partition(".")[0], called.replace(".", "-")), (
        f"the host is called {called}, the server {name}"
    )


@pytest.mark.claim("OS-10")
def test_the_rule_table_is_the_one_the_lab_asks_for(operations, rule_table):
    """Egress to anywhere; ingress from the group itself, ICMP and TCP 22 from anywhere, and nothing else."""
    asked = {
        ("egress", "IPv4", None, None, "anywhere"),
        ("egress", "IPv6", None, None, "anywhere"),
        ("ingress", "IPv4", None, None, "the group"),
        ("ingress", "IPv6", None, None, "the group"),
        ("ingress", "IPv4", "icmp", None, "anywhere"),
        ("ingress", "IPv4", "tcp", (22, 22), "anywhere"),
    }
    found = rule_table(operations, "lab")
    assert found == asked, (
        f"missing: {sorted(map(str, asked - found)) or 'none'}; not asked for: {sorted(map(str, found - asked)) or 'none'}"
    )


@pytest.mark.claim("OS-11")
def test_the_cloud_reports_the_intended_topology(operations, differences):
    """Networks, routers, servers and their links are as the document says; the drawing is of what the cloud reports."""
    assert not (found := differences(operations)), "not as intended:\n" + "\n".join(found)


@pytest.mark.acts
@pytest.mark.claim("OS-01")
def test_a_server_on_the_public_network_is_refused(cloud, refused_server):
    """A plain user asks for a server directly on the external network: the cloud refuses and says why."""
    refusal = refused_server("on-public", cloud.external_network())
    assert "network" in refusal.text.lower(), f"refused, but the reason does not name the network: {refusal}"


@pytest.mark.acts
@pytest.mark.claim("OS-03", "OS-04")
def test_without_a_router_nothing_outside_answers_and_with_one_it_does(castaway, desktop, outside):
    """A VM on a network without a router: its own network answers, the outside does not until there is a router."""
    reached(ping(desktop, outside))  # the target lives
    alone = castaway.rounds(2, within=120)
    for round_ in alone:
        assert round_.outside == 0, f"without a router the outside answered: {round_}"
        assert round_.inside > 0, f"the VM's own network does not answer either: {round_}"
    castaway.give_router()
    assert castaway.reaches_outside(within=60), (
        f"with a router the outside still does not answer:\n{castaway.console()}"
    )
