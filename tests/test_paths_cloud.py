"""The configuration in what a cloud holds: names, whose a thing is, and what decides over a packet."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from openstack.compute.v2.server import Server as SdkServer
from openstack.network.v2.floating_ip import FloatingIP as SdkFloatingIP
from openstack.network.v2.network import Network as SdkNetwork
from openstack.network.v2.port import Port as SdkPort
from openstack.network.v2.router import Router as SdkRouter
from openstack.network.v2.security_group import SecurityGroup as SdkGroup
from openstack.network.v2.subnet import Subnet as SdkSubnet

from probes.observation import Outcome
from provision.holdings import (
    LISTS,
    CloudFloatingIP,
    CloudNetwork,
    CloudPort,
    CloudRouter,
    CloudRule,
    CloudSecurityGroup,
    CloudServer,
    CloudSubnet,
    Holdings,
    _select,
)
from provision.mark import Mark
from provision.paths.cloud import configured, meant_for
from provision.paths.configuration import ICMP, Configuration, Network, Traffic
from provision.paths.explain import explain
from provision.paths.intention import intended
from provision.paths.walk import walk
from tests.paths_world import BEYOND, healthy, topology

RUN = "ab12c"


def held(made: Configuration, mark: Mark) -> Holdings:
    """A project that holds what is configured, as the run's of that mark; ids are ``kind name``."""
    networks, ports, routers, servers, groups = [], [], [], [], []
    for n in made.networks:
        if not n.external and n.cidr:
            subnet = CloudSubnet(f"subnet {n.name}", "", f"net {n.name}", n.cidr, n.gateway, n.dhcp, ())
            networks.append(
                CloudNetwork(
                    f"net {n.name}", mark.name(n.name), mark.description(n.name), tuple(mark.tags), (subnet,)
                )
            )
    for r in made.routers:
        outside = "external" if r.external else None
        routers.append(
            CloudRouter(
                f"router {r.name}", mark.name(r.name), mark.description(r.name), (), outside, r.external_address,
                0, r.status, (), r.admin_up, r.snat,
            )
        )  # fmt: skip
        ports += [
            CloudPort(
                f"{r.name} in {leg.network}", "", "", (), f"net {leg.network}", f"router {r.name}",
                "network:router_interface", "", (leg.address,), (), leg.status,
            )
            for leg in r.legs
        ]  # fmt: skip
    for g in made.groups:
        ids = {each.name: f"group {each.name}" for each in made.groups}
        rules = tuple(CloudRule("", rule._replace(group=ids.get(rule.group or ""))) for rule in g.rules)
        name, description = (
            (g.name, "") if g.name == "default" else (mark.name(g.name), mark.description(g.name))
        )
        groups.append(CloudSecurityGroup(f"group {g.name}", name, description, (), rules))
    for s in made.servers:
        servers.append(
            CloudServer(
                f"server {s.name}", mark.name(s.name), s.status, s.task, "", None, None, mark.metadata, ()
            )
        )
        ports += [
            CloudPort(
                f"port {s.name}", mark.name(s.name), mark.description(s.name), (), f"net {p.network}",
                f"server {s.name}", "compute:nova", "", p.addresses, tuple(f"group {g}" for g in p.security_groups),
                p.status, p.port_security, p.admin_up,
            )
            for p in s.ports
        ]  # fmt: skip
    floating = tuple(
        CloudFloatingIP(
            f"fip {f.address}", f.address, mark.description(f.meant or ""), (),
            f"port {f.server}" if f.server else None, f.fixed, f.status,
        )
        for f in made.floating_ips
    )  # fmt: skip
    return Holdings(
        "", tuple(networks), tuple(routers), tuple(ports), floating, tuple(groups), tuple(servers)
    )


def external(made: Configuration) -> dict[str, Network]:
    return {"external": next(each for each in made.networks if each.external)}


