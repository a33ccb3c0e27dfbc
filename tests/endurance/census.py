"""What there is on a standing lab, and on the machine, besides what OpenStack's own services keep for themselves."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from provision.box import runtime
from provision.box.paths import cache, state
from provision.cloud import Cloud
from provision.natvm import Hypervisor
from provision.qemu import Qemu

Census = Callable[[], dict[str, str]]
SETTLED = 120.0
"""Seconds in which the lab may go on to remove what it was told to: an agent whose question was lost asks again after 60."""
TOKEN = "LABPROOF_ENDURANCE"
"""Set in the environment of every run that is started here: by it all that a run has started is known."""
LISTS = {
    "network": ("network", "networks"),
    "subnet": ("network", "subnets"),
    "router": ("network", "routers"),
    "port": ("network", "ports"),
    "floating IP": ("network", "ips"),
    "security group": ("network", "security_groups"),
}
# what a cloud changes in a thing by itself, while nobody touches it
UNSTEADY = frozenset(
    {"revision_number"}
    | {"updated_at", "progress", "location", "status", "binding_host_id", "fault", "power_state"}
)


def on_cloud(cloud: Cloud) -> dict[str, str]:
    """Everything of the project: ``kind name id`` -> what it is like, in words."""
    found: dict[str, str] = {}

    def add(kind: str, item: Any, like: dict[str, Any]) -> None:
        name = item.name or getattr(item, "floating_ip_address", "") or ""
        found[f"{kind} {name} {item.id}"] = json.dumps(like, sort_keys=True, default=str)

    for kind, (service, what) in LISTS.items():
        for item in getattr(getattr(cloud.api, service), what)(project_id=cloud.project):
            whole = item.to_dict(computed=False, original_names=True)
            steady = {key: value for key, value in whole.items() if key not in UNSTEADY}
            if kind == "port":
                steady = {key: whole.get(key) for key in ("name", "device_id", "fixed_ips", "mac_address")}
            add(kind, item, steady)
    for server in cloud.api.compute.servers(details=True):
        add(
            "server",
            server,
            {
                "status": server.status, "launched": server.launched_at, "metadata": server.metadata,
                "addresses": server.addresses, "key": server.key_name,
            },
        )  # fmt: skip
    for key in cloud.api.compute.keypairs():
        add("keypair", key, {"fingerprint": key.fingerprint})
    for image in cloud.api.image.images(owner=cloud.project):
        add("image", image, {"status": image.status, "tags": image.tags, "checksum": image.checksum})
    return found


def on_hypervisor(hypervisor: Hypervisor) -> dict[str, str]:
    """Its VMs, disks and files."""
    found = {
        f"VM {name}": f"{hypervisor.vm(name).state()} {list(map(str, hypervisor.vm(name).forwardings()))}"
        for name in hypervisor.vms()
    }
    found |= {f"unregistered VM {name}": "" for name in hypervisor.unregistered()}
    found |= {f"disk {disk.path}": f"{disk.uuid} {disk.size_mb}" for disk in hypervisor.disks()}
    if isinstance(hypervisor, Qemu):
        # made with the first VM, and kept: only what is in them counts
        kept = [hypervisor.folder / "disks", hypervisor.folder / "vms"]
        folders = [hypervisor.folder, *kept]
        files = [
            path for folder in folders if folder.is_dir() for path in folder.iterdir() if path not in kept
        ]
        found |= {f"file {path}": "" for path in files if not path.name.startswith("registry")}
    return found


def on_engine(client: Any) -> dict[str, str]:
    """A Docker engine's containers, images and volumes."""
    found = {f"container {c.name} {c.id}": f"{c.status} {c.labels}" for c in client.containers.list(all=True)}
    found |= {f"container image {i.tags} {i.id}": str(i.labels) for i in client.images.list()}
    found |= {f"volume {v.id}": "" for v in client.volumes.list()}
    return found


