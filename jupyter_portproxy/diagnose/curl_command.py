"""A recorded exchange as a command of curl, with marks where a value was not recorded. Pure."""

from __future__ import annotations

import re
import shlex
import string
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

_MARK = "***"
_NOTE = f"# These values were not recorded: {_MARK}"
# What curl writes itself, or what would make its output unreadable.
_OWN = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "te"})
_GLOB = re.compile(r"[\[\]{}]")  # curl makes several URLs of one that has these
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?:[/?#]|\Z)", re.IGNORECASE)  # curl removes these
# An upgrade as an HTTP request: most curls have no WebSockets, and the others would not show the response's head.
_UPGRADE = ("--include", "--no-buffer", "--http1.1")
_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455; each request may have another


def print_command(exchange: Mapping[str, Any]) -> str:
    """The command for a shell; `exchange` is one of the API (schema `Exchange` of docs/openapi.yaml)."""
    method, url, is_upgrade = exchange["method"], exchange["url"], exchange["kind"] != "http"
    words = ["curl", *([] if method == "GET" else ["--head"] if method == "HEAD" else ["-X", method])]
    words += ["--globoff"] if _GLOB.search(url) else []
    words += ["--path-as-is"] if _DOT_SEGMENT.search(url) else []
    words += _UPGRADE if is_upgrade else []
    words.append(quote(_bytes(re.sub(r"^ws(?=s?://)", "http", url) if is_upgrade else url), safe=string.punctuation + " \t"))
    for name, value in exchange["request_fields"]:
        key = name.lower()
        if is_upgrade and key == "sec-websocket-key":
            words += ["-H", f"{name}: {_KEY}"]
        elif name != "..." and (key not in _OWN or (is_upgrade and key == "connection")):
            words += ["-H", f"{name}: {value}" if value else f"{name};"]
    command = " ".join(map(_quote, words))
    return f"{_NOTE}\n{command}" if _MARK in command else command


def _bytes(text: str) -> bytes:
    """The bytes of a recorded text, which has one character for each."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


def _quote(word: str) -> str:
    """The word for a shell that reads UTF-8; of bytes that are not, and of what cannot be printed, as bash and zsh have it."""
    data = _bytes(word)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.replace("\t", "").isprintable():
        return shlex.quote(text)
    return "$'" + "".join(chr(each) if 0x20 <= each < 0x7F and each not in b"'\\" else f"\\x{each:02x}" for each in data) + "'"
