"""Title and icon of an HTML page, parsed from its first bytes. The work is bounded; see `html_tags`."""

from __future__ import annotations

import re
from html import unescape

from .html_tags import HtmlTags

MAX_BYTES = 64 << 10
MAX_STEPS = 2000  # tags and attributes; about 2 ms
_MAX_TITLE = 200  # characters
_MAX_ICON = 500
_MAX_RAW = 1000  # characters of a raw value that are decoded: `unescape` is slow for many `&`
_CLIMBS = re.compile(r"(?:^|[/\\])(?:\.|%2e){2}(?:[/\\?#]|$)", re.IGNORECASE)


def parse_page_head(content: bytes) -> tuple[str, str]:
    """Title and icon (the URL in the page) of an HTML page; each is empty if the page has none."""
    title = icon = ""
    for tag in HtmlTags(content[:MAX_BYTES].decode("utf-8", "replace"), MAX_STEPS, _MAX_RAW):
        if tag.name == "link" and not icon and "icon" in tag.attributes.get("rel", "").lower().split():
            icon = tag.attributes.get("href", "")
        elif tag.name == "title" and not title:
            title = tag.content
        if title and icon:
            break
    return clean_title(title), unescape(icon[:_MAX_RAW]).strip()


def clean_title(raw: str) -> str:
    """The text of a `<title>` on one line, without what cannot be printed."""
    return "".join(c for c in " ".join(unescape(raw[:_MAX_RAW]).split()) if c.isprintable())[:_MAX_TITLE]


def build_icon_url(icon: str, prefix: str) -> str:
    """The icon as a URL below `prefix`; empty for a data URL, and for one of another host or above the prefix."""
    if not icon or "\\" in icon or not icon.isprintable() or icon.startswith("//") or ":" in icon.partition("/")[0]:
        return ""
    if _CLIMBS.search(icon):
        return ""
    return f"{prefix}/{icon.removeprefix('./').lstrip('/')}"[:_MAX_ICON]
