"""Operations on servers beside the topologies': make, stop, start, snapshot, resize. Each waits with a limit."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openstack import exceptions

from probes.ending import check, pause
from provision.cloud import Cloud
from provision.guests import fault
from provision.journal import Journal

POLL = 0.5
# os-instance-actions tells what became of an operation that the API had accepted; since 2.84 also why
ACTIONS = "2.84"


class ServerError(Exception):
    """An operation on a server did not come to its end: which, what the cloud said, how long it was given."""


def refused(status: int | None) -> bool:
    """Whether the cloud said no to what it was asked; else it could not be asked, and nothing follows from that."""
    status = status or 0
    # to a disk that is too small some releases say 500
    return 400 <= status <= 500 and status not in {401, 429}


@dataclass(frozen=True)
class Refusal:
    """The cloud's no to a request.

    Attributes:
        status: HTTP status of the refusal; None where the request was accepted and given up later.
        text: the cloud's own words.
    """

    status: int | None
    text: str


@dataclass(frozen=True)
class Servers:
    """Makes and changes servers on a cloud, named as the run's so that they are removed with it.

    Attributes:
        cloud: where.
        run: the run's id.
        key: file of the private key that they are entered with.
        public_key: the public one.
        journal: gets what is about to be made, before it is.
    """

    cloud: Cloud
    run: str
    key: Path
    public_key: str
    journal: Journal | None = None

    @property
    def compute(self) -> Any:
        return self.cloud.api.compute

    def name(self, what: str) -> str:
        return f"labproof-{self.run}-{what}"

    def find(self, what: str) -> Any | None:
        """The server of that name, or None."""
        with self.cloud.doing(f"looking for server {self.name(what)}"):
            return self.compute.find_server(self.name(what))

    def keypair(self) -> str:
        """Name of the run's key on the cloud, put there at the first use."""
        name = self.name("servers")
        with self.cloud.doing(f"keypair {name}"):
            if self.compute.find_keypair(name) is None:
                self._intend("keypair", name)
                self.compute.create_keypair(name=name, public_key=self.public_key)
                self._made("keypair", name, name)
        return name

    def spare_ip(self, what: str) -> Any:
        """A floating IP that leads nowhere; it is not among those that :meth:`remove_all` removes."""
        name = self.name(what)
        self._intend("floating IP", name)
        with self.cloud.doing(f"floating IP {name}"):
            made = self.cloud.api.network.create_ip(
                floating_network_id=self.cloud.external_network(), description=name
            )
        self._made("floating IP", name, made.id)
        return made

    def _intend(self, kind: str, name: str) -> None:
        if self.journal:
            self.journal.intend(kind, name)

    def _made(self, kind: str, name: str, id: str) -> None:  # noqa: A002
        if self.journal:
            self.journal.made(kind, name, id)

    def create(
        self,
        what: str,
        network_id: str,
        *,
        flavor: str,
        image_id: str | None = None,
        security_groups: tuple[str, ...] = (),
        user_data: str = "",
    ) -> Any:
        """Asks for a server and returns at once.

        Raises:
            CloudError: the cloud refused, or could not be asked.
        """
        cloud = self.cloud
        wanted: dict[str, Any] = {
            "name": self.name(what),
            "image_id": image_id or cloud.image().id,
            "flavor_id": cloud.flavor(flavor).id,
            "networks": [{"uuid": network_id}],
            "key_name": self.keypair(),
            "metadata": {"labproof_run": self.run, "labproof_by": self.name("")},
        }
        if security_groups:
            wanted["security_groups"] = [{"name": group} for group in security_groups]
        if user_data:
            wanted["user_data"] = base64.b64encode(user_data.encode()).decode()
        check(f"making server {wanted['name']}")
        self._intend("server", wanted["name"])
        with self.cloud.doing(f"asking for server {wanted['name']}"):
            made = self.compute.create_server(**wanted)
        self._made("server", wanted["name"], made.id)
        return made

    def get(self, server: Any) -> Any:
        with self.cloud.doing(f"looking at server {server.name}"):
            return self.compute.get_server(server.id)

    def wait(self, server: Any, status: str, within: float = 180.0) -> Any:
        """The server once it has the status and no task is under way.

        Raises:
            ServerError: it went to ERROR (with the cloud's own fault), or did not come there in time.
        """
        end = time.monotonic() + within
        while True:
            late = time.monotonic() > end
            if late or self._is(server, status) or self._is(server, "ERROR"):
                seen = self.get(server)
                if seen.status == status and not seen.task_state:
                    return seen
                if seen.status == "ERROR":
                    raise ServerError(f"server {seen.name} is in ERROR: {fault(seen)}")
                if late:
                    raise ServerError(
                        f"server {seen.name} is {seen.status} (task: {seen.task_state or 'none'}) "
                        f"after {within:.0f} s, and not {status}"
                    )
            pause(POLL, f"waiting for server {server.name}")

    def _is(self, server: Any, status: str) -> bool:
        """Whether the server has a status, by the list without details: the others ask neutron at each look."""
        with self.cloud.doing(f"looking at server {server.name}"):
            found = self.compute.servers(details=False, name=f"^{server.name}$", status=status)
            return any(each.id == server.id for each in found)

    def stop(self, server: Any) -> Any:
        with self.cloud.doing(f"stopping server {server.name}"):
            self.compute.stop_server(server)
        return self.wait(server, "SHUTOFF")

    def start(self, server: Any) -> Any:
        with self.cloud.doing(f"starting server {server.name}"):
            self.compute.start_server(server)
        return self.wait(server, "ACTIVE")

    def snapshot(self, server: Any, what: str, within: float = 240.0) -> Any:
        """An image of the server, once it is active."""
        with self.cloud.doing(f"making an image of server {server.name}"):
            self._intend("image", self.name(what))
            self.compute.create_server_image(server, self.name(what), metadata={"labproof_run": self.run})
            image = self._until(
                lambda: self.cloud.api.image.find_image(self.name(what)),
                lambda image: image is not None and image.status == "active",
                f"the image {self.name(what)} was not active",
                within,
            )
            self._made("image", self.name(what), image.id)
            return image

    def resize(self, server: Any, flavor: str, within: float = 240.0) -> Any | Refusal:
        """Changes the flavor and confirms it; returns the server, or the refusal with the server as it was.

        Raises:
            ServerError: neither came within `within` seconds, or the server went to ERROR.
        """
        before = self.get(server)
        with self.cloud.doing(f"resizing server {before.name} to {flavor}"):
            try:
                self.compute.resize_server(server, self.cloud.flavor(flavor).id)
            except exceptions.HttpException as error:
                if not refused(error.status_code):
                    raise
                return Refusal(error.status_code, said(error))
        end = time.monotonic() + within
        while time.monotonic() < end:
            if self._is(server, "RESIZE"):
                pause(POLL, f"waiting for the resize of {before.name}")
                continue
            seen = self.get(server)
            if seen.status == "ERROR":
                raise ServerError(f"server {seen.name} is in ERROR after the resize: {fault(seen)}")
            if seen.status == "VERIFY_RESIZE" and not seen.task_state:
                with self.cloud.doing(f"confirming the resize of server {before.name}"):
                    self.compute.confirm_server_resize(server)
                return self.wait(server, before.status)
            # a resize that the hypervisor gives up puts the server back as it was: only its log of actions tells
            if (
                seen.status == before.status
                and not seen.task_state
                and (text := self.failed_action(server, "resize"))
            ):
                return Refusal(None, text)
            pause(POLL, f"waiting for the resize of {before.name}")
        raise ServerError(f"the resize of {before.name} to {flavor} did not end within {within:.0f} s")

    def actions(self, server: Any) -> list[dict[str, Any]]:
        """What was done to the server, newest first (API reference: os-instance-actions)."""
        with self.cloud.doing(f"reading what was done to server {server.name}"):
            answer = self.compute.get(f"/servers/{server.id}/os-instance-actions", microversion=ACTIONS)
            exceptions.raise_from_response(answer)
        actions: list[dict[str, Any]] = answer.json()["instanceActions"]
        return actions

    def failed_action(self, server: Any, kind: str) -> str:
        """Why the newest action of a kind failed, in the cloud's words; empty when it did not."""
        newest = next((action for action in self.actions(server) if action["action"] == kind), None)
        if newest is None or not newest["message"]:
            return ""
        with self.cloud.doing(f"reading what was done to server {server.name}"):
            answer = self.compute.get(
                f"/servers/{server.id}/os-instance-actions/{newest['request_id']}", microversion=ACTIONS
            )
            exceptions.raise_from_response(answer)
        events = answer.json()["instanceAction"].get("events", [])
        details = [event["details"] for event in events if event.get("details")]
        return f"{kind}: {newest['message']}" + (f" ({'; '.join(details)})" if details else "")

    def console(self, server: Any, lines: int = 400) -> str:
        """The last lines of the server's console log."""
        with self.cloud.doing(f"reading the console of server {server.name}"):
            output = self.compute.get_server_console_output(server, length=lines)
        return str(output["output"] if isinstance(output, dict) else output)

    def address(self, server: Any, network_id: str) -> str:
        """The server's address on a network."""
        with self.cloud.doing(f"looking for the address of server {server.name}"):
            ports = list(self.cloud.api.network.ports(device_id=server.id, network_id=network_id))
        if not ports or not ports[0].fixed_ips:
            raise ServerError(f"server {server.name} has no address on the network {network_id}")
        return str(ports[0].fixed_ips[0]["ip_address"])

    def remove_all(self, within: float = 120.0) -> list[str]:
        """Removes every server and image that was made here, and waits until they are gone; names what is not."""
        mine = f"labproof-{self.run}-"
        made = [
            s for s in self.compute.servers(details=True) if (s.metadata or {}).get("labproof_by") == mine
        ]
        images = [i for i in self.cloud.api.image.images(visibility="private") if i.name.startswith(mine)]
        with self.cloud.doing("removing the servers beside the topologies'"):
            for server in made:
                self.compute.delete_server(server, ignore_missing=True)
            for image in images:
                self.cloud.api.image.delete_image(image, ignore_missing=True)
            end, left = time.monotonic() + within, {server.id: server.name for server in made}
            while left and time.monotonic() < end:
                there = {server.id for server in self.compute.servers(details=False)}
                left = {id_: name for id_, name in left.items() if id_ in there}
                time.sleep(POLL if left else 0)
        return [f"server {name}" for name in left.values()]

    def _until(
        self, look: Callable[[], Any], good: Callable[[Any], bool], otherwise: str, within: float
    ) -> Any:
        end = time.monotonic() + within
        while not good(seen := look()):
            if time.monotonic() > end:
                raise ServerError(f"{otherwise} within {within:.0f} s")
            pause(POLL, otherwise)
        return seen


def said(error: exceptions.HttpException) -> str:
    """The cloud's own words in a refusal."""
    return str(getattr(error, "details", None) or error)
