"""The host's side of a deployment: what there is of a service, and what changes it. One script a call, run as root."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from probes.host import Host
from probes.shell import CommandResult, HostError
from provision.calculator.program import Package, archive
from provision.calculator.supervisors import FOLDER, NONE, SHELL, log_file
from provision.topology import Service
from provision.topology_json import NAME

COMMAND_SECONDS = 60.0
PIECE = 256 * 1024
"""Bytes of base64 that are sent at once: an emulated guest's shell reads more than that in a second or two."""
STARTS = 3
"""A service that has been started so many times, and does not listen, is not about to."""
# Python's and Node.js's: "ModuleNotFoundError: No module named 'x'", "Error [ERR_X]: ..."
_NAMED = re.compile(r"[\w.]*(?:Error|Exception)\b.*:")
_AS_ROOT = """if [ "$(id -u)" = 0 ]; then sh -s; else sudo -n sh -s; fi <<'LABPROOF_SCRIPT'
{script}
LABPROOF_SCRIPT
"""


class DeploymentError(Exception):
    """A service is not where it should be; a line each: what was tried, what came back, what to do.

    Attributes:
        service: its name; empty if it is of the host as a whole.
        host: the host's name.
        answer: what came back; of a service that ends, its last words.
        others: failures of other services at the same time.
    """

    def __init__(
        self,
        tried: str,
        answer: str,
        advice: str,
        *,
        service: str = "",
        host: str = "",
        others: Sequence[DeploymentError] = (),
    ) -> None:
        self.tried = tried
        self.answer = answer
        self.advice = advice
        self.service = service
        self.host = host
        self.others = tuple(others)
        super().__init__("\n".join([f"{tried}: {answer}; {advice}", *map(str, others)]))


@dataclass(frozen=True)
class Seen:
    """What there is of a service on its host.

    Attributes:
        entered: whether its supervisor starts it.
        fingerprint: of what is there to be started.
        processes: process ids.
        listens: whether one of them listens on its port.
        taken: who else does, as `process 612 (python3 -m http.server)`.
        starts: how often it was started since it was deployed; counted where it does not listen.
        said: the latest lines of its log then, from the start before the last on.
    """

    entered: bool = False
    fingerprint: str = ""
    processes: tuple[int, ...] = ()
    listens: bool = False
    taken: str = ""
    starts: int = 0
    said: tuple[str, ...] = ()

    @property
    def failing(self) -> bool:
        """Whether it is beyond hope that it will listen."""
        return not self.listens and self.starts >= STARTS

    @property
    def last_words(self) -> str:
        """The line that names an error, or the last one."""
        lines = [line.strip() for line in self.said if line.strip()]
        named = [line for line in self.said if _NAMED.match(line)]
        return (named or lines or [""])[-1]

    def answer(self, port: int) -> str:
        """Why nobody can reach it, in one line."""
        why = self.last_words
        if self.starts < STARTS:
            what = f"it runs and does not listen on port {port}" if self.processes else "it has ended"
            why = f"{what}; its last words: {why}" if why else what
        elif not why:
            why = "it ends without a word"
        return f"{why}; port {port} is taken by {self.taken}" if self.taken else why


