"""The guest image with Docker and its packages: what they are made of; and the lab's container story on a real boot."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from provision.box import docker_guest, guest, guest_build, package_source
from provision.box.command import BuildError
from tests.probes_world import Node, child, keypair, needs_root, nodes, until

HOST_PACKAGES = ("qemu-system-x86", "qemu-utils", "openssh-client", "iproute2", "util-linux", "dpkg")
SSH_PORT, CONTAINER_PORT = 2222, 2223


# --- what they are made of -------------------------------------------------------------------------------


def test_hash_follows_every_script_and_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {docker_guest.content_hash()}
    assert docker_guest.content_hash() in seen
    for module, folder in ((docker_guest, "docker_guest"), (guest, "guest")):
        scripts = tmp_path / folder
        shutil.copytree(module.SCRIPTS, scripts)
        monkeypatch.setattr(module, "SCRIPTS", scripts)
        for script in sorted(scripts.iterdir()):
            script.write_text(script.read_text() + "\n")
            assert docker_guest.content_hash() not in seen, f"{script.name} is not in the hash"
            seen.add(docker_guest.content_hash())
    monkeypatch.setattr(package_source, "path", lambda: Path("packages-another"))
    assert docker_guest.content_hash() not in seen


def test_every_script_of_its_own_is_used() -> None:
    installed = {path.name for path in docker_guest.RECIPE.installed.values()}
    assert {path.name for path in docker_guest.SCRIPTS.iterdir()} <= {*installed, "bake"}
    for path in docker_guest.SCRIPTS.iterdir():
        if path.read_text().startswith("#!/bin/busybox sh"):
            subprocess.run(["/bin/sh", "-n", str(path)], check=True)


def test_it_starts_all_that_the_guest_without_docker_starts() -> None:
    own = (docker_guest.SCRIPTS / "inittab").read_text()
    assert own.startswith((guest.SCRIPTS / "inittab").read_text())


def package(folder: Path, name: str, version: str = "1.0") -> Path:
    """A real package with nothing in it."""
    tree = folder / f"{name}-tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@example>\n"
        f"Description: {name}\n of this test\n"
    )
    target = folder / "archive" / f"{name}_{version}_all.deb"
    target.parent.mkdir(exist_ok=True)
    subprocess.run(["dpkg-deb", "--build", str(tree), str(target)], check=True)
    return target


def test_index_says_where_each_package_is_and_what_it_holds(tmp_path: Path) -> None:
    one, two = package(tmp_path, "alpha"), package(tmp_path, "beta", "2:3.4-5")
    first, second = package_source.index(tmp_path / "archive").strip().split("\n\n")
    digest = subprocess.run(["sha256sum", str(one)], capture_output=True, text=True, check=True).stdout[:64]
    assert "Package: alpha\nVersion: 1.0\n" in first
    assert first.endswith(
        f"Description: alpha\n of this test\nFilename: ./{one.name}\nSize: {one.stat().st_size}\nSHA256: {digest}"
    )
    assert f"Filename: ./{two.name}\n" in second


def test_index_of_nothing_or_of_a_damaged_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"nano.*none came"):
        package_source.index(tmp_path)
    damaged = package(tmp_path, "alpha")
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(BuildError, match="dpkg-deb"):
        package_source.index(damaged.parent)


@needs_root
def test_packages_without_a_mirror_name_the_command_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LABPROOF_DEBIAN_MIRROR", f"copy://{tmp_path}/nothing-here")
    with pytest.raises(BuildError, match="mmdebstrap"):
        package_source.ensure(lambda _: None)
    assert list((tmp_path / "labproof").iterdir()) == []


def test_a_bake_that_did_not_take_the_image_in_shows_the_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boots(_: str, *argv: str | Path, **__: object) -> str:
        words = [str(word) for word in argv]
        console = Path(words[words.index("-serial") + 1].removeprefix("file:"))
        console.write_text("labproof-guest: initramfs\ndocker did not start: no space left on device\n")
        return ""

    monkeypatch.setattr(guest_build, "step", boots)
    monkeypatch.setattr(docker_guest.accel, "kvm_works", lambda *_: False)
    with pytest.raises(BuildError, match=r"taking in debian:12 failed\n.*\n.*no space left on device"):
        docker_guest._bake(tmp_path, tmp_path / "base.tar", lambda _: None)
    assert list(tmp_path.iterdir()) == []


# --- the lab's container story ---------------------------------------------------------------------------


class Machine:
    """The image in a QEMU of its own behind its NAT, on a desktop of its own."""

    def __init__(self, image: Path, desktop: Node, folder: Path) -> None:
        self.image, self.desktop, self.folder = image, desktop, folder
        self.console = folder / "console"
        self.disk = folder / "disk.qcow2"
        base = ("-b", str(image / "root.qcow2"), "-F", "qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(self.disk)], check=True)
        key = keypair(folder / "id")
        drive = folder / "drive/openstack/latest"
        drive.mkdir(parents=True)
        (drive / "meta_data.json").write_text(
            json.dumps({"uuid": str(uuid.uuid4()), "hostname": "vm", "public_keys": {"mine": f"{key} me\n"}})
        )

    def argv(self, *more: str) -> list[str]:
        about = json.loads((self.image / "guest.json").read_text())
        forwarded = "".join(
            f",hostfwd=tcp::{port}-10.0.2.15:{to}" for port, to in ((SSH_PORT, 22), (CONTAINER_PORT, 2223))
        )
        return [
            *self.desktop.prefix,
            *("qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "max"),
            *("-m", str(about["memory_mib"]), "-nodefaults", "-no-user-config"),
            *("-display", "none", "-serial", f"file:{self.console}"),
            *("-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"),
            *("-kernel", str(self.image / "vmlinuz"), "-initrd", str(self.image / "initrd.img")),
            *("-append", about["os_command_line"]),
            *("-drive", f"file={self.disk},if=virtio,format=qcow2,cache=unsafe,discard=unmap"),
            *("-drive", f"file=fat:floppy:{self.folder}/drive,format=raw,if=virtio,readonly=on"),
            *("-netdev", f"user,id=n,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3{forwarded}"),
            *("-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci"),
            *more,
        ]

    @contextmanager
    def running(self, *more: str) -> Iterator[subprocess.Popen[bytes]]:
        with child(self.argv(*more), self.folder / "qemu.log") as process:
            try:
                yield process
            finally:
                self.forget()

    def ssh(self, *, login: str = guest.LOGIN, port: int = SSH_PORT, patience: int = 10) -> list[str]:
        return [
            *(*self.desktop.prefix, "ssh", "-F", "none", "-i", str(self.folder / "id"), "-p", str(port)),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.folder}/hosts-{port}"),
            *("-o", f"ConnectTimeout={patience}", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"),
            *(
                "-o",
                "ControlMaster=auto",
                "-o",
                f"ControlPath={self.folder}/{port}",
                "-o",
                "ControlPersist=60",
            ),
            f"{login}@127.0.0.1",
        ]

    def forget(self) -> None:
        """Ends the SSH connection that is kept open."""
        for port in (SSH_PORT, CONTAINER_PORT):
            subprocess.run([*self.ssh(port=port), "-O", "exit"], capture_output=True, timeout=20)

    def tries(self, command: str, within: float = 120, **where: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.ssh(**where), command],  # type: ignore[arg-type]
            capture_output=True,
            text=True,
            timeout=within,
            stdin=subprocess.DEVNULL,
        )

    def told(self, command: str, within: float = 120, **where: object) -> str:
        done = self.tries(command, within, **where)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def first_answer(self, command: str, within: float = 90) -> float:
        """Seconds until the command succeeds over SSH."""
        begun = time.monotonic()
        while True:
            # QEMU's NAT takes the connection before the guest does: then the server's first word does not come
            done = self.tries(command, 60, patience=1)
            if done.returncode == 0:
                return time.monotonic() - begun
            console = self.console.read_text(errors="replace") if self.console.exists() else ""
            assert time.monotonic() - begun < within, f"{command}: {done.stderr}\nconsole:\n{console}"
            time.sleep(0.05)

    def monitor(self, line: str) -> str:
        """The answer of QEMU's monitor to a line."""
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(120)
            peer.connect(str(self.folder / "qmp"))
            stream = peer.makefile("rw")
            stream.readline()
            for order in (
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": {"command-line": line}},
            ):
                stream.write(json.dumps(order) + "\n")
                stream.flush()
                while "return" not in (answer := json.loads(stream.readline())):
                    assert "error" not in answer, answer
            return str(answer["return"])


