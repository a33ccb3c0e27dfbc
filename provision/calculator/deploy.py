"""The calculator's services on the hosts of a topology: put there over SSH, kept running, changed, removed.

A service is a program (:mod:`provision.calculator.program`), its port, and the addresses of its backends in the
environment. What is there as asked is left alone; of what is not, the service is replaced and started again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from probes.host import Host
from provision.calculator.program import OWN, Package, Program, Programs, package, program
from provision.calculator.remote import DeploymentError, Remote, Seen, advice
from provision.calculator.supervisors import log_file, texts
from provision.topology import Service, Topology

__all__ = [
    "LISTENS_SECONDS",
    "OWN",
    "DeploymentError",
    "Program",
    "Programs",
    "Running",
    "backends",
    "deploy",
    "program",
    "remove",
    "url_of",
]

LISTENS_SECONDS = 90.0
"""That a service may take to listen: an emulated processor takes seconds to start Python or Node.js."""
PATIENCE = 2.0
Address = Callable[[str], str]
OnLine = Callable[[str], None]


def url_of(service: Service, address: Address) -> str:
    """Where other hosts of the topology reach a service.

    Args:
        address: a host's address, by its name, as the others reach it.
    """
    return f"http://{service.bind or address(service.host)}:{service.port}"


def backends(topology: Topology, service: Service | str, address: Address) -> dict[str, str]:
    """The environment that tells a service where its backends are: ``{"SUM_URL": "http://30.4.5.215:50001", ...}``."""
    called = topology.service(service) if isinstance(service, str) else service
    return {
        re.sub(r"\W", "_", f"{name.upper()}_URL"): url_of(topology.service(name), address)
        for name in called.backends
    }


@dataclass
class Running:
    """A service that was deployed, and the host that it is on.

    Attributes:
        url: as other hosts of the topology reach it.
        environment: what it is given besides PATH.
        program: what is run.
        changed: whether :func:`deploy` had to change anything for it.
    """

    service: Service
    host: Host
    url: str
    environment: dict[str, str]
    program: Program
    changed: bool = False

    @property
    def log_file(self) -> str:
        """On the host, readable by every user."""
        return log_file(self.service.name)

    def state(self) -> str:
        """``running`` (it listens on its port), ``stopped``, or ``failing: `` and why: its log's last words.

        Raises:
            DeploymentError: the host cannot be asked.
        """
        seen = self._look()
        if not seen.entered:
            return "stopped"
        return "running" if seen.listens else f"failing: {seen.answer(self.service.port)}"

    def processes(self) -> tuple[int, ...]:
        """Its process ids on the host, those of its children included."""
        return self._look().processes

    def stop(self) -> None:
        """Ends it; it is not started again, not at a reboot either, until :meth:`start` or :func:`deploy`."""
        Remote(self.host).stop(self.service.name)

    def start(self, within: float = LISTENS_SECONDS) -> None:
        """Has it started and kept running again; returns when it listens.

        Raises:
            DeploymentError: it does not within so many seconds, or ends again and again.
        """
        Remote(self.host).start(self.service.name)
        _await(self.host, [self.service], within)

    def configure(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        command: str | None = None,
        files: Iterable[Path] | None = None,
        bind: str | None = None,
        within: float = LISTENS_SECONDS,
    ) -> None:
        """Runs it otherwise than the topology says, until the next :func:`deploy`; returns when it listens.

        Args:
            environment: in place of all that it was given; the other parameters replace a part of its program each.
            bind: the only address to listen on, where the command has a place for it.

        Raises:
            DeploymentError: as :meth:`start`; what was asked for is on the host nevertheless.
        """
        self.environment = dict(self.environment if environment is None else environment)
        files = self.program.files if files is None else tuple(files)
        self.program = Program(files, self.program.command if command is None else command)
        self.service = replace(self.service, bind=bind or self.service.bind)
        Remote(self.host).put({self.service.name: self._package()}, [self.service.name])
        _await(self.host, [self.service], within)

    def _look(self) -> Seen:
        return Remote(self.host).look([self.service])[self.service.name]

    def _package(self) -> Package:
        command = self.program.started_as(self.service.name, self.service.port, self.service.bind)
        try:
            return package(self.program, texts(self.service.name, command, self.environment))
        except OSError as error:
            raise DeploymentError(
                f"reading the files of {self.service.name}", f"{error.filename}: {error.strerror}",
                "see calculator.files in the lab file", service=self.service.name, host=self.host.name,
            ) from error  # fmt: skip


def deploy(
    topology: Topology,
    hosts: Mapping[str, Host],
    address: Address,
    programs: Mapping[str, Program] = OWN,
    *,
    on_progress: OnLine | None = None,
    within: float = LISTENS_SECONDS,
) -> dict[str, Running]:
    """Has the topology's services run on its hosts, all hosts at once; returns when every service listens.

    A host whose services are as asked is not changed; one that the topology no longer has there is removed.

    Args:
        hosts: the topology's hosts by name; each login is root, or has sudo without a password.
        address: a host's address, by its name, as the other hosts reach it.
        programs: what is run, by the service's name.
        on_progress: called with a line as hosts are done; from any thread.
        within: seconds for each host's services to listen.

    Returns:
        The services by name, in the topology's order.

    Raises:
        DeploymentError: a service does not listen; says which, on which host, its last words and what to do.
    """
    wanted = [
        Running(
            service, hosts[service.host], url_of(service, address),
            backends(topology, service, address), programs[service.name],
        )
        for service in topology.services
    ]  # fmt: skip

    def one(name: str) -> None:
        began = time.monotonic()
        here = [each for each in wanted if each.service.host == name]
        changes = _deploy(hosts[name], here, within)
        if on_progress:
            names = ", ".join(each.service.name for each in here)
            what = "; ".join(changes) or f"{names} listening as before"
            on_progress(f"{name}: {what} after {time.monotonic() - began:.1f} s")

    _everywhere(one, topology)
    return {each.service.name: each for each in wanted}


def remove(topology: Topology, hosts: Mapping[str, Host]) -> None:
    """Ends the topology's services, and deletes all that there is of them on the hosts, the logs too.

    Raises:
        DeploymentError: a host could not be asked, or something stays; the others are done nevertheless.
    """

    def one(name: str) -> None:
        Remote(hosts[name]).remove(service.name for service in topology.services_of(name))

    _everywhere(one, topology)


def _everywhere(work: Callable[[str], None], topology: Topology) -> None:
    """On each host with services, all at once; raises what failed when all have ended."""
    names = list(dict.fromkeys(service.host for service in topology.services))
    if not names:
        return
    with ThreadPoolExecutor(len(names), thread_name_prefix="deploy") as pool:
        ends = [pool.submit(work, name) for name in names]
    failed = [error for end in ends if (error := end.exception())]
    for error in failed:
        if not isinstance(error, DeploymentError):
            raise error
    errors = [error for error in failed if isinstance(error, DeploymentError)]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise _together(errors)


def _together(errors: list[DeploymentError]) -> DeploymentError:
    first = errors[0]
    others = [*first.others, *errors[1:]]
    return DeploymentError(
        first.tried, first.answer, first.advice, service=first.service, host=first.host, others=others
    )


def _deploy(host: Host, wanted: list[Running], within: float) -> list[str]:
    """One host's services; returns what was changed, in words."""
    remote = Remote(host)
    packed = {each.service.name: each._package() for each in wanted}
    seen, deployed = remote.survey(each.service for each in wanted)
    stale = sorted(set(deployed) - set(packed))
    remote.remove(stale)
    new = {name: made for name, made in packed.items() if seen[name].fingerprint != made.fingerprint}
    start = [name for name in packed if name in new or not seen[name].entered]
    for each in wanted:
        each.changed = each.service.name in start
    if start:
        remote.put(new, start)
    if start or not all(each.listens for each in seen.values()):
        _await(host, [each.service for each in wanted], within)
    changes = [f"{', '.join(start)} deployed"] if start else []
    return changes + ([f"{', '.join(stale)} removed"] if stale else [])


def _await(host: Host, services: list[Service], within: float) -> None:
    """Until all of one host's services listen.

    Raises:
        DeploymentError: one does not, as soon as that is clear or after `within` seconds.
    """
    remote, deadline = Remote(host), time.monotonic() + within
    while True:
        seen = remote.look(services, PATIENCE)
        waiting = [service for service in services if not seen[service.name].listens]
        if not waiting:
            return
        over = time.monotonic() > deadline
        if over or all(seen[service.name].failing for service in waiting):
            break
    errors = [
        remote.error(
            f"starting {service.name}", seen[service.name].answer(service.port),
            advice(seen[service.name], service, host.name), service.name,
        )
        for service in waiting
    ]  # fmt: skip
    raise errors[0] if len(errors) == 1 else _together(errors)
