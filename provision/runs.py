"""What a run needs to find again when it was told to leave its things standing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision.box.paths import state


@dataclass(frozen=True)
class Kept:
    """A run's name on the lab, and the key to its machines.

    Attributes:
        lab: the lab's name.
        run: the run that made, or makes, the things: they are named and tagged with it.
        key: private SSH key that opens its machines, readable by its owner alone.
        parts: what an earlier run left standing: ``openstack``, ``natvm``...
        held: what may stand of the run now; its journal is kept while there is something.
    """

    lab: str
    run: str
    key: Path
    parts: frozenset[str] = frozenset()
    held: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.held.update(self.parts)

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    def stands(self, part: str) -> bool:
        """Whether an earlier run left that part standing."""
        return part in self.parts

    def hold(self, part: str) -> None:
        """Something of a part is about to be made."""
        self.held.add(part)

    def remember(self, part: str) -> None:
        """Has the next run on the lab use what this one leaves standing of a part."""
        _write(self.lab, self.run, _left(self.lab, self.run) | {part})

    def forget(self, part: str) -> None:
        """There is nothing left of a part."""
        self.held.discard(part)
        if left := _left(self.lab, self.run):
            _write(self.lab, self.run, left - {part})

    def close(self) -> None:
        """The run is over: where nothing of it stands, its key goes."""
        if not _left(self.lab, self.run):
            drop_key(self.run)


def standing_run(lab: str) -> Kept | None:
    """The run that was left standing on a lab."""
    run, parts = _read(lab)
    if parts and (key := _key(run)).is_file():
        return Kept(lab, run, key, parts)
    return None


def begin_run(lab: str, run: str) -> Kept:
    """A new run, with a key of its own."""
    return Kept(lab, run, key_of(run).file)


def _read(lab: str) -> tuple[str, frozenset[str]]:
    try:
        document = json.loads(_pointer(lab).read_text())
        return str(document["run"]), frozenset(document["parts"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", frozenset()


def _left(lab: str, run: str) -> frozenset[str]:
    named, parts = _read(lab)
    return parts if named == run else frozenset()


def _write(lab: str, run: str, parts: frozenset[str]) -> None:
    pointer = _pointer(lab)
    if not parts:
        pointer.unlink(missing_ok=True)
        return
    scratch = pointer.with_suffix(".new")
    scratch.write_text(json.dumps({"run": run, "parts": sorted(parts)}))
    scratch.replace(pointer)


@dataclass(frozen=True)
class Key:
    """An SSH key pair: the private one's file, and the public one as OpenSSH writes it."""

    file: Path
    public: str


def key_of(run: str) -> Key:
    """The key of a run, made at the first call."""
    file = _key(run)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return make_key(file)
    return Key(file, file.with_suffix(".pub").read_text().strip())


def drop_key(run: str) -> None:
    """Nothing is left of a run that its key would open."""
    shutil.rmtree(_key(run).parent, ignore_errors=True)


def _pointer(lab: str) -> Path:
    return state() / "runs" / f"{lab}.json"


def key_file(run: str) -> Path:
    """Where the private key of a run is, or will be."""
    return _key(run)


def _key(run: str) -> Path:
    return state() / "runs" / run / "id_ed25519"


def make_key(file: Path) -> Key:
    """Makes a key pair: `file`, readable by its owner alone, and the public one beside it."""
    key = Ed25519PrivateKey.generate()
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    file.with_suffix(".pub").write_bytes(public + b" labproof\n")
    return Key(file, file.with_suffix(".pub").read_text().strip())
