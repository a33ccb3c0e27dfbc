"""Disk images as QEMU knows them: looked at, cloned and snapshotted by ``qemu-img``; and the UUID inside a qcow2.

QEMU has no registry of disks and gives them no UUID. Ours is kept in the image itself, so that a plain copy
has the original's, as with VirtualBox: a header extension of the qcow2 format, which has a type number and a
length of its own, and which QEMU carries along whenever it writes the header (it does so with every extension
that it does not know; see docs/interop/qcow2.txt of QEMU, "Header extensions"). A persistent bitmap with the
UUID as its name would do as well until QEMU is killed: it is then marked as inconsistent, and the disk
cannot be resized any more.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

from provision.natvm import Kind, NatVmError, OnProgress
from provision.tied import tied

QCOW2 = b"QFI\xfb"
UUID_EXTENSION = 0x4C505549  # "LPUI"; the numbers that QEMU uses are in block/qcow2.c
BACKING_NAME_MAX = 1023
LOOK_LIMIT = 30.0
CLONE_LIMIT = 1800.0
PROGRESS = re.compile(rb"\((\d+\.\d+)/100%\)")


def kind_of(text: str, otherwise: Kind) -> Kind:
    """What sort of failure QEMU's own words tell of."""
    marks: tuple[tuple[str, Kind], ...] = (
        ("Is another process using the image", "conflict"),
        ("KVM kernel module", "configuration"),
        ("failed to initialize kvm", "configuration"),
        ("Permission denied", "access"),
        ("Read-only file system", "access"),
        ("No such file or directory", "missing"),
    )
    return next((kind for mark, kind in marks if mark in text), otherwise)


def one_line(text: str, limit: int = 600) -> str:
    """A program's output for a message: on one line, its end where it is long."""
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return line if len(line) <= limit else f"… {line[-limit:]}"


# --- the UUID -------------------------------------------------------------------------------------------


@dataclass
class _Header:
    """The part of a qcow2's first cluster that has the extensions: fixed fields, extensions, backing file's name."""

    fixed: bytes
    extensions: list[tuple[int, bytes]]
    backing: bytes
    cluster: int

    def packed(self) -> bytes:
        body = bytearray(self.fixed)
        for number, data in [*self.extensions, (0, b"")]:
            body += struct.pack(">II", number, len(data)) + data + bytes(-len(data) % 8)
        if self.backing:
            struct.pack_into(">QI", body, 8, len(body), len(self.backing))
            body += self.backing
        return bytes(body)


def _header(path: Path) -> _Header | None:
    """None for a file that is no qcow2."""
    with path.open("rb") as file:
        start = file.read(104)
        if len(start) < 72 or start[:4] != QCOW2:
            return None
        (version, backing_at, backing_length, cluster_bits) = struct.unpack_from(">IQII", start, 4)
        cluster = 1 << cluster_bits
        file.seek(0)
        first = file.read(cluster)
    at = 72 if version == 2 else struct.unpack_from(">I", first, 100)[0]
    fixed, extensions = first[:at], []
    while at + 8 <= len(first):
        number, length = struct.unpack_from(">II", first, at)
        if not number:
            break
        extensions.append((number, first[at + 8 : at + 8 + length]))
        at += 8 + length + -length % 8
    if backing_length > BACKING_NAME_MAX:
        raise ValueError(f"a backing file's name of {backing_length} bytes")
    return _Header(fixed, extensions, first[backing_at : backing_at + backing_length], cluster)


def read_uuid(path: Path) -> UUID | None:
    """The UUID inside a disk image; None if it has none, or is no qcow2.

    Raises:
        OSError: the file cannot be read.
    """
    header = _header(path)
    kept = dict(header.extensions).get(UUID_EXTENSION) if header else None
    return UUID(bytes=kept) if kept and len(kept) == 16 else None


def set_uuid(path: Path, uuid: UUID | None = None) -> UUID:
    """Gives a qcow2 another UUID (a new one unless told), as ``VBoxManage internalcommands sethduuid`` does.

    A plain copy of a disk can be registered after this. The image must not be in use, nor registered: the
    registry would refuse it from then on.

    Raises:
        OSError: the file cannot be written.
        ValueError: it is no qcow2, or its header has no room.
    """
    uuid = uuid or uuid4()
    header = _header(path)
    if header is None:
        raise ValueError(f"{path} is no qcow2 image: it has no place for a UUID")
    others = [(number, data) for number, data in header.extensions if number != UUID_EXTENSION]
    header.extensions = [*others, (UUID_EXTENSION, uuid.bytes)]
    packed = header.packed()
    if len(packed) > header.cluster:
        raise ValueError(f"the first cluster of {path} ({header.cluster} bytes) has no room for a UUID")
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, packed, 0)
    finally:
        os.close(descriptor)
    return uuid


