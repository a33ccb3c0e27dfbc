"""The registry of QEMU's disks and VMs: one JSON document in a folder, and the rules of VirtualBox's media registry."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from provision.natvm import Disk, Forwarding, NatVmError, OnProgress, VmSettings
from provision.qemu_image import QemuImg, read_uuid, set_uuid, virtual_size

LOCK_LIMIT = 180.0
FORMATS = ("qcow2", "raw")
MIB = 1024 * 1024


@dataclass
class Machine:
    """A VM's record."""

    settings: VmSettings
    rules: list[Forwarding] = field(default_factory=list)


@dataclass
class Medium:
    """A disk's record; its file's path is the key."""

    uuid: UUID
    format: str


@dataclass
class Document:
    """All that is registered."""

    disks: dict[Path, Medium] = field(default_factory=dict)
    vms: dict[str, Machine] = field(default_factory=dict)

    def user_of(self, disk: Path) -> str:
        """The VM that a disk is attached to; empty if none."""
        return next((name for name, vm in self.vms.items() if vm.settings.disk == disk), "")

    def vm(self, name: str) -> Machine:
        """The record of a VM.

        Raises:
            NatVmError: ``missing``.
        """
        if name not in self.vms:
            there = ", ".join(self.vms) or "there is none"
            raise NatVmError(
                "missing", f"looking for the VM {name}", f"no VM of that name is registered ({there})"
            )
        return self.vms[name]

    def to_json(self) -> dict[str, Any]:
        return {
            "version": 1,
            "disks": {str(path): asdict(medium) for path, medium in self.disks.items()},
            "vms": {name: asdict(vm) for name, vm in self.vms.items()},
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Document:
        """Raises ValueError, KeyError or TypeError where the document is not one of ours."""
        if document["version"] != 1:
            raise ValueError(f"version {document['version']}")
        disks = {
            Path(path): Medium(UUID(each["uuid"]), each["format"]) for path, each in document["disks"].items()
        }
        return cls(disks, {name: _machine(each) for name, each in document["vms"].items()})


def _machine(record: dict[str, Any]) -> Machine:
    settings: dict[str, Any] = {
        key: Path(value) if key in ("disk", "seed", "kernel", "initrd") and value is not None else value
        for key, value in record["settings"].items()
    }
    rules: list[dict[str, Any]] = [
        {
            key: IPv4Address(value) if key in ("host_ip", "guest_ip") and value is not None else value
            for key, value in rule.items()
        }
        for rule in record["rules"]
    ]
    return Machine(VmSettings(**settings), [Forwarding(**rule) for rule in rules])


class Registry:
    """The document, as it is on disk: read at any time, changed by one process (or thread) at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "registry.json"

    def read(self) -> Document:
        """What is registered.

        Raises:
            NatVmError: the document is damaged, or cannot be read.
        """
        try:
            return Document.from_json(json.loads(self._file.read_text()))
        except FileNotFoundError:
            return Document()
        except OSError as error:
            raise NatVmError("access", f"reading {self._file}", error.strerror or str(error)) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NatVmError(
                "fault",
                f"reading {self._file}",
                f"it is damaged ({error})",
                "end QEMU's processes and remove it",
            ) from error

    @contextmanager
    def changing(self) -> Iterator[Document]:
        """The document for a change, nobody else's meanwhile; written when the block ends without an error.

        Raises:
            NatVmError: ``timeout``, somebody else has it for too long; ``access``, it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "registry.lock").open("w")
        except OSError as error:
            raise NatVmError(
                "access", f"opening the registry in {self.folder}", error.strerror or str(error)
            ) from error
        with lock:
            self._wait_for(lock.fileno())
            document = self.read()
            before = document.to_json()
            yield document
            after = document.to_json()
            if after != before:
                self._write(after)

    def _wait_for(self, lock: int) -> None:
        end = time.monotonic() + LOCK_LIMIT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise NatVmError(
                        "timeout",
                        f"changing the registry in {self.folder}",
                        f"another process has it for more than {LOCK_LIMIT:.0f} s",
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _write(self, document: dict[str, Any]) -> None:
        new = self._file.with_suffix(".new")
        try:
            new.write_text(json.dumps(document, indent=1, default=str))
            new.replace(self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise NatVmError("access", f"writing {self._file}", error.strerror or str(error)) from error


class Disks:
    """The disks of a registry."""

    def __init__(self, registry: Registry, images: QemuImg) -> None:
        self.registry = registry
        self.images = images

    def all(self) -> list[Disk]:
        return [_disk(path, medium) for path, medium in self.registry.read().disks.items()]

    def register(self, document: Document, path: Path, tried: str) -> Disk:
        """Adds the file to `document`, which the caller is changing; one that is there already is as good.

        A qcow2 without a UUID is given one, in the file itself. A raw image has no place for it: its UUID is
        the registry's alone, and a copy of it is another disk.
        """
        known = document.disks.get(path)
        if known and not path.exists():
            raise NatVmError("missing", tried, f"{path}: No such file or directory")
        image = self.images.info(path, tried, form=known.format if known else "")
        if image.format not in FORMATS:
            raise NatVmError(
                "refused",
                tried,
                f"{path} is a {image.format} image, not one of {', '.join(FORMATS)}",
                f"convert it: qemu-img convert -O qcow2 {path} NEW",
            )
        uuid = self._inside(path, image.format, tried)
        if known:
            if uuid not in (None, known.uuid):
                raise NatVmError(
                    "conflict",
                    tried,
                    f"UUID {{{uuid}}} of the medium '{path}' does not match the value {{{known.uuid}}} stored "
                    "in the media registry",
                    "another file was put in its place: remove the disk from the registry first",
                )
            return _disk(path, known)
        for other, medium in document.disks.items():
            if uuid == medium.uuid:
                raise NatVmError(
                    "conflict",
                    tried,
                    f"Cannot register the hard disk '{path}' {{{uuid}}} because a hard disk '{other}' with UUID "
                    f"{{{uuid}}} already exists",
                    "clone the disk in place of copying its file",
                )
        medium = document.disks[path] = Medium(uuid or self._given(path, image.format, tried), image.format)
        return _disk(path, medium)

    def clone(self, source: Path, target: Path, on_progress: OnProgress | None) -> Disk:
        """See :meth:`provision.natvm.Hypervisor.clone_disk`. Internal snapshots are not cloned."""
        tried = f"cloning the disk {source} to {target}"
        known = self.registry.read().disks
        image = self.images.info(source, tried, form=known[source].format if source in known else "")
        if image.format not in FORMATS:
            raise NatVmError("refused", tried, f"{source} is a {image.format} image")
        if target.exists() or target.is_symlink() or target in known:
            raise NatVmError("conflict", tried, f"{target}: File exists", "choose another name")
        part = target.with_name(f".{target.name[:200]}.{os.getpid()}-{uuid4().hex[:8]}")
        created = False
        try:
            self.images.copy(source, part, image.format, tried, on_progress)
            with self.registry.changing() as document:
                uuid = self._given(part, image.format, tried)
                target.touch(exist_ok=False)  # what came there meanwhile is not overwritten
                created = True
                part.replace(target)
                medium = document.disks[target] = Medium(uuid, image.format)
        except BaseException as error:
            for ours in (part, *([target] if created else [])):
                with contextlib.suppress(OSError):
                    ours.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                raise NatVmError("conflict", tried, f"{target}: File exists") from error
            if isinstance(error, OSError):
                raise NatVmError("access", tried, f"{target}: {error.strerror or error}") from error
            raise
        return _disk(target, medium)

    def remove(self, path: Path) -> None:
        """See :meth:`provision.natvm.Hypervisor.remove_disk`."""
        tried = f"removing the disk {path}"
        with self.registry.changing() as document:
            if path not in document.disks:
                raise NatVmError("missing", tried, "it is not registered")
            if user := document.user_of(path):
                raise NatVmError("conflict", tried, f"it is attached to the VM {user}", "remove the VM first")
            self.forget(document, path, tried)

    def forget(self, document: Document, path: Path, tried: str) -> None:
        """Deletes the file, if it is still there, and its record in `document`, which the caller is changing."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise NatVmError("access", tried, f"{path}: {error.strerror or error}") from error
        document.disks.pop(path, None)

    def _inside(self, path: Path, form: str, tried: str) -> UUID | None:
        try:
            return read_uuid(path) if form == "qcow2" else None
        except (OSError, ValueError) as error:
            raise NatVmError("access", tried, f"reading the UUID of {path}: {error}") from error

    def _given(self, path: Path, form: str, tried: str) -> UUID:
        try:
            return set_uuid(path) if form == "qcow2" else uuid4()
        except (OSError, ValueError) as error:
            raise NatVmError("access", tried, f"giving {path} a UUID: {error}") from error


def _disk(path: Path, medium: Medium) -> Disk:
    """With the sizes that the file has now; 0 for one that is gone."""
    try:
        size, used = virtual_size(path, medium.format), path.stat().st_blocks * 512
    except OSError:
        size, used = 0, 0
    return Disk(medium.uuid, path, medium.format.upper(), size // MIB, used // MIB)
