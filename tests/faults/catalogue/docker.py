"""Faults of objective 5: Docker in the NAT VM, its containers and images."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.catalogue.one_vm import IGNORE
from tests.faults.fault import fault, plugged
from tests.faults.scopes import COMMITTED, CONTAINER, PUBLISHED
from tests.faults.world import World

OF_CT1 = "CT-03 CT-04 CT-05 CT-06 CT-07"

plugged(
    "docker-stopped", "The docker service is not running", CONTAINER,
    red="CT-01", open_=f"CT-02 {OF_CT1}", words="the docker service does not answer", everyday=True,
)  # fmt: skip
plugged(
    "no-ip-forwarding", "The VM does not forward packets", CONTAINER,
    red="CT-04", words="does not forward packets", everyday=True,
)  # fmt: skip
plugged(
    "published-at-another-port", "ct2 publishes its SSH at 2224 in place of 2223", PUBLISHED,
    red="CT-08 CT-15", words="no container publishes port 2223",
)  # fmt: skip
plugged(
    "no-ssh-server-in-ct2", "No SSH server was installed in ct2", PUBLISHED,
    open_="CT-08 CT-09 CT-15", words="no SSH server",
)  # fmt: skip
plugged(
    "image-without-nano", "nano was not installed in ct2", PUBLISHED, red="CT-09", words="nano is not in ct2",
)  # fmt: skip
plugged(
    "ct3-from-the-base", "ct3 was made from the base image in place of the snapshot", COMMITTED,
    red="CT-12", words="nano is not in ct3", everyday=True,
)  # fmt: skip
plugged(
    "changed-before-the-commit", "The change was made before the commit", COMMITTED,
    red="CT-13", words="the later change is in the image",
)  # fmt: skip
plugged(
    "removed-by-force", "The running container was removed by force", COMMITTED,
    red="CT-11", words="removed while it ran",
)  # fmt: skip


@fault(
    "socket-open-to-all", "The daemon's socket was opened to every user", CONTAINER,
    red="CT-02", words="is let in",
)  # fmt: skip
def socket_open_to_all(world: World) -> Iterator[None]:
    socket = "/var/run/docker.sock"
    with world.changed(world.machine().host, f"sudo chmod 666 {socket}", f"sudo chmod 660 {socket}"):
        yield


@fault(
    "base-image-missing", "The base image was not pulled", CONTAINER, open_=OF_CT1, words="No such image on the engine",
)  # fmt: skip
def base_image_missing(world: World) -> Iterator[None]:
    guest, base = world.machine().host, world.lab.base_image
    world.guest(guest, "docker tag %s away:now && docker rmi %s", base, base)
    yield
    world.guest(guest, "docker tag away:now %s && docker rmi away:now", base)


@fault(
    "another-container-was-first", "Another container was started before ct1 and has its address", CONTAINER,
    red="CT-03", words="172.17.0.3",
)  # fmt: skip
def another_container_was_first(world: World) -> Iterator[None]:
    start = f"docker run -d --name first {world.lab.base_image} sleep 3600"
    with world.changed(world.machine().host, start, "docker rm -f first"):
        yield


@fault(
    "bridge-without-its-address", "docker0 has lost its address", CONTAINER,
    red="CT-01", open_=OF_CT1, words="docker0 does not have",
)  # fmt: skip
def bridge_without_its_address(world: World) -> Iterator[None]:
    address = "172.17.0.1/16"
    take, give = (
        f"sudo ip address del {address} dev docker0",
        f"sudo ip address add {address} brd + dev docker0",
    )
    with world.changed(world.machine().host, take, give):
        yield


@fault(
    "vm-drops-ping", "The VM answers no ping", CONTAINER, red="CT-05", words="natvm ignores pings",
)  # fmt: skip
def vm_drops_ping(world: World) -> Iterator[None]:
    with world.changed(world.machine().host, f"{IGNORE}=1", f"{IGNORE}=0"):
        yield
