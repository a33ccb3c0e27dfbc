"""All observing checks of the standing two networks, against the same commands over testinfra's own SSH backend."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import testinfra

from bench.common import ROOT, TOPOLOGIES, Row, cloud, ratio, timed
from fixtures.openstack import find
from provision.openstack import destroy
from provision.runs import standing_run
from provision.topology import Topology


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        run_checks(folder)
        with timed() as ours:
            run = run_checks(folder)
        on, kept = cloud(), standing_run("box")
        assert kept is not None
        try:
            theirs, count = over_testinfra(run, Path(folder))
        finally:
            destroy(on, kept.run).check()
            kept.forget("openstack")
            kept.close()
    return [
        Row("observing the two networks: Labproof, whole run", ours.seconds),
        Row(f"the same {count} commands over testinfra's ssh backend", theirs),
        ratio("observing, testinfra / Labproof", theirs, ours.seconds, "wanted 5"),
    ]


def run_checks(folder: str) -> dict[str, list[dict[str, object]]]:
    """One run of the observing checks on what stands; its run file."""
    words = ["suites/openstack/test_topology.py", "-m", "not acts", "--keep", "-q", "--report-dir", folder]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stdout[-3000:])
    run: dict[str, list[dict[str, object]]] = json.loads((Path(folder) / "latest" / "run.json").read_text())
    return run


def over_testinfra(run: dict[str, list[dict[str, object]]], folder: Path) -> tuple[float, int]:
    """Seconds for the commands that the checks ran on hosts, one after another, each a connection of its own."""
    on, kept = cloud(), standing_run("box")
    topology = Topology.load(TOPOLOGIES / "two-networks.json")
    made = kept and find(on, topology, kept.run)
    if kept is None or made is None:
        raise SystemExit("the two networks do not stand")
    config = folder / "ssh_config"
    jump = str(made.hosts["calculator"].floating_ip)
    common = f"User {on.lab.login}\n IdentityFile {kept.key}\n StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n"
    config.write_text(
        f"Host calculator\n HostName {jump}\n {common}"
        + "".join(
            f"Host {name}\n HostName {host.address}\n ProxyJump calculator\n {common}"
            for name, host in made.hosts.items()
            if name != "calculator"
        )
    )
    commands = [
        (str(seen["source"]), str(seen["command"]))
        for check in run["checks"]
        for seen in check["observations"]  # type: ignore[attr-defined]
        if seen["probe"] != "api"
    ]
    with timed() as clock:
        for source, text in commands:
            if source == "desktop":
                subprocess.run(shlex.split(text), capture_output=True, check=False)
            else:
                testinfra.get_host(f"ssh://{source}", ssh_config=str(config)).run(text)
    return clock.seconds, len(commands)
