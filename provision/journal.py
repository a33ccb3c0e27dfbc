"""What a run is about to make, written down before it is made, so that it is found again whatever happens.

A journal is JSON lines in ``~/.local/state/labproof/journal/<run>.jsonl`` (``XDG_STATE_HOME``): first who
writes it (process id, start time), then ``intend``, ``made``, ``removed``; ``keep`` says that all until there is
to stand. It holds names and ids, no secret.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = {"network": "subnet", "security group": "rules", "router": "leg"}
"""What goes with something by itself; its row has the id of that."""
CLOUD = frozenset({*PARTS, *PARTS.values(), "port", "floating IP", "server", "keypair", "image"})
"""Kinds that are on a cloud."""


class JournalError(Exception):
    """A journal cannot be written or read; says which file, and why."""


@dataclass(frozen=True)
class Entry:
    """Something that may still be there: ``id`` is empty if only the intention is known."""

    kind: str
    name: str
    id: str = ""


def folder() -> Path:
    """Where journals are kept."""
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "labproof" / "journal"


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc(5), field 22 of stat); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended: nobody but its parent's wait() is left to come.
    return None if fields[0] in {"Z", "X"} else int(fields[19])


class Journal:
    """The journal of one run, for its own process to write.

    Args:
        path: the file; None for ``<run>.jsonl`` in :func:`folder`. Continued if it is there.
        lab: the lab's name.
        run: the run's name.

    Raises:
        JournalError: it cannot be written.
    """

    def __init__(self, path: Path | None, lab: str, run: str) -> None:
        self.path = path or folder() / f"{run}.jsonl"
        self.lab = lab
        self.run = run
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _cut(self.path)
            self._file = self.path.open("a", encoding="utf-8")
            _sync_folder(self.path.parent)
        except OSError as error:
            raise JournalError(f"opening the journal {self.path}: {error.strerror}") from error
        owner = {"lab": lab, "run": run, "pid": os.getpid(), "started": started(os.getpid()), "boot": _boot()}
        self._write([{"what": "begin", "at": round(time.time(), 3), **owner}], sync=True)

    def intend(self, kind: str, name: str) -> None:
        """Writes down, for good, that something is about to be made."""
        self.intend_all([(kind, name)])

    def intend_all(self, things: Iterable[tuple[str, str]]) -> None:
        """Writes down several intentions with one wait for the disk."""
        self._write([{"what": "intend", "kind": kind, "name": name} for kind, name in things], sync=True)

    def made(self, kind: str, name: str, id: str) -> None:  # noqa: A002 - the API's own word
        # Not waited for: were the line lost, the intention before it still is found by its name.
        self._write([{"what": "made", "kind": kind, "name": name, "id": id}], sync=False)

    def removed(self, kind: str, id: str, name: str = "") -> None:  # noqa: A002
        """Notes that something was looked for after its removal, and is gone."""
        rows = [{"what": "removed", "kind": kind, "id": id, "name": name}]
        if kind in PARTS and id:
            rows.append({"what": "removed", "kind": PARTS[kind], "id": id, "name": name})
        self._write(rows, sync=False)

    def cleared(self, prefix: str) -> None:
        """Notes that the cloud was looked at, and has nothing whose name begins so."""
        self._write([{"what": "cleared", "prefix": prefix}], sync=False)

    def keep(self) -> None:
        """Notes that what there is now is to stand after its maker's end: no sweeper removes it."""
        self._write([{"what": "keep"}], sync=True)

    def close(self, *, empty: bool = False) -> None:
        """Ends writing; ``empty`` says that nothing is left of the run: the file goes."""
        with self._lock:
            self._file.close()
        if empty:
            self.path.unlink(missing_ok=True)

    def _write(self, rows: list[dict[str, Any]], *, sync: bool) -> None:
        if not rows:
            return
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
        try:
            with self._lock:
                self._file.write(text)
                self._file.flush()
                if sync:
                    os.fsync(self._file.fileno())
        except (OSError, ValueError) as error:
            raise JournalError(f"writing the journal {self.path}: {error}") from error


