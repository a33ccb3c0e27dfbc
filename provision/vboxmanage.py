"""Calls of VBoxManage: found, run within a time limit, its answers parsed, its refusals put into words."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from provision.natvm import Kind, NatVmError, OnProgress

LIMIT = 60.0
"""Seconds that a call may take which neither copies a disk nor starts a VM. They are 0.1 s each, but VBoxManage was
seen to wait 10 s, and then go on, when VirtualBox's server had just started."""

SNAPSHOT_LIMIT, COPY_LIMIT, CANCEL_LIMIT = 300.0, 3600.0, 10.0
"""Seconds for a call that saves a VM's memory; for one that copies a disk; for taking a call back."""

# On PATH may be a shell script (VBox.sh) that puts warnings of its own before the answer.
INSTALLED = (
    "/usr/lib/virtualbox/VBoxManage",
    "/opt/VirtualBox/VBoxManage",
    "/Applications/VirtualBox.app/Contents/MacOS/VBoxManage",
)
ADVICE = "install VirtualBox, or put the folder of its VBoxManage on PATH"

# What VirtualBox says, and what kind of failure it is: the first that matches, of its text with its codes.
KINDS: tuple[tuple[Kind, str], ...] = (
    ("configuration", r"VERR_VM_DRIVER_|VERR_SUPDRV_|VERR_VMX_|VERR_SVM_|VERR_NEM_|Could not launch the VM process"),
    ("missing", r"Could not find a (registered machine|snapshot)|VERR_FILE_NOT_FOUND|VERR_PATH_NOT_FOUND"),
    ("access", r"VERR_ACCESS_DENIED|VERR_WRITE_PROTECT|VERR_SHARING_VIOLATION"),
    ("conflict", r"already exists|VERR_ALREADY_EXISTS|VBOX_E_OBJECT_IN_USE|Failed to lock source media"),
    ("conflict", r"is (already |still )?attached to"),
    ("boot", r"has terminated unexpectedly during startup"),
    ("refused", r"is not currently running|while it is locked|VBOX_E_INVALID_(VM|OBJECT)_STATE"),
    ("refused", r"VERR_NOT_SUPPORTED|VBOX_E_NOT_SUPPORTED|can't be used as the requested device type"),
)  # fmt: skip


def find_program() -> Path:
    """The real VBoxManage of an installed VirtualBox.

    Raises:
        NatVmError: ``configuration``, there is none.
    """
    windows = os.environ.get("VBOX_MSI_INSTALL_PATH")
    for candidate in (*INSTALLED, *([str(Path(windows, "VBoxManage.exe"))] if windows else [])):
        if found := shutil.which(candidate):
            return Path(found)
    if found := shutil.which("VBoxManage"):
        return Path(found)
    raise NatVmError("configuration", "looking for VBoxManage", "it is not on this machine", ADVICE)


def words_of(errors: str) -> str:
    """VirtualBox's own text, in one line, out of what VBoxManage wrote to its standard error."""
    said = []
    for line in errors.splitlines():
        text = re.sub(r"^(\d+%\.\.\.)+", "", line).strip()
        text, prefixed = re.subn(r"^VBoxManage(\.exe)?: error: ", "", text)
        if text and not (prefixed and re.match(r"(Details: code|Context: ) ?", text)):
            # the bare code after a broken-off progress is said again, in words, in the lines after it
            if not prefixed and re.fullmatch(r"[A-Z]+_[A-Z_]+", text):
                continue
            said.append(text.rstrip())
    return " / ".join(said)


def kind_of(errors: str) -> Kind:
    """What kind of failure VBoxManage wrote of; ``fault`` if it is none of the known."""
    return next((kind for kind, pattern in KINDS if re.search(pattern, errors)), "fault")


def fields(answer: str) -> dict[str, str]:
    """The ``key="value"`` lines of ``--machinereadable`` output; other lines are not VirtualBox's answer."""
    found: dict[str, str] = {}
    for line in answer.splitlines():
        match = re.fullmatch(r'"?([^"=]+)"?="?(.*?)"?', line)
        if match and not line[0].isspace():
            found[match[1]] = match[2]
    return found


