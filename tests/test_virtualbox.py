"""What the VirtualBox driver makes of VBoxManage's words, where the real one does not say them on every machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provision import vboxmanage
from provision.natvm import NatVmError
from provision.vboxmanage import VBoxManage, fields, find_program, kind_of, words_of

DETAILS = (
    "VBoxManage: error: Details: code {code} (0x80bb0007), component MachineWrap, interface IMachine\n"
    'VBoxManage: error: Context: "LockMachine(a->session, LockType_Write)" at line 901 of file X.cpp\n'
)

# VirtualBox 7.2's own words on VMs that run, and on machines with a kernel driver that cannot run them
RECORDED = [
    (
        "conflict",
        "VBOX_E_INVALID_OBJECT_STATE",
        "Failed to lock source media '/home/student/vms/vm1/vm1.vdi'",
    ),
    (
        "refused",
        "VBOX_E_INVALID_OBJECT_STATE",
        "The machine 'vm1' is already locked by a session (or being locked or unlocked)",
    ),
    ("refused", "VBOX_E_INVALID_OBJECT_STATE", "Cannot unregister the machine 'vm1' while it is locked"),
    ("conflict", "NS_ERROR_INVALID_ARG", "A NAT rule of this name already exists"),
    ("configuration", "NS_ERROR_FAILURE", "VT-x is not available (VERR_VMX_NO_VMX)"),
    ("fault", "NS_ERROR_FAILURE", "The sky is falling"),
]


@pytest.mark.parametrize(("kind", "code", "text"), RECORDED)
def test_refusals(kind, code, text):
    errors = f"VBoxManage: error: {text}\n" + DETAILS.format(code=code)
    assert (kind_of(errors), words_of(errors)) == (kind, text)
    on_windows = errors.replace("VBoxManage:", "VBoxManage.exe:").replace("\n", "\r\n")
    assert (kind_of(on_windows), words_of(on_windows)) == (kind, text)


def test_several_lines_and_a_progress_that_broke_off():
    errors = (
        "0%...10%...20%...30%...VBOX_E_INVALID_OBJECT_STATE\n"
        "VBoxManage: error: Failed to take snapshot\n"
        "VBoxManage: error: Medium 'a.vdi' is attached to a virtual machine\n"
        + DETAILS.format(code="VBOX_E_INVALID_OBJECT_STATE")
    )
    assert words_of(errors) == "Failed to take snapshot / Medium 'a.vdi' is attached to a virtual machine"


def test_fields_of_a_running_vm():
    """Warnings before the answer, and lines that are no fields, do not disturb."""
    found = fields(
        "WARNING: The character device /dev/vboxdrv does not exist.\n"
        "\t Please install the virtualbox-dkms package: key=value\n"
        '\nname="vm 1"\nmemory=1024\n"SATA-0-0"="C:\\VMs\\a b.vdi"\nVMState="running"\n'
        'Forwarding(0)="Rule=1,tcp,,1235,,22"\nVideoMode="720,400,0"@0,0 1\nVRDEClients==0\n rec_screen0\n'
        'uartmode1="file,/x/console.log"\nteleporteraddress=""\n'
    )
    assert found["name"] == "vm 1"
    assert found["memory"] == "1024"
    assert found["SATA-0-0"] == "C:\\VMs\\a b.vdi"
    assert found["VMState"] == "running"
    assert found["Forwarding(0)"] == "Rule=1,tcp,,1235,,22"
    assert found["teleporteraddress"] == ""
    assert "key" not in "".join(found)


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$LC_ALL" "$LC_MESSAGES" "$LC_CTYPE" "$LANGUAGE" "$@"\n')
    path.chmod(0o755)
    return path


def test_where_vboxmanage_is(tmp_path, monkeypatch):
    """The real program before what is on PATH, which may be a wrapper; and none is said to be none."""
    wrapper, real = tmp_path / "bin/VBoxManage", tmp_path / "lib/VBoxManage"
    monkeypatch.setenv("PATH", str(wrapper.parent))
    monkeypatch.setattr(vboxmanage, "INSTALLED", (str(real),))
    with pytest.raises(NatVmError, match="install VirtualBox") as caught:
        find_program()
    assert caught.value.kind == "configuration"
    program(wrapper)
    assert find_program() == wrapper
    program(real)
    assert find_program() == real


def test_it_is_asked_in_english_with_the_users_own_characters(tmp_path, monkeypatch):
    """Words go to the program as they are, no shell between."""
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LC_MESSAGES", "fr_FR.UTF-8")
    monkeypatch.setenv("LANGUAGE", "de")
    manage = VBoxManage([str(program(tmp_path / "VBoxManage"))])
    assert manage("trying", "a b", "$HOME;").splitlines() == ["", "C", "de_DE.UTF-8", "", "a b", "$HOME;"]
    assert os.environ["LC_ALL"] == "de_DE.UTF-8"
