"""Topologies on the embedded lab's real cloud: applied, applied again, mended, removed."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from provision import journal as journals
from provision.box import runtime
from provision.cloud import Cloud, CloudError
from provision.differences import differences
from provision.draft import Draft
from provision.holdings import holdings
from provision.inventory import inventory
from provision.journal import Journal
from provision.mark import Mark
from provision.openstack import Deployment, ProvisionError, apply, destroy
from provision.paths.cloud import read
from provision.paths.configuration import Beyond
from provision.paths.intention import intended
from provision.paths.matrix import matrix
from provision.topology import Topology
from reports.drawing import draw
from tests.probes_world import until

pytestmark = pytest.mark.box

TOPOLOGIES = Path(__file__).resolve().parent.parent / "labs" / "topologies"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXtmrcQ1rMTx3HgPJhhnxVXMMxbT5RtBbCSsXHmjSq8 labproof-tests"
TWO = Topology.load(TOPOLOGIES / "two-networks.json")
# The same without its hosts: everything but the boots, in a few seconds.
BARE = replace(TWO, name="bare", hosts=(), services=())


def new_run() -> str:
    return f"t{secrets.token_hex(3)}"


@pytest.fixture
def run(cloud: Cloud) -> Iterator[str]:
    """A run of its own, removed afterwards whatever happened."""
    name = new_run()
    yield name
    destroy(cloud, name).check()


@pytest.fixture(scope="module")
def standing_run(cloud: Cloud) -> Iterator[str]:
    name = new_run()
    yield name
    destroy(cloud, name).check()


@pytest.fixture(scope="module")
def two(cloud: Cloud, standing_run: str) -> Deployment:
    """The two-network topology, with its five servers."""
    return apply(cloud, TWO, standing_run, key_public=KEY)


def again(cloud: Cloud, two: Deployment) -> Deployment:
    return apply(cloud, TWO, two.mark.run, key_public=KEY)


def test_the_cloud_reports_what_was_asked_for(cloud: Cloud, two: Deployment) -> None:
    reported = inventory(cloud, two)
    assert differences(TWO, reported) == []
    assert reported.router("RT1").external == "public"
    assert {str(leg) for leg in reported.router("RT2").legs} == {"front 20.4.5.4", "back 30.4.5.1"}
    assert two.hosts["calculator"].floating_ip == reported.server("calculator").floating_ip
    assert two.hosts["sum"].floating_ip is None
    assert "20.4.5.88" in draw(reported.as_drawing())


def test_its_paths_are_configured_as_intended(cloud: Cloud, two: Deployment) -> None:
    desktop = Beyond("desktop", IPv4Address("10.1.5.89"), ((22, 22), (50000, 50050)))
    around = [desktop, Beyond("outside", cloud.lab.outside)]

    def told() -> bool:
        seen = read(cloud, TWO, two.mark, around)
        legs = [leg.status for router in seen.routers for leg in router.legs]
        return {*legs, *(each.status for each in seen.floating_ips if each.meant)} == {"ACTIVE"}

    # the agent tells of a leg and of a floating IP some seconds after it has them
    until(told, "the router's legs and floating IP to be told of", 60)
    configuration = read(cloud, TWO, two.mark, around)
    meant = intended(TWO, configuration)
    assert set(configuration.networks[1:]) == set(meant.networks[1:])
    assert {each.name: set(each.legs) for each in configuration.routers} == {
        each.name: set(each.legs) for each in meant.routers
    }
    assert {each for each in configuration.floating_ips if each.meant} == set(meant.floating_ips)
    cells = matrix(TWO, configuration)
    assert [(cell.source, cell.target, cell.why) for cell in cells.unlike] == []


def test_applied_again_it_changes_nothing(cloud: Cloud, two: Deployment) -> None:
    second = again(cloud, two)
    assert second.changes == ()
    assert (second.hosts, second.networks, second.routers) == (two.hosts, two.networks, two.routers)


def test_everything_carries_the_runs_name_and_tag(cloud: Cloud, two: Deployment) -> None:
    have = holdings(cloud, two.mark)
    assert all(
        name.startswith(two.mark.prefix)
        for kind, name, _ in have.things()
        if kind not in {"port", "floating IP"}
    )
    tags = [item.tags for item in have.networks] + [item.tags for item in have.routers]
    tags += [item.tags for item in have.security_groups]
    assert all(set(two.mark.tags) <= set(item) for item in tags), tags
    assert all(server.metadata["labproof_run"] == two.mark.run for server in have.servers)
    assert [item.description for item in have.floating_ips] == [two.mark.description("calculator")]


Drift = Callable[[Cloud, Deployment], None]


def no_leg(cloud: Cloud, two: Deployment) -> None:
    cloud.remove_leg(two.routers["RT2"].id, port_id=two.routers["RT2"].ports["front"])


def no_gateway(cloud: Cloud, two: Deployment) -> None:
    for ip in list(cloud.api.network.ips(port_id=two.hosts["calculator"].port_id)):
        cloud.api.network.delete_ip(ip)
    cloud.api.network.update_router(two.routers["RT1"].id, external_gateway_info={})


def no_rule(cloud: Cloud, two: Deployment) -> None:
    for rule in cloud.api.network.security_group_rules(
        security_group_id=two.security_groups["lab"].id, protocol="icmp"
    ):
        cloud.api.network.delete_security_group_rule(rule.id)


def one_rule_more(cloud: Cloud, two: Deployment) -> None:
    cloud.api.network.create_security_group_rule(
        security_group_id=two.security_groups["lab"].id,
        direction="ingress",
        ether_type="IPv4",
        protocol="udp",
    )


def no_floating_ip(cloud: Cloud, two: Deployment) -> None:
    cloud.api.network.update_ip(two.hosts["calculator"].floating_ip_id, port_id=None)


def other_groups(cloud: Cloud, two: Deployment) -> None:
    cloud.api.network.update_port(
        two.hosts["sum"].port_id, security_group_ids=[two.security_groups["services"].id]
    )


@pytest.mark.parametrize(
    ("drift", "told"),
    [
        (no_leg, ["router RT2 has no leg in front; intended 20.4.5.4"]),
        (
            no_gateway,
            [
                "router RT1 has no external gateway; intended on public",
                "server calculator has no floating IP",
            ],
        ),
        (no_rule, ["security group lab lacks the rule: ingress IPv4 icmp from anywhere"]),
        (
            one_rule_more,
            ["security group lab has a rule that is not intended: ingress IPv4 udp from anywhere"],
        ),
        (
            no_floating_ip,
            ["server calculator has no floating IP: {calculator}, which was made for it, leads nowhere"],
        ),
        (other_groups, ["server sum is in the groups services; intended lab, services"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_is_not_as_intended_is_told_and_mended(
    cloud: Cloud, two: Deployment, drift: Drift, told: list[str]
) -> None:
    before = again(cloud, two)
    drift(cloud, before)
    floating = before.hosts["calculator"].floating_ip
    assert differences(TWO, inventory(cloud, two)) == [line.format(calculator=floating) for line in told]
    mended = again(cloud, two)
    assert mended.changes
    assert differences(TWO, inventory(cloud, two)) == []
    assert {host.server_id for host in mended.hosts.values()} == {
        host.server_id for host in two.hosts.values()
    }


def test_a_server_that_was_stopped_is_started(cloud: Cloud, two: Deployment) -> None:
    cloud.api.compute.stop_server(two.hosts["div"].server_id)
    cloud.api.compute.wait_for_server(
        cloud.api.compute.get_server(two.hosts["div"].server_id), "SHUTOFF", wait=90
    )
    assert differences(TWO, inventory(cloud, two)) == ["server div is SHUTOFF; intended ACTIVE"]
    assert again(cloud, two).changes == ("server div: SHUTOFF, made ACTIVE again",)


def test_what_cannot_be_changed_in_place_is_refused(cloud: Cloud, two: Deployment) -> None:
    hosts = tuple(replace(host, flavor="tiny") if host.name == "sum" else host for host in TWO.hosts)
    with pytest.raises(
        ProvisionError, match="server sum stands with flavor nano, the topology asks for tiny"
    ):
        apply(cloud, replace(TWO, hosts=hosts), two.mark.run, key_public=KEY)


def test_a_topology_is_removed_and_another_of_the_run_stays(cloud: Cloud, run: str) -> None:
    """bare and bare-two: one's name begins the other's."""
    apply(cloud, BARE, run, key_public=KEY)
    other = apply(cloud, replace(BARE, name="bare-two"), run, key_public=KEY)
    gone = destroy(cloud, run, "bare")
    assert list(gone) == []
    assert {kind for kind, _, _ in gone.removed} == {"network", "router", "port", "security group"}
    assert differences(BARE, inventory(cloud, other)) == []


def test_nothing_is_left_not_even_what_was_made_by_hand(cloud: Cloud, run: str, tmp_path: Path) -> None:
    log = Journal(tmp_path / "journal.jsonl", cloud.lab.name, run)
    made = apply(cloud, BARE, run, key_public=KEY, journal=log)
    api, mark = cloud.api.network, Mark(run)
    front = made.networks["front"]
    api.create_port(network_id=front.id, name="by hand, another name")
    api.create_ip(floating_network_id=cloud.external_network(), description=mark.name("spare"))
    api.create_security_group(name=mark.name("by-hand"))
    cloud.api.compute.create_keypair(name=mark.name("by-hand"), public_key=KEY)
    assert list(destroy(cloud, run, journal=log)) == []
    assert not holdings(cloud, mark)
    assert journals.read(log.path).left == ()


def test_the_dhcp_agent_loses_nothing_of_what_it_is_told(cloud: Cloud, run: str) -> None:
    """Legs and ports of one network go at once, and a worker of the agent's queue dies of none of them."""
    log = runtime.folder() / "data/log/dhcp-agent.out"
    before = len(log.read_bytes())
    for _ in range(3):
        apply(cloud, BARE, run, key_public=KEY)
        destroy(cloud, run).check()
    told = log.read_bytes()[before:].decode(errors="replace")
    assert "in _process_resource_update" not in told, told


