"""Where the embedded lab keeps what it built and what it runs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSIDE = HERE / "inside"
ETC = HERE / "etc"


def cache() -> Path:
    """Built images, each in a folder named by the hash of what determines its content."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labproof"


def state() -> Path:
    """What belongs to a running lab or a run, and goes with it."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "labproof"


def content_hash(parts: Iterable[str | bytes | Path]) -> str:
    """Twelve hexadecimal digits over texts, files and whole folders (names and contents, in order)."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for file in sorted(f for f in (part.rglob("*") if part.is_dir() else [part]) if f.is_file()):
                if "__pycache__" not in file.parts:
                    digest.update(
                        str(file.relative_to(part.parent)).encode() + b"\0" + file.read_bytes() + b"\0"
                    )
        else:
            digest.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return digest.hexdigest()[:12]


def once(done: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made first where it is not there.

    Several at once each make it; the first one's stays. What is half made never has the name `done`.

    Args:
        make: given the path of a folder that is not there yet.
    """
    if done.is_dir():
        return done
    scratch = done.with_name(f"{done.name}.{os.getpid()}")
    scratch.parent.mkdir(parents=True, exist_ok=True)
    try:
        make(scratch)
        publish(scratch, done)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done


def publish(scratch: Path, done: Path) -> None:
    """Puts a finished folder into the cache; one that another build has put there meanwhile is as good."""
    try:
        scratch.rename(done)
    except OSError:
        if not done.is_dir():
            raise


def sweep_scratch() -> None:
    """Removes the half-made folders (``NAME.PID``) of builds that were killed."""
    for path in cache().glob("*.[0-9]*"):
        pid = path.suffix.removeprefix(".")
        if path.is_dir() and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