@pytest.mark.parametrize("name", ["two-networks", "two-tier", "operations", "single"])
def test_what_stands_as_intended_reads_as_intended(name: str) -> None:
    made, mark = healthy(name), Mark(RUN, name)
    read = configured(held(made, mark), mark, external(made), BEYOND)
    assert read == replace(
        made,
        guests={},
        promised={},
        servers=tuple(
            replace(
                s, ports=tuple(replace(p, security_groups=tuple(sorted(p.security_groups))) for p in s.ports)
            )
            for s in made.servers
        ),
    )
    assert intended(topology(name), read).floating_ips == made.floating_ips


def together(*held_by: Holdings) -> Holdings:
    fields = ("networks", "routers", "ports", "floating_ips", "security_groups", "servers")
    return Holdings(
        "", *(tuple(item for each in held_by for item in getattr(each, field)) for field in fields)
    )


def renamed(have: Holdings) -> Holdings:
    """Ids of another topology in the same project."""

    def other(items: tuple[object, ...]) -> tuple[object, ...]:
        keys = ("id", "network_id", "device_id", "port_id")
        return tuple(
            replace(i, **{k: f"other {getattr(i, k)}" for k in keys if getattr(i, k, None)})  # type: ignore[type-var]
            for i in items
        )

    return replace(
        have,
        networks=other(have.networks),  # type: ignore[arg-type]
        routers=other(have.routers),  # type: ignore[arg-type]
        ports=other(have.ports),  # type: ignore[arg-type]
        floating_ips=other(have.floating_ips),  # type: ignore[arg-type]
        servers=other(have.servers),  # type: ignore[arg-type]
        security_groups=(),
    )


def test_another_topology_of_the_project_is_told_apart() -> None:
    made, mark = healthy("two-networks"), Mark(RUN, "two-networks")
    beside = renamed(held(healthy("two-tier"), Mark(RUN, "two-tier")))
    read = configured(together(held(made, mark), beside), mark, external(made), BEYOND)
    assert [each.name for each in read.networks] == ["public", "front", "back"]
    assert [each.name for each in read.routers] == ["RT1", "RT2"]
    assert [each.name for each in read.servers] == ["calculator", "sum", "sub", "mul", "div"]
    assert {f.server for f in read.floating_ips} == {"calculator", f"labproof-{RUN}-two-tier-calculator"}


def test_a_floating_ip_that_leads_to_a_server_beside_the_topology_names_it() -> None:
    made, mark = healthy("operations"), Mark(RUN, "operations")
    have = held(made, mark)
    stranger = replace(have.servers[0], id="server s", name="somebody", metadata={})
    port = replace(have.ports[-1], id="port s", network_id="elsewhere", device_id="server s", addresses=())
    astray = replace(have.floating_ips[0], port_id="port s", fixed=IPv4Address("10.9.9.9"))
    have = replace(
        have,
        servers=(*have.servers, stranger),
        ports=(*have.ports, port),
        floating_ips=(astray, *have.floating_ips[1:]),
    )
    read = configured(have, mark, external(made), BEYOND)
    lines = explain(topology("operations"), read, "desktop", astray.address, ICMP)
    assert lines[0] == f"floating IP {astray.address} leads to port of somebody, not vm"


def test_a_thing_made_by_hand_under_the_runs_name_is_the_runs() -> None:
    made, mark = healthy("two-networks"), Mark(RUN, "two-networks")
    have = held(made, mark)
    have = replace(have, routers=tuple(replace(each, description="") for each in have.routers))
    read = configured(have, mark, external(made), BEYOND)
    assert [each.name for each in read.routers] == ["RT1", "RT2"]


def test_for_whom_a_floating_ip_was_made_is_on_it() -> None:
    mark = Mark(RUN, "operations")
    assert meant_for(mark.description("vm"), mark) == "vm"
    assert meant_for(mark.description(), mark) is None
    assert meant_for(Mark(RUN, "two-tier").description("vm"), mark) is None
    assert meant_for("", mark) is None


