"""A VM of VirtualBox: its state, its forwarding rules, its snapshots, its end."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal, cast

from provision.natvm import NAME, Forwarding, NatVmError, State
from provision.vboxmanage import COPY_LIMIT, SNAPSHOT_LIMIT, VBoxManage, fields, list_media

START_LIMIT, END_LIMIT = 120.0, 20.0
"""Seconds for: starting a VM; the end of a VM that was switched off."""

OFF: dict[str, State] = {"poweroff": "off", "aborted": "aborted", "saved": "saved", "aborted-saved": "saved"}
"""VirtualBox's states of a VM that no process runs, in our words; in all others one does."""

NO_DRIVER = (
    "VirtualBox's kernel driver is most likely not loaded (its process ended before it began a log): on Linux "
    "install virtualbox-dkms or run `sudo /sbin/vboxconfig`, elsewhere install VirtualBox again"
)


class VirtualBoxVm:
    """A VM of VirtualBox: see :class:`provision.natvm.NatVm`."""

    def __init__(self, manage: VBoxManage, name: str, disk: Path | None) -> None:
        self._manage = manage
        self._name = name
        self._disk = disk

    @property
    def name(self) -> str:
        return self._name

    @property
    def disk(self) -> Path:
        if self._disk is None:
            raise NatVmError("missing", f"looking for the disk of VM {self.name}", "it has none")
        return self._disk

    def state(self) -> State:
        return OFF.get(self._info("reading the state of")["VMState"], "running")

    def start(self) -> None:
        tried = f"starting VM {self.name}"
        if self.state() != "running":
            for rule in self.forwardings():
                _require_free_port(tried, rule)
        begun = time.time()
        try:
            self._manage(tried, "startvm", self.name, "--type", "headless", limit=START_LIMIT)
        except NatVmError as error:
            if error.kind == "timeout":
                self._switch_off(tried)
            if error.kind not in ("boot", "fault"):
                raise
            log = Path(self._info(tried)["LogFldr"], "VBox.log")
            try:
                logged = log.stat().st_mtime >= begun - 2  # file systems count in up to two seconds
            except OSError:
                logged = False
            if logged or error.kind == "fault":
                raise NatVmError("boot", tried, error.answer, f"see {log}") from error
            raise NatVmError("configuration", tried, error.answer, NO_DRIVER) from error

    def resume(self, snapshot: str) -> None:
        tried = f"resuming VM {self.name} from snapshot {snapshot}"
        rules = self.forwardings()
        self._manage(tried, "snapshot", self.name, "restore", snapshot, limit=SNAPSHOT_LIMIT)
        # a snapshot brings back the rules that held when it was taken
        restored = self.forwardings()
        for rule in restored:
            if rule not in rules:
                self.unforward(rule.name)
        for rule in rules:
            if rule not in restored:
                self.forward(rule)
        # told now, because VirtualBox does not say it of a snapshot that it has not restored
        if self.state() != "saved":
            raise NatVmError("refused", tried, "the VM was off when it was taken, and is now", "start it")
        self.start()

    def console(self) -> str:
        file = _console(self._info("reading the console of"))
        try:
            return file.read_bytes().decode(errors="replace") if file else ""
        except FileNotFoundError:  # it has not been started
            return ""

    def forward(self, rule: Forwarding) -> None:
        tried = f"adding forwarding rule {rule.name} to VM {self.name}"
        same = [
            other
            for other in self.forwardings()
            if (other.protocol, other.host_port) == (rule.protocol, rule.host_port)
        ]
        for other in same:
            # VirtualBox takes a rule for all of the host's addresses beside one for one of them, and carries
            # out only whichever is first
            if other.host_ip != rule.host_ip and None in (other.host_ip, rule.host_ip):
                raise NatVmError("conflict", tried, f"the rule {other} has this host port")
        if not same and self.state() == "running":
            _require_free_port(tried, rule)
        addresses = str(rule.host_ip or ""), str(rule.guest_ip or "")
        text = f"{rule.name},{rule.protocol},{addresses[0]},{rule.host_port},{addresses[1]},{rule.guest_port}"
        self._change_rules(tried, text)

    def unforward(self, name: str) -> None:
        tried = f"deleting forwarding rule {name} of VM {self.name}"
        # asked first, because VirtualBox says "invalid argument" and no more
        if name not in [rule.name for rule in self.forwardings()]:
            raise NatVmError("missing", tried, f"VM {self.name} has no forwarding rule of this name")
        self._change_rules(tried, "delete", name)

    def _change_rules(self, tried: str, *words: str) -> None:
        if self.state() == "running":
            self._manage(tried, "controlvm", self.name, "natpf1", *words)
        else:
            self._manage(tried, "modifyvm", self.name, "--natpf1", *words)

    def forwardings(self) -> list[Forwarding]:
        doing = "reading the forwarding rules of"
        texts = [text for key, text in self._info(doing).items() if re.fullmatch(r"Forwarding\(\d+\)", key)]
        try:
            return [_rule(text) for text in texts]
        except ValueError as error:
            raise NatVmError(
                "refused", f"{doing} VM {self.name}", str(error), "rename, mend or delete it in VirtualBox"
            ) from error

    def snapshot(self, name: str) -> None:
        tried = f"taking snapshot {name} of VM {self.name}"
        if not NAME.fullmatch(name):
            raise NatVmError("refused", tried, "a name has letters, digits, '_', '.' and '-' only")
        # VirtualBox takes a name twice
        if name in self._snapshots("SnapshotName"):
            raise NatVmError("conflict", tried, f"VM {self.name} has a snapshot of this name")
        self._manage(tried, "snapshot", self.name, "take", name, limit=SNAPSHOT_LIMIT)

    def _snapshots(self, key: Literal["SnapshotName", "SnapshotUUID"]) -> list[str]:
        """The names or the UUIDs, those that others are based on before those."""
        info = self._info("listing the snapshots of")
        return [value for name, value in info.items() if re.fullmatch(rf"{key}(-\d+)*", name)]

    def stop(self, *, within: float = 30.0) -> None:
        if self.state() != "running":
            return
        if within > 0:
            # a guest that is paused, or ending by itself just now, takes no button
            with contextlib.suppress(NatVmError):
                self._manage(f"stopping VM {self.name}", "controlvm", self.name, "acpipowerbutton")
            if self._is_off(within):
                return
        self._switch_off(f"stopping VM {self.name}")

    def _switch_off(self, tried: str) -> None:
        try:
            self._manage(tried, "controlvm", self.name, "poweroff")
        except NatVmError:
            if self.state() == "running":
                raise
        if not self._is_off(END_LIMIT):
            raise NatVmError("timeout", tried, f"it was switched off, and runs {END_LIMIT:.0f} s later")

    def _is_off(self, within: float) -> bool:
        """Whether it is off, with VirtualBox ready to change it again, in at most so many seconds."""
        deadline = time.monotonic() + within
        while True:
            info = self._info("waiting for the end of")
            if info["VMState"] in OFF and "SessionName" not in info:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)

    def remove(self, *, disks: bool = True) -> None:
        tried = f"removing VM {self.name}"
        self.stop(within=0)
        if not disks:
            # merges what was written after each into the disk's own file
            for snapshot in reversed(self._snapshots("SnapshotUUID")):
                self._manage(tried, "snapshot", self.name, "delete", snapshot, limit=COPY_LIMIT)
        info = self._info("removing")
        if not disks:
            for controller, port, device, _ in attached(info, list_media(self._manage, tried)):
                slot = ("--storagectl", controller, "--port", port, "--device", device)
                self._manage(tried, "storageattach", self.name, *slot, "--medium", "none")
        file = _console(info)
        if file and file.parent == Path(info["CfgFile"]).parent:
            file.unlink(missing_ok=True)  # VirtualBox would leave it, and the folder because of it
        self._manage(tried, "unregistervm", self.name, "--delete", limit=SNAPSHOT_LIMIT)

    def _info(self, doing: str) -> dict[str, str]:
        return fields(self._manage(f"{doing} VM {self.name}", "showvminfo", self.name, "--machinereadable"))


