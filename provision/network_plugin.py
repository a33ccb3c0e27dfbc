"""A cluster's network plug-in, taken away for a moment on nodes that can be entered, and put back."""

from __future__ import annotations

from collections.abc import Mapping

from probes.host import Host, HostError
from provision.kubernetes_errors import KubernetesError

CONFIGURATION = "/etc/cni/net.d"
AWAY = "/etc/cni/labproof-away"
_AS_ROOT = "$(command -v sudo) sh -c "
_OFF = f"""{_AS_ROOT}'mkdir -p {AWAY} && for f in {CONFIGURATION}/*.conf {CONFIGURATION}/*.conflist; do
    [ ! -e "$f" ] || mv "$f" {AWAY}/; done'"""
_ON = f"{_AS_ROOT}'[ ! -d {AWAY} ] || {{ mv {AWAY}/* {CONFIGURATION}/; rmdir {AWAY}; }}'"


class ConfigurationAway:
    """Moves the plug-in's configuration out of the place that the container runtime reads (CNI, "Network configuration").

    The nodes' user is root, or needs ``sudo`` without a password.

    Args:
        nodes: by name.
    """

    def __init__(self, nodes: Mapping[str, Host]) -> None:
        self._nodes = nodes

    def cni_off(self) -> None:
        """Takes it away on every node.

        Raises:
            KubernetesError: a node could not be entered, or refused it.
        """
        self._everywhere(_OFF, "taking the network plug-in's configuration away")

    def cni_on(self) -> None:
        """Puts it back on every node; does nothing where it is there. Raises as :meth:`cni_off`."""
        self._everywhere(_ON, "putting the network plug-in's configuration back")

    def _everywhere(self, command: str, what: str) -> None:
        failed = []
        for name, host in self._nodes.items():
            try:
                done = host.run(command, timeout=30)
            except HostError as error:
                failed.append(f"{name}: {error}")
            else:
                failed += [] if done.succeeded else [f"{name}: {done.stderr.strip()}"]
        if failed:
            raise KubernetesError("fault", what, "; ".join(failed))