def test_the_dhcp_agent_makes_anew_what_it_fails_on(cloud: Cloud, run: str) -> None:
    """As where a network's interface goes while the agent works on it: the metadata service's address is not there."""
    box, mark = runtime.running(), Mark(run, BARE.name)
    assert box is not None
    front = apply(cloud, BARE, run, key_public=KEY).networks["front"].id
    namespace, address = f"qdhcp-{front}", "fe80::a9fe:a9fe"

    def ip(*words: str) -> str:
        return subprocess.run([*box.holder.enter(), "ip", *words], capture_output=True, text=True).stdout

    def served() -> str:
        """The interface that has the address."""
        (interface,) = re.findall(
            r"ns-\S+", ip("-netns", namespace, "-o", "address", "show", "to", address)
        ) or [""]
        return str(interface)

    until(lambda: bool(served()), "the network's metadata service", 60)
    ip("-netns", namespace, "address", "delete", f"{address}/64", "dev", served())
    assert not served()
    # at each word of a network the agent looks after its metadata service
    cloud.api.network.create_port(network_id=front, name=mark.name("word"), description=mark.description())
    until(lambda: bool(served()), "its address", 30)
    destroy(cloud, run).check()
    until(lambda: namespace not in ip("netns"), "the end of its namespace", 30)


