"""How the topology that a cloud reports differs from the intended one, in words."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from provision.holdings import RuleKey
from provision.topology import ANYWHERE, Host, Network, Router, Rule, SecurityGroup, Topology

if TYPE_CHECKING:
    from provision.inventory import Inventory


def rule_key(rule: Rule, group: str | None) -> RuleKey:
    """What a topology's rule is on the cloud; ``group`` is its remote group's id there, or name."""
    remote = None if rule.remote is None or rule.remote == ANYWHERE else str(rule.remote)
    return RuleKey(rule.direction, rule.ethertype, rule.protocol, rule.ports, remote, group)


def differences(topology: Topology, have: Inventory) -> list[str]:
    """How what the cloud reports differs from the intention, a line each; empty if it does not."""
    lines = [
        *(line for network in topology.internal_networks for line in _network(network, have)),
        *(line for router in topology.routers for line in _router(router, topology, have)),
        *(line for group in topology.security_groups for line in _group(group, have)),
        *(line for host in topology.hosts for line in _host(host, have)),
    ]
    for kind, there, intended in (
        ("network", have.networks, topology.internal_networks),
        ("router", have.routers, topology.routers),
        ("server", have.servers, topology.hosts),
    ):
        names = {item.name for item in intended}
        lines += [f"{kind} {item.name} is there and not intended" for item in there if item.name not in names]
    return lines


def _network(network: Network, have: Inventory) -> Iterator[str]:
    found = {item.name: item for item in have.networks}.get(network.name)
    if found is None:
        yield f"network {network.name} is not there"
        return
    if found.subnets != 1:
        yield f"network {network.name} has {found.subnets} subnets; intended one"
    if found.subnets and found.cidr != network.cidr:
        yield f"network {network.name} has the addresses {found.cidr}; intended {network.cidr}"
    if found.subnets and found.gateway != network.gateway:
        there, wanted = _or_none(found.gateway), _or_none(network.gateway)
        yield f"network {network.name} has gateway {there}; intended {wanted}"
    if found.subnets and found.dhcp != network.dhcp:
        yield f"network {network.name} has DHCP {'on' if found.dhcp else 'off'}; intended the contrary"


def _router(router: Router, topology: Topology, have: Inventory) -> Iterator[str]:
    found = {item.name: item for item in have.routers}.get(router.name)
    if found is None:
        yield f"router {router.name} is not there"
        return
    if router.external and found.external is None:
        yield f"router {router.name} has no external gateway; intended on {router.external}"
    elif found.external and found.external != (have.external_network if router.external else None):
        intended = f"on {have.external_network}" if router.external else "none"
        yield f"router {router.name} has an external gateway on {found.external}; intended {intended}"
    legs = {(leg.network, leg.address) for leg in found.legs}
    wanted = {(leg.network, leg.address or topology.network(leg.network).gateway) for leg in router.legs}
    for network, address in sorted(wanted - legs, key=str):
        there = ", ".join(sorted(str(a) for name, a in legs if name == network))
        if there:
            yield f"router {router.name} has its leg in {network} at {there}; intended {address}"
        else:
            yield f"router {router.name} has no leg in {network}; intended {address}"
    for name, at in sorted(legs - wanted, key=str):
        if name not in {leg.network for leg in router.legs}:
            yield f"router {router.name} has a leg in {name} at {at}; intended none"


def _group(group: SecurityGroup, have: Inventory) -> Iterator[str]:
    found = {item.name: item for item in have.security_groups}.get(group.name)
    if found is None:
        yield f"security group {group.name} is not there"
        return
    wanted = {rule_key(rule, rule.remote_group) for rule in group.rules}
    for key in sorted(wanted - found.rules, key=str):
        yield f"security group {group.name} lacks the rule: {key}"
    for key in sorted(found.rules - wanted, key=str):
        yield f"security group {group.name} has a rule that is not intended: {key}"


def _host(host: Host, have: Inventory) -> Iterator[str]:
    found = {item.name: item for item in have.servers}.get(host.name)
    if found is None:
        yield f"server {host.name} is not there"
        return
    if found.status != "ACTIVE":
        fault = f" ({found.fault})" if found.fault else ""
        yield f"server {host.name} is {found.status}{fault}; intended ACTIVE"
    flavor = have.flavors.get(host.flavor, host.flavor)
    if found.flavor != flavor:
        yield f"server {host.name} has flavor {found.flavor}; intended {flavor}"
    addresses = [leg.address for leg in found.legs if leg.network == host.network]
    there = ", ".join(map(str, found.legs)) or "no address"
    if not addresses or (host.address and host.address not in addresses):
        yield f"server {host.name} has {there}; intended {host.network} {host.address or 'any address'}"
    if host.security_groups and set(found.security_groups) != set(host.security_groups):
        groups = ", ".join(found.security_groups) or "none"
        yield f"server {host.name} is in the groups {groups}; intended {', '.join(host.security_groups)}"
    if host.floating_ip and found.floating_ip is None:
        yield f"server {host.name} has no floating IP" + (f": {found.astray}" if found.astray else "")
    elif found.floating_ip and not host.floating_ip:
        yield f"server {host.name} has the floating IP {found.floating_ip}; intended none"
    elif isinstance(host.floating_ip, IPv4Address) and found.floating_ip != host.floating_ip:
        yield f"server {host.name} has the floating IP {found.floating_ip}; intended {host.floating_ip}"


def _or_none(address: IPv4Address | None) -> str:
    return str(address) if address else "none"
