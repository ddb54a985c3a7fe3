"""Parsing of names and heads, and where the content of a message ends (RFC 9112).

A message that two readers could read in two ways is refused, in both directions. Which fields cross is decided in headers.py.
Names and status lines of up to MAX_CACHED_LENGTH characters are looked up in caches; 0 switches these off.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadFraming, BadUpstream

Fields = list[tuple[str, str]]
UPGRADE_FIELDS = (("Connection", "Upgrade"), ("Upgrade", "websocket"))  # of the tunnel's own hop (RFC 6455 4.1, 4.2.2)

_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SPLITTING = re.compile(r"[\x00\r\n]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_LENGTH = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?![0-9])[ \t]*(.*)\Z")  # also 999, which is undefined
_FRAMING_NAMES = ("content-length", "transfer-encoding")
_MAX_FIELDS = 1000
MAX_CACHED_LENGTH = 64  # characters


@dataclass(frozen=True, slots=True)
class Content:
    """Framing of a request's content: `length` in bytes, or None for chunked."""

    length: int | None


def normalize_name(name: str) -> str:
    """The form in which names of request fields are compared: lower case, `_` and `.` read as `-`."""
    return name.lower().replace("_", "-").replace(".", "-")


def find_field(fields: Iterable[tuple[str, str]], name: str) -> str:
    """The first value of the field `name` (lower case); empty without one."""
    return next((value for key, value in fields if key.lower() == name), "")


def announces_content(names: Container[str]) -> bool:
    """True if a request with fields of these names has content, which may be empty (RFC 9112 6)."""
    return "Content-Length" in names or "Transfer-Encoding" in names


