"""What may be concluded from looks: real namespaces, and controls that are broken one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import pytest

from probes.host import NamespaceHost
from probes.observation import Outcome, Unproven, evidence
from probes.reach import fact, http, look, not_reached, ping, reached, tcp, wait_until
from tests.probes_world import Node, needs_root, rule, triangle

pytestmark = needs_root

World = tuple[Node, Node, Node]
BETA = "10.0.2.2"
NO_PING = "icmp type echo-request drop"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with triangle() as made:
        yield made


@pytest.fixture(scope="module")
def alpha(world: World) -> Iterator[NamespaceHost]:
    with world[0].host() as host:
        yield host


@pytest.fixture(scope="module")
def router(world: World) -> Iterator[NamespaceHost]:
    with world[1].host() as host:
        yield host


@pytest.fixture(scope="module")
def beta(world: World) -> Iterator[NamespaceHost]:
    with world[2].host() as host:
        yield host


@contextmanager
def link_down(node: Node, name: str) -> Iterator[None]:
    routes = node.sh("ip route show default").strip()
    node.sh(f"ip link set {name} down")
    try:
        yield
    finally:
        node.sh(f"ip link set {name} up")
        if routes:
            node.sh(f"ip route replace {routes}")


@contextmanager
def after(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_reached_returns_what_was_seen_and_adds_it_to_the_evidence(alpha: NamespaceHost) -> None:
    with evidence.collect() as collected:
        seen = reached(ping(alpha, BETA, packets=1), tcp(alpha, BETA, 8000))
    assert [o.probe for o in seen] == ["ping", "tcp"]
    assert collected == seen


def test_looks_come_in_the_order_asked_for(alpha: NamespaceHost) -> None:
    ports = [8001, 8000, 8002, 8000, 8001]
    assert [o.numbers["port"] for o in look(*(tcp(alpha, BETA, p) for p in ports))] == ports
    assert look() == []


def test_a_failure_reads_like_a_report(alpha: NamespaceHost) -> None:
    with pytest.raises(AssertionError) as failure:
        reached(tcp(alpha, BETA, 8009, window=1), ping(alpha, BETA, packets=1))
    text = str(failure.value)
    assert text.startswith("1 of 2 not reached that should be:\n")
    assert f"alpha$ timeout 1 bash -c 'exec 3<>/dev/tcp/{BETA}/8009'  ->  refused after 1." in text
    assert "Connection refused" in text
    assert "nothing listens on that port" in text
    assert f"\nreached:\n  alpha$ ping -n -c 1 -i 0.5 -w 5 {BETA}" in text


def test_a_source_that_cannot_look_leaves_it_unproven(world: World, alpha: NamespaceHost) -> None:
    with world[0].host(prefix=("env", "PATH=/nonexistent")) as bare:
        with pytest.raises(Unproven, match="could not be made"):
            reached(ping(bare, BETA), ping(alpha, BETA, packets=1))
        with pytest.raises(Unproven, match="could not be made"):
            not_reached(ping(bare, BETA), alive=[fact(bare, "true"), ping(alpha, BETA, packets=1)])
        with pytest.raises(AssertionError):
            reached(ping(bare, BETA), tcp(alpha, BETA, 8009, window=1))


@contextmanager
def standing_still(target: str, seconds: float, times: int) -> Iterator[None]:
    """The first pings of a target are each stopped for so long, as if their machine was, and hear nothing meanwhile."""
    over = threading.Event()

    def stop_them() -> None:
        stopped: set[int] = set()
        while len(stopped) < times and not over.is_set():
            for each in psutil.process_iter(["pid", "name", "cmdline"]):
                if (
                    each.pid not in stopped
                    and each.info["name"] == "ping"
                    and target in (each.info["cmdline"] or ())
                ):
                    stopped.add(each.pid)
                    each.suspend()
                    over.wait(seconds)
                    each.resume()
            over.wait(0.01)

    thread = threading.Thread(target=stop_them)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_source_that_stood_still_looks_once_more(world: World, alpha: NamespaceHost) -> None:
    with (
        rule(world[2], NO_PING),
        standing_still(BETA, 5, times=1),
        after(4, lambda: world[2].sh("nft flush chain ip t input")),
        evidence.collect() as collected,
    ):
        reached(ping(alpha, BETA, window=1))
    assert [o.reached for o in collected] == [False, True]
    assert collected[0].numbers["late"] > 3


def test_a_source_that_stands_still_again_proves_nothing(world: World, alpha: NamespaceHost) -> None:
    with (
        rule(world[2], NO_PING),
        standing_still(BETA, 5, times=2),
        pytest.raises(Unproven, match="could not be made"),
    ):
        reached(ping(alpha, BETA, window=1))


def test_not_reached_with_controls(world: World, alpha: NamespaceHost, router: NamespaceHost) -> None:
    with rule(world[2], f"ip saddr 10.0.1.2 {NO_PING}"), evidence.collect() as collected:
        seen = not_reached(
            ping(alpha, BETA, window=2),
            tcp(alpha, BETA, 8009, window=2),
            alive=[ping(router, BETA), tcp(alpha, BETA, 8000), fact(router, "true")],
        )
    assert [o.outcome for o in seen] == [Outcome.FILTERED, Outcome.REFUSED]
    # The two, the controls beside them, and the controls once more.
    assert [o.probe for o in collected] == ["ping", "tcp", *["ping", "tcp", "command"] * 2]


def test_reached_after_all_is_a_failure_whatever_the_controls_say(alpha: NamespaceHost) -> None:
    for control in (tcp(alpha, BETA, 8000), tcp(alpha, BETA, 8009, window=1)):
        with pytest.raises(AssertionError, match=r"1 of 2 reached that should not be:\n  alpha\$ ping"):
            not_reached(ping(alpha, BETA), tcp(alpha, BETA, 8009, window=1), alive=[control])


def test_a_dead_target_proves_nothing(world: World, alpha: NamespaceHost, router: NamespaceHost) -> None:
    with link_down(world[2], "router"), pytest.raises(Unproven) as doubt:
        not_reached(
            ping(alpha, BETA, window=2), alive=[ping(router, BETA, window=2), ping(alpha, "10.0.1.1")]
        )
    assert "a control did not answer" in str(doubt.value)
    assert "router$ ping" in str(doubt.value)


def test_a_source_without_network_proves_nothing(
    world: World, alpha: NamespaceHost, router: NamespaceHost
) -> None:
    with link_down(world[0], "router"), pytest.raises(Unproven, match="a control did not answer") as doubt:
        not_reached(
            ping(alpha, BETA, window=2), alive=[ping(router, BETA), ping(alpha, "10.0.1.1", window=2)]
        )
    assert "alpha$ ping" in str(doubt.value)


def test_a_service_that_is_gone_proves_nothing(alpha: NamespaceHost, router: NamespaceHost) -> None:
    with pytest.raises(Unproven, match="a control did not answer"):
        not_reached(
            tcp(alpha, BETA, 8009, window=1),
            alive=[tcp(router, BETA, 8009, window=1), ping(alpha, BETA, packets=1)],
        )


def test_a_target_that_dies_meanwhile_proves_nothing(
    world: World, alpha: NamespaceHost, router: NamespaceHost
) -> None:
    with (
        rule(world[2], f"ip saddr 10.0.1.2 {NO_PING}"),
        after(1.5, lambda: world[2].sh(f"nft add rule ip t input ip saddr 10.0.2.1 {NO_PING}")),
        pytest.raises(Unproven, match="answered at first, but no longer"),
    ):
        not_reached(
            ping(alpha, BETA, window=3),
            alive=[ping(router, BETA, packets=1, window=2), ping(alpha, "10.0.1.1", packets=1)],
        )


def test_a_fact_that_does_not_hold_is_no_control(world: World, alpha: NamespaceHost) -> None:
    with rule(world[2], NO_PING), pytest.raises(Unproven, match="a control did not answer"):
        not_reached(ping(alpha, BETA, window=1), alive=[tcp(alpha, BETA, 8000), fact(alpha, "false")])


def test_not_reached_wants_controls(alpha: NamespaceHost, router: NamespaceHost) -> None:
    with pytest.raises(ValueError, match="no positive control"):
        not_reached(ping(alpha, BETA), alive=[])
    with pytest.raises(ValueError, match=r"no control \(alive=\) is made from alpha"):
        not_reached(ping(alpha, BETA), alive=[ping(router, BETA)])
    with pytest.raises(ValueError, match="no probe"):
        not_reached(alive=[ping(router, BETA)])


def test_wait_until_reached(world: World, alpha: NamespaceHost) -> None:
    with (
        rule(world[2], NO_PING),
        after(1.5, lambda: world[2].sh("nft flush chain ip t input")),
    ):
        assert wait_until(ping(alpha, BETA, window=2), reached=True, within=15).reached


def test_wait_until_not_reached_takes_a_whole_window(world: World, alpha: NamespaceHost) -> None:
    with (
        rule(world[2], "tcp dport 9 drop"),
        after(1.5, lambda: world[2].sh(f"nft add rule ip t input {NO_PING}")),
    ):
        seen = wait_until(
            ping(alpha, BETA, window=2), reached=False, within=15, alive=[tcp(alpha, BETA, 8000)]
        )
    assert seen.outcome is Outcome.FILTERED
    assert seen.numbers["received"] == 0
    assert seen.seconds >= 2


def test_wait_until_gives_up(world: World, alpha: NamespaceHost) -> None:
    with pytest.raises(AssertionError, match=f"ping alpha -> {BETA} was not out of reach within 1 s"):
        wait_until(ping(alpha, BETA, packets=1, window=1), reached=False, within=1)
    with pytest.raises(AssertionError, match=f"tcp alpha -> {BETA} port 8009 was not reached within 1 s"):
        wait_until(tcp(alpha, BETA, 8009), reached=True, within=1)
    with world[0].host(prefix=("env", "PATH=/nonexistent")) as bare:
        for wanted in (True, False):
            with pytest.raises(Unproven, match="could not be made"):
                wait_until(ping(bare, BETA), reached=wanted, within=0.5)


def test_wait_until_not_reached_with_a_dead_control_proves_nothing(alpha: NamespaceHost) -> None:
    with pytest.raises(Unproven, match="a control did not answer"):
        wait_until(
            tcp(alpha, BETA, 8009, window=1),
            reached=False,
            within=5,
            alive=[http(alpha, f"http://{BETA}:8009/", window=1)],
        )
