"""A network topology as inline SVG: networks are upright bars, routers and servers hang between them.

Each link carries its address. Works without scripts, fonts or programs of its own; colours follow the page
(``currentColor``, ``Canvas``), so it reads in light and dark, and on paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from unicodedata import east_asian_width

from reports.text import one_line

NAME_LIMIT = 24

# Okabe and Ito's palette: told apart with any colour vision, on white and on black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Widths of a character, in pixels, a little more than the widest common fonts need at that size.
_CHAR = {"name": 8.6, "address": 7.4, "small": 7.0}
_BAR = 14
_LINE = 17  # height of a line of text in a box
_LINK = 30  # distance of the links on one side of a box
_GAP = 18  # between rows
_HEAD = 52
_MARGIN = 16


@dataclass(frozen=True)
class Network:
    """``cidr`` is empty where it is not known; ``external`` networks are drawn first."""

    name: str
    cidr: str = ""
    external: bool = False


@dataclass(frozen=True)
class Link:
    """An address on a network; a network that is not among the model's is drawn as unknown."""

    network: str
    address: str = ""


@dataclass(frozen=True)
class Router:
    """``gateway`` is the link to the external network, ``legs`` those to the others."""

    name: str
    gateway: Link | None = None
    legs: tuple[Link, ...] = ()
    status: str = "ACTIVE"


@dataclass(frozen=True)
class Server:
    name: str
    links: tuple[Link, ...] = ()
    status: str = "ACTIVE"
    floating_ip: str = ""


@dataclass(frozen=True)
class Model:
    """What is drawn: a topology as the cloud reports it, in the cloud's own names."""

    networks: tuple[Network, ...] = ()
    routers: tuple[Router, ...] = ()
    servers: tuple[Server, ...] = ()


@dataclass
class _Item:
    """A router or a server with its links, sorted into those to the left and to the right."""

    kind: str
    name: str
    lines: list[tuple[str, str]]  # class, text
    links: list[tuple[int, str]]  # number of the network's bar, address
    status: str
    column: int = 0
    row: int = 0
    left: list[tuple[int, str]] = field(default_factory=list)
    right: list[tuple[int, str]] = field(default_factory=list)

    @property
    def width(self) -> float:
        return max(96.0, max(_width(kind, words) for kind, words in self.lines) + 40)

    @property
    def height(self) -> float:
        return max(len(self.lines) * _LINE + 14, max(len(self.left), len(self.right)) * _LINK)

    @property
    def reach(self) -> range:
        """The columns whose row this item's links take up."""
        return range(self.column, max((bar for bar, _ in self.right), default=self.column + 1))


def draw(model: Model) -> str:
    """The topology as one ``<svg>`` element; the same model gives the same text.

    Names and addresses are made plain and escaped; long names are shortened, their whole text is in the
    element's tooltip.
    """
    networks = _ordered(model)
    items = list(_items(model, [network.name for network in networks]))
    rows = _place(items)
    return _Picture(networks, items, rows).svg(_words(model))


def _ordered(model: Model) -> list[Network]:
    """External networks first, then by distance over routers, each in the model's order."""
    known = {network.name: network for network in model.networks}
    for link in _all_links(model):
        known.setdefault(link.network, Network(link.network))
    joined: dict[str, list[str]] = {name: [] for name in known}
    for router in model.routers:
        ends = [link.network for link in _router_links(router)]
        for end in ends:
            joined[end] += [other for other in ends if other != end]
    order: list[str] = []
    waiting = [name for name, network in known.items() if network.external]
    rest = [name for name in known if name not in waiting]
    while waiting or rest:
        if not waiting:
            waiting = [rest[0]]
        name = waiting.pop(0)
        if name in order:
            continue
        order.append(name)
        rest = [each for each in rest if each != name]
        waiting += [each for each in known if each in joined[name] and each not in order]
    return [known[name] for name in order]


def _router_links(router: Router) -> tuple[Link, ...]:
    return (*([router.gateway] if router.gateway else []), *router.legs)


def _all_links(model: Model) -> Iterator[Link]:
    for router in model.routers:
        yield from _router_links(router)
    for server in model.servers:
        yield from server.links


def _items(model: Model, order: list[str]) -> Iterator[_Item]:
    for router in model.routers:
        lines = [("name", _short(router.name)), ("small", "router")]
        if router.status != "ACTIVE":
            lines[1] = ("small", f"router, {_short(router.status)}")
        yield _item("router", router.name, lines, _router_links(router), order=order, status=router.status)
    for server in model.servers:
        lines = [("name", _short(server.name)), ("small", _short(server.status.lower()))]
        if server.floating_ip:
            lines.append(("small", f"floating {_short(server.floating_ip, 45)}"))
        yield _item("server", server.name, lines, server.links, order=order, status=server.status)


