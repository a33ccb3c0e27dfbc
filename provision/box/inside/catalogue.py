"""Fills the cloud: ``services`` (users and endpoints of the services), then ``lab`` (what a lab finds there).

Runs once, at build time, on the box's own openstacksdk.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import openstack
from secrets_file import secrets

ENDPOINTS = (
    ("glance", "image", "http://{}:9292"),
    ("placement", "placement", "http://{}:8778"),
    ("nova", "compute", "http://{}:8774/v2.1"),
    ("neutron", "network", "http://{}:9696"),
)
# The lab's own flavors, memory scaled by 3/8 and disks by 1/2: ratios and refusals are the same. `huge` is
# there to be refused: it is beyond the quota of the lab's project.
FLAVORS = (
    *(("nano", 1, 192, 4), ("tiny", 1, 192, 5), ("small2", 1, 384, 10), ("small", 1, 1536, 10)),
    *(("medium", 2, 768, 20), ("large", 2, 1536, 20), ("huge", 64, 12288, 20)),
)
QUOTA = {"instances": 24, "cores": 40, "ram": 10240}
GUEST = Path("/box/image")


def connect() -> openstack.connection.Connection:
    return openstack.connect(
        auth_url="http://127.0.0.1:5000/v3",
        username="admin",
        password=secrets()["ADMIN_PASSWORD"],
        project_name="admin",
        user_domain_name="Default",
        project_domain_name="Default",
        region_name="RegionOne",
        interface="internal",
    )


def make_services(cloud: openstack.connection.Connection) -> None:
    identity = cloud.identity
    project = identity.create_project(name="service", domain_id="default")
    admin = identity.find_role("admin")
    for name, kind, url in ENDPOINTS:
        user = identity.create_user(
            name=name,
            password=secrets()["SERVICE_PASSWORD"],
            domain_id="default",
            default_project_id=project.id,
        )
        identity.assign_project_role_to_user(project, user, admin)
        service = identity.create_service(name=name, type=kind)
        for interface in ("public", "internal", "admin"):
            host = "192.168.37.5" if interface == "public" else "127.0.0.1"
            identity.create_endpoint(
                service_id=service.id, interface=interface, region_id="RegionOne", url=url.format(host)
            )


def make_lab(cloud: openstack.connection.Connection) -> None:
    identity = cloud.identity
    project = identity.create_project(
        name="lab", domain_id="default", description="the project the suites use"
    )
    for name, role in (("student", "member"), ("reader", "reader")):
        user = identity.create_user(
            name=name,
            password=secrets()[f"{name.upper()}_PASSWORD"],
            domain_id="default",
            default_project_id=project.id,
        )
        identity.assign_project_role_to_user(project, user, identity.find_role(role))
    cloud.set_compute_quotas(project.id, **QUOTA)
    for name, vcpus, ram, disk in FLAVORS:
        cloud.compute.create_flavor(name=name, vcpus=vcpus, ram=ram, disk=disk)
    public = cloud.network.create_network(
        name="public",
        provider_network_type="flat",
        provider_physical_network="public",
        is_router_external=True,
    )
    cloud.network.create_subnet(
        network_id=public.id,
        name="public",
        ip_version=4,
        cidr="192.168.37.0/24",
        gateway_ip="192.168.37.1",
        enable_dhcp=False,
        allocation_pools=[{"start": "192.168.37.20", "end": "192.168.37.199"}],
    )
    upload_guest(cloud)


def upload_guest(cloud: openstack.connection.Connection) -> None:
    guest = json.loads((GUEST / "guest.json").read_text())
    kernel = upload(cloud, "debian-kernel", "vmlinuz", "aki")
    ramdisk = upload(cloud, "debian-ramdisk", "initrd.img", "ari")
    boot = {"kernel_id": kernel, "ramdisk_id": ramdisk, **guest["properties"]}
    upload(cloud, "debian", "root.qcow2", "qcow2", min_disk=guest["min_disk"], meta=boot)


def upload(cloud: openstack.connection.Connection, name: str, file: str, kind: str, **more: object) -> str:
    """Uploads an image that everybody may use, and returns its id once it can be used.

    Raises:
        TimeoutError: it could not within a minute.
    """
    image = cloud.create_image(
        name,
        filename=str(GUEST / file),
        disk_format=kind,
        container_format="bare" if kind == "qcow2" else kind,
        visibility="public",
        **more,
    )
    end = time.monotonic() + 60
    # the upload returns before the image is active: a database shut down now would keep it "saving" for ever
    while cloud.image.get_image(image.id).status != "active":
        if time.monotonic() > end:
            raise TimeoutError(f"image {name} is not active a minute after its upload")
        time.sleep(0.1)
    return str(image.id)


if __name__ == "__main__":
    {"services": make_services, "lab": make_lab}[sys.argv[1]](connect())