def attached(
    info: dict[str, str], media: list[dict[str, str]]
) -> Iterator[tuple[str, str, str, dict[str, str]]]:
    """A VM's disks: controller, port, device, and the medium."""
    there = {medium["Location"]: medium for medium in media}
    for key, value in info.items():
        if (match := re.fullmatch(r"(.+)-(\d+)-(\d+)", key)) and value in there:
            yield match[1], match[2], match[3], there[value]


def _console(info: dict[str, str]) -> Path | None:
    mode, _, file = info.get("uartmode1", "").partition(",")
    return Path(file) if mode == "file" else None


def _rule(text: str) -> Forwarding:
    name, protocol, host_ip, host_port, guest_ip, guest_port = text.split(",")
    return Forwarding(
        name,
        int(host_port),
        int(guest_port),
        cast("Literal['tcp', 'udp']", protocol),
        IPv4Address(host_ip) if host_ip else None,
        IPv4Address(guest_ip) if guest_ip else None,
    )


def _require_free_port(tried: str, rule: Forwarding) -> None:
    """VirtualBox starts a VM whose host port is taken all the same, and says so in its log alone."""
    kind = socket.SOCK_DGRAM if rule.protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if os.name == "posix" and rule.protocol == "tcp":
            # connections that have ended do not count; elsewhere this would take the port from its owner
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((str(rule.host_ip or ""), rule.host_port))
        except OSError as error:
            raise NatVmError(
                "conflict", tried, f"host port {rule.host_port} cannot be listened on: {error.strerror}",
                f"end the program that has it, or use another port in rule {rule.name}",
            ) from error  # fmt: skip
