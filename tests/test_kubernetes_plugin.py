"""The network plug-in's configuration, taken away and put back: in folders of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.host import LocalHost
from provision.kubernetes_errors import KubernetesError
from provision.network_plugin import ConfigurationAway, Places
from tests.probes_world import needs_root, until

pytestmark = needs_root


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "net.d").mkdir()
    for name in ("10-calico.conflist", "99-loopback.conf", "calico-kubeconfig"):
        (tmp_path / "net.d" / name).write_text(name)
    return Places(f"{tmp_path}/net.d", f"{tmp_path}/away", f"{tmp_path}/pid")


@pytest.fixture
def node() -> Iterator[LocalHost]:
    with LocalHost("worker1") as host:
        yield host


def there(places: Places) -> set[str]:
    return {path.name for path in Path(places.configuration).iterdir()}


def test_it_is_away_until_it_is_put_back(places: Places, node: LocalHost) -> None:
    plugin = ConfigurationAway({"worker1": node}, places)
    plugin.cni_off()
    assert there(places) == {"calico-kubeconfig"}
    watcher = int(Path(places.watcher).read_text())
    plugin.cni_on()
    assert there(places) == {"10-calico.conflist", "99-loopback.conf", "calico-kubeconfig"}
    assert (Path(places.configuration) / "10-calico.conflist").read_text() == "10-calico.conflist"
    assert not Path(places.away).exists()
    assert not Path(places.watcher).exists()
    until(lambda: not alive(watcher), "the end of the node's watcher")
    plugin.cni_on()
    assert len(there(places)) == 3


def alive(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_node_puts_it_back_by_itself(places: Places, node: LocalHost) -> None:
    assert node.run("sh -c %s", places.off(seconds=1)).succeeded
    assert there(places) == {"calico-kubeconfig"}
    until(lambda: len(there(places)) == 3 and not Path(places.away).exists(), "the configuration's return")
    until(lambda: not Path(places.watcher).exists(), "the watcher's end")


def test_a_node_that_refuses_is_named(node: LocalHost) -> None:
    with pytest.raises(
        KubernetesError, match=r"taking the network plug-in's configuration away: worker1: .*/proc/away"
    ):
        ConfigurationAway({"worker1": node}, Places("/proc/net.d", "/proc/away", "/proc/pid")).cni_off()
