"""Debian's real VirtualBox in namespaces of its own, for a student who is not root there.

VBoxManage starts a server that lingers; it ends with the namespaces, and what it wrote is in the folder given.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provision.box import virtualbox_rootfs as rootfs
from provision.box.command import environment

# The home has the same path inside and outside, so that a path means the same to the driver and to VirtualBox.
_ENTER = """
set -euo pipefail
rootfs=$1 run=$2 home=$3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$run"
mkdir "$run"/{upper,work,root}
new=$run/root
mount -t overlay overlay -o "lowerdir=$rootfs,upperdir=$run/upper,workdir=$run/work" "$new"
mount -t tmpfs -o mode=755,nosuid tmpfs "$new/dev"
for device in null zero full random urandom tty vboxdrv vboxdrvu vboxnetctl; do
    if [ -c "/dev/$device" ]; then cp -a "/dev/$device" "$new/dev/$device"; fi
done
mkdir "$new/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$new/dev/shm"
mount -t proc proc "$new/proc"
mount -t sysfs sysfs "$new/sys"
mount -t tmpfs -o mode=755 tmpfs "$new/run"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mkdir -p "$new$home"
mount --bind "$home" "$new$home"
mkdir "$new/run/old"
cd "$new"
pivot_root . run/old
cd /
umount -l /run/old
ip link set lo up
echo ready
sleep infinity &
wait
"""

# nsenter stays as the parent of what it runs inside: an interrupt is for that, as it would be without nsenter
# (a shell starts what it does not wait for with interrupts ignored, so they are switched on again inside)
_CALL = """
setpriv --pdeathsig KILL -- "$@" &
trap 'kill -INT $(cat /proc/$!/task/$!/children)' INT
wait $!
status=$?
while kill -0 $! 2>/dev/null; do
    wait $!
    status=$?
done
exit $status
"""


@dataclass(frozen=True)
class World:
    """VirtualBox in its namespaces.

    Attributes:
        init: their process 1, by its id outside.
        home: the student's home: all that is shared with the outside.
    """

    init: int
    home: Path

    @property
    def root(self) -> list[str]:
        """The words that run something there as root."""
        kinds = ("--mount", "--pid", "--net", "--ipc", "--uts")
        return ["nsenter", f"--target={self.init}", *kinds, "--"]

    @property
    def student(self) -> list[str]:
        """The words that run something there as the student; it ends when they are killed."""
        variables = {
            "HOME": self.home,
            "VBOX_USER_HOME": self.home / ".config",
            "USER": rootfs.USER,
            "LOGNAME": rootfs.USER,
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }
        user = (f"--reuid={rootfs.USER_ID}", f"--regid={rootfs.USER_ID}", "--clear-groups")
        variables_given = (f"{name}={value}" for name, value in variables.items())
        return [
            *("bash", "-c", _CALL, "call", *self.root),
            *(
                "setpriv",
                *user,
                "--pdeathsig",
                "KILL",
                "--",
                "env",
                "-i",
                "--default-signal=INT",
                *variables_given,
            ),
        ]

    @property
    def vboxmanage(self) -> list[str]:
        """The words that call VBoxManage."""
        return [*self.student, str(rootfs.PROGRAM)]

    def run(self, *words: str) -> str:
        """VBoxManage, called beside the driver."""
        return _output([*self.vboxmanage, *words])

    def vboxheadless(self) -> str:
        """What the program says that VirtualBox starts for a VM."""
        program = [*self.student, str(rootfs.PROGRAM.with_name("VBoxHeadless")), "--help"]
        return subprocess.run(
            program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30
        ).stdout

    def processes(self, name: str) -> list[str]:
        """The command lines of the processes there that have `name` in them."""
        lines = _output([*self.root, "ps", "-e", "-ww", "-o", "args"]).splitlines()
        return [line for line in lines if name in line]

    def server_ends(self, within: float = 30.0) -> bool:
        """Waits until VirtualBox's server has ended by itself."""
        deadline = time.monotonic() + within
        while self.processes("VBoxSVC"):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def disk(self, name: str, content: bytes) -> Path:
        """A disk image in the student's home, in the format that its ending names, with this content."""
        raw, image = self.home.with_name("disk.raw"), self.home / name
        if not image.parent.exists():
            image.parent.mkdir()
            give(image.parent)
        raw.write_bytes(content)
        subprocess.run(["qemu-img", "convert", "-O", image.suffix[1:], raw, image], check=True)
        raw.unlink()
        give(image)
        return image

    def small_folder(self, size: str) -> Path:
        """A folder of the student's, on a file system of its own of `size` (of mount's), seen inside only."""
        folder = self.home / "small"
        folder.mkdir()
        owner = f"uid={rootfs.USER_ID},gid={rootfs.USER_ID}"
        _output([*self.root, "mount", "-t", "tmpfs", "-o", f"size={size},{owner}", "tmpfs", str(folder)])
        return folder

    def names_in(self, folder: Path) -> list[str]:
        """What is in a folder, seen from inside."""
        return _output([*self.root, "ls", "-A", str(folder)]).splitlines()


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """VirtualBox for a new student whose home is in `folder`; it ends with this context.

    Raises:
        CommandError: VirtualBox could not be installed.
    """
    root = rootfs.ensure(print)
    run, home = folder / "run", folder / "home"
    for path in (run, home):
        path.mkdir()
    give(home)
    holder = subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--"),
            *("bash", "-c", _ENTER, "enter", str(root), str(run), str(home)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n", "VirtualBox's namespaces could not be made: see stderr"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        yield World(int(children[0]), home)
    finally:
        holder.kill()
        holder.communicate()


def give(path: Path) -> None:
    """Makes a file or folder the student's."""
    os.chown(path, rootfs.USER_ID, rootfs.USER_ID)


def _output(argv: Sequence[str]) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
