"""The embedded lab's cluster for real: started, changed, broken, killed; and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from probes.host import Host
from provision.box import cluster, cluster_cgroups, cluster_images, cluster_nodes
from provision.box.cluster import Cluster, ClusterError
from provision.box.namespaces import Holder
from tests.cluster_world import world

pytestmark = pytest.mark.kubernetes
ROOT = Path(__file__).resolve().parent.parent
WORKLOAD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello}
spec:
  replicas: 3
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: labproof/python:1
        imagePullPolicy: Never
        command: [python3, -m, http.server, "5000"]
        readinessProbe: {httpGet: {path: /, port: 5000}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: hello}
spec: {type: NodePort, selector: {app: hello}, ports: [{port: 80, targetPort: 5000, nodePort: 30080}]}
"""


def processes_below(folder: Path) -> dict[int, str]:
    """Processes of a cluster whose folder is `folder`: on its mounts, or in its cgroups."""
    found = {}
    mine = cluster_cgroups.name_of(folder)
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            told = (entry / "mountinfo").read_text() + (entry / "cgroup").read_text()
            if entry.name.isdigit() and (str(folder) in told or mine in told):
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()[:90]
    return found


def groups_of(folder: Path) -> list[str]:
    name = cluster_cgroups.name_of(folder)
    return [where for where, below, _ in os.walk("/sys/fs/cgroup") if name in below]


def left(folder: Path) -> str:
    """What there still is of a cluster, in words."""
    found = [f"process {pid}: {what}" for pid, what in processes_below(folder).items()]
    found += [f"cgroup in {where}" for where in groups_of(folder)]
    found += ["mounts"] if str(folder) in Path("/proc/self/mountinfo").read_text() else []
    return "; ".join(found)


def soon(holds: Callable[[], bool], within: float = 60.0) -> bool:
    end = time.monotonic() + within
    while not (done := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    return done


@contextlib.contextmanager
def standing() -> Iterator[tuple[Holder, Cluster]]:
    with tempfile.TemporaryDirectory() as scratch, world() as holder:
        folder = Path(scratch) / "cluster"
        made = cluster.begin(holder, folder, print)
        try:
            yield holder, made
        finally:
            cluster.clear(holder, folder)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Holder, Cluster]]:
    with standing() as both:
        yield both


@pytest.fixture
def one(pair: tuple[Holder, Cluster]) -> Cluster:
    return pair[1]


@pytest.fixture
def master(one: Cluster) -> Iterator[Host]:
    host = one.nodes["master"].host()
    yield host
    host.close()


@pytest.fixture
def desktop(pair: tuple[Holder, Cluster]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*pair[0].beside("desktop"), *argv], capture_output=True, text=True, timeout=30)

    return run


def asked(host: Host, *words: str) -> Any:
    """What `kubectl get` has, as a document."""
    done = host.run(f"kubectl get {' '.join(words)} -o json", timeout=30)
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def ready(host: Host, node: str) -> str:
    conditions = asked(host, "node", node)["status"]["conditions"]
    return next(each["status"] for each in conditions if each["type"] == "Ready")


def test_three_nodes_have_the_labs_addresses_and_roles(one: Cluster, master: Host) -> None:
    found = {node["metadata"]["name"]: node for node in asked(master, "nodes")["items"]}
    addresses = {
        name: next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
        for name, node in found.items()
    }
    assert addresses == {"master": "12.7.5.47", "worker1": "12.7.5.118", "worker2": "12.7.5.90"}
    role = "node-role.kubernetes.io/control-plane"
    assert [name for name, node in found.items() if role in node["metadata"]["labels"]] == ["master"]
    assert {name: node["metadata"]["labels"].get("PoP") for name, node in found.items()} == {
        "master": None,
        "worker1": "space_1",
        "worker2": "space_2",
    }
    assert {ready(master, name) for name in found} == {"True"}
    assert stat.S_IMODE(one.kubeconfig.stat().st_mode) == 0o600


