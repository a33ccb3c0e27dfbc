"""Networks and servers for the tests of probes: namespaces and daemons that die with the test process.

Each holder reads a pipe whose other end only this process has, so that even a killed test run leaves nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from probes.host import NamespaceHost, SshHost

HOST_PACKAGES = (
    "iproute2",
    "iputils-ping",
    "nftables",
    "curl",
    "busybox",
    "openssh-server",
    "openssh-client",
    "dropbear-bin",
    "util-linux",
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes network namespaces")


def until(ready: Callable[[], bool], what: str, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within:g} s")
        time.sleep(0.02)


@contextmanager
def child(argv: list[str], log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended with the block, whose standard input ends when this process does."""
    out = log.open("ab") if log else subprocess.DEVNULL
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)
    try:
        yield process
    finally:
        assert process.stdin
        process.stdin.close()
        process.kill()
        process.wait()
        if log:
            out.close()  # type: ignore[union-attr]


class Node:
    """A namespace with commands run in it, one at a time, and nothing assumed of the code under test."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.pid = pid
        self.prefix = ["nsenter", f"--net=/proc/{pid}/ns/net", "--"]

    def sh(self, script: str) -> str:
        done = subprocess.run(
            [*self.prefix, "sh", "-ec", script], capture_output=True, text=True, check=False, timeout=20
        )
        if done.returncode:
            raise RuntimeError(f"{self.name}: {script}: {done.stderr or done.stdout}")
        return done.stdout

    def host(self, *, prefix: tuple[str, ...] = (), shell: tuple[str, ...] = ("/bin/sh",)) -> NamespaceHost:
        return NamespaceHost(self.name, [*self.prefix, *prefix], shell=shell)


@contextmanager
def nodes(*names: str) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        made = []
        for name in names:
            holder = stack.enter_context(child(["unshare", "--net", "--", "cat"]))
            space = Path(f"/proc/{holder.pid}/ns/net")
            until(lambda s=space: s.readlink() != Path("/proc/self/ns/net").readlink(), f"namespace {name}")
            made.append(Node(name, holder.pid))
            made[-1].sh("ip link set lo up")
        yield made


def link(a: Node, a_address: str, b: Node, b_address: str) -> None:
    """A cable between two nodes, addresses with prefix lengths; an interface is named after the far node."""
    subprocess.run(
        [
            "ip",
            "link",
            "add",
            b.name,
            "netns",
            str(a.pid),
            "type",
            "veth",
            "peer",
            a.name,
            "netns",
            str(b.pid),
        ],
        check=True,
        capture_output=True,
        timeout=20,
    )
    a.sh(f"ip addr add {a_address} dev {b.name}; ip link set {b.name} up")
    b.sh(f"ip addr add {b_address} dev {a.name}; ip link set {a.name} up")


@contextmanager
def rule(node: Node, text: str) -> Iterator[None]:
    """A rule of a node's chain `input` in the table `t`; the chain is empty afterwards."""
    node.sh(f"nft add rule ip t input {text}")
    try:
        yield
    finally:
        node.sh("nft flush chain ip t input")


SERVICES = """
import http.server, socket, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    count = 0
    def do_GET(self):
        size = int(self.headers.get("Content-Length", 0))
        asked = self.rfile.read(size).decode()
        Answer.count += 1
        pages = {"/": "result = 22\\n", "/echo": f"{self.command} {asked}", "/count": f"{Answer.count}\\n"}
        said = pages.get(self.path)
        self.send_response(200 if said else 404)
        self.end_headers()
        self.wfile.write((said or "no such page\\n").encode())
    do_POST = do_PUT = do_GET
    def log_message(self, *_): pass
def listen(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port)); s.listen(50); return s
web = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Answer)
silent, hangs_up = listen(8001), listen(8002)
def close_each():
    while True:
        peer, _ = hangs_up.accept(); peer.recv(4096); peer.close()
threading.Thread(target=web.serve_forever, daemon=True).start()
threading.Thread(target=close_each, daemon=True).start()
sys.stdin.read()
"""
"""8000 answers HTTP, 8001 connects and says nothing, 8002 reads and hangs up."""


@contextmanager
def services(node: Node) -> Iterator[subprocess.Popen[bytes]]:
    with child([*node.prefix, sys.executable, "-c", SERVICES]) as process:
        until(lambda: node.sh("ss -Hltn").count(":800") == 3, f"services on {node.name}")
        yield process