def _item(
    kind: str,
    name: str,
    lines: list[tuple[str, str]],
    links: Iterable[Link],
    *,
    order: list[str],
    status: str,
) -> _Item:
    ends = sorted((order.index(link.network), _short(link.address, 45)) for link in links)
    item = _Item(kind, name, lines, ends, status)
    item.column = ends[0][0] if ends else max(len(order) - 1, 0)
    item.left = [end for end in ends if end[0] == item.column]
    item.right = [end for end in ends if end[0] > item.column]
    return item


def _place(items: list[_Item]) -> int:
    """Gives each item the first row that is free in all columns that its links cross; returns the rows."""
    taken: set[tuple[int, int]] = set()
    rows = 0
    # Those that reach far go first, so that they stay on top and their lines do not wander.
    for item in sorted(items, key=lambda each: (-len(each.reach), each.kind != "router")):
        while any((column, item.row) in taken for column in item.reach):
            item.row += 1
        taken |= {(column, item.row) for column in item.reach}
        rows = max(rows, item.row + 1)
    return rows


class _Picture:
    """The measures of one drawing, and its parts as text."""

    def __init__(self, networks: list[Network], items: list[_Item], rows: int) -> None:
        self.networks = networks
        self.items = items
        heights = [max((each.height for each in items if each.row == row), default=0) for row in range(rows)]
        tops = [float(_HEAD + _GAP)]
        for height in heights:
            tops.append(tops[-1] + height + _GAP)
        self.middles = [top + height / 2 for top, height in zip(tops, heights, strict=False)]
        self.height = max(tops[-1], _HEAD + 2.0 * _GAP) + _MARGIN
        columns = range(max(len(networks), 1))
        self.box = [max((each.width for each in items if each.column == c), default=0.0) for c in columns]
        self.lead = [self._labels(c, right=False) for c in columns]
        self.bars: list[float] = []
        x = _MARGIN + self._title_width(0) / 2
        for column in columns:
            self.bars.append(x)
            inner = self.lead[column] + self.box[column] + max(self._labels(column, right=True), 2.0 * _BAR)
            titles = (self._title_width(column) + self._title_width(column + 1)) / 2 + 24
            x += max(inner, titles if column + 1 < len(networks) else titles - 24)
        self.width = max(x + _MARGIN, 440.0)  # room for the words that say that there is nothing

    def _labels(self, column: int, *, right: bool) -> float:
        """Room for the link labels on one side of a column's boxes."""
        here = [each for each in self.items if each.column == column]
        texts = [text for each in here for _, text in (each.right if right else each.left)]
        return max(_width("address", text) for text in texts) + 34 if texts else 0.0

    def _title_width(self, number: int) -> float:
        if number >= len(self.networks):
            return 0.0
        network = self.networks[number]
        return max(_width("name", _short(network.name)), _width("small", _about(network)))

    def svg(self, words: str) -> str:
        mark = hashlib.sha256(words.encode()).hexdigest()[:8]
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="lp-topology" role="img" '
            f'aria-labelledby="lp-t-{mark} lp-d-{mark}" viewBox="0 0 {self.width:.0f} {self.height:.0f}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" fill="currentColor">',
            f'<title id="lp-t-{mark}">Network topology</title>',
            f'<desc id="lp-d-{mark}">{escape(words)}</desc>',
            f"<style>{STYLE}</style>",
        ]
        if not self.networks and not self.items:
            parts.append(f'<text x="{_MARGIN}" y="30">Nothing there: no network, router or server.</text>')
        parts += [self._bar(number) for number in range(len(self.networks))]
        parts += [self._item_parts(item) for item in self.items]
        return "".join([*parts, "</svg>"])

    def _bar(self, number: int) -> str:
        network, x, colour = self.networks[number], self.bars[number], _COLOURS[number % len(_COLOURS)]
        fill = f'fill="{colour}"'
        if not network.cidr:
            fill = f'fill="none" stroke="{colour}" stroke-dasharray="4 3"'
        middle = f'x="{x:.1f}" text-anchor="middle"'
        return (
            f"<g><title>{escape(one_line(network.name))}</title>"
            f'<text class="lp-n" y="20" {middle}>{escape(_short(network.name))}</text>'
            f'<text class="lp-s" y="38" {middle}>{escape(_about(network))}</text>'
            f'<rect x="{x - _BAR / 2:.1f}" y="{_HEAD}" width="{_BAR}" '
            f'height="{self.height - _HEAD - _MARGIN:.1f}" rx="{_BAR / 2}" {fill}/></g>'
        )

    def _item_parts(self, item: _Item) -> str:
        left = self.bars[item.column] + self.lead[item.column] if self.bars else float(_MARGIN)
        left = left + _BAR if not item.left else left
        width, height = self.box[item.column], item.height
        middle = self.middles[item.row]
        parts = [f"<g><title>{escape(one_line(item.name))}</title>"]
        for side, start in ((item.left, left), (item.right, left + width)):
            first = middle - (len(side) - 1) * _LINK / 2
            for number, (bar, address) in enumerate(side):
                parts.append(self._link(start, first + number * _LINK, bar, address, item.column))
        good = item.status.upper() == "ACTIVE"
        corner = height / 2 if item.kind == "router" else 5
        parts.append(
            f'<rect class="lp-box{"" if good else " lp-ill"}" x="{left:.1f}" y="{middle - height / 2:.1f}" '
            f'width="{width:.1f}" height="{height:.1f}" rx="{min(corner, 24):.1f}"/>'
        )
        top = middle - (len(item.lines) - 1) * _LINE / 2 + 5
        for number, (kind, words) in enumerate(item.lines):
            style = "lp-n" if kind == "name" else "lp-s"
            parts.append(
                f'<text class="{style}" x="{left + width / 2:.1f}" y="{top + number * _LINE:.1f}" '
                f'text-anchor="middle">{escape(words)}</text>'
            )
        return "".join([*parts, "</g>"])

    def _link(self, start: float, y: float, bar: int, address: str, column: int) -> str:
        """A line from a box's side to a bar; over the bars between, it passes with a gap around it."""
        end, colour = self.bars[bar], _COLOURS[bar % len(_COLOURS)]
        away = 1 if end > start else -1
        line = f'x1="{start:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}"'
        parts = [
            f'<line class="lp-halo" x1="{self.bars[over] - _BAR:.1f}" y1="{y:.1f}" '
            f'x2="{self.bars[over] + _BAR:.1f}" y2="{y:.1f}"/>'
            for over in range(column + 1, bar)
        ]
        parts.append(f'<line {line} stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<circle class="lp-dot" cx="{end:.1f}" cy="{y:.1f}" r="5" stroke="{colour}"/>')
        if address:
            place = (
                f'x="{start + away * 8:.1f}" y="{y - 5:.1f}" text-anchor="{"start" if away > 0 else "end"}"'
            )
            parts.append(f'<text class="lp-a" {place}>{escape(address)}</text>')
        return "".join(parts)


