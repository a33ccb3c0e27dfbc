"""Host keys that a machine tells on its console are checked before anybody logs in to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.shell import HostError
from provision.host_keys import BEGIN, END, ConsoleKeys, printed
from tests.probes_world import SshServer, keypair, needs_root, openssh

OLD = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBXtmrcQ1rMTx3HgPJhhnxVXMMxbT5RtBbCSsXHmjSq8"
NEW = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBO1B0o+x/9y3hC8="


def console(*keys: str) -> str:
    lines = "\r\n".join(f"{key} root@vm" for key in keys)
    return f"[    1.0] booting\r\n{BEGIN}\r\n{lines}\r\n{END}\r\nlogin: "


def test_keys_are_read_off_a_console() -> None:
    assert printed(console(OLD, NEW)) == (OLD, NEW)
    assert printed(f"ci-info: {console(OLD)}{console(NEW)}") == (NEW,)  # started anew: the last boot's count
    assert printed(console(OLD) + BEGIN + "\n" + NEW[:30]) == (OLD,)  # in the middle of printing
    # as cloud-init prints them, with the kernel's words in between
    text = f"{BEGIN}\n{NEW} root@ubuntu\n[   12.345] random: crng init done\n{OLD} root@ubuntu\n{END}\n"
    assert printed(text) == (NEW, OLD)


@pytest.mark.parametrize(
    "text", ["", "login:", BEGIN, END, f"{END}{BEGIN}", f"{BEGIN}\nssh-ed25519 AAAA x\n{END}", OLD]
)
def test_a_console_without_keys(text: str) -> None:
    assert printed(text) == ()


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.sampled_from([BEGIN, END, OLD, NEW, "\n", " "]) | st.text(max_size=20)).map("".join))
def test_whatever_a_guest_prints(text: str) -> None:
    for key in printed(text):
        assert re.fullmatch(r"[\w@.-]+ [A-Za-z0-9+/]+=*", key)


def test_keys_that_are_not_there_yet_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.host_keys.EVERY", 0.0)
    said = ["booting", "booting", console(OLD)]
    keys = ConsoleKeys(lambda: said.pop(0), patience=60)
    for _ in range(2):
        with pytest.raises(HostError, match="does not tell its host key yet"):
            keys()
    assert keys() == (OLD,)


def test_a_console_that_never_tells_is_given_up_and_none_is_not_waited_for() -> None:
    assert ConsoleKeys(lambda: "booting", patience=0)() == ()
    assert ConsoleKeys(lambda: "", patience=60)() == ()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    with openssh(tmp_path) as made:
        yield made


@needs_root
def test_a_machine_is_entered_whose_console_says_that_it_is_it(server: SshServer) -> None:
    with server.host(host_keys=ConsoleKeys(lambda: console(OLD, server.host_key))) as host:
        assert host.run("true").succeeded
        assert host.host_key_known_by == "its console"


@needs_root
def test_somebody_in_between_is_not_let_in(server: SshServer, tmp_path: Path) -> None:
    """The machine's console shows another key than who answers has: no login is tried, no command sent."""
    (tmp_path / "true").mkdir()
    true = keypair(tmp_path / "true" / "key")
    with (
        server.host(host_keys=ConsoleKeys(lambda: console(true))) as host,
        pytest.raises(HostError, match="is another host"),
    ):
        host.run("true")
    assert "Accepted" not in server.log.read_text()


@needs_root
def test_a_machine_of_another_kind_of_key_is_not_let_in_either(server: SshServer) -> None:
    with server.host(host_keys=ConsoleKeys(lambda: console(NEW))) as host, pytest.raises(HostError):
        host.run("true")
    assert "Accepted" not in server.log.read_text()


@needs_root
def test_a_machine_without_a_console_is_taken_as_it_first_answers_and_that_is_noted(
    server: SshServer,
) -> None:
    with server.host(host_keys=ConsoleKeys(lambda: "")) as host:
        assert host.run("true").succeeded
        assert host.host_key_known_by == "first seen"
        assert host.public_host_key == server.host_key


@needs_root
def test_a_login_waits_until_the_console_tells(server: SshServer) -> None:
    said = ["booting", "still booting", console(server.host_key)]
    keys = ConsoleKeys(lambda: said.pop(0))
    with server.host(host_keys=keys) as host:
        with pytest.raises(HostError, match="does not tell its host key yet"):
            host.run("true")
        assert "Accepted" not in server.log.read_text()
        host.wait_ready(20)
        assert host.host_key_known_by == "its console"
