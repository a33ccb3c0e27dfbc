"""Servers on their way to ACTIVE or away, watched with one cheap call for all of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

from openstack.exceptions import NotFoundException, SDKException

from probes.shell import HostError
from provision.cloud import Cloud, CloudError
from provision.holdings import CloudPort, CloudServer
from provision.host_keys import ConsoleKeys
from provision.mark import Mark
from provision.waiters import SharedLook, WaitTimeout, until

EVERY = 0.5
WAKE = {"SHUTOFF": "start_server", "PAUSED": "unpause_server", "SUSPENDED": "resume_server"}


def hostname_of(server: str) -> str:
    """The name that nova gives the guest of a server of that name (``nova.utils.sanitize_hostname``)."""
    name = server.encode("latin-1", "ignore").decode("latin-1")[:63]
    name = re.sub(r"[^\w.-]+", "", re.sub(r"[ _.]", "-", name), flags=re.ASCII)
    return name.lower().strip(".-")


class Guests:
    """Waits for the servers of a mark; ``cancelled`` ends the waits."""

    def __init__(self, cloud: Cloud, mark: Mark, cancelled: threading.Event | None = None) -> None:
        self.cloud = cloud
        self.cancelled = cancelled
        name = f"^{re.escape(mark.prefix)}"
        # The list without details: with them nova asks neutron for every server's groups, at each look.
        self._building = SharedLook(lambda: self._ids(name=name, status="BUILD"), EVERY)
        self._there = SharedLook(lambda: self._ids(name=name), EVERY)

    def _ids(self, **query: str) -> set[str]:
        with self.cloud.doing("listing the servers"):
            return {server.id for server in self.cloud.api.compute.servers(details=False, **query)}

    def wait_active(self, name: str, server_id: str, within: float) -> None:
        """Until the server is ACTIVE.

        Raises:
            CloudError: it went to ERROR (with the cloud's own words), or took too long.
            WaitCancelled: something else failed.
        """

        def look() -> bool | None:
            if server_id in self._building():
                return None
            server = self.cloud.api.compute.get_server(server_id)
            if server.status == "ERROR":
                raise CloudError("fault", f"waiting for server {name}", f"it is in ERROR: {fault(server)}")
            return True if server.status == "ACTIVE" and not server.task_state else None

        try:
            until(look, within, f"server {name} to become ACTIVE", EVERY, self.cancelled)
        except WaitTimeout as error:
            state = f"{self._state(server_id)} after {within:.0f} s, and not ACTIVE"
            raise CloudError(
                "timeout",
                f"waiting for server {name}",
                state,
                "the cloud's log of its compute service tells why",
            ) from error

    def _state(self, server_id: str) -> str:
        with self.cloud.doing("reading the state of a server"):
            server = self.cloud.api.compute.get_server(server_id)
        fault_ = f": {fault(server)}" if server.status == "ERROR" else ""
        return f"still {server.status} (task: {server.task_state or 'none'}){fault_}"

    def going(self, server_id: str) -> bool:
        """Whether the cloud removes a server, or has done so: nova says so from the moment that it is asked to."""
        try:
            server = self.cloud.api.compute.get_server(server_id)
        except NotFoundException:
            return True
        return server.task_state in ("deleting", "soft-deleting") or server.status in (
            "DELETED",
            "SOFT_DELETED",
        )

    def wait_gone(self, name: str, server_id: str, within: float) -> None:
        """Until the server is no longer listed.

        Raises:
            CloudError: it is still there; says its state and fault.
        """

        def gone() -> bool | None:
            return None if server_id in self._there() else True

        try:
            until(gone, within, f"server {name} to go", EVERY, self.cancelled)
        except WaitTimeout as error:
            state = f"{self._state(server_id)} after {within:.0f} s"
            raise CloudError("timeout", f"removing server {name}", state) from error

    def repair(self, server: CloudServer, port: CloudPort | None) -> tuple[str, Callable[[], Any]] | None:
        """What brings a server back to ACTIVE on its port, in words and as a call; None if it is so.

        Raises:
            CloudError: nothing does.
        """
        api, id_ = self.cloud.api.compute, server.id
        if server.status == "ERROR":
            raise CloudError(
                "fault", f"looking at server {server.name}", f"it is in ERROR: {server.fault}",
                "destroy its topology, then apply it again",
            )  # fmt: skip
        if server.status in WAKE:
            call = getattr(api, WAKE[server.status])
            return f"{server.status}, made ACTIVE again", lambda: call(id_)
        if port is not None and port.device_id != id_:
            return "attached to its port again", lambda: api.create_server_interface(id_, port_id=port.id)
        if server.status == "BUILD" or server.task:
            return "waited for", lambda: None
        return None


def console_end(cloud: Cloud, server_id: str, lines: int = 3) -> str:
    """The last lines on a server's console, in one; what the cloud says instead, where it gives none."""
    try:
        text = str(cloud.api.compute.get_server_console_output(server_id, length=40)["output"] or "")
    except SDKException as error:
        return f"no console: {error}"
    told = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(told[-lines:]) or "nothing yet"


def host_keys(cloud: Cloud, server_id: str) -> ConsoleKeys:
    """A server's SSH host keys, by its console. A cloud that shows its users no console tells none."""

    def console() -> str:
        try:
            with cloud.doing("reading a console"):
                return str(cloud.api.compute.get_server_console_output(server_id)["output"] or "")
        except CloudError as error:
            if error.passing:
                raise HostError(f"its console cannot be read now: {error.answer}") from error
            return ""

    return ConsoleKeys(console)


def fault(server: Any) -> str:
    """The cloud's own words on a server in ERROR."""
    return str((getattr(server, "fault", None) or {}).get("message") or "the cloud gives no reason")
