"""The real secrets of real runs are in nothing that these put out, show or leave; and what is planted is found."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provision.box import namespaces, runtime
from provision.box.command import from_home
from provision.box.paths import state
from provision.lab import Lab
from provision.runs import make_key
from tests import secret_scan
from tests.suite_runs import begin, ended

# the checks that handle the credentials themselves, and the ways into guests
EVERYDAY = ("suites/openstack/test_client_and_api.py", "suites/openstack/test_one_vm.py")


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    """In a file, in each of its forms, in a journal and in the process list."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "runs" / "x").mkdir(parents=True)
    key = make_key(tmp_path / "runs" / "x" / "id_ed25519")
    secrets = secret_scan.Secrets()
    secrets.add("the password", "Gei6thah0Zex8aiquo")
    with secret_scan.watching(tmp_path, secrets) as seen:
        (tmp_path / "journal" / "x.jsonl").write_text('{"name": "Gei6thah0Zex8aiquo"}\n')
        shown = subprocess.Popen(
            [sys.executable, "-c", "input()", "Gei6thah0Zex8aiquo"], stdin=subprocess.PIPE
        )
        end = time.monotonic() + 20
        while not (secrets.found_in("\n".join(seen.commands)) and seen.journals and seen.modes):
            assert time.monotonic() < end
            time.sleep(0.02)
        shown.communicate(b"\n")
    basic = base64.b64encode(b"student:Gei6thah0Zex8aiquo").decode()
    line = key.file.read_text().splitlines()[3]
    assert secrets.scan({"commands": "\n".join(seen.commands), "journals": "\n".join(seen.journals)}) == [
        "commands tells the password",
        "journals tells the password",
    ]
    assert secrets.scan({"report": f"Authorization: Basic {basic}"}) == ["report tells the password"]
    assert secrets.scan({"log": f"> {line}"}) == ["log tells the private key x/id_ed25519"]
    assert secrets.scan({"log": f"X-Auth-Token: gAAAAABn{'a' * 60}"}) == ["log tells a token"]
    assert secrets.scan({"log": key.file.read_text()})[0] == "log tells a private key"
    assert seen.modes["id_ed25519"] == 0o600
    assert not secrets.scan({"log": f"nothing; {key.public}"})


def test_runs_that_end_while_it_looks_do_not_end_the_watch(tmp_path: Path) -> None:
    def begin_and_end() -> None:
        for number in range(2000):
            run = tmp_path / "runs" / str(number)
            run.mkdir(parents=True)
            (run / "id_ed25519").touch()
            shutil.rmtree(run)

    seen = secret_scan.Watched(secret_scan.Secrets())
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(begin_and_end)
        while not runs.done():
            seen.look(tmp_path)
        runs.result()


def test_a_watch_that_ended_early_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: secret_scan.Watched, state: Path) -> None:
        raise OSError("cannot look")

    monkeypatch.setattr(secret_scan.Watched, "look", broken)
    with (
        pytest.raises(OSError, match="cannot look"),
        secret_scan.watching(tmp_path, secret_scan.Secrets()),
    ):
        time.sleep(3 * secret_scan.EVERY)


def run_and_scan(folder: Path, *words: str, within: float) -> list[str]:
    """What a run of the suites tells of its secrets, and where."""
    box = runtime.running()
    assert box is not None
    secrets = secret_scan.of_box(box.data)
    with secret_scan.watching(state(), secrets) as seen:
        run = ended(begin(folder, *words), folder, within)
    assert run.verdicts, run.text[-3000:]
    assert set(run.verdicts.values()) <= {"pass", "skip"}, run.verdicts
    # not only unread by others: those whom it was told to are who they are
    assert run.run["facts"]["host_keys"]["operations"]["vm"] == "its console", run.run["facts"]
    assert len(secrets.forms) > 20
    assert any("labproof-" in line for line in seen.journals)
    assert any("-m pytest" in line for line in seen.commands)
    assert seen.modes["id_ed25519"] == 0o600
    # not `runs` beside it: that is where keys are, for as long as what they open stands
    texts = secret_scan.files_below([folder, state() / "journal"])
    assert {Path(name).name for name in texts} >= {"run.json", "report.html", "junit.xml"}
    texts |= {
        "the terminal": run.text,
        "the process list": "\n".join(seen.commands),
        "the journals": "\n".join(seen.journals),
    }
    return secrets.scan(texts)


