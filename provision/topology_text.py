"""A topology told: as a JSON document, and as a text to read."""

from __future__ import annotations

from typing import Any

from provision.topology import ANYWHERE, Host, Network, Router, Rule, Service, Topology


def as_json(topology: Topology) -> dict[str, Any]:
    """The topology in the project's own document shape; what is as by default is left out."""
    document: dict[str, Any] = {
        "name": topology.name,
        "networks": [_network(network) for network in topology.networks],
    }
    if topology.routers:
        document["routers"] = [_router(router, topology) for router in topology.routers]
    if topology.security_groups:
        document["security_groups"] = [
            {"name": group.name, "rules": [_rule(rule) for rule in group.rules]}
            for group in topology.security_groups
        ]
    if topology.hosts:
        document["hosts"] = [_host(host) for host in topology.hosts]
    if topology.services:
        document["services"] = [_service(service) for service in topology.services]
    return document


def _network(network: Network) -> dict[str, Any]:
    item: dict[str, Any] = {"name": network.name}
    if network.external:
        item["type"] = "external"
    if not (network.external and network.cidr == ANYWHERE):
        item["cidr"] = str(network.cidr)
    if network.gateway or not network.external:
        item["gateway"] = str(network.gateway) if network.gateway else None
    if not network.dhcp:
        item["dhcp"] = False
    if network.dns:
        item["dns"] = [str(address) for address in network.dns]
    return item


def _router(router: Router, topology: Topology) -> dict[str, Any]:
    item: dict[str, Any] = {"name": router.name}
    if router.external:
        item["external"] = router.external
    item["legs"] = [
        {"network": leg.network} | ({"address": str(leg.address)} if leg.address and not leg.gateway else {})
        for leg in router.legs
    ]
    return item


def ports_text(ports: tuple[int, int]) -> str:
    """``22`` or ``50000-50050``."""
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def _rule(rule: Rule) -> dict[str, Any]:
    item: dict[str, Any] = {"direction": rule.direction}
    if rule.ethertype != "IPv4":
        item["ethertype"] = rule.ethertype
    if rule.protocol:
        item["protocol"] = rule.protocol
    if rule.ports:
        item["ports"] = ports_text(rule.ports)
    if rule.remote:
        item["remote"] = str(rule.remote)
    if rule.remote_group:
        item["remote"] = f"group:{rule.remote_group}"
    return item


def _host(host: Host) -> dict[str, Any]:
    item: dict[str, Any] = {"name": host.name, "network": host.network}
    if host.address:
        item["address"] = str(host.address)
    if host.image:
        item["image"] = host.image
    item["flavor"] = host.flavor
    if host.floating_ip:
        item["floating_ip"] = True if host.floating_ip is True else str(host.floating_ip)
    if host.security_groups:
        item["security_groups"] = list(host.security_groups)
    if host.routes:
        item["routes"] = [{"destination": str(r.destination), "via": str(r.via)} for r in host.routes]
    return item


def _service(service: Service) -> dict[str, Any]:
    item: dict[str, Any] = {"name": service.name, "host": service.host, "port": service.port}
    if service.backends:
        item["backends"] = list(service.backends)
    if service.bind:
        item["bind"] = service.bind
    return item


def describe(topology: Topology) -> str:
    """The topology as a plain text tree: what ``provision topology show FILE`` prints."""
    sections = [f"topology {topology.name}"]
    for network in topology.networks:
        sections.append(_tree(_network_line(network), _network_branches(topology, network)))
    for router in topology.routers:
        sections.append(_tree(*_router_lines(topology, router)))
    for group in topology.security_groups:
        lines = [_rule_line(rule) for rule in group.rules] or ["no rules: nothing passes"]
        sections.append(_tree(f"security group {group.name}", lines))
    if topology.services:
        sections.append(_tree("services", [_service_line(topology, s) for s in topology.services]))
    return "\n".join(sections)


def _tree(head: str, branches: list[str]) -> str:
    lines = [head]
    for number, branch in enumerate(branches, start=1):
        last = number == len(branches)
        first, *rest = branch.split("\n")
        lines.append(("└─ " if last else "├─ ") + first)
        lines += [("   " if last else "│  ") + line for line in rest]
    return "\n".join(lines)


def _network_line(network: Network) -> str:
    if network.external:
        cidr = "the cloud's own" if network.cidr == ANYWHERE else str(network.cidr)
        return f"external network {network.name}  {cidr}" + (
            f"  gateway {network.gateway}" if network.gateway else ""
        )
    facts = [f"network {network.name}", str(network.cidr)]
    facts.append(f"gateway {network.gateway}" if network.gateway else "no gateway")
    if not network.dhcp:
        facts.append("no DHCP")
    if network.dns:
        facts.append("DNS " + ", ".join(map(str, network.dns)))
    return "  ".join(facts)


def _network_branches(topology: Topology, network: Network) -> list[str]:
    branches = []
    for router in topology.routers_of(network):
        if router.external == network.name:
            branches.append(f"router {router.name}  external gateway")
        branches += [
            f"router {router.name}  {leg.address or 'any address'}" + ("  the gateway" if leg.gateway else "")
            for leg in router.legs
            if leg.network == network.name
        ]
    return branches + [_host_branch(host) for host in topology.hosts_of(network)]


def _host_branch(host: Host) -> str:
    facts = [f"host {host.name}", str(host.address or "any address"), host.flavor]
    if host.image:
        facts.append(f"image {host.image}")
    if host.floating_ip:
        facts.append("floating IP" + ("" if host.floating_ip is True else f" {host.floating_ip}"))
    if host.security_groups:
        facts.append("security groups " + ", ".join(host.security_groups))
    return _tree("  ".join(facts), [f"route {route.destination} via {route.via}" for route in host.routes])


def _router_lines(topology: Topology, router: Router) -> tuple[str, list[str]]:
    lines = [f"external gateway on {router.external}"] if router.external else ["no external gateway"]
    for leg in router.legs:
        gateway = topology.network(leg.network).gateway
        role = "the gateway" if leg.gateway else f"gateway is {gateway or 'none'}"
        lines.append(f"leg in {leg.network}  {leg.address or 'any address'}  {role}")
    return f"router {router.name}", lines


def _rule_line(rule: Rule) -> str:
    what: str = rule.protocol or "anything"
    if rule.ports:
        what += f" {ports_text(rule.ports)}"
    side = "from" if rule.direction == "ingress" else "to"
    whom = f"group {rule.remote_group}" if rule.remote_group else str(rule.remote or "anywhere")
    return f"{rule.direction} {rule.ethertype}  {what} {side} {whom}"


def _service_line(topology: Topology, service: Service) -> str:
    line = f"{service.name}  {service.host}:{service.port}"
    if service.bind:
        line += f"  on {service.bind} alone"
    if service.backends:
        line += "  calls " + ", ".join(service.backends)
    return line
