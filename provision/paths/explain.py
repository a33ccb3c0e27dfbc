"""Why a packet does not arrive, or arrives where it should not: a few sentences, the first broken step first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from probes.observation import Observation, Outcome
from provision.paths.configuration import Configuration, Traffic
from provision.paths.intention import intended
from provision.paths.measured import Measured, measured
from provision.paths.steps import Hop, Path, State, Step
from provision.paths.walk import walk
from provision.topology import Topology

MOST_SENTENCES = 6
ALSO = 3

Watch = Callable[[Path], Mapping[Hop, bool]]
"""Sends a path's packet once more and says at which hops it was seen; those that cannot be watched are left out."""

ARRIVES, ANSWERED, LOST = "arrives", "is answered by a refusal", "does not arrive"


def fate(outcome: Outcome) -> str:
    """What an outcome says of the packet. Which of several words a lost one gets is the environment's affair."""
    if outcome in (Outcome.REACHABLE, Outcome.NO_ANSWER):
        return ARRIVES
    return ANSWERED if outcome is Outcome.REFUSED else LOST


def address_of(configuration: Configuration, source: str, target: str) -> IPv4Address | None:
    """The address at which a host is asked: from beyond the cloud its floating IP, if it has one; None for no address."""
    outsider = configuration.outsider(target)
    if outsider is not None:
        return outsider.address
    floating = configuration.floating_ip_of(target)
    if floating is not None and configuration.outsider(source) is not None:
        return floating.address
    server = configuration.server(target)
    return next((each for port in server.ports for each in port.addresses), None) if server else None


def explain(
    topology: Topology,
    configuration: Configuration,
    source: str,
    target: str | IPv4Address,
    what: Traffic,
    outcome: Outcome | None = None,
    *,
    others: Iterable[Observation] = (),
    watch: Watch | None = None,
    elsewhere: Sequence[str] = (),
) -> list[str]:
    """Why it is not as the topology intends.

    Args:
        source: a host of the topology, or ``desktop``, ``outside``.
        target: a host's name, or an address.
        outcome: what was measured; None if nothing was.
        others: what else was measured at the time: it may confirm steps.
        watch: sends the packet again and watches it, where the lab allows that.
        elsewhere: differences from the intention (:func:`provision.differences.differences`); those that are not of
            this path are told last.

    Returns:
        Sentences; none where all is as intended.

    Raises:
        ValueError: the target has no address.
    """
    intention = intended(topology, configuration)
    address = (
        target if isinstance(target, IPv4Address) else _address(target, source, configuration, intention)
    )
    path = walk(configuration, intention, source, address, what)
    meant = walk(intention, intention, source, address, what)
    by_intention = walk(intention, intention, source, address, what, mend=True)
    wrong = _wrong(path, by_intention)
    lines = [_sentence(step) for step in wrong]
    if not path.arrives and not _astray(path):
        mended = walk(configuration, intention, source, address, what, mend=True)
        more = [step for step in _wrong(mended, by_intention) if step not in wrong]
        lines += [f"also: {_sentence(step)}" for step in more[:ALSO]]
    if outcome is not None and outcome is not Outcome.NOT_MADE and fate(outcome) != fate(path.outcome):
        lines = _against(path, outcome, lines, measured(others), watch)
    elif not lines and outcome is not None and not path.arrives and fate(outcome) == fate(path.outcome):
        lines = [f"as intended it {fate(path.outcome)}: {_sentence(path.steps[-1])}"]
    if not lines:
        return []
    lines = lines[:MOST_SENTENCES]
    lines.append(_summary(path, meant, outcome))
    return lines + [f"elsewhere: {each}" for each in _apart(elsewhere, lines)]


def _address(target: str, source: str, configuration: Configuration, intention: Configuration) -> IPv4Address:
    try:
        return IPv4Address(target)
    except ValueError:
        pass
    address = address_of(intention, source, target) or address_of(configuration, source, target)
    if address is None:
        raise ValueError(
            f"{target} has no address that {source} could ask: it is neither a host nor an address"
        )
    return address


