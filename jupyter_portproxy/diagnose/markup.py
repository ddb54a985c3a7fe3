"""What an HTML page, a script or a style sheet loads and names, with lines. Pure; no input raises, and the work is bounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import unescape

from ..protocol.html_tags import HtmlTags, StartTag
from ..protocol.page_head import clean_title
from .excerpts import MAX_EXCERPT, make_excerpt
from .observation import Document, Evidence, MetaTag, Reference, VisitKind
from .script_urls import Found, find_script_urls, find_style_urls

MAX_REFERENCES = 400  # of one document
_MAX_STEPS = 200_000  # tags and attributes
_MAX_METAS = 50
_MAX_URL = 2000  # characters
_MAX_HANDLER = 4000  # characters of an event handler
_SCRIPT_TYPES = frozenset({"", "module", "text/javascript", "application/javascript", "text/babel"})
_MAPPED = re.compile(r"""["\']\s*:\s*["\']((?:\.{0,2}/|https?:)[^"\']{0,2000})""")  # a URL of an import map
_SHOWS_SOURCE = frozenset({"pre", "code", "samp", "kbd"})  # links in these are examples
_NEVER_LOADED = ("data:", "javascript:", "blob:", "about:", "mailto:", "tel:", "#")
# htmx: what an attribute of any element requests.
_BY_HTMX: dict[str, VisitKind] = {
    "hx-get": "fetch", "hx-post": "fetch", "hx-put": "fetch", "hx-patch": "fetch", "hx-delete": "fetch", "sse-connect": "fetch",
    "ws-connect": "socket",
}  # fmt: skip
_BY_REL: dict[str, VisitKind] = {
    "stylesheet": "style", "icon": "image", "apple-touch-icon": "image", "manifest": "manifest", "modulepreload": "script",
}  # fmt: skip
_BY_AS: dict[str, VisitKind] = {"script": "script", "style": "style", "image": "image", "font": "font"}
_BY_ATTRIBUTE: dict[tuple[str, str], VisitKind] = {
    ("script", "src"): "script", ("img", "src"): "image", ("img", "data-src"): "image",
    ("iframe", "src"): "frame", ("frame", "src"): "frame",
    ("embed", "src"): "frame", ("object", "data"): "frame", ("video", "poster"): "image", ("input", "src"): "image",
    ("source", "src"): "image", ("audio", "src"): "image", ("video", "src"): "image", ("a", "href"): "link",
    ("area", "href"): "link", ("form", "action"): "form", ("button", "formaction"): "form", ("track", "src"): "image",
    ("use", "href"): "image", ("use", "xlink:href"): "image", ("image", "href"): "image", ("image", "xlink:href"): "image",
}  # fmt: skip


@dataclass
class Markup:
    """What a page says, and what it loads.

    Attributes:
        references: in the order of the page, each URL and kind once; at most MAX_REFERENCES.
    """

    document: Document
    references: list[Reference]


@dataclass
class _Lines:
    """Lines of a text by increasing indices; for smaller ones it starts again."""

    file: str
    text: str
    _line: int = 1
    _at: int = 0

    def evidence(self, at: int) -> Evidence:
        if at < self._at:
            self._line, self._at = 1, 0
        self._line += self.text.count("\n", self._at, at)
        self._at = at
        return Evidence(self.file, self._line, excerpt=self._excerpt(at))

    def _excerpt(self, at: int) -> str:
        """The line at an index, or what surrounds the index in a long one."""
        begin = max(self.text.rfind("\n", max(0, at - MAX_EXCERPT // 2), at) + 1, at - MAX_EXCERPT // 2, 0)
        return make_excerpt(self.text[begin : begin + MAX_EXCERPT].lstrip().partition("\n")[0])


def parse_page(text: str, file: str) -> Markup:
    """What an HTML page says and loads.

    Args:
        file: the page's own URL, for evidence.
    """
    reader = _PageReader(file, text)
    for tag in HtmlTags(text, _MAX_STEPS, len(text)):
        reader.read(tag)
    return Markup(reader.document(), reader.references)


def parse_script(text: str, file: str) -> list[Reference]:
    return _collect(_Lines(file, text), find_script_urls(text))


def parse_style(text: str, file: str) -> list[Reference]:
    return _collect(_Lines(file, text), find_style_urls(text))


def _collect(lines: _Lines, found: Iterable[Found]) -> list[Reference]:
    collected = _References(lines)
    for kind, url, at in sorted(found, key=lambda each: each[2]):
        collected.add(kind, url, at)
    return collected.list


class _References:
    """References without duplicates."""

    def __init__(self, lines: _Lines) -> None:
        self.list: list[Reference] = []
        self._lines = lines
        self._known: set[tuple[VisitKind, str]] = set()

    def add(self, kind: VisitKind, raw: str, at: int) -> None:
        url = unescape(raw[:_MAX_URL]).strip()
        if not url or url.lower().startswith(_NEVER_LOADED) or (kind, url) in self._known or len(self.list) >= MAX_REFERENCES:
            return
        self._known.add((kind, url))
        self.list.append(Reference(kind, url, self._lines.evidence(at)))


class _PageReader:
    """Collects what the start tags of a page say."""

    def __init__(self, file: str, text: str) -> None:
        self._lines = _Lines(file, text)
        self._references = _References(self._lines)
        self._title, self._base_href, self._has_password_field = "", "", False
        self._base: Evidence | None = None
        self._metas: list[MetaTag] = []
        self._source_end = 0  # index up to which an element shows source text
        self._unclosed: set[str] = set()  # names of such elements that have no end

    @property
    def references(self) -> list[Reference]:
        return self._references.list

    def document(self) -> Document:
        return Document(self._title, self._base, self._base_href, tuple(self._metas), self._has_password_field)

    def read(self, tag: StartTag) -> None:
        if (special := _READERS.get(tag.name)) is not None:
            special(self, tag)
        self._find_source_end(tag)
        for kind, url in _loaded_by(tag):
            if kind != "link" or tag.start >= self._source_end:
                self._references.add(kind, url, tag.start)
        for attribute, value in tag.attributes.items():
            if attribute.startswith("on"):  # an event handler
                for kind, url, _ in find_script_urls(unescape(value[:_MAX_HANDLER])):
                    self._references.add(kind, url, tag.start)
        if "url(" in tag.attributes.get("style", ""):
            for kind, url, _ in find_style_urls(tag.attributes["style"]):
                self._references.add(kind, url, tag.start)

    def _find_source_end(self, tag: StartTag) -> None:
        if tag.name in _SHOWS_SOURCE and tag.start >= self._source_end and tag.name not in self._unclosed:
            self._source_end = max(self._source_end, self._lines.text.find(f"</{tag.name}", tag.end))
            if self._source_end <= tag.start:
                self._unclosed.add(tag.name)

    def read_title(self, tag: StartTag) -> None:
        self._title = self._title or clean_title(tag.content)

    def read_base(self, tag: StartTag) -> None:
        if self._base is None and "href" in tag.attributes:
            self._base = self._lines.evidence(tag.start)
            self._base_href = unescape(tag.attributes["href"][:_MAX_URL]).strip()

    def read_meta(self, tag: StartTag) -> None:
        names = (tag.attributes.get(key, "") for key in ("http-equiv", "name", "property"))
        name = next(filter(None, names), "").strip().lower()
        if name and len(self._metas) < _MAX_METAS:
            value = unescape(tag.attributes.get("content", "")[:_MAX_URL]).strip()
            self._metas.append(MetaTag(name, value, self._lines.evidence(tag.start)))
        if name == "action-cable-url":  # Rails opens a WebSocket there
            self._references.add("socket", tag.attributes.get("content", ""), tag.start)

    def read_input(self, tag: StartTag) -> None:
        self._has_password_field = self._has_password_field or tag.attributes.get("type", "").lower() == "password"

    def read_script(self, tag: StartTag) -> None:
        kind = tag.attributes.get("type", "").strip().lower()
        if kind == "importmap":
            for match in _MAPPED.finditer(tag.content):
                self._references.add("script", match[1], tag.end + match.start(1))
        if kind in _SCRIPT_TYPES and not tag.attributes.get("src"):
            self._add_all(find_script_urls(tag.content), tag.end)

    def read_style(self, tag: StartTag) -> None:
        self._add_all(find_style_urls(tag.content), tag.end)

    def _add_all(self, found: Iterable[Found], offset: int) -> None:
        for kind, url, at in sorted(found, key=lambda each: each[2]):
            self._references.add(kind, url, offset + at)


_READERS: dict[str, Callable[[_PageReader, StartTag], None]] = {
    "title": _PageReader.read_title,
    "base": _PageReader.read_base,
    "meta": _PageReader.read_meta,
    "input": _PageReader.read_input,
    "script": _PageReader.read_script,
    "style": _PageReader.read_style,
}


def _loaded_by(tag: StartTag) -> Iterator[tuple[VisitKind, str]]:
    """Kinds and URLs of what an element loads or leads to."""
    if tag.name == "link":
        kind = _link_kind(tag.attributes)
        if kind is not None:
            yield kind, tag.attributes.get("href", "")
        return
    for attribute, value in tag.attributes.items():
        kind = _BY_ATTRIBUTE.get((tag.name, attribute)) or _BY_HTMX.get(attribute.removeprefix("data-"))
        if kind == "form" and _method_of(tag).strip().lower() == "post":
            kind = "post"
        if kind is not None:
            yield kind, value
    if tag.name in ("img", "source"):
        yield from (("image", url) for url in _urls_of_srcset(tag.attributes.get("srcset", "")[:_MAX_URL]))


def _method_of(tag: StartTag) -> str:
    """The method that a form, or a button with a `formaction`, names itself."""
    return tag.attributes.get("method" if tag.name == "form" else "formmethod", "")


def _urls_of_srcset(value: str) -> Iterator[str]:
    """The URLs of `a.png 1x, b.png 2x`; a comma within a URL is a part of it."""
    is_url = True
    for word in value.split():
        url = word if is_url else word.partition(",")[2]
        if url.strip(","):
            yield url.strip(",")
        is_url = word.endswith(",") if is_url or url else "," in word


def _link_kind(attributes: dict[str, str]) -> VisitKind | None:
    rels = attributes.get("rel", "").lower().split()
    if "preload" in rels or "prefetch" in rels:
        return _BY_AS.get(attributes.get("as", "").lower())
    if "alternate" in rels:  # a style sheet that is not loaded, a feed
        return None
    return next((_BY_REL[rel] for rel in rels if rel in _BY_REL), None)
