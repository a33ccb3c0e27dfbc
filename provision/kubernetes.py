"""A run's workloads on a cluster: namespaces of its own, everything labelled, waits that say what they wait for.

>>> workloads = Workloads(Api.connect(), part, "k3x9a", journal)
>>> workloads.make_namespace("app")
>>> workloads.apply("fastapi-app", "app")
>>> workloads.available("app", "fastapi-app")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from provision import manifests
from provision.journal import Journal
from provision.kubernetes_api import Api, Object, at_once
from provision.kubernetes_errors import KubernetesError
from provision.kubernetes_findings import (
    IMAGE_REASONS,
    LEASES,
    UNSCHEDULABLE,
    Fault,
    Finding,
    condition,
    findings,
    is_ready,
    name_of,
    renewed,
    snapshot,
    waiting,
)
from provision.kubernetes_part import Kubernetes
from provision.waiters import WaitTimeout, until

T = TypeVar("T")
GONE_SECONDS = 120.0
STUCK_SECONDS = 8.0
"""How long all pods that are not Ready must have waited for the same thing that does not come by itself."""
HEARTBEAT_SECONDS = 30.0
EVERY = 0.3


class NotAvailable(Exception):  # noqa: N818 - the field's word
    """Workloads did not come to run: what was waited for, and what the cluster says of it.

    Attributes:
        findings: what is wrong, causes first.
    """

    def __init__(self, text: str, found: Iterable[Finding]) -> None:
        self.findings = tuple(found)
        super().__init__("\n".join([text, *map(str, self.findings)]))


@dataclass
class Workloads:
    """What a run makes on a cluster.

    Attributes:
        part: the lab file's, which says what images there are and how long they may take.
        journal: knows the namespaces before they are made; None writes none.
        only: names of the run's namespaces that it is about; None is about all.
    """

    api: Api
    part: Kubernetes
    run: str
    journal: Journal | None = None
    only: frozenset[str] | None = None
    _made: set[str] = field(default_factory=set)

    def namespace(self, what: str) -> str:
        """The name of one of the run's namespaces."""
        return f"labproof-{self.run}-{what}"

    def make_namespace(self, what: str) -> str:
        """Makes one of the run's namespaces, or uses it where it stands; its name.

        Raises:
            KubernetesError: it was refused, or its service account did not come (``timeout``).
        """
        name = self.namespace(what)
        if self.journal:
            self.journal.intend("namespace", name)
        thing = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        thing["metadata"] = {"name": name, "labels": {manifests.LABEL: self.run}}
        made = self.api.apply(thing)
        self._made.add(name)
        if self.journal:
            self.journal.made("namespace", name, made["metadata"]["uid"])
        # until it is there, pods are refused
        self._wait(
            lambda: self.api.get("ServiceAccount", "default", name),
            30,
            f"the default service account of namespace {name}",
        )
        return name

    def apply(self, manifest: str, what: str) -> list[Object]:
        """Makes the objects of a manifest of ``labs/kubernetes`` in a namespace, or changes them to it.

        Raises:
            KubernetesError: one was refused.
            ManifestError: the file is no manifest.
        """
        return [self.apply_object(thing, what) for thing in manifests.load(manifest)]

    def apply_object(self, thing: Object, what: str) -> Object:
        """Makes one object in a namespace, labelled, or changes it."""
        return self.api.apply(manifests.adapted(thing, self.namespace(what), self.run, self.part))

    # ---------- waiting
    def available(self, what: str, deployment: str) -> Object:
        """Waits until a deployment has all its replicas, of its newest template and no other; the deployment.

        Raises:
            NotAvailable: it has not within the lab file's ``ready_seconds``, or waits for what does not come.
        """
        namespace = self.namespace(what)
        stuck = _Stuck()

        def look() -> Object | None:
            found, pods = at_once(
                lambda: self.api.get("Deployment", deployment, namespace),
                lambda: self.api.objects("Pod", namespace, labels=f"app={deployment}"),
            )
            if found is not None and rolled_out(found) and all(map(is_ready, pods)):
                return dict(found)
            if stuck.with_(pods):
                raise self._not_available(f"deployment {deployment} does not become available", namespace)
            return None

        within = float(self.part.ready_seconds)
        return self._ready(
            look, within, f"all replicas of deployment {deployment} to be available", namespace
        )

    def pod_ready(self, what: str, pod: str) -> Object:
        """Waits until a pod is Ready; the pod.

        Raises:
            NotAvailable: as :meth:`available`.
        """
        namespace = self.namespace(what)
        stuck = _Stuck()

        def look() -> Object | None:
            found = self.api.get("Pod", pod, namespace)
            if found is not None and is_ready(found):
                return found
            if stuck.with_([found] if found else []):
                raise self._not_available(f"pod {pod} does not become Ready", namespace)
            return None

        return self._ready(look, float(self.part.ready_seconds), f"pod {pod} to be Ready", namespace)

    def unscheduled(self, what: str, app: str, within: float = 30.0) -> list[Object]:
        """Waits until the scheduler has found no node for the pods of an app; the pods, or those that found one."""
        namespace = self.namespace(what)

        def look() -> list[Object] | None:
            pods = self.api.objects("Pod", namespace, labels=f"app={app}")
            tried = [pod for pod in pods if condition(pod, "PodScheduled")]
            return tried if pods and len(tried) == len(pods) else None

        found: list[Object] = self._wait(look, within, f"the scheduler to have tried the pods of {app}")
        return found

    def nodes(self, *, ready: bool, within: float, what: str = "nodes") -> list[Object]:
        """Waits until all nodes are Ready, or none is; the nodes as they are then, or when the time is over."""

        def look() -> list[Object] | None:
            nodes = self.api.objects("Node")
            return nodes if nodes and all(is_ready(node) is ready for node in nodes) else None

        try:
            return until(patient(look), within, what, EVERY)
        except WaitTimeout:
            return self.api.objects("Node")

    def heartbeats(self, within: float = HEARTBEAT_SECONDS) -> dict[str, float | None]:
        """Waits for a sign of life of every node's kubelet: seconds until it renewed its lease, None if it did not.

        The conditions of a node whose kubelet has ended stay as they were for a while.
        """
        began = time.monotonic()
        first = {name_of(lease): renewed(lease) for lease in self.api.objects("Lease", LEASES)}
        seen: dict[str, float | None] = {name_of(node): None for node in self.api.objects("Node")}

        def look() -> bool | None:
            for lease in self.api.objects("Lease", LEASES):
                name = name_of(lease)
                if name in seen and seen[name] is None and renewed(lease) > first.get(name, 0.0):
                    seen[name] = time.monotonic() - began
            return True if all(value is not None for value in seen.values()) else None

        try:
            until(patient(look), within, "the nodes' leases", 1.0)
        except WaitTimeout:
            return seen
        return seen

    def _ready(self, look: Callable[[], Object | None], within: float, what: str, namespace: str) -> Object:
        try:
            return until(patient(look), within, what, EVERY)
        except WaitTimeout as late:
            raise self._not_available(str(late), namespace) from late

    def _not_available(self, text: str, namespace: str) -> NotAvailable:
        seen = snapshot(self.api, namespace)
        of_services = (Fault.SELECTOR, Fault.TARGET_PORT)
        return NotAvailable(text, [each for each in findings(seen) if each.fault not in of_services])

    def _wait(self, look: Callable[[], Any], within: float, what: str) -> Any:
        try:
            return until(patient(look), within, what, EVERY)
        except WaitTimeout as late:
            raise KubernetesError("timeout", f"waiting for {what}", str(late)) from late

    # ---------- moving
    def roll(self, what: str, deployment: str, labels: Mapping[str, str]) -> Object:
        """Moves a deployment to nodes with other labels as a rolling update; returns when it has moved.

        Raises:
            NotAvailable: as :meth:`available`.
        """
        change = {"spec": {"template": {"spec": {"nodeSelector": dict(labels)}}}}
        self.api.patch("Deployment", deployment, self.namespace(what), change)
        return self.available(what, deployment)

    def replace(self, what: str, deployment: str, labels: Mapping[str, str]) -> Object:
        """Moves a deployment by removing it and, when it is gone, making it anew elsewhere; returns when it is available."""
        thing = self.api.get("Deployment", deployment, self.namespace(what))
        if thing is None:
            raise KubernetesError("missing", f"moving deployment {deployment}", "there is none")
        if left := self.remove_deployment(what, deployment):
            raise KubernetesError(
                "timeout", f"moving deployment {deployment}", f"left of it: {', '.join(left)}"
            )
        fresh = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": deployment, "namespace": self.namespace(what), "labels": thing["metadata"].get("labels", {}),
            },
            "spec": thing["spec"],
        }  # fmt: skip
        fresh["spec"]["template"]["spec"]["nodeSelector"] = dict(labels)
        self.api.apply(fresh)
        return self.available(what, deployment)

    # ---------- removing
    def remove_deployment(self, what: str, deployment: str) -> list[str]:
        """Removes a deployment, and waits until nothing of it is left; says what is left after that time."""
        namespace = self.namespace(what)
        self.api.delete("Deployment", deployment, namespace)
        return self._until_gone(lambda: self.left_of(what, deployment))

    def left_of(self, what: str, deployment: str) -> list[str]:
        """What there is of a deployment: itself, replica sets, pods."""
        namespace = self.namespace(what)
        lists = at_once(
            *(
                lambda kind=kind: self.api.objects(kind, namespace, labels=f"app={deployment}")
                for kind in ("ReplicaSet", "Pod")
            ),
            lambda: [found] if (found := self.api.get("Deployment", deployment, namespace)) else [],
        )
        return [f"{thing['kind']} {name_of(thing)}" for things in lists for thing in things]

    def mine(self) -> list[str]:
        """The namespaces with the run's label that there are."""
        labelled = self.api.objects("Namespace", labels=f"{manifests.LABEL}={self.run}")
        return [name for name in map(name_of, labelled) if self.only is None or name in self.only]

    def remove_all(self) -> list[str]:
        """Removes the run's namespaces with all that is in them; says what is left, and why it is."""
        names = self.mine()
        # what goes with a namespace has its whole grace period; pods that nobody looks at any more need none
        at_once(*(lambda name=name: self._end_pods(name) for name in names))
        at_once(*(lambda name=name: self.api.delete("Namespace", name) for name in names))
        left = self._until_gone(self.mine)
        if self.journal:
            for name in {*names, *self._made} - set(left):
                self.journal.removed("namespace", "", name)
        return [self._why_left(name) if name in names else name for name in left]

    def _end_pods(self, namespace: str) -> None:
        """Ends the pods of a namespace; those of a node that is not Ready, whose kubelet ends them when it is back, in
        the API alone.
        """
        lost = {name_of(node) for node in self.api.objects("Node") if not is_ready(node)}
        for kind in ("Deployment", "ReplicaSet"):  # else they would put new ones in their place
            for owner in self.api.objects(kind, namespace):
                self.api.delete(kind, name_of(owner), namespace)
        for pod in self.api.objects("Pod", namespace):
            grace = 0 if pod["spec"].get("nodeName") in lost else 1
            self.api.delete("Pod", name_of(pod), namespace, grace=grace)

    def _why_left(self, namespace: str) -> str:
        thing = self.api.get("Namespace", namespace) or {}
        said = [
            each["message"]
            for each in thing.get("status", {}).get("conditions") or []
            if each.get("status") == "True" and each.get("message")
        ]
        return f"namespace {namespace} is still there after {GONE_SECONDS:.0f} s" + "".join(
            f"; {each}" for each in said
        )

    def _until_gone(self, look: Callable[[], list[str]]) -> list[str]:
        """Waits until a look finds nothing; what it finds when the time is over."""
        last: list[str] = []

        def gone() -> bool | None:
            last[:] = ["what there is cannot be told: the API did not answer when it was asked last"]
            last[:] = look()
            return None if last else True

        try:
            until(patient(gone), GONE_SECONDS, "what was removed to be gone", EVERY)
        except WaitTimeout:
            return last
        return []


