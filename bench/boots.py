"""Five servers at once, created to SSH over their floating IPs."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from bench.common import TOPOLOGIES, Row, cloud, own_key, timed
from probes.host import SshHost
from provision.openstack import apply, destroy
from provision.topology import Topology

SERVERS = 5


def measure() -> list[Row]:
    on, run = cloud(), f"b{secrets.token_hex(3)}"
    single = Topology.load(TOPOLOGIES / "single.json")
    vm = single.hosts[0]
    five = replace(single, hosts=tuple(replace(vm, name=f"vm{n}") for n in range(SERVERS)))
    with own_key() as key:
        # the network stands before: the servers are measured, as in the lab
        apply(on, replace(five, hosts=()), run, key_public=key.public)
        try:
            with timed() as clock:
                made = apply(on, five, run, key_public=key.public)
                hosts = [
                    SshHost(h.name, str(h.floating_ip), on.lab.login, key.file) for h in made.hosts.values()
                ]
                with ThreadPoolExecutor(SERVERS) as pool:
                    list(pool.map(lambda host: host.wait_ready(180), hosts))
            for host in hosts:
                host.close()
        finally:
            destroy(on, run).check()
    return [
        Row(f"{SERVERS} servers at once, created to SSH over floating IPs", clock.seconds, note="wanted 45")
    ]
