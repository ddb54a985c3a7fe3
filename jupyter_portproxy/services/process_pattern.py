"""Patterns for processes: which regular expressions a rule for ports may have.

Browsers match them without backtracking (labextension/src/process-pattern.ts), so that no pattern can stop one. What needs
backtracking, and what would take too many steps, is refused here and there. The server matches no pattern.
"""

from __future__ import annotations

import re
import warnings

from ..errors import BadInput

MAX_SIZE = 300  # characters of a pattern when its repetitions are written out
_IGNORE_CASE = "(?i)"
_TOKEN = re.compile(
    r"""(?P<quantifier>(?:[*+?]|\{(?!\})(?P<low>[0-9]*)(?P<comma>,?)(?P<high>[0-9]*)\})(?:\?|(?P<possessive>\+))?)
    |(?P<open>\((?:\?:)?)(?!\?)|(?P<close>\))|(?P<bar>\|)
    |(?P<unsupported>\(\?.)|(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<escape>\\.)|.""",
    re.VERBOSE | re.DOTALL,
)
_UNSUPPORTED_ESCAPE = re.compile(r"\\(?![dDwWsSbB])[A-Za-z0-9]")


def check_pattern(pattern: str) -> None:
    """Raises: BadInput: it is no regular expression, has a part that is not supported, or is too large."""
    body = pattern.removeprefix(_IGNORE_CASE)
    unsupported = _find_unsupported(body)
    if unsupported:
        hint = "Patterns for processes have no look-around, no references and no named groups. Write it without."
        raise BadInput(f"The pattern {pattern[:80]!r} has {unsupported!r}.", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(_condense(body))
    except (re.error, OverflowError, RecursionError) as error:
        raise BadInput(f"The pattern {pattern[:80]!r} is not a regular expression: {error}.", "Correct it.") from None
    if _measure(body) > MAX_SIZE:
        hint = f"With its repetitions written out, it may have {MAX_SIZE} characters. Write smaller repetitions."
        raise BadInput(f"The pattern {pattern[:80]!r} is too large.", hint)


def _condense(pattern: str) -> str:
    """A pattern that is valid if this one is, with narrow ranges: to compile each wide one takes milliseconds."""
    wide = sorted({character for character in pattern if character > "\xff"})
    return pattern.translate({ord(character): 0x100 + number for number, character in enumerate(wide)})


def _find_unsupported(pattern: str) -> str:
    """The first part that needs backtracking or that browsers read in another way; empty without one."""
    for token in _TOKEN.finditer(pattern):
        if token["unsupported"] or token["possessive"]:
            return token[0]
        escape = _UNSUPPORTED_ESCAPE.search((token["class"] or token["escape"] or "").replace(r"\\", ""))
        if escape:
            return escape[0]
    return ""


def _measure(pattern: str) -> int:
    """The characters of a valid pattern when its repetitions are written out. An empty part counts as one."""
    outer: list[tuple[int, int]] = []  # of what is around each open group: finished alternatives, the current one
    done = size = last = 0  # finished alternatives; the current one; its last part
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            outer.append((done, size))
            done = size = 0
        elif token["close"]:
            last = done + max(1, size)
            done, size = outer.pop()
            size += last
        elif token["bar"]:
            done, size = done + max(1, size), 0
        elif token["quantifier"]:
            size += last * (_count_copies(token) - 1)
        else:
            last = 1
            size += last
    return done + max(1, size)


def _count_copies(token: re.Match[str]) -> int:
    """How often a repetition stands for its part when it is written out."""
    if token["low"] is None:
        return 2 if token[0].startswith("+") else 1
    copies = int(token["high"]) if token["high"] else int(token["low"] or 0) + bool(token["comma"])
    return max(1, copies)
