"""Wrong settings and clouds that fail, on the real cloud: one clear line, unproven, and nothing is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from provision.box import runtime
from provision.cloud import Cloud
from provision.holdings import holdings
from provision.lab import Lab
from tests.suite_runs import SuiteRun, begin, ended, run_suites

pytestmark = pytest.mark.box

CHECK = "test_the_floating_ip_answers_the_desktop"
ONE = ("suites/openstack/test_one_vm.py", "-k", CHECK)
GOOD = """
driver = "cloud"
[openstack]
cloud = "labproof-box"
public_network = "public"
image = "debian"
login = "user"
"""
# what is wrong -> the lab file, how clouds.yaml is changed, and what must be said of it
WRONG = {
    "password": (GOOD, ("      password: ", "      password: x"), "not accepted (HTTP 401); check user, password"),
    "unknown cloud": (
        GOOD.replace("labproof-box", "labproof-bx"), None,
        "there is no such entry, did you mean 'labproof-box'?",
    ),
    "image": (
        GOOD.replace('"debian"', '"debain"'), None,
        "looking for the image 'debain': there is none, did you mean 'debian'?",
    ),
    "flavor": (
        GOOD + '[openstack.flavors]\nnano = "nanno"\n', None,
        "looking for the flavor 'nanno': there is none, did you mean 'nano'?",
    ),
    "external network": (
        GOOD.replace('"public"', '"publik"'), None,
        "looking for the external network 'publik': there is none, did you mean 'public'?",
    ),
    "quota": (
        GOOD + '[openstack.flavors]\nnano = "huge"\n', None,
        "checking the project's quota before anything is made: cores: ",
    ),
    "nobody there": (GOOD, (":5000/", ":5001/"), "no answer from http://192.168.37.5:5001/v3"),
}  # fmt: skip


@pytest.fixture(scope="module")
def box(lab: object) -> runtime.Box:
    box = runtime.running()
    assert box is not None
    return box


@pytest.fixture(scope="module")
def admin(lab: object, box: runtime.Box) -> Iterator[Cloud]:
    """The cloud as its administrator."""
    connected = Cloud.connect(
        replace(lab, cloud="labproof-box-admin"), box.clouds_yaml.with_name("clouds-admin.yaml")
    )  # type: ignore[type-var]
    yield connected
    connected.close()


@pytest.fixture(scope="module")
def wrong(box: runtime.Box, tmp_path_factory: pytest.TempPathFactory) -> dict[str, SuiteRun]:
    """A run of one check with each of the wrong settings."""
    base = tmp_path_factory.mktemp("wrong")

    def run(case: str) -> SuiteRun:
        lab_file, change, _ = WRONG[case]
        folder = base / case.replace(" ", "-")
        folder.mkdir()
        (folder / "lab.toml").write_text(lab_file)
        clouds = folder / "clouds.yaml"
        clouds.touch(mode=0o600)
        clouds.write_text(box.clouds_yaml.read_text().replace(*(change or ("", ""))))
        return run_suites(
            folder, *ONE, "--lab", str(folder / "lab.toml"), within=120, OS_CLIENT_CONFIG_FILE=str(clouds)
        )

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(WRONG, pool.map(run, WRONG), strict=True))


@pytest.fixture(autouse=True)
def nothing_left(admin: Cloud) -> Iterator[None]:
    """What was made is removed, whatever stopped the making."""
    yield
    left = [f"{kind} {name}" for kind, name, _ in holdings(admin).things() if name.startswith("labproof-")]
    assert not left


def unproven_because(run: SuiteRun, words: str) -> None:
    check = run.checks[f"test_one_vm.py::{CHECK}"]
    assert check["verdict"] == "unproven", run.text[-3000:]
    assert words in check["reason"], check["reason"]
    assert "\n" not in check["reason"]
    assert run.status == 1
    assert not run.run["left_behind"], run.run["left_behind"]


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_told_in_one_line(wrong: dict[str, SuiteRun], case: str) -> None:
    unproven_because(wrong[case], WRONG[case][2])


def test_the_suites_run_on_a_cloud_of_a_lab_file(tmp_path: Path) -> None:
    """The same cloud by way of a lab file of somebody's own and clouds.yaml: nothing of it is the embedded lab's."""
    (tmp_path / "lab.toml").write_text(GOOD)
    seen = run_suites(tmp_path, *ONE, "--lab", str(tmp_path / "lab.toml"))
    assert seen.verdicts == {f"test_one_vm.py::{CHECK}": "pass"}, seen.text[-3000:]
    assert seen.run["lab"] == str(tmp_path / "lab.toml")


def test_a_full_address_pool(admin: Cloud, tmp_path: Path) -> None:
    """One address is free: the router takes it, and none is left for the floating IP."""
    network = admin.api.network
    subnet = next(iter(network.subnets(network_id=admin.external_network())))
    network.update_subnet(subnet.id, allocation_pools=[{"start": "192.168.37.230", "end": "192.168.37.230"}])
    try:
        seen = run_suites(tmp_path, *ONE, within=300)
    finally:
        network.update_subnet(subnet.id, allocation_pools=subnet.allocation_pools)
    unproven_because(seen, "No more IP addresses available")
    unproven_because(seen, "release addresses that are not needed")


def test_a_run_that_does_not_fit_as_a_whole_makes_nothing(admin: Cloud, lab: Lab, tmp_path: Path) -> None:
    """Each of two topologies would fit into the quota by itself: the second would fail when the first stands."""
    project = Cloud.connect(lab).project
    before = admin.api.get_compute_quotas(project).instances
    admin.api.set_compute_quotas(project, instances=6)
    try:
        seen = run_suites(
            tmp_path, "suites/openstack/test_one_vm.py", "suites/openstack/test_topology.py",
            "-k", "intended_topology", "-v", within=120,
        )  # fmt: skip
    finally:
        admin.api.set_compute_quotas(project, instances=before)
    assert set(seen.verdicts.values()) == {"unproven"}, seen.text[-3000:]
    for check in seen.run["checks"]:
        assert "instances: 7 needed, 6 of 6 free" in check["reason"], check["reason"]
    assert not seen.run["timings"], "something was made"


def test_an_api_that_goes_down_in_the_middle(admin: Cloud, box: runtime.Box, tmp_path: Path) -> None:
    """neutron's API dies when the first network is made, and is back some seconds later."""
    running = begin(tmp_path, *ONE)
    try:
        end = time.monotonic() + 60
        while not any(n.name.startswith("labproof-") for n in admin.api.network.networks()):
            assert time.monotonic() < end, "no network was made"
            assert running.poll() is None
        box.service("stop", "neutron-server")
    finally:
        box.service("start", "neutron-server")
        seen = ended(running, tmp_path, 400)
    unproven_because(seen, "no answer from http://192.168.37.5:9696")
