"""The Kubernetes suite on three real nodes: healthy it proves all its claims, and each thing broken on purpose is named."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest

from provision import journal
from provision.box.cluster import Cluster
from provision.lab import Lab
from provision.network_plugin import ConfigurationAway
from provision.sweeper import Sweeper
from tests.kubernetes_world import standing, taken_for_the_box
from tests.probes_world import needs_root, until
from tests.suite_runs import SuiteRun, begin, run_suites, watcher_of

pytestmark = [pytest.mark.kubernetes, needs_root]
CLAIMS = {f"K8S-{n:02}" for n in range(1, 10)}
SERVICES, PLACEMENT, NODES = (
    f"suites/kubernetes/test_{name}.py" for name in ("services", "placement", "nodes")
)
Run = Callable[..., SuiteRun]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a standing cluster; the one of LABPROOF_WORLD where that is set."""
    if given := os.environ.get("LABPROOF_WORLD"):
        yield Path(given)
        return
    folder = tmp_path_factory.mktemp("kubernetes") / "world"
    with standing(folder):
        yield folder


@pytest.fixture(scope="module")
def cluster(world: Path) -> Iterator[Cluster]:
    from provision.box import cluster, runtime

    with pytest.MonkeyPatch.context() as patch:
        for name in ("running", "folder"):
            patch.setattr(runtime, name, getattr(runtime, name))
        taken_for_the_box(world)
        made = cluster.running()
        assert made is not None
        yield made


@pytest.fixture
def run(world: Path, cluster: Cluster, tmp_path: Path) -> Run:
    """``run(*words, broken="wrong-selector")``: the suite on the cluster, as its users run it; nothing of it is left."""

    def suites(*words: str, broken: str = "") -> SuiteRun:
        seen = run_suites(
            tmp_path, "-p", "tests.kubernetes_world", *words, "--lab", "box",
            LABPROOF_WORLD=str(world), LABPROOF_BREAK=broken,
        )  # fmt: skip
        assert seen.status in (0, 1), seen.text[-3000:]
        assert not seen.run["left_behind"], seen.run["left_behind"]
        left = kubectl(cluster, "get namespaces -l labproof -o name")
        assert not left, f"left on the cluster: {left}"
        return seen

    return suites


def kubectl(cluster: Cluster, words: str) -> str:
    with closing(cluster.nodes["master"].host()) as host:
        done = host.run(f"kubectl {words}", timeout=90)
    assert done.succeeded, done.stderr
    return done.stdout.strip()


def verdict(seen: SuiteRun, check: str) -> tuple[str, str]:
    """A check's verdict, and all that is told of it."""
    found = next(each for name, each in seen.checks.items() if name.endswith(f"::{check}"))
    return found["verdict"], "\n".join([found["reason"], *found["diagnosis"]])


def fails(seen: SuiteRun, check: str, *words: str) -> None:
    was, told = verdict(seen, check)
    assert was == "fail", f"{check}: {was}: {told}"
    missing = [word for word in words if word not in told]
    assert not missing, f"{missing} not in: {told}"


def passes(seen: SuiteRun, *checks: str) -> None:
    for check in checks:
        was, told = verdict(seen, check)
        assert was == "pass", f"{check}: {was}: {told}"