def patient(look: Callable[[], T | None]) -> Callable[[], T | None]:
    """A look that sees nothing while the API does not answer: a busy one is asked again."""

    def again() -> T | None:
        try:
            return look()
        except KubernetesError as error:
            if error.kind not in ("timeout", "unreachable"):
                raise
            return None

    return again


def rolled_out(deployment: Object) -> bool:
    """Whether all replicas of a deployment are of its newest template and available, and there are no others."""
    wanted, status = deployment["spec"].get("replicas", 1), deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = (status.get(key) or 0 for key in ("replicas", "updatedReplicas", "availableReplicas"))
    return bool(seen and all(count == wanted for count in counts))


class _Stuck:
    """Tells when the pods that are not Ready have waited long enough for what does not come by itself."""

    def __init__(self) -> None:
        self._since: tuple[frozenset[str], float] = frozenset(), time.monotonic()

    def with_(self, pods: Iterable[Object]) -> bool:
        hopeless = [reason for pod in pods if not is_ready(pod) for reason in [_hopeless(pod)]]
        now = frozenset(hopeless) if hopeless and all(hopeless) else frozenset()
        if now != self._since[0]:
            self._since = now, time.monotonic()
        return bool(now) and time.monotonic() - self._since[1] > STUCK_SECONDS


def _hopeless(pod: Object) -> str:
    if condition(pod, "PodScheduled").get("reason") == UNSCHEDULABLE:
        return UNSCHEDULABLE
    return "image" if any(reason in IMAGE_REASONS for _, reason, _ in waiting(pod)) else ""
