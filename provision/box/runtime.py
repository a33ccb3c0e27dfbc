"""The embedded lab as a whole: build what is missing, start, stop, say how it is."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.box import accel, cluster_cgroups, config, guest, namespaces, rootfs
from provision.box.command import Log, environment
from provision.box.namespaces import BoxError, Holder
from provision.box.paths import ETC, INSIDE, cache, content_hash, publish, state, sweep_scratch

START_LIMIT = 200.0
SEED_LIMIT = 420.0
CLUSTER = "cluster"
"""The folder, below the box's own, of its Kubernetes cluster."""
MODULES = ("overlay", "br_netfilter", "vxlan", "veth", "tun", "iptable_nat", "ip_set")


@dataclass(frozen=True)
class Box:
    """The running box, as the rest of the project sees it."""

    holder: Holder
    data: Path
    status: dict[str, Any]

    @property
    def accelerator(self) -> str:
        """What runs the guests: ``kvm``, or ``tcg`` (emulation)."""
        return (self.data / "accelerator").read_text()

    @property
    def clouds_yaml(self) -> Path:
        return self.data / "clouds.yaml"

    def openrc(self, user: str = "student") -> Path:
        return self.data / f"openrc-{user}"

    def service(self, action: str, name: str) -> None:
        """Stops, starts, pauses or resumes one service, and returns when that is done.

        Args:
            action: ``stop`` (as a crash ends it), ``start``, ``pause``, ``resume``.
            name: as `status` lists it.

        Raises:
            BoxError: no such service, or it did not start; says why.
        """
        argv = [*self.holder.enter(), "/usr/bin/python3", "/labproof/control.py", action, name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BoxError(f"{action} {name}: {done.stderr.strip()}")


def folder() -> Path:
    return state() / "box"


@contextmanager
def _lock() -> Iterator[None]:
    """One start or stop at a time; waits for the other."""
    state().mkdir(parents=True, exist_ok=True)
    with (state() / "box.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def running() -> Box | None:
    """The box, if it is up."""
    run = folder()
    holder = namespaces.find(run)
    status = _status(run)
    if holder is None or status.get("phase") != "up":
        return None
    return Box(holder, run / "data", status)


def owner() -> str:
    """The run that started the box for itself; empty where somebody else did."""
    try:
        return (folder() / "owner").read_text()
    except OSError:
        return ""


def up(log: Log, owned_by: str = "") -> Box:
    """Starts the box, building first what the cache does not have; returns it at once when it is up.

    Args:
        owned_by: the run that it is started for, and that is to end it.

    Raises:
        BoxError: this machine cannot, or a service did not start (which, and why).
        CommandError: a build failed.
    """
    _can_run()
    with _lock():
        if box := running():
            return box
        root, image, seed = build(log)
        run = folder()
        _end(run)
        run.mkdir(parents=True)
        if owned_by:
            (run / "owner").write_text(owned_by)
        log("copying the prepared databases")
        _copy(seed, run / "data")
        kvm = accel.kvm_works(image / "vmlinuz", image / "initrd.img", cache(), qemu=accel.qemu_of(root))
        (run / "data" / "accelerator").write_text("kvm" if kvm else "tcg")
        config.render(run / "data", kvm=kvm)
        config.write_credentials(run / "data")
        _start(run, root, "up", log, START_LIMIT)
        box = running()
        if box is None:
            raise BoxError(f"the box ended as soon as it was up: see {run / 'data/log'}")
        return box


def down() -> bool:
    """Ends the box and removes what it left on disk; returns whether there was anything."""
    with _lock():
        return _end(folder())


def _end(run: Path) -> bool:
    was = namespaces.end(run) or run.exists()
    # what a cluster in it had, and no namespace takes along
    cluster_cgroups.remove(cluster_cgroups.name_of(run / CLUSTER))
    shutil.rmtree(run, ignore_errors=True)
    return was


def build(log: Log) -> tuple[Path, Path, Path]:
    """Root file system, guest image and seed, each from the cache or made now; their folders."""
    sweep_scratch()
    with ThreadPoolExecutor(2) as pool:
        making_root = pool.submit(rootfs.ensure, log)
        making_image = pool.submit(guest.ensure, log)
        root, image = making_root.result(), making_image.result()
    return root, image, _ensure_seed(root, image, log)


def _ensure_seed(root: Path, image: Path, log: Log) -> Path:
    """The seed: databases, catalogue and images of a cloud that was started once and shut down cleanly."""
    done = cache() / f"seed-{content_hash([root.name, image.name, INSIDE, ETC])}"
    if done.is_dir():
        return done
    log("preparing the cloud's databases (once, about a minute)")
    run = done.with_name(f"{done.name}.{os.getpid()}")
    try:
        data = run / "data"
        (data / "state").mkdir(parents=True)
        config.make_secrets(data / "secrets.json")
        config.render(data, kvm=False)
        _copy(image, data / "image")
        _start(run, root, "seed", log, SEED_LIMIT)
        namespaces.end(run)
        for name in ("log", "image", "etc", "status.json"):
            path = data / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        publish(data, done)
    finally:
        namespaces.end(run)
        if not os.environ.get("LABPROOF_KEEP_BROKEN_SEED"):
            shutil.rmtree(run, ignore_errors=True)
    return done


def _start(run: Path, root: Path, mode: str, log: Log, limit: float) -> None:
    """Starts process 1 and waits for its word; says which services are ready as they come."""
    wanted = {"up": "up", "seed": "seeded"}[mode]
    namespaces.start(run, root, mode)
    end, told = time.monotonic() + limit, set[str]()
    while time.monotonic() < end:
        status = _status(run)
        for name, fact in status.get("services", {}).items():
            if "ready" in fact and name not in told:
                told.add(name)
                log(f"{name} ready after {fact['ready']:.1f} s")
        if status.get("phase") == wanted:
            return
        reason = status.get("reason", "")
        if status.get("phase") == "failed" or namespaces.find(run) is None:
            words = (run / "data/log/box.out").read_text(errors="replace").strip().splitlines()[-3:]
            _keep_logs(run)
            namespaces.end(run)
            raise BoxError(
                f"the box did not start: {reason or ' | '.join(words)} (logs kept in {kept_logs()})"
            )
        time.sleep(0.03)
    _keep_logs(run)
    namespaces.end(run)
    raise BoxError(f"the box was not up within {limit:.0f} s (logs kept in {kept_logs()})")


def kept_logs() -> Path:
    return state() / "failed-start"


def _keep_logs(run: Path) -> None:
    shutil.rmtree(kept_logs(), ignore_errors=True)
    shutil.copytree(run / "data/log", kept_logs(), ignore_dangling_symlinks=True)


def _status(run: Path) -> dict[str, Any]:
    try:
        status: dict[str, Any] = json.loads((run / "data/status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status


def _copy(source: Path, target: Path) -> None:
    subprocess.run(
        ["cp", "-a", "--reflink=auto", "--sparse=always", f"{source}/.", str(target)]
        if target.exists()
        else ["cp", "-a", "--reflink=auto", "--sparse=always", str(source), str(target)],
        check=True,
        env=environment(),
    )


def _can_run() -> None:
    if os.geteuid():
        raise BoxError(
            "the embedded lab needs root on Linux: run as root, or point Labproof at a cloud (--lab cloud)"
        )
    missing = [tool for tool in ("unshare", "nsenter", "mmdebstrap") if shutil.which(tool) is None]
    if missing:
        raise BoxError(
            f"{', '.join(missing)} not found: run `make setup` first, or point Labproof at a cloud"
        )
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-qa", *MODULES], check=False, capture_output=True)


def report(status: dict[str, Any]) -> list[str]:
    """How the start went: a line per service, and the chain of services that set the total."""
    facts: dict[str, dict[str, Any]] = status.get("services", {})
    lines = []
    for name, fact in sorted(facts.items(), key=lambda item: float(item[1].get("started", 0))):
        word = f"  {name:18} started {fact['started']:5.1f} s  ready {fact.get('ready', 0):5.1f} s"
        if "reported" in fact:
            word += f"  reported working {fact['reported']:5.1f} s"
        if "ended" in fact:
            word += f"  ENDED with status {fact['ended']}"
        lines.append(word)
    return [*lines, f"  the total was set by: {' -> '.join(critical_chain(facts))}"]


def critical_chain(facts: dict[str, dict[str, Any]]) -> list[str]:
    """The services that waited for one another, from the last that was ready back to the first."""
    if not facts:
        return []

    def done(name: str) -> float:
        return float(facts[name].get("reported", facts[name].get("ready", 0)))

    chain = [max(facts, key=done)]
    while needs := [need for need in facts[chain[0]].get("needs", []) if need in facts]:
        chain.insert(0, max(needs, key=lambda need: float(facts[need].get("ready", 0))))
    return chain
