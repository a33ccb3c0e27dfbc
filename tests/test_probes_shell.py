"""Long-lived shells: every kind of /bin/sh, locally and over both SSH servers, tells the same."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.host import CommandTimeout, HostError, LocalHost, NamespaceHost
from probes.pool import PooledHost
from probes.shell import LIMIT
from tests.probes_world import alive, dropbear, needs_root, openssh, until

LOCAL = {
    "dash": ("/bin/sh",),
    "bash": ("/bin/bash", "--posix"),
    "ash": ("/usr/bin/busybox", "sh"),
}
REMOTE = {"openssh": openssh, "dropbear": dropbear}


@pytest.fixture(scope="module", params=[*LOCAL, *(pytest.param(r, marks=needs_root) for r in REMOTE)])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PooledHost]:
    with ExitStack() as stack:
        if request.param in LOCAL:
            yield stack.enter_context(LocalHost(request.param, shell=LOCAL[request.param]))
        else:
            server = stack.enter_context(REMOTE[request.param](tmp_path_factory.mktemp(request.param)))
            made = stack.enter_context(server.host())
            made.wait_ready(20)
            yield made


def those_running(*command: str) -> list[int]:
    """Ids of processes with exactly this command line."""
    wanted = b"".join(word.encode() + b"\0" for word in command)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
    return found


def gone(*command: str) -> None:
    """Waits for a command line to be gone; whether it is or not, leaves none."""
    try:
        until(lambda: not those_running(*command), f"{command} gone", within=5)
    finally:
        for pid in those_running(*command):
            os.kill(pid, 9)


def test_streams_and_status_are_told_apart(host: PooledHost) -> None:
    result = host.run("echo out; echo err >&2; exit 3")
    assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)
    assert not result.succeeded
    assert (host.run("printf no-newline").stdout, host.run("printf e >&2").stderr) == ("no-newline", "e")
    assert (host.run("false").status, host.run("kill -9 $(sh -c 'echo $PPID')").status) == (1, 137)


@pytest.mark.parametrize(
    ("command", "stdout", "status"),
    [
        ("echo a # a comment", "a\n", 0),
        ("echo a; # a comment", "a\n", 0),
        ("cat <<END\nhere\nEND", "here\n", 0),
        ("for i in 1 2\ndo\n echo $i\ndone", "1\n2\n", 0),
        ("echo 'it''s \"quoted\" `not run` $HOME'", 'its "quoted" `not run` $HOME\n', 0),
        ("echo 100%", "100%\n", 0),
        ("set -e; false; echo not here", "", 1),
        ("set -u; cd /; exec echo replaced", "replaced\n", 0),
        ("trap 'echo bye' EXIT; echo hi", "hi\nbye\n", 0),
        ("cat; echo end of input", "end of input\n", 0),
        ("echo $LC_ALL", "C\n", 0),
        ("", "", 0),
        ("\n\n", "", 0),
    ],
)
def test_a_command_is_any_shell_text(host: PooledHost, command: str, stdout: str, status: int) -> None:
    result = host.run(command)
    assert (result.stdout, result.status) == (stdout, status), result


@pytest.mark.parametrize("command", ["if", "echo 'unclosed", "echo )", "case x in", "}", "cat <<X\nno end"])
def test_a_broken_command_breaks_nothing_else(host: PooledHost, command: str) -> None:
    before = host.run("echo $$").stdout
    host.run(command)
    assert host.run("echo $$").stdout == before


def test_nothing_of_a_command_is_left_to_the_next(host: PooledHost) -> None:
    host.run("cd /proc; X=1; export X; umask 0777; set -f; alias echo=false; ulimit -n 20; set -- a b")
    host.run("exec 7</dev/null")
    result = host.run('pwd; echo "<$X>"; umask; echo /etc/host*s; ulimit -n; echo $#; ls /dev/fd/')
    lines = result.stdout.splitlines()
    assert lines[0] != "/proc"
    assert lines[1] == "<>"
    assert lines[2] != "0777"
    assert lines[3] == "/etc/hosts"
    assert lines[4] != "20"
    assert "7" not in lines[6:]


def test_one_shell_serves_all_that_comes_one_after_another(host: PooledHost) -> None:
    assert len({host.run("echo $$").stdout for _ in range(20)}) == 1


def test_any_bytes_pass(host: PooledHost) -> None:
    result = host.run(
        "head -c 100000 /dev/urandom | tee /dev/stderr | od -An -tx1 | tr -d ' \\n'; printf '\\000\\377\\n'"
    )
    assert result.stdout_bytes.endswith(b"\0\xff\n")
    assert bytes.fromhex(result.stdout_bytes[:-3].decode()) == result.stderr_bytes
    assert len(result.stderr_bytes) == 100000
    assert "�" in result.stdout


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arguments_are_quoted(host: PooledHost, argument: str) -> None:
    assert host.run("printf %%s %s", argument).stdout_bytes == argument.encode()


def test_arguments_that_do_not_fit_are_refused(host: PooledHost) -> None:
    with pytest.raises(ValueError, match="2 argument"):
        host.run("echo %s", "a", "b")
    with pytest.raises(ValueError, match="NUL"):
        host.run("echo %s", "a\0b")


def test_a_long_command_passes(host: PooledHost) -> None:
    text = "y" * 2_000_000
    assert host.run(f"wc -c <<'END'\n{text}\nEND", timeout=30).stdout.strip() == "2000001"


def test_big_output_on_both_streams_is_cut_in_the_middle(host: PooledHost) -> None:
    result = host.run(
        "echo first; echo first >&2; (head -c 10000000 /dev/zero >&2) & head -c 10000000 /dev/zero; wait; "
        "echo last; echo last >&2",
        timeout=60,
    )
    for raw in (result.stdout_bytes, result.stderr_bytes):
        assert raw.startswith(b"first\n")
        assert raw.endswith(b"last\n")
        assert LIMIT < len(raw) < LIMIT + 100
        left_out = 10_000_011 - LIMIT
        assert f"\n[... {left_out} bytes left out ...]\n".encode() in raw
    assert host.run("echo next").stdout == "next\n"


def test_output_up_to_the_limit_is_whole(host: PooledHost) -> None:
    assert len(host.run(f"head -c {LIMIT} /dev/zero", timeout=30).stdout_bytes) == LIMIT


def test_a_daemon_that_keeps_the_streams_holds_nothing_up(host: PooledHost) -> None:
    pid = host.run("sleep 301 & echo $!").stdout.strip()
    try:
        assert host.run("echo next").stdout == "next\n"
        with pytest.raises(CommandTimeout):
            host.run("sleep 302", timeout=0.3)
        assert Path(f"/proc/{pid}").exists(), "a later command's time-out ended an earlier one's daemon"
    finally:
        os.kill(int(pid), 9)


def test_what_a_daemon_says_later_is_not_the_next_commands(host: PooledHost) -> None:
    host.run("(sleep 0.2; echo late; echo late >&2) & true")
    time.sleep(0.6)
    result = host.run("echo mine")
    assert (result.stdout, result.stderr) == ("mine\n", "")


def test_a_command_that_hangs_is_ended_with_all_it_started(host: PooledHost) -> None:
    mine = f"3030.{os.getpid()}"
    with pytest.raises(CommandTimeout) as late:
        host.run(
            "echo before; echo err >&2; sleep %s & (sleep %s | cat) & timeout 500 sleep %s; echo after",
            *[mine] * 3,
            timeout=0.5,
        )
    assert (late.value.stdout, late.value.stderr) == ("before\n", "err\n")
    assert "not over after 0.5 s, ended: echo before;" in str(late.value)
    gone("sleep", mine)
    assert host.run("echo next").stdout == "next\n"


def test_a_command_that_never_stops_talking_is_ended(host: PooledHost) -> None:
    word = f"labproof-{os.getpid()}"
    with pytest.raises(CommandTimeout) as late:
        host.run("yes %s", word, timeout=0.5)
    assert late.value.stdout.startswith(f"{word}\n")
    assert len(late.value.stdout) < LIMIT + 100
    gone("yes", word)


def test_a_shell_that_dies_is_replaced(host: PooledHost) -> None:
    with pytest.raises(HostError, match="ended while it ran"):
        host.run("kill -9 $$; sleep 5")
    assert host.run("echo next").stdout == "next\n"
    pid = int(host.run("echo $$").stdout)
    os.kill(pid, 9)
    until(lambda: not alive(pid), "killed")
    assert host.run("echo next").stdout == "next\n"


def test_a_shell_that_does_not_answer_is_given_up(host: PooledHost, monkeypatch: pytest.MonkeyPatch) -> None:
    shell = int(host.run("echo $$").stdout)
    for idle in host._idle:
        monkeypatch.setattr(idle, "_answers_within", 0.3)
    os.kill(shell, 19)
    with pytest.raises(HostError, match="does not answer") as refused:
        host.run("true")
    assert not isinstance(refused.value, CommandTimeout)
    if alive(shell):
        os.kill(shell, 9)
    assert host.run("echo next").stdout == "next\n"


def test_commands_run_at_the_same_time(host: PooledHost) -> None:
    together = host.max_shells
    barrier = threading.Barrier(together)

    def one(number: int) -> str:
        barrier.wait(30)
        return host.run("sleep 0.2; echo %s", number).stdout

    with ThreadPoolExecutor(together) as threads:
        assert list(threads.map(one, range(together))) == [f"{n}\n" for n in range(together)]


def test_more_callers_than_shells_wait_their_turn(host: PooledHost) -> None:
    with ThreadPoolExecutor(80) as threads:
        pids = [r.stdout for r in threads.map(lambda _: host.run("sleep 0.02; echo $$"), range(160))]
    assert len(set(pids)) <= host.max_shells


def test_testinfra_works_on_it(host: PooledHost) -> None:
    there = host.testinfra
    assert there.interface("lo").addresses[0] == "127.0.0.1"
    assert there.file("/etc/passwd").contains("root")
    assert there.file("/etc/hostname").content_string == Path("/etc/hostname").read_text()
    assert there.addr("127.0.0.1").is_resolvable
    assert there.check_output("echo %s", "it's") == "it's"
    assert there.process.filter(pid=os.getpid())[0].pid == os.getpid()
    assert there.run("printf '\\303\\244'").stdout == "ä"
    assert there.backend.get_pytest_id() == f"labproof://{host.name}"


def test_testinfra_does_not_hide_that_a_command_could_not_be_made() -> None:
    gone = NamespaceHost("gone", ["nsenter", "--net=/nonexistent", "--"])
    with pytest.raises(HostError, match="cannot open /nonexistent"):
        gone.testinfra.run("true")


def test_a_host_that_is_closed_says_so_and_leaves_no_process() -> None:
    host = LocalHost("desktop")
    pid = host.run("echo $$").stdout.strip()
    host.close()
    host.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(HostError, match="desktop: closed"):
        host.run("true")


def test_a_namespace_host_without_a_namespace_is_refused() -> None:
    with pytest.raises(ValueError, match=r"neighbour.*outside of the namespace"):
        NamespaceHost("neighbour", [])


def test_a_prefix_that_cannot_be_started_is_told() -> None:
    with pytest.raises(HostError, match="cannot start /nonexistent/enter /bin/sh: No such file"):
        NamespaceHost("neighbour", ["/nonexistent/enter"]).run("true")
