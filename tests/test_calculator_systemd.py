"""The same deployment under a real systemd: process 1 of namespaces of its own, on a small Debian of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from probes.host import HostError, NamespaceHost
from provision.box import debian, paths
from provision.calculator.deploy import OWN, DeploymentError, Program, Programs, Running, deploy, remove
from provision.topology import Topology
from tests.probes_world import child, needs_root, until

TOPOLOGY = Topology.from_json(
    {
        "name": "one",
        "networks": [{"name": "private", "cidr": "10.1.0.0/24"}],
        "hosts": [{"name": "vm", "network": "private", "flavor": "nano"}],
        "services": [
            {"name": "sum", "host": "vm", "port": 50001},
            {"name": "mul", "host": "vm", "port": 80},
            {"name": "calculator", "host": "vm", "port": 50000, "backends": ["sum", "mul"]},
        ],
    }
)

SUITE, PACKAGES = "bookworm", ("systemd-sysv", "python3", "curl")

# The root is an overlay in memory; the cgroups are those below our own.
START = """
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" none "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount -t cgroup2 none sys/fs/cgroup
mount -t tmpfs -o mode=755 none dev
for device in null zero full random urandom tty; do touch dev/$device; mount --bind /dev/$device dev/$device; done
ln -s /proc/self/fd dev/fd
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=755 none run
echo 0123456789abcdef0123456789abcdef >etc/machine-id
ip link set lo up
exec env -i container=labproof PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --unit=multi-user.target
"""


@contextmanager
def cgroup() -> Iterator[Path]:
    """A cgroup of our own, to be the root of what is made in a namespace of cgroups."""
    unified = Path("/sys/fs/cgroup/unified")
    made = (unified if unified.is_dir() else Path("/sys/fs/cgroup")) / f"labproof-test-{os.getpid()}"
    made.mkdir()
    try:
        yield made
    finally:
        until(lambda: not any(p.read_text() for p in made.rglob("cgroup.procs")), "the cgroup's end", 10)
        for folder, _, _ in os.walk(made, topdown=False):
            Path(folder).rmdir()


def root() -> Path:
    """The Debian in the cache, made first where it is not there (under a minute)."""
    done = paths.cache() / f"systemd-{paths.content_hash([SUITE, *PACKAGES, paths.HERE / 'debian.py'])}"
    return paths.once(done, lambda made: debian.bootstrap(SUITE, made, packages=PACKAGES, log=print))


@contextmanager
def boots(folder: Path, control: Path) -> Iterator[NamespaceHost]:
    enter = f"echo $$ >{control}/cgroup.procs; exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child"
    argv = ["sh", "-ec", f'{enter} --propagation private sh -c "$@"', "sh", START, "sh"]
    with child([*argv, str(folder), str(root())], folder.with_suffix(".log")) as holder:
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
        until(lambda: bool(children.read_text()), "the first process")
        init = children.read_text().strip()
        until(lambda: Path(f"/proc/{init}/exe").readlink().name == "systemd", "systemd as that")
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
        try:
            with NamespaceHost("vm", ["nsenter", f"--target={init}", *spaces]) as host:
                yield host
        finally:
            # the namespaces end with their first process
            os.kill(int(init), signal.SIGKILL)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamespaceHost]:
    folder = tmp_path_factory.mktemp("systemd")
    with cgroup() as control, boots(folder, control) as made:

        def up() -> bool:
            try:
                return made.run("systemctl is-active multi-user.target").stdout == "active\n"
            except HostError:
                return False

        began = time.monotonic()
        until(up, "multi-user.target", 30)
        print(f"systemd is up after {time.monotonic() - began:.1f} s")
        yield made


@pytest.fixture(scope="module")
def running(host: NamespaceHost) -> dict[str, Running]:
    return deployed(host)


def deployed(host: NamespaceHost, programs: Programs = OWN) -> dict[str, Running]:
    return deploy(TOPOLOGY, {"vm": host}, lambda _: "127.0.0.1", programs, on_progress=print, within=20)


pytestmark = [pytest.mark.box, needs_root]


def calculate(host: NamespaceHost, expression: str) -> str:
    return host.run("curl -s -d %s http://127.0.0.1:50000/", expression).stdout.strip()


def test_they_run_and_a_second_deployment_changes_nothing(
    host: NamespaceHost, running: dict[str, Running]
) -> None:
    assert all(each.changed for each in running.values())
    assert calculate(host, "(5+6)*2") == "result = 22"
    assert not any(each.changed for each in deployed(host).values())
    assert (
        host.run("systemctl is-enabled labproof-sum labproof-mul labproof-calculator").stdout.split()
        == ["enabled"] * 3
    )
    assert host.run("systemd-analyze verify /etc/systemd/system/labproof-*.service").stderr == ""


def test_one_that_crashes_is_started_again(host: NamespaceHost, running: dict[str, Running]) -> None:
    (before,) = running["sum"].processes()
    host.run("kill -9 %s", before)
    until(lambda: running["sum"].state() == "running", "sum", 10)
    assert running["sum"].processes() != (before,)
    assert calculate(host, "5+6") == "result = 11"


def test_a_stopped_one_stays_stopped(host: NamespaceHost, running: dict[str, Running]) -> None:
    mul = running["mul"]
    mul.stop()
    assert (mul.state(), mul.processes()) == ("stopped", ())
    assert host.run("systemctl is-enabled labproof-mul").stdout == "disabled\n"
    mul.start()
    assert calculate(host, "2*3") == "result = 6"


def test_they_start_with_the_target_that_a_boot_reaches(
    host: NamespaceHost, running: dict[str, Running]
) -> None:
    assert host.run("systemctl stop multi-user.target 'labproof-*'").succeeded
    assert {name: each.processes() for name, each in running.items()} == dict.fromkeys(running, ())
    assert host.run("systemctl start multi-user.target").succeeded
    for name, each in running.items():
        until(lambda: each.state() == "running", name)  # noqa: B023


def test_another_environment_restarts_that_one_alone(
    host: NamespaceHost, running: dict[str, Running]
) -> None:
    before = {name: each.processes() for name, each in running.items()}
    running["calculator"].configure(environment={"SUM_URL": "http://127.0.0.1:80"})
    after = {name: each.processes() for name, each in running.items()}
    assert {name for name in before if before[name] != after[name]} == {"calculator"}
    assert calculate(host, "5+6") == "result = 30"
    assert [name for name, each in deployed(host).items() if each.changed] == ["calculator"]


def test_one_that_cannot_start_is_named(host: NamespaceHost, tmp_path: Path) -> None:
    (tmp_path / "SumService.py").write_text("import syncrequest\n")
    broken = Programs(OWN.common, {"sum": Program((tmp_path / "SumService.py",), "python3 SumService.py")})
    with pytest.raises(DeploymentError, match="starting sum on vm: ModuleNotFoundError: No module named"):
        deployed(host, broken)
    assert [name for name, each in deployed(host).items() if each.changed] == ["sum"]


def test_removal_leaves_nothing(host: NamespaceHost, running: dict[str, Running]) -> None:
    remove(TOPOLOGY, {"vm": host})
    assert host.run("ls -d /opt/labproof /var/log/labproof-* /run/labproof-*").stdout == ""
    assert host.run("find /etc/systemd -name 'labproof-*'").stdout == ""
    assert host.run("systemctl list-units --all --plain --no-legend 'labproof-*'").stdout == ""
    assert not running["sum"].processes()


def refusal(*prefix: str) -> str:
    """What is said of a host that is this machine, entered so."""
    with NamespaceHost("bare", prefix) as host, pytest.raises(DeploymentError) as caught:
        deploy(TOPOLOGY, {"vm": host}, lambda _: "127.0.0.1")
    assert caught.value.host == "bare"
    return str(caught.value)


def test_a_host_without_a_supervisor_is_refused_with_its_first_process() -> None:
    apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
    said = refusal(*apart, "sh", "-c", 'mount -t tmpfs none /run && "$@"; exit', "sh")
    assert said == (
        "looking at the services on bare: process 1 is sh; services need a host with systemd, or busybox init with "
        "/etc/inittab, to start them"
    )


def test_a_login_that_may_not_become_root_is_refused() -> None:
    said = refusal("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    assert said.startswith("looking at the services on bare: ")
    assert said.endswith("; give the login sudo without a password (NOPASSWD), or log in as root")


def test_a_host_out_of_reach_is_named() -> None:
    assert refusal("false") == (
        "looking at the services on bare: bare: the shell ended before it ran: a script of labproof's (exit status 1); "
        "see that the host runs and lets the login in"
    )
