"""The topology drawing: well formed, the same each time, and nothing over anything else."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations
from unicodedata import east_asian_width

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.drawing import Link, Model, Network, Router, Server, draw
from reports.html import clean_svg

SVG = "{http://www.w3.org/2000/svg}"
PUBLIC = Network("public", "192.168.37.0/24", external=True)

SINGLE = Model(
    (Network("private", "10.1.0.0/24"), PUBLIC),
    (Router("router", Link("public", "192.168.37.120"), (Link("private", "10.1.0.1"),)),),
    (Server("vm1", (Link("private", "10.1.0.23"),), floating_ip="192.168.37.28"),),
)
TWO_NETWORKS = Model(
    (Network("back", "30.4.5.0/24"), Network("front", "20.4.5.0/24"), PUBLIC),
    (
        Router("RT2", None, (Link("front", "20.4.5.4"), Link("back", "30.4.5.1"))),
        Router("RT1", Link("public", "192.168.37.71"), (Link("front", "20.4.5.1"),)),
    ),
    (
        Server("calculator", (Link("front", "20.4.5.88"),), floating_ip="192.168.37.14"),
        *(
            Server(name, (Link("back", f"30.4.5.{last}"),))
            for name, last in (("sum", 215), ("sub", 109), ("mul", 120), ("div", 218))
        ),
    ),
)
TWELVE = Model(
    (PUBLIC, Network("front", "20.4.5.0/24")),
    (),
    tuple(Server(f"labproof-ab12c-worker-{n:02}", (Link("front", f"20.4.5.{100 + n}"),)) for n in range(12)),
)
AWKWARD = Model(
    (
        PUBLIC,
        Network("n" * 300, "10.0.0.0/8"),
        Network("v6", "fd00:1234:5678:9abc::/64"),
        Network("empty", "1.2.3.0/24"),
    ),
    (
        Router(
            "<script>alert(1)</script>",
            Link("public", "192.168.37.255"),
            (Link("n" * 300, "10.111.111.111"), Link("v6", "fd00:1234:5678:9abc:1234:5678:9abc:def0")),
        ),
        Router("skips one", Link("public", "192.168.37.7"), (Link("v6", "fd00::1"),)),
        Router("no legs", status="DOWN"),
    ),
    (
        Server("dual", (Link("n" * 300, "10.1.1.1"), Link("v6", "fd00::2"), Link("hidden", "9.9.9.9"))),
        Server("three on one", tuple(Link("v6", f"fd00::{n}") for n in (3, 4, 5)), "ACTIVE", "192.168.37.99"),
        Server("网络实验室的服务器", (Link("v6", "fd00::6"),)),
        Server("\x1b[31mno network\x00", status="ERROR"),
    ),
)  # fmt: skip


def words(svg: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Where each text lies at most: DejaVu, the widest of the fonts named, measured in a browser."""
    widths = {"lp-n": 8.6, "lp-s": 7.0, "lp-a": 7.4}
    found = []
    for each in ET.fromstring(svg).iter(f"{SVG}text"):
        cells = sum(2 if east_asian_width(letter) in "WF" else 1 for letter in each.text or "")
        width = cells * widths.get(each.get("class", ""), 8)
        x, y = float(each.get("x", 0)), float(each.get("y", 0))
        left = {"middle": x - width / 2, "end": x - width}.get(each.get("text-anchor", ""), x)
        found.append((each.text or "", left, y - 11, left + width, y + 3))
    return found


def overlaps(svg: str) -> list[tuple[str, str]]:
    return [
        (a[0], b[0])
        for a, b in combinations(boxes(svg), 2)
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]


def outside(svg: str) -> list[str]:
    _, _, width, height = map(float, ET.fromstring(svg).attrib["viewBox"].split())
    return [text for text, x1, y1, x2, y2 in boxes(svg) if x1 < 0 or y1 < 0 or x2 > width or y2 > height]


