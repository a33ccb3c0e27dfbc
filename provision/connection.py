"""A lab's cloud for a process of its own; on the embedded lab the process goes to the desktop for it."""

from __future__ import annotations

import os

from provision.box import runtime
from provision.box.namespaces import BoxError, enter_desktop
from provision.cloud import Cloud
from provision.lab import Lab


def cloud_of(lab: Lab) -> Cloud:
    """Logs in to a lab's cloud.

    Raises:
        BoxError: it is the embedded lab's, which is not up.
        CloudError: as :meth:`Cloud.connect`.
    """
    if lab.driver == "box":
        box = runtime.running()
        if box is None:
            raise BoxError("the box is down: `python -m provision lab up` starts it")
        enter_desktop(box.holder)
        os.environ["OS_CLIENT_CONFIG_FILE"] = str(box.clouds_yaml)
    return Cloud.connect(lab)
