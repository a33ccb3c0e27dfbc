"""Whatever a topology document holds, it is read or refused: never a traceback."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provision.topology import Topology, TopologyError

TOPOLOGIES = Path(__file__).parent.parent / "labs" / "topologies"
DOCUMENTS = [
    json.loads((TOPOLOGIES / "two-networks.json").read_text(encoding="utf-8")),
    json.loads((Path(__file__).parent / "topology" / "report-003.json").read_text(encoding="utf-8")),
]


def places_of(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place] * bool(place) + [deep for key, item in inner for deep in places_of(item, (*place, key))]


KEYS = sorted(
    {key for document in DOCUMENTS for place in places_of(document) for key in place if key == str(key)}
)
# Addresses, names and words that mean something somewhere in the documents, and their like at the edges.
WORDS = ["front", "back", "public", "RT1", "RT2", "sum", "calculator", "lab", "default", "nano", "external"]
WORDS += [
    "20.4.5.4",
    "20.4.5.1",
    "0.0.0.0",
    "255.255.255.255",
    "20.4.5.0/24",
    "0.0.0.0/0",
    "::/0",
    "192.168.37.9",
]
WORDS += ["group:lab", "group:", "tcp", "icmp", "IPv6", "egress", "22-21", "1-65535", "\ud800", "\0"]
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 22, 65535, 65536, 10**30])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | st.sampled_from(WORDS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=20,
)
FUZZ = settings(max_examples=200, deadline=None, database=None)


def is_read_or_refused(obj: object) -> None:
    problems: list[str] = []
    try:
        topology = Topology.from_json(obj, "fuzz")
    except TopologyError as refusal:
        problems = refusal.problems or ["a refusal without a reason"]
    if problems:
        assert [line for line in problems if not (line.startswith("fuzz: ") and line.isprintable())] == []
        return
    assert Topology.from_json(json.loads(json.dumps(topology.as_json())), "fuzz") == topology
    assert str(topology)
    for host in topology.hosts:
        topology.reach_public(host)
        for other in topology.hosts:
            topology.connected(host, other)


@FUZZ
@given(VALUES)
def test_any_value_is_read_or_refused(obj: object) -> None:
    is_read_or_refused(obj)


@FUZZ
@given(st.data())
def test_document_with_anything_in_any_place_is_read_or_refused(data: st.DataObject) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(places_of(document)))
        holder = document
        for key in way:
            holder = holder[key]
        action = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
        if action == "replace":
            holder[last] = data.draw(VALUES)
        elif action == "remove" and len(document) > 1:
            del holder[last]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
    is_read_or_refused(document)


@FUZZ
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.json"
    file.write_bytes(data)
    with pytest.raises(TopologyError):
        Topology.load(file)