def virtual_size(path: Path, form: str) -> int:
    """The bytes that a guest sees, of an image of format `form` (``qcow2`` or ``raw``).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(32)
    if form == "qcow2" and start[:4] == QCOW2 and len(start) == 32:
        return int(struct.unpack_from(">Q", start, 24)[0])
    return path.stat().st_size


# --- qemu-img -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Image:
    """What ``qemu-img info`` says.

    Attributes:
        snapshots: for each internal snapshot's name, the bytes of memory that it has (0: disk alone).
    """

    format: str
    size: int
    snapshots: dict[str, int]


class QemuImg:
    """The program ``qemu-img``, whose every failure is a NatVmError with its words."""

    def __init__(self, argv: Sequence[str] = ("qemu-img",)) -> None:
        self._argv = list(argv)

    @cached_property
    def _as_owner(self) -> list[str]:
        """A prefix with which root is held to the rights that files have, like everybody else.

        Root reads what nobody may read (CAP_DAC_OVERRIDE); an unreadable disk would be no error to it.
        """
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
        if os.geteuid() or shutil.which("setpriv") is None:
            return []
        works = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=LOOK_LIMIT)
        return [] if works.returncode else prefix  # a container can be without the right to drop rights

    def version(self) -> str:
        """The first line that it says of itself.

        Raises:
            NatVmError: ``configuration``, it cannot be run.
        """
        tried = "asking qemu-img for its version"
        said = self._run([*self._command(tried), "--version"], tried, LOOK_LIMIT, "configuration")
        return said.partition("\n")[0]

    def info(self, path: Path, tried: str, *, form: str = "", in_use: bool = False) -> Image:
        """What an image is, opened with no more rights than the file gives.

        Args:
            tried: what this is for, for the error.
            form: its format where that is known: what a guest writes to a raw disk can look like another's.
            in_use: whether another process may have it open for writing.

        Raises:
            NatVmError: ``missing``, ``access``; ``conflict`` if it is in use and may not be; ``refused`` if
                it is no disk image.
        """
        argv = [*self._as_owner, *self._command(tried), "info", "--output=json"]
        argv += [*(["-U"] if in_use else []), *(["-f", form] if form else [])]
        said = json.loads(self._run([*argv, str(path)], tried, LOOK_LIMIT, "refused"))
        snapshots = {str(each["name"]): int(each["vm-state-size"]) for each in said.get("snapshots", ())}
        return Image(str(said["format"]), int(said["virtual-size"]), snapshots)

    def snapshot(self, path: Path, name: str, tried: str) -> None:
        """Saves the disk's content inside the image, which must not be in use."""
        self._run(
            [*self._command(tried), "snapshot", "-q", "-c", name, str(path)], tried, CLONE_LIMIT, "refused"
        )

    def copy(self, source: Path, target: Path, form: str, tried: str, on_progress: OnProgress | None) -> None:
        """Writes the content of `source`, of format `form`, to the new image `target`.

        Raises:
            NatVmError: ``conflict``, the source is in use; ``fault``, the medium is full. What has been written
                of the target is the caller's to remove.
        """
        argv = [*self._command(tried), "convert", "-p", "-f", form, "-O", form, str(source), str(target)]
        process = subprocess.Popen(
            # without us nobody would register or remove what it writes
            tied(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout
        assert process.stderr
        overdue = threading.Timer(CLONE_LIMIT, process.kill)
        overdue.start()
        with process:
            try:
                said = b""
                while piece := os.read(process.stdout.fileno(), 4096):
                    *lines, said = (said + piece).split(b"\r")
                    for done in filter(None, map(PROGRESS.search, lines)):
                        if on_progress:
                            on_progress(float(done[1]))
                errors = process.stderr.read().decode(errors="replace")
            except BaseException:
                process.kill()
                raise
            finally:
                overdue.cancel()
        if process.returncode:
            raise NatVmError(kind_of(errors, "fault"), tried, one_line(errors) or "qemu-img failed")

    def _run(self, argv: Sequence[str], tried: str, limit: float, otherwise: Kind) -> str:
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, errors="replace", check=False, timeout=limit
            )
        except subprocess.TimeoutExpired as error:
            raise NatVmError("timeout", tried, f"qemu-img did not end within {limit:.0f} s") from error
        if done.returncode:
            text = done.stderr or done.stdout
            raise NatVmError(kind_of(text, otherwise), tried, one_line(text) or "qemu-img failed")
        return done.stdout

    def _command(self, tried: str) -> list[str]:
        if shutil.which(self._argv[0]) is None:
            raise NatVmError(
                "configuration",
                tried,
                f"{self._argv[0]} cannot be run: there is no such program",
                "install it (Debian: apt install qemu-utils)",
            )
        return self._argv