@dataclass(frozen=True)
class Record:
    """A journal that was read.

    Attributes:
        run, lab: whose it is.
        left: what may still be there, in the order of making.
        alive: whether the process that wrote it last still runs.
        kept: what was told to stand; it is not in ``left``.
        rebooted: whether the machine was started since it was last written.
    """

    path: Path
    lab: str
    run: str
    left: tuple[Entry, ...]
    alive: bool
    kept: tuple[Entry, ...] = ()
    rebooted: bool = False

    def unsettled(self, kinds: Collection[str]) -> bool:
        """Whether something of these kinds was asked for and no answer came: it may appear after its asker's death."""
        return not self.rebooted and any(entry.kind in kinds and not entry.id for entry in self.left)


def read(path: Path) -> Record:
    """Reads a journal. A last line that was cut off (the machine went down) does not count.

    Raises:
        JournalError: it cannot be read, or is no journal.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise JournalError(f"reading the journal {path}: {error}") from error
    owner: dict[str, Any] = {}
    left: dict[tuple[str, str], Entry] = {}
    kept: dict[tuple[str, str], Entry] = {}
    for row in _rows(path, text):
        what = row.get("what")
        if what == "begin":
            owner = row
        elif what in {"intend", "made"}:
            entry = Entry(str(row.get("kind")), str(row.get("name")), str(row.get("id", "")))
            (kept if (entry.kind, entry.name) in kept else left)[entry.kind, entry.name] = entry
        elif what == "keep":
            kept |= left
            left.clear()
        elif what == "cleared":
            for entries in (left, kept):
                for kind, name in list(entries):
                    if kind in CLOUD and name.startswith(str(row.get("prefix"))):
                        del entries[kind, name]
        elif what == "removed":
            for entries in (left, kept):
                _forget(entries, str(row.get("kind")), str(row.get("id", "")), str(row.get("name", "")))
    if not owner:
        raise JournalError(f"reading the journal {path}: it does not say whose it is (no line 'begin')")
    return Record(
        path,
        str(owner.get("lab")),
        str(owner.get("run")),
        tuple(left.values()),
        _alive(path, owner),
        tuple(kept.values()),
        rebooted=owner.get("boot") != _boot(),
    )


def read_all(
    where: Path | None = None, damaged: Callable[[JournalError], None] = lambda _: None
) -> Iterator[Record]:
    """All journals of a folder (the standard one for None); `damaged` is told of what cannot be read."""
    for path in sorted((where or folder()).glob("*.jsonl")):
        try:
            yield read(path)
        except JournalError as error:
            # one that is gone was swept just now
            if path.exists():
                damaged(error)


@contextmanager
def swept_alone(record: Record) -> Iterator[bool]:
    """Whether nobody else removes what a journal names; nobody else does while the block lasts."""
    try:
        file = record.path.open("rb")
    except FileNotFoundError:
        yield False  # somebody has done so
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield record.path.exists()


def _cut(path: Path) -> None:
    """Takes off a last line that was not finished (the machine went down): what follows would be no line either."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        os.truncate(path, whole)


def _sync_folder(path: Path) -> None:
    """A new file's name is on the disk only when its folder is."""
    folder_of = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder_of)
    finally:
        os.close(folder_of)


def _rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            raise JournalError(f"reading the journal {path}: line {number} is not JSON") from error
        if not isinstance(row, dict):
            raise JournalError(f"reading the journal {path}: line {number} is not an object")
        yield row


def _forget(left: dict[tuple[str, str], Entry], kind: str, id: str, name: str) -> None:  # noqa: A002
    for key, entry in list(left.items()):
        if entry.kind == kind and ((id and entry.id == id) or (name and entry.name == name)):
            del left[key]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _alive(path: Path, owner: dict[str, Any]) -> bool:
    if owner.get("boot") != _boot():
        return False
    pid = owner.get("pid", 0)
    if not isinstance(pid, int):
        raise JournalError(f"reading the journal {path}: the process id {pid!r} of its run is no number")
    return started(pid) == owner.get("started") is not None
