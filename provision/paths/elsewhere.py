"""How a configuration differs from the document as a whole, on a path or not."""

from __future__ import annotations

from provision import inventory as reported
from provision.differences import differences
from provision.paths.configuration import Configuration
from provision.topology import Topology


def elsewhere(topology: Topology, configuration: Configuration) -> list[str]:
    """The differences, a line each; of flavors nothing is said, for no packet's way depends on them."""
    external = next((each for each in configuration.networks if each.external), None)
    have = reported.Inventory(
        networks=tuple(
            reported.Network(each.name, each.cidr, each.gateway, each.dhcp, 1 if each.cidr else 0)
            for each in configuration.networks
            if not each.external
        ),
        routers=tuple(
            reported.Router(
                each.name,
                each.status,
                each.external,
                each.external_address,
                tuple(reported.Leg(leg.network, leg.address) for leg in each.legs),
            )
            for each in configuration.routers
        ),
        servers=tuple(
            reported.Server(
                each.name,
                each.status,
                each.fault,
                topology.host(each.name).flavor,
                tuple(reported.Leg(port.network, a) for port in each.ports for a in port.addresses),
                tuple(sorted({group for port in each.ports for group in port.security_groups})),
                found.address if (found := configuration.floating_ip_of(each.name)) else None,
            )
            for each in configuration.servers
            if any(host.name == each.name for host in topology.hosts)
        ),
        security_groups=tuple(
            reported.Group(each.name, frozenset(each.rules)) for each in configuration.groups
        ),
        external_network=external.name if external else "",
    )
    return differences(topology, have)