@pytest.mark.box
def test_no_secret_of_a_run_is_told(lab: Lab, tmp_path: Path) -> None:
    assert run_and_scan(tmp_path, *EVERYDAY, within=560) == []


@pytest.mark.box
@pytest.mark.cloud_faults
def test_no_secret_of_a_full_run_is_told(lab: Lab, tmp_path: Path) -> None:
    assert run_and_scan(tmp_path, "suites", within=1800) == []


@pytest.mark.box
def test_a_secret_that_a_check_tells_of_the_real_cloud_is_left_out(lab: Lab, tmp_path: Path) -> None:
    """A check that tells the password and the token in all ways it can: the scan finds none of it in the reports."""
    suite = tmp_path / "test_telling.py"
    suite.write_text(
        "import logging, pytest\n"
        "@pytest.mark.claim('OS-05')\n"
        "def test_it(cloud):\n"
        "    auth = cloud.api.config.config['auth']\n"
        "    print('token', cloud.api.auth_token)\n"
        "    logging.getLogger('x').warning('said %s', auth['password'])\n"
        "    raise RuntimeError(f'{auth} {cloud.api.auth_token}')\n"
    )
    box = runtime.running()
    assert box is not None
    secrets = secret_scan.of_box(box.data)
    folder = tmp_path / "out"
    run = ended(
        begin(folder, "-p", "conftest", "-c", "pyproject.toml", "--rootdir", ".", str(suite)), folder, 120
    )
    texts = {**secret_scan.files_below([folder]), "the terminal": run.text}
    assert "▓" in texts["the terminal"]
    assert secrets.scan(texts) == []


@pytest.mark.box
def test_the_box_is_in_no_network_of_the_machines_own(lab: Lab) -> None:
    """None of its processes, so none of its listeners, is in the network that the machine itself is in."""
    box = runtime.running()
    assert box is not None
    home = Path(os.environ["LABPROOF_HOME_NETWORK"]).stat().st_ino if from_home() else None
    assert home is not None
    inside = Path(f"/proc/{box.holder.init}/ns/pid").stat().st_ino
    networks: dict[str, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "ns/pid").stat().st_ino == inside:
                networks[f"{entry.name} {(entry / 'comm').read_text().strip()}"] = (
                    (entry / "ns/net").stat().st_ino
                )
        except OSError:
            continue
    assert len(networks) > 15, networks
    assert not [name for name, network in networks.items() if network == home]
    listeners = ["ss", "-Hltun"]
    own = subprocess.run([*box.holder.enter(), *listeners], capture_output=True, text=True, check=True).stdout
    assert {"5000", "8774", "9292", "9696"} <= set(re.findall(r":(\d+)\s", own)), own
    machine = subprocess.run(
        [*from_home(), "ss", "-Hltunp"], capture_output=True, text=True, check=True
    ).stdout
    pids = {name.partition(" ")[0] for name in networks}
    assert not [line for line in machine.splitlines() if pids & set(re.findall(r"pid=(\d+)", line))]


@pytest.mark.box
def test_the_boxs_files_of_secrets_are_their_owners_alone(lab: Lab) -> None:
    box = runtime.running()
    assert box is not None
    for name in ("secrets.json", "clouds.yaml", "clouds-admin.yaml", "openrc-student", "openrc-reader"):
        assert (box.data / name).stat().st_mode & 0o077 == 0, name
    assert namespaces.find(runtime.folder()) is not None