def test_system_pods_run_on_their_nodes(master: Host) -> None:
    # the API hears of a static pod from its kubelet, which may be after the nodes are Ready
    waited = master.run(
        "kubectl wait --for=condition=Ready pods --all -n kube-system --timeout=60s", timeout=70
    )
    assert waited.status == 0, waited.stderr
    pods = asked(master, "pods", "-n", "kube-system")["items"]
    assert {pod["status"]["phase"] for pod in pods} == {"Running"}
    control_plane = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    names = [pod["metadata"]["name"] for pod in pods]
    assert {f"{part}-master" for part in control_plane} <= set(names)
    for addon in ("kube-proxy", cluster.PLUGIN):
        on = [pod["spec"]["nodeName"] for pod in pods if pod["metadata"]["name"].startswith(f"{addon}-")]
        assert sorted(on) == sorted(cluster.ADDRESSES)
    assert {each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"]} == {0}


def test_kubelet_and_runtime_agree_on_the_cgroup_driver(one: Cluster) -> None:
    for node in one.nodes.values():
        with contextlib.closing(node.host()) as host:
            assert "cgroupDriver: cgroupfs" in host.run("cat /etc/kubernetes/kubelet.yaml").stdout
            assert "SystemdCgroup = false" in host.run("cat /etc/containerd/config.toml").stdout
            assert host.run("hostname").stdout.strip() == node.name
            assert (
                host.run("sysctl -n net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables").stdout
                == "1\n1\n"
            )


def test_a_service_answers_on_every_node_and_only_its_port_from_outside(
    one: Cluster, master: Host, desktop: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    try:
        done = master.run(f"kubectl apply -f - <<'EOF'\n{WORKLOAD}\nEOF", timeout=30)
        assert done.status == 0, done.stderr
        waited = master.run(
            "kubectl wait --for=condition=Available deployment/hello --timeout=60s", timeout=70
        )
        assert waited.status == 0, waited.stderr + master.run("kubectl describe pods").stdout
        service = asked(master, "service", "hello")["spec"]["clusterIP"]
        for node in one.nodes.values():
            assert soon(
                lambda node=node: desktop("curl", "-sfm2", f"http://{node.address}:30080/").returncode == 0
            )
            with contextlib.closing(node.host()) as host:
                assert host.run(f"curl -sfm5 -o /dev/null http://{service}/").status == 0
        pod = asked(master, "pods", "-l", "app=hello")["items"][0]["status"]["podIP"]
        for address in (service, f"{pod}:5000"):
            assert desktop("curl", "-sm2", f"http://{address}/").returncode in (7, 28)
        for act in (one.stop_proxy, one.start_proxy):
            act("worker1")
            answers = {
                node.name: soon(
                    lambda node=node: (
                        desktop("curl", "-sfm2", f"http://{node.address}:30080/").returncode == 0
                    ),
                    3 if act == one.stop_proxy and node.name == "worker1" else 30,
                )
                for node in one.nodes.values()
            }
            assert answers == {"master": True, "worker1": act == one.start_proxy, "worker2": True}
    finally:
        master.run(f"kubectl delete --wait=false -f - <<'EOF'\n{WORKLOAD}\nEOF", timeout=30)


def test_pods_that_are_deleted_are_gone_when_they_have_ended(master: Host) -> None:
    """Not when their sandboxes are collected, up to a minute later (kubernetes/kubernetes#97288)."""
    many = WORKLOAD.replace("replicas: 3", "replicas: 12")
    for _ in range(2):
        done = master.run(f"kubectl apply -f - <<'EOF'\n{many}\nEOF", timeout=30)
        assert done.status == 0, done.stderr
        waited = master.run(
            "kubectl wait --for=condition=Available deployment/hello --timeout=90s", timeout=100
        )
        assert waited.status == 0, waited.stderr
        assert master.run("kubectl delete deployment/hello service/hello", timeout=30).status == 0
        assert soon(lambda: not asked(master, "pods", "-l", "app=hello")["items"], 40)


def test_without_the_plugin_no_node_is_ready(one: Cluster, master: Host) -> None:
    one.cni_off()
    try:
        assert {ready(master, name) for name in one.nodes} == {"False"}
        told = asked(master, "node", "worker1")["status"]["conditions"]
        assert "cni plugin not initialized" in next(
            each["message"] for each in told if each["type"] == "Ready"
        )
    finally:
        one.cni_on()
    assert {ready(master, name) for name in one.nodes} == {"True"}
    one.cni_on()


def test_a_node_whose_kubelet_is_stopped_is_not_ready(one: Cluster, master: Host) -> None:
    one.stop_kubelet("worker2")
    try:
        assert soon(lambda: ready(master, "worker2") == "Unknown", 40)
        assert ready(master, "worker1") == "True"
    finally:
        one.start_kubelet("worker2")
    assert ready(master, "worker2") == "True"


def test_a_service_that_ends_is_started_again(one: Cluster, master: Host) -> None:
    with contextlib.closing(one.nodes["worker1"].host()) as worker:
        before = worker.run("pgrep -x kubelet").stdout.strip()
        assert before
        worker.run(f"kill -9 {before}")
        assert soon(lambda: worker.run("pgrep -x kubelet").stdout.strip() not in ("", before), 10)


def test_an_image_is_loaded_on_every_node(one: Cluster, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/bin/sh\n")
    image = cluster_images.Image("labproof/loaded:7", ["/program"], {"program": program}, base=False)
    cluster_images.archive([image], tmp_path / "image.tar", print)
    assert one.load_image(tmp_path / "image.tar") == ("docker.io/labproof/loaded:7",)
    for node in one.nodes.values():
        with contextlib.closing(node.host()) as host:
            assert "labproof/loaded:7" in host.run("ctr -n k8s.io images ls -q").stdout
    (tmp_path / "no.tar").write_text("no archive")
    with pytest.raises(ClusterError, match=r"did not take no\.tar"):
        one.load_image(tmp_path / "no.tar")


def test_a_node_that_is_not_there_is_refused(one: Cluster) -> None:
    with pytest.raises(ClusterError, match="there is no node 'worker3'; there are: master, worker1, worker2"):
        one.stop_kubelet("worker3")


def test_its_end_leaves_nothing_in_a_box_that_stands_on(pair: tuple[Holder, Cluster]) -> None:
    """The last of those that use the module's cluster."""
    holder, one = pair
    assert processes_below(one.data)
    assert groups_of(one.data)
    assert cluster.clear(holder, one.data)
    assert left(one.data) == ""
    assert not one.data.exists()
    networks = subprocess.run([*holder.enter(), "ip", "netns"], capture_output=True, text=True).stdout
    assert {line.split()[0] for line in networks.splitlines()} == {
        "desktop",
        "neighbour",
        "outside",
        "upstream",
    }
    links = subprocess.run([*holder.enter("upstream"), "ip", "-br", "link"], capture_output=True, text=True)
    assert cluster_nodes.LINK not in links.stdout
    assert not cluster.clear(holder, one.data)


def test_everything_ends_with_the_box(tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    with world() as holder:
        made = cluster.begin(holder, folder, print)
        assert len(made.nodes) == 3
        os.kill(holder.init, signal.SIGKILL)
        assert soon(lambda: not left(folder), 15), left(folder)


@pytest.mark.parametrize("seconds", [0.4, 0.9, 4.0])
def test_what_a_killed_starter_began_is_ended(tmp_path: Path, seconds: float) -> None:
    folder = tmp_path / "cluster"
    begin = (
        "import sys; from pathlib import Path; from provision.box import cluster; "
        "from provision.box.namespaces import Holder; "
        "cluster.begin(Holder(int(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]), print)"
    )
    with world() as holder:
        argv = [sys.executable, "-c", begin, str(holder.outer), str(holder.init), str(folder)]
        starting = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        assert soon(folder.exists, 20)
        time.sleep(seconds)
        os.killpg(starting.pid, signal.SIGKILL)
        starting.wait()
        cluster.clear(holder, folder)
        assert soon(lambda: not left(folder), 5), left(folder)
        networks = subprocess.run([*holder.enter(), "ip", "netns"], capture_output=True, text=True).stdout
        assert "master" not in networks


def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cluster"
    render = cluster.cluster_start.render

    def broken(name: str, put_in: dict[str, str]) -> str:
        text = render(name, put_in)
        return text.replace("--etcd-servers", "--no-such-option") if "apiserver" in name else text

    monkeypatch.setattr(cluster.cluster_start, "render", broken)
    monkeypatch.setattr(cluster.cluster_start, "API_LIMIT", 15.0)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with world() as holder:
        with pytest.raises(ClusterError, match=r"its API answers: not within 15 s.*logs kept in"):
            cluster.begin(holder, folder, print)
        assert left(folder) == ""
    logs = "".join(path.read_text() for path in cluster.kept_logs().rglob("*.log") if path.is_file())
    assert "no-such-option" in logs


def test_from_the_command_line_it_is_started_in_the_lab_and_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that needs the whole embedded lab."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def said(*words: str, status: int = 0) -> str:
        argv = [sys.executable, "-m", "provision", *words]
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=900)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    assert "the box is down: `python -m provision lab up` starts it" in said("cluster", "up", status=1)
    said("lab", "up")
    try:
        assert "the cluster is down" in said("cluster", "status", status=1)
        assert "the cluster is up after" in said("cluster", "up")
        assert "the cluster is up already" in said("cluster", "up")
        assert "worker2            12.7.5.90" in said("cluster", "status")
        assert said("lab", "shell", "--on", "worker1", "--", "hostname").strip() == "worker1"
        folder = cluster.folder()
        version = said("lab", "shell", "--", *asking(folder, "/version"))
        assert json.loads(version)["gitVersion"] == "v1.20.2"
        assert said("cluster", "down") == "the cluster is down\n"
        assert left(folder) == ""
        assert said("cluster", "down") == "the cluster was not up\n"
        said("cluster", "up")
        assert processes_below(folder)
    finally:
        said("lab", "down")
    assert left(folder) == ""
    assert not folder.exists()


def asking(folder: Path, path: str) -> list[str]:
    """curl of the API, from wherever it is run, as the administrator."""
    keys = ("--cacert", "ca.crt"), ("--cert", "admin.crt"), ("--key", "admin.key")
    options = [part for option, name in keys for part in (option, str(folder / name))]
    return ["curl", "-sfm5", *options, f"https://{cluster.ADDRESSES['master']}:6443{path}"]
