"""What is wrong in a namespace, read from objects as `kubectl get -o json` shows them: each fault by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from provision.kubernetes_findings import Fault, Snapshot, findings, required_labels, silent_nodes

Object = dict[str, Any]


def thing(kind: str, name: str, **more: Any) -> Object:
    labels = more.pop("labels", {})
    return {"kind": kind, "metadata": {"name": name, "labels": labels}, **more}


def node(
    name: str, pop: str = "", ready: str = "True", message: str = "kubelet is posting ready status"
) -> Object:
    conditions = [{"type": "Ready", "status": ready, "message": message}]
    return thing("Node", name, labels={"PoP": pop} if pop else {}, status={"conditions": conditions})


def lease(name: str, at: str) -> Object:
    return thing("Lease", name, spec={"renewTime": at, "leaseDurationSeconds": 40})


def pod(name: str, on: str = "worker1", *, app: str = "app", ready: bool = True, **status: Any) -> Object:
    conditions = status.pop("conditions", [{"type": "Ready", "status": str(ready)}])
    spec = {
        "nodeName": on,
        "nodeSelector": {"PoP": "space_1"},
        "containers": [{"name": "app", "image": "labproof/hello:1", "ports": [{"containerPort": 5000}]}],
    }
    status = {"phase": "Running" if ready else "Pending", "conditions": conditions, **status}
    return thing("Pod", name, labels={"app": app}, spec=spec, status=status)


def service(name: str = "svc", app: str = "app", target: int = 5000) -> Object:
    return thing(
        "Service", name, spec={"selector": {"app": app}, "ports": [{"port": 80, "targetPort": target}]}
    )


def endpoints(name: str = "svc", *addresses: str) -> Object:
    subset = {"addresses": [{"ip": each} for each in addresses], "ports": [{"port": 5000}]}
    return thing("Endpoints", name, subsets=[subset] if addresses else None)


HEALTHY = Snapshot(
    nodes=[node("master"), node("worker1", "space_1"), node("worker2", "space_2")],
    leases=[
        lease(name, f"2026-11-28T10:00:0{n}.5Z") for n, name in enumerate(("master", "worker1", "worker2"))
    ],
    system=[pod(f"kube-proxy-{n}", on) for n, on in enumerate(("master", "worker1", "worker2"))],
    pods=[pod("app-1"), pod("app-2")],
    services=[service()],
    endpoints=[endpoints("svc", "172.16.1.2", "172.16.1.3")],
)


def only(seen: Snapshot) -> tuple[Fault, str, str]:
    (found,) = findings(seen)
    return found.fault, found.about, found.text


def test_a_healthy_namespace_has_no_finding() -> None:
    assert findings(HEALTHY) == []
    assert findings(Snapshot()) == []


def test_a_kubelet_that_stopped_is_named_by_its_lease_before_the_node_is_not_ready() -> None:
    leases = [lease("master", "2026-11-28T10:00:30Z"), lease("worker1", "2026-11-28T10:00:05Z")]
    fault, about, text = only(replace(HEALTHY, leases=leases))
    assert (fault, about) == (Fault.KUBELET, "worker1")
    assert "25 s before the others'" in text


def test_a_node_that_is_unknown_is_a_silent_kubelet() -> None:
    nodes = [
        *HEALTHY.nodes[:2],
        node("worker2", "space_2", "Unknown", "Kubelet stopped posting node status."),
    ]
    fault, about, text = only(replace(HEALTHY, nodes=nodes))
    assert (fault, about) == (Fault.KUBELET, "worker2")
    assert "Kubelet stopped posting" in text


def test_a_missing_network_plugin_is_told_from_another_reason() -> None:
    said = "runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:cni plugin not initialized"
    nodes = [node("master", ready="False", message=said)]
    assert only(replace(HEALTHY, nodes=nodes, system=[]))[0] is Fault.NETWORK_PLUGIN
    nodes = [node("master", ready="False", message="container runtime is down")]
    assert only(replace(HEALTHY, nodes=nodes, system=[]))[0] is Fault.NODE


def test_kube_proxy_missing_on_one_node() -> None:
    fault, about, _ = only(replace(HEALTHY, system=HEALTHY.system[:2]))
    assert (fault, about) == (Fault.PROXY, "worker2")


def unscheduled(name: str) -> Object:
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 node(s) didn't match node selector.",
    }  # fmt: skip
    return pod(name, "", ready=False, conditions=[condition])


def test_a_missing_node_label_is_named_once_for_all_replicas() -> None:
    nodes = [node("master"), node("worker1"), node("worker2", "space_2")]
    seen = replace(HEALTHY, nodes=nodes, pods=[unscheduled("app-1"), unscheduled("app-2")], services=[])
    fault, _, text = only(seen)
    assert fault is Fault.LABEL
    assert "no node is labelled PoP=space_1" in text
    assert "worker1: none, worker2: space_2" in text


def test_a_pod_without_room_does_not_blame_the_labels() -> None:
    fault, _, text = only(replace(HEALTHY, pods=[unscheduled("app-1")], services=[]))
    assert fault is Fault.UNSCHEDULED
    assert "0/3 nodes" in text


def test_labels_are_required_by_affinity_too() -> None:
    term = {"matchExpressions": [{"key": "PoP", "operator": "In", "values": ["space_1", "space_2"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    assert required_labels({"affinity": affinity, "nodeSelector": {"disk": "ssd"}}) == {
        "disk": ["ssd"],
        "PoP": ["space_1", "space_2"],
    }


def test_a_missing_image_is_named_with_its_node() -> None:
    waiting = {
        "waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "labproof/hello:2"'}
    }
    broken = pod("app-1", ready=False, containerStatuses=[{"image": "labproof/hello:2", "state": waiting}])
    fault, _, text = only(replace(HEALTHY, pods=[broken], services=[]))
    assert fault is Fault.IMAGE
    assert "node worker1 has no image labproof/hello:2" in text


def test_a_container_that_ends_is_named() -> None:
    waiting = {
        "waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
    }
    broken = pod("app-1", ready=False, containerStatuses=[{"image": "x", "state": waiting}])
    assert only(replace(HEALTHY, pods=[broken], services=[]))[0] is Fault.POD


def test_a_pod_that_waits_says_its_last_warning() -> None:
    event = {
        "type": "Warning", "message": "Failed to create pod\n sandbox", "involvedObject": {"name": "app-1"},
    }  # fmt: skip
    seen = replace(HEALTHY, pods=[pod("app-1", ready=False)], services=[], events=[event])
    assert "Failed to create pod sandbox" in only(seen)[2]


def test_a_selector_that_selects_nothing() -> None:
    fault, about, text = only(replace(HEALTHY, services=[service(app="other")], endpoints=[endpoints()]))
    assert (fault, about) == (Fault.SELECTOR, "svc")
    assert "selects app=other, and no pod has that label (there are app=app)" in text


def test_a_service_whose_pods_are_not_ready() -> None:
    found = findings(replace(HEALTHY, pods=[pod("app-1", ready=False)], endpoints=[endpoints()]))
    assert [each.fault for each in found] == [Fault.POD, Fault.SELECTOR]
    assert "none of its 1 pods is Ready" in found[1].text


def test_a_wrong_target_port() -> None:
    fault, _, text = only(replace(HEALTHY, services=[service(target=5001)]))
    assert fault is Fault.TARGET_PORT
    assert "leads to port 5001 of its pods, which listen on 5000" in text


def test_pods_that_are_about_to_end_are_nobodys_fault() -> None:
    ending = pod("app-3", ready=False)
    ending["metadata"]["deletionTimestamp"] = "2026-11-28T10:00:00Z"
    assert findings(replace(HEALTHY, pods=[*HEALTHY.pods, ending])) == []


def test_leases_ten_seconds_apart_are_usual() -> None:
    assert silent_nodes([lease("a", "2026-11-28T10:00:00Z"), lease("b", "2026-11-28T10:00:10.9Z")]) == {}
    assert silent_nodes([]) == {}
