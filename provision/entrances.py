"""The ways into a topology's servers on a cloud: over SSH, those without a floating IP through one that has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from probes.host import SshHost
from probes.shell import HostError
from provision.cloud import Cloud
from provision.deployment import Deployment
from provision.guests import console_end, host_keys
from provision.topology import Host, Topology


def enter(
    topology: Topology,
    deployment: Deployment,
    login: str,
    key: Path,
    host: Callable[..., SshHost] = SshHost,
    cloud: Cloud | None = None,
) -> dict[str, SshHost]:
    """The hosts by name, not connected yet; without those that no way leads to.

    Args:
        login: user of the guests.
        key: private key that opens them.
        host: makes one.
        cloud: learns their host keys from their consoles; without it, the first ones seen are theirs.
    """
    made = deployment.hosts

    def by(server_id: str) -> dict[str, Any]:
        return {"host_keys": host_keys(cloud, server_id)} if cloud else {}

    direct = {
        n: host(n, str(h.floating_ip), login, key, **by(h.server_id))
        for n, h in made.items()
        if h.floating_ip
    }
    door = next((direct[h.name] for h in topology.hosts if h.name in direct and opens_ssh(topology, h)), None)
    inner = {
        n: host(n, str(h.address), login, key, via=door, **by(h.server_id))
        for n, h in made.items()
        if n not in direct and door
    }
    return {**direct, **inner}


def wait_ready(cloud: Cloud, deployment: Deployment, guest: SshHost, within: float) -> None:
    """Waits until a guest lets us in.

    Args:
        within: seconds.

    Raises:
        HostError: it did not; with the end of its console, which tells what kept it.
    """
    try:
        guest.wait_ready(within)
    except HostError as error:
        said = console_end(cloud, deployment.hosts[guest.name].server_id)
        raise HostError(f"{error}; its console ends: {said}") from None


def opens_ssh(topology: Topology, host: Host) -> bool:
    """Whether the host's security groups let SSH in from anywhere."""
    return any(
        rule.direction == "ingress"
        and rule.remote_group is None
        and rule.protocol in (None, "tcp")
        and (rule.ports is None or rule.ports[0] <= 22 <= rule.ports[1])
        for group in host.security_groups
        for rule in topology.security_group(group).rules
    )


def set_routes(host: Host, guest: SshHost) -> list[str]:
    """Gives a guest the static routes that its topology asks for; says which were not there yet.

    Raises:
        HostError: the guest does not take one, in its own words.
    """
    changes = []
    for route in host.routes:
        to, via = str(route.destination), str(route.via)
        if guest.run("ip -4 route show %s via %s", to, via).stdout.strip():
            continue
        done = guest.run("sudo -n ip route replace %s via %s", to, via)
        if not done.succeeded:
            raise HostError(f"{host.name}: route to {to} via {via}: {done.stderr.strip()}")
        changes.append(f"{host.name}: route to {to} via {via} set")
    return changes


def close(hosts: Mapping[str, SshHost]) -> None:
    """Ends the connections, those that go through others first."""
    for host in reversed([*hosts.values()]):
        host.close()