def blocks(answer: str) -> Iterator[dict[str, str]]:
    """The entries of a list of media: ``Name:   value`` lines, each entry beginning with its UUID."""
    entry: dict[str, str] = {}
    for line in answer.splitlines():
        match = re.fullmatch(r"([A-Z][A-Za-z ]+):\s*(.*)", line)
        if not match:
            continue
        if match[1] == "UUID" and entry:
            yield entry
            entry = {}
        if match[1] == "UUID" or "UUID" in entry:
            entry[match[1]] = match[2].strip()
    if entry:
        yield entry


class VBoxManage:
    """The program, called with words and never through a shell."""

    def __init__(self, program: Sequence[str] = ()) -> None:
        """`program`: what to start before VBoxManage's own words; empty to look for it when it is needed."""
        self._program = list(program)

    def __call__(
        self, tried: str, *words: str, limit: float = LIMIT, on_progress: OnProgress | None = None
    ) -> str:
        """Runs ``VBoxManage words...`` to its end and returns its standard output.

        Args:
            tried: what it is for, for the error.
            limit: seconds that it may take; then it is ended.
            on_progress: told the percentages that it prints.

        Raises:
            NatVmError: of a kind by `kind_of`, with VirtualBox's own text; ``timeout``; ``configuration``, it
                could not be started.
        """
        if not self._program:
            self._program = [str(find_program())]
        # Files, not pipes: VBoxManage starts VirtualBox's server, which outlives it and may hold on to them.
        with tempfile.TemporaryDirectory(prefix="vboxmanage-", ignore_cleanup_errors=True) as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            with out.open("wb") as out_file, err.open("wb") as err_file:
                try:
                    process = subprocess.Popen(
                        [*self._program, *words],
                        stdin=subprocess.DEVNULL,
                        stdout=out_file,
                        stderr=err_file,
                        env=_environment(),
                        # Windows can interrupt a process only with its group
                        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
                    )
                except OSError as error:
                    raise NatVmError(
                        "configuration", tried, f"{self._program[0]} could not be started: {error.strerror}", ADVICE
                    ) from error  # fmt: skip
            try:
                ended = _wait(process, limit, err, on_progress)
            finally:
                if process.poll() is None:
                    _end(process)
            errors, answer = _text(err), _text(out)
        if not ended:
            said = words_of(errors) or "it said nothing"
            raise NatVmError(
                "timeout", tried, f"VBoxManage {words[0]} did not end within {limit:.0f} s: {said}"
            )
        if process.returncode:
            said = words_of(errors) or words_of(answer) or f"VBoxManage ended with {process.returncode}"
            raise NatVmError(kind_of(errors), tried, said)
        return answer


def list_media(manage: VBoxManage, tried: str) -> list[dict[str, str]]:
    """All that VirtualBox says of each hard disk that it knows: whole ones, and snapshots' changes to them."""
    return list(blocks(manage(tried, "list", "hdds", "--long")))


def _wait(process: subprocess.Popen[bytes], limit: float, err: Path, on_progress: OnProgress | None) -> bool:
    """Waits for the process's end, passing its progress on; returns whether it ended within `limit` seconds."""
    deadline = time.monotonic() + limit
    told = 0
    while True:
        left = deadline - time.monotonic()
        try:
            process.wait(max(0.0, min(left, 0.1) if on_progress else left))
            running = False
        except subprocess.TimeoutExpired:
            running = True
        if on_progress:
            percentages = re.findall(r"(\d+)%", _text(err))
            for percentage in percentages[told:]:
                on_progress(float(percentage))
            told = len(percentages)
        if not running or left <= 0:
            return not running


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupted as from a keyboard, it first cancels what VirtualBox's server is doing for it."""
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(CANCEL_LIMIT)
    process.kill()
    process.wait()


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def _environment() -> dict[str, str]:
    """This process's, but with VirtualBox's texts in English: they are parsed."""
    environment = dict(os.environ)
    everything = environment.pop("LC_ALL", "")
    if everything:
        environment["LC_CTYPE"] = everything
    environment["LC_MESSAGES"] = "C"
    environment.pop("LANGUAGE", None)
    return environment
