"""Process 1 of the box: starts the services as their needs come ready, and reaps whatever dies.

usage: init.py up | seed      (``seed`` prepares the databases first, once, at build time)

Writes /box/status.json after each change: ``{"phase", "reason", "seconds", "services": {name: {...}}}``.
Standard library alone: it runs on the box's own Python.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, "/labproof")
import control
import first
import ready
from services import BASE, CLOUD, IDENTITY, Service
from zygote import Zygotes

STATUS = Path("/box/status.json")
LOG = Path("/box/log")
DEADLINE = 180.0
SERVICES = {service.name: service for service in (*BASE, *IDENTITY, *CLOUD)}


class StartError(Exception):
    """A service could not be started: which, and the end of what it said."""


class Supervisor:
    """Starts services concurrently, each when what it needs is ready."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.lock = threading.Lock()
        self.phase, self.reason = "starting", ""
        self.pids: dict[str, int] = {}
        self.dead: dict[int, int] = {}
        self.facts: dict[str, dict[str, object]] = {}
        self.events: dict[str, threading.Event] = {}
        self.zygotes = Zygotes(self.spawn)

    def now(self) -> float:
        return round(time.monotonic() - self.began, 3)

    def publish(self, phase: str = "", reason: str = "") -> None:
        with self.lock:
            self.phase, self.reason = phase or self.phase, reason or self.reason
            status = {
                "phase": self.phase,
                "reason": self.reason,
                "seconds": self.now(),
                "services": self.facts,
            }
            scratch = STATUS.with_suffix(f".{threading.get_ident()}")
            scratch.write_text(json.dumps(status))
            scratch.replace(STATUS)

    def spawn(
        self,
        name: str,
        argv: tuple[str, ...],
        env: dict[str, str],
        stdin: int | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> int:
        """Starts a process of its own session with its output in /box/log/NAME.out; returns its pid."""
        with (LOG / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=out,
                stderr=out,
                start_new_session=True,
                pass_fds=pass_fds,
            )
        process.returncode = 0  # reaped by the main thread, like everybody else's child
        return process.pid

    def call(self, name: str, *argv: str) -> None:
        """Runs a command to its end.

        Raises:
            StartError: when it fails, with the end of its output.
        """
        pid = self.spawn(name, argv, {})
        while pid not in self.dead:
            time.sleep(0.02)
        if self.dead[pid]:
            raise StartError(f"{argv[0]} ended with status {self.dead[pid]}: {last_words(name)}")

    def start(self, services: tuple[Service, ...]) -> list[threading.Thread]:
        """Begins the start of all; each thread ends when its service is ready, or the start failed."""
        for service in services:
            self.events.setdefault(service.name, threading.Event())
        threads = [threading.Thread(target=self._run, args=(service,), daemon=True) for service in services]
        for thread in threads:
            thread.start()
        return threads

    def _run(self, service: Service) -> None:
        try:
            for need in service.needs:
                self.events[need].wait()
            if self.phase != "failed":
                self.bring(service)
        except Exception as error:  # noqa: BLE001 - whatever it is ends the start, and is told
            self.publish("failed", str(error))
        finally:
            self.events[service.name].set()

    def bring(self, service: Service) -> None:
        """Starts a service and returns when it is ready.

        Raises:
            StartError: it ended, or did not come ready in time; says which, with the end of its output.
        """
        fact: dict[str, object] = {"needs": list(service.needs), "started": self.now()}
        self.facts[service.name] = fact
        if service.zygote:
            pid = self.zygotes.fork(service.zygote, service.name, service.argv)
        else:
            pid = self.spawn(service.name, service.argv, service.env)
        self.pids[service.name] = pid
        fact["pid"] = pid
        self.publish()
        end = self.now() + DEADLINE
        while not all(answers(place) for place in service.ready.split()):
            if pid in self.dead:
                raise StartError(
                    f"{service.name} ended with status {self.dead[pid]}: {last_words(service.name)}"
                )
            if self.now() > end:
                raise StartError(f"{service.name} did not answer on {service.ready} within {DEADLINE:.0f} s")
            time.sleep(0.05)
        fact["ready"] = self.now()
        self.publish()

    def again(self, name: str) -> None:
        """Starts a service that has ended; returns when it is ready."""
        if self._pid(name) not in self.dead:
            raise StartError(f"{name} runs")
        self.bring(SERVICES[name])

    def end(self, name: str) -> None:
        """Ends a service as a crash does, with every worker it forked (its session is their group)."""
        pid = self._pid(name)
        self.signal(name, signal.SIGKILL)
        while pid not in self.dead:
            time.sleep(0.02)

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self._pid(name)
        if pid in self.dead:
            raise StartError(f"{name} does not run")
        os.killpg(pid, number)

    def _pid(self, name: str) -> int:
        if name not in self.pids:
            raise StartError(f"there is no service {name!r}; there are: {', '.join(sorted(self.pids))}")
        return self.pids[name]

    def wait_end(self, name: str, seconds: float) -> None:
        """Returns when a service has ended by itself: what it had in memory is on disk then."""
        end = time.monotonic() + seconds
        while self.pids[name] not in self.dead:
            if time.monotonic() > end:
                raise StartError(f"{name} did not end within {seconds:.0f} s")
            time.sleep(0.05)

    def reported(self, part: str) -> None:
        """Notes when the cloud itself first said that a part works."""
        self.facts.setdefault(part.removeprefix("neutron-"), {})["reported"] = self.now()

    def wait(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            thread.join()
        if self.phase == "failed":
            raise StartError(self.reason)


def last_words(name: str) -> str:
    text = (LOG / f"{name}.out").read_text(errors="replace").strip()
    return " | ".join(text.splitlines()[-4:]) or "it said nothing"


def answers(ready_when: str) -> bool:
    """Whether a service answers where it should: a bare TCP or Unix connection, or a line of HTTP."""
    kind, _, where = ready_when.partition(":")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(where)
            return True
        if kind == "queue":
            return consumed(where)
        with socket.create_connection(("127.0.0.1", int(where)), timeout=2) as connection:
            if kind == "tcp":
                return True
            connection.sendall(b"GET / HTTP/1.0\r\nHost: box\r\n\r\n")
            return connection.recv(5) == b"HTTP/"
    except OSError:
        return False


def consumed(queue: str) -> bool:
    """Whether a service takes messages from a queue: only then it answers calls (AMQP 0-9-1)."""
    from amqp import Connection
    from amqp.exceptions import AMQPError

    try:
        with Connection("127.0.0.1:5672") as connection:
            return bool(connection.channel().queue_declare(queue, passive=True).consumer_count)
    except AMQPError:
        return False


def bring_up(supervisor: Supervisor, mode: str) -> None:
    try:
        if mode == "seed":
            first.make_database(supervisor.call)
        threads = supervisor.start(BASE)
        if mode == "seed":
            supervisor.wait(threads[:1])
            first.make_schemas(supervisor.call)
        # a lab that is only started has its databases: nothing need wait for the whole of the first step
        threads += supervisor.start(IDENTITY) + supervisor.start(CLOUD if mode == "up" else ())
        if mode == "seed":
            supervisor.wait(threads)
            first.make_catalogue(supervisor.call)
            threads += supervisor.start(CLOUD)
        supervisor.wait(threads)
        ready.wait(
            lambda: supervisor.phase == "failed",
            DEADLINE - supervisor.now(),
            supervisor.began,
            supervisor.reported,
        )
        if mode == "seed":
            first.make_lab(supervisor.call)
            first.close_database(supervisor.call)
            supervisor.wait_end("mariadb", 60)
        supervisor.publish("seeded" if mode == "seed" else "up")
        control.serve(
            {
                "stop": supervisor.end,
                "start": supervisor.again,
                "pause": lambda name: supervisor.signal(name, signal.SIGSTOP),
                "resume": lambda name: supervisor.signal(name, signal.SIGCONT),
            }
        )
    except Exception as error:  # noqa: BLE001 - told to whoever waits outside
        supervisor.publish("failed", f"{error}")


def main() -> None:
    mode = sys.argv[1]
    LOG.mkdir(exist_ok=True)
    supervisor = Supervisor()
    supervisor.publish()
    supervisor.zygotes.start(("neutron", "nova"))
    threading.Thread(target=bring_up, args=(supervisor, mode), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while True:
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.2)
            continue
        supervisor.dead[pid] = os.waitstatus_to_exitcode(status)
        name = next((n for n, p in supervisor.pids.items() if p == pid), None)
        if name:
            supervisor.facts[name]["ended"] = supervisor.dead[pid]
            if supervisor.phase == "up":
                supervisor.publish()


if __name__ == "__main__":
    main()
