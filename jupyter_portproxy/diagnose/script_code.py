"""What of a script or page is code, and what is text in it. Pure; linear in the length of the text; no input raises.

A mask has the length of its text. Code stands in it as it is, with the quotes of literals; comments are blanks, and each
character within a literal is `FILLER`. Expressions of template literals are code, and so is a string that `eval` runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..protocol.html_tags import HtmlTags

FILLER = "\0"
_MAX_TAGS = 200_000  # tags and attributes of a page
_SIGN = re.compile(r"""["'`/{}]""")
_IN_STRING = {'"': re.compile(r'["\\\n]'), "'": re.compile(r"['\\\n]")}
_IN_TEMPLATE = re.compile(r"[`\\]|\$\{")
_IN_REGEX, _IN_CLASS = re.compile(r"[\\/\[\n]"), re.compile(r"[\]\\\n]")
_WORD_BEFORE = re.compile(r"[\w$]{1,40}\Z")
_BEFORE_REGEX = frozenset(
    ["return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "instanceof", "do", "else", "await", "yield"]
)
_USE_OF_REGEX = re.compile(r"/[dgimsuvy]{0,8}\.(?:test|exec)\(")
_BEFORE = 48  # characters before a slash that tell a regular expression from a division
_EVALS = ("eval(", "eval(__webpack_require__.ts(")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
# Attributes of a tag; the value of one like `onclick` is code.
_VALUE = re.compile(r"""(\bon\w{1,40}\s{0,9}=\s{0,9})?("[^"]*"|'[^']*')""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Code:
    """A page or a script, with its mask.

    Attributes:
        file: where it comes from, as in evidence.
    """

    file: str
    text: str
    mask: str

    def find(self, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
        """The matches in the text that begin in code: at the quote of a literal, but not within one."""
        return (match for match in pattern.finditer(self.text) if self.mask[match.start()] == self.text[match.start()])


def mask_script(text: str) -> str:
    return _Scanner(text).run()


def mask_page(text: str) -> str:
    """The mask of an HTML page: of its scripts and tags. A value of an attribute is a literal.

    `<link>` and `<meta>` are blanks, as there are URLs in them that are not loaded.
    """
    pieces, at = [], 0
    for tag in HtmlTags(text, _MAX_TAGS, len(text)):
        source = "" if tag.name in ("link", "meta") else _mask_tag(text[tag.start : tag.end])
        code = mask_script(tag.content) if tag.name == "script" else ""
        pieces += [" " * (tag.start - at), source.ljust(tag.end - tag.start), code]
        at = tag.end + len(code)
    return "".join(pieces).ljust(len(text))


def _mask_tag(source: str) -> str:
    def mask(match: re.Match[str]) -> str:
        handler, value = match[1] or "", match[2]
        content = mask_script(value[1:-1]) if handler else FILLER * (len(value) - 2)
        return f"{handler}{value[0]}{content}{value[-1]}"

    return _VALUE.sub(mask, source)


class _Scanner:
    """Reads a script once. It does not parse it: after a mistake, such as an unclosed string, it goes on with the next line."""

    def __init__(self, text: str, *, reads_eval: bool = True) -> None:
        self._text, self._reads_eval = text, reads_eval
        self._pieces: list[str] = []
        self._copied = 0  # index up to which the text is in the pieces
        self._depths: list[int] = []  # of braces, in the expressions of open template literals
        self._wasted = 0  # characters that were read as regular expressions in vain

    def run(self) -> str:
        at = 0
        while (sign := _SIGN.search(self._text, at)) is not None:
            at = self._read(sign[0], sign.start())
        self._pieces.append(self._text[self._copied :])
        return "".join(self._pieces)

    def _read(self, sign: str, start: int) -> int:
        """Read what begins with a sign; where to go on."""
        match sign:
            case "/":
                return self._read_slash(start)
            case "`":
                return self._read_template(start + 1)
            case "{" if self._depths:
                self._depths[-1] += 1
            case "}" if self._depths:
                self._depths[-1] -= 1
                if self._depths[-1] < 0:
                    self._depths.pop()
                    return self._read_template(start + 1)
            case '"' | "'":
                return self._read_string(start, sign)
        return start + 1

    def _read_string(self, start: int, quote: str) -> int:
        at = start + 1
        while (stop := _IN_STRING[quote].search(self._text, at)) is not None and stop[0] == "\\":
            at = stop.end() + 1
        end = stop.start() if stop is not None else len(self._text)
        if self._reads_eval and self._text.endswith(_EVALS, 0, start):
            run = _ESCAPE.sub(lambda match: " " + ("\n" if match[1] == "n" else match[1]), self._text[start + 1 : end])
            self._replace(start + 1, end, _Scanner(run, reads_eval=False).run())
        else:
            self._replace(start + 1, end, FILLER * (end - start - 1))
        return end + 1

    def _read_template(self, start: int) -> int:
        """Read the text of a template literal up to its end or its next expression."""
        at = start
        while (stop := _IN_TEMPLATE.search(self._text, at)) is not None and stop[0] == "\\":
            at = stop.end() + 1
        end = stop.start() if stop is not None else len(self._text)
        self._replace(start, end, FILLER * (end - start))
        if stop is None:
            return end
        if stop[0] != "`":
            self._depths.append(0)
        return stop.end()

    def _read_slash(self, start: int) -> int:
        if self._text.startswith("//", start):
            return self._blank(start, self._text.find("\n", start))
        if self._text.startswith("/*", start):
            end = self._text.find("*/", start + 2)
            return self._blank(start, end + 2 if end >= 0 else -1)
        before = self._text[max(0, start - _BEFORE) : start].rstrip()
        is_after_block = before.endswith((")", "}"))
        if not is_after_block and not _may_precede_regex(before):
            return start + 1
        end = self._find_regex_end(start + 1)
        if end < 0 or (is_after_block and _USE_OF_REGEX.match(self._text, end) is None):
            self._wasted += max(end, start) - start
            return start + 1
        self._replace(start + 1, end, FILLER * (end - start - 1))
        return end + 1

    def _find_regex_end(self, at: int) -> int:
        """The index of the slash that ends a regular expression; -1 if there is none in the line.

        What may be read in vain is limited: once the text's length, in all.
        """
        if self._wasted > len(self._text):
            return -1
        start, is_class = at, False
        while (stop := (_IN_CLASS if is_class else _IN_REGEX).search(self._text, at)) is not None:
            if stop[0] == "/":
                return stop.start()
            if stop[0] == "\n":
                break
            at = stop.end() + (stop[0] == "\\")
            is_class = stop[0] == "[" or (is_class and stop[0] == "\\")
        self._wasted += (stop.start() if stop is not None else len(self._text)) - start
        return -1

    def _blank(self, start: int, end: int) -> int:
        end = len(self._text) if end < 0 else end
        self._replace(start, end, " " * (end - start))
        return end

    def _replace(self, start: int, end: int, masked: str) -> None:
        end = min(end, len(self._text))
        self._pieces += [self._text[self._copied : start], masked]
        self._copied = end


def _may_precede_regex(before: str) -> bool:
    """True if an expression may begin behind that code, so that a slash there does not divide."""
    if before.endswith(("++", "--", "]", '"', "'", "`")):
        return False
    word = _WORD_BEFORE.search(before)
    return word is None or word[0] in _BEFORE_REGEX
