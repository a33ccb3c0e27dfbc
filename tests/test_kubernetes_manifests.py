"""The manifests, what a run makes of them, and the [kubernetes] part of lab files."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from provision import kubernetes, manifests
from provision.kubernetes import Workloads, rolled_out
from provision.kubernetes_api import Api
from provision.kubernetes_errors import Kind, KubernetesError
from provision.kubernetes_part import Kubernetes
from provision.lab import Lab, LabError
from provision.manifests import FOLDER, ManifestError, adapted, load

NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_becomes_the_runs_own(name: str) -> None:
    for thing in load(name):
        made = adapted(thing, "labproof-abcde-app", "abcde", Kubernetes(images={"nginx:stable": "ours:1"}))
        assert made["metadata"]["namespace"] == "labproof-abcde-app"
        assert made["metadata"]["labels"]["labproof"] == "abcde"
        assert "labproof" not in thing["metadata"].get("labels", {})
        for subject in made.get("subjects", []):
            assert subject["namespace"] == "labproof-abcde-app"
        if template := made.get("spec", {}).get("template"):
            assert template["metadata"]["labels"] == {"app": made["metadata"]["name"], "labproof": "abcde"}
            assert made["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()


def test_images_are_the_clusters() -> None:
    (pod,) = load("test-pod")
    made = adapted(pod, "n", "r", Kubernetes(images={"nginx:stable": "registry.example.org/nginx:1"}))
    assert made["spec"]["containers"][0]["image"] == "registry.example.org/nginx:1"
    assert adapted(pod, "n", "r", Kubernetes())["spec"]["containers"][0]["image"] == "nginx:stable"


def test_an_application_of_the_labs_own_takes_the_programs_place() -> None:
    deployment = load("fastapi-app")[0]
    spec = adapted(deployment, "n", "r", Kubernetes(application="lab/fastapi:2"))["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == "lab/fastapi:2"
    assert not {"command", "volumeMounts"} & set(container)
    assert "volumes" not in spec
    assert container["readinessProbe"]["httpGet"]["port"] == 5000


def test_the_program_goes_into_a_config_map() -> None:
    made = manifests.program()
    assert made["metadata"]["name"] == "hello"
    assert b'{"hello":"world"}' in made["data"]["hello.py"].encode()


def test_what_is_no_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "FOLDER", tmp_path)
    with pytest.raises(ManifestError, match="No such file"):
        load("nowhere")
    (tmp_path / "a.yaml").write_text("kind: Pod\nmetadata: {}\n")
    with pytest.raises(ManifestError, match=r"object 1 has no kind, or no metadata\.name"):
        load("a")
    (tmp_path / "a.yaml").write_text("kind: [\n")
    with pytest.raises(ManifestError, match=r"a\.yaml"):
        load("a")


def test_a_rollout_is_over_when_no_replica_is_of_an_older_template() -> None:
    status = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    deployment = {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status}
    assert rolled_out(deployment)
    assert not rolled_out({**deployment, "metadata": {"generation": 3}})
    assert not rolled_out({**deployment, "status": {**status, "replicas": 3}})
    assert not rolled_out({**deployment, "status": {}})


def test_namespaces_are_named_after_the_run() -> None:
    assert Workloads(None, Kubernetes(), "k3x9a").namespace("app") == "labproof-k3x9a-app"  # type: ignore[arg-type]


class Silent:
    """An API that does not answer for a while, and then has nothing."""

    def __init__(self, times: int, kind: Kind = "timeout") -> None:
        self.left, self.kind = times, kind

    def objects(self, kind: str, namespace: str = "", *, labels: str = "") -> list[object]:
        self.left -= 1
        if self.left >= 0:
            raise KubernetesError(self.kind, "GET", "no answer")
        return []


def test_a_busy_api_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "EVERY", 0.01)
    silent: Any = Silent(3)
    assert Workloads(silent, Kubernetes(), "r")._until_gone(Workloads(silent, Kubernetes(), "r").mine) == []
    assert silent.left < 0
    monkeypatch.setattr(kubernetes, "GONE_SECONDS", 0.05)
    silent = Silent(1000)
    (told,) = Workloads(silent, Kubernetes(), "r")._until_gone(Workloads(silent, Kubernetes(), "r").mine)
    assert "the API did not answer" in told


def test_what_is_refused_is_not_asked_again() -> None:
    silent: Any = Silent(1, "refused")
    with pytest.raises(KubernetesError, match="no answer"):
        Workloads(silent, Kubernetes(), "r")._until_gone(Workloads(silent, Kubernetes(), "r").mine)


# ---------- the API that is not there
def kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "config"
    file.write_text(
        f"apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: '{server}'}}}}]\n"
        "users: [{name: u, user: {token: example}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
    )
    return file


def test_a_cluster_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError) as caught:
        Api.connect(kubeconfig(tmp_path, "http://127.0.0.1:1"))
    assert caught.value.kind == "unreachable"
    assert str(caught.value).startswith("GET http://127.0.0.1:1/version: ")
    assert "refused" in str(caught.value)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(KubernetesError) as caught:
        Api.connect()
    assert caught.value.kind == "configuration"
    assert str(tmp_path / "nowhere") in str(caught.value)


def test_kubeconfig_is_read_when_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG set after the client was imported counts; a context that is not there is refused."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:1")))
    with pytest.raises(KubernetesError, match=r"127\.0\.0\.1:1/version"):
        Api.connect()
    with pytest.raises(KubernetesError) as caught:
        Api.connect(context="other")
    assert caught.value.kind == "configuration"


# ---------- lab files
def lab(folder: Path, text: str) -> Lab:
    file = folder / "ours.toml"
    file.write_text(text, encoding="utf-8")
    return Lab.load(file)


def test_the_box_names_its_cluster() -> None:
    part = Lab.load("box").kubernetes
    assert part is not None
    assert (part.network_plugin, part.enter_nodes, part.may_remove_network_plugin) == (
        "labproof-cni",
        True,
        True,
    )
    used = {
        container["image"]
        for name in NAMES
        for thing in load(name)
        for container in thing.get("spec", {}).get("template", thing).get("spec", {}).get("containers", [])
    }
    assert set(part.images) == used


def test_a_lab_without_the_part_has_no_cluster(tmp_path: Path) -> None:
    assert lab(tmp_path, '[openstack]\nimage = "i"\n').kubernetes is None


def test_a_full_part_is_read(tmp_path: Path) -> None:
    for name in ("config", "key"):
        (tmp_path / name).write_text("")
    part = lab(
        tmp_path,
        """
        [parts]
        openstack = false
        [kubernetes]
        kubeconfig = "config"
        context = "lab2"
        application = "registry.example.org/fastapi:1"
        ready_seconds = 300
        [kubernetes.nodes]
        enter = true
        login = "ubuntu"
        ssh_key = "key"
        [kubernetes.addresses]
        master = "192.168.37.47"
        [kubernetes.sla]
        max_lost = 2
        max_latency_ms = 250
        """,
    ).kubernetes
    assert part == Kubernetes(
        kubeconfig=tmp_path / "config", context="lab2", application="registry.example.org/fastapi:1",
        ready_seconds=300, enter_nodes=True, login="ubuntu", ssh_key=tmp_path / "key",
        addresses={"master": IPv4Address("192.168.37.47")}, max_lost=2, max_latency_ms=250,
    )  # fmt: skip


def test_a_wrong_part_is_refused_with_every_problem(tmp_path: Path) -> None:
    with pytest.raises(LabError) as caught:
        lab(
            tmp_path,
            """
            [parts]
            openstack = false
            [kubernetes]
            kubeconfig = "nowhere"
            cgroup_driver = "system"
            token = "x"
            [kubernetes.nodes]
            enter = true
            [kubernetes.addresses]
            master = "here"
            [kubernetes.sla]
            max_lost = -1
            latency = 3
            """,
        )
    assert [line.partition(": ")[2] for line in caught.value.problems] == [
        f"kubernetes.kubeconfig: there is no file {tmp_path / 'nowhere'}",
        "kubernetes.cgroup_driver: must be one of systemd, cgroupfs; did you mean 'systemd'?",
        "kubernetes.token: credentials do not belong in a lab file, but in clouds.yaml or the environment",
        "kubernetes.addresses: 'master' must be an IPv4 address in quotes, such as \"198.51.100.8\"",
        "kubernetes.sla.max_lost: must be a whole number from 0",
        "kubernetes.sla.latency: unknown key; did you mean 'max_latency_ms'?",
        "kubernetes.nodes.ssh_key: is missing: the key that opens the nodes",
    ]
