"""Keeps a run that is to change nothing from changing anything: of what is sent to the cloud only looks go out, counted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import BaseAdapter

from probes.host import CommandResult, SshHost
from probes.shell import HostError

READS = ("GET", "HEAD")
LOGIN = "/auth/tokens"
LOCKED = "cannot be entered"


class WriteRefusedError(Exception):
    """Something was about to be changed where nothing may be; it was not sent."""


@dataclass
class Tally:
    """What was asked of a lab. Safe to use from several threads.

    Attributes:
        reads: requests to the API that only look.
        logins: tokens asked of the identity API.
        writes: requests that change something; none is let out.
        refused: those that were about to go out.
        commands: run in guests.
    """

    reads: int = 0
    logins: int = 0
    writes: int = 0
    refused: int = 0
    commands: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def count(self, what: str) -> None:
        """One more of an attribute."""
        with self._lock:
            setattr(self, what, getattr(self, what) + 1)

    def as_facts(self) -> dict[str, int]:
        """Plain values, for a run file."""
        return {each: getattr(self, each) for each in ("reads", "logins", "writes", "refused", "commands")}


def watch(api: Any, tally: Tally) -> None:
    """Has an openstacksdk connection count what it sends, and refuse what would change anything.

    All of the SDK's services, and keystoneauth's own retries and redirections, send through the adapters of one session
    of requests; they are replaced.

    Raises:
        WriteRefusedError: later, by whatever is about to send a request that is neither GET nor HEAD nor a login.
    """
    session: requests.Session = api.session.session
    auth_url = str(api.config.config.get("auth", {}).get("auth_url", ""))
    for prefix, adapter in list(session.adapters.items()):
        session.mount(prefix, _Watched(adapter, tally, auth_url))


class _Watched(BaseAdapter):
    """A transport that lets looks out alone."""

    def __init__(self, adapter: BaseAdapter, tally: Tally, auth_url: str) -> None:
        super().__init__()
        self._adapter = adapter
        self._tally = tally
        self._identity = urlsplit(auth_url).netloc

    def send(self, request: requests.PreparedRequest, *words: Any, **options: Any) -> requests.Response:
        method, url = request.method or "", urlsplit(request.url or "")
        if method in READS:
            self._tally.count("reads")
        elif method == "POST" and url.path.endswith(LOGIN) and url.netloc == self._identity:
            self._tally.count("logins")
        else:
            self._tally.count("refused")
            raise WriteRefusedError(
                f"{method} {url.scheme}://{url.netloc}{url.path}: was not sent, for a run with --attach changes nothing"
            )
        return self._adapter.send(request, *words, **options)

    def close(self) -> None:
        self._adapter.close()


class CountedHost(SshHost):
    """A guest over SSH whose commands are counted."""

    tally: Tally

    def run(self, command: str, *args: object, timeout: float = 10.0) -> CommandResult:
        self.tally.count("commands")
        return super().run(command, *args, timeout=timeout)


class LockedHost(SshHost):
    """A guest that cannot be entered; whatever is to be run there is not, with the reason."""

    def __init__(self, name: str, address: str, why: str) -> None:
        super().__init__(name, address, "nobody", password="")
        self._why = why

    def _logged_in(self, tcp: float, login: float) -> Any:
        raise HostError(f"{self.name} {LOCKED}: {self._why}")


def counted(tally: Tally) -> Callable[..., SshHost]:
    """Makes guests as :class:`probes.host.SshHost` does, whose commands are counted."""

    def made(name: str, address: str, user: str, key: Path, *, via: SshHost | None = None) -> SshHost:
        host = CountedHost(name, address, user, key, via=via)
        host.tally = tally
        return host

    return made
