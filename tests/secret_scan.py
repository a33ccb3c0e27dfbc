"""Looks for a run's real secrets in all that it puts out, and in all that it shows while it runs."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import iglob
from pathlib import Path

from reports.redaction import forms, key_lines

EVERY = 0.05
# whoever they are of: a keystone (Fernet) token, a private key
SHAPES = {
    "a token": re.compile(r"\bgAAAA[\w-]{40,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\S{20,}"),
}


@dataclass
class Secrets:
    """Secrets by what they are, and what of them is found in a text."""

    forms: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, *values: str) -> None:
        for value in values:
            self.forms.update(dict.fromkeys(forms(value), what))

    def add_key(self, file: Path) -> None:
        with suppress(OSError, UnicodeDecodeError):
            self.add(f"the private key {file.parent.name}/{file.name}", *key_lines(file.read_text("ascii")))

    def found_in(self, text: str) -> set[str]:
        found = {what for form, what in self.forms.items() if form in text}
        return found | {what for what, shape in SHAPES.items() if shape.search(text)}

    def scan(self, texts: Mapping[str, str]) -> list[str]:
        """What is told where."""
        return sorted(
            f"{where} tells {what}" for where, text in texts.items() for what in self.found_in(text)
        )


def of_box(data: Path) -> Secrets:
    """Those of an embedded lab: every password that was made for it, and the message queue's cookie."""
    secrets = Secrets()
    for name, value in json.loads((data / "secrets.json").read_text()).items():
        secrets.add(name, value)
    cookie = data / "state" / "rabbitmq" / ".erlang.cookie"
    with suppress(OSError):
        secrets.add("the cookie of the message queue", cookie.read_text().strip())
    return secrets


def _paths(pattern: str) -> Iterator[Path]:
    # unlike a path's own, this glob passes over a folder that goes while it looks: runs end, processes too
    return map(Path, iglob(pattern))  # noqa: PTH207


@dataclass
class Watched:
    """What was seen while something ran.

    Attributes:
        commands: command lines that stood in the process list.
        journals: every line that a journal held.
        secrets: gets the keys as they are made.
    """

    secrets: Secrets
    commands: set[str] = field(default_factory=set)
    journals: set[str] = field(default_factory=set)
    modes: dict[str, int] = field(default_factory=dict)

    def look(self, state: Path) -> None:
        for entry in _paths("/proc/[0-9]*/cmdline"):
            with suppress(OSError):
                self.commands.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        for file in _paths(f"{state}/journal/*"):
            with suppress(OSError):
                self.journals.update(file.read_text(errors="replace").splitlines())
        for file in _paths(f"{state}/runs/*/id_*"):
            with suppress(OSError):
                self.modes[file.name] = file.stat().st_mode & 0o777
            if file.suffix != ".pub":
                self.secrets.add_key(file)


@contextmanager
def watching(state: Path, secrets: Secrets) -> Iterator[Watched]:
    """Watches the process list, and what is written below the state's folder, while the block runs.

    Raises:
        Exception: what ended the watch before the block's end; what was not watched is not said to tell nothing.
    """
    seen, ended = Watched(secrets), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            seen.look(state)

    with ThreadPoolExecutor(1, "watch") as pool:
        watch = pool.submit(look)
        try:
            yield seen
        finally:
            ended.set()
        watch.result()


def files_below(folders: Iterable[Path]) -> dict[str, str]:
    """All files of the folders, as text; what is compressed in them is not looked into."""
    return {
        str(file): file.read_text(encoding="utf-8", errors="replace")
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
