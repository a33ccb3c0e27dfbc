"""The services of a topology that stands on a cloud: its guests entered, routed and given what they are to run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from probes.shell import HostError
from provision.calculator.deploy import DeploymentError, OnLine, deploy, program
from provision.cloud import Cloud
from provision.deployment import Deployment
from provision.entrances import close, enter, set_routes, wait_ready
from provision.topology import Host, Topology

BOOT_SECONDS = 300.0


def stand(
    cloud: Cloud, topology: Topology, deployment: Deployment, key: Path, on_progress: OnLine
) -> tuple[str, ...]:
    """Sets the routes that the topology asks for, and deploys its services; does nothing where it has no services.

    Args:
        key: private key that opens the guests.

    Returns:
        What had to be changed, in words.

    Raises:
        DeploymentError: a guest cannot be entered, or a service does not listen.
    """
    if not topology.services:
        return ()
    used = [host for host in topology.hosts if host.routes or topology.services_of(host)]
    hosts = enter(topology, deployment, cloud.lab.login, key, cloud=cloud)

    def prepare(host: Host) -> list[str]:
        if host.name not in hosts:
            raise DeploymentError(
                f"entering {host.name}", "neither it nor a host that lets SSH in has a floating IP",
                "give one of them a floating IP in the document", host=host.name,
            )  # fmt: skip
        try:
            wait_ready(cloud, deployment, hosts[host.name], BOOT_SECONDS)
            return set_routes(host, hosts[host.name])
        except HostError as error:
            raise DeploymentError(
                f"entering {host.name}", str(error), "see its routes and its security groups",
                host=host.name,
            ) from error  # fmt: skip

    try:
        with ThreadPoolExecutor(len(used), thread_name_prefix="enter") as pool:
            changes = [change for done in pool.map(prepare, used) for change in done]
        running = deploy(
            topology, hosts, lambda name: str(deployment.hosts[name].address), program(cloud.lab),
            on_progress=on_progress,
        )  # fmt: skip
    finally:
        close(hosts)
    services = [f"{name}: deployed to {each.service.host}" for name, each in running.items() if each.changed]
    return (*changes, *services)
