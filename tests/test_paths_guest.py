"""A guest's own part of a path, read from what its tools print."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.guest import Guest, guest_state, read_guest
from probes.host import LocalHost
from probes.observation import Observation, Outcome

SEEN = """== addresses
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 20.4.5.88/24 brd 20.4.5.255 scope global eth0\\       valid_lft forever preferred_lft forever
== routes
default via 20.4.5.1 dev eth0
20.4.5.0/24 dev eth0 proto kernel scope link src 20.4.5.88
30.4.5.0/24 via 20.4.5.4 dev eth0
169.254.169.254 via 20.4.5.2 dev eth0
unreachable 40.0.0.0/8 metric 100
default via 20.4.5.9 dev eth1 metric 500
== listening
00000000:0016
0100007F:C351
00000000000000000000000000000000:C350
0000000000000000FFFF000058050414:C352
== forwarding
1
== filter
-P INPUT DROP
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A INPUT -s 20.4.5.0/24 -p tcp -m tcp --dport 22 -m comment --comment "a b" -j ACCEPT
-A INPUT -p tcp -m multiport --dports 50001,50010:50012 -j REJECT --reject-with tcp-reset
-A INPUT -p tcp -m tcp --dport 50002 -m limit --limit 1/sec -j ACCEPT
== end
"""


def guest(output: str = SEEN, outcome: Outcome = Outcome.SEEN) -> Guest | None:
    return read_guest(Observation("command", "vm", "vm itself", "", outcome, output))


def test_addresses_routes_sockets_and_filter_are_read() -> None:
    read = guest()
    assert read is not None
    assert [str(each) for each in read.addresses] == ["20.4.5.88/24"]
    assert read.forwarding
    assert read.listening == {("*", 22), ("127.0.0.1", 50001), ("*", 50000), ("20.4.5.88", 50002)}
    assert read.listens(50001) == ["127.0.0.1"]
    route = read.route_to(IPv4Address("30.4.5.215"))
    assert route is not None
    assert (str(route.destination), str(route.via)) == ("30.4.5.0/24", "20.4.5.4")
    assert str(read.route_to(IPv4Address("8.8.8.8")).via) == "20.4.5.1"  # type: ignore[union-attr]
    assert read.route_to(IPv4Address("40.1.1.1")).refuses  # type: ignore[union-attr]
    assert read.route_to(IPv4Address("20.4.5.1")).via is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("protocol", "port", "source", "refusal"),
    [
        ("icmp", 0, "1.2.3.4", None),
        ("tcp", 22, "20.4.5.9", None),
        ("tcp", 22, "1.2.3.4", "-P INPUT DROP"),
        ("tcp", 50001, "20.4.5.9", "REJECT"),
        ("tcp", 50011, "20.4.5.9", "REJECT"),
        ("tcp", 50002, "20.4.5.9", "-P INPUT DROP"),
    ],
)
def test_the_packet_filter_decides_over_a_first_packet(
    protocol: str, port: int, source: str, refusal: str | None
) -> None:
    read = guest()
    assert read is not None
    rule = read.refusal(protocol, port, IPv4Address(source))
    assert (rule is None) if refusal is None else (rule is not None and refusal in rule.text)


def test_a_host_that_could_not_be_looked_into_is_none() -> None:
    assert guest(SEEN, Outcome.NOT_MADE) is None
    assert guest(SEEN.partition("== filter")[0]) is None


def test_lines_that_make_no_sense_are_left_out() -> None:
    odd = "== addresses\n2: eth0 inet 999.1.1.1/24\n== routes\nfoo bar\ndefault via x\n10.0.0.0/99\n== listening\nzz:1\n"
    read = guest(odd + "== forwarding\n\n== filter\n-A INPUT 'unfinished\n== end\n")
    assert read == Guest()
    assert read.refusal("icmp", 0, None) is None


@settings(max_examples=200, deadline=None, database=None)
@given(st.text(max_size=300), st.sampled_from(["addresses", "routes", "listening", "forwarding", "filter"]))
def test_no_output_makes_the_reader_fall_over(text: str, part: str) -> None:
    output = SEEN.replace(f"== {part}\n", f"== {part}\n{text}\n", 1)
    assert isinstance(guest(output), Guest)


def test_this_machine_is_read() -> None:
    with LocalHost("desktop") as host:
        read = read_guest(guest_state(host).look())
    assert read is not None
    assert all(route.destination.version == 4 for route in read.routes)
    connected = [route.destination for route in read.routes if route.via is None]
    assert not read.addresses or any(
        each.network in (IPv4Network("0.0.0.0/0"), *connected) for each in read.addresses
    )
