"""URLs in scripts and style sheets. Pure; linear in the length of the text.

Scripts are not run: what is found are literals, and expressions that put a literal path behind the page's own host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .observation import VisitKind

_QUOTE = "[\"'`]"
_LITERAL = rf"{_QUOTE}([^\"'`\s$]{{1,300}})"  # up to `${{`
_CALL = re.compile(
    rf"""(?P<socket>\bnew\s+(?:Reconnecting)?WebSocket\s*\(\s*|\bcreateConsumer\s*\(\s*)
    | (?P<sockjs>\bnew\s+SockJS\s*\(\s*)
    | (?P<worker>\bserviceWorker\s*\.\s*register\s*\(\s*)
    | (?P<script>\bnew\s+(?:Shared)?Worker\s*\(\s*|\bimportScripts\s*\(\s*|\bimport\s*(?={_QUOTE})|\bfrom\s*(?={_QUOTE}))
    | (?P<fetch>[$]?\.ajax\s*\(\s*\{{[^{{}}]{{0,120}}?\burl\s*:\s*
        |(?:\b(?:fetch|axios(?:\.\w{{1,10}})?|EventSource|import)|[$]\.(?:get|post|ajax|getJSON))\s*\(\s*
        |\.open\s*\(\s*{_QUOTE}[A-Z]{{3,8}}{_QUOTE}\s*,\s*|\.withUrl\s*\(\s*|\.sendBeacon\s*\(\s*|\bbaseURL\s*[:=]\s*)
    | (?P<link>\blocation(?:\.href)?\s*=\s*|\blocation\.(?:assign|replace)\s*\(\s*|\bwindow\.open\s*\(\s*)
    """,
    re.VERBOSE,
)
_URL = re.compile(_LITERAL)
# An absolute URL of a WebSocket, and the page's own host with a literal path behind it; what stands before must name `ws`.
_SOCKET_URL = re.compile(rf"{_QUOTE}(wss?://[^\"'`\s$]{{1,300}})")
_AFTER_HOST = re.compile(
    rf"""\$\{{[^{{}}]{{0,80}}\b(?:host|hostname|origin)\b[^{{}}]{{0,40}}\}}(?::\$\{{[^{{}}]{{0,80}}\}})?(/[^\"'`\s$]{{0,300}})
    | \b(?:host|hostname|port|origin)\b\)?\s*\+\s*{_QUOTE}(/[^\"'`\s$]{{0,300}})
    | \borigin\.replace\([^()]{{0,60}}\)\s*\+\s*{_QUOTE}(/[^\"'`\s$]{{0,300}})""",
    re.VERBOSE,
)
_VITE_SOCKET = re.compile(r"""\bimportMetaUrl\.port\}\$\{["'](/[^"'\s]{0,300})["']\}""")  # in Vite's client, with its `base`
# `new URL("/ws", location.href)`, and a literal path behind the page's own origin.
_FROM_ORIGIN = re.compile(
    rf"""\bnew\s+URL\s*\(\s*{_QUOTE}(/[^"'`\s$]{{0,300}})[^"'`]{{0,300}}{_QUOTE}\s*,\s*
        (?:(?:window|document|self)\.)?(?:location|baseURI|origin)\b
    | \blocation\.origin\}}(/[^"'`\s$]{{0,300}})
    | \blocation\.origin\s*\+\s*{_QUOTE}(/[^"'`\s$]{{0,300}})""",
    re.VERBOSE,
)
_WS = re.compile(r"\bwss?\b")
_BEFORE_HOST = 160  # characters
_AFTER_URL = 120  # characters in which `url.protocol = "ws:"` follows `new URL(...)`
_CSS_URL = re.compile(
    r"""@import\s*(?:url\(\s*|(?=["']))["']?(?P<style>[^"')\s;]{1,2000})|\burl\(\s*["']?(?P<url>[^"')\s]{1,2000})""",
    re.IGNORECASE,
)
_COMMENT_LINES = re.compile(r"^[ \t]*(?://[^\n]*|/\*.*?(?:\*/|\Z))", re.MULTILINE | re.DOTALL)
_FONT = re.compile(r"\.(?:woff2?|ttf|otf|eot)(?:[?#]|$)", re.IGNORECASE)
Found = tuple[VisitKind, str, int]  # kind, URL, index of the URL in the text


def find_script_urls(text: str) -> Iterator[Found]:
    """The URLs that a script names, in the order of their kinds, without those in lines that are comments."""
    text = blank_comment_lines(text)
    for call in _CALL.finditer(text):
        url = _URL.match(text, call.end())
        if url is not None:
            kind = _kind_of(call, url[1])
            if kind is not None:
                yield kind, url[1], url.start(1)
    for match in _SOCKET_URL.finditer(text):
        yield "socket", match[1], match.start(1)
    for match in _VITE_SOCKET.finditer(text):
        yield "socket", match[1], match.start(1)
    for match in _AFTER_HOST.finditer(text):
        if _WS.search(text, max(0, match.start() - _BEFORE_HOST), match.end()) is not None:
            group = match.lastindex or 1
            yield "socket", match[group], match.start(group)
    for match in _FROM_ORIGIN.finditer(text):
        group = match.lastindex or 1
        is_socket = _WS.search(text, max(0, match.start() - _BEFORE_HOST), match.end() + _AFTER_URL) is not None
        yield "socket" if is_socket else "fetch", match[group], match.start(group)


def _kind_of(call: re.Match[str], url: str) -> VisitKind | None:
    match call.lastgroup:
        case "socket":
            return None if url.startswith(("ws:", "wss:")) else "socket"  # those are found without a call, too
        case "script":
            return "script" if url.startswith(("/", "./", "../", "http:", "https:")) else None  # not a bare module name
        case "sockjs":
            return "fetch"
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


def blank_comment_lines(text: str) -> str:
    """A script with blanks in place of the comments that begin a line: indices and lines stay. Others look like parts of URLs."""
    return _COMMENT_LINES.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


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
