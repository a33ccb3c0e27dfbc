"""The box's own passwords, made when its seed is made and kept in a file that only root reads."""

from __future__ import annotations

import json
from pathlib import Path

SECRETS = Path("/box/secrets.json")


def secrets() -> dict[str, str]:
    """The passwords by name: DATABASE_PASSWORD, SERVICE_PASSWORD, ADMIN_PASSWORD, STUDENT_PASSWORD, ..."""
    values: dict[str, str] = json.loads(SECRETS.read_text())
    return values
