"""Which services answer where, and where they log: against real processes of this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from probes.host import LocalHost
from probes.observation import Outcome, evidence
from probes.services import log_of, log_path, open_ports, services_in, who_answers

LISTENER = """
import socket, sys, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], file=sys.stderr, flush=True)
time.sleep(60)
"""


@pytest.fixture
def here() -> Iterator[LocalHost]:
    with LocalHost("here") as host:
        yield host


def answering(answer: str, stack: ExitStack) -> int:
    """A server that gives every POST the same answer; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.rfile.read(int(self.headers["Content-Length"])) == b"9 3"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server.server_port


def test_who_answers_is_known_by_the_number(here: LocalHost) -> None:
    with ExitStack() as stack:
        answers = {
            "12\n": "sum",
            "6.0": "sub",
            " 27\r\n": "mul",
            "3": "div",
            "4": "",
            "<html>": "",
            "3.5": "",
            "NaN": "",
        }
        ports = {answering(text, stack): name for text, name in answers.items()}
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = closed.getsockname()[1]
        seen = who_answers(here, "127.0.0.1", [*ports, nobody]).look()
    assert seen.outcome is Outcome.SEEN
    assert services_in(seen) == {port: name for port, name in ports.items() if name}


def test_open_ports_are_those_that_take_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, evidence.collect() as seen:
        port = server.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as closed:
            other = closed.getsockname()[1]
        assert open_ports("127.0.0.1", [other, port]) == [port]
    assert open_ports("127.0.0.1", []) == []
    assert seen[0].output == f"open: {port}"


@pytest.mark.parametrize("to_file", [True, False])
def test_a_log_is_where_the_process_that_listens_writes(
    here: LocalHost, tmp_path: Path, to_file: bool
) -> None:
    log = tmp_path / "the log"
    with log.open("w") as out:
        stdout = out if to_file else subprocess.DEVNULL
        process = subprocess.Popen(
            [sys.executable, "-c", LISTENER], stdout=stdout, stderr=subprocess.PIPE, text=True
        )
    try:
        assert process.stderr is not None
        port = int(process.stderr.readline())
        assert log_path(log_of(here, port).look()) == (str(log) if to_file else "")
    finally:
        process.kill()
        process.communicate()
    assert log_path(log_of(here, port).look()) == ""


def test_sudo_is_asked_once_where_root_alone_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a host cannot resolve its own name each sudo takes seconds."""
    for name, text in {
        "ss": 'test -n "$ROOT" && exec /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin ss "$@"',
        "sudo": f'echo asked >> {tmp_path}/asked; [ "$1" = -n ] && shift; ROOT=yes exec "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", LISTENER], stdout=out, stderr=subprocess.PIPE, text=True
        )
    try:
        assert process.stderr is not None
        port = int(process.stderr.readline())
        with LocalHost("here") as host:
            assert log_path(log_of(host, port).look()) == str(log)
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "asked").read_text() == "asked\n"
