"""The two networks: our way against the lab report's, one `openstack` command after another, on the same box."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path

from bench.common import TOPOLOGIES, Row, cloud, own_key, ratio, timed
from probes.host import SshHost
from provision.openstack import apply, destroy
from provision.plan import LOOK
from provision.topology import Route, Topology

CLIENT = Path(sys.executable).with_name("openstack")


def measure() -> list[Row]:
    topology = Topology.load(TOPOLOGIES / "two-networks.json")
    theirs_api, theirs = by_commands(topology)
    ours_api, ours = by_apply(topology)
    return [
        Row("two networks by commands: API phase", theirs_api),
        Row("two networks by commands: to SSH on the calculator", theirs),
        Row("two networks by Labproof: API phase", ours_api),
        Row("two networks by Labproof: to SSH on the calculator", ours),
        ratio("API phase, commands / Labproof", theirs_api, ours_api, "wanted 5"),
        ratio("whole, commands / Labproof", theirs, ours, "wanted 1.5"),
    ]


def by_apply(topology: Topology) -> tuple[float, float]:
    """Seconds until everything is made (its guests may still boot), and until SSH answers."""
    on, run = cloud(), f"b{secrets.token_hex(3)}"
    try:
        with own_key() as key, timed() as clock:
            made = apply(on, topology, run, key_public=key.public)
            enter(str(made.hosts["calculator"].floating_ip), on.lab.login, key.file)
        making = [step for step in made.timings if not step.step.endswith("ACTIVE") and step.step != LOOK]
        return max(step.ended for step in making), clock.seconds
    finally:
        destroy(on, run).check()


def by_commands(topology: Topology) -> tuple[float, float]:
    """The same topology by the client, as the lab report's script does it; removed by our own means."""
    on, run = cloud(), f"b{secrets.token_hex(3)}"
    name = f"labproof-{run}-two-networks-"
    try:
        with own_key() as key, timed() as clock:
            began = time.monotonic()
            openstack("keypair", "create", "--public-key", str(key.file.with_suffix(".pub")), f"{name}key")
            for network in topology.internal_networks:
                openstack("network", "create", name + network.name)
                openstack(
                    *(
                        "subnet",
                        "create",
                        "--network",
                        name + network.name,
                        "--subnet-range",
                        str(network.cidr),
                    ),
                    *("--gateway", str(network.gateway), name + network.name),
                )
            for group in topology.security_groups:
                openstack("security", "group", "create", name + group.name)
                for rule in group.rules:
                    if rule.direction == "ingress" and rule.ethertype == "IPv4":
                        ports = ["--dst-port", f"{rule.ports[0]}:{rule.ports[1]}"] if rule.ports else []
                        remote = (
                            ["--remote-group", name + rule.remote_group]
                            if rule.remote_group
                            else ["--remote-ip", "0.0.0.0/0"]
                        )
                        protocol = ["--protocol", rule.protocol] if rule.protocol else []
                        openstack(
                            "security",
                            "group",
                            "rule",
                            "create",
                            *protocol,
                            *ports,
                            *remote,
                            name + group.name,
                        )
            for router in topology.routers:
                openstack("router", "create", name + router.name)
                if router.external:
                    openstack(
                        "router", "set", "--external-gateway", on.lab.public_network, name + router.name
                    )
                for leg in router.legs:
                    if leg.gateway:
                        openstack("router", "add", "subnet", name + router.name, name + leg.network)
                        continue
                    port = f"{name}{router.name}-{leg.network}"
                    openstack(
                        *("port", "create", "--network", name + leg.network),
                        *("--fixed-ip", f"subnet={name}{leg.network},ip-address={leg.address}", port),
                    )
                    openstack("router", "add", "port", name + router.name, port)
            for host in topology.hosts:
                groups = [
                    word for group in host.security_groups for word in ("--security-group", name + group)
                ]
                port = name + host.name
                openstack(
                    *("port", "create", "--network", name + host.network, *groups),
                    *("--fixed-ip", f"subnet={name}{host.network},ip-address={host.address}", port),
                )
                openstack(
                    *("server", "create", "--image", on.lab.image, "--flavor", on.lab.flavor(host.flavor)),
                    *("--key-name", f"{name}key", "--port", port, name + host.name),
                )
            made = openstack(
                "floating", "ip", "create", "-f", "json", "--port", f"{name}calculator", on.lab.public_network
            )
            api = time.monotonic() - began
            address = json.loads(made[made.index("{") :])["floating_ip_address"]
            enter(address, on.lab.login, key.file, topology.host("calculator").routes)
        return api, clock.seconds
    finally:
        destroy(on, run).check()


def openstack(*words: str) -> str:
    done = subprocess.run(
        [CLIENT, "--os-cloud", "labproof-box", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"openstack {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def enter(address: str, login: str, key: Path, routes: tuple[Route, ...] = ()) -> None:
    with SshHost("calculator", address, login, key) as host:
        host.wait_ready(300)
        for route in routes:
            host.run("sudo ip route replace %s via %s", route.destination, route.via)
