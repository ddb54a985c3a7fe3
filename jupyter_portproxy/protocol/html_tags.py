"""The start tags of an HTML document. Pure.

No input raises, and the work is bounded: each step consumes what it reads, and there are at most as many as the caller allows.
The grammar is the tokenizer of the HTML Living Standard, 13.2.5, without what matters to the rendering of text only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Alternatives begin with different characters, and nothing repeats within a repetition: no backtracking but one step.
_MARKUP = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[a-z][^\t\n\f\r />]*", re.IGNORECASE | re.ASCII)
_ATTRIBUTE = re.compile(r"""[\t\n\f\r /]*([^\t\n\f\r />=][^\t\n\f\r />=]*|=)?""")
# A value whose quote is not closed extends to the end of the text.
_VALUE = re.compile(r"""[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)(?:"|\Z)|'([^']*)(?:'|\Z)|(?!["'])([^\t\n\f\r >]*))""")
# Their content has no elements for a browser that runs scripts.
_OPAQUE = ("script", "style", "textarea", "noscript", "template", "iframe", "noembed", "noframes", "xmp", "title")
_ENDS = {name: re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE) for name in _OPAQUE}


@dataclass(frozen=True, slots=True)
class StartTag:
    """A start tag.

    Attributes:
        name: in lower case.
        attributes: names in lower case; values as they are written, with character references.
        start: index of its `<`.
        end: index of what follows it.
        content: the text in an element that has no elements in it, such as a script; empty for others.
    """

    name: str
    attributes: dict[str, str]
    start: int
    end: int
    content: str


class HtmlTags:
    """The start tags of a text, in order; an iterator.

    Args:
        max_steps: tags and attributes after which it ends.
        max_content: characters of an element's content that a tag has.
    """

    def __init__(self, text: str, max_steps: int, max_content: int) -> None:
        self._text, self._at, self._steps, self._max_content = text, 0, max_steps, max_content

    def __iter__(self) -> Iterator[StartTag]:
        while self._steps > 0:
            self._steps -= 1
            markup = _MARKUP.search(self._text, self._at)
            if markup is None:
                return
            self._at = markup.end()
            name = _NAME.match(self._text, self._at)
            if name is not None:
                self._at = name.end()
                yield self._read_tag(name[0].lower(), markup.start())
            elif self._text.startswith("!--", self._at):
                self._skip("-->")
            else:
                self._skip(">")

    def _read_tag(self, name: str, start: int) -> StartTag:
        attributes, begin, end = self._read_attributes(), self._at, _ENDS.get(name)
        if end is None:
            return StartTag(name, attributes, start, begin, "")
        found = end.search(self._text, begin)
        self._at = found.start() if found is not None else len(self._text)
        return StartTag(name, attributes, start, begin, self._text[begin : min(self._at, begin + self._max_content)])

    def _read_attributes(self) -> dict[str, str]:
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
