"""Groups of students on the embedded lab: a project each, and the two-network application built in it as they would."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from probes.host import SshHost
from provision.box import runtime
from provision.calculator.deploy import deploy, program
from provision.cloud import Cloud
from provision.deployment import Deployment
from provision.entrances import enter, set_routes, wait_ready
from provision.lab import Lab
from provision.openstack import apply
from provision.runs import Key, make_key
from provision.topology import Topology

TOPOLOGY = Path(__file__).resolve().parent.parent / "labs" / "topologies" / "two-networks.json"
BOOTED = 300.0
RUN = "students"


@dataclass
class Group:
    """A group's project, and what it built there.

    Attributes:
        cloud: logged in as the group's user.
        key: opens its guests.
    """

    name: str
    cloud: Cloud
    key: Key
    topology: Topology
    deployment: Deployment
    hosts: dict[str, SshHost]

    def entered(self) -> dict[str, SshHost]:
        """Its guests, connected anew."""
        return enter(self.topology, self.deployment, self.cloud.lab.login, self.key.file)

    @property
    def network(self) -> Any:
        return self.cloud.api.network


@dataclass(frozen=True)
class Variation:
    """How a group's work differs from the document.

    Attributes:
        texts: replaced in the document's text: addresses, ports.
        names: what the group calls its things, by the document's names.
        after: done when all stands: what the group did otherwise.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[Group], None] = lambda _group: None


class Course:
    """The projects of a course, made with the administrator's rights and removed with them.

    Args:
        folder: for clouds.yaml and the keys.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        box = runtime.running()
        assert box is not None, "the box is not up"
        self._student = yaml.safe_load(box.clouds_yaml.read_text())["clouds"]["labproof-box"]
        admin = replace(Lab.load("box"), cloud="labproof-box-admin")
        self._admin = Cloud.connect(admin, box.data / "clouds-admin.yaml").api
        self._entries: dict[str, Any] = {}
        self._made: list[tuple[Any, Any, Cloud]] = []

    @property
    def clouds_file(self) -> Path:
        return self.folder / "clouds.yaml"

    def enrol(self, name: str) -> Cloud:
        """Gives a group a project, a plain user, and its entry in clouds.yaml; returns its cloud."""
        identity, password = self._admin.identity, secrets.token_hex(12)
        project = identity.create_project(name=name, domain_id="default")
        user = identity.create_user(
            name=name, password=password, domain_id="default", default_project_id=project.id
        )
        identity.assign_project_role_to_user(project, user, identity.find_role("member"))
        auth = {**self._student["auth"], "username": name, "password": password, "project_name": name}
        self._entries[name] = {**self._student, "auth": auth}
        with open(self.clouds_file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            yaml.safe_dump({"clouds": self._entries}, file)
        cloud = Cloud.connect(replace(Lab.load("box"), cloud=name, clouds_file=self.clouds_file))
        self._made.append((project, user, cloud))
        return cloud

    def build(self, name: str, cloud: Cloud, variation: Variation) -> Group:
        """The two-network application in a group's project: networks, routers, VMs, route, services."""
        text = TOPOLOGY.read_text()
        for old, new in variation.texts.items():
            text = text.replace(old, new)
        document = json.loads(text)
        # as the lab asks for the group; the topology leaves this out, for a check that students do not make
        within = {"direction": "ingress", "remote": "group:lab"}
        document["security_groups"][0]["rules"] += [within, {**within, "ethertype": "IPv6"}]
        topology = Topology.from_json(document)
        key = make_key(self.folder / f"{name}.key")
        deployment = apply(cloud, topology, RUN, key_public=key.public)
        hosts = enter(topology, deployment, cloud.lab.login, key.file)
        for host in topology.hosts:  # the first is the door to the others
            wait_ready(cloud, deployment, hosts[host.name], BOOTED)
            set_routes(host, hosts[host.name])
        deploy(topology, hosts, lambda host: str(deployment.hosts[host].address), program(cloud.lab))
        group = Group(name, cloud, key, topology, deployment, hosts)
        rename(group, variation.names)
        variation.after(group)
        for each in reversed([*hosts.values()]):
            each.close()
        return group

    def remove(self) -> None:
        """Everything of every group, then its user and project."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda made: made[2].api.project_cleanup(wait_timeout=300), self._made))
        for project, user, _ in self._made:
            self._admin.identity.delete_user(user)
            self._admin.identity.delete_project(project)


def rename(group: Group, names: Mapping[str, str]) -> None:
    """Gives everything the group's own names, and takes this project's marks off it: nothing is known by them."""
    made, network = group.deployment, group.network

    def name(thing: str) -> str:
        return names.get(thing, f"{group.name}-{thing}")

    for thing, each in made.networks.items():
        network.update_network(each.id, name=name(thing), description="")
        network.update_subnet(each.subnet_id, name=name(thing), description="")
        network.set_tags(network.get_network(each.id), [])
    for thing, router in made.routers.items():
        network.update_router(router.id, name=name(thing), description="")
        network.set_tags(network.get_router(router.id), [])
    for thing, security_group in made.security_groups.items():
        network.update_security_group(security_group.id, name=name(thing), description="")
        network.set_tags(network.get_security_group(security_group.id), [])
    for port in network.ports(project_id=group.cloud.project):
        network.update_port(port, name="", description="")
        network.set_tags(port, [])
    for floating in network.ips(project_id=group.cloud.project):
        network.update_ip(floating, description="")
        network.set_tags(floating, [])
    compute = group.cloud.api.compute
    for thing, host in made.hosts.items():
        compute.update_server(host.server_id, name=name(thing))
        compute.delete_server_metadata(host.server_id, [*compute.get_server(host.server_id).metadata])
        done = group.hosts[thing].run("sudo -n hostname %s", name(thing).lower())
        assert done.succeeded, done.stderr
