"""``lab sweep``: shows what runs have left, and removes it where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from provision import journal as journals
from provision.cloud import CloudError
from provision.failures import FailureError
from provision.journal import Record
from provision.sweeper import Sweeper, Swept, Thing, show


def sweep(sweeper: Sweeper, *, remove: bool, adopt: Sequence[str] = ()) -> int:
    """Prints what there is, or what was removed and what could not be.

    Args:
        remove: remove what stands in the journals of runs that have ended.
        adopt: runs whose things go although they stand in no journal here.

    Returns:
        The exit status: 1 if something is left of what was to go, or could not be looked at.
    """
    ended = sweeper.ended()
    _tell_of_runs(sweeper, ended)
    if not (remove or adopt):
        return _show(sweeper, ended)
    status = 0
    for record in ended if remove else ():
        status |= _told(sweeper.remove(record))
    for run in adopt:
        try:
            status |= _told(sweeper.adopt(run))
        except LookupError as error:
            print(f"run {run}: {error.args[0]}")
            status = 1
        except CloudError as error:
            print(f"run {run}: {error}")
            status = 1
    if remove and not ended:
        print("no run has left anything")
    return status


def _tell_of_runs(sweeper: Sweeper, ended: Iterable[Record]) -> None:
    dead = {record.path for record in ended}
    for record in journals.read_all(damaged=print):
        if record.path in dead:
            state = "has ended"
        elif record.alive:
            state = "still runs"
        elif record.lab == sweeper.lab.name:
            state = "was told to leave its things standing: a run without --keep, or `destroy`, removes them"
        else:
            state = "has ended"
        count = len(record.left) + len(record.kept)
        print(f"run {record.run} on {record.lab} {state}; its journal has {count} things")


def _show(sweeper: Sweeper, ended: Sequence[Record]) -> int:
    status = 0
    found = False
    for record in ended:
        try:
            there = sweeper.look(record)
        except FailureError as error:
            print(f"run {record.run}: cannot be looked at: {error}")
            status = 1
            continue
        found = True
        _list(f"run {record.run}: would be removed", there)
    try:
        orphans = sweeper.orphans()
    except CloudError as error:
        print(f"things without a journal: cannot be looked at: {error}")
        return 1
    show(sweeper.lab, orphans)
    for run, things in orphans.items():
        _list(f"run {run} has no journal here (a colleague's?); --adopt {run} would remove", things)
    if found:
        print("nothing was removed; --remove does")
    elif not ended:
        print("no run has left anything" if not orphans else "nothing was removed")
    return status


def _list(title: str, things: Sequence[Thing]) -> None:
    print(f"{title}: {'nothing is there any more' if not things else ''}".rstrip())
    for thing in things:
        print(f"  {thing}")


def _told(swept: Swept) -> int:
    for each in swept.removed:
        print(f"run {swept.run}: removed {each}")
    for each in swept.left:
        print(f"left behind: {each}")
    if not swept.left:
        print(f"run {swept.run}: all of it is removed")
    return 1 if swept.left else 0
