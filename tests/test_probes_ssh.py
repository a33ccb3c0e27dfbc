"""Connections over SSH: real servers that are late, refuse, change, hang and vanish."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

import paramiko
import pytest

from probes.host import CommandTimeout, HostError, LocalHost, SshHost
from probes.ssh import session
from tests.probes_world import (
    Node,
    SshServer,
    alive,
    descendants,
    dropbear,
    free_port,
    keypair,
    link,
    needs_root,
    nodes,
    openssh,
    until,
)

pytestmark = needs_root

T = TypeVar("T")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    with openssh(tmp_path) as made:
        yield made


def within(seconds: float, work: Callable[[], T]) -> T:
    """The work's result; fails the test instead of hanging it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result(seconds)


@pytest.mark.parametrize("kind", [openssh, dropbear])
def test_one_connection_carries_all_shells(kind: Callable[[Path], SshServer], tmp_path: Path) -> None:
    with kind(tmp_path) as server, server.host() as host:  # type: ignore[attr-defined]
        host.wait_ready(10)
        with ThreadPoolExecutor(6) as threads:
            said = list(threads.map(lambda _: host.run("echo $SSH_CONNECTION; sleep 0.1").stdout, range(12)))
        assert len(set(said)) == 1
        sock = host.transport().sock
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize("kind", [openssh, dropbear])
def test_the_host_key_is_learned_and_kept(kind: Callable[..., SshServer], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with ExitStack() as stack:
        server = stack.enter_context(kind(first))  # type: ignore[arg-type]
        port = server.port
        host = stack.enter_context(server.host())
        assert host.public_host_key is None
        assert host.run("true").succeeded
        assert host.public_host_key == server.host_key
        with server.host(host_key=server.host_key + " comment") as expecting:
            assert expecting.run("true").succeeded
        server.stop()
        shutil.copy(first / "id", second / "id")
        shutil.copy(first / "id.pub", second / "id.pub")
        host.disconnect()
        other = stack.enter_context(kind(second, port))  # type: ignore[arg-type]
        with pytest.raises(HostError, match=re.escape(f"is another host: its key is {other.host_key}")):
            host.run("true")
        with other.host(host_key=other.host_key) as fresh:
            assert fresh.run("true").succeeded


def test_an_unexpected_host_key_is_refused_before_the_login(server: SshServer) -> None:
    with (
        server.host(host_key=keypair(server.key.parent / "other")) as host,
        pytest.raises(HostError, match="is another host"),
    ):
        host.run("true")
    assert "Accepted" not in server.log.read_text()


class _Refusing(paramiko.ServerInterface):
    """Ends the first sessions that it has opened, and runs nothing in the others."""

    def __init__(self, ends: int) -> None:
        self.ends = ends
        self.asked = 0

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.asked += 1
        return self.asked > self.ends


@pytest.mark.parametrize(("ends", "asked"), [(0, 1), (1, 2), (2, 3), (9, 3)])
def test_a_session_that_the_server_ends_at_once_is_asked_for_again(ends: int, asked: int) -> None:
    key = paramiko.ECDSAKey.generate()
    refusing = _Refusing(ends)
    ours, its = socket.socketpair()
    with ExitStack() as stack:
        server = paramiko.Transport(its)
        stack.callback(server.close)
        server.add_server_key(key)
        server.start_server(threading.Event(), refusing)
        client = paramiko.Transport(ours)
        stack.callback(client.close)
        client.connect(username="root", pkey=key)
        if asked > ends:
            assert not session(client, "true", 10).closed
        else:
            with pytest.raises(paramiko.SSHException, match="Channel closed"):
                session(client, "true", 10)
    assert refusing.asked == asked


def test_a_malformed_host_key_is_refused(server: SshServer) -> None:
    with pytest.raises(ValueError, match="a host key is two words"):
        server.host(host_key="AAAA")


def test_a_refused_login_is_told(server: SshServer) -> None:
    keypair(server.key.parent / "other")
    with server.host(key=server.key.parent / "other") as host:
        with pytest.raises(HostError, match=r"login as root refused by root@127.0.0.1 port"):
            host.run("true")
        with pytest.raises(
            HostError, match=r"no login as root@127.0.0.1 .* \([2-9] tries\); last: .*refused"
        ):
            host.wait_ready(1)


def test_the_users_own_keys_and_agent_are_not_used(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "home/.ssh"
    keys.mkdir(parents=True)
    shutil.copy(server.key, keys / "id_ed25519")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with server.host(key=None, password="wrong") as host, pytest.raises(HostError, match="refused"):
        host.run("true")
    with server.host() as host:
        host.run("true")
    assert list(keys.iterdir()) == [keys / "id_ed25519"]


def test_neither_key_nor_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither key nor password"):
        SshHost("vm", "127.0.0.1", "root")
    with pytest.raises(HostError, match=r"cannot read the key .*/absent: .*No such file"):
        SshHost("vm", "127.0.0.1", "root", tmp_path / "absent")
    (tmp_path / "broken").write_text("not a key")
    with pytest.raises(HostError, match="cannot read the key"):
        SshHost("vm", "127.0.0.1", "root", tmp_path / "broken")


def test_a_key_may_be_given_as_an_object(server: SshServer) -> None:
    with server.host(key=paramiko.PKey.from_path(server.key)) as host:
        assert host.run("true").succeeded


def test_wait_ready_outlasts_a_late_server_and_a_late_key(tmp_path: Path) -> None:
    port = free_port()
    keypair(tmp_path / "id")
    (tmp_path / "authorized_keys").write_text("")
    with SshHost("vm", "127.0.0.1", "root", tmp_path / "id", port) as host, ThreadPoolExecutor(1) as thread:
        ready = thread.submit(host.wait_ready, 30)
        threading.Event().wait(0.6)
        assert not ready.done()
        with openssh(tmp_path, port) as server:
            until(
                lambda: "Connection closed by authenticating user" in server.log.read_text(),
                "a refused login",
            )
            assert not ready.done()
            (tmp_path / "authorized_keys").write_text((tmp_path / "id.pub").read_text())
            ready.result(30)
            assert host.run("echo ready").stdout == "ready\n"


def test_wait_ready_tells_the_last_reason() -> None:
    port = free_port()
    with (
        SshHost("vm", "127.0.0.1", "root", password="x", port=port) as host,
        pytest.raises(
            HostError, match=rf"vm: no login as root@127.0.0.1 port {port} within 0.6 s .*Connection refused"
        ),
    ):
        host.wait_ready(0.6)


def test_a_server_that_never_greets_does_not_hang_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.ssh._BANNER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        with SshHost("vm", "127.0.0.1", "root", password="x", port=port) as host:
            with pytest.raises(HostError, match="banner"):
                within(20, lambda: host.run("true"))
            with pytest.raises(HostError, match="banner"):
                within(30, lambda: host.wait_ready(1))


def test_something_that_is_no_ssh_server_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            peer, _ = web.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 200)

        threading.Thread(target=answer, daemon=True).start()
        with (
            SshHost("vm", "127.0.0.1", "root", password="x", port=web.getsockname()[1]) as host,
            pytest.raises(HostError, match=r"vm: root@127.0.0.1 port"),
        ):
            within(20, lambda: host.run("true"))


def test_a_server_killed_in_the_middle_is_noticed_at_once(server: SshServer) -> None:
    with server.host() as host, ThreadPoolExecutor(1) as thread:
        parent = int(host.run("echo $PPID").stdout)
        asleep = thread.submit(host.run, "sleep 4711", timeout=60)
        until(lambda: bool(_sleeping(descendants(parent))), "the command")
        os.kill(parent, signal.SIGKILL)
        with pytest.raises(HostError, match=r"ended while it ran"):
            asleep.result(30)
        assert host.run("echo again").stdout == "again\n"


def _sleeping(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0004711\0":
                found.append(pid)
    return found


def test_a_rebooted_host_is_reached_anew(tmp_path: Path) -> None:
    with ExitStack() as first:
        server = first.enter_context(openssh(tmp_path))
        host = first.enter_context(server.host())
        assert host.run("true").succeeded
        server.stop()
        with pytest.raises(HostError, match="Connection refused"):
            host.run("true")
        with openssh(tmp_path, server.port):
            host.wait_ready(10)
            assert host.run("echo again").stdout == "again\n"


def test_a_way_through_another_host(server: SshServer, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    with dropbear(inside) as inner, server.host("jump") as jump, inner.host("inner", via=jump) as host:
        host.wait_ready(10)
        port = host.run("echo $SSH_CONNECTION").stdout.split()[3]
        assert port == str(inner.port)
        assert str(host) == f"root@127.0.0.1 port {inner.port} via jump"
        with (
            SshHost("absent", "127.0.0.1", "root", inner.key, free_port(), via=jump) as absent,
            pytest.raises(
                HostError, match=r"absent: root@127.0.0.1 port \d+ via jump: jump says: Connect failed"
            ),
        ):
            absent.run("true")
        assert host.run("true").succeeded


def test_closing_leaves_nothing_on_the_server(server: SshServer) -> None:
    host = server.host()
    shell = int(host.run("echo $$").stdout)
    host.close()
    until(lambda: not alive(shell), "the shell gone")
    with pytest.raises(HostError, match="vm: closed"):
        host.run("true")
    with pytest.raises(HostError):
        host.wait_ready(0.5)


def test_paramiko_says_nothing_of_its_own(server: SshServer, capfd: pytest.CaptureFixture[str]) -> None:
    keypair(server.key.parent / "other")
    with server.host(key=server.key.parent / "other") as host, pytest.raises(HostError):
        host.wait_ready(0.5)
    with server.host(port=free_port()) as host, pytest.raises(HostError):
        host.run("true")
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_a_dead_host_costs_one_time_out_and_not_one_for_each_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.ssh._BANNER", 0.5)
    tried = []
    with socket.create_server(("127.0.0.1", 0)) as mute:

        def count() -> None:
            with suppress(OSError):
                while True:
                    tried.append(mute.accept())

        threading.Thread(target=count, daemon=True).start()
        with SshHost("vm", "127.0.0.1", "root", password="x", port=mute.getsockname()[1]) as host:
            with ThreadPoolExecutor(6) as threads:
                failed = [threads.submit(host.run, "true") for _ in range(6)]
                reasons = [str(f.exception(30)) for f in failed]
            assert len(set(reasons)) == 1
            assert "banner" in reasons[0]
        assert len(tried) < 6
    for peer, _ in tried:
        peer.close()


def test_shells_opened_and_closed_leave_no_descriptors(server: SshServer) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    with server.host() as host, LocalHost() as local:
        host.run("true")
        local.run("true")
        before = descriptors()
        for each in (host, local):
            for _ in range(5):
                with pytest.raises(HostError):
                    each.run("kill -9 $$; :")
                each.run("true")
        assert descriptors() <= before + 2


@pytest.fixture
def far(tmp_path: Path) -> Iterator[tuple[Node, Node, SshServer]]:
    """A client and a server in namespaces, 10.0.1.1 and 10.0.1.2."""
    with nodes("client", "server") as (client, server):
        link(client, "10.0.1.1/24", server, "10.0.1.2/24")
        with openssh(tmp_path, 22022, node=server) as ssh:
            yield client, server, ssh


def entered(node: Node, work: Callable[[], T], seconds: float = 60.0) -> T:
    """Does the work in a thread that is in the node's network: its sockets are the node's."""

    def enter_and_work() -> T:
        with Path(f"/proc/{node.pid}/ns/net").open() as space:
            if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), 0x40000000):
                raise OSError(ctypes.get_errno(), "setns")
        return work()

    return within(seconds, enter_and_work)


def test_a_host_that_vanishes_without_a_word_is_given_up(
    far: tuple[Node, Node, SshServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server, ssh = far
    monkeypatch.setattr("probes.ssh._ANSWER", 1.0)
    monkeypatch.setattr("probes.pool._CLEANUP", 1.0)
    host = ssh.host(address="10.0.1.2", connect_timeout=1.0)

    def use() -> None:
        assert host.run("echo here").stdout == "here\n"
        server.sh("ip link set client down")
        with pytest.raises(HostError, match="does not answer"):
            host.run("true")
        with pytest.raises(
            HostError, match=r"10.0.1.2 port 22022: (no answer to the TCP connection in 1 s|No route)"
        ):
            host.run("true")
        server.sh("ip link set client up")
        host.wait_ready(20)
        assert host.run("echo back").stdout == "back\n"

    with host:
        entered(client, use)


def test_a_host_that_vanishes_while_a_command_runs_is_noticed_before_its_time_out(
    far: tuple[Node, Node, SshServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server, ssh = far
    monkeypatch.setattr("probes.ssh._KEEPALIVE", 1)
    monkeypatch.setattr("probes.ssh._UNACKNOWLEDGED_MS", 1500)
    host = ssh.host(address="10.0.1.2")

    def use() -> None:
        assert host.run("true").succeeded
        threading.Timer(0.5, lambda: server.sh("ip link set client down")).start()
        with pytest.raises(HostError, match="ended while it ran") as lost:
            host.run("sleep 4711", timeout=500)
        assert not isinstance(lost.value, CommandTimeout)

    with host:
        entered(client, use)
