"""Looks for a run's real secrets in all that it puts out, and in all that it shows while it runs."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.commands.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        for file in state.glob("journal/*"):
            with suppress(OSError):
                self.journals.update(file.read_text(errors="replace").splitlines())
        for file in state.glob("runs/*/id_*"):
            with suppress(OSError):
                self.modes[file.name] = file.stat().st_mode & 0o777
            if file.suffix != ".pub":
                self.secrets.add_key(file)


@contextmanager
def watching(state: Path, secrets: Secrets) -> Iterator[Watched]:
    """Watches the process list, and what is written below the state's folder, while the block runs."""
    seen, ended = Watched(secrets), threading.Event()

    def look() -> None:
        while not ended.wait(EVERY):
            seen.look(state)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def files_below(folders: Iterable[Path]) -> dict[str, str]:
    """All files of the folders, as text; what is compressed in them is not looked into."""
    return {
        str(file): file.read_text(encoding="utf-8", errors="replace")
        for folder in folders
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }
