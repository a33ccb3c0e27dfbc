"""What all pages are made of: escaped text, verdicts, two languages, one document without a load from elsewhere.

A page carries both languages; the reader's browser shows one of them (``html[lang]``), and switches by itself.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import quote

from reports.claims import CLAIMS_FILE, load
from reports.rubric import show
from reports.runfile import Verdict
from reports.text import plain

LANGUAGES = ("en", "fr")

SIGNS: Mapping[str, str] = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.UNPROVEN: "?",
    Verdict.SKIP: "–",
    "not run": "…",
}
_WORDS: Mapping[str, tuple[str, str]] = {
    Verdict.PASS: ("pass", "réussi"),
    Verdict.FAIL: ("fail", "échoué"),
    Verdict.UNPROVEN: ("unproven", "non prouvé"),
    Verdict.SKIP: ("skip", "ignoré"),
    "not run": ("not run", "pas exécuté"),
}
_OBJECTIVES = {
    "VM against container": "VM contre conteneur",
    "NAT VM": "VM en mode NAT",
    "OpenStack, one VM": "OpenStack, une VM",
    "Management operations": "Opérations de gestion",
    "Client and API": "Client et API",
    "Calculator": "Calculatrice",
    "Two networks": "Deux réseaux",
}


def text(value: object, limit: int = 2_000) -> str:
    """Foreign text made plain, cut to size and escaped."""
    return escape(plain(str(value), limit))


def both(en: str, fr: str) -> str:
    """Two wordings of the same, of which the page shows one; both are HTML already."""
    if en == fr:
        return en
    return f'<span class="en" lang="en">{en}</span><span class="fr" lang="fr">{fr}</span>'


def verdict_word(verdict: str | None) -> str:
    en, fr = _WORDS.get(verdict or "not run", (text(verdict, 20),) * 2)
    return both(en, fr)


def badge(verdict: str | None) -> str:
    """A verdict as sign, word and colour, each by itself enough."""
    kind = verdict if verdict in list(Verdict) else "skip"
    sign = SIGNS.get(verdict or "not run", "")
    return f'<span class="lp-badge lp-{kind}"><span aria-hidden="true">{sign}</span> {verdict_word(verdict)}</span>'


def seconds(value: float) -> str:
    if value < 100:
        return f"{value:.1f} s"
    if value < 6_000:
        return f"{int(value) // 60} min {int(value) % 60:02d} s"
    return f"{int(value) // 3600} h {int(value) // 60 % 60:02d} min"


def number(value: Fraction) -> str:
    """Points or a grade, with the decimal sign of each language."""
    return both(show(value), show(value).replace(".", ","))


def moment(started: str) -> str:
    """A run's start as people write it, in both languages."""
    try:
        when = datetime.fromisoformat(started)
    except ValueError:
        return text(started, 40)
    return both(f"{when:%d %B %Y, %H:%M}", f"{when:%d/%m/%Y %H:%M}")


def objective_name(name: str) -> str:
    return both(text(name, 200), text(_OBJECTIVES.get(name, name), 200))


def claim_words(claim_id: str, words: str) -> str:
    """A claim as its run words it, and in French where that is the wording it was translated from."""
    claim = load().get(claim_id)
    french = _french().get(claim_id)
    if claim is None or french is None or claim.text != words:
        return text(words)
    return both(text(words), text(french))


@cache
def _french() -> Mapping[str, str]:
    path = CLAIMS_FILE.with_name("claims.fr.toml")
    try:
        return {str(k): str(v) for k, v in tomllib.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def anchor(name: str) -> str:
    """An id for an element, and what leads to it behind ``#``; any text gives one."""
    return escape(quote(plain(name, 300), safe=""))


@cache
def style() -> str:
    return f"<style>{_resource('report.css')}</style>"


@cache
def script() -> str:
    return f"<script>{_resource('report.js')}</script>"


def _resource(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _policy() -> str:
    """Lets the page's own script run and no other, whatever a lab's machines have printed into it."""
    digest = base64.b64encode(hashlib.sha256(_resource("report.js").encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def document(title: str, body: str, *, lang: str = "", broad: bool = False) -> str:
    """A whole page; ``title`` is plain text, ``body`` is HTML.

    Args:
        lang: the language it opens in, unless its reader has chosen another; without it the browser's.
        broad: whether it takes all of the window's width.
    """
    opens = f' data-lang="{lang}"' if lang in LANGUAGES else ""
    return (
        f'<!DOCTYPE html>\n<html lang="{lang or "en"}"{opens}><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{text(title, 200)}</title>{style()}{script()}</head>"
        f"<body{' class=lp-broad' if broad else ''}>\n{body}\n</body></html>\n"
    )


def tools() -> str:
    """The page's own switches; they appear where scripts run."""
    other = both('<span lang="fr">Français</span>', '<span lang="en">English</span>')
    return (
        f'<div class="lp-tools" hidden><button type="button" data-do="lang">{other}</button>'
        f'<button type="button" data-do="theme">{both("Light / dark", "Clair / sombre")}</button>'
        f'<button type="button" data-do="print">{both("Print", "Imprimer")}</button></div>'
    )
