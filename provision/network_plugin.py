"""A cluster's network plug-in, taken away for a moment on nodes that can be entered, and put back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from probes.host import Host, HostError
from provision.kubernetes_errors import KubernetesError

SECONDS = 300
"""After so long a node puts its configuration back by itself: whoever took it away has died."""


@dataclass(frozen=True)
class Places:
    """Where things are on a node.

    Attributes:
        configuration: the folder that the container runtime reads (CNI, "Network configuration").
        away: beside it, on the same file system.
        watcher: holds the process id of who waits to put it back.
    """

    configuration: str = "/etc/cni/net.d"
    away: str = "/etc/cni/labproof-away"
    watcher: str = "/run/labproof-network-plugin.pid"

    @property
    def back(self) -> str:
        """Shell text that puts it back; does nothing where it is there."""
        # written anew: of a file that is moved there containerd takes no notice (it leaves out inotify's creations)
        return (
            f"[ ! -d {self.away} ] || {{ cp -p {self.away}/* {self.configuration}/ && rm -r {self.away}; }}"
        )

    def off(self, seconds: int = SECONDS) -> str:
        """Shell text that takes it away, for so many seconds at most."""
        later = shlex.quote(f"sleep {seconds}; {self.back}; rm -f {self.watcher}")
        return (
            f"mkdir -p {self.away} || exit; "
            f"setsid sh -c {later} </dev/null >/dev/null 2>&1 & echo $! > {self.watcher}; "
            f"for f in {self.configuration}/*.conf {self.configuration}/*.conflist; do "
            f'[ ! -e "$f" ] || mv "$f" {self.away}/ || exit; done'
        )

    @property
    def on(self) -> str:
        """Shell text that puts it back now."""
        # the watcher leads a process group of its own
        return (
            f'if [ -e {self.watcher} ]; then kill -TERM "-$(cat {self.watcher})"; rm {self.watcher}; fi; '
            f"{self.back}"
        )


class ConfigurationAway:
    """Moves the plug-in's configuration out of the place that the container runtime reads.

    The nodes' user is root, or needs ``sudo`` without a password.

    Args:
        nodes: by name.
    """

    def __init__(self, nodes: Mapping[str, Host], places: Places | None = None) -> None:
        self._nodes = nodes
        self._places = places or Places()

    def cni_off(self) -> None:
        """Takes it away on every node.

        Raises:
            KubernetesError: a node could not be entered, or refused it.
        """
        self._everywhere(self._places.off(), "taking the network plug-in's configuration away")

    def cni_on(self) -> None:
        """Puts it back on every node; does nothing where it is there. Raises as :meth:`cni_off`."""
        self._everywhere(self._places.on, "putting the network plug-in's configuration back")

    def _everywhere(self, script: str, what: str) -> None:
        failed = []
        for name, host in self._nodes.items():
            try:
                done = host.run("$(command -v sudo) sh -c %s", script, timeout=30)
            except HostError as error:
                failed.append(f"{name}: {error}")
            else:
                failed += [] if done.succeeded else [f"{name}: {done.stderr.strip()}"]
        if failed:
            raise KubernetesError("fault", what, "; ".join(failed))
