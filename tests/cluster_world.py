"""The box's networks alone, without a cloud in them: enough for a cluster, there in a moment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provision.box.command import environment
from provision.box.namespaces import KINDS, Holder
from provision.box.paths import INSIDE

# what the box's own process 1 does before it starts services; then it only reaps, as `tini` would
INSIDE_IT = (
    "mount --make-rprivate / && mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns && mount -t proc proc /proc && "
    '. "$0/world.sh" && echo there && exec python3 -c "import signal, os\n'
    "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    'while True: signal.pause()"'
)


@contextmanager
def world() -> Iterator[Holder]:
    """The namespaces, with desktop, neighbour, outside and the upstream router; all in them ends with them."""
    argv = ["unshare", *(f"--{kind}" for kind in KINDS), "--fork", "--kill-child", "--", "bash", "-euc"]
    process = subprocess.Popen(
        [*argv, INSIDE_IT, str(INSIDE)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        cwd="/",
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "there\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Holder(process.pid, int(children[0]))
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
