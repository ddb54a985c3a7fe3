"""Excerpts of what a service sends, for people: one line, short, control characters escaped, secrets masked. Pure."""

from __future__ import annotations

import re

from ..system.command_lines import MASK, is_secret
from .observation import Evidence

MAX_EXCERPT = 160  # characters
_BEFORE = 50  # characters of the line before what is meant, where the line is too long
_BLANKS = re.compile(r"\s+")
# A name with its value: `token=x`, `"token": "x"`, `token: x`.
_PAIR = re.compile(r"""(?P<name>[\w.-]{1,64})(?P<sign>["']?\s{0,4}[=:]\s{0,4}["']?)(?P<value>[^\s"'&;,<>]+)""")
_COOKIE = re.compile(r"(?P<name>[^=;]*)=(?P<value>[^;]*)(?P<rest>.*)", re.DOTALL)
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "x-xsrftoken", "cookie", "www-authenticate"})


def locate(file: str, text: str, start: int, end: int) -> Evidence:
    """The evidence for `text[start:end]` of a file: its line, and an excerpt around it."""
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", end)
    stop = len(text) if stop < 0 else stop
    if stop - begin > MAX_EXCERPT:  # a bundle has all its code in one line
        begin = max(begin, start - _BEFORE)
        stop = min(stop, begin + 2 * MAX_EXCERPT)
    return Evidence(file, text.count("\n", 0, start) + 1, "", make_excerpt(text[begin:stop]))


def locate_start(file: str, text: str) -> Evidence:
    """The evidence for a whole text: its first line."""
    text = text.lstrip()
    return locate(file, text, 0, 1) if text else Evidence(file)


def locate_field(file: str, name: str, value: str) -> Evidence:
    """The evidence for a header field."""
    return Evidence(file, None, name, make_field_excerpt(name, value))


def make_excerpt(text: str) -> str:
    """The text on one line, with at most `MAX_EXCERPT` characters."""
    masked = _PAIR.sub(_mask, _BLANKS.sub(" ", text[: 8 * MAX_EXCERPT]).strip())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in masked)
    return shown if len(shown) <= MAX_EXCERPT else shown[: MAX_EXCERPT - 1] + "…"


def make_field_excerpt(name: str, value: str) -> str:
    """The value of a header field; of credentials only that they are there, of a cookie its name and attributes."""
    key = name.lower()
    if key in _CREDENTIALS:
        return f"{value.split()[0]} {MASK}" if " " in value.strip() else MASK
    cookie = _COOKIE.fullmatch(value) if key == "set-cookie" else None
    return make_excerpt(f"{cookie['name']}={MASK}{cookie['rest']}" if cookie is not None else value)


def _mask(match: re.Match[str]) -> str:
    return f"{match['name']}{match['sign']}{MASK}" if is_secret(match["name"]) else match[0]
