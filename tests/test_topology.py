"""The topology model: what is read, in both shapes, and what it answers."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from provision.topology import (
    ANYWHERE,
    Host,
    Leg,
    Network,
    Route,
    Router,
    Rule,
    Service,
    Topology,
)
from provision.topology_text import describe

TOPOLOGIES = Path(__file__).parent.parent / "labs" / "topologies"
SHIPPED = ("single", "two-tier", "two-networks")
Document = dict[str, Any]


def shipped(name: str) -> Topology:
    return Topology.load(TOPOLOGIES / f"{name}.json")


def two_networks() -> Document:
    """A document of our own shape with one of everything in it."""
    document: Document = json.loads((TOPOLOGIES / "two-networks.json").read_text())
    return document


def lab_report() -> Document:
    """The document of lab report 003, its shape mended."""
    document: Document = json.loads((Path(__file__).parent / "topology" / "report-003.json").read_text())
    return document


# ---------- what ships


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_topology_round_trips(name: str) -> None:
    topology = shipped(name)
    assert topology.name == name
    assert Topology.from_json(json.loads(json.dumps(topology.as_json()))) == topology
    assert hash(topology) == hash(shipped(name))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_topology_has_the_security_group_that_the_lab_asks_for(name: str) -> None:
    topology = shipped(name)
    from_itself = {
        Rule("ingress", None, None, None, "lab", "IPv4"),
        Rule("ingress", None, None, None, "lab", "IPv6"),
    }
    assert set(topology.security_group("lab").rules) == {
        Rule("egress", None, None, None, None, "IPv4"),
        Rule("egress", None, None, None, None, "IPv6"),
        Rule("ingress", "icmp", None, ANYWHERE, None),
        Rule("ingress", "tcp", (22, 22), ANYWHERE, None),
        # where there are services, their ports are closed between the VMs until a rule of their own opens them (APP-10)
        *(set() if topology.services else from_itself),
    }
    assert all("lab" in host.security_groups for host in topology.hosts)
    assert all(host.flavor == "nano" and host.image is None for host in topology.hosts)


def test_single_is_one_server_behind_one_router() -> None:
    topology = shipped("single")
    assert topology.internal_networks == (
        Network("private", IPv4Network("10.5.7.0/24"), IPv4Address("10.5.7.1")),
    )
    assert topology.routers == (
        Router("router", "public", (Leg("private", IPv4Address("10.5.7.1"), gateway=True),)),
    )
    assert topology.hosts == (Host("vm", "private", None, None, "nano", True, ("lab",), ()),)


def test_two_tier_has_the_report_s_addresses_and_port() -> None:
    topology = shipped("two-tier")
    assert {host.name: str(host.address) for host in topology.hosts} == {
        "calculator": "12.7.5.104",
        "plus": "12.7.5.250",
        "minus": "12.7.5.110",
        "times": "12.7.5.138",
        "divide": "12.7.5.221",
    }
    assert [host.name for host in topology.hosts if host.floating_ip] == ["calculator"]
    assert topology.service("calculator") == Service(
        "calculator", "calculator", 50010, ("sum", "sub", "mul", "div"), None
    )
    assert [topology.service(name).port for name in ("sum", "sub", "mul", "div")] == [
        50001,
        50002,
        50003,
        50004,
    ]


def test_two_networks_has_the_report_s_routers_and_route() -> None:
    topology = shipped("two-networks")
    assert topology.routers == (
        Router("RT1", "public", (Leg("front", IPv4Address("20.4.5.1"), gateway=True),)),
        Router(
            "RT2",
            None,
            (
                Leg("front", IPv4Address("20.4.5.4"), gateway=False),
                Leg("back", IPv4Address("30.4.5.1"), gateway=True),
            ),
        ),
    )
    assert topology.host("calculator").routes == (Route(IPv4Network("30.4.5.0/24"), IPv4Address("20.4.5.4")),)
    assert [str(host.address) for host in topology.hosts_of("back")] == [
        "30.4.5.215",
        "30.4.5.109",
        "30.4.5.120",
        "30.4.5.218",
    ]


# ---------- the lab report's shape


def test_lab_report_s_document_is_read() -> None:
    topology = Topology.from_json(lab_report(), "labs/report-003.json")
    assert topology.name == "report-003"
    assert topology.network("public").external
    assert topology.routers == (
        Router(
            "router_1",
            None,
            (
                Leg("private_network_2", IPv4Address("13.0.0.5"), gateway=False),
                Leg("private_network", IPv4Address("12.7.5.1"), gateway=True),
            ),
        ),
        Router("router_0", "public", (Leg("private_network_2", IPv4Address("13.0.0.1"), gateway=True),)),
    )
    assert topology.host("Calculator") == Host(
        "Calculator", "private_network_2", IPv4Address("13.0.0.166"), "Ubuntu4CLV", "small2", False, (), ()
    )
    assert topology.host("instance_minus").network == "private_network"


def test_lab_report_s_document_round_trips_in_our_shape() -> None:
    topology = Topology.from_json(lab_report(), "report.json")
    document = topology.as_json()
    assert Topology.from_json(document) == topology
    assert "instances" not in json.dumps(document)
    assert document["routers"][1] == {
        "name": "router_0",
        "external": "public",
        "legs": [{"network": "private_network_2"}],
    }


def test_our_keys_are_read_in_the_lab_report_s_document() -> None:
    document = lab_report()
    document["security_groups"] = [{"name": "lab", "rules": [{"direction": "egress"}]}]
    calculator = document["networks"][1]["instances"][0]
    calculator.update(
        floating_ip="192.168.37.14",
        security_groups=["lab"],
        routes=[{"destination": "12.7.5.0/24", "via": "13.0.0.5"}],
    )
    topology = Topology.from_json(document)
    host = topology.host("Calculator")
    assert host.floating_ip == IPv4Address("192.168.37.14")
    assert topology.path(host, "instance_minus") == ("router_1",)
    assert Topology.from_json(topology.as_json()) == topology


def test_interface_gives_the_address_of_a_network_listed_as_internal() -> None:
    document = lab_report()
    del document["networks"][1]["router"]
    document["routers"].append(
        {
            "name": "router_1",
            "internal_networks": ["private_network_2", "private_network"],
            "interfaces": ["13.0.0.5"],
        }
    )
    assert {
        leg.network: str(leg.address) for leg in Topology.from_json(document).router("router_1").legs
    } == {
        "private_network": "12.7.5.1",
        "private_network_2": "13.0.0.5",
    }


# ---------- what is let through on purpose


def test_gateway_is_the_first_address_if_left_out_and_none_if_null() -> None:
    networks = [
        {"name": "first", "cidr": "10.0.0.0/24"},
        {"name": "none", "cidr": "10.0.1.0/24", "gateway": None},
    ]
    topology = Topology.from_json({"networks": networks})
    assert [network.gateway for network in topology.networks] == [IPv4Address("10.0.0.1"), None]
    assert Topology.from_json(topology.as_json()) == topology


def test_external_network_may_leave_its_addresses_to_the_cloud() -> None:
    document = two_networks()
    document["networks"][0] = {"name": "public", "type": "external"}
    document["hosts"][0]["floating_ip"] = "203.0.113.9"
    topology = Topology.from_json(document)
    assert topology.network("public") == Network("public", ANYWHERE, None, external=True)
    assert "external network public  the cloud's own" in str(topology)
    assert Topology.from_json(topology.as_json()) == topology


def test_default_security_group_need_not_be_defined() -> None:
    document = two_networks()
    document["hosts"][0]["security_groups"] = ["default"]
    assert Topology.from_json(document).host("calculator").security_groups == ("default",)


def test_service_may_be_bound_to_its_host_s_address_or_loopback() -> None:
    for bind in ("20.4.5.88", "127.0.0.1"):
        document = two_networks()
        document["services"][4]["bind"] = bind
        topology = Topology.from_json(document)
        assert topology.service("calculator").bind == bind
        assert Topology.from_json(topology.as_json()) == topology


def test_route_may_lead_out_through_an_external_gateway() -> None:
    document = two_networks()
    document["hosts"][0]["routes"].append({"destination": "198.51.100.0/24", "via": "20.4.5.1"})
    assert len(Topology.from_json(document).host("calculator").routes) == 2


def test_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_text((TOPOLOGIES / "single.json").read_text(), encoding="utf-8-sig")
    assert Topology.load(str(file)) == shipped("single")


# ---------- queries


def test_look_up_by_name() -> None:
    topology = shipped("two-networks")
    assert topology.network("back").cidr == IPv4Network("30.4.5.0/24")
    assert topology.router("RT2").external is None
    with pytest.raises(KeyError, match="no host named 'vm' in the topology; it has calculator, sum, sub"):
        topology.host("vm")
    with pytest.raises(KeyError, match="no router named 'RT3'"):
        topology.networks_of("RT3")


def test_neighbourhood_queries() -> None:
    topology = shipped("two-networks")
    assert [host.name for host in topology.hosts_of("front")] == ["calculator"]
    assert [host.name for host in topology.hosts_of(topology.network("back"))] == ["sum", "sub", "mul", "div"]
    assert [router.name for router in topology.routers_of("front")] == ["RT1", "RT2"]
    assert [router.name for router in topology.routers_of("public")] == ["RT1"]
    assert topology.gateway_router("front") == topology.router("RT1")
    assert topology.gateway_router("back") == topology.router("RT2")
    assert topology.gateway_router("public") is None
    assert [network.name for network in topology.networks_of("RT2")] == ["front", "back"]
    assert [service.name for service in topology.services_of("mul")] == ["mul"]
    assert [network.name for network in topology.external_networks] == ["public"]


def test_path_follows_routes_and_gateways() -> None:
    topology = shipped("two-networks")
    assert topology.path("calculator", "sum") == ("RT2",)
    assert topology.path("sum", "calculator") == ("RT2",)
    assert topology.path("sum", "div") == ()
    assert topology.connected("calculator", "sum")


def test_without_the_static_route_there_is_a_way_back_only() -> None:
    document = two_networks()
    del document["hosts"][0]["routes"]
    topology = Topology.from_json(document)
    assert topology.path("calculator", "sum") is None
    assert topology.path("sum", "calculator") == ("RT2",)
    assert not topology.connected("sum", "calculator")


def test_longest_prefix_decides_the_path() -> None:
    document = two_networks()
    document["hosts"][0]["routes"] = [
        {"destination": "30.4.5.0/24", "via": "20.4.5.4"},
        {"destination": "30.0.0.0/8", "via": "20.4.5.4"},
        {"destination": "0.0.0.0/0", "via": "20.4.5.1"},
    ]
    assert Topology.from_json(document).path("calculator", "sum") == ("RT2",)


def test_only_hosts_behind_an_external_gateway_reach_the_public_network() -> None:
    topology = shipped("two-networks")
    assert topology.reach_public("calculator") == topology.router("RT1")
    assert topology.reach_public("sum") is None
    assert shipped("single").reach_public("vm") == shipped("single").router("router")


def test_network_without_router_leads_nowhere() -> None:
    document = two_networks()
    document["routers"] = []
    document["hosts"][0].update(floating_ip=False, routes=[])
    topology = Topology.from_json(document)
    assert topology.path("calculator", "sum") is None
    assert topology.reach_public("calculator") is None
    assert topology.gateway_router("front") is None


def test_description_reads_as_a_tree() -> None:
    text = describe(shipped("two-networks"))
    assert text == str(shipped("two-networks"))
    assert (
        """\
network front  20.4.5.0/24  gateway 20.4.5.1
├─ router RT1  20.4.5.1  the gateway
├─ router RT2  20.4.5.4
└─ host calculator  20.4.5.88  nano  floating IP  security groups lab, calculator
   └─ route 30.4.5.0/24 via 20.4.5.4
network back  30.4.5.0/24  gateway 30.4.5.1
├─ router RT2  30.4.5.1  the gateway
├─ host sum  30.4.5.215  nano  security groups lab, services
"""
        in text
    )
    assert "└─ ingress IPv4  tcp 50000-50050 from 0.0.0.0/0" in text
    assert "└─ calculator  calculator:50000  calls sum, sub, mul, div" in text