STYLE = (
    ".lp-topology:root{color-scheme:light dark;color:CanvasText}"
    ".lp-topology text{font-family:system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif}"
    ".lp-topology .lp-n{font-size:14px;font-weight:600}"
    ".lp-topology .lp-s{font-size:12px;opacity:.8}"
    ".lp-topology .lp-a{font-size:12px;font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}"
    ".lp-topology .lp-box{fill:Canvas;stroke:currentColor;stroke-width:1.5}"
    ".lp-topology .lp-ill{stroke:#cf222e;stroke-width:2.5;stroke-dasharray:6 3}"
    ".lp-topology .lp-dot{fill:Canvas;stroke-width:2}"
    ".lp-topology .lp-halo{stroke:Canvas;stroke-width:9}"
)


def _about(network: Network) -> str:
    return ", ".join(filter(None, [_short(network.cidr, 45), "external" if network.external else ""])) or "?"


def _width(kind: str, words: str) -> float:
    cells = sum(2 if east_asian_width(each) in "WF" else 1 for each in words)
    return _CHAR[kind] * cells


def _short(words: str, limit: int = NAME_LIMIT) -> str:
    return one_line(words, limit)


def _words(model: Model) -> str:
    """The drawing for who does not see it."""
    said = (
        [f"network {network.name} ({_about(network)})" for network in model.networks]
        + [
            f"router {router.name}: "
            + ", ".join(f"{link.address} on {link.network}" for link in _router_links(router))
            for router in model.routers
        ]
        + [
            f"server {server.name}, {server.status.lower()}: "
            + ", ".join(f"{link.address} on {link.network}" for link in server.links)
            + (f", floating IP {server.floating_ip}" if server.floating_ip else "")
            for server in model.servers
        ]
    )
    return "; ".join(" ".join(one_line(each, 400).split()) for each in said) or "nothing"
