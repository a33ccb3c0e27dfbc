"""Drawings on a page: cleaned of all but shapes and words, and marked where something failed."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports import drawing as drawing_module
from reports.runfile import Verdict

_SVG = "{http://www.w3.org/2000/svg}"
_TAGS = {"svg", "g", "title", "desc", "rect", "line", "path", "circle", "text", "tspan"}
_IDS = re.compile(r"^lp-[td]-[0-9a-f]{8}$")  # the title and the description that a drawing is labelled by
_OWN = re.compile(r"^labproof-[a-z0-9]+-")  # what this project puts before the names it makes on a cloud
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_SCANNED = 20_000  # characters of a check's texts that are looked through for names


@dataclass(frozen=True)
class Mark:
    """A thing in a drawing that a check has something against.

    Attributes:
        name: the thing's, as drawn.
        verdict: the worst of the checks that name it: ``fail`` or ``unproven``.
        claims: what they were to prove, in the run's order.
    """

    name: str
    verdict: str
    claims: tuple[str, ...]


@dataclass
class Drawing:
    """A topology's drawing, parsed: the things in it by name, and the address of each."""

    root: ET.Element
    items: dict[str, ET.Element] = field(default_factory=dict)
    networks: dict[str, ET.Element] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: ET.Element) -> Drawing:
        drawing = cls(root)
        for group in root.findall(f"{_SVG}g"):
            name = group.findtext(f"{_SVG}title") or ""
            if not name:
                continue
            if _box(group) is None:
                drawing.networks.setdefault(name, group)
                continue
            drawing.items.setdefault(name, group)
            for words in group.iter(f"{_SVG}text"):
                for address in _ADDRESS.findall(words.text or ""):
                    drawing.addresses.setdefault(address, name)
        return drawing

    def named_in(self, words: str) -> list[str]:
        """The things that a text names: servers and routers first, else networks."""
        words = words[:_SCANNED]
        by_address = {self.addresses[each] for each in _ADDRESS.findall(words) if each in self.addresses}
        found = [name for name in self.items if name in by_address or _names(words, name)]
        return found or [name for name in self.networks if _names(words, name)]

    def known_in(self, words: str) -> int:
        """How many of its addresses a text holds: the drawing that a check belongs to has the most."""
        return len(set(_ADDRESS.findall(words)) & set(self.addresses))


def parse(svg: str) -> ET.Element | None:
    """A drawing with nothing in it but shapes and words; None when it is no SVG at all.

    A run file may come from anybody, and inline SVG can carry scripts, links and loads, and rules of style
    that reach all of the page: a topology gets the project's own in place of what it brings.
    """
    try:
        root = ET.fromstring(svg)  # noqa: S314 - no entities are resolved beyond expat's own limits
    except (ET.ParseError, ValueError):
        return None
    if root.tag != f"{_SVG}svg":
        return None
    _clean(root)
    if "lp-topology" in (root.get("class") or "").split():
        own = ET.Element(f"{_SVG}style")
        own.text = drawing_module.STYLE
        root.insert(0, own)
    return root


def clean_svg(svg: str) -> str:
    """The cleaned drawing as text; empty when it is no SVG at all."""
    root = parse(svg)
    return "" if root is None else write(root)


def write(root: ET.Element) -> str:
    ET.register_namespace("", _SVG[1:-1])
    return ET.tostring(root, encoding="unicode")


def marks(drawings: Sequence[Drawing], checks: Sequence[Mapping[str, Any]]) -> list[list[Mark]]:
    """What failed, per drawing: each thing that a failed or unproven check says it broke at.

    Where a check's reason and diagnosis name nothing drawn, what it looked at counts, and then what looked.
    """
    found: list[dict[str, tuple[str, list[str]]]] = [{} for _ in drawings]
    for check in checks:
        if check["verdict"] not in (Verdict.FAIL, Verdict.UNPROVEN):
            continue
        for number in _belongs_to(drawings, check):
            for name in _where(drawings[number], check):
                verdict, claims = found[number].get(name, (check["verdict"], []))
                worst = Verdict.FAIL if Verdict.FAIL in (verdict, check["verdict"]) else verdict
                found[number][name] = (worst, [*claims, *(c for c in check["claims"] if c not in claims)])
    return [
        [Mark(name, str(verdict), tuple(claims)) for name, (verdict, claims) in each.items()]
        for each in found
    ]