def _wrong(path: Path, meant: Path) -> list[Step]:
    """The steps of a path that do not hold; not those that do not hold by intention. Mere states come last."""
    shut = {(step.way, step.kind, step.text) for step in meant.broken}
    broken = [step for step in path.broken if (step.way, step.kind, step.text) not in shut]
    return sorted(broken, key=lambda step: step.kind == "status")


def _astray(path: Path) -> bool:
    """Whether the packet went another way than intended, so that what it met there is only a consequence."""
    return any(step.kind == "floating IP" and step.state is State.UNLIKE for step in path.steps)


def _sentence(step: Step) -> str:
    lost = step.way == "back" and step.ends is None and step.kind != "status"
    return f"the reply finds no way: {step.text}" if lost else step.text


def _against(
    path: Path, outcome: Outcome, lines: list[str], seen: Measured, watch: Watch | None
) -> list[str]:
    """Configuration says one thing and the measurement another."""
    if fate(path.outcome) == ARRIVES:
        told = [f"as configured it should arrive, and it was {outcome}"]
        told += [f"not as intended on its way, though it should not stop there: {each}" for each in lines]
        told += _unseen(path)
    else:
        stop = next((step for step in reversed(path.steps) if step.ends), path.steps[-1])
        told = [f"as configured it {fate(path.outcome)} ({stop.text}), and yet it was {outcome}"]
        told += [each for each in lines if each != stop.text]
    told[0] = "; ".join([told[0], *_how_far(path, watch)])
    return told + _confirmed(path, seen)


def _unseen(path: Path) -> list[str]:
    return list(
        dict.fromkeys(step.text for step in path.steps if step.kind == "guest" and step.state is State.UNSEEN)
    )


def _how_far(path: Path, watch: Watch | None) -> list[str]:
    """Between which hops it is lost, where somebody watched them."""
    if watch is None:
        return []
    watched = watch(path)
    looked = [(hop, watched[hop]) for hop in path.hops if hop in watched]
    lost = next((at for at, (_, seen) in enumerate(looked) if not seen), None)
    passed = [hop for hop, seen in looked[:lost] if seen]
    ways = {"there": "it", "back": "its reply"}
    if not passed:
        return [] if lost is None else [f"it was not seen at {looked[lost][0]}"]
    text = f"{ways[passed[-1].way]} was seen at {passed[-1]}"
    if lost is not None:
        hop = looked[lost][0]
        text += f" and {'' if hop.way == passed[-1].way else ways[hop.way] + ' '}not at {hop}"
    return [text]


def _confirmed(path: Path, seen: Measured) -> list[str]:
    """What other measurements show of the steps."""
    told = []
    if others := seen.reached_by(path.target, path.traffic, path.source):
        told.append(
            f"{' and '.join(others[:3])} reached {path.target} ({path.traffic}), so the target itself is as it should be"
        )
    elif others := seen.reached_by(path.target, None, path.source):
        told.append(f"{' and '.join(others[:3])} reached {path.target} otherwise, so the target is up")
    if targets := seen.reached_from(path.source, path.target):
        told.append(
            f"{path.source} reached {' and '.join(map(str, targets[:3]))}, so its own network is there"
        )
    return told


def _summary(path: Path, meant: Path, outcome: Outcome | None) -> str:
    text = f"{path.source} -> {path.target} {path.traffic}: as configured {path.outcome}, intended {meant.outcome}"
    return f"{text}, measured {outcome}" if outcome is not None else text


def _apart(differences: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The differences that speak of nothing that has been named already."""
    named = " ".join(lines)
    told = []
    for each in differences:
        words = each.split()
        kind = 2 if words[:2] == ["security", "group"] else 1
        if len(words) > kind and words[kind] not in named:
            told.append(each)
    return told[:ALSO]
