"""JUnit XML: pytest's, completed with why a check errored, and that of a class of groups."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from reports.claims import Claim
from reports.runfile import Verdict, write_whole
from reports.text import one_line

if TYPE_CHECKING:
    from reports.classroom import Member


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


def of_class(members: Sequence[Member], claims: Mapping[str, Claim]) -> bytes:
    """JUnit XML of a class: a suite per group, a case per claim; unproven is an error, not run is skipped."""
    root = ET.Element("testsuites", name="Labproof")
    for member in members:
        suite = ET.SubElement(root, "testsuite", name=_text(member.name))
        counts = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
        for claim_id, verdict in member.verdicts.items():
            claim = claims.get(claim_id)
            name = f"{claim_id} {claim.text}" if claim else claim_id
            case = ET.SubElement(suite, "testcase", classname=_text(member.slug), name=_text(name))
            counts["tests"] += 1
            kind = {Verdict.FAIL: "failure", Verdict.UNPROVEN: "error", Verdict.PASS: ""}.get(
                Verdict(verdict) if verdict else Verdict.SKIP, "skipped"
            )
            if kind:
                said = _text(member.reasons.get(claim_id, "") or (verdict or "not run"))
                ET.SubElement(case, kind, message=said, type=str(verdict or "not run"))
                counts[kind + "s" if kind != "skipped" else kind] += 1
        if member.problem:
            case = ET.SubElement(suite, "testcase", classname=_text(member.slug), name="run")
            ET.SubElement(case, "error", message=_text(member.problem), type="no run")
            counts["tests"] += 1
            counts["errors"] += 1
        for name, count in counts.items():
            suite.set(name, str(count))
    ET.indent(root)
    content = BytesIO()
    ET.ElementTree(root).write(content, encoding="utf-8", xml_declaration=True)
    return content.getvalue()


def _text(words: str) -> str:
    return one_line(words, 500)
