"""NAT VMs in VirtualBox 7, by its VBoxManage alone; on Linux, macOS and Windows."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from provision.natvm import Disk, NatVmError, OnProgress, VmSettings
from provision.vboxmanage import COPY_LIMIT, SNAPSHOT_LIMIT, VBoxManage, blocks, fields, list_media
from provision.virtualbox_vm import VirtualBoxVm, attached

CONTROLLER = "SATA"
CONSOLE = "console.log"


class VirtualBox:
    """VirtualBox on this machine: see :class:`provision.natvm.Hypervisor`."""

    def __init__(self, program: Sequence[str] = (), folder: Path | None = None) -> None:
        """
        Args:
            program: the words that call VBoxManage; empty to look for it where it is first needed.
            folder: where its VMs are made, each in a folder of its own; None for VirtualBox's own default.
        """
        self._manage = VBoxManage(program)
        self._folder = folder

    @property
    def name(self) -> str:
        return "virtualbox"

    def version(self) -> str:
        tried = "asking for VirtualBox's version"
        answer = self._manage(tried, "--version")
        if not (match := re.search(r"^\d+\.\d+\S*$", answer, re.MULTILINE)):
            raise NatVmError("configuration", tried, answer.strip() or "it said nothing")
        return match[0]

    def cannot_start(self) -> str:
        """Found out by starting a VM without a disk, which is removed again (about a second)."""
        name = f"labproof-probe-{secrets.token_hex(4)}"
        self._make(f"making VM {name} to see whether it starts", name)
        probe = VirtualBoxVm(self._manage, name, None)
        try:
            probe.start()
        except NatVmError as error:
            if error.kind not in ("configuration", "boot"):
                raise
            return f"{error.answer}; {error.advice}" if error.advice else error.answer
        finally:
            probe.remove()
        return ""

    def create(self, settings: VmSettings) -> VirtualBoxVm:
        tried = f"creating VM {settings.name}"
        if settings.kernel or settings.initrd or settings.command_line:
            raise NatVmError("refused", tried, "VirtualBox boots from a disk only, not a kernel by itself")
        # VirtualBox takes a name twice if it is in another folder, and a disk for several VMs
        if settings.name in self.vms():
            raise NatVmError("conflict", tried, f"there is a VM {settings.name} already")
        disk = _absolute(settings.disk)
        known = self._registered(tried, disk)
        if owner := _owner(self._look(tried, disk)):
            raise NatVmError("conflict", tried, f"VM {owner} has the disk {disk}", "clone the disk")
        self._make(tried, settings.name)
        vm = VirtualBoxVm(self._manage, settings.name, disk)
        try:
            self._equip(tried, settings, disk)
        except BaseException:
            vm.remove(disks=False)
            if not known:
                self._release(tried, disk)
            raise
        return vm

    def _make(self, tried: str, name: str) -> None:
        folder = ("--basefolder", str(_absolute(self._folder))) if self._folder else ()
        self._manage(tried, "createvm", "--name", name, "--ostype", "Linux_64", "--register", *folder)

    def _equip(self, tried: str, settings: VmSettings, disk: Path) -> None:
        vm = settings.name
        info = fields(self._manage(tried, "showvminfo", vm, "--machinereadable"))
        console = Path(info["CfgFile"]).with_name(CONSOLE)
        self._manage(
            *(tried, "modifyvm", vm, "--memory", str(settings.memory_mb), "--cpus", str(settings.cpus)),
            *("--nic1", "nat", "--audio-driver", "none"),
            *("--boot1", "disk", "--boot2", "none", "--boot3", "none"),
            *("--uart1", "0x3F8", "4", "--uartmode1", "file", str(console)),
        )
        kind = ("--add", "sata", "--controller", "IntelAhci", "--portcount", "2")
        self._manage(tried, "storagectl", vm, "--name", CONTROLLER, *kind)
        drives = [("hdd", disk)] + ([("dvddrive", _absolute(settings.seed))] if settings.seed else [])
        for port, (drive, medium) in enumerate(drives):
            slot = ("--storagectl", CONTROLLER, "--port", str(port), "--device", "0", "--type", drive)
            self._manage(tried, "storageattach", vm, *slot, "--medium", str(medium))

    def vm(self, name: str) -> VirtualBoxVm:
        tried = f"looking for VM {name}"
        info = fields(self._manage(tried, "showvminfo", name, "--machinereadable"))
        media = list_media(self._manage, tried)
        by_uuid = {medium["UUID"]: medium for medium in media}
        for *_, medium in attached(info, media):
            # what is attached after a snapshot holds only the changes since then
            while parent := by_uuid.get(medium["Parent UUID"]):
                medium = parent  # noqa: PLW2901
            return VirtualBoxVm(self._manage, info["name"], Path(medium["Location"]))
        return VirtualBoxVm(self._manage, info["name"], None)

    def vms(self) -> list[str]:
        answer = self._manage("listing the VMs", "list", "vms")
        return re.findall(r'^"(.*)" \{[0-9a-f-]{36}\}$', answer, re.MULTILINE)

    def unregistered(self) -> list[str]:
        """None: VirtualBox registers a VM with its first file, and removes it with its last."""
        return []

    def clear(self, name: str) -> None:
        raise NatVmError(
            "missing", f"clearing away VM {name}", "VirtualBox leaves nothing of a VM that it has not"
        )

    def disks(self) -> list[Disk]:
        media = list_media(self._manage, "listing the disks")
        return [_disk(medium) for medium in media if medium["Parent UUID"] == "base"]

    def register_disk(self, path: Path) -> Disk:
        path = _absolute(path)
        tried = f"registering the disk {path}"
        medium = self._look(tried, path)
        if not self._registered(tried, path):
            # It has no command for it: a disk that it looks at is forgotten when its server ends, seconds after
            # the last call. One that has a description is kept.
            self._manage(tried, "modifymedium", "disk", str(path), "--description", "registered by Labproof")
        return _disk(medium)

    def clone_disk(self, source: Path, target: Path, on_progress: OnProgress | None = None) -> Disk:
        source, target = _absolute(source), _absolute(target)
        tried = f"cloning the disk {source} to {target}"
        self._look(tried, source)
        if not target.parent.is_dir():
            raise NatVmError("missing", tried, f"there is no folder {target.parent}")
        known = self._registered(tried, source)
        was_there = target.exists()
        try:
            # in the source's format; VirtualBox itself removes what it has written when it cannot go on
            words = ("clonemedium", "disk", str(source), str(target))
            self._manage(tried, *words, limit=COPY_LIMIT, on_progress=on_progress)
        except BaseException as error:
            given_up = not isinstance(error, NatVmError) or error.kind == "timeout"
            if given_up and not was_there:
                self._discard(tried, target)
            raise
        finally:
            if not known:
                self._release(tried, source)
        return _disk(self._look(tried, target))

    def remove_disk(self, path: Path) -> None:
        path = _absolute(path)
        tried = f"removing the disk {path}"
        medium = self._registered(tried, path)
        if not medium:
            raise NatVmError("missing", tried, "it is not registered with VirtualBox")
        try:
            self._manage(tried, "closemedium", "disk", str(path), "--delete", limit=SNAPSHOT_LIMIT)
        except NatVmError as error:
            if owner := _owner(medium):
                raise NatVmError(error.kind, tried, error.answer, f"remove VM {owner} first") from error
            raise

    def used_by(self, path: Path) -> str:
        medium = self._registered(f"looking for who uses the disk {path}", _absolute(path))
        return _owner(medium) if medium else ""

    def _registered(self, tried: str, path: Path) -> dict[str, str] | None:
        """What VirtualBox knows of a disk in its registry."""
        media = list_media(self._manage, tried)
        return next((medium for medium in media if Path(medium["Location"]) == path), None)

    def _look(self, tried: str, path: Path) -> dict[str, str]:
        """What VirtualBox makes of a disk's file; the registry stays as it is."""
        if medium := self._registered(tried, path):
            if medium["State"] == "inaccessible":
                error = medium.get("Access Error", "it is inaccessible")
                raise NatVmError("access" if path.exists() else "missing", tried, error)
            return medium
        answer = self._manage(tried, "showmediuminfo", "disk", str(path))
        self._release(tried, path)
        return next(blocks(answer))

    def _discard(self, tried: str, path: Path) -> None:
        """Removes a copy that nobody waits for any more: VirtualBox keeps it if it was complete when cancelled."""
        with contextlib.suppress(NatVmError):
            if self._registered(tried, path):
                self._manage(tried, "closemedium", "disk", str(path), "--delete", limit=SNAPSHOT_LIMIT)
        path.unlink(missing_ok=True)

    def _release(self, tried: str, path: Path) -> None:
        """Takes a disk off the registry that VirtualBox put there for having looked at it."""
        if self._registered(tried, path):
            self._manage(tried, "closemedium", "disk", str(path))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (VirtualBox does not follow links either)


def _owner(medium: dict[str, str]) -> str:
    match = re.match(r"(.+?) \(UUID: ", medium.get("In use by VMs", ""))
    return match[1] if match else ""


def _disk(medium: dict[str, str]) -> Disk:
    """Of VirtualBox's "64 MBytes": MiB is what it means."""
    size, used = (int(medium.get(key, "0").split()[0]) for key in ("Capacity", "Size on disk"))
    return Disk(UUID(medium["UUID"]), Path(medium["Location"]), medium["Storage format"].upper(), size, used)