def list_tokens(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    """The lower-case members of a comma-separated field (RFC 9110 5.6.1), all its lines together."""
    return [t.strip(" \t").lower() for key, value in fields if key.lower() == name for t in value.split(",") if t.strip(" \t")]


def is_token(text: str) -> bool:
    """True for a token (RFC 9110 5.6.2), such as a method or the name of a field."""
    return _TOKEN.match(text) is not None


def is_field(name: str, value: str) -> bool:
    """True for a header field that can be sent: a token, and a value of latin-1 characters without control characters."""
    return is_token(name) and not _BAD_VALUE.search(value) and max(value, default="") <= "\xff"


def parse_request_content(version: str, fields: Fields) -> Content | None:
    """How the request's content is framed; None if it has none.

    Raises:
        BadFraming: the framing is ambiguous (RFC 9112 6.1 to 6.3).
    """
    codings, lengths = [], []
    for name, value in fields:
        key = _known_plain(name) if len(name) <= MAX_CACHED_LENGTH else normalize_name(name)
        if key == "transfer-encoding":
            codings.append(value)
        elif key == "content-length":
            lengths.append(value)
    if len(codings) > 1:
        raise BadFraming("The request's Transfer-Encoding is given more than once.", "Send Transfer-Encoding: chunked once.")
    if codings:
        if version != "HTTP/1.1" or lengths or codings[0].lower() != "chunked":
            raise BadFraming(
                "The request's Transfer-Encoding cannot be passed on safely.", "Send either Content-Length or chunked."
            )
        return Content(None)
    if not lengths:
        return None
    length = _content_length(lengths)
    if length is None:
        raise BadFraming("The request's Content-Length is not one whole number.", "Send one Content-Length in decimal digits.")
    return Content(length)


def set_content_length(fields: Fields, length: int | None) -> Fields:
    """A response's fields with its content framed by `length` alone; without framing for None."""
    kept = [(name, value) for name, value in fields if name.lower() not in ("content-length", "transfer-encoding")]
    return kept if length is None else [*kept, ("Content-Length", str(length))]


def parse_head(lines: list[bytes], dropped: list[str] | None = None) -> tuple[int, str, Fields]:
    """The lines of an upstream's head, without line ends -> (status, reason, fields). Folded lines are joined.

    Fields with an invalid name or value, and an empty Content-Length, are dropped.

    Args:
        dropped: the names of dropped fields are appended to it.

    Raises:
        BadUpstream: the head is invalid, or its framing is ambiguous.
    """
    status, reason = _known_status_line(lines[0]) if len(lines[0]) <= MAX_CACHED_LENGTH else _status_line(lines[0])
    fields: Fields = []
    dropped = [] if dropped is None else dropped
    is_dropped = False  # the previous field, with its folded lines
    for number, raw in enumerate(lines[1:]):
        line = raw.decode("latin-1")
        if line[:1] in " \t":
            if number == 0:
                raise BadUpstream("its first header line is folded")
            if not is_dropped:
                name, value = fields[-1]
                fields[-1] = (name, f"{value} {line.strip(' 	')}")
            continue
        spelled, colon, value = line.partition(":")
        name = spelled.rstrip(" \t")  # RFC 9112 5.1: a proxy removes such blanks from a response
        if not colon:
            raise BadUpstream("a header line has no colon")
        if name != spelled and name.lower() in _FRAMING_NAMES:  # libcurl does not recognize these
            raise BadUpstream(f"a blank stands between {name} and its colon")
        is_dropped = not (_is_known_token(name) if len(name) <= MAX_CACHED_LENGTH else is_token(name))
        if is_dropped:
            dropped.append(name or line[:40])
        else:
            fields.append((name, value.strip(" \t")))
    fields = _drop_invalid_values(fields, dropped)
    check_head(fields)
    if status == 204:  # without content, even with a Content-Length (RFC 9110 8.6)
        fields = set_content_length(fields, None)
    return status, reason, fields


def _drop_invalid_values(fields: Fields, dropped: list[str]) -> Fields:
    """Fields without empty lengths, and without those whose value has control characters other than line ends and NUL."""
    values = [value for _, value in fields]
    if "" not in values and not _BAD_VALUE.search(" ".join(values)):
        return fields
    empty = {value for name, value in fields if name.lower() == "content-length"} == {""}
    kept: Fields = []
    for name, value in fields:
        odd = _BAD_VALUE.search(value) and not _SPLITTING.search(value) and name.lower() not in _FRAMING_NAMES
        if odd or (empty and name.lower() == "content-length"):
            dropped.append(name)
        else:
            kept.append((name, value))
    return kept


def check_head(fields: Fields) -> None:
    """Refuse an upstream's head that allows response splitting or request smuggling.

    Raises:
        BadUpstream: control characters, differing Content-Length or Location, or a transfer coding other than chunked.
    """
    if len(fields) > _MAX_FIELDS:
        raise BadUpstream(f"it has more than {_MAX_FIELDS} header fields")
    if _BAD_VALUE.search(" ".join([value for _, value in fields])):
        raise BadUpstream("a header field has control characters in it")
    lengths, coded = _framing(fields)
    if lengths and _content_length(lengths) is None:
        raise BadUpstream("its Content-Length is not one whole number")
    codings = list_tokens(fields, "transfer-encoding") if coded else ["chunked"]
    if len(codings) > 1 and set(codings) == {"chunked"}:
        raise BadUpstream("its Transfer-Encoding: chunked is given more than once")
    if codings != ["chunked"]:
        raise BadUpstream("its Transfer-Encoding is not chunked")
    if len({value for name, value in fields if name.lower() == "location"}) > 1:  # older libcurl passes them
        raise BadUpstream("it has two Locations that differ")


def _framing(fields: Fields) -> tuple[list[str], bool]:
    """The values of Content-Length, and whether there is a Transfer-Encoding."""
    lengths, coded = [], False
    for name, value in fields:
        key = name.lower()
        if key == "content-length":
            lengths.append(value)
        elif key == "transfer-encoding":
            coded = True
    return lengths, coded


def parse_content_length(method: str, status: int, fields: Fields) -> int | None:
    """How many bytes of content follow a response's head (RFC 9112 6.3); None if chunked or ended by the connection's end."""
    if method == "HEAD" or status in (204, 304):
        return 0
    lengths, coded = _framing(fields)
    return _content_length(lengths) if lengths and not coded else None


def _content_length(values: list[str]) -> int | None:
    """One length from all Content-Length values; None unless they are equal decimal numbers (RFC 9110 8.6)."""
    if len(values) == 1 and _LENGTH.match(values[0]):
        return int(values[0])
    members = {m.strip(" \t") for value in values for m in value.split(",")}
    text = members.pop()
    if members or not _LENGTH.match(text):
        return None
    return int(text)


def _status_line(line: bytes) -> tuple[int, str]:
    match = _STATUS_LINE.match(line.decode("latin-1"))
    if match is None:
        raise BadUpstream("its status line is not of HTTP/1.0 or 1.1")
    return int(match[1]), re.sub(r"[^\t\x20-\x7e\x80-\xff]", "", match[2] or "")


# Few names and status lines make up nearly all messages.
_is_known_token = lru_cache(maxsize=1024)(is_token)
_known_status_line = lru_cache(maxsize=256)(_status_line)
_known_plain = lru_cache(maxsize=1024)(normalize_name)
