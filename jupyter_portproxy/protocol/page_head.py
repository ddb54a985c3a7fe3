"""Title and icon of an HTML page, parsed from its first bytes.

No input raises, and the work is bounded: at most `MAX_BYTES` are parsed, in at most `MAX_STEPS` steps, each of which consumes
what it reads. The grammar is the tokenizer of the HTML Living Standard, 13.2.5, without what does not occur in a head.
"""

from __future__ import annotations

import re
from html import unescape

MAX_BYTES = 64 << 10
MAX_STEPS = 2000  # tags and attributes; about 2 ms
_MAX_TITLE = 200  # characters
_MAX_ICON = 500
_MAX_RAW = 1000  # characters of a raw value that are decoded: `unescape` is slow for many `&`
# Alternatives begin with different characters, and nothing repeats within a repetition: no backtracking but one step.
_MARKUP = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[a-z][^\t\n\f\r />]*", re.IGNORECASE | re.ASCII)
_ATTRIBUTE = re.compile(r"""[\t\n\f\r /]*([^\t\n\f\r />=][^\t\n\f\r />=]*|=)?""")
_VALUE = re.compile(r"""[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|(?!["'])([^\t\n\f\r >]*))""")
_OPAQUE = frozenset({"script", "style", "textarea", "noscript", "template", "iframe", "noembed", "noframes", "xmp"})
_CLIMBS = re.compile(r"(?:^|[/\\])(?:\.|%2e){2}(?:[/\\?#]|$)", re.IGNORECASE)


def parse_page_head(content: bytes) -> tuple[str, str]:
    """Title and icon (the URL in the page) of an HTML page; each is empty if the page has none."""
    reader = _Reader(content[:MAX_BYTES].decode("utf-8", "replace"))
    reader.run()
    title = "".join(c for c in " ".join(unescape(reader.title[:_MAX_RAW]).split()) if c.isprintable())
    return title[:_MAX_TITLE], unescape(reader.icon[:_MAX_RAW]).strip()


def build_icon_url(icon: str, prefix: str) -> str:
    """The icon as a URL below `prefix`; empty for a data URL, and for one of another host or above the prefix."""
    if not icon or "\\" in icon or not icon.isprintable() or icon.startswith("//") or ":" in icon.partition("/")[0]:
        return ""
    if _CLIMBS.search(icon):
        return ""
    return f"{prefix}/{icon.removeprefix('./').lstrip('/')}"[:_MAX_ICON]


class _Reader:
    """A cursor in the markup; `_at` only grows."""

    def __init__(self, text: str) -> None:
        self.title = self.icon = ""
        self._text, self._at, self._steps = text, 0, MAX_STEPS

    def run(self) -> None:
        while self._steps > 0 and not (self.title and self.icon):
            self._steps -= 1
            markup = _MARKUP.search(self._text, self._at)
            if markup is None:
                return
            self._at = markup.end()
            name = _NAME.match(self._text, self._at)
            if name is not None:
                self._at = name.end()
                self._element(name[0].lower())
            elif self._text.startswith("!--", self._at):
                self._skip("-->")
            else:
                self._skip(">")

    def _element(self, name: str) -> None:
        attributes = self._attributes()
        if name == "link" and not self.icon and "icon" in attributes.get("rel", "").lower().split():
            self.icon = attributes.get("href", "")
        elif name == "title" or name in _OPAQUE:
            begin = self._at
            end = re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE).search(self._text, begin)
            self._at = end.start() if end is not None else len(self._text)
            if name == "title" and not self.title:
                self.title = self._text[begin : min(self._at, begin + _MAX_RAW)]

    def _attributes(self) -> dict[str, str]:
        """The attributes of a start tag. A tag without `>` ends with the text, and has none."""
        attributes: dict[str, str] = {}
        while self._steps > 0:
            self._steps -= 1
            name = _ATTRIBUTE.match(self._text, self._at)
            assert name is not None  # it matches the empty text
            self._at = name.end()
            if name[1] is None:
                break
            value = _VALUE.match(self._text, self._at)
            if value is not None:
                self._at = value.end()
            attributes.setdefault(name[1].lower(), next(filter(None, value.groups()), "") if value is not None else "")
        if not self._text.startswith(">", self._at):
            self._at = len(self._text)
            return {}
        self._at += 1
        return attributes

    def _skip(self, end: str) -> None:
        at = self._text.find(end, self._at)
        self._at = at + len(end) if at >= 0 else len(self._text)