@contextmanager
def undone(undo: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    finally:
        undo()


# ---------- healthy
def test_every_claim_is_proven_and_nothing_is_left(run: Run) -> None:
    """All checks pass, none is skipped; the report names the network plug-in, and what the moves cost."""
    seen = run("suites/kubernetes")
    assert set(seen.verdicts.values()) == {"pass"}, seen.text[-4000:]
    claims = {id_ for id_, claim in seen.run["claims"].items() if claim["verdict"] == "pass"}
    assert claims == CLAIMS
    facts = seen.run["facts"]
    assert facts["kubernetes"]["network_plugin"] == "labproof-cni"
    assert facts["moves"]["rolling"]["lost"] == 0
    assert facts["moves"]["naive"]["lost"] > 0


def test_with_a_kubeconfig_alone_what_needs_no_node_is_proven(
    world: Path, cluster: Cluster, tmp_path: Path
) -> None:
    """On the desktop, without the box's ways into the nodes: the checks that need them are skipped, all others pass."""
    lab = tmp_path / "own.toml"
    lab.write_text(
        'driver = "cloud"\n[parts]\nopenstack = false\n[kubernetes]\nnetwork_plugin = "labproof-cni"\ndns = ""\n'
        '[kubernetes.images]\n"python:3.12-slim" = "labproof/python:1"\n"nginx:stable" = "labproof/client:1"\n'
    )
    plugin = ("-p", "tests.kubernetes_world")
    seen = run_suites(
        tmp_path / "reports", *plugin, "suites/kubernetes", "--lab", str(lab),
        LABPROOF_WORLD=str(world), LABPROOF_DESKTOP="1", KUBECONFIG=str(cluster.kubeconfig),
    )  # fmt: skip
    skipped = {name for name, was in seen.verdicts.items() if was == "skip"}
    assert set(seen.verdicts.values()) == {"pass", "skip"}, seen.text[-4000:]
    assert {name.partition("::")[0] for name in skipped} == {
        "test_nodes.py", "test_services.py", "test_without_network_plugin.py",
    }  # fmt: skip
    assert len(skipped) == 7
    assert all("own.toml" in seen.checks[name]["reason"] for name in skipped)
    assert not kubectl(cluster, "get namespaces -l labproof -o name")


def test_an_api_that_does_not_answer_leaves_all_unproven(
    world: Path, cluster: Cluster, tmp_path: Path
) -> None:
    lab, config = tmp_path / "own.toml", tmp_path / "config"
    lab.write_text('driver = "cloud"\n[parts]\nopenstack = false\n[kubernetes]\n')
    config.write_text(cluster.kubeconfig.read_text().replace(":6443", ":6444"))
    seen = run_suites(
        tmp_path / "reports", "-p", "tests.kubernetes_world", NODES, "--lab", str(lab),
        LABPROOF_WORLD=str(world), LABPROOF_DESKTOP="1", KUBECONFIG=str(config),
    )  # fmt: skip
    was, told = verdict(seen, "test_the_systems_pods_run")
    assert (was, "API server up?" in told) == ("unproven", True), told


def test_what_is_kept_is_used_again(world: Path, cluster: Cluster, tmp_path: Path) -> None:
    """With --keep the namespace stays and the next run uses its pods; one without removes it."""

    def again(*words: str) -> set[str]:
        seen = run_suites(
            tmp_path / "reports", "-p", "tests.kubernetes_world", PLACEMENT, "--lab", "box", "-k", "second_pop", *words,
            LABPROOF_WORLD=str(world), XDG_STATE_HOME=str(tmp_path / "state"),
        )  # fmt: skip
        assert set(seen.verdicts.values()) == {"pass"}, seen.text[-3000:]
        return set(kubectl(cluster, "get pods -A -l labproof -o jsonpath={.items[*].metadata.uid}").split())

    pods = again("--keep")
    assert len(pods) == 1
    assert again("--keep") == pods
    assert again() == set()
    assert not kubectl(cluster, "get namespaces -l labproof -o name")


def test_what_a_killed_run_left_is_swept(world: Path, cluster: Cluster, tmp_path: Path) -> None:
    process = begin(
        tmp_path / "reports", "-p", "tests.kubernetes_world", PLACEMENT, "--lab", "box",
        LABPROOF_WORLD=str(world), XDG_STATE_HOME=str(tmp_path / "state"),
    )  # fmt: skip
    watcher: psutil.Process | None = None
    try:
        until(lambda: bool(kubectl(cluster, "get pods -A -l labproof -o name")), "the run's pods", 120)
        # it would not know the world here: the sweeper is what is tried
        watcher = watcher_of(process.pid)
        assert watcher
    finally:
        if watcher:
            watcher.kill()
        process.kill()
        process.communicate()
    (left,) = journal.read_all(tmp_path / "state" / "labproof" / "journal")
    assert not left.alive
    swept = Sweeper(Lab.load("box"), lambda: pytest.fail("the cloud is asked"), settle=0).remove(left)
    assert any(each.startswith("namespace ") for each in swept.removed), swept
    assert not swept.left
    assert not kubectl(cluster, "get namespaces -l labproof -o name")


def test_the_plugin_can_be_taken_away_from_inside_the_nodes(cluster: Cluster) -> None:
    """As on a cluster whose nodes are entered over SSH: its configuration moved away and back."""
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(closing(each.host())) for name, each in cluster.nodes.items()}
        plugin = ConfigurationAway(hosts)
        with undone(plugin.cni_on):
            plugin.cni_off()
            kubectl(cluster, "wait --for=condition=Ready=False node --all --timeout=60s")
            assert "cni" in kubectl(cluster, "describe node worker1").lower()
        kubectl(cluster, "wait --for=condition=Ready node --all --timeout=60s")


