"""Clouds that fail: bounded waits, one clear reason each, nothing left. A few each day, all by `make cloud-faults`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision import removal
from provision.box import runtime
from provision.cloud import Cloud
from provision.holdings import holdings
from provision.lab import Lab
from provision.openstack import ProvisionError, apply, destroy
from tests import faulty_cloud
from tests.fault_matrix import KEY, KINDS, TOPOLOGY, Bench, Row, all_of, new_run
from tests.faulty_cloud import Rule, Trust
from tests.suite_runs import run_suites

pytestmark = pytest.mark.box

# the everyday ones -> calls with each, the worst for what it may leave or hide
EVERYDAY = [
    ("503 after", "POST network /v2.0/routers"),
    ("reset after", "POST compute /v2.1/servers"),
    ("half", "POST network /v2.0/floatingips"),
    ("cut", "POST network /v2.0/networks"),
    ("500", "GET compute /v2.1/limits"),
    ("429 in 1 h", "GET compute /v2.1/servers?name&status"),
    ("404", "DELETE network /v2.0/security-group-rules/ID"),
]
# of removal: refused, and done with the answer lost
EVERYDAY_REMOVAL = [
    ("403", "DELETE compute /v2.1/servers/ID"),
    ("503 after", "DELETE compute /v2.1/servers/ID"),
]


@pytest.fixture(scope="module")
def bench(lab: Lab, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    box = runtime.running()
    assert box is not None
    folder = tmp_path_factory.mktemp("faulty")
    bench = Bench(lab, cloud, box.clouds_yaml, folder, Trust.make(folder))
    yield bench
    bench.clear()
    left = [f"{kind} {name}" for kind, name, _ in holdings(cloud).things() if name.startswith("labproof-")]
    assert not left


@pytest.fixture(scope="module")
def calls(bench: Bench) -> tuple[list[str], list[str]]:
    return bench.calls()


@pytest.fixture
def tell(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> Iterator[Callable[[str], None]]:
    """Shows rows as they come, and keeps them in reports/out/cloud-faults."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    folder = pytestconfig.rootpath / "reports" / "out" / "cloud-faults"
    folder.mkdir(parents=True, exist_ok=True)
    name = request.node.name.removeprefix("test_").replace(" ", "-").replace("[", "-").rstrip("]")
    with (folder / f"{name}.txt").open("w", encoding="utf-8") as file:

        def show(row: str) -> None:
            file.write(row + "\n")
            file.flush()
            if reporter is not None and pytestconfig.get_verbosity() > 0:
                reporter.ensure_newline()
                reporter.write_line(row)

        yield show


def wrong(rows: list[Row]) -> str:
    return "\n".join(str(row) for row in rows if row.problems)


@pytest.mark.cloud_faults
@pytest.mark.parametrize("kind", KINDS)
def test_provisioning_with_a_fault_on_each_of_its_calls(
    bench: Bench, calls: tuple[list[str], list[str]], tell: Callable[[str], None], kind: str
) -> None:
    rows = all_of(bench.provision, kind, calls[0], tell)
    assert len(rows) > 20
    assert not wrong(rows), wrong(rows)


@pytest.mark.cloud_faults
@pytest.mark.parametrize("kind", KINDS)
def test_removal_with_a_fault_on_each_of_its_calls(
    bench: Bench, calls: tuple[list[str], list[str]], tell: Callable[[str], None], kind: str
) -> None:
    rows = all_of(bench.remove, kind, calls[1], tell)
    assert len(rows) > (10 if KINDS[kind].bodied else 16)
    assert not wrong(rows), wrong(rows)


SHOW = "GET compute /v2.1/servers/ID"
BUILDING = re.escape("GET compute /v2.1/servers?name&status")


def building(document: Any) -> Any:
    document["server"] |= {"status": "BUILD", "OS-EXT-STS:task_state": "spawning"}
    return document


def of_any_status(path: str) -> str:
    return re.sub(r"[?&]status=BUILD", "", path).replace("servers&", "servers?")


def test_a_server_that_stays_in_build(bench: Bench) -> None:
    run = new_run()
    with bench.proxy() as (faulty, clouds):
        faulty.rules = [
            Rule(BUILDING, faulty_cloud.changed(lambda document: document, of_any_status)),
            Rule(re.escape(SHOW), faulty_cloud.changed(building)),
        ]
        try:
            with pytest.raises(
                ProvisionError,
                match=r"^topology faults: waiting for server vm: still BUILD \(task: spawning\) after 6 s, and not ACTIVE",
            ) as caught:
                bench.apply(clouds, run, within=6)
        finally:
            destroy(bench.cloud, run).check()
    assert "\n" not in str(caught.value)


