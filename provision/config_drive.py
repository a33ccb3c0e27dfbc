"""A config drive: what a guest is told at its first boot, on a medium instead of by a metadata service.

The format is OpenStack's (nova, "Config drives": label ``config-2``, ``openstack/latest/meta_data.json``),
which cloud-init and the embedded lab's own guests read.
"""

from __future__ import annotations

import io
import json
import uuid
from pathlib import Path

import pycdlib

ISO_LEVEL = 3


def write_config_drive(file: Path, *, name: str, public_key: str, user_data: str = "") -> None:
    """Writes the drive as an ISO 9660 image with Rock Ridge names.

    Args:
        file: written anew.
        name: the guest's host name.
        public_key: OpenSSH public key that its login user accepts.
        user_data: a script run once at the first boot (``#!`` first), or cloud-init's own; empty for none.
    """
    meta = {
        "uuid": str(uuid.uuid4()),
        "hostname": name,
        "name": name,
        "public_keys": {"labproof": public_key},
    }
    image = pycdlib.PyCdlib()
    image.new(interchange_level=ISO_LEVEL, rock_ridge="1.09", vol_ident="config-2")
    try:
        image.add_directory("/OPENSTACK", rr_name="openstack")
        image.add_directory("/OPENSTACK/LATEST", rr_name="latest")
        contents = {"META_DATA.JSON": json.dumps(meta), "USER_DATA": user_data}
        for iso_name, text in contents.items():
            data = text.encode()
            if data:
                image.add_fp(
                    io.BytesIO(data), len(data), f"/OPENSTACK/LATEST/{iso_name};1", rr_name=iso_name.lower()
                )
        with file.open("wb") as target:
            image.write_fp(target)
    finally:
        image.close()
