"""Commands of the build: run to the end, with a time limit, and their last words in the error."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

Log = Callable[[str], None]
"""Takes one line of progress."""

# the variables of a developer's own shell (proxies of language tools, Python paths) are not the build's
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "http_proxy", "https_proxy", "no_proxy")


class BuildError(Exception):
    """The box's files could not be built: what was tried, and what came back."""


class CommandError(BuildError):
    """A command of the build failed: which, how, and the end of what it said."""

    def __init__(self, argv: Sequence[str], how: str, output: str) -> None:
        tail = "\n    ".join(output.strip().splitlines()[-12:])
        super().__init__(f"{' '.join(argv[:3])} … {how}\n    {tail}")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return {**kept, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


# what a build mounts stays in a mount namespace of its own, and its processes end with whoever started them: a
# build that is killed leaves neither, and nothing that removes its files can wander into /proc or /sys
ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)


HOME_NETWORK = "LABPROOF_HOME_NETWORK"
"""Path of the network namespace that this process, or who started it, left for one of the box's."""


def from_home() -> tuple[str, ...]:
    """A command prefix that leads back to where packages can be had; empty for a process that is there."""
    path = os.environ.get(HOME_NETWORK, "")
    return ("nsenter", f"--net={path}", "--") if path and Path(path).exists() else ()


def run(
    argv: Sequence[str], *, log: Log, timeout: float, cwd: Path | None = None, alone: bool = False
) -> str:
    """Runs `argv` to its end and returns its output (both streams).

    Args:
        log: told when it is done.
        timeout: seconds it may take.
        cwd: where it runs.
        alone: in mount and pid namespaces of its own, and on the network that this process was started in.

    Raises:
        CommandError: it could not be started, failed, or took longer than `timeout` seconds.
    """
    try:
        process = subprocess.Popen(
            [*from_home(), *ALONE, *argv] if alone else argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(),
            cwd=cwd,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(
            argv, f"could not be started ({error.strerror}): `make setup` installs it", ""
        ) from error
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandError(argv, f"did not end within {timeout:.0f} s", output) from None
        raise
    if process.returncode:
        raise CommandError(argv, f"ended with status {process.returncode}", output)
    log(f"{Path(argv[0]).name} done")
    return output