def draw_marks(drawing: Drawing, found: Sequence[Mark], leads_to: Mapping[str, str]) -> None:
    """Puts a sign with a link at each marked thing.

    Args:
        leads_to: claim -> the id of the element that tells of it.
    """
    for mark in found:
        group = drawing.items.get(mark.name)
        network = group is None
        if group is None:
            group = drawing.networks[mark.name]
        box = group.find(f"{_SVG}rect") if network else _box(group)
        if box is None:
            continue
        box.set("class", f"{box.get('class', '')} lp-at-{mark.verdict}".strip())
        x = _number(box, "x") + (_number(box, "width") if not network else _number(box, "width") / 2)
        link = ET.SubElement(group, f"{_SVG}a", {"href": f"#{leads_to[mark.claims[0]]}", "class": "lp-mark"})
        link.set("aria-label", f"{mark.name}: {mark.verdict}, {', '.join(mark.claims)}")
        centre = {"cx": f"{x:.1f}", "cy": f"{_number(box, 'y'):.1f}"}
        ET.SubElement(link, f"{_SVG}circle", {**centre, "r": "11", "class": f"lp-at-{mark.verdict}"})
        sign = ET.SubElement(
            link,
            f"{_SVG}text",
            {"x": centre["cx"], "y": f"{_number(box, 'y') + 5:.1f}", "text-anchor": "middle"},
        )
        sign.text = "✗" if mark.verdict == Verdict.FAIL else "?"
    if found and drawing.root.get("role") == "img":
        drawing.root.set("role", "group")  # an image's contents cannot be entered with the keyboard


def _belongs_to(drawings: Sequence[Drawing], check: Mapping[str, Any]) -> list[int]:
    known = [drawing.known_in(_everything(check)) for drawing in drawings]
    best = max(known, default=0)
    return [number for number, each in enumerate(known) if each == best]


def _where(drawing: Drawing, check: Mapping[str, Any]) -> list[str]:
    looks = check["observations"]
    for words in (
        "\n".join([check["reason"], *check["diagnosis"]]),
        "\n".join(look["target"] for look in looks),
        "\n".join(look["source"] for look in looks),
    ):
        if named := drawing.named_in(words):
            return named
    return []


def _everything(check: Mapping[str, Any]) -> str:
    looks = (f"{look['target']} {look['command']}" for look in check["observations"])
    return "\n".join([check["reason"], *check["diagnosis"], *looks])[:_SCANNED]


def _names(words: str, name: str) -> bool:
    return any(
        re.search(rf"(?<![\w.-]){re.escape(each)}(?![\w-])", words)
        for each in {name, _OWN.sub("", name)}
        if len(each) > 1
    )


def _box(group: ET.Element) -> ET.Element | None:
    boxes: Iterator[ET.Element] = group.iter(f"{_SVG}rect")
    return next((each for each in boxes if "lp-box" in (each.get("class") or "").split()), None)


def _number(element: ET.Element, name: str) -> float:
    try:
        return float(element.get(name, "0"))
    except ValueError:
        return 0.0


def _clean(element: ET.Element) -> None:
    for child in list(element):
        name = child.tag.removeprefix(_SVG) if isinstance(child.tag, str) else ""
        if name not in _TAGS:
            element.remove(child)
        else:
            _clean(child)
    for name, value in list(element.items()):
        named = name == "id" and not _IDS.match(value)
        if name.startswith(("on", "{")) or name in ("href", "style") or named or _loads(value):
            del element.attrib[name]


def _loads(css: str) -> bool:
    return any(each in css.lower() for each in ("url(", "@import", "\\", "expression", "javascript:", "<"))
