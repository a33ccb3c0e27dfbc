"""What a student's machine may print, a run of it, and a page as a browser comes to see it."""

from __future__ import annotations

import html.parser
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from probes.observation import Observation, Outcome
from reports.claims import load
from reports.runfile import Check, RunFile, Verdict, new_run_id

MARKUP = "</pre></script><script>alert(1)</script><img src=http://evil.invalid/x onerror=alert(2)>"
ANSI = "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.invalid\x07\x00\u202e\udc80"
FORMULA = '=HYPERLINK("http://evil.invalid";"prize")'
ATTRIBUTE = "\" onmouseover='alert(3)' autofocus x=\""
HUGE = "A" * 10_000_000 + "the end"
EVIL = f"{FORMULA} {ANSI} {MARKUP} {ATTRIBUTE} ]]> {{{{7*7}}}} ${{x}}"


def evil_run(folder: Path, group: str = "evil") -> Path:
    """A run whose every text is hostile, recorded as any other."""
    run = RunFile(new_run_id(), load(), lab=EVIL)
    checks = []
    for number, verdict in enumerate(Verdict):
        look = Observation(EVIL, EVIL, EVIL, EVIL, Outcome.REACHABLE, EVIL + HUGE, {}, 5.0, 0.1)
        checks.append(
            Check(
                f"suites/t.py::test_{number}[{EVIL}]", (("OS-05", "OS-06", "TOP-05", "CT-01")[number],),
                title=EVIL, verdict=verdict, reason=EVIL, diagnosis=[EVIL, HUGE], observations=[look],
                traceback=EVIL + HUGE, left_behind=EVIL, started=4.0,
            )
        )  # fmt: skip
    run.planned = {each.id: each.claims for each in checks}
    run.facts = {EVIL: EVIL}
    run.timings = [{"step": EVIL, "seconds": 1.0}]
    run.drawings = [
        {"title": EVIL, "svg": "<svg xmlns='http://www.w3.org/2000/svg' class='lp-topology' onload='alert(1)'>"
         "<style>body{display:none}</style><a href='http://evil.invalid'><text>x</text></a>"
         "<g id='lp-objectives' style='position:fixed'><title>vm</title><rect class='lp-box'/></g></svg>"}
    ]  # fmt: skip
    run.open(folder / group / "runs")
    for each in checks:
        run.record(each)
    run.exit_status = 1
    run.write()
    assert run.path is not None
    return run.path


class Page(html.parser.HTMLParser):
    """The elements and attributes of a page, and what of them can run or load anything."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.scripts = 0
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(f"{tag} {name}")
            if name == "id":
                self.ids.append(value or "")
            if name == "href" and tag == "a":
                self.links.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action") and value:
                self.loads.append(value)
        if tag in ("iframe", "object", "embed", "base", "link"):
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def harmless(self, scripts: int = 1) -> bool:
        """Only the project's own script, nothing loaded, every link within the class's own pages."""
        outside = [each for each in self.links if not each.startswith(("#", "groups/"))]
        controls = [each for each in self.page if ord(each) < 32 and each not in "\n\t"]
        return self.scripts == scripts and not (self.loads or self.handlers or outside or controls)


if __name__ == "__main__":
    evil_run(Path(sys.argv[1]), "hostile")
