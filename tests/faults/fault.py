"""What a fault is: what somebody did wrong or what failed, how it is put in, and what the suites must say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Required, TypedDict, Unpack

if TYPE_CHECKING:
    from tests.faults.world import World

PutIn = Callable[["World"], Iterator[None]]


@dataclass(frozen=True)
class Scope:
    """The checks that are run again for a fault: all that its part of the lab can show.

    Attributes:
        name: for people.
        lane: ``cloud`` or ``natvm``: lanes are looked at side by side. ``alone``: nothing else is looked at meanwhile.
        words: pytest's, besides ``--keep``.
    """

    name: str
    lane: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One entry of the catalogue.

    Attributes:
        id: stable, short, with the system's name in front.
        what: what was done wrong, or what failed, in a student's or an operator's words.
        put_in: a context manager on the standing lab; None where `plugin` does it.
        plugin: name of the break of :mod:`tests.faults.plugin` that is put in while the checks run.
        red: claims that must fail.
        open: claims that must be red or unproven: they cannot be told any more. All others of the scope must stay.
        words: what the reason or diagnosis of a check that turned must contain, one of its alternatives each.
        everyday: whether `make test` puts it in too.
        control: the kind of probe (``ping``, ``tcp``...) whose positive controls alone keep a claim of `open` from
            turning green: without them the fault must go unnoticed, which is tried.
    """

    id: str
    what: str
    scope: Scope
    put_in: Callable[[World], AbstractContextManager[None]] | None
    plugin: str
    red: frozenset[str]
    open: frozenset[str]
    words: tuple[str, ...]
    everyday: bool = False
    control: str = ""


CATALOGUE: dict[str, Fault] = {}


class Expected(TypedDict, total=False):
    """What the suites must say of a fault: the fields of :class:`Fault` of the same names, ``open_`` for ``open``.

    Claims are written with spaces between them; ``words`` may be one alternative alone.
    """

    red: str
    open_: str
    words: Required[str | tuple[str, ...]]
    everyday: bool
    control: str


def fault(id_: str, what: str, scope: Scope, **expected: Unpack[Expected]) -> Callable[[PutIn], PutIn]:
    """Enters what it decorates, a generator that puts the fault in, yields, and takes it out."""

    def enter(put_in: PutIn) -> PutIn:
        _enter(id_, what, scope, contextmanager(put_in), "", expected)
        return put_in

    return enter


def plugged(id_: str, what: str, scope: Scope, **expected: Unpack[Expected]) -> None:
    """Enters a fault that is put in while the checks run, by the plugin's break of the same id."""
    _enter(id_, what, scope, None, id_, expected)


def _enter(
    id_: str,
    what: str,
    scope: Scope,
    put_in: Callable[[World], AbstractContextManager[None]] | None,
    plugin: str,
    expected: Expected,
) -> None:
    if id_ in CATALOGUE:
        raise ValueError(f"fault {id_} is in the catalogue already")
    words = expected["words"]
    CATALOGUE[id_] = Fault(
        id_,
        what,
        scope,
        put_in,
        plugin,
        frozenset(expected.get("red", "").split()),
        frozenset(expected.get("open_", "").split()),
        (words,) if isinstance(words, str) else words,
        expected.get("everyday", False),
        expected.get("control", ""),
    )
