"""Secrets left out of all that is written and shown: those that a run knows, and what looks like one."""

from __future__ import annotations

import base64
import html
import json
import re
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

REDACTED = "▓▓▓▓▓▓"
LEAST = 6  # characters: what is shorter would be found in ordinary words

SECRET_KEY = re.compile(r"passw|passphrase|secret|token|credential|private|api_?key|auth_?key|cookie", re.I)
_VALUE = r"[^\s\"'<>&,;}]+"
_LOOKS_LIKE = re.compile(
    r"(?P<url>://[^/\s:@]*:)[^/\s@]+(?=@)"  # a password inside an URL
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\bgAAAA[\w-]{40,}={0,2}"  # a keystone (Fernet) token
    rf"|(?P<header>\b(?i:X-(?:Auth|Subject|Service)-Token|(?:Set-)?Cookie|Authorization)[\"']?\s*[:=]\s*"
    rf"[\"']?(?i:(?:Basic|Bearer)\s+)?){_VALUE}"
    rf"|(?P<variable>(?i:password|passwd|passphrase|secret|token)=[\"']?){_VALUE}"
    r"|(?P<json>(?i:password|passwd|passphrase|adminPass|secret)[\"']\s*:\s*[\"'])[^\"']+"
)


def forms(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, in URLs, JSON, HTML, hexadecimal, base64 alone or among other bytes."""
    data = secret.encode("utf-8", "surrogatepass")
    found = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found |= {html.escape(secret), html.escape(secret, quote=False), data.hex(), data.hex().upper()}
    found |= {quote(data, safe=""), quote(data), quote_plus(data), secret.replace("'", "'\"'\"'")}
    for lead in range(3):
        # the characters of base64 that the bytes before and behind have a share in are left out
        skip, whole = (0, 2, 3)[lead], (lead + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(lead) + data).decode()[skip:whole])
    return {form for form in found if len(form) >= LEAST}


class Secrets:
    """The secrets of a run, as they become known. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def add(self, *secrets: str | None) -> None:
        """What must not be told; what is too short to be found for certain is passed over."""
        new = {form for secret in secrets if secret and len(secret) >= LEAST for form in forms(secret)}
        with self._lock:
            if new <= self._forms:
                return
            self._forms |= new
            # the longest first: one may be a part of another
            ordered = sorted(self._forms, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, ordered)))

    def add_key(self, file: Path) -> None:
        """A private key's file; one that cannot be read has nothing that could be told."""
        try:
            self.add(*key_lines(file.read_text(encoding="ascii")))
        except (OSError, UnicodeDecodeError):
            return

    def clean(self, text: str) -> str:
        """The text without them, nor what looks like a secret of somebody else's."""
        if self._pattern is not None:
            text = self._pattern.sub(REDACTED, text)
        return _LOOKS_LIKE.sub(_without, text)


def key_lines(text: str) -> Iterator[str]:
    """The lines of a private key that are its own: the first one of OpenSSH's format says the format alone."""
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    return (line for line in lines if len(line) > 20 and not line.startswith(("-----", "b3BlbnNzaC1rZXkt")))


def _without(match: re.Match[str]) -> str:
    lead = next((value for value in match.groupdict().values() if value), "")
    return match[0] if REDACTED in match[0] and not lead.startswith("://") else f"{lead}{REDACTED}"


known = Secrets()
"""Those of this process's run."""
