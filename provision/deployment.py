"""A topology that stands on a cloud: the handles by the topology's own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from provision.graph import Timing, table
from provision.mark import Whose


@dataclass(frozen=True)
class DeployedNetwork:
    """``name`` is the cloud's, here and below."""

    id: str
    name: str
    subnet_id: str


@dataclass(frozen=True)
class DeployedRouter:
    """``legs`` maps networks to the addresses that it has there, ``ports`` to the ports' ids."""

    id: str
    name: str
    external_address: IPv4Address | None
    legs: Mapping[str, IPv4Address]
    ports: Mapping[str, str]


@dataclass(frozen=True)
class DeployedSecurityGroup:
    id: str
    name: str


@dataclass(frozen=True)
class DeployedHost:
    """A server.

    Attributes:
        name: its name in the topology; ``server_name`` the cloud's.
        address: its fixed address.
        floating_ip: the address that leads to it from the external network; None if it has none.
    """

    name: str
    server_name: str
    server_id: str
    address: IPv4Address
    floating_ip: IPv4Address | None
    floating_ip_id: str | None
    port_id: str
    mac: str


@dataclass(frozen=True)
class Deployment:
    """What :func:`provision.openstack.apply` made or found.

    Attributes:
        mark: how its things are known on the cloud.
        changes: what had to be made or changed, in words; empty if all was as asked.
        timings: when each step ran and how long.
        path: the chain of steps that set the total time.
        seconds: the total.
    """

    mark: Whose
    networks: Mapping[str, DeployedNetwork]
    routers: Mapping[str, DeployedRouter]
    security_groups: Mapping[str, DeployedSecurityGroup]
    hosts: Mapping[str, DeployedHost]
    keypair: str
    changes: tuple[str, ...] = ()
    timings: tuple[Timing, ...] = ()
    path: tuple[Timing, ...] = ()
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.mark.prefix}*: {len(self.changes)} changes in {self.seconds:.1f} s"]
        for host in self.hosts.values():
            floating = f", floating IP {host.floating_ip}" if host.floating_ip else ""
            lines.append(f"  {host.name}: {host.address}{floating}")
        return "\n".join(lines)

    def steps(self) -> str:
        """The steps as a table; those of the critical path are starred."""
        return table(self.timings, self.path)
