"""Foreign text made harmless: what a lab's machines print may hold anything."""

from __future__ import annotations

import re

# ECMA-48: CSI sequences, OSC and other strings up to their terminator, two-byte escapes.
_ANSI = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x9b[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_](?:[^\x07\x1b]|\x1b(?!\\)){0,1024}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]?"
)
_CONTROL = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def cut(text: str, limit: int) -> str:
    """``text`` with its middle left out, and said so, when it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    head, tail = limit * 3 // 4, limit // 4
    left_out = len(text) - head - tail
    return f"{text[:head]}\n[... {left_out} characters left out ...]\n{text[len(text) - tail :]}"


def plain(text: str, limit: int = 16_384) -> str:
    """Readable text alone: no terminal sequences, control characters as their pictures, cut to size.

    Direction overrides go too: they make a line read as another than it is (Unicode TR 36, 3.1).
    """
    text = cut(text, 2 * limit) if len(text) > 2 * limit else text
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return cut(_CONTROL.sub(_picture, text), limit)


def one_line(text: str, limit: int = 300) -> str:
    """The first line that says something, without its padding, cut at the end."""
    lines = (line.strip() for line in plain(text, 4 * limit).splitlines())
    first = next((line for line in lines if line), "")
    return first if len(first) <= limit else first[: limit - 1] + "…"


def _picture(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else "�"