def files() -> dict[str, str]:
    """What runs keep for themselves: journals, keys, pointers."""
    return {
        f"file {path}": ""
        for folder in ("journal", "runs")
        for path in (state() / folder).rglob("*")
        if path.suffix != ".shown"
    }


def processes(token: str) -> dict[str, str]:
    """Processes that carry a token: a run's, and all that it has started, wherever they are now."""
    wanted = f"{TOKEN}={token}".encode()
    found: dict[str, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found[f"process {entry.name} {words[:120]}"] = ""
        except OSError:
            continue
    return found


def networks_and_mounts(box: runtime.Box) -> dict[str, str]:
    """Named network namespaces inside the embedded lab, and the mounts of its own namespace."""
    names = subprocess.run(
        [*box.holder.enter(), "ls", "/run/netns"], capture_output=True, text=True, check=True
    ).stdout.split()
    mounts = Path(f"/proc/{box.holder.init}/mountinfo").read_text().splitlines()
    found = {f"namespace {name}": "" for name in names}
    return found | {f"mount {line.split()[4]}": "" for line in mounts if "/run/netns/" not in line}


def count(censuses: Sequence[Census]) -> dict[str, str]:
    """All that the censuses find."""
    return {name: like for census in censuses for name, like in census().items()}


def settled(censuses: Sequence[Census], before: dict[str, str]) -> dict[str, str]:
    """The count once nothing is more than before, or as it is after the time."""
    # an agent takes a router's namespace away a moment after the cloud's API has said that the router is gone
    end = time.monotonic() + SETTLED
    while set(there := count(censuses)) - set(before) and time.monotonic() < end:
        time.sleep(0.5)
    return there


def sizes(box: runtime.Box) -> dict[str, float]:
    """Numbers that may not grow from night to night: processes, file descriptors, memory, folders."""
    there = list(_of_box(box))
    data = box.data
    instances = data / "state" / "nova" / "instances"
    return {
        "processes": len(there),
        "descriptors": sum(_descriptors(process) for process in there),
        "memory_mib": round(sum(_memory(process) for process in there) / 2**20, 1),
        "namespaces": sum(each.startswith("namespace") for each in networks_and_mounts(box)),
        "mounts": len(Path(f"/proc/{box.holder.init}/mountinfo").read_text().splitlines()),
        "own_mounts": len(Path("/proc/mounts").read_text().splitlines()),
        "natvm_files": _count(data / "natvm"),
        # nova's own locks apart: it makes one for each image that it looks after, some 40 minutes after the start
        "instances": _count(instances) - _count(instances / "locks"),
        "images": _count(data / "state" / "glance" / "images"),
        "state_files": len(files()),
        "cache_mib": round(_bytes(cache()) / 2**20, 1),
        "cache_files": _count(cache()),
    }


def growing(box: runtime.Box) -> dict[str, float]:
    """What OpenStack's own services let grow with each request: their logs, and rows that they only mark as deleted."""
    return {
        "logs_mib": round(_bytes(box.data / "log") / 2**20, 1),
        "databases_mib": round(_bytes(box.data / "state" / "mysql") / 2**20, 1),
    }


def _of_box(box: runtime.Box) -> Iterator[psutil.Process]:
    space = Path(f"/proc/{box.holder.init}/ns/pid").readlink()
    for process in psutil.process_iter():
        try:
            if Path(f"/proc/{process.pid}/ns/pid").readlink() == space:
                yield process
        except OSError:
            continue


def _descriptors(process: psutil.Process) -> int:
    try:
        return process.num_fds()
    except psutil.Error:
        return 0


def _memory(process: psutil.Process) -> int:
    """A process's share of what memory it wrote itself, in bytes.

    Pages of files are left out: how large a share of them is its own hangs on who else reads the same files, as
    another embedded lab does.
    """
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def _count(folder: Path) -> int:
    return sum(1 for _ in folder.rglob("*")) if folder.is_dir() else 0


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            total += path.lstat().st_blocks * 512
        except OSError:
            continue
    return total
