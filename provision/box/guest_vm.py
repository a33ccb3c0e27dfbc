"""The embedded lab's guest images as what NAT VMs are made of."""

from __future__ import annotations

import json
from pathlib import Path

from provision.nat_machines import Source

CPU_MODEL = "Nehalem"
"""All that Debian's programs ask for (x86-64-v2): what newer ones have costs more to emulate than it saves."""


def source(image: Path, memory_mb: int, cpus: int) -> Source:
    """The machine that boots the guest of the image folder `image`, cold; sizes as in :class:`Source`."""
    guest = json.loads((image / "guest.json").read_text())
    return Source(
        image / "root.qcow2", guest["login"], memory_mb, cpus,
        kernel=image / "vmlinuz", initrd=image / "initrd.img", command_line=guest["os_command_line"],
        cpu_model=CPU_MODEL, takes_config_drive=True,
    )  # fmt: skip