def test_what_the_api_says_of_ports_routers_and_floating_ips_is_kept() -> None:
    """The SDK's own objects, with the fields of neutron's API reference."""
    lists: dict[str, list[object]] = {key: [] for key in LISTS}
    lists["networks"] = [SdkNetwork(id="n", name="front", description="", tags=[])]
    lists["subnets"] = [
        SdkSubnet(
            id="s", name="", network_id="n", cidr="20.4.5.0/24", gateway_ip="20.4.5.4", enable_dhcp=False,
            ip_version=4, dns_nameservers=[],
        )
    ]  # fmt: skip
    lists["routers"] = [
        SdkRouter(
            id="r", name="RT1", description="", status="ACTIVE", admin_state_up=False,
            routes=[{"destination": "30.4.5.0/24", "nexthop": "20.4.5.4"}, {"destination": "::/0", "nexthop": "::1"}],
            external_gateway_info={
                "network_id": "x", "enable_snat": False, "external_fixed_ips": [{"ip_address": "192.168.37.9"}],
            },
        )
    ]  # fmt: skip
    lists["ports"] = [
        SdkPort(
            id="p", name="vm", network_id="n", device_id="v", device_owner="compute:nova", status="DOWN",
            mac_address="02:00:00:00:00:01", fixed_ips=[{"subnet_id": "s", "ip_address": "20.4.5.88"}],
            security_groups=["g"], port_security_enabled=False, admin_state_up=False,
        )
    ]  # fmt: skip
    lists["floating IPs"] = [
        SdkFloatingIP(
            id="f",
            floating_ip_address="192.168.37.28",
            fixed_ip_address="20.4.5.88",
            port_id="p",
            status="ACTIVE",
        )
    ]
    lists["security groups"] = [
        SdkGroup(
            id="g", name="default",
            security_group_rules=[
                {"id": "e", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22,
                 "port_range_max": 22, "remote_ip_prefix": "0.0.0.0/0", "remote_group_id": None}
            ],
        )
    ]  # fmt: skip
    lists["servers"] = [
        SdkServer(
            id="v",
            name="vm",
            status="SHUTOFF",
            addresses={},
            metadata={},
            **{"OS-EXT-STS:task_state": "powering-on"},
        )
    ]
    have = _select(lists, None)
    read = configured(have, Mark(RUN, "t"), {"x": Network("public", None, external=True)}, BEYOND)
    assert read.networks == (Network("public", None, external=True),)  # front is nobody's of this run
    named = replace(
        have, networks=tuple(replace(each, name=Mark(RUN, "t").name("front")) for each in have.networks)
    )
    read = configured(named, Mark(RUN, "t"), {"x": Network("public", None, external=True)}, BEYOND)
    assert read.networks[1] == Network(
        "front", IPv4Network("20.4.5.0/24"), IPv4Address("20.4.5.4"), dhcp=False
    )
    (port,) = read.servers[0].ports
    assert (port.port_security, port.admin_up, port.status, port.security_groups) == (
        False,
        False,
        "DOWN",
        ("default",),
    )
    assert (read.servers[0].status, read.servers[0].task) == ("SHUTOFF", "powering-on")
    assert have.routers[0].extra_routes == ((IPv4Network("30.4.5.0/24"), IPv4Address("20.4.5.4")),)
    assert (have.routers[0].admin_up, have.routers[0].snat) == (False, False)
    floating = read.floating_ips[0]
    assert (floating.server, floating.fixed, floating.meant) == ("vm", IPv4Address("20.4.5.88"), None)
    path = walk(read, Configuration(beyond=BEYOND), "vm", IPv4Address("198.51.100.8"), Traffic("tcp", 22))
    assert path.outcome is Outcome.NOT_MADE
    assert path.broken[0].text == "server vm is SHUTOFF (powering-on)"
