"""``python -m provision``: the lab and its topologies from the command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from provision.box import cluster, runtime
from provision.box.command import BuildError
from provision.box.namespaces import BoxError
from provision.journal import Journal, JournalError, folder
from provision.lab import Lab, LabError
from provision.progress import Progress
from provision.topology import Topology, TopologyError

if TYPE_CHECKING:
    from provision.cloud import Cloud

Work = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, or 1 after one line on what failed, 2 for wrong usage."""
    args = _parser().parse_args(argv)
    work: Work = args.work
    # the SDK takes most of a second to import: only what talks to a cloud pays for it
    try:
        return work(args)
    except (BoxError, BuildError, LabError, TopologyError, JournalError) as error:
        print(f"labproof: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m provision", description=__doc__)
    rooms = parser.add_subparsers(required=True, metavar="lab|cluster|topology")
    lab = rooms.add_parser("lab", help="the embedded lab, or the lab of a lab file").add_subparsers(
        required=True
    )
    commands: tuple[tuple[str, Work, str], ...] = (
        ("build", _build, "build what the embedded lab needs and the cache does not have"),
        ("up", _up, "start the embedded lab"),
        ("down", _down, "end the embedded lab and all that is in it"),
        ("status", _status, "say whether it is up, and how its services started"),
    )
    for name, work, text in commands:
        lab.add_parser(name, help=text).set_defaults(work=work)
    service = lab.add_parser(
        "service", help="stop or start one service of the embedded lab: what does a run say?"
    )
    service.add_argument("action", choices=("stop", "start", "pause", "resume"))
    service.add_argument("name", help="as `lab status` lists it")
    service.set_defaults(work=_service)
    shell = lab.add_parser(
        "shell", help="a shell (or a command) on the student's desktop, or elsewhere in the lab"
    )
    shell.add_argument(
        "--on",
        default="desktop",
        choices=("desktop", "neighbour", "outside", "upstream", "cloud", *cluster.ADDRESSES),
    )
    shell.add_argument("command", nargs=argparse.REMAINDER)
    shell.set_defaults(work=_shell)
    sweep = lab.add_parser("sweep", help="show, or remove, what runs that died have left on the lab's cloud")
    sweep.add_argument("--remove", action="store_true", help="remove it; without this it is only shown")
    sweep.add_argument(
        "--adopt", nargs="+", default=[], metavar="RUN",
        help="remove what carries these runs' tags and stands in no journal here, once it was shown",
    )  # fmt: skip
    sweep.set_defaults(work=_sweep)
    nodes = rooms.add_parser(
        "cluster", help="the embedded lab's Kubernetes cluster, in an embedded lab that is up"
    ).add_subparsers(required=True)
    commands = (
        (
            "build",
            _cluster_build,
            "build what it needs and the cache does not have (once, about ten minutes)",
        ),
        ("up", _cluster_up, "start it, and say where its kubeconfig is"),
        ("down", _cluster_down, "end it and all that is in it; the embedded lab stands on"),
        ("status", _cluster_status, "say whether it is up, and how it started"),
    )
    for name, work, text in commands:
        nodes.add_parser(name, help=text).set_defaults(work=work)
    topology = rooms.add_parser("topology", help="a topology document").add_subparsers(required=True)
    commands = (
        ("show", _show, "check a document and print it"),
        ("apply", _apply, "make it on the lab's cloud, services too, or mend what is there of it"),
        ("destroy", _destroy, "remove it from the lab's cloud"),
    )
    for name, work, text in commands:
        command = topology.add_parser(name, help=text)
        command.add_argument("file", help="the JSON document")
        command.set_defaults(work=work)
        if name != "show":
            command.add_argument(
                "--run", default="hand", help="names what is made: labproof-RUN-... (default: hand)"
            )
    for command in (sweep, topology.choices["apply"], topology.choices["destroy"]):
        command.add_argument(
            "--lab", default=os.environ.get("LABPROOF_LAB", "box"), help="lab file, or its name"
        )
    return parser


def _build(_: argparse.Namespace) -> int:
    with Progress("building the box") as progress:
        runtime.build(progress)
    return 0


def _up(_: argparse.Namespace) -> int:
    if box := runtime.running():
        print(f"the box is up already (process {box.holder.init}); `python -m provision lab down` ends it")
        return 0
    with Progress("starting the box") as progress:
        box = runtime.up(progress)
        print(f"the box is up after {progress.seconds:.1f} s; credentials: {box.openrc()}")
    return 0


def _down(_: argparse.Namespace) -> int:
    print("the box is down" if runtime.down() else "the box was not up")
    return 0


def _status(_: argparse.Namespace) -> int:
    box = runtime.running()
    if box is None:
        print("the box is down; `python -m provision lab up` starts it")
        return 1
    print(f"the box is up (process {box.holder.init}), started in {box.status['seconds']:.1f} s")
    for line in runtime.report(box.status):
        print(line)
    return 0


def _standing() -> runtime.Box:
    box = runtime.running()
    if box is None:
        raise BoxError("the box is down: `python -m provision lab up` starts it")
    return box


