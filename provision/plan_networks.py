"""Networks, subnets and security groups: the steps from what is there to what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from provision.differences import rule_key
from provision.draft import Draft, take_away
from provision.holdings import CloudSubnet, RuleKey, rule_of
from provision.topology import Network, SecurityGroup, Topology


def plan_network(draft: Draft, network: Network) -> None:
    """The network with its one subnet."""
    found, api = draft.have.network(network.name), draft.cloud.api.network
    if found:
        draft.found("network", network.name, found)
    else:
        draft.untagged.append(("network", network.name))
        draft.make(
            "network",
            network.name,
            lambda name: api.create_network(name=name, description=draft.mark.description()),
            quota="network",
        )
    if found and found.subnets:
        _check_subnet(draft, network, found.subnets[0])
        return
    draft.need("subnet")
    draft.intend("subnet", network.name)
    draft.step(
        f"subnet {network.name}",
        lambda: _make_subnet(draft, network),
        cost="subnet",
        after=[f"network {network.name}"],
        change=f"subnet {network.name} made",
    )


def _make_subnet(draft: Draft, network: Network) -> None:
    made = draft.cloud.api.network.create_subnet(
        name=draft.mark.name(network.name),
        description=draft.mark.description(),
        network_id=draft.ids["network", network.name],
        ip_version=4,
        cidr=str(network.cidr),
        gateway_ip=str(network.gateway) if network.gateway else None,
        is_dhcp_enabled=network.dhcp,
        dns_nameservers=_dns(draft, network),
        allocation_pools=[
            {"start": str(first), "end": str(last)} for first, last in pools(network, draft.topology)
        ],
    )
    draft.ids["subnet", network.name] = made.id
    draft.goes_with("subnet", network.name, draft.ids["network", network.name])


def _dns(draft: Draft, network: Network) -> list[str]:
    return [str(address) for address in network.dns or draft.cloud.lab.dns]


def _check_subnet(draft: Draft, network: Network, found: CloudSubnet) -> None:
    draft.ids["subnet", network.name] = found.id
    if found.cidr != network.cidr:
        draft.refuse(f"network {network.name}", found.cidr, network.cidr)
    change: dict[str, Any] = {}
    if found.gateway != network.gateway:
        change["gateway_ip"] = str(network.gateway) if network.gateway else None
    if found.dhcp != network.dhcp:
        change["is_dhcp_enabled"] = network.dhcp
    if [str(address) for address in found.dns] != _dns(draft, network):
        change["dns_nameservers"] = _dns(draft, network)
    if change:
        draft.step(
            f"subnet {network.name}",
            lambda: draft.cloud.api.network.update_subnet(found.id, **change),
            cost="subnet",
            change=f"subnet {network.name}: {', '.join(sorted(change))} set",
        )


def pools(network: Network, topology: Topology) -> list[tuple[IPv4Address, IPv4Address]]:
    """The ranges that the cloud may choose addresses from: all but those that the topology gives itself.

    Else the DHCP server, which takes an address as soon as there is a subnet, could take one of them.
    """
    taken = {host.address for host in topology.hosts if host.network == network.name}
    taken |= {leg.address for r in topology.routers for leg in r.legs if leg.network == network.name}
    taken.add(network.gateway)
    return list(_ranges(network.cidr, {address for address in taken if address is not None}))


def _ranges(cidr: IPv4Network, taken: set[IPv4Address]) -> Iterator[tuple[IPv4Address, IPv4Address]]:
    first, last = cidr.network_address + 1, cidr.broadcast_address - 1
    for address in sorted(address for address in taken if first <= address <= last):
        if first < address:
            yield first, address - 1
        first = address + 1
    if first <= last:
        yield first, last


def plan_group(draft: Draft, group: SecurityGroup) -> None:
    """The security group itself; its rules may name groups that are planned later."""
    found = draft.have.security_group(group.name)
    if found:
        draft.found("security group", group.name, found)
        return
    draft.untagged.append(("security group", group.name))
    draft.need("security_group_rule", len(group.rules))
    draft.make(
        "security group",
        group.name,
        lambda name: draft.cloud.api.network.create_security_group(
            name=name, description=draft.mark.description()
        ),
        quota="security_group",
    )


def plan_rules(draft: Draft, group: SecurityGroup) -> None:
    """The group's rules become exactly those asked for: a new group has two of its own (egress)."""
    found = draft.have.security_group(group.name)
    remotes = {rule.remote_group for rule in group.rules if rule.remote_group}
    if found and all(draft.have.security_group(name) for name in remotes):
        if {rule.key for rule in found.rules} == _wanted(draft, group):
            return
        draft.need("security_group_rule", len(group.rules))
    draft.intend("rules", group.name)
    draft.step(
        f"rules of {group.name}",
        lambda: _set_rules(draft, group),
        cost="rules",
        after=[f"security group {name}" for name in (group.name, *remotes)],
        change=f"rules of security group {group.name} set",
    )


def _wanted(draft: Draft, group: SecurityGroup) -> set[RuleKey]:
    def id_of(name: str | None) -> str | None:
        return draft.ids["security group", name] if name else None

    return {rule_key(rule, id_of(rule.remote_group)) for rule in group.rules}


def _set_rules(draft: Draft, group: SecurityGroup) -> None:
    api, found, id_ = (
        draft.cloud.api.network,
        draft.have.security_group(group.name),
        draft.ids["security group", group.name],
    )
    if found:
        there = list(found.rules)
    else:
        there = [rule_of(rule) for rule in draft.records["security group", group.name].security_group_rules]
    wanted = _wanted(draft, group)
    missing = wanted - {rule.key for rule in there}
    if missing:
        list(api.create_security_group_rules([_rule_body(id_, key) for key in missing]))
    for rule in there:
        if rule.key not in wanted:
            take_away(rule.id, api.delete_security_group_rule, api.find_security_group_rule)
    draft.goes_with("rules", group.name, id_)


def _rule_body(group_id: str, key: RuleKey) -> dict[str, Any]:
    low, high = key.ports or (None, None)
    body: dict[str, Any] = {
        "security_group_id": group_id,
        "direction": key.direction,
        "ether_type": key.ethertype,
        "protocol": key.protocol,
        "port_range_min": low,
        "port_range_max": high,
        "remote_ip_prefix": key.remote,
        "remote_group_id": key.group,
    }
    return {name: value for name, value in body.items() if value is not None}