@pytest.mark.parametrize("model", [SINGLE, TWO_NETWORKS, TWELVE, AWKWARD, Model(), Model((PUBLIC,))])
def test_nothing_overlaps_or_leaves_the_picture(model: Model) -> None:
    svg = draw(model)
    assert overlaps(svg) == []
    assert outside(svg) == []


@pytest.mark.parametrize("model", [SINGLE, TWO_NETWORKS, TWELVE])
def test_every_name_and_address_is_there(model: Model) -> None:
    shown = words(draw(model))
    for network in model.networks:
        assert network.name in shown
    for router in model.routers:
        assert {router.name, *(leg.address for leg in router.legs)} <= set(shown)
        assert router.gateway is None or router.gateway.address in shown
    for server in model.servers:
        assert {server.name, *(link.address for link in server.links)} <= set(shown)
        assert not server.floating_ip or f"floating {server.floating_ip}" in shown


def test_networks_stand_in_the_order_of_the_way_from_outside() -> None:
    bars = {each[0]: each[1] for each in boxes(draw(TWO_NETWORKS)) if each[0] in ("public", "front", "back")}
    assert bars["public"] < bars["front"] < bars["back"]


def test_the_same_model_gives_the_same_drawing() -> None:
    assert draw(TWO_NETWORKS) == draw(TWO_NETWORKS)


def test_it_can_be_read_without_being_seen() -> None:
    root = ET.fromstring(draw(TWO_NETWORKS))
    assert root.get("role") == "img"
    named = {each.get("id"): each.text for each in root if each.tag in (f"{SVG}title", f"{SVG}desc")}
    labels = root.get("aria-labelledby", "").split()
    assert named[labels[0]] == "Network topology"
    assert "server calculator, active: 20.4.5.88 on front, floating IP 192.168.37.14" in (
        named[labels[1]] or ""
    )


def test_two_drawings_in_one_page_have_ids_of_their_own() -> None:
    ids = [each.get("id") for model in (SINGLE, TWO_NETWORKS) for each in ET.fromstring(draw(model)).iter()]
    given_ids = [each for each in ids if each]
    assert len(given_ids) == len(set(given_ids))


def test_foreign_names_are_harmless_and_cut() -> None:
    svg = draw(AWKWARD)
    assert "<script" not in svg
    assert "\x1b" not in svg
    assert max(map(len, words(svg))) <= 60
    assert any(each.endswith("…") for each in words(svg))


def test_what_is_not_active_stands_out() -> None:
    assert draw(SINGLE).count("lp-ill") == 1  # the rule alone
    assert draw(AWKWARD).count("lp-ill") == 3


def test_a_network_that_is_not_listed_is_drawn_as_unknown() -> None:
    svg = draw(Model((), (), (Server("vm", (Link("somewhere", "10.0.0.5"),)),)))
    assert {"somewhere", "?", "10.0.0.5"} <= set(words(svg))
    assert "stroke-dasharray" in svg


def test_the_report_takes_it_as_it_is() -> None:
    cleaned = clean_svg(draw(TWO_NETWORKS))
    assert words(cleaned) == words(draw(TWO_NETWORKS))
    assert "<style>" in cleaned
    assert 'role="img"' in cleaned


names = st.text(max_size=40)
addresses = st.ip_addresses().map(str) | st.just("")
links = st.builds(Link, st.sampled_from(["public", "a", "b", "c"]), addresses)


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Model,
        st.just((PUBLIC, Network("a", "10.0.0.0/8"), Network("b", "10.9.0.0/16"), Network("c"))),
        st.lists(
            st.builds(Router, names, st.none() | links, st.lists(links, max_size=4).map(tuple)), max_size=4
        ).map(tuple),
        st.lists(
            st.builds(Server, names, st.lists(links, max_size=3).map(tuple), names, addresses), max_size=12
        ).map(tuple),
    )
)
def test_any_topology_can_be_drawn(model: Model) -> None:
    svg = draw(model)
    assert overlaps(svg) == []
    assert outside(svg) == []
