"""The SSH host keys that a machine says are its own, on its console, which nobody between it and us can write to.

cloud-init prints them there at each boot (module keys-to-console), and so does the embedded lab's guest.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

from probes.shell import HostError

BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
# An SSH server may answer before the last of a boot, which prints the keys, has run.
PATIENCE = 30.0
EVERY = 1.0
_KEY = re.compile(r"((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[\w@.-]+) ([A-Za-z0-9+/]{40,}={0,2})(?![A-Za-z0-9+/=])")


def printed(console: str) -> tuple[str, ...]:
    """The keys of the newest whole block on a console, ``ssh-ed25519 AAAA...`` each."""
    _, begun, rest = console.rpartition(END)[0].rpartition(BEGIN)
    return tuple(f"{kind} {text}" for kind, text in _KEY.findall(rest)) if begun else ()


class ConsoleKeys:
    """Tells a machine's host keys by its console, for :class:`probes.ssh.SshHost`.

    Args:
        console: what is on it; empty where there is none.
        patience: seconds, from the first question, in which a console without them is looked at again.
    """

    def __init__(self, console: Callable[[], str], patience: float = PATIENCE) -> None:
        self._console = console
        self._patience = patience
        self._lock = threading.Lock()
        self._asked = 0.0
        self._looked = 0.0

    def __call__(self) -> tuple[str, ...]:
        """The keys; none where the machine has no console, or does not print them.

        Raises:
            HostError: not printed yet.
        """
        with self._lock:
            now = time.monotonic()
            self._asked = self._asked or now
            if self._looked and now - self._looked < EVERY:
                raise HostError("its console does not tell its host key yet")
            text = self._console()
            self._looked = time.monotonic()
            keys = printed(text)
            if not keys and text.strip() and now - self._asked < self._patience:
                raise HostError("its console does not tell its host key yet")
            return keys
