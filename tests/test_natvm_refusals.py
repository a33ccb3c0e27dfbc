"""Wrong settings and machines that fail, for the NAT VM and Docker: one clear line, unproven, nothing is left."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.box import runtime
from tests.suite_runs import SuiteRun, run_suites

pytestmark = pytest.mark.box

BOX = (Path(__file__).resolve().parent.parent / "labs/box.toml").read_text()
SSH_RULE = "test_by_the_rule_an_ssh_session_opens_in_the_vm"
ADDRESS = "test_the_vms_address_is_on_another_network_than_the_hosts"
CT1 = "test_ct1_runs_and_has_the_first_address"


@pytest.fixture(autouse=True)
def nothing_left(lab: object) -> Iterator[None]:
    """No VM and no disk of a run."""
    yield
    box = runtime.running()
    assert box is not None
    folder = box.data / "natvm"
    assert not [path for path in folder.rglob("*") if path.name.startswith("labproof-")]


def run(folder: Path, check: str, *words: str, lab: str = BOX, **environment: str) -> SuiteRun:
    (folder / "box.toml").write_text(lab)
    suites = ("suites/virtualbox", "suites/docker")
    return run_suites(folder, *suites, "-k", check, "--lab", str(folder / "box.toml"), *words, **environment)


def unproven_because(seen: SuiteRun, check: str, words: str) -> None:
    (told,) = [each for name, each in seen.checks.items() if name.endswith(check)]
    assert told["verdict"] == "unproven", seen.text[-3000:]
    assert words in told["reason"], told["reason"]
    assert "\n" not in told["reason"]
    assert not seen.run["left_behind"], seen.run["left_behind"]


def test_a_port_that_is_in_use_on_the_host(lab: object, tmp_path: Path) -> None:
    """Somebody on the desktop listens where the rule is to listen."""
    with socket.create_server(("", 1234)):
        seen = run(tmp_path, SSH_RULE)
    unproven_because(seen, SSH_RULE, "1234")
    assert "in use" in seen.text or "ddress already" in seen.text


def test_a_hypervisor_that_is_not_there(lab: object, tmp_path: Path) -> None:
    wanted = BOX + '\n[natvm]\nhypervisor = "virtualbox"\n'
    seen = run(tmp_path, ADDRESS, lab=wanted, PATH="/usr/sbin:/usr/bin:/sbin:/bin")
    unproven_because(seen, ADDRESS, "choosing a hypervisor (virtualbox)")


def test_an_image_that_no_guest_boots_from(lab: object, tmp_path: Path) -> None:
    """An empty disk: the machine runs, and nobody ever answers; the end of its console is in the reason."""
    image = tmp_path / "empty.raw"
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    wanted = BOX + f'\n[natvm]\nimage = "{image}"\nlogin = "user"\nboot_seconds = 8\n'
    seen = run(tmp_path, ADDRESS, lab=wanted, LABPROOF_NATVM_PASSWORD="x")
    unproven_because(seen, ADDRESS, "no login as user@127.0.0.1")


def test_a_base_image_that_is_not_there(lab: object, tmp_path: Path) -> None:
    seen = run(tmp_path, CT1, lab='base_image = "nosuch:1"\n' + BOX)
    unproven_because(seen, CT1, "docker run ct1 from nosuch:1")
