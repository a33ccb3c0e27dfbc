"""What is wrong in a namespace, by name: read from what the cluster's API says of it, and of the nodes below it.

Looks only. The order is that of causes: nodes, then pods, then services.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from provision.kubernetes_api import Api, Object, at_once

SYSTEM = "kube-system"
PROXY = "kube-proxy"
NOWHERE = "space-3"
"""The application for a PoP that no node has: its pods wait on purpose."""
LEASES = "kube-node-lease"
LATE_SECONDS = 8.0
IMAGE_REASONS = (
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
)
FAILING = ("CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError")
UNSCHEDULABLE = "Unschedulable"


class Fault(StrEnum):
    """What can be wrong, in the lab's words."""

    KUBELET = "kubelet silent"
    NETWORK_PLUGIN = "network plug-in missing"
    NODE = "node not ready"
    LABEL = "node label missing"
    UNSCHEDULED = "pod not scheduled"
    IMAGE = "image missing"
    POD = "pod does not run"
    SELECTOR = "service without endpoints"
    TARGET_PORT = "target port wrong"
    PROXY = "kube-proxy not running"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: one line. ``about`` names the node, pod or service."""

    fault: Fault
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.text}"


@dataclass(frozen=True)
class Snapshot:
    """What the API says of a namespace, and of the nodes, at one moment; objects as the API has them."""

    nodes: list[Object] = field(default_factory=list)
    leases: list[Object] = field(default_factory=list)
    system: list[Object] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    services: list[Object] = field(default_factory=list)
    endpoints: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)


def snapshot(api: Api, namespace: str) -> Snapshot:
    """Asks for all of it at once.

    Raises:
        KubernetesError: the API did not answer.
    """
    return Snapshot(
        *at_once(
            lambda: api.objects("Node"),
            lambda: api.objects("Lease", LEASES),
            lambda: api.objects("Pod", SYSTEM),
            *(
                lambda kind=kind: api.objects(kind, namespace)
                for kind in ("Pod", "Service", "Endpoints", "Event")
            ),
        )
    )


def findings(seen: Snapshot) -> list[Finding]:
    """All that is wrong, causes first; that the pods of :data:`NOWHERE` wait is not."""
    seen = replace(seen, pods=[pod for pod in seen.pods if labels_of(pod).get("app") != NOWHERE])
    return [*_of_nodes(seen), *_of_proxies(seen), *_of_pods(seen), *_of_services(seen)]


# ---------- reading objects
def name_of(thing: Object) -> str:
    return str(thing["metadata"]["name"])


def labels_of(thing: Object) -> Mapping[str, str]:
    return thing["metadata"].get("labels") or {}


def condition(thing: Object, kind: str) -> Object:
    """A condition of an object's status; empty where it has none of that kind."""
    conditions: list[Object] = thing.get("status", {}).get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), {})


def is_ready(thing: Object) -> bool:
    """Whether a node or a pod is Ready, and is to stay."""
    return condition(thing, "Ready").get("status") == "True" and not thing["metadata"].get(
        "deletionTimestamp"
    )


def selected(pods: Iterable[Object], selector: Mapping[str, str] | None) -> list[Object]:
    """The pods that a service's selector selects, those that are about to end left out."""
    wanted = (selector or {}).items()
    return [
        pod
        for pod in pods
        if wanted and wanted <= labels_of(pod).items() and not pod["metadata"].get("deletionTimestamp")
    ]


def addresses_of(endpoints: Object | None) -> list[str]:
    """The addresses, ``a.b.c.d:port``, that a service leads to now."""
    subsets = (endpoints or {}).get("subsets") or []
    return sorted(
        f"{address['ip']}:{port['port']}"
        for subset in subsets
        for address in subset.get("addresses") or []
        for port in subset.get("ports") or []
    )


def waiting(pod: Object) -> Iterator[tuple[str, str, str]]:
    """Containers of a pod that wait or have ended: image, reason, message."""
    for container in pod.get("status", {}).get("containerStatuses") or []:
        state = container.get("state", {})
        for how in ("waiting", "terminated"):
            if how in state:
                said = state[how].get("message") or ""
                yield container.get("image", ""), state[how].get("reason") or how, " ".join(said.split())


def renewed(lease: Object) -> float:
    """When a node's lease was renewed last, in seconds of Unix time."""
    text = lease.get("spec", {}).get("renewTime")
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else 0.0


def required_labels(spec: Object) -> dict[str, list[str]]:
    """The labels that a pod's node must have: ``nodeSelector``, and required affinity's first term; key -> values."""
    wanted = {key: [value] for key, value in (spec.get("nodeSelector") or {}).items()}
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get(
        "nodeSelectorTerms"
    ) or []
    for expression in (terms[0].get("matchExpressions") or []) if terms else []:
        if expression["operator"] == "In":
            wanted[expression["key"]] = list(expression["values"])
    return wanted


# ---------- what is wrong
def _of_nodes(seen: Snapshot) -> Iterator[Finding]:
    silent = silent_nodes(seen.leases)
    for node in seen.nodes:
        name, ready = name_of(node), condition(node, "Ready")
        said = " ".join((ready.get("message") or "").split())
        if ready.get("status") == "Unknown" or name in silent:
            since = (
                f", its last sign of life {silent[name]:.0f} s before the others'" if name in silent else ""
            )
            yield Finding(
                Fault.KUBELET,
                name,
                f"the kubelet of node {name} says nothing{since}" + (f" ({said})" if said else ""),
            )
        elif ready.get("status") != "True":
            network = any(word in said.lower() for word in ("cni", "network plugin", "networkplugin"))
            fault = Fault.NETWORK_PLUGIN if network else Fault.NODE
            yield Finding(fault, name, f"node {name} is NotReady: {said or 'it does not say why'}")


