"""What runs left on a Kubernetes cluster that ended without removing it themselves: their namespaces."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from provision.kubernetes_part import Kubernetes
from provision.lab import Lab

if TYPE_CHECKING:
    from provision.kubernetes import Workloads

T = TypeVar("T")


def there(lab: Lab, run: str, only: frozenset[str]) -> list[tuple[str, str]]:
    """The namespaces of a run that there are, as ``("namespace", name)``; see :func:`remove`."""
    return [("namespace", name) for name in _on_cluster(lab, run, only, lambda mine: mine.mine()) or []]


def remove(lab: Lab, run: str, only: frozenset[str]) -> list[str]:
    """Removes namespaces with all that is in them; says what is left, and why.

    Args:
        run: only namespaces with the label of this run go,
        only: and of these the ones with these names.

    Raises:
        KubernetesError: the cluster cannot be reached, or refuses.
    """
    return _on_cluster(lab, run, only, lambda mine: mine.remove_all()) or []


def _on_cluster(lab: Lab, run: str, only: frozenset[str], work: Callable[[Workloads], T]) -> T | None:
    """What the work returns; None where the run's namespaces ended with the embedded lab's cluster."""
    part, kubeconfig, network = lab.kubernetes or Kubernetes(), None, None
    if lab.driver == "box":
        from provision.box import cluster

        standing = cluster.running()
        if standing is None:
            return None
        kubeconfig, network = standing.kubeconfig, standing.holder.network("desktop")
    # a network is entered by a thread
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(
            _connected, part, run, only, kubeconfig or part.kubeconfig, network, work
        ).result()  # fmt: skip


def _connected(
    part: Kubernetes,
    run: str,
    only: frozenset[str],
    kubeconfig: Path | None,
    network: Path | None,
    work: Callable[[Workloads], T],
) -> T:
    from provision.kubernetes import Workloads
    from provision.kubernetes_api import Api

    if network is not None:
        from provision.box.namespaces import enter_network

        enter_network(network)
    api = Api.connect(kubeconfig, part.context)
    try:
        return work(Workloads(api, part, run, only=only))
    finally:
        api.close()
