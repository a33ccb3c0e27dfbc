"""The cluster's container images: made here, of Debian's packages and the programs that were built.

The nodes find them in their containerd from the start: :func:`ensure` lets a containerd take them in once, and a
node's own store begins as a copy of that one in which the layers are shared (:mod:`provision.box.cluster_nodes`).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from provision.box import debian
from provision.box.cluster_build import SUITE, Built
from provision.box.command import Log, run
from provision.box.paths import HERE, cache, content_hash, once

SCRIPTS = HERE / "kubernetes"
VERSION = "v1.20.2"
PAUSE = "labproof/pause:3.2"
PLUGIN = "labproof/cni:1"
ETCD = "labproof/etcd:3.4.23"
PYTHON = "labproof/python:1"
"""Python 3 of Debian, and its standard library: what runs the lab's application."""
CLIENT = "labproof/client:1"
"""The test pods': curl, a shell, getent, ip."""
# process 1 of a container is not ended by a signal that it does not take
IDLE = ("sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait")
PACKAGES = ("python3", "curl", "iproute2", "iptables", "conntrack", "ipset", "procps", "netbase")
"""What the base of most images has beside Debian's essential packages."""
CREATED = "2021-01-13T00:00:00Z"
PATHS = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Image:
    """An image to be made.

    Attributes:
        name: with its tag.
        command: what a container of it runs.
        files: by their path in the image; executable.
        base: whether it lies on the Debian base; otherwise it has its files alone.
    """

    name: str
    command: Sequence[str]
    files: Mapping[str, Path] = field(default_factory=dict)
    base: bool = True


def kubernetes(program: str) -> str:
    """The name of the image with one of Kubernetes' own programs."""
    return f"labproof/{program}:{VERSION}"


def recipes(built: Built) -> list[Image]:
    """The images that every node has."""
    own = [
        Image(
            kubernetes(program),
            [program],
            {f"usr/local/bin/{program}": built.programs / program},
            base=program == "kube-proxy",
        )
        for program in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")
    ]
    return [
        *own,
        Image(ETCD, ["etcd"], {"usr/local/bin/etcd": built.root / "usr/bin/etcd"}),
        Image(PAUSE, ["/pause"], {"pause": built.programs / "pause"}, base=False),
        Image(PLUGIN, ["python3", "-u", "/plugin.py"], {"plugin.py": SCRIPTS / "plugin.py"}),
        Image(PYTHON, ["python3"]),
        Image(CLIENT, IDLE),
    ]


def base(log: Log) -> Path:
    """The Debian base as one layer, an uncompressed archive; made first where the cache has none.

    Raises:
        CommandError: a package could not be had or installed.
    """
    key = content_hash([HERE / "debian.py", SUITE, *PACKAGES])
    return once(cache() / f"image-base-{key}", lambda scratch: _make_base(scratch, log)) / "layer.tar"


def _make_base(out: Path, log: Log) -> None:
    out.mkdir()
    root = out / "root"
    log("images: a Debian base with Python and curl")
    debian.bootstrap(SUITE, root, debian.MERGED_USR, packages=PACKAGES, log=log)
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "usr/share/i18n"):
        shutil.rmtree(root / folder, ignore_errors=True)
    for name in ("resolv.conf", "hostname"):
        (root / "etc" / name).unlink(missing_ok=True)
    run(
        # devices are the runtime's to make
        ["tar", "--numeric-owner", "--exclude=./dev/*", "-C", str(root), "-cf", str(out / "layer.tar"), "."],
        log=log,
        timeout=120,
    )
    shutil.rmtree(root)


def archive(images: Sequence[Image], out: Path, log: Log) -> None:
    """Writes the images into one archive, as ``docker save`` lays it out; layers that they share are in it once.

    Raises:
        CommandError: the base could not be made.
    """
    below = base(log) if any(image.base for image in images) else None
    below_digest = _digest(below) if below else ""
    index = []
    with tarfile.open(out, "w") as tar:
        if below:
            tar.add(below, f"{below_digest}.tar")
        for image in images:
            layers = [below_digest] if image.base else []
            if image.files or not image.base:
                layer = _layer(image.files)
                layers.append(hashlib.sha256(layer).hexdigest())
                _add(tar, f"{layers[-1]}.tar", layer)
            config = _config(image, layers)
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(tar, name, config)
            index.append(
                {"Config": name, "RepoTags": [image.name], "Layers": [f"{each}.tar" for each in layers]}
            )
        _add(tar, "manifest.json", json.dumps(index).encode())


def _config(image: Image, layers: Sequence[str]) -> bytes:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {"Cmd": list(image.command), "Env": [PATHS]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}" for layer in layers]},
        "history": [{"created": CREATED} for _ in layers],
    }
    return json.dumps(config).encode()


def _layer(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        folders = {str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}
        for folder in sorted({*folders, "tmp"}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for name, source in sorted(files.items()):
            _add(tar, name, source.read_bytes(), 0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ensure(built: Built, images: Sequence[Image], log: Log) -> Path:
    """A containerd's store with `images` in it, made first where the cache has none.

    Raises:
        BuildError: an image could not be made, or containerd did not take it.
    """
    files = [part for image in images for part in (image.name, *image.command, *map(str, image.files))]
    own = [path for image in images for path in image.files.values() if path.is_relative_to(HERE.parent)]
    key = content_hash(
        [Path(__file__), SCRIPTS / "take-in.sh", built.programs.name, built.root.name, *files, *own]
    )
    done = once(cache() / f"images-{key}", lambda scratch: _take_in(built, images, scratch, log))
    return done / "store"


def _take_in(built: Built, images: Sequence[Image], out: Path, log: Log) -> None:
    out.mkdir()
    log(f"images: {', '.join(image.name for image in images)}")
    tar = out / "images.tar"
    archive(images, tar, log)
    run(
        ["bash", str(SCRIPTS / "take-in.sh"), str(built.root), str(tar), str(out / "store")],
        log=log,
        timeout=300,
        alone=True,
    )
    tar.unlink()
