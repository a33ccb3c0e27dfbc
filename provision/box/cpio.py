"""An initramfs archive ("newc" cpio, Documentation/driver-api/early-userspace/buffer-format.rst of Linux)."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

# (name, mode, major, minor): the kernel opens the first as init's standard streams before devtmpfs is there
DEVICES = (("dev/console", 0o600, 5, 1), ("dev/null", 0o666, 1, 3))


def write_initramfs(folder: Path, target: Path) -> None:
    """Writes `folder`, owned by root and without dates, as an uncompressed archive with first device nodes.

    Uncompressed, because unpacking costs a guest under emulation more than reading does.
    """
    with target.open("wb") as archive:
        number = 0
        for path in sorted(folder.rglob("*")):
            number += 1
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                data, mode = b"", stat.S_IFDIR | 0o755
            elif stat.S_ISLNK(mode):
                data, mode = str(path.readlink()).encode(), stat.S_IFLNK | 0o777
            else:
                data = path.read_bytes()
            _entry(archive, number, path.relative_to(folder).as_posix(), mode, data)
        for name, mode, major, minor in DEVICES:
            number += 1
            _entry(archive, number, name, stat.S_IFCHR | mode, b"", device=(major, minor))
        _entry(archive, 0, "TRAILER!!!", 0, b"")


def _entry(
    archive: BinaryIO, number: int, name: str, mode: int, data: bytes, *, device: tuple[int, int] = (0, 0)
) -> None:
    label = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(label), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + label
    archive.write(head + b"\0" * (-len(head) % 4))
    archive.write(data + b"\0" * (-len(data) % 4))