def silent_nodes(leases: Iterable[Object]) -> dict[str, float]:
    """Nodes that no longer renew their lease, and for how many seconds longer than the others.

    A kubelet renews it four times in the time that it lasts (``nodeLeaseDurationSeconds``); a busy one, or a busy API
    server, is some seconds late.
    """
    leases = list(leases)
    newest = max((renewed(lease) for lease in leases), default=0.0)
    late = {name_of(lease): newest - renewed(lease) for lease in leases}
    lasts = {
        name_of(lease): float(lease.get("spec", {}).get("leaseDurationSeconds") or 40) for lease in leases
    }
    return {
        name: seconds for name, seconds in late.items() if seconds > max(LATE_SECONDS, 0.4 * lasts[name] + 1)
    }


def _of_proxies(seen: Snapshot) -> Iterator[Finding]:
    """Nodes on which no kube-proxy runs, where it runs as pods."""
    proxies = [pod for pod in seen.system if name_of(pod).startswith(PROXY)]
    running = {pod["spec"].get("nodeName") for pod in proxies if is_ready(pod)}
    for node in seen.nodes if proxies else ():
        if (name := name_of(node)) not in running:
            yield Finding(
                Fault.PROXY,
                name,
                f"no kube-proxy runs on node {name}: it does not know the services' addresses and ports",
            )


def _of_pods(seen: Snapshot) -> Iterator[Finding]:
    told: set[str] = set()
    for pod in seen.pods:
        if pod["metadata"].get("deletionTimestamp") or is_ready(pod):
            continue
        found = _of_pod(pod, seen)
        # the replicas of one deployment fail alike
        if found and (key := found.text.replace(name_of(pod), "")) not in told:
            told.add(key)
            yield found


def _of_pod(pod: Object, seen: Snapshot) -> Finding | None:
    name, node = name_of(pod), pod["spec"].get("nodeName")
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("reason") == UNSCHEDULABLE:
        return _unscheduled(pod, seen.nodes, scheduled.get("message") or "")
    for image, reason, said in waiting(pod):
        if reason in IMAGE_REASONS:
            wanted = image or ", ".join(each["image"] for each in pod["spec"]["containers"])
            return Finding(
                Fault.IMAGE, name, f"node {node} has no image {wanted} for pod {name} ({reason}: {said})"
            )
        if reason in FAILING or reason == "Error":
            return Finding(
                Fault.POD, name, f"pod {name} on node {node}: {reason}" + (f": {said}" if said else "")
            )
    warnings = [
        " ".join(event["message"].split())
        for event in seen.events
        if event.get("type") == "Warning" and event.get("involvedObject", {}).get("name") == name
    ]
    phase = pod.get("status", {}).get("phase", "without a phase")
    where = f" on node {node}" if node else ", on no node yet"
    return Finding(
        Fault.POD,
        name,
        f"pod {name}{where} is {phase} and not Ready" + (f": {warnings[-1]}" if warnings else ""),
    )


def _unscheduled(pod: Object, nodes: list[Object], said: str) -> Finding:
    name = name_of(pod)
    for key, values in required_labels(pod["spec"]).items():
        if any(labels_of(node).get(key) in values for node in nodes):
            continue
        there = ", ".join(f"{name_of(node)}: {labels_of(node).get(key, 'none')}" for node in nodes)
        wanted = " or ".join(f"{key}={value}" for value in values)
        return Finding(
            Fault.LABEL,
            name,
            f"no node is labelled {wanted}, which pod {name} asks for ({key} of {there}); {said}",
        )
    return Finding(Fault.UNSCHEDULED, name, f"pod {name} has no node: {said}")


def _of_services(seen: Snapshot) -> Iterator[Finding]:
    endpoints = {name_of(each): each for each in seen.endpoints}
    for service in seen.services:
        name, spec = name_of(service), service["spec"]
        chosen = selected(seen.pods, spec.get("selector"))
        if not chosen:
            wanted = (
                ", ".join(f"{key}={value}" for key, value in (spec.get("selector") or {}).items())
                or "nothing"
            )
            there = sorted({f"app={labels_of(pod)['app']}" for pod in seen.pods if "app" in labels_of(pod)})
            yield Finding(
                Fault.SELECTOR,
                name,
                f"service {name} selects {wanted}, and no pod has that label (there are {', '.join(there) or 'no pods'})",
            )
            continue
        listening = {
            port["containerPort"]
            for pod in chosen
            for container in pod["spec"]["containers"]
            for port in container.get("ports") or []
        }
        for port in spec.get("ports") or []:
            target = port.get("targetPort", port["port"])
            if isinstance(target, int) and listening and target not in listening:
                ports = ", ".join(map(str, sorted(listening)))
                yield Finding(
                    Fault.TARGET_PORT,
                    name,
                    f"service {name} leads to port {target} of its pods, which listen on {ports}",
                )
        if not addresses_of(endpoints.get(name)):
            yield Finding(
                Fault.SELECTOR,
                name,
                f"service {name} has no endpoint: none of its {len(chosen)} pods is Ready",
            )