# ---------- broken
def test_a_stopped_kubelet_is_named(run: Run, cluster: Cluster) -> None:
    cluster.stop_kubelet("worker2")
    with undone(lambda: cluster.start_kubelet("worker2")):
        seen = run(NODES, PLACEMENT)
    check = "test_every_node_is_ready_while_the_network_plugin_runs"
    fails(seen, check, "worker2", "kubelet silent: the kubelet of node worker2 says nothing")
    fails(
        seen, "test_pods_for_the_second_pop_land_there", "space-2", "the kubelet of node worker2 says nothing"
    )
    passes(
        seen, "test_pods_for_the_first_pop_land_there", "test_three_nodes_one_control_plane_and_two_workers"
    )


def test_a_missing_node_label_is_named(run: Run, cluster: Cluster) -> None:
    kubectl(cluster, "label node worker1 PoP-")
    with undone(lambda: kubectl(cluster, "label node worker1 PoP=space_1")):
        seen = run(PLACEMENT)
    fails(
        seen, "test_pods_for_the_first_pop_land_there",
        "node label missing: no node is labelled PoP=space_1", "worker1: none",
    )  # fmt: skip
    passes(
        seen, "test_pods_for_the_second_pop_land_there", "test_pods_for_a_pop_that_no_node_has_stay_pending"
    )


def test_a_wrong_selector_is_named(run: Run) -> None:
    seen = run(SERVICES, broken="wrong-selector")
    told = "service fastapi-app-clusterip-service selects app=fastapi, and no pod has that label"
    fails(seen, "test_the_service_has_three_endpoints", "the endpoints are none", told)
    fails(seen, "test_each_endpoint_answers_a_pod", told)
    passes(seen, "test_every_nodes_port_answers_from_outside")


def test_a_wrong_target_port_is_named(run: Run) -> None:
    seen = run(SERVICES, broken="wrong-target-port")
    told = "leads to port 5001 of its pods, which listen on 5000"
    fails(seen, "test_the_service_has_three_endpoints", f"service fastapi-app-clusterip-service {told}")
    fails(seen, "test_every_nodes_port_answers_from_outside", f"service fastapi-app-nodeport-service {told}")


def test_a_dead_kube_proxy_is_named_and_its_node_alone(run: Run, cluster: Cluster) -> None:
    cluster.stop_proxy("worker2")
    with undone(lambda: cluster.start_proxy("worker2")):
        seen = run(SERVICES, NODES)
    told = "kube-proxy not running: no kube-proxy runs on node worker2"
    fails(seen, "test_every_nodes_port_answers_from_outside", "1 of 3 not reached", "12.7.5.90", told)
    fails(seen, "test_the_systems_pods_run", "kube-proxy on worker2")
    passes(
        seen, "test_the_service_has_three_endpoints", "test_every_node_is_ready_while_the_network_plugin_runs"
    )


def test_a_secret_of_the_wrong_type_is_named(run: Run) -> None:
    seen = run("suites/kubernetes/test_secret.py", broken="secret-of-the-wrong-type")
    fails(
        seen, "test_the_secret_is_of_the_registrys_type",
        "secret of the wrong type: repo-secret is Opaque, not kubernetes.io/dockerconfigjson",
    )  # fmt: skip
    passes(seen, "test_another_namespaces_service_account_cannot_read_it")


def test_a_missing_image_is_named(run: Run) -> None:
    seen = run(PLACEMENT, SERVICES, broken="image-missing")
    for check in ("test_pods_for_the_first_pop_land_there", "test_the_service_has_three_endpoints"):
        fails(seen, check, "image missing: node worker1 has no image labproof/nowhere:1")
    passes(seen, "test_pods_for_the_second_pop_land_there")


def test_a_move_that_takes_the_old_pods_away_first_breaks_the_sla(run: Run) -> None:
    seen = run("suites/kubernetes/test_move.py", broken="moved-by-recreation")
    fails(
        seen,
        "test_a_rolling_move_keeps_the_sla",
        "the move breaks the SLA",
        "requests were lost",
        "the SLA allows 0",
    )
    passes(seen, "test_a_naive_move_breaks_the_sla")


def test_a_missing_network_plugin_is_named(run: Run, cluster: Cluster) -> None:
    cluster.cni_off()
    with undone(cluster.cni_on):
        seen = run(NODES)
    fails(
        seen, "test_every_node_is_ready_while_the_network_plugin_runs",
        "NotReady", "network plug-in missing: node worker1 is NotReady",
    )  # fmt: skip
