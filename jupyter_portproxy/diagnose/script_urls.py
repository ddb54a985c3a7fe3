"""URLs in scripts and style sheets. Pure; linear in the length of the text.

Scripts are not run: what is found are literals that are arguments of certain calls, constants with a literal in their place, and
expressions that put a literal path behind the page's own host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from .observation import VisitKind
from .script_code import FILLER, mask_script

# Patterns of code are for masks (script_code.py): no text within a literal matches them. Each begins at a word of `_WORD`, and
# each repetition is bounded, so that the whole search is linear.
_S, _QUOTE = r"\s{0,200}", "[\"'`]"
_OPEN = rf"{_QUOTE}(?={FILLER})"  # the quote at the beginning of a literal
_WORD = re.compile(
    r"ReconnectingWebSocket|useWebSocket|WebSocket|createConsumer|SockJS|EventSource|serviceWorker|Workbox|SharedWorker|Worker"
    r"|importScripts|import|from|fetch|axios|Request|\$(?=\.|http)|jQuery|http|ky\.|superagent|\.ajax|\.open|\.withUrl|\.sendBeacon|\.src|\.p(?=\s?=)"
    r"|baseURL|location|window\.open|URL|host|port|origin"
)
_CALL = re.compile(
    rf"""(?P<socket>(?:(?:Reconnecting|use)?WebSocket|createConsumer){_S}\({_S})
    | (?P<worker>(?:serviceWorker{_S}\.{_S}register|Workbox){_S}\({_S})
    | (?P<script>(?:(?:Shared)?Worker|importScripts){_S}\({_S}|(?:import|from){_S}(?={_QUOTE}))
    | (?P<link>location(?:{_S}\.{_S}(?:href|pathname))?{_S}={_S}|location{_S}\.{_S}(?:assign|replace){_S}\({_S}
        |window\.open{_S}\({_S})
    | (?P<source>\.src{_S}={_S})
    | (?P<folder>\.p\s?=\s?)
    | (?P<request>\.open{_S}\({_S}(?:{_QUOTE}{FILLER}{{3,8}}{_QUOTE}|\w{{1,40}}){_S},{_S})
    | (?P<fetch>\.ajax{_S}\({_S}(?:\{{[^{{}}]{{0,120}}?\burl{_S}:{_S})?
        | (?:fetch|import|SockJS|EventSource|Request|axios){_S}\({_S}|\.(?:withUrl|sendBeacon){_S}\({_S}|baseURL{_S}[:=]{_S}
        | (?:[$]|jQuery|[$]?http|axios|ky|superagent)\.(?:get|post|put|patch|delete|head|options|request|getJSON){_S}\({_S})
    """,
    re.VERBOSE,
)
_URL = re.compile(r"[^\"'`\s$]{1,300}")  # up to `${`
_PATH = re.compile(r"/[^\"'`\s$]{0,300}")
_NAME = r"[A-Za-z_$][\w$]{0,60}"
_USE = re.compile(rf"(?:`\$\{{{_S}(?P<inner>{_NAME}){_S}\}}|(?P<outer>{_NAME})(?:{_S}\+{_S}(?P<quote>{_QUOTE}))?)(?P<end>)")
_MIN_NAME = 3  # characters of a constant: shorter ones are of minified code, where one name has many values
# A constant, with a literal or the page's own origin as its value.
_CONSTANT = re.compile(
    rf"(?:const|let|var)\s{_S}({_NAME}){_S}={_S}(?:{_QUOTE}|(?:(?:window|document|self)\.)?location\.(?P<origin>origin)\b)"
)
# The page's own host or origin; behind it is a literal path.
_AFTER_HOST = re.compile(
    rf"""(?P<name>host(?:name)?|port|origin)\b(?:
        (?:{_S}\.{_S}replace{_S}\([^()]{{0,60}}\))?\)?{_S}\+{_S}(?:\w{{0,20}}[pP]ort\w{{0,9}}{_S}\+{_S})?{_OPEN}
        | {_S}:{_S}(?:''|""){_S}\){_S}\+{_S}{_OPEN}
        | [^{{}}`]{{0,60}}\}}(?:{FILLER}\$\{{[^{{}}]{{0,80}}\}})?(?={FILLER}))""",
    re.VERBOSE,
)
_IS_WORD = re.compile(r"[\w$]")
_VITE_SOCKET = re.compile(rf"port\}}\$\{{{_OPEN}")  # of `importMetaUrl`, in Vite's client, with its `base`
# `new URL("/ws", location.href)`
_NEW_URL = re.compile(
    rf"""URL{_S}\({_S}{_QUOTE}(?P<url>[^"'`]{{1,600}}){_QUOTE}{_S},{_S}
        (?:(?:(?:window|document|self)\.)?(?:location|baseURI|origin)|import\.meta\.url)\b""",
    re.VERBOSE,
)
_WS, _WS_OR_CALL = re.compile(r"\bwss?\b"), re.compile(r"\bwss?\b|\bWebSocket\b")
_SOCKET_NAME = re.compile(rf"WebSocket{_S}\({_S}({_NAME})")
_ASSIGNED = re.compile(rf"({_NAME})\s{{0,9}}=(?!=)")
_SCHEME = re.compile(r"""\bprotocol\b|https?://|["'`]//|\}//""")
_SOCKET_URL = re.compile(rf"{_QUOTE}(wss?://[^\"'`\s$]{{1,300}})")  # absolute, wherever it stands
# The query by which webpack-dev-server's client gets the address of its socket, whose port 0 is the page's own.
_DEV_SERVER = re.compile(r"\?protocol=[a-z]{2,5}%3A&hostname=([\w.-]{1,255})&port=(\d{1,5})&pathname=([\w%.-]{1,300})")
_BEFORE_HOST = 160  # characters
_BEFORE_SCHEME = 60  # characters between `location.protocol` and the host
_AFTER_URL = 120  # characters in which `url.protocol = "ws:"` follows `new URL(...)`
_CSS_URL = re.compile(
    r"""@import\s*(?:url\(\s*|(?=["']))["']?(?P<style>[^"')\s;]{1,2000})|\burl\(\s*["']?(?P<url>[^"')\s]{1,2000})""",
    re.IGNORECASE,
)
_FONT = re.compile(r"\.(?:woff2?|ttf|otf|eot)(?:[?#]|$)", re.IGNORECASE)
Found = tuple[VisitKind, str, int]  # kind, URL, index of the URL in the text


def find_script_urls(text: str) -> Iterator[Found]:
    """The URLs that a script names."""
    return _ScriptReader(text).read()


class _ScriptReader:
    """Finds the URLs of one script."""

    def __init__(self, text: str) -> None:
        self._text, self._mask = text, mask_script(text)
        self._constants: dict[str, str] = {}
        self._socket_names = {match[1] for match in _SOCKET_NAME.finditer(self._mask)}  # of variables that WebSockets get

    def read(self) -> Iterator[Found]:
        self._read_constants()
        for match in _SOCKET_URL.finditer(self._text):
            if self._is_open(match.start()):
                yield "socket", match[1].rstrip("\\"), match.start(1)
        if (dev := _DEV_SERVER.search(self._text)) is not None:
            host, path = "localhost" if dev[1] == "0.0.0.0" else dev[1], unquote(dev[3])  # noqa: S104 (it is the page's host)
            yield "socket", path if dev[2] == "0" else f"ws://{host}:{dev[2]}{path}", dev.start(1)
        at = 0
        while (word := _WORD.search(self._mask, at)) is not None:
            at = word.end()
            if word[0][0] != "." and word.start() and _IS_WORD.match(self._mask, word.start() - 1):
                continue  # the end of a longer name
            found, at = self._read_word(word.start(), at)
            if found is not None:
                yield found

    def _read_word(self, start: int, end: int) -> tuple[Found | None, int]:
        """What a word begins, and where to go on."""
        if (call := _CALL.match(self._mask, start)) is not None:
            return self._read_call(call), max(end, call.end())
        if (host := _AFTER_HOST.match(self._mask, start)) is not None:
            return self._read_host(host), host.end()
        if (vite := _VITE_SOCKET.match(self._mask, start)) is not None and self._text.endswith("importMetaUrl.", 0, start):
            path = self._read_path(vite.end())
            return (("socket", path, vite.end()) if path else None), vite.end()
        if (new := _NEW_URL.match(self._mask, start)) is not None:
            return self._read_new_url(new), new.end()
        return None, end

    def _read_call(self, call: re.Match[str]) -> Found | None:
        name, at = call.lastgroup or "", call.end()
        if self._is_open(at):
            at, url = at + 1, self._read_url(at + 1)
        else:
            url = "" if name in ("link", "script") else self._read_constant_at(at)
        kind = _kind_of(name, url) if url else None
        return (kind, url, at) if kind is not None else None

    def _read_host(self, host: re.Match[str]) -> Found | None:
        path, start, at = self._read_path(host.end()), host.start(), host.end()
        if not path:
            return None
        before = self._mask[max(0, start - _BEFORE_HOST) : start].rpartition(";")[2]
        is_opened = any(name in self._socket_names for name in _ASSIGNED.findall(before)) if self._socket_names else False
        if is_opened or _WS_OR_CALL.search(self._text, max(0, start - _BEFORE_HOST), at) is not None:
            return "socket", path, at
        is_own = host["name"] == "origin" and self._mask.endswith("location.", 0, start)
        is_own = is_own or _SCHEME.search(self._text, max(0, start - _BEFORE_SCHEME), start) is not None
        return ("fetch", path, at) if is_own and host["name"] != "port" else None

    def _read_new_url(self, new: re.Match[str]) -> Found | None:
        at = new.start("url")
        path = self._read_path(at)
        if not path:
            return None
        is_socket = _WS.search(self._text, max(0, new.start() - _BEFORE_HOST), new.end() + _AFTER_URL) is not None
        return "socket" if is_socket else "fetch", path, at

    def _read_constants(self) -> None:
        """Constants of the script by their names. A name that is declared twice has no known value."""
        known: set[str] = set()
        for match in _CONSTANT.finditer(self._mask):
            name, at = match[1], match.end()
            value = "" if match["origin"] else self._read_url(at)
            is_whole = match["origin"] is not None or self._mask[at + len(value) : at + len(value) + 1] in ("'", '"', "`")
            if name in known or not is_whole or len(name) < _MIN_NAME:
                self._constants.pop(name, None)
            else:
                self._constants[name] = value
            known.add(name)

    def _read_constant_at(self, at: int) -> str:
        """The URL in an expression that begins with a constant, such as `BASE + "/x"`; empty if it is not known."""
        use = _USE.match(self._mask, at)
        value = self._constants.get(use["inner"] or use["outer"]) if use is not None else None
        if use is None or value is None:
            return ""
        has_more = (use["inner"] or use["quote"]) and self._mask.startswith(FILLER, use.end())
        url = value + (self._read_url(use.end()) if has_more else "")
        return url if url.startswith(("/", "http:", "https:")) else ""

    def _is_open(self, at: int) -> bool:
        """True for the quote at the beginning of a literal that is not empty."""
        return self._mask[at : at + 1] in ("'", '"', "`") and self._mask.startswith(FILLER, at + 1)

    def _read_url(self, at: int) -> str:
        match = _URL.match(self._text, at) if self._mask.startswith(FILLER, at) else None
        return match[0].rstrip("\\") if match is not None else ""

    def _read_path(self, at: int) -> str:
        url = self._read_url(at)
        return url if url.startswith("/") else ""


def _kind_of(name: str, url: str) -> VisitKind | None:
    """The kind of the URL in a call; None if it is not a URL, or is found by another pattern."""
    match name:
        case "socket":
            return None if url.startswith(("ws:", "wss:")) else "socket"  # those are found without a call, too
        case "script":
            return "script" if url.startswith(("/", "./", "../", "http:", "https:")) else None  # not a bare module name
        case "folder" if not (url.startswith("/") and url.endswith("/")):  # webpack's `publicPath`
            return None
        case "source" | "request" if not url.startswith(("/", "http:", "https:")):
            return None
        case "worker":
            return "worker"
        case "link":
            return "link"
    return "fetch"


def find_style_urls(text: str) -> Iterator[Found]:
    """The URLs of `@import` and `url()` in CSS, without those in comments."""
    text = _blank_comments(text)
    for match in _CSS_URL.finditer(text):
        if (style := match["style"]) is not None:
            yield "style", style, match.start("style")
        else:
            url = match["url"]
            yield "font" if _FONT.search(url) else "image", url, match.start("url")


def _blank_comments(text: str) -> str:
    """The text with blanks in place of its comments: indices stay."""
    if "/*" not in text:
        return text
    pieces: list[str] = []
    at = 0
    while (start := text.find("/*", at)) >= 0:
        end = text.find("*/", start + 2)
        end = len(text) if end < 0 else end + 2
        pieces += [text[at:start], " " * (end - start)]
        at = end
    return "".join([*pieces, text[at:]])
