"""Parts of the embedded lab that need none of it: hashes, configuration, errors, critical chain."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from provision.box import config, namespaces, runtime
from provision.box.command import CommandError, run
from provision.box.namespaces import BoxError
from provision.box.paths import ETC, content_hash
from tests.probes_world import child, needs_root, until

ROOT = Path(__file__).resolve().parent.parent


def test_the_hash_knows_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("1")
    first = content_hash([tmp_path])
    assert content_hash([tmp_path]) == first
    (tmp_path / "a").write_text("2")
    second = content_hash([tmp_path])
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, content_hash([tmp_path])}) == 3


def test_every_placeholder_of_the_configuration_is_filled(tmp_path):
    config.make_secrets(tmp_path / "secrets.json")
    config.render(tmp_path, kvm=False)
    rendered = [file for file in (tmp_path / "etc").rglob("*") if file.is_file()]
    assert len(rendered) == len([file for file in ETC.rglob("*") if file.is_file()])
    assert not [file for file in rendered if "${" in file.read_text()]
    assert "virt_type = qemu" in (tmp_path / "etc/nova/nova.conf").read_text()


def test_credentials_are_the_owners_alone_and_no_administrators(tmp_path):
    config.make_secrets(tmp_path / "secrets.json")
    config.write_credentials(tmp_path)
    for name in ("clouds.yaml", "openrc-student", "openrc-reader", "secrets.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    admin = json.loads((tmp_path / "secrets.json").read_text())["ADMIN_PASSWORD"]
    assert admin not in (tmp_path / "clouds.yaml").read_text()
    shown = subprocess.run(
        ["sh", "-c", f". {tmp_path}/openrc-student; echo $OS_USERNAME"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == "student\n"


def test_a_command_that_fails_says_which_and_its_last_words():
    with pytest.raises(CommandError, match=r"sh -c .* ended with status 3\n.*no such package"):
        run(["sh", "-c", "echo no such package; exit 3"], log=lambda _: None, timeout=5)
    with pytest.raises(CommandError, match="did not end within 1 s"):
        run(["sleep", "30"], log=lambda _: None, timeout=1)
    with pytest.raises(CommandError, match="make setup"):
        run(["no-such-program"], log=lambda _: None, timeout=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_build_cannot_see_or_leave_mounts(tmp_path):
    run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], log=lambda _: None, timeout=5, alone=True)
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_a_recycled_process_id_is_not_the_box(tmp_path):
    fields = Path("/proc/self/stat").read_text().split()
    fields[21] = str(int(fields[21]) - 1)
    (tmp_path / "holder.pid").write_text(" ".join(fields))
    assert namespaces.find(tmp_path) is None
    assert namespaces.end(tmp_path) is False


def test_a_process_has_ended_with_its_last_thread_not_with_its_first():
    """As process 1 of the box does, when it is killed while a thread of it brings the services up."""
    exit_thread = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        f"ctypes.CDLL(None).syscall({exit_thread}, 0)\n"
    )
    with child([sys.executable, "-c", code]) as process:
        held = os.pidfd_open(process.pid)
        try:
            state = Path(f"/proc/{process.pid}/stat")
            until(
                lambda: state.read_text().rpartition(")")[2].split()[0] == "Z", "the first thread's end", 10
            )
            assert not namespaces.has_ended(held, 0)
            assert process.stdin
            process.stdin.close()
            assert namespaces.has_ended(held, 10)
        finally:
            os.close(held)


def test_who_is_not_root_is_told_what_to_do_instead(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BoxError, match=r"needs root.*--lab cloud"):
        runtime.up(lambda _: None)


def test_the_critical_chain_is_who_waited_for_whom():
    facts = {
        "database": {"needs": [], "ready": 1.0},
        "queue": {"needs": [], "ready": 4.0},
        "server": {"needs": ["database", "queue"], "ready": 6.0},
        "agent": {"needs": ["server"], "ready": 6.5, "reported": 9.0},
        "other": {"needs": ["database"], "ready": 7.0},
    }
    assert runtime.critical_chain(facts) == ["queue", "server", "agent"]
    assert re.search(
        "the total was set by: queue -> server -> agent",
        "\n".join(
            runtime.report({"services": {name: {"started": 0.0, **fact} for name, fact in facts.items()}})
        ),
    )


@needs_root
def test_a_build_runs_where_this_process_was_before_it_went_to_the_desktop(tmp_path):
    """Whoever has gone to another network, and whoever was started there, builds on the first one."""
    script = """
import os, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from provision.box import command, namespaces
home = os.readlink("/proc/self/ns/net")
space = subprocess.Popen(["unshare", "--net", "sleep", "60"])
try:
    path = Path(f"/proc/{space.pid}/ns/net")
    while os.readlink(path) == home:
        pass
    namespaces.enter_desktop(SimpleNamespace(network=lambda _: path))
    assert os.readlink("/proc/self/ns/net") != home
    look = (
        "from provision.box.command import run; "
        "print(run(['readlink', '/proc/self/ns/net'], log=str, timeout=20, alone=True))"
    )
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == home, (seen, home)
finally:
    space.kill()
    space.wait()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