def test_what_somebody_else_has_stays(cloud: Cloud, run: str) -> None:
    theirs = new_run()
    try:
        other = apply(cloud, BARE, theirs, key_public=KEY)
        apply(cloud, BARE, run, key_public=KEY)
        assert list(destroy(cloud, run)) == []
        assert differences(BARE, inventory(cloud, other)) == []
    finally:
        destroy(cloud, theirs).check()


def test_a_step_that_fails_ends_the_rest_and_says_what_was_made(cloud: Cloud, run: str) -> None:
    """The address asked for is the cloud's own, so the floating IP fails when all else is made."""
    host = replace(TWO.host("calculator"), floating_ip=IPv4Address("192.168.37.1"), routes=())
    front = tuple(network for network in TWO.networks if network.name != "back")
    # one router alone: the server waits for every leg, the floating IP for its own
    one = replace(TWO, networks=front, routers=TWO.routers[:1], hosts=(host,), services=())
    with pytest.raises(
        ProvisionError, match=r"topology two-networks: floating IP calculator: .*HTTP 4"
    ) as caught:
        apply(cloud, one, run, key_public=KEY)
    assert ("server", Mark(run, TWO.name).name("calculator")) in {item[:2] for item in caught.value.made}
    assert list(destroy(cloud, run)) == []
    assert not holdings(cloud, Mark(run))


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"image": "no-such"}, "missing", r"looking for the image 'no-such': there is none"),
        ({"flavor": "nanno"}, "missing", r"flavor 'nanno': there is none, did you mean 'nano'\?"),
        ({"flavor": "huge"}, "quota", r"quota before anything is made: cores: "),
    ],
)
def test_what_the_cloud_has_not_is_told_before_anything_is_made(
    cloud: Cloud, run: str, change: dict[str, Any], kind: str, told: str
) -> None:
    host = replace(TWO.host("calculator"), **change)
    with pytest.raises(CloudError, match=told) as caught:
        apply(cloud, replace(TWO, hosts=(host,), services=()), run, key_public=KEY)
    assert caught.value.kind == kind
    assert "\n" not in str(caught.value)
    assert not holdings(cloud, Mark(run))


def test_what_is_about_to_be_made_is_written_down_first(cloud: Cloud, run: str, tmp_path: Path) -> None:
    log = Journal(tmp_path / "journal.jsonl", cloud.lab.name, run)
    made = apply(cloud, BARE, run, key_public=KEY, journal=log)
    entries = {(entry.kind, entry.name): entry.id for entry in journals.read(log.path).left}
    for kind, handles in (
        ("network", made.networks),
        ("router", made.routers),
        ("security group", made.security_groups),
    ):
        for handle in handles.values():
            assert entries[kind, handle.name] == handle.id


def test_a_draft_counts_what_it_needs(cloud: Cloud) -> None:
    from provision.plan import plan

    mark = Mark(new_run(), TWO.name)
    draft = Draft(cloud, TWO, mark, holdings(cloud, mark))
    plan(draft, KEY, 1)
    assert {name: draft.needs[name] for name in ("network", "router", "port", "floatingip", "instances")} == {
        "network": 2,
        "router": 2,
        "port": 8,
        "floatingip": 1,
        "instances": 5,
    }
