"""JSON with comments and trailing commas, as VS Code reads it. The standard library parses it once both are blanked.

The package json5 takes seconds for a file of 256 KiB and knows no lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice

from .document import MAX_LOCATED, MAX_NESTING, ParsedDocument, Path, UnreadableFile

# What is not closed is one token, too: the time is linear for any text.
_TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*(?:.*?\*/|.*))|(?P<text>"(?:[^"\\\n]|\\[^\n])*"?)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<comma>,)
    |(?P<colon>:)|(?P<other>[^\s"{}\[\]:,/]+|/)""",
    re.VERBOSE | re.DOTALL,
)
MAX_TOKENS = 50_000  # keys, values, commas and so on
_NOT_NEWLINE = re.compile(r"[^\n]")


def parse(text: str) -> ParsedDocument:
    """Raises: UnreadableFile"""
    tokens = list(islice(_TOKEN.finditer(text), MAX_TOKENS + 1))
    if len(tokens) > MAX_TOKENS:
        raise UnreadableFile("It has too many keys and values.", "Simplify it.")
    try:
        return ParsedDocument(json.loads(_strip(text, tokens), parse_constant=_refuse_constant), dict(_locate(text, tokens)))
    except json.JSONDecodeError as error:
        raise UnreadableFile(f"It is not JSON: {error.msg} in line {error.lineno}.", "Correct it.", error.lineno) from None
    except RecursionError:
        raise UnreadableFile("Its lists and objects are nested too deep.", "Simplify it.") from None
    except ValueError as error:  # a number of thousands of digits
        raise UnreadableFile(f"It is not JSON: {str(error)[:100]}.", "Correct it.") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it has {name}")


def _strip(text: str, tokens: list[re.Match[str]]) -> str:
    """The text with comments and trailing commas replaced by blanks, so that all lines stay.

    Raises:
        RecursionError: it is nested too deep.
    """
    blanks: list[tuple[int, int]] = []
    comma: tuple[int, int] | None = None  # if nothing has followed it yet
    level = 0
    for token in tokens:
        kind = token.lastgroup
        if kind == "comment":
            blanks.append(token.span())
            continue
        if kind == "open":
            level += 1
            if level > MAX_NESTING:
                raise RecursionError
        elif kind == "close":
            level -= 1
            if comma is not None:
                blanks.append(comma)
        comma = token.span() if kind == "comma" else None
    parts: list[str] = []
    end = 0
    for start, stop in sorted(blanks):
        parts += [text[end:start], _NOT_NEWLINE.sub(" ", text[start:stop])]
        end = stop
    return "".join([*parts, text[end:]])


def _locate(text: str, tokens: list[re.Match[str]]) -> Iterator[tuple[Path, int]]:
    """The lines of keys and items. The text is valid JSON."""
    path: list[str | int] = []
    line, end, before = 1, 0, ""
    for token in tokens:
        kind = token.lastgroup or ""
        line += text.count("\n", end, token.start())
        end = token.start()
        if kind == "comment":
            continue
        if kind == "close":
            path.pop()
        elif kind == "comma":
            if isinstance(path[-1], int):
                path[-1] += 1
        elif kind != "colon":
            is_value = before == "colon"
            if path and isinstance(path[-1], str) and not is_value:
                path[-1] = json.loads(token[0])
            if 0 < len(path) <= MAX_LOCATED and not is_value:  # a value has the line of its key
                yield tuple(path), line
            if kind == "open":
                path.append(0 if token[0] == "[" else "")
        before = kind