def _service(args: argparse.Namespace) -> int:
    _standing().service(args.action, args.name)
    print(f"{args.name}: {args.action} done")
    return 0


def _shell(args: argparse.Namespace) -> int:
    box = _standing()
    environment = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(box.clouds_yaml), "OS_CLOUD": "labproof-box"}
    if args.on in cluster.ADDRESSES:
        command = args.command[args.command[:1] == ["--"] :] or ["bash"]
        entered = [*_standing_cluster().nodes[args.on].enter, *command]
        os.execvp(entered[0], entered)  # noqa: S606
    # anywhere but on the cloud's host: the student's own files, tools and shell, on another network
    network = ["nsenter", f"--net={box.holder.network(args.on)}", "--"]
    prefix = box.holder.enter() if args.on == "cloud" else network
    command = args.command[args.command[:1] == ["--"] :] or [os.environ.get("SHELL", "/bin/sh")]
    os.execvpe(prefix[0], [*prefix, *command], environment)  # noqa: S606


def _cluster_build(_: argparse.Namespace) -> int:
    with Progress("building the cluster") as progress:
        cluster.ensure(progress)
    return 0


def _cluster_up(_: argparse.Namespace) -> int:
    if standing := cluster.running():
        print(f"the cluster is up already; kubeconfig: {standing.kubeconfig}")
        return 0
    with Progress("starting the cluster") as progress:
        standing = cluster.up(progress)
        print(f"the cluster is up after {progress.seconds:.1f} s; kubeconfig: {standing.kubeconfig}")
    return 0


def _cluster_down(_: argparse.Namespace) -> int:
    print("the cluster is down" if cluster.down() else "the cluster was not up")
    return 0


def _cluster_status(_: argparse.Namespace) -> int:
    standing = cluster.running()
    if standing is None:
        print("the cluster is down; `python -m provision cluster up` starts it")
        return 1
    print(f"the cluster is up; kubeconfig: {standing.kubeconfig}")
    for node in standing.nodes.values():
        print(f"  {node.name:18} {node.address}")
    for part, seconds in standing.timeline.items():
        print(f"  {seconds:5.1f} s  {part}")
    return 0


def _standing_cluster() -> cluster.Cluster:
    standing = cluster.running()
    if standing is None:
        raise BoxError("the cluster is down: `python -m provision cluster up` starts it")
    return standing


def _cloud(args: argparse.Namespace) -> Cloud:
    """The cloud of the lab asked for; on the embedded lab this process goes to its desktop."""
    from provision.connection import cloud_of

    return cloud_of(Lab.load(args.lab))


def _show(args: argparse.Namespace) -> int:
    print(Topology.load(args.file))
    return 0


def _apply(args: argparse.Namespace) -> int:
    from provision.calculator import on_cloud
    from provision.calculator.deploy import DeploymentError
    from provision.cloud import CloudError
    from provision.openstack import ProvisionError, apply
    from provision.runs import key_of

    topology = Topology.load(args.file)
    with Progress(f"applying {topology.name}") as progress:
        try:
            journal = _journal(args)
            key = key_of(args.run)
            cloud = _cloud(args)
            made = apply(
                cloud, topology, args.run, key_public=key.public, on_progress=progress, journal=journal
            )
            journal.keep()
            services = on_cloud.stand(cloud, topology, made, key.file, progress)
        except (CloudError, ProvisionError, DeploymentError) as error:
            print(f"labproof: {error}", file=sys.stderr)
            return 1
    print("\n".join((*made.changes, *services)) or "nothing to change")
    for host in made.hosts.values():
        print(
            f"{host.name}: {host.address}" + (f", floating IP {host.floating_ip}" if host.floating_ip else "")
        )
    print(f"key to the servers: {key.file}")
    return 0


def _journal(args: argparse.Namespace) -> Journal:
    """The journal of what is made by hand: of one lab alone, for many use the same run's name."""
    lab = Lab.load(args.lab).name
    return Journal(folder() / f"{args.run}.{lab}.jsonl", lab, args.run)


def _destroy(args: argparse.Namespace) -> int:
    from provision.cloud import CloudError
    from provision.journal import read
    from provision.openstack import destroy

    topology = Topology.load(args.file)
    with Progress(f"removing {topology.name}") as progress:
        try:
            journal = _journal(args)
            left = destroy(_cloud(args), args.run, topology.name, on_progress=progress, journal=journal)
            journal.close(empty=not (record := read(journal.path)).left and not record.kept)
        except CloudError as error:
            print(f"labproof: {error}", file=sys.stderr)
            return 1
    print("\n".join(f"left behind: {each}" for each in left) or "nothing is left")
    return 1 if left else 0


def _sweep(args: argparse.Namespace) -> int:
    from provision.connection import cloud_of
    from provision.sweep_command import sweep
    from provision.sweeper import Sweeper

    lab = Lab.load(args.lab)
    with Progress("removing", quiet=not (args.remove or args.adopt)) as progress:
        sweeper = Sweeper(lab, lambda: cloud_of(lab), progress)
        return sweep(sweeper, remove=args.remove, adopt=args.adopt)


if __name__ == "__main__":
    sys.exit(main())
