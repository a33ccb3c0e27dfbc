"""Commands that end with the process that started them, however that ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

# who was killed before the kernel had been told would else be outlived: then its parent is another already
STILL_THERE = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'


def tied(argv: Sequence[str]) -> list[str]:
    """The command with a prefix that has the kernel kill it when this thread's process ends (prctl(2), PR_SET_PDEATHSIG).

    Where ``setpriv`` is not there, the command as it is.
    """
    if shutil.which("setpriv") is None:
        return list(argv)
    return ["setpriv", "--pdeathsig=KILL", "--", "sh", "-c", STILL_THERE, str(os.getpid()), *argv]
