"""Whether KVM really runs the guest on this machine.

A ``/dev/kvm`` that opens proves nothing: under some nested hypervisors a stock kernel hangs in early boot.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

DEVICE = Path("/dev/kvm")
MARK = b"labproof-guest: initramfs"  # what guest/initramfs says first
LIMIT = 15.0
MEMORY_MIB = 192


def kvm_works(
    kernel: Path, initrd: Path, cache_dir: Path, *, qemu: Sequence[str] = ("qemu-system-x86_64",)
) -> bool:
    """Boots this very `kernel` and `initrd` under KVM, once per machine, and waits for the first words.

    Args:
        kernel: the guest's kernel.
        initrd: its initramfs.
        cache_dir: the answer is remembered in its ``accel.json``, until the machine, its kernel, CPU or QEMU,
            or the guest's files change.
        qemu: argv of QEMU, sharing this process's files and /dev; `qemu_of` for another root file system's.

    Returns:
        False as well when /dev/kvm is missing or cannot be opened (not remembered: rights can be given), and
        when QEMU cannot be started. Takes at most LIMIT seconds.
    """
    if not _opens(DEVICE):
        return False
    memory = cache_dir / "accel.json"
    machine = _machine(kernel, initrd, qemu)
    known = _remembered(memory)
    if machine not in known:
        known[machine] = _boots(kernel, initrd, qemu)
        _remember(memory, known)
    return known[machine]


def qemu_of(root: Path) -> list[str]:
    """The QEMU of another Debian root file system, run without entering it.

    By the other system's own loader, since a chroot would have neither /dev/kvm nor the guest's files.
    """
    libraries = root / "usr/lib/x86_64-linux-gnu"
    return [
        *(str(root / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
        str(root / "usr/bin/qemu-system-x86_64"),
        *("-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios")),
    ]


def _opens(device: Path) -> bool:
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _machine(kernel: Path, initrd: Path, qemu: Sequence[str]) -> str:
    """A digest, since the parts name the machine and nobody needs to read them again."""
    parts = [_text(Path("/etc/machine-id")), platform.release(), _cpu_model(), " ".join(qemu)]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        answer = subprocess.run([*qemu, "--version"], capture_output=True, timeout=10, check=False)
        parts.append(answer.stdout.decode(errors="replace"))
    for file in (kernel, initrd):
        with contextlib.suppress(OSError):
            status = file.stat()
            parts.append(f"{status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _cpu_model() -> str:
    names = [line for line in _text(Path("/proc/cpuinfo")).splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _remembered(memory: Path) -> dict[str, bool]:
    try:
        document = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {str(machine): answer for machine, answer in document.items() if isinstance(answer, bool)}


def _remember(memory: Path, known: dict[str, bool]) -> None:
    memory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=memory.parent, prefix="accel-", delete=False) as file:
        json.dump(known, file, indent=2)
    Path(file.name).replace(memory)


def _boots(kernel: Path, initrd: Path, qemu: Sequence[str]) -> bool:
    argv = [
        *qemu,
        *("-machine", "pc", "-accel", "kvm", "-cpu", "host", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-kernel", str(kernel), "-initrd", str(initrd)),
        # the guest stops by itself soon after its first words: it has no disk to go on with
        *("-append", "console=ttyS0 quiet loglevel=3"),
    ]
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return False
    assert process.stdout is not None
    try:
        return _says(process.stdout.fileno(), MARK, LIMIT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        # a guest stuck in KVM dies late: it is not waited for without end
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


def _says(descriptor: int, mark: bytes, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    os.set_blocking(descriptor, False)
    heard = b""
    while time.monotonic() < deadline:
        try:
            piece = os.read(descriptor, 65536)
        except BlockingIOError:
            time.sleep(0.02)
            continue
        if not piece:
            return False
        heard += piece
        if mark in heard:
            return True
    return False
