"""What a host says of itself becomes no command there."""

from __future__ import annotations

from typing import cast

from probes.host import CommandResult, Host
from provision.calculator.remote import Remote


class Talking:
    """A host that answers everything with the same words."""

    name = "vm"

    def __init__(self, words: str) -> None:
        self.words = words

    def run(self, command: str, *_: object, timeout: float = 10.0) -> CommandResult:
        return CommandResult(command, 0, self.words, "", 0.1, b"", b"")


def test_names_that_no_service_has_are_passed_over() -> None:
    hostile = "$(touch harm)\n; reboot;\n../../etc\n-rf\n`id`\na b\n.part\nsum\nold-div\n\n'\n"
    seen, deployed = Remote(cast(Host, Talking(hostile))).survey([])
    assert deployed == ["sum", "old-div"]
    assert seen == {}