def test_a_compute_service_that_is_stuck_and_comes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For real: nova-compute stands still while a server is to be made, and removed; then it goes on."""
    box, run = runtime.running(), new_run()
    assert box is not None
    monkeypatch.setattr(removal, "SERVER_SECONDS", 6.0)
    try:
        box.service("pause", "nova-compute")
        try:
            with pytest.raises(
                ProvisionError, match=r"waiting for server vm: still BUILD \(task: \w+\) after 15 s"
            ):
                apply(bench.cloud, TOPOLOGY, run, key_public=KEY, within=15)
            began = time.monotonic()
            left = list(destroy(bench.cloud, run))
            assert time.monotonic() - began < 90
            for item in left:
                assert "still listed" in item.reason or "removing" in item.reason, str(item)
        finally:
            box.service("resume", "nova-compute")
    finally:
        monkeypatch.undo()
        destroy(bench.cloud, run).check()


# what will not go -> what is said of it, and of what hangs on it
STUCK = {
    "DELETE compute /v2.1/servers/ID": r"^server \S+-vm \(\S+\): removing server \S+: still ACTIVE \(task: none\) after 6 s",
    "DELETE network /v2.0/ports/ID": r"^port \S+-vm \(\S+\): still listed$",
    "DELETE network /v2.0/floatingips/ID": r"^floating IP 192.168.37.\d+ \(\S+\): still listed$",
    "DELETE network /v2.0/routers/ID": r"^router \S+-RT1 \(\S+\): still listed$",
}


@pytest.mark.cloud_faults
@pytest.mark.parametrize("call", STUCK)
def test_what_will_not_go_is_named_and_goes_later(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The cloud says that it removes a thing, and does not: it is looked for, named, and the rest goes."""
    run = new_run()
    monkeypatch.setattr(removal, "SERVER_SECONDS", 6.0)
    try:
        apply(bench.cloud, TOPOLOGY, run, key_public=KEY)
        with bench.proxy() as (faulty, clouds):
            cloud = Cloud.connect(bench.lab, clouds)
            faulty.rules = [Rule(re.escape(call), faulty_cloud.pretend(204))]
            began = time.monotonic()
            left = [str(item) for item in destroy(cloud, run)]
            cloud.close()
        assert time.monotonic() - began < 120
        assert [line for line in left if re.search(STUCK[call], line)], left
        assert not [line for line in left if line.startswith(("keypair", "image"))]
    finally:
        monkeypatch.undo()
        destroy(bench.cloud, run).check()


LAB_FILE = """
driver = "cloud"
[openstack]
cloud = "labproof-box"
public_network = "public"
image = "debian"
login = "user"
"""
LISTING = r"test_client_and_api.py::test_a_plain_user_is_refused_the_admins_listings\[service list\]"
ROUTERS = r"test_client_and_api.py::test_the_client_lists_the_projects_routers.*"


@pytest.mark.parametrize(
    ("call", "verdicts", "told"),
    [
        (r"POST compute /v2.1/servers", {LISTING: "pass", ROUTERS: "unproven"}, r"server \w+: fault 500 .*HTTP 500"),
        (r"GET identity /v3/services.*", {LISTING: "unproven", ROUTERS: "pass"}, r"could not be asked: .*500"),
    ],
    ids=["no server", "no listing"],
)  # fmt: skip
def test_the_rest_of_a_run_goes_on(
    bench: Bench, tmp_path: Path, call: str, verdicts: dict[str, str], told: str
) -> None:
    """Only what needs the call that fails is unproven, with its reason; nothing is left of the run."""
    (tmp_path / "lab.toml").write_text(LAB_FILE)
    with bench.proxy() as (faulty, clouds):
        faulty.rules = [rule := Rule(call, faulty_cloud.refuse(500))]
        seen = run_suites(
            tmp_path, "suites/openstack/test_client_and_api.py", "-k", "lists_the_projects_routers or service-list or "
            "(plain_user and service)", "--lab", str(tmp_path / "lab.toml"), within=300, OS_CLIENT_CONFIG_FILE=str(clouds),
        )  # fmt: skip
    assert rule.happened, seen.text[-3000:]
    for name, verdict in verdicts.items():
        (check,) = [check for each, check in seen.checks.items() if re.fullmatch(name, each)]
        assert check["verdict"] == verdict, seen.text[-3000:]
        if verdict == "unproven":
            assert re.search(told, check["reason"]), check["reason"]
            assert "\n" not in check["reason"]
    assert not seen.run["left_behind"], seen.run["left_behind"]


@pytest.mark.parametrize(("kind", "call"), EVERYDAY)
def test_everyday_faults(bench: Bench, kind: str, call: str) -> None:
    row = bench.provision(kind, call)
    assert not row.problems, str(row)


@pytest.mark.parametrize(("kind", "call"), EVERYDAY_REMOVAL)
def test_everyday_faults_of_removal(bench: Bench, kind: str, call: str) -> None:
    row = bench.remove(kind, call)
    assert not row.problems, str(row)


def test_a_rule_that_another_has_removed_meanwhile_is_no_fault(bench: Bench) -> None:
    """The same answer as to one that is there all the same, which is one of the everyday faults."""
    run = new_run()
    with bench.proxy() as (faulty, clouds):
        rule = Rule(re.escape("DELETE network /v2.0/security-group-rules/ID"), faulty_cloud.lose(404))
        faulty.rules = [rule]
        try:
            bench.apply(clouds, run)
        finally:
            destroy(bench.cloud, run).check()
    assert rule.happened
