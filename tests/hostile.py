"""What a student's machine may print, and a page as a browser comes to see it."""

from __future__ import annotations

import html.parser

MARKUP = "</pre></script><script>alert(1)</script><img src=http://evil.invalid/x onerror=alert(2)>"
ANSI = "\x1b[31mred\x1b]0;title\x07\x1b]8;;http://evil.invalid\x07\x00\u202e\udc80"
FORMULA = '=HYPERLINK("http://evil.invalid";"prize")'
ATTRIBUTE = "\" onmouseover='alert(3)' autofocus x=\""
HUGE = "A" * 10_000_000 + "the end"
EVIL = f"{FORMULA} {ANSI} {MARKUP} {ATTRIBUTE} ]]> {{{{7*7}}}} ${{x}}"


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