WEB = """
import functools, http.server, sys, threading
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("198.51.100.8", 80), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
"""


@contextmanager
def world(packages: Path) -> Iterator[Node]:
    """A desktop that is the internet as well: 198.51.100.8 serves the packages."""
    with ExitStack() as stack:
        (desktop,) = stack.enter_context(nodes("desktop"))
        desktop.sh("ip address add 198.51.100.8/32 dev lo")
        # QEMU sends its guest's pings from a socket that the kernel gives to these groups alone
        desktop.sh("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range")
        stack.enter_context(child([*desktop.prefix, sys.executable, "-c", WEB, str(packages)]))
        until(lambda: ":80 " in desktop.sh("ss -Hltn"), "the package source")
        yield desktop


@pytest.fixture(scope="module")
def image() -> Path:
    return docker_guest.ensure(print)


@pytest.fixture(scope="module")
def vm(image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("vm")
    with world(package_source.ensure(print)) as desktop:
        machine = Machine(image, desktop, folder)
        with machine.running():
            begun = time.monotonic()
            ssh = machine.first_answer("true")
            machine.first_answer("docker version")
            docker = time.monotonic() - begun
            print(f"\ncold boot: SSH after {ssh:.1f} s, Docker's first answer after {docker:.1f} s")
            print(machine.console.read_text(errors="replace"))
            yield machine


@pytest.fixture(scope="module")
def ct1(vm: Machine) -> Machine:
    """A container with ping, as the students make it: the VM that it runs in."""
    steps = (
        ("docker run", f"docker run -d --stop-timeout 1 --name ct1 {docker_guest.IMAGE} sleep infinity"),
        ("apt-get update", "docker exec ct1 apt-get -q update"),
        ("apt-get install", "docker exec ct1 apt-get -q install -y iputils-ping net-tools"),
    )
    for what, command in steps:
        begun = time.monotonic()
        vm.told(command)
        print(f"{what}: {time.monotonic() - begun:.1f} s")
    return vm


@pytest.mark.box
def test_packages_are_few_and_all_that_is_wanted() -> None:
    archive = package_source.ensure(print) / package_source.ARCHIVE
    names = {path.name.split("_")[0] for path in archive.glob("*.deb")}
    assert names >= set(package_source.PACKAGES)
    assert sum(path.stat().st_size for path in archive.iterdir()) < 20 * 10**6
    assert {path.suffix for path in archive.iterdir()} == {".deb", ""}


@pytest.mark.box
def test_the_lab_as_it_boots(vm: Machine) -> None:
    assert "172.17.0.1/16" in vm.told("ip -4 -o address show dev docker0")
    assert "10.0.2.15/24" in vm.told("ip -4 -o address show dev eth0")
    assert set(vm.told("docker images --format '{{.Repository}}:{{.Tag}}'").split()) == {
        "debian:12",
        "debian:bookworm",
    }
    assert vm.told("hostname") == "vm"
    assert int(vm.told("df --output=avail -BM / | tail -n 1").rstrip("M")) > 2000
    print(vm.told("free -m; df -h /; docker images; uptime; ps -o rss,args -e | sort -n | tail -n 5"))


@pytest.mark.box
def test_a_container_reaches_the_vm_and_the_outside(ct1: Machine) -> None:
    address = ct1.told("docker inspect -f '{{.NetworkSettings.IPAddress}}' ct1")
    assert address == "172.17.0.2"
    for target in ("10.0.2.15", "172.17.0.1", "198.51.100.8"):
        assert " 0% packet loss" in ct1.told(f"docker exec ct1 ping -c 2 -W 5 {target}"), target
    assert " 0% packet loss" in ct1.told(f"ping -c 2 -W 5 {address}")
    assert address in ct1.told("docker exec ct1 ifconfig eth0")
    nowhere = ct1.tries("docker exec ct1 ping -c 1 -W 2 172.17.0.77")
    assert nowhere.returncode == 1
    assert "100% packet loss" in nowhere.stdout


@pytest.mark.box
def test_a_user_outside_the_group_is_refused(vm: Machine) -> None:
    refused = vm.tries(f"sudo -u {docker_guest.STRANGER} docker ps")
    assert refused.returncode != 0
    assert "permission denied while trying to connect to the Docker daemon socket" in refused.stderr
    assert "NAMES" in vm.told("docker ps")


@pytest.mark.box
def test_a_commit_keeps_what_was_installed(ct1: Machine) -> None:
    ct1.told("docker commit ct1 snapshot:1")
    assert "ping from iputils" in ct1.told("docker run --rm snapshot:1 ping -V")
    assert ct1.tries(f"docker run --rm {docker_guest.IMAGE} ping -V").returncode == 127


@pytest.mark.box
def test_a_second_build_comes_from_the_cache(vm: Machine) -> None:
    vm.told(
        f"mkdir -p build && printf 'FROM {docker_guest.IMAGE}\\n"
        "RUN apt-get update && apt-get install -y nano\\n' > build/Dockerfile"
    )
    begun = time.monotonic()
    first = vm.told("docker build -t editor build")
    between = time.monotonic()
    second = vm.told("docker build -t editor build")
    print(f"build {between - begun:.1f} s, again {time.monotonic() - between:.1f} s")
    assert "Using cache" not in first
    assert "Using cache" in second
    assert "GNU nano" in vm.told("docker run --rm editor nano --version")


@pytest.mark.box
def test_a_container_is_entered_by_ssh_from_the_desktop(vm: Machine) -> None:
    public = (vm.folder / "id.pub").read_text().strip()
    vm.told(f"docker run -d --stop-timeout 1 --name ct2 -p 2223:22 {docker_guest.IMAGE} sleep infinity")
    vm.told(
        "docker exec ct2 sh -ec 'apt-get -q update && apt-get -q install -y dropbear-bin && mkdir -m 700 /root/.ssh"
        f" && echo {public} > /root/.ssh/authorized_keys && mkdir -p /etc/dropbear && dropbear -R -E -p 22'"
    )
    assert vm.told("cat /etc/hostname", login="root", port=CONTAINER_PORT) == vm.told(
        "docker inspect -f '{{.Config.Hostname}}' ct2"
    )


@pytest.mark.box
def test_the_service_stops_and_starts(ct1: Machine) -> None:
    vm = ct1
    assert vm.told("service docker status") == "docker is running"
    vm.told("sudo service docker stop")
    stopped = vm.tries("service docker status")
    assert (stopped.returncode, stopped.stdout.strip()) == (3, "docker is not running")
    refused = vm.tries("docker ps")
    assert refused.returncode == 1
    assert "Cannot connect to the Docker daemon" in refused.stderr
    vm.told("sudo service docker stop")
    vm.told("sudo service docker start")
    assert vm.told("docker ps -a --filter name=ct1 --format '{{.State}}'") == "exited"
    vm.told("docker start ct1")
    assert vm.told("docker exec ct1 echo up") == "up"


@pytest.mark.box
def test_a_daemon_that_cannot_start_says_why(vm: Machine) -> None:
    vm.told(
        "sudo service docker stop && sudo cp /etc/docker/daemon.json keep && "
        'echo \'{"storage-driver": "floppy"}\' | sudo tee /etc/docker/daemon.json'
    )
    failed = vm.tries("sudo service docker start")
    vm.told("sudo cp keep /etc/docker/daemon.json && sudo service docker start")
    assert failed.returncode == 1
    assert "docker did not start: " in failed.stderr
    assert "driver not supported" in failed.stderr


@pytest.mark.box
def test_a_saved_state_is_resumed(image: Path, tmp_path: Path) -> None:
    with world(package_source.ensure(print)) as desktop:
        machine = Machine(image, desktop, tmp_path)
        with machine.running():
            machine.first_answer("docker version")
            machine.forget()
            before = machine.disk.stat().st_blocks * 512
            begun = time.monotonic()
            assert machine.monitor("savevm ready") == ""
            took = time.monotonic() - begun
            grown = machine.disk.stat().st_blocks * 512 - before
            print(f"\nsavevm: {took:.1f} s, {grown / 2**20:.0f} MiB\n{machine.monitor('info snapshots')}")
        with machine.running("-loadvm", "ready"):
            begun = time.monotonic()
            until((tmp_path / "qmp").exists, "QEMU")
            answered = machine.first_answer("docker version")
            print(f"-loadvm: Docker's first answer over SSH after {answered:.1f} s")
            assert machine.told(f"docker run --rm {docker_guest.IMAGE} echo resumed") == "resumed"
            print(f"docker run: done after {time.monotonic() - begun:.1f} s")
