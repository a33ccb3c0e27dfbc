"""Packets are told apart as they are laid out, and seen where they pass; in a network of the test's own."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.box.capture import ICMP, TCP, Capture, Packet, Point, parse

HERE, THERE = IPv4Address("10.9.8.1"), IPv4Address("10.9.8.2")


def ipv4(protocol: int, payload: bytes, options: bytes = b"", fragment: int = 0) -> bytes:
    length = 5 + len(options) // 4
    head = struct.pack("!BBHHHBBH", 64 + length, 0, length * 4 + len(payload), 0, fragment, 64, protocol, 0)
    return head + HERE.packed + THERE.packed + options + payload


def test_pings_and_connections_are_told_apart() -> None:
    assert parse(ipv4(ICMP, b"\x08\x00rest")) == Packet(HERE, THERE, ICMP, icmp_type=8)
    assert parse(ipv4(TCP, struct.pack("!HH", 40000, 22), options=b"\x01" * 8)) == Packet(
        HERE, THERE, TCP, source_port=40000, target_port=22
    )
    assert parse(ipv4(17, b"\x00\x35")) == Packet(HERE, THERE, 17)


def test_the_rest_of_a_fragmented_packet_is_no_packet_of_its_own() -> None:
    assert parse(ipv4(TCP, struct.pack("!HH", 40000, 22), fragment=185)) is None


@given(st.binary(max_size=128))
def test_whatever_passes_is_read_or_left(data: bytes) -> None:
    found = parse(data)
    assert found is None or found.protocol == data[9]


@pytest.fixture
def network() -> Iterator[Path]:
    """A network namespace of two ends of a wire, both its own; it ends with the process that holds it."""
    if os.geteuid():
        pytest.skip("making a network namespace takes root")
    script = (
        "ip link add left type veth peer name right && ip netns add {0} && ip link set right netns {0} && "
        "ip addr add 10.9.8.1/24 dev left && ip link set left up && ip link set lo up && "
        "ip -n {0} addr add 10.9.8.2/24 dev right && ip -n {0} link set right up && echo ready && exec sleep 60"
    )
    command = [
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /run && " + script.format("far"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield Path(f"/proc/{holder.pid}/ns/net")
        holder.kill()


def ping(network: Path, address: IPv4Address) -> None:
    subprocess.run(
        ["nsenter", f"--net={network}", "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", str(address)],
        stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_what_passes_is_seen_in_both_directions_and_the_caller_stays_where_it_is(network: Path) -> None:
    before = str(Path("/proc/thread-self/ns/net").readlink())
    with Capture([Point(network, "left"), Point(network, "nothing-here")]) as seen:
        ping(network, THERE)
    assert str(Path("/proc/thread-self/ns/net").readlink()) == before
    (packets,) = seen.packets.values()
    assert {(p.source, p.icmp_type) for p in packets if p.protocol == ICMP} == {(HERE, 8), (THERE, 0)}
    assert "capture" not in {thread.name for thread in threading.enumerate()}


def test_a_network_that_is_not_there_is_not_watched() -> None:
    with Capture([Point(Path("/proc/1/ns/nothing"), "left")]) as seen:
        pass
    assert seen.packets == {}
