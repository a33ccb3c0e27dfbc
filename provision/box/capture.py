"""Packets seen on interfaces in the box's networks: where on its way one was last seen."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Self

from provision.box.namespaces import BoxError, enter_network

ETH_P_ALL, ETH_P_IP = 0x0003, 0x0800
ICMP, TCP = 1, 6
SNAPPED = 128  # bytes: the IPv4 header at its longest, and what is read of the next


@dataclass(frozen=True)
class Point:
    """An interface in a network namespace; of several that begin with `interface`, the first."""

    network: Path
    interface: str


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet's header, and of what is in it: an ICMP message's type, a TCP segment's ports."""

    source: IPv4Address
    target: IPv4Address
    protocol: int
    icmp_type: int | None = None
    source_port: int | None = None
    target_port: int | None = None


def parse(data: bytes) -> Packet | None:
    """A packet as RFC 791, 792 and 9293 lay it out; None for another than IPv4, and for a fragment's rest."""
    if len(data) < 20 or data[0] >> 4 != 4:
        return None
    length, fragment = (data[0] & 15) * 4, struct.unpack_from("!H", data, 6)[0] & 0x1FFF
    source, target, protocol = IPv4Address(data[12:16]), IPv4Address(data[16:20]), data[9]
    if fragment:
        return None
    if protocol == ICMP and len(data) > length:
        return Packet(source, target, protocol, icmp_type=data[length])
    if protocol == TCP and len(data) >= length + 4:
        ports = struct.unpack_from("!HH", data, length)
        return Packet(source, target, protocol, source_port=ports[0], target_port=ports[1])
    return Packet(source, target, protocol)


class Capture:
    """``with Capture(points) as seen: ...``: what passes at each of the points meanwhile is in ``seen.packets``.

    Attributes:
        packets: by point; a point that cannot be watched (it is not there) is not among them.
    """

    def __init__(self, points: Iterable[Point]) -> None:
        self.packets: dict[Point, list[Packet]] = {}
        self._points = list(dict.fromkeys(points))
        self._sockets: dict[int, tuple[socket.socket, Point]] = {}
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, name="capture", daemon=True)

    def __enter__(self) -> Self:
        # a thread that has gone into another network stays there: it is not the caller's
        opener = threading.Thread(target=self._open, name="capture-open")
        opener.start()
        opener.join()
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._reader.join()
        for each, _ in self._sockets.values():
            each.close()

    def _open(self) -> None:
        for point in self._points:
            try:
                enter_network(point.network)
                names = [name for _, name in socket.if_nameindex() if name.startswith(point.interface)]
                if not names:
                    continue
                # without the link's header; of all protocols, for of one alone what goes out is not shown
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
                opened.bind((names[0], ETH_P_ALL))
            except (OSError, BoxError):
                continue
            self._sockets[opened.fileno()] = (opened, point)
            self.packets[point] = []

    def _read(self) -> None:
        poll = select.poll()
        for number in self._sockets:
            poll.register(number, select.POLLIN)
        while not self._ended.is_set():
            for number, _ in poll.poll(50):
                opened, point = self._sockets[number]
                data, about = opened.recvfrom(SNAPPED)
                packet = parse(data) if about[1] == ETH_P_IP else None
                if packet is not None:
                    self.packets[point].append(packet)