class Remote:
    """One host, for what is done to services there."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def run(self, doing: str, script: str, timeout: float = COMMAND_SECONDS) -> str:
        """Runs a script as root, the functions of :mod:`provision.calculator.supervisors` before it.

        Raises:
            DeploymentError: it could not be run, or failed.
        """
        # as one command, which the shell reads to its end before a command in it reads from the same stream
        command = _AS_ROOT.format(script=f"{SHELL}\n{{\n{script}\n}} </dev/null")
        try:
            done = self.host.run(command, timeout=timeout)
        except HostError as error:
            said = str(error).replace(command, "a script of labproof's")
            raise self.error(doing, said, "see that the host runs and lets the login in") from error
        if not done.succeeded:
            raise self._failed(doing, done)
        return done.stdout

    def _failed(self, doing: str, done: CommandResult) -> DeploymentError:
        said = " ".join(done.stderr.split()) or f"exit status {done.status}"
        advice = f"see what is wrong with {FOLDER} on {self.host.name}"
        if NONE in done.stderr:
            said = said.removeprefix(NONE)
            advice = "services need a host with systemd, or busybox init with /etc/inittab, to start them"
        elif "sudo:" in said:
            advice = "give the login sudo without a password (NOPASSWD), or log in as root"
        return self.error(doing, said, advice)

    def error(self, doing: str, answer: str, advice: str, service: str = "") -> DeploymentError:
        return DeploymentError(
            f"{doing} on {self.host.name}", answer, advice, service=service, host=self.host.name
        )

    def look(self, services: Iterable[Service], patience: float = 0.0) -> dict[str, Seen]:
        """What there is of services.

        Args:
            patience: seconds to wait for all of them to listen.
        """
        return self._asked(list(services), patience)[1]

    def survey(self, services: Iterable[Service]) -> tuple[dict[str, Seen], list[str]]:
        """The same, and the names of all services that were deployed to the host, whatever the topology says."""
        deployed, seen = self._asked(list(services))
        # the host's own words, of which some become a command's: what no service can be called is none
        return seen, [name for name in deployed.splitlines() if NAME.fullmatch(name)]

    def _asked(self, services: list[Service], patience: float = 0.0) -> tuple[str, dict[str, Seen]]:
        ports = " ".join(_hex(service.port) for service in services)
        names = " ".join(service.name for service in services)
        calls = [f"await {patience * 3:.0f} {ports}"] if patience else []
        calls += [f"ls {FOLDER} 2>/dev/null || true", f"look {ports} -- {names}"]
        said = self.run("looking at the services", "\n".join(calls), patience * 3 + COMMAND_SECONDS)
        deployed, *blocks = re.split(r"^service ", said, flags=re.MULTILINE)
        return deployed, dict(map(_seen, blocks))

    def put(self, packages: Mapping[str, Package], start: Sequence[str]) -> None:
        """Puts packages there by the services' names, and has the supervisor start the services named in `start`."""
        doing, calls = f"deploying {', '.join(start)}", []
        if packages:
            text = base64.encodebytes(archive(packages)).decode()
            unpack = f"unpack {' '.join(packages)}"
            if len(text) > PIECE:
                part = f"{FOLDER}/.part"
                self.run(doing, f"mkdir -p {FOLDER} && : >{part}")
                for at in range(0, len(text), PIECE):
                    self.run(doing, _here(f"cat >>{part}", text[at : at + PIECE]))
                calls.append(f"{unpack} <{part}; rm -f {part}")
            else:
                calls.append(_here(unpack, text))
        if start:
            calls.append(f"enter {' '.join(start)}")
        self.run(doing, "\n".join(calls))

    def start(self, service: str) -> None:
        self.run(
            f"starting {service}",
            f"entered {service} || {{ rm -f /run/labproof-{service}; enter {service}; }}",
        )

    def stop(self, service: str) -> None:
        """Ends it, and has it not started again."""
        self.run(f"stopping {service}", f"leave {service}; end {service}")

    def remove(self, services: Iterable[str]) -> None:
        """Ends services and deletes all that there is of them, their logs too."""
        if names := list(services):
            self.run(f"removing {', '.join(names)}", f"remove {' '.join(names)}")


def advice(seen: Seen, service: Service, host: str) -> str:
    """What to do about a service that does not listen."""
    words = f"{seen.last_words} {seen.taken}".lower()
    if seen.taken or "address already in use" in words or "eaddrinuse" in words:
        return (
            f"end what has port {service.port} on {host}, or give {service.name} another one in the topology"
        )
    if "not found" in words or "cannot find module" in words or "no module named" in words:
        return f"install what is missing on {host}, or name it in the lab file's calculator.files"
    return f"read {log_file(service.name)} on {host}"


def _hex(port: int) -> str:
    return f"{port:04X}"


def _here(command: str, text: str) -> str:
    """A command with a text on its standard input."""
    return f"{command} <<'LABPROOF_TEXT'\n{text.rstrip()}\nLABPROOF_TEXT"


def _seen(block: str) -> tuple[str, Seen]:
    name, *lines = block.splitlines()
    said = tuple(line[2:] for line in lines if line.startswith("| "))
    facts = dict(line.partition(" ")[::2] for line in lines if not line.startswith("|"))
    pid, _, command = facts.get("taken", "").partition(" ")
    return name, Seen(
        entered="entered" in facts,
        fingerprint=facts["fingerprint"],
        processes=tuple(map(int, facts["processes"].split())),
        listens="listens" in facts,
        taken=f"process {pid} ({' '.join(command.split())})" if pid else "",
        starts=int(facts.get("starts", "0")),
        said=said,
    )
