"""What runs left that ended without removing it themselves, beside what is on a cloud: NAT VMs, containers, namespaces."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from provision.containers import ContainerError, Engine, local
from provision.journal import Record
from provision.kubernetes_part import Kubernetes
from provision.lab import Lab
from provision.nat_lab import NatLab, nat_lab
from provision.nat_machines import NatMachines
from provision.natvm import NatVmError


def sweep_beside(lab: Lab, record: Record) -> list[str]:
    """Removes the NAT VMs, disks, containers, images and a cluster's namespaces of a run that its journal knows of.

    Only what carries the run's name or label goes. The journal stays as it is.

    Args:
        record: of a run that has ended.

    Returns:
        What is left, and why.
    """
    kinds = {entry.kind for entry in record.left}
    left = _machines(lab, record.run) if kinds & {"vm", "disk"} else []
    left += _containers(record.run) if "container" in kinds else []
    return left + (_namespaces(lab, record.run) if "namespace" in kinds else [])


def _machines(lab: Lab, run: str) -> list[str]:
    if lab.driver == "box":
        from provision.box import runtime

        if runtime.running() is None:
            return []  # they ended with it
    try:
        where: NatLab = nat_lab(lab, lambda _: None)
        # nobody enters them any more: no key
        return NatMachines(where.hypervisor, where.folder / "disks", run, where.folder, "").remove_all()
    except NatVmError as error:
        return [f"the run's VMs: {error}"]


def _containers(run: str) -> list[str]:
    try:
        client = local()
        try:
            return Engine(client, run).remove_all()
        finally:
            client.close()
    except ContainerError as error:
        return [f"the run's containers: {error}"]


def _namespaces(lab: Lab, run: str) -> list[str]:
    from provision.kubernetes_errors import KubernetesError

    part, kubeconfig, network = lab.kubernetes or Kubernetes(), None, None
    if lab.driver == "box":
        from provision.box import cluster

        standing = cluster.running()
        if standing is None:
            return []  # they ended with it
        kubeconfig, network = standing.kubeconfig, standing.holder.network("desktop")
    try:
        # a network is entered by a thread
        with ThreadPoolExecutor(1) as apart:
            return apart.submit(_on_cluster, part, run, kubeconfig or part.kubeconfig, network).result()
    except KubernetesError as error:
        return [f"the run's namespaces: {error}"]


def _on_cluster(part: Kubernetes, run: str, kubeconfig: Path | None, network: Path | None) -> list[str]:
    from provision.kubernetes import Workloads
    from provision.kubernetes_api import Api

    if network is not None:
        from provision.box.namespaces import enter_network

        enter_network(network)
    api = Api.connect(kubeconfig, part.context)
    try:
        return Workloads(api, part, run).remove_all()
    finally:
        api.close()
