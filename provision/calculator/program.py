"""What is run as a service: this project's own program, or the lab's, as the lab file names it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provision.lab import Lab

OWN_FILE = Path(__file__).with_name("service.py")
PLACEHOLDER = re.compile(r"\{(service|port|bind)\}")
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - the topology's services are for other hosts


@dataclass(frozen=True)
class Program:
    """A program that is run as a service.

    Attributes:
        files: files, and folders with all that is in them; copied to the host, side by side.
        command: one program with its arguments, as a shell reads them, started among the files; in it
            ``{service}``, ``{port}`` and ``{bind}`` stand for the service's name, port and address to listen on.
    """

    files: tuple[Path, ...]
    command: str

    def started_as(self, service: str, port: int, bind: str | None) -> str:
        """The command for one service; ``bind`` is None for every address of its host."""
        values = {"service": service, "port": str(port), "bind": bind or EVERY_ADDRESS}
        return PLACEHOLDER.sub(lambda found: values[found[1]], self.command)


class Programs(dict[str, Program]):
    """Programs by the service's name; one that is not named gets the common one."""

    def __init__(self, common: Program, named: Mapping[str, Program] | None = None) -> None:
        super().__init__(named or {})
        self.common = common

    def __missing__(self, _: str) -> Program:
        return self.common


OWN = Programs(Program((OWN_FILE,), "python3 service.py {service} --port {port} --bind {bind}"))
"""The project's own program for every service."""


def program(lab: Lab) -> Programs:
    """The programs that a lab file names in ``[calculator]``; the project's own where it names none."""
    common = Program(lab.calculator_files, lab.calculator_command) if lab.calculator_command else OWN.common
    named = {
        name: Program(keys.get("files", lab.calculator_files), keys.get("command", lab.calculator_command))
        for name, keys in lab.calculator_services.items()
    }
    return Programs(common, named)


@dataclass(frozen=True)
class Package:
    """A service's folder on a host.

    Attributes:
        files: their contents, by their paths in it, and whether they are to be executed.
        fingerprint: of all that is in it.
    """

    files: Mapping[str, tuple[bytes, bool]]
    fingerprint: str


def package(program: Program, texts: Mapping[str, str]) -> Package:
    """Takes a program's files, under ``files/``, and texts by their names; those that begin by ``#!`` are executed.

    Raises:
        OSError: a file cannot be read.
    """
    files = {name: (text.encode(), text.startswith("#!")) for name, text in texts.items()}
    for named in program.files:
        for file in sorted(named.rglob("*")) if named.is_dir() else [named]:
            if not file.is_dir():
                path = f"files/{file.relative_to(named.parent).as_posix()}"
                files[path] = (file.read_bytes(), os.access(file, os.X_OK))
    digest = hashlib.sha256()
    for path, (data, executed) in sorted(files.items()):
        digest.update(f"{path}\0{executed}\0{len(data)}\0".encode() + data)
    return Package(files, digest.hexdigest())


def archive(packages: Mapping[str, Package]) -> bytes:
    """A gzipped tar of services' folders by their names, the fingerprint in each."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for name, made in packages.items():
            folder = tarfile.TarInfo(f"{name}/files")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
            files = {**made.files, "fingerprint": (f"{made.fingerprint}\n".encode(), False)}
            for path, (data, executed) in files.items():
                member = tarfile.TarInfo(f"{name}/{path}")
                member.size, member.mode = len(data), 0o755 if executed else 0o644
                tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()
