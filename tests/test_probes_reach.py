"""Kinds of failure told apart, on real namespaces with real firewalls, routes and daemons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from probes.classify import ping_reading
from probes.host import CommandResult, HostError, LocalHost, NamespaceHost
from probes.observation import Observation, Outcome, Unproven, evidence
from probes.reach import Probe, command, fact, facts, http, look, ping, tcp
from tests.probes_world import Node, needs_root, triangle

pytestmark = needs_root

O = Outcome  # noqa: E741

FIREWALL = """
nft add rule ip t input ip daddr 10.0.2.3 drop
nft add rule ip t input ip daddr 10.0.2.4 reject with icmp type admin-prohibited
nft add rule ip t input ip daddr 10.0.2.5 reject
nft add rule ip t input ip daddr 10.0.2.6 meta l4proto tcp reject with tcp reset
nft add rule ip t input ip daddr 10.0.2.7 icmp type echo-request quota until 100 bytes drop
nft add rule ip t input ip daddr 10.0.2.8 reject with icmp type host-prohibited
for i in 3 4 5 6 7 8; do ip addr add 10.0.2.$i/24 dev router; done
"""

# target: what ping sees, what a TCP connection to a listening port sees
FAR = {
    "10.0.2.2": (O.REACHABLE, O.REACHABLE),
    "10.0.2.3": (O.FILTERED, O.FILTERED),
    "10.0.2.4": (O.REFUSED, O.UNREACHABLE),  # the kernel's errno for it is EHOSTUNREACH
    "10.0.2.5": (O.REFUSED, O.REFUSED),
    "10.0.2.6": (O.REACHABLE, O.REFUSED),
    "10.0.2.7": (O.REACHABLE, O.REACHABLE),
    "10.0.2.8": (O.REFUSED, O.UNREACHABLE),
    "10.0.2.20": (O.FILTERED, O.FILTERED),  # the source's own firewall
    "10.0.2.99": (O.UNREACHABLE, O.UNREACHABLE),  # nobody there: the router says so
    "10.0.1.99": (O.UNREACHABLE, O.UNREACHABLE),  # nobody there: ARP
    "10.9.9.9": (O.UNREACHABLE, O.UNREACHABLE),  # the router has no way there
    "10.8.0.1": (O.UNREACHABLE, O.UNREACHABLE),  # a loop
    "10.7.0.1": (O.NO_ROUTE, O.NO_ROUTE),
    "10.6.0.1": (O.NO_ROUTE, O.NO_ROUTE),
    "10.5.0.1": (O.NO_ROUTE, O.NO_ROUTE),
    "nosuch.invalid": (O.NAME_ERROR, O.NAME_ERROR),
}


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Node, Node, Node]]:
    with triangle() as (alpha, router, beta):
        beta.sh(FIREWALL)
        alpha.sh(
            """
            ip route add unreachable 10.7.0.0/16
            ip route add blackhole 10.6.0.0/16
            ip route add prohibit 10.5.0.0/16
            nft add table ip t
            nft add chain ip t output '{ type filter hook output priority 0; }'
            nft add rule ip t output ip daddr 10.0.2.20 drop
            """
        )
        # A real lack of a route is reported once a second to each source (ip_error, net/ipv4/route.c): too
        # seldom for so many looks at once. This says the same.
        router.sh(
            """
            ip route add 10.8.0.0/16 via 10.0.2.2
            ip route add 10.9.0.0/16 via 10.0.2.2
            nft add table ip t
            nft add chain ip t forward '{ type filter hook forward priority 0; }'
            nft add rule ip t forward ip daddr 10.9.0.0/16 reject with icmp type net-unreachable
            """
        )
        beta.sh("echo 1 > /proc/sys/net/ipv4/ip_forward")
        for node in (alpha, router, beta):
            # So many looks at once exceed what a kernel reports to one peer: one ICMP error a second.
            node.sh("echo 0 > /proc/sys/net/ipv4/icmp_ratelimit")
            # ARP gives up after three seconds of a window of five: on a busy machine that has been too late once.
            node.sh("for each in /proc/sys/net/ipv4/neigh/*/retrans_time_ms; do echo 400 > $each; done")
        yield alpha, router, beta


@pytest.fixture(scope="module")
def alpha(world: tuple[Node, Node, Node]) -> Iterator[NamespaceHost]:
    with world[0].host() as host:
        yield host


@pytest.fixture(scope="module")
def seen(alpha: NamespaceHost) -> dict[tuple[str, str], Observation]:
    """All at once, as the negatives must wait."""
    probes: list[Probe] = []
    for target in FAR:
        probes += [
            ping(alpha, target),
            tcp(alpha, target, 8000),
            http(alpha, f"http://{target}:8000/", window=5),
        ]
    return {(o.probe, p.target): o for p, o in zip(probes, look(*probes), strict=True)}


@pytest.mark.parametrize("target", FAR)
def test_ping_tells_how_it_failed(seen: dict[tuple[str, str], Observation], target: str) -> None:
    observation = seen["ping", target]
    assert observation.outcome is FAR[target][0], observation.output
    assert observation.source == "alpha"


@pytest.mark.parametrize("target", FAR)
def test_tcp_tells_how_it_failed(seen: dict[tuple[str, str], Observation], target: str) -> None:
    observation = seen["tcp", target]
    assert observation.outcome is FAR[target][1], observation.output


@pytest.mark.parametrize("target", FAR)
def test_http_tells_how_it_failed(seen: dict[tuple[str, str], Observation], target: str) -> None:
    observation = seen["http", f"http://{target}:8000/"]
    assert observation.outcome is FAR[target][1], observation.output


def test_a_negative_lasts_its_window_and_a_positive_does_not(
    seen: dict[tuple[str, str], Observation],
) -> None:
    for observation in seen.values():
        assert observation.reached or observation.seconds >= 5.0, observation
    # Three replies half a second apart are one second; the window is five.
    assert seen["ping", "10.0.2.2"].numbers["sent"] == 3


def test_ping_brings_numbers(seen: dict[tuple[str, str], Observation]) -> None:
    numbers = seen["ping", "10.0.2.2"].numbers
    assert numbers["ttl"] == 63
    assert numbers["received"] == 3
    assert numbers["rtt_ms"] > 0
    assert seen["ping", "10.0.2.3"].numbers["sent"] >= 3
    assert seen["ping", "10.0.2.3"].numbers["received"] == 0


def test_a_lost_first_packet_is_still_reached(seen: dict[tuple[str, str], Observation]) -> None:
    numbers = seen["ping", "10.0.2.7"].numbers
    assert (numbers["sent"], numbers["received"]) == (4, 3)


def test_it_says_who_reported(seen: dict[tuple[str, str], Observation]) -> None:
    assert "From 10.0.2.1 " not in seen["ping", "10.0.1.99"].output
    assert "From 10.0.1.1 icmp_seq=1 Destination Net Unreachable" in seen["ping", "10.9.9.9"].output
    assert "From 10.0.1.2 icmp_seq=1 Destination Host Unreachable" in seen["ping", "10.0.1.99"].output


def test_the_routing_table_is_evidence_for_no_route(seen: dict[tuple[str, str], Observation]) -> None:
    assert "$ ip route get 10.7.0.1" in seen["tcp", "10.7.0.1"].output
    assert "10.0.2.99 via 10.0.1.1" in seen["tcp", "10.0.2.99"].output


def test_an_http_answer_of_any_status_is_an_answer(alpha: NamespaceHost) -> None:
    page, missing, posted, put = look(
        http(alpha, "http://10.0.2.2:8000/"),
        http(alpha, "http://10.0.2.2:8000/nothing"),
        http(alpha, "http://10.0.2.2:8000/echo", body="(1 + 2) * 'x' @%s"),
        http(alpha, "http://10.0.2.2:8000/echo", method="PUT", body="a\nb"),
    )
    assert (page.outcome, page.numbers["status"], page.output) == (O.REACHABLE, 200, "result = 22")
    assert (missing.outcome, missing.numbers["status"]) == (O.REACHABLE, 404)
    assert posted.output == "POST (1 + 2) * 'x' @%s"
    assert put.output == "PUT a\nb"


def test_http_tells_a_silent_service_from_a_closed_port(alpha: NamespaceHost) -> None:
    silent, hung_up, refused, tcp_silent = look(
        http(alpha, "http://10.0.2.2:8001/", window=2),
        http(alpha, "http://10.0.2.2:8002/", window=2),
        http(alpha, "http://10.0.2.2:8009/", window=2),
        tcp(alpha, "10.0.2.2", 8001),
    )
    assert silent.outcome is O.NO_ANSWER
    assert hung_up.outcome is O.NO_ANSWER
    assert "Empty reply from server" in hung_up.output
    assert refused.outcome is O.REFUSED
    assert tcp_silent.outcome is O.REACHABLE


def test_http_waits_for_what_it_expects(alpha: NamespaceHost) -> None:
    now = int(look(http(alpha, "http://10.0.2.2:8000/count"))[0].output)
    later, never = look(
        http(alpha, "http://10.0.2.2:8000/count", expect=str(now + 4)),
        http(alpha, "http://10.0.2.2:8000/", expect="result = 23", window=1),
    )
    assert later.numbers["matched"] == 1
    assert later.numbers["tries"] > 1
    assert (never.outcome, never.numbers["matched"]) == (O.REACHABLE, 0)


def test_a_prober_that_does_not_work_sees_nothing(world: tuple[Node, Node, Node]) -> None:
    bare = world[0].host(prefix=("env", "PATH=/nonexistent"))
    mortal = world[0].host(
        prefix=(
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
        )
    )
    gone = NamespaceHost("gone", ["nsenter", "--net=/nonexistent/ns/net", "--"])
    closed = LocalHost("closed")
    closed.close()
    probes = [
        *(ping(bare, "10.0.2.2"), tcp(bare, "10.0.2.2", 8000), http(bare, "http://10.0.2.2:8000/")),
        ping(mortal, "10.0.2.2"),
        *(ping(gone, "10.0.2.2"), tcp(gone, "10.0.2.2", 8000), http(gone, "http://10.0.2.2:8000/")),
        *(ping(closed, "10.0.2.2"), fact(gone, "true"), fact(bare, "nosuchcommand")),
    ]
    with bare, mortal:
        seen = look(*probes)
    assert [o.outcome for o in seen] == [O.NOT_MADE] * len(probes), "\n".join(map(str, seen))
    assert "cannot open /nonexistent/ns/net" in seen[4].output


def test_a_tool_that_says_something_unknown_has_seen_nothing(
    world: tuple[Node, Node, Node], tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("ping", "bash", "timeout", "curl"):
        (tools / tool).write_text("#!/bin/sh\necho 'something new went wrong' >&2; exit 1\n")
        (tools / tool).chmod(0o755)
    with world[0].host(prefix=("env", f"PATH={tools}")) as host:
        seen = look(ping(host, "10.0.2.2"), tcp(host, "10.0.2.2", 8000), http(host, "http://10.0.2.2:8000/"))
    assert [o.outcome for o in seen] == [O.NOT_MADE] * 3
    assert [o.output for o in seen] == ["something new went wrong"] * 3


@pytest.mark.parametrize(
    "said",
    [
        "ping: socket: Operation not permitted",
        "ping: socket: Permission denied",
        "ping: permission denied (are you root?)",
        "ping: socktype: SOCK_RAW\nping: socket: Operation not permitted\nping: => missing cap_net_raw+p",
    ],
)
def test_a_ping_that_is_not_permitted_has_seen_nothing(said: str) -> None:
    assert ping_reading(CommandResult("ping", 2, "", said, 0.1)).outcome is O.NOT_MADE


def test_one_lost_packet_is_not_several(world: tuple[Node, Node, Node], tmp_path: Path) -> None:
    lost = "1 packets transmitted, 0 received, 100% packet loss, time 0ms"
    (tmp_path / "ping").write_text(f"#!/bin/sh\necho '{lost}'; exit 1\n")
    (tmp_path / "ping").chmod(0o755)
    with world[0].host(prefix=("env", f"PATH={tmp_path}")) as host:
        observation = ping(host, "10.0.2.2", window=1).look()
    assert observation.outcome is O.NOT_MADE
    assert "fewer than two packets" in observation.output


def test_busybox_tools_are_understood(world: tuple[Node, Node, Node], tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for applet in ("ping", "nc", "grep", "ip", "true"):
        (tools / applet).symlink_to("/usr/bin/busybox")
    (tools / "getent").symlink_to("/usr/bin/getent")
    failing = ("10.0.2.3", "10.9.9.9", "10.7.0.1", "nosuch.invalid")
    with world[0].host(prefix=("env", f"PATH={tools}"), shell=("/usr/bin/busybox", "sh")) as host:
        seen = look(
            *(ping(host, t, window=4) for t in ("10.0.2.2", *failing)),
            *(tcp(host, "10.0.2.2", p, window=2) for p in (8000, 8001, 8009)),
            *(tcp(host, t, 8000, window=4) for t in failing),
        )
    assert [o.outcome for o in seen] == [
        # Of ICMP errors busybox' ping says nothing: they are silence to it.
        *(O.REACHABLE, O.FILTERED, O.FILTERED, O.NO_ROUTE, O.NAME_ERROR),
        *(O.REACHABLE, O.REACHABLE, O.REFUSED),
        *(O.FILTERED, O.UNREACHABLE, O.NO_ROUTE, O.NAME_ERROR),
    ], "\n".join(map(str, seen))
    assert seen[0].numbers["ttl"] == 63
    assert seen[0].numbers["received"] >= 1


def test_python_opens_the_connection_where_there_is_no_bash(
    world: tuple[Node, Node, Node], tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to("/usr/bin/python3")
    (tools / "grep").symlink_to("/usr/bin/grep")
    with world[0].host(prefix=("env", f"PATH={tools}")) as host:
        seen = look(
            *(tcp(host, "10.0.2.2", p, window=2) for p in (8000, 8009)),
            *(tcp(host, t, 8000, window=4) for t in ("10.0.2.3", "10.9.9.9", "10.7.0.1", "nosuch.invalid")),
        )
    assert [o.outcome for o in seen] == [
        *(O.REACHABLE, O.REFUSED, O.FILTERED, O.UNREACHABLE, O.NO_ROUTE, O.NAME_ERROR)
    ], "\n".join(map(str, seen))


def test_a_command_is_evidence(alpha: NamespaceHost) -> None:
    with evidence.collect() as collected:
        route = command(alpha, "ip route show %s", "default")
        failed = command(alpha, "echo out; echo err >&2; exit 3", target="something")
    assert collected == [route, failed]
    assert (route.outcome, route.output) == (O.SEEN, "default via 10.0.1.1 dev router \n")
    assert (route.source, route.command) == ("alpha", "ip route show default")
    assert (failed.outcome, failed.output, failed.numbers) == (O.SEEN, "out\nerr\n", {"status": 3})
    assert failed.target == "something"


def test_a_command_that_cannot_be_run_proves_nothing() -> None:
    gone = NamespaceHost("gone", ["nsenter", "--net=/nonexistent/ns/net", "--"])
    with evidence.collect() as collected, pytest.raises(Unproven, match="could not be run"):
        command(gone, "ip route")
    with pytest.raises(Unproven, match="a look could not be made"):
        facts(fact(gone, "ip route"))
    assert [each.outcome for each in collected] == [O.NOT_MADE]


@pytest.mark.parametrize("target", ["", "a b", "1.2.3.4;reboot", "-f", "$(id)", "a'b"])
def test_a_target_that_is_none_is_refused(alpha: NamespaceHost, target: str) -> None:
    with pytest.raises(ValueError, match="neither an address nor a name"):
        ping(alpha, target)
    with pytest.raises(ValueError, match="neither an address nor a name"):
        tcp(alpha, target, 22)
    with pytest.raises(ValueError, match="not an http URL"):
        http(alpha, target)


def test_bad_numbers_are_refused(alpha: NamespaceHost) -> None:
    with pytest.raises(ValueError, match="port 0"):
        tcp(alpha, "10.0.2.2", 0)
    with pytest.raises(ValueError, match="at least one packet"):
        ping(alpha, "10.0.2.2", packets=0)


def test_a_host_error_has_a_name_and_a_reason() -> None:
    gone = NamespaceHost("gone", ["nsenter", "--net=/nonexistent/ns/net", "--"])
    with pytest.raises(HostError, match=r"gone: .*cannot open /nonexistent/ns/net"):
        gone.run("true")