@contextmanager
def triangle() -> Iterator[tuple[Node, Node, Node]]:
    """alpha (10.0.1.2) - router (10.0.1.1, 10.0.2.1) - beta (10.0.2.2), beta with services."""
    with nodes("alpha", "router", "beta") as (alpha, router, beta):
        link(alpha, "10.0.1.2/24", router, "10.0.1.1/24")
        link(beta, "10.0.2.2/24", router, "10.0.2.1/24")
        router.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
        alpha.sh("ip route add default via 10.0.1.1")
        beta.sh("ip route add default via 10.0.2.1; nft add table ip t")
        beta.sh("nft add chain ip t input '{ type filter hook input priority 0; }'")
        with services(beta):
            yield alpha, router, beta


@dataclass
class SshServer:
    """A real SSH server on the loopback that lets ``key`` in as root."""

    port: int
    key: Path
    host_key: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> None:
        """Ends it and its sessions at once."""
        end(self.process)

    def host(self, name: str = "vm", **changed: Any) -> SshHost:
        asked = {"address": "127.0.0.1", "user": "root", "key": self.key, "port": self.port, **changed}
        return SshHost(name, **asked)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def keypair(path: Path) -> str:
    """Makes path and path.pub unless they are there; the public key as two words."""
    if not path.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=20
        )
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


# In a mount namespace of their own, so that /root and /run of the machine stay as they are.
_APART = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec"]


@contextmanager
def openssh(place: Path, port: int | None = None, *, node: Node | None = None) -> Iterator[SshServer]:
    keypair(place / "id")
    host_key = keypair(place / "host_key")
    if not (place / "authorized_keys").exists():
        (place / "authorized_keys").write_text((place / "id.pub").read_text())
    port = port or free_port()
    (place / "sshd_config").write_text(
        f"Port {port}\nListenAddress {'0.0.0.0' if node else '127.0.0.1'}\n"
        f"HostKey {place}/host_key\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {place}/authorized_keys\nUsePAM no\nPermitRootLogin yes\n"
    )
    # empty: what the machine's root has its shells read is no part of a test
    (place / "home").mkdir(exist_ok=True)
    script = (
        f"mount -t tmpfs none /run; mkdir /run/sshd; mount --bind {place}/home /root; "
        f"exec /usr/sbin/sshd -D -e -f {place}/sshd_config"
    )
    prefix = node.prefix if node else []
    with _listening([*prefix, *_APART, script], port, place / "sshd.log", node) as process:
        yield SshServer(port, place / "id", host_key, process, place / "sshd.log")


@contextmanager
def dropbear(place: Path, port: int | None = None) -> Iterator[SshServer]:
    keypair(place / "id")
    home = place / "home/.ssh"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home / "authorized_keys").write_text((place / "id.pub").read_text())
    (home / "authorized_keys").chmod(0o600)
    port = port or free_port()
    made = subprocess.run(
        ["dropbearkey", "-t", "ed25519", "-f", str(place / "dropbear_key")],
        capture_output=True,
        text=True,
        check=True,
    )
    host_key = " ".join(
        next(line for line in made.stdout.splitlines() if line.startswith("ssh-")).split()[:2]
    )
    script = (
        f"chmod 700 {place} {place}/home; mount --bind {place}/home /root; "
        f"exec /usr/sbin/dropbear -F -E -r {place}/dropbear_key -p 127.0.0.1:{port} -P {place}/pid"
    )
    with _listening([*_APART, script], port, place / "dropbear.log") as process:
        yield SshServer(port, place / "id", host_key, process, place / "dropbear.log")


KEEPER = """
import ctypes, os, pathlib, signal, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: sessions that lose their server come here
def descendants(pid):
    found = []
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for one in path.read_text().split():
                found += [int(one), *descendants(int(one))]
        except OSError:
            pass
    return found
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.stdin.read()
while left := descendants(os.getpid()):
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    try:
        os.waitpid(-1, 0)
    except ChildProcessError:
        break
"""
"""Runs a server until its standard input ends, then ends all that came of it."""


@contextmanager
def _listening(
    argv: list[str], port: int, log: Path, node: Node | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with child([sys.executable, "-c", KEEPER, *argv], log) as process:
        try:
            until(lambda: listens(port, node), f"{argv[-1]}: port {port}")
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    process.stdin.close()
    process.wait(10)


def listens(port: int, node: Node | None = None) -> bool:
    argv = [*(node.prefix if node else []), "ss", "-Hltn", f"sport = :{port}"]
    return bool(subprocess.run(argv, capture_output=True, check=True, timeout=20).stdout.strip())


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for one in children.read_text().split():
                found += [int(one), *descendants(int(one))]
    return found
