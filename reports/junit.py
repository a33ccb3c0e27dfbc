"""Completes pytest's JUnit XML: why a check errored, which pytest words as a failure of its set-up."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from io import BytesIO
from pathlib import Path

from reports.runfile import Verdict, write_whole


def tell_apart(path: Path) -> None:
    """Gives the errors of checks their type, ``unproven`` or ``left behind``, and their one-line reason.

    Failures and errors stay as pytest counted them; a file that pytest did not write is left alone.
    """
    try:
        tree = ET.parse(path)  # noqa: S314 - written by pytest a moment ago
    except (OSError, ET.ParseError):
        return
    for case in tree.iter("testcase"):
        properties = {
            each.get("name"): each.get("value", "") for each in case.iterfind("properties/property")
        }
        verdict = properties.get("verdict")
        if verdict is None:
            continue
        for error in case.iterfind("error"):
            if error.get("message", "").startswith("failed on teardown"):
                error.set("type", "left behind")
            elif verdict == Verdict.UNPROVEN:
                error.set("type", "unproven")
                error.set("message", properties.get("reason", ""))
        for failure in case.iterfind("failure"):
            failure.set("type", "fail")
            failure.set("message", properties.get("reason", ""))
    content = BytesIO()
    tree.write(content, encoding="utf-8", xml_declaration=True)
    write_whole(path, content.getvalue())
