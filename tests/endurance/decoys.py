"""Things of other people with names and tags like a run's, to stand beside it: none of them may be touched."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from provision.cloud import Cloud
from provision.natvm import Hypervisor, VmSettings
from provision.runs import make_key

# the like of a run's names without being one: another tool's, a run of five letters' longer brother, a typing mistake
NAMES = ("labproof", "labproof-", "labproof-decoy", "labproof_ab12c-vm", "xlabproof-ab12c-operations-private")
OTHERS_RUN = "zz9decoy"
"""A run of somebody else, who works from another machine: tagged, with no journal here."""


@contextmanager
def on_cloud(cloud: Cloud, folder: Path) -> Iterator[None]:
    """Networks, a router, floating IPs, a security group, keypairs, an image and a server."""
    network, compute, image = cloud.api.network, cloud.api.compute, cloud.api.image
    key = make_key(folder / "decoy").public
    made: list[tuple[Any, Any]] = []
    outside = cloud.external_network()
    tagged = f"labproof-{OTHERS_RUN}-operations-private"
    mark = f"labproof:{OTHERS_RUN} operations"
    try:
        for name in (*NAMES, tagged):
            made.append((network.delete_network, network.create_network(
                name=name, description=mark if name == tagged else "somebody's",
            )))  # fmt: skip
        network.set_tags(made[-1][1], ["labproof", f"labproof:{OTHERS_RUN}"])
        subnet = network.create_subnet(
            network_id=made[0][1].id, ip_version=4, cidr="10.5.7.0/24", name=NAMES[0]
        )
        router = network.create_router(name=NAMES[2], external_gateway_info={"network_id": outside})
        made.append((network.delete_router, router))
        cloud.add_leg(router.id, subnet_id=subnet.id)
        made.append((lambda _: cloud.remove_leg(router.id, subnet_id=subnet.id), None))
        for words in ("labproof", mark):
            address = network.create_ip(floating_network_id=outside, description=words)
            made.append((network.delete_ip, address))
        group = network.create_security_group(name="labproof-ab12", description="labproof")
        made.append((network.delete_security_group, group))
        for name in ("labproof", f"labproof-{OTHERS_RUN}-operations-key"):
            made.append((compute.delete_keypair, compute.create_keypair(name=name, public_key=key)))
        picture = image.create_image(
            name=f"labproof-{OTHERS_RUN}-snapshot", container_format="bare", disk_format="raw",
            data=io.BytesIO(b"somebody's" * 100), wait=True, labproof_run=OTHERS_RUN,
        )  # fmt: skip
        made.append((image.delete_image, picture))
        server = compute.create_server(
            name="labproof-ab12c-vm", image_id=cloud.image().id, flavor_id=cloud.flavor("nano").id,
            networks=[{"uuid": made[0][1].id}], metadata={"labproof_run": OTHERS_RUN},
        )  # fmt: skip
        made.append((lambda item: _away(compute, item), server))
        compute.wait_for_server(server, wait=240)
        yield
    finally:
        for remove, item in reversed(made):
            with suppress(Exception):
                remove(item)


def _away(compute: Any, server: Any) -> None:
    compute.delete_server(server)
    compute.wait_for_delete(server, wait=120)


@contextmanager
def on_hypervisor(hypervisor: Hypervisor, folder: Path, disk: Path) -> Iterator[None]:
    """VMs that are off, with their disks, in the very folders that runs use."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("labproof", "labproof-decoy", f"labproof-{OTHERS_RUN}-natvm")
    try:
        for name in names:
            own = folder / f"{name}{disk.suffix}"
            hypervisor.clone_disk(disk, own)
            hypervisor.create(VmSettings(name, own, 64, 1))
        yield
    finally:
        for name in names:
            with suppress(Exception):
                hypervisor.vm(name).remove()


@contextmanager
def on_engine(client: Any, base: str) -> Iterator[None]:
    """Containers that run, and an image of somebody else's."""
    made = []
    try:
        for name, label in (
            ("labproof", ""), ("labproof-ct1", "no"), (f"labproof-{OTHERS_RUN}-ct1", OTHERS_RUN),
        ):  # fmt: skip
            labels = {"labproof": label} if label else {}
            made.append(client.containers.run(base, name=name, detach=True, tty=True, labels=labels))
        made[-1].commit(repository=f"labproof-{OTHERS_RUN}-snapshot", tag="latest")
        yield
    finally:
        for container in made:
            with suppress(Exception):
                container.remove(force=True)
        with suppress(Exception):
            client.images.remove(f"labproof-{OTHERS_RUN}-snapshot:latest", force=True)


def copy_of(disk: Path, folder: Path) -> Path:
    """A copy of an image, for what may not be registered twice."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copyfile(disk, folder / f"decoy{disk.suffix}"))
