"""PURE. How a message is read in one way only: names, heads, and where the content ends (RFC 9112).

Rule of this file: what could be read in two ways is refused, from whichever side it comes. Which field crosses is no matter here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..errors import BadFraming, BadUpstream

Fields = list[tuple[str, str]]

_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SPLITTING = re.compile(r"[\x00\r\n]")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
_LENGTH = re.compile(r"[0-9]{1,18}\Z", re.ASCII)
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})(?![0-9])[ \t]*(.*)\Z")  # also 999, which nobody has defined
_FRAMING_NAMES = ("content-length", "transfer-encoding")
_MAX_FIELDS = 1000
MAX_CACHED_LENGTH = 64  # characters of what is looked up rather than read anew


@dataclass(frozen=True, slots=True)
class Content:
    """Framing of a request's content: `length` in bytes, or None for the chunked coding."""

    length: int | None


def normalize_name(name: str) -> str:
    """The form in which a name is compared."""
    return name.lower().replace("_", "-").replace(".", "-")


def find_field(fields: Iterable[tuple[str, str]], name: str, default: str = "") -> str:
    """The first value of the field `name` (lower case)."""
    return next((value for key, value in fields if key.lower() == name), default)


def list_tokens(fields: Iterable[tuple[str, str]], name: str) -> list[str]:
    """The lower-case members of a comma-separated field (RFC 9110 5.6.1), all its lines together."""
    return [t.strip(" \t").lower() for key, value in fields if key.lower() == name for t in value.split(",") if t.strip(" \t")]


def is_method(method: str) -> bool:
    """True for a method token (RFC 9110 9.1)."""
    return is_token(method)


def is_token(text: str) -> bool:
    return _TOKEN.match(text) is not None


def is_field(name: str, value: str) -> bool:
    """True for a header field that can be sent: a token, and characters of one byte of which none is a control character."""
    return is_token(name) and not _BAD_VALUE.search(value) and max(value, default="") <= "\xff"


def parse_request_content(version: str, fields: Fields) -> Content | None:
    """How the request's content is framed; None if it has none.

    Raises:
        BadFraming: framing that two readers could read in two ways (RFC 9112 6.1 to 6.3).
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
    """Fields of an answer whose content was read whole and perhaps changed: framed by its length alone, if there is one."""
    kept = [(name, value) for name, value in fields if name.lower() not in ("content-length", "transfer-encoding")]
    return kept if length is None else [*kept, ("Content-Length", str(length))]


def parse_head(lines: list[bytes], dropped: list[str] | None = None) -> tuple[int, str, Fields]:
    """The upstream's head, line by line without line ends -> (status, reason, fields); folded lines are joined.

    A field that cannot pass, for its name or its value, is dropped; so is an empty Content-Length.

    Args:
        dropped: gets the names of such fields.

    Raises:
        BadUpstream: it is none, or its framing could be read in two ways.
    """
    status, reason = _known_status_line(lines[0]) if len(lines[0]) <= MAX_CACHED_LENGTH else _status_line(lines[0])
    fields: Fields = []
    dropped = [] if dropped is None else dropped
    is_dropped = False  # the line before, with the folded ones that follow
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
        name = spelled.rstrip(" \t")  # RFC 9112 5.1: a proxy removes it from an answer
        if not colon:
            raise BadUpstream("a header line has no colon")
        if name != spelled and name.lower() in _FRAMING_NAMES:  # which libcurl does not take for that
            raise BadUpstream(f"a blank stands between {name} and its colon")
        is_dropped = not (_is_known_token(name) if len(name) <= MAX_CACHED_LENGTH else is_token(name))
        if is_dropped:
            dropped.append(name or line[:40])
        else:
            fields.append((name, value.strip(" \t")))
    fields = _without_odd_values(fields, dropped)
    check_head(fields)
    if status == 204:  # it has no content, whatever its length says (RFC 9110 8.6)
        fields = set_content_length(fields, None)
    return status, reason, fields


def _without_odd_values(fields: Fields, dropped: list[str]) -> Fields:
    """Fields without those whose value has control characters, of which none splits lines, and without empty lengths."""
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
    """Refuse an upstream's head that could split or smuggle.

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
    """How many bytes of content follow the head of an answer (RFC 9112 6.3); None if only its end will tell."""
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
        raise BadUpstream("its status line is none of HTTP/1.1")
    return int(match[1]), re.sub(r"[^\t\x20-\x7e\x80-\xff]", "", match[2] or "")


# Few names and status lines make up nearly all answers.
_is_known_token = lru_cache(maxsize=1024)(is_token)
_known_status_line = lru_cache(maxsize=256)(_status_line)
_known_plain = lru_cache(maxsize=1024)(normalize_name)
