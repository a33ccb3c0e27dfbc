"""The guest image's recipe and the KVM decision; and one real boot of the built image."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import paramiko
import pytest

from provision.box import accel, cpio, guest, guest_build
from provision.box.command import Log

BUSYBOX = shutil.which("busybox")


def test_hash_follows_every_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "guest"
    shutil.copytree(guest.SCRIPTS, scripts)
    monkeypatch.setattr(guest, "SCRIPTS", scripts)
    seen = {guest.content_hash()}
    assert guest.content_hash() in seen
    for script in sorted(scripts.iterdir()):
        script.write_text(script.read_text() + "\n")
        assert guest.content_hash() not in seen, f"{script.name} is not in the hash"
        seen.add(guest.content_hash())


def test_hash_leaves_the_mirror_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guest.content_hash()
    monkeypatch.setenv("LABPROOF_DEBIAN_MIRROR", "http://mirror.example/debian")
    assert guest.content_hash() == before


def test_every_script_is_installed() -> None:
    assert {path.name for path in guest.SCRIPTS.iterdir()} == {*guest.INSTALLED, "initramfs"}


def test_scripts_are_shell() -> None:
    for path in guest.SCRIPTS.iterdir():
        if path.read_text().startswith("#!/bin/busybox sh"):
            subprocess.run(["/bin/sh", "-n", str(path)], check=True)


def test_build_error_says_what_and_why() -> None:
    error = guest_build.BuildError(
        "making the root file system (mke2fs)", "mke2fs: No space left on device\n"
    )
    assert str(error) == (
        "guest image: making the root file system (mke2fs) failed\n    mke2fs: No space left on device"
    )
    assert (error.step, error.output) == (
        "making the root file system (mke2fs)",
        "mke2fs: No space left on device\n",
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="the build runs as root only")
def test_build_without_a_mirror_names_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABPROOF_DEBIAN_MIRROR", f"copy://{tmp_path}/nothing-here")
    with pytest.raises(guest_build.BuildError, match="installing Debian's packages") as caught:
        guest.build(tmp_path / "out", lambda _: None)
    assert "mmdebstrap" in caught.value.output
    assert list((tmp_path / "out").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def bzimage(payload: bytes, size: int) -> bytes:
    setup = bytearray(1024)
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", setup, 0x248, 0, len(payload) + 4)
    return bytes(setup) + payload + struct.pack("<I", size)


def test_kernel_is_unpacked_only_whole() -> None:
    elf = b"\x7fELF" + bytes(1000)
    packed = gzip.compress(elf)
    assert guest_build.unpacked_kernel(bzimage(packed, len(elf))) == elf
    assert guest_build.unpacked_kernel(bzimage(packed, len(elf) + 1)) is None
    assert guest_build.unpacked_kernel(bzimage(packed[:-20], len(elf))) is None
    assert guest_build.unpacked_kernel(bzimage(b"unheard of", 10)) is None
    assert guest_build.unpacked_kernel(b"MZ") is None


def test_initramfs_is_the_same_twice_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/tool").write_bytes(b"abc")
    (folder / "bin/tool").chmod(0o755)
    (folder / "link").symlink_to("bin/tool")
    cpio.write_initramfs(folder, tmp_path / "one")
    os.utime(folder / "bin/tool", (1, 1))
    cpio.write_initramfs(folder, tmp_path / "two")
    archive = (tmp_path / "one").read_bytes()
    assert archive == (tmp_path / "two").read_bytes()
    names = []
    at = 0
    while True:  # newc: 13 fields of 8 hexadecimal digits after the magic, name and data padded to 4 bytes
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = at + -(-(110 + fields[11]) // 4) * 4
        if name == "TRAILER!!!":
            break
        names.append((name, fields[1], archive[start : start + fields[6]]))
        at = start + -(-fields[6] // 4) * 4
    assert names == [
        ("bin", 0o40755, b""),
        ("bin/tool", 0o100755, b"abc"),
        ("link", 0o120777, b"bin/tool"),
        ("dev/console", 0o20600, b""),
        ("dev/null", 0o20666, b""),
    ]


@pytest.mark.skipif(BUSYBOX is None and shutil.which("awk") is None, reason="no awk here")
def test_metadata_is_flattened() -> None:
    awk = [BUSYBOX, "awk"] if BUSYBOX else ["awk"]
    document = {
        "uuid": "u-1",
        "meta": {"uuid": "not this one"},
        "public_keys": {"my key": 'ssh-ed25519 AAAA "me"\n'},
        "devices": [],
        "keys": [{"name": "a"}, {"name": "b, c: {d}"}],
        "launch_index": 0,
        "none": None,
    }
    for indent in (None, 2):
        done = subprocess.run(
            [*awk, "-f", str(guest.SCRIPTS / "json.awk")],
            input=json.dumps(document, indent=indent),
            capture_output=True,
            text=True,
            check=True,
        )
        assert dict(line.split("\t", 1) for line in done.stdout.splitlines()) == {
            "uuid": "u-1",
            "meta/uuid": "not this one",
            "public_keys/my key": r"ssh-ed25519 AAAA \"me\"\n",
            "keys/0/name": "a",
            "keys/1/name": "b, c: {d}",
            "launch_index": "0",
            "none": "null",
        }
    for broken in ('{"uuid" 1}', '{"uuid": "u', "<html>502 Bad Gateway</html>", ""):
        done = subprocess.run(
            [*awk, "-f", str(guest.SCRIPTS / "json.awk")],
            input=broken,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, broken


def test_two_builds_at_once_leave_the_first_ones_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    done = tmp_path / "labproof" / f"guest-{guest.content_hash()}"

    def build(out: Path, _: Log) -> None:
        for folder, text in ((out, "second"), (done, "first")):  # another process was quicker
            folder.mkdir(parents=True)
            (folder / "guest.json").write_text(text)

    monkeypatch.setattr(guest, "build", build)
    assert guest.ensure(lambda _: None) == done
    assert [path.name for path in done.parent.iterdir()] == [done.name]
    assert (done / "guest.json").read_text() == "first"


# --- KVM -------------------------------------------------------------------------------------------------


def program(folder: Path, name: str, body: str) -> list[str]:
    """A stand-in for the QEMU binary: counts how often it was started to boot."""
    path = folder / name
    path.write_text(
        f"import sys, time\nif '--version' in sys.argv: print({name!r}); sys.exit()\n"
        f"open({str(folder / 'boots')!r}, 'a').write('x')\n{body}\n"
    )
    return [sys.executable, str(path)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(accel, "DEVICE", Path("/dev/null"))
    for name in ("vmlinuz", "initrd.img"):
        (tmp_path / name).write_text(name)
    return tmp_path


def asked(folder: Path, qemu: Sequence[str]) -> bool:
    return accel.kvm_works(folder / "vmlinuz", folder / "initrd.img", folder / "cache", qemu=qemu)


def boots(folder: Path) -> int:
    return len((folder / "boots").read_text()) if (folder / "boots").exists() else 0


def test_kvm_answer_is_remembered_for_this_machine_and_image(machine: Path) -> None:
    works = program(machine, "works", "print('x\\nlabproof-guest: initramfs', flush=True); time.sleep(60)")
    assert asked(machine, works)
    assert asked(machine, works)
    assert boots(machine) == 1
    (machine / "initrd.img").write_text("another")
    assert asked(machine, works)
    assert boots(machine) == 2


def test_kvm_that_ends_or_says_nothing_is_not_used(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asked(machine, program(machine, "ends", "sys.exit(1)"))
    monkeypatch.setattr(accel, "LIMIT", 0.5)
    silent = program(machine, "silent", "print('Booting', flush=True); time.sleep(60)")
    assert not asked(machine, silent)
    assert not asked(machine, silent)
    assert boots(machine) == 2


def test_a_damaged_memory_is_asked_anew(machine: Path) -> None:
    works = program(machine, "works", "print('labproof-guest: initramfs', flush=True)")
    (machine / "cache").mkdir()
    for damaged in ("{", "[]", '{"a": "yes"}'):
        (machine / "cache/accel.json").write_text(damaged)
        assert asked(machine, works)


def test_without_the_device_nothing_is_started(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    works = program(machine, "works", "print('labproof-guest: initramfs', flush=True)")
    monkeypatch.setattr(accel, "DEVICE", machine / "no-such-device")
    assert not asked(machine, works)
    assert boots(machine) == 0
    assert not (machine / "cache").exists()


def test_without_qemu_there_is_no_kvm(machine: Path) -> None:
    assert not asked(machine, [str(machine / "no-such-program")])


# --- a real boot -----------------------------------------------------------------------------------------

INSTANCE = "6f1f6d0e-3f0c-4d0f-9a51-0d6b1f3f6c11"


@contextlib.contextmanager
def metadata_service(documents: dict[str, bytes]) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = documents.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Machine:
    """The image in a QEMU of its own, with the metadata service where a cloud has it."""

    def __init__(self, image: Path, disk: Path, folder: Path, metadata_port: int) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        relay = folder / "relay.py"  # QEMU starts it per connection of the guest to the service
        relay.write_text(
            "import os, socket, sys, threading\n"
            f"s = socket.create_connection(('127.0.0.1', {metadata_port}))\n"
            "def up():\n while data := os.read(0, 65536): s.sendall(data)\n"
            "threading.Thread(target=up, daemon=True).start()\n"
            "while data := s.recv(65536): os.write(1, data)\n"
        )
        options = json.loads((image / "guest.json").read_text())["os_command_line"]
        self.console = folder / "console.log"
        self.monitor = folder / "qmp"
        network = (
            "user,id=n,restrict=on,net=169.254.169.0/24,host=169.254.169.2,dhcpstart=169.254.169.15"
            f",hostfwd=tcp:127.0.0.1:{self.port}-:22"
            f",guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {relay}"
        )
        self.process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "--"),  # a test run that is killed leaves no machine
                *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "192", "-smp", "2"),
                *("-nodefaults", "-display", "none", "-uuid", INSTANCE),
                *("-serial", f"file:{self.console}", "-qmp", f"unix:{self.monitor},server=on,wait=off"),
                *(
                    "-kernel",
                    str(image / "vmlinuz"),
                    "-initrd",
                    str(image / "initrd.img"),
                    "-append",
                    options,
                ),
                *("-drive", f"file={disk},if=virtio,format=qcow2,cache=unsafe"),
                *("-netdev", network, "-device", "virtio-net-pci,netdev=n", "-device", "virtio-rng-pci"),
            ],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait_ready(self, times: int, within: float = 60) -> str:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            text = self.console.read_text(errors="replace") if self.console.exists() else ""
            if text.count("labproof-guest: READY ") >= times:
                return text
            assert self.process.poll() is None, f"QEMU ended:\n{text}"
            time.sleep(0.05)
        raise AssertionError(f"not ready within {within:.0f} s:\n{text}")

    def powerdown(self) -> None:
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self.monitor))
            for command in ("qmp_capabilities", "system_powerdown"):
                monitor.sendall(json.dumps({"execute": command}).encode())
                monitor.recv(65536)
            self.process.wait(20)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def login(port: int, key: paramiko.PKey) -> paramiko.SSHClient:
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect(
        "127.0.0.1", port, guest.LOGIN, pkey=key, allow_agent=False, look_for_keys=False, timeout=20
    )
    return client


def told(client: paramiko.SSHClient, command: str) -> str:
    _, out, err = client.exec_command(command, timeout=30)
    text = out.read().decode()
    assert out.channel.recv_exit_status() == 0, f"{command}: {text}{err.read().decode()}"
    return text.strip()


@pytest.fixture
def image() -> Path:
    return guest.ensure(lambda _: None)


def disk_of(image: Path, folder: Path) -> Path:
    """A server's disk on the image."""
    disk = folder / "disk.qcow2"
    base = ("-b", str(image / "root.qcow2"), "-F", "qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *base, str(disk), "2G"], check=True)
    return disk


def metadata_of(key: paramiko.PKey) -> bytes:
    public = f"{key.get_name()} {key.get_base64()} somebody\n"
    document = {"uuid": INSTANCE, "hostname": "calculator.novalocal", "public_keys": {"mine": public}}
    return json.dumps(document).encode()


@pytest.mark.box
def test_metadata_that_comes_late_still_opens_the_login(image: Path, tmp_path: Path) -> None:
    """SSH opens without it, for who wants to see what is wrong; with it comes the key, to the same host."""
    key, documents = paramiko.ECDSAKey.generate(), dict[str, bytes]()
    with metadata_service(documents) as port:
        machine = Machine(image, disk_of(image, tmp_path), tmp_path, port)
        try:
            end = time.monotonic() + 90
            while True:
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    transport = paramiko.Transport(("127.0.0.1", machine.port))
                    transport.start_client(timeout=20)
                    break
                assert time.monotonic() < end, machine.console.read_text()
            early = transport.get_remote_server_key()
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey(guest.LOGIN, key)
            transport.close()
            documents["/openstack/latest/meta_data.json"] = metadata_of(key)
            console = machine.wait_ready(1)
            assert early.get_base64() in console
            with login(machine.port, key) as client:
                opened = client.get_transport()
                assert opened is not None
                assert opened.get_remote_server_key() == early
                assert told(client, "hostname") == "calculator"
        finally:
            machine.end()


@pytest.mark.box
def test_a_server_from_power_on_to_power_off(image: Path, tmp_path: Path) -> None:
    disk, key = disk_of(image, tmp_path), paramiko.ECDSAKey.generate()
    documents = {
        "/openstack/latest/meta_data.json": metadata_of(key),
        "/openstack/latest/user_data": b"#!/bin/sh\necho once >> /root/user-data-ran\n",
    }
    with metadata_service(documents) as port:
        machine = Machine(image, disk, tmp_path, port)
        try:
            console = machine.wait_ready(1)
            assert "labproof-guest: initramfs" in console
            with login(machine.port, key) as client:
                transport = client.get_transport()
                assert transport is not None
                host_key = transport.get_remote_server_key().get_base64()
                block = console.split("-----BEGIN SSH HOST KEY KEYS-----")[1].split("-----END SSH HOST")[0]
                assert host_key in block
                assert told(client, "hostname") == "calculator"
                assert told(client, "nproc") == "2"
                assert told(client, "sudo id -un") == "root"
                assert told(client, "python3 -c 'import http.server, json; print(json.dumps([1]))'") == "[1]"
                assert int(told(client, "df --output=size -BM / | tail -n 1").rstrip("M")) > 1500
                assert "169.254.169.15/24" in told(client, "ip -4 -o address show dev eth0")
                told(client, "service ssh status && curl --version && ping -c 1 127.0.0.1 && ps ax")
                told(client, "echo kept > kept")
                with contextlib.suppress(TimeoutError):  # the session may end before its exit status
                    client.exec_command("sudo reboot", timeout=10)[1].read()
            machine.wait_ready(2)
            with login(machine.port, key) as client:
                transport = client.get_transport()
                assert transport is not None
                assert transport.get_remote_server_key().get_base64() == host_key
                assert told(client, "cat kept && sudo cat /root/user-data-ran") == "kept\nonce"
            machine.powerdown()
            assert machine.process.returncode == 0
        finally:
            machine.end()
