"""Rules for the URLs in pages, scripts and style sheets that do not lead below the prefix. Pure.

The gateway redirects requests at the root by their `Referer` (handlers/referer_redirect.py): what arrived that way is a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urljoin, urlsplit

from ...protocol.url_fields import parse_refresh
from ...protocol.urls import is_below_proxy, is_loopback
from ..excerpts import locate, locate_field, make_excerpt
from ..observation import Evidence, MetaTag, Observation, Visit, VisitKind
from ..script_code import Code
from .finding import Finding, host_of, name_urls

_PARTS: tuple[VisitKind, ...] = ("script", "style", "image", "font", "manifest", "frame")
_NAVIGATIONS: tuple[VisitKind, ...] = ("link", "form", "post")
# Paths of Jupyter and its common extensions: a link or form that leads there never comes to the service.
_JUPYTERS = frozenset({
    "login", "logout", "lab", "tree", "notebooks", "nbclassic", "api", "files", "static", "view", "edit", "terminals", "terminal",
    "consoles", "nbconvert", "nbextensions", "kernelspecs", "custom", "metrics", "lsp", "proxy", "hub", "user",
})  # fmt: skip
_HIDES_PATH = frozenset({"no-referrer", "origin", "strict-origin"})  # policies by which no path is sent to the page's own origin
_POLICIES = _HIDES_PATH | {
    "no-referrer-when-downgrade",
    "origin-when-cross-origin",
    "same-origin",
    "strict-origin-when-cross-origin",
    "unsafe-url",
}
_REGISTER = re.compile(r"serviceWorker\s*\.\s*register\s*\(\s*[^)]{0,300}?\bscope\s*:\s*([\"'`])(?P<scope>[^\"'`]*)\1", re.DOTALL)
_LOCAL_URL = r"""["'`]\s*((?:https?|wss?):(?:\\?/){2}(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]):"""  # and the port
# `"ws://" + location.host` or a template with it, without a choice between ws and wss before it.
_PLAIN_SOCKET = re.compile(r"""["'`]ws://(?:["'`]\s*\+\s*|\$\{\s*)(?:(?:window|document|self)\s*\.\s*)?location\s*\.\s*host""")
_SOCKET_IO = re.compile(r"socket\.io(?:[.@/-][\w.@/-]{0,100})?\.js")
# A connection without a path: `io()`, `io("/chat")`, `io.connect(location.origin)`, `io("http://" + location.host)`.
_IO_CALL = re.compile(r"io(?<![\w.$]io)(?:\.connect)?\s{0,20}\(")
# A script that gives the name to something of its own, as a minified one may.
_OWN_IO = re.compile(r"\b(?:function|const|let|var|class)\s{1,9}io\b|,\s{0,9}io\s{0,9}=(?!=)")
_DEFINES = re.compile(r"[^()]{0,200}\)\s{0,20}\{")  # behind the bracket of a method's name
_PATH_OPTION = re.compile(r"\bpath\s{0,20}:")
_MAX_OPTIONS = 300  # characters
_OPENS = re.compile(r"""WebSocket\s*\(\s*["'`]""")
_ASSIGNS = re.compile(r"""\blocation(?:\s*\.\s*(?:href|pathname))?\s*(?:=|\.\s*(?:assign|replace)\s*\()\s*["'`]""")
_CHOICE = 160  # characters before it in which `wss` or `https` means that there is a choice


# ---- where a URL leads ----


def hides_referrer(seen: Observation) -> bool:
    """True if the page's policy keeps its path out of `Referer`, so that nothing is redirected by it."""
    response = seen.page.proxied or seen.page.direct
    if response is None:
        return False
    names = [name.strip().lower() for value in response.all_fields("referrer-policy") for name in value.split(",")]
    meta = response.document.meta("referrer") if response.document is not None else None
    names += [meta.value.strip().lower()] if meta is not None else []
    known = [name for name in names if name in _POLICIES]
    return bool(known) and known[-1] in _HIDES_PATH


def can_be_redirected(seen: Observation) -> bool:
    """True if requests of this page at the root are redirected by their Referer, as far as this server gets them."""
    return not (seen.target.keeps_prefix or seen.target.is_behind_hub or hides_referrer(seen))


def leads_to_jupyter(seen: Observation, path: str) -> bool:
    """True for a path at which Jupyter has a page of its own, for links and other navigations."""
    base = seen.target.base_url
    return path.startswith(base) and path[len(base) :].partition("?")[0].partition("/")[0].lower() in _JUPYTERS


def is_from_root(seen: Observation, visit: Visit) -> bool:
    """True for a URL that is written from the root and that does not lead below the prefix. A <base> or a missing slash may
    lead others there: these have rules of their own. `/#x` is a place in the first page, for a router in scripts."""
    return visit.is_root_relative and not visit.url.startswith("/#") and seen.leaves_prefix(visit)


def _reaches_service(seen: Observation, visit: Visit) -> bool:
    """Whether the browser's request comes to the service, for a visit outside the prefix."""
    if hides_referrer(seen):
        return False
    if visit.kind in _NAVIGATIONS:
        path = visit.proxied_url
        return can_be_redirected(seen) and (path == "/" or _is_redirected_post(seen, visit) or not leads_to_jupyter(seen, path))
    if visit.kind == "fetch" or (visit.direct is None and visit.proxied is None):  # not requested
        return can_be_redirected(seen)
    return visit.proxied is not None and visit.proxied.is_ok


def _is_redirected_post(seen: Observation, visit: Visit) -> bool:
    """True for a form that is redirected also where Jupyter has a page: at the base URL `/`, all but the gateway's own URLs."""
    return visit.kind == "post" and seen.target.base_url == "/" and not is_below_proxy(visit.proxied_url, "/")


def _exists(visit: Visit) -> bool:
    """False for what fails on localhost, too."""
    return visit.direct is None or visit.direct.is_ok


# ---- URLs at the root ----


def find_root_relative(seen: Observation) -> Iterator[Finding]:
    kinds: tuple[VisitKind, ...] = (*_PARTS, "fetch", "link", "form", "post")
    lost = [v for v in seen.of_kind(*kinds) if is_from_root(seen, v) and _exists(v) and not _reaches_service(seen, v)]
    lost = [v for v in lost if not _is_script_redirect(v)]
    if not lost:
        return
    first = min(lost, key=lambda visit: kinds.index(visit.kind))
    if first.kind in _NAVIGATIONS and leads_to_jupyter(seen, first.proxied_url):
        why = "which is a page of Jupyter"
    elif hides_referrer(seen):
        why = "and its Referrer-Policy keeps the server from redirecting that"
    elif seen.target.is_behind_hub:
        why = "where JupyterHub gets the request"
    else:
        why = "which is not below its prefix"
    verb = {"link": "links to", "form": "sends a form to", "post": "sends a form to", "fetch": "requests"}.get(
        first.kind, "loads"
    )
    sentence = f"The page {verb} {name_urls(lost)} at the root of the server, {why}."
    yield Finding("root-relative-url", sentence, first.source)


def find_redirected(seen: Observation) -> Iterator[Finding]:
    kinds: tuple[VisitKind, ...] = (*_PARTS, "fetch", "form", "post", "link")
    found = [v for v in seen.of_kind(*kinds) if is_from_root(seen, v) and _exists(v) and _reaches_service(seen, v)]
    found = [v for v in found if v.kind != "link" or v.proxied_url.partition("?")[0] != "/"] + _redirected_refreshes(seen)
    if not found:
        return
    modules = [v for v in found if v.kind == "script" and v.proxied is not None and _IMPORT.search(v.proxied.text)]
    doubled = " A module that other modules import runs twice then." if modules else ""
    first = modules[0] if modules else found[0]
    yield Finding(
        "root-relative-url-redirected",
        f"{name_urls(found)} is at the root of the server. It works here, as this server redirects it by "
        f"its Referer; behind JupyterHub it does not.{doubled}",
        first.source,
    )


_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']\.{1,2}/""")


def _redirected_refreshes(seen: Observation) -> list[Visit]:
    """`<meta http-equiv=refresh>` to a path at the root that comes to the service."""
    found = []
    for page, meta, written in _refreshes(seen):
        path = urljoin(page.proxied_url, written)
        visit = Visit("link", written, meta.evidence, "", path)
        if visit.is_root_relative and seen.leaves_prefix(visit) and path != "/" and _reaches_service(seen, visit):
            found.append(visit)
    return found


def find_base_href(seen: Observation) -> Iterator[Finding]:
    response = seen.page.proxied or seen.page.direct
    document = response.document if response is not None else None
    if document is None or document.base is None:
        return
    url = urljoin(seen.target.jupyter_origin + seen.page.proxied_url, document.base_href.strip())
    origin = seen.target.jupyter_origin
    if url.startswith(("http:", "https:")) and not (url.startswith(f"{origin}/") and seen.target.has_below(url[len(origin) :])):
        sentence = f"<base href={make_excerpt(document.base_href)}> moves all relative URLs of the page out of its prefix."
        yield Finding("base-href", sentence, document.base)


def find_trailing_slash(seen: Observation) -> Iterator[Finding]:
    path = seen.page.proxied_url.partition("?")[0]
    name = path.rpartition("/")[2]
    response = seen.page.proxied or seen.page.direct
    has_base = response is not None and response.document is not None and response.document.base is not None
    if not name or "." in name or has_base:
        return
    relative = [v for v in seen.of_kind("script", "style") if _is_relative(v.url) and v.proxied is not None]
    failed = [v for v in relative if v.proxied is not None and not v.proxied.is_ok]
    if failed == relative and failed:
        first = failed[0]
        sentence = f"The page is at {make_excerpt(path)} without a slash at its end, so that {name_urls(failed)} is not found."
        yield Finding("trailing-slash", sentence, first.source, (f"Open it with the slash: {path}/",), f"{path}/")


def find_failing_parts(seen: Observation) -> Iterator[Finding]:
    broken = [v for v in seen.of_kind(*_PARTS) if v.is_broken and not seen.leaves_prefix(v) and v.proxied_url.startswith("/")]
    if broken:
        first = broken[0]
        assert first.direct is not None  # it is broken
        assert first.proxied is not None
        status = first.proxied.error or first.proxied.status
        sentence = f"{name_urls(broken)} has the status {first.direct.status} on localhost and {status} through Jupyter."
        yield Finding("part-fails", sentence, first.source)


# ---- URLs of other origins ----


def find_localhost(seen: Observation) -> Iterator[Finding]:
    named = [v for v in seen.pages if v.kind != "page" and _is_absolute(v.url) and _leads_to_browser(seen, v)]
    first = min(named, key=lambda visit: visit.kind in _NAVIGATIONS, default=None)
    if first is not None:
        sentence = f"The page has the URL {name_urls(named)}, which leads to the machine of the browser."
        yield Finding("localhost-url", sentence, first.source)
    elif seen.target.port is not None:
        own = re.compile(rf"{_LOCAL_URL}{seen.target.port})\b")
        for code in seen.codes:
            for match in code.find(own):
                url = match[1].replace("\\/", "/")
                sentence = f"The page has the URL {make_excerpt(url)}, which leads to the machine of the browser."
                yield Finding("localhost-url", sentence, locate(code.file, code.text, *match.span(1)))
                return


def _leads_to_browser(seen: Observation, visit: Visit) -> bool:
    """True for a URL of a loopback address that a browser requests, and that is not Jupyter's own."""
    url = _http(visit.url if visit.url.lstrip()[:2] != "//" else f"http:{visit.url.strip()}")
    if visit.proxied_url.startswith("/") or not is_loopback(host_of(url)):
        return False
    if visit.kind != "socket" or f":{seen.target.port}" in url:
        return True
    return _stands_behind(_OPENS, visit)  # libraries have constants for their own servers: only what is opened counts


def find_mixed_content(seen: Observation) -> Iterator[Finding]:
    if not seen.target.is_secure:
        return
    kinds: tuple[VisitKind, ...] = (*_PARTS, "worker", "fetch", "socket")
    plain = [v for v in seen.of_kind(*kinds) if v.url.strip().lower().startswith(("http://", "ws://"))]
    plain = [v for v in plain if not is_loopback(host_of(_http(v.url)))]
    if plain:
        first = plain[0]
        sentence = f"The page is at https, and loads {name_urls(plain)} without encryption: browsers block that."
        yield Finding("mixed-content", sentence, first.source)
        return
    for code in seen.codes:
        for match in code.find(_PLAIN_SOCKET):
            before = code.text[max(0, match.start() - _CHOICE) : match.start()]
            if "wss" not in before and "https" not in before:
                sentence = "The page is at https, and opens a WebSocket by ws:// without encryption: browsers block that."
                yield Finding("mixed-content", sentence, locate(code.file, code.text, *match.span()))
                return


# ---- WebSockets and workers ----


def find_root_sockets(seen: Observation) -> Iterator[Finding]:
    lost = [v for v in seen.of_kind("socket") if seen.leaves_prefix(v) and not _is_missing(v)]
    if lost:
        first = lost[0]
        url = make_excerpt(first.proxied_url)
        sentence = f"A WebSocket is opened at {url}, outside of the prefix, and nothing redirects it."
        yield Finding("root-websocket", sentence, first.source)
    elif any(_SOCKET_IO.search(visit.url) for visit in seen.of_kind("script")):
        for code in seen.codes:
            match = None if _SOCKET_IO.search(code.file) else _find_io_call(code)
            if match is not None:
                remedy = 'Give it the path: `io({path: location.pathname + "socket.io"})`.'
                sentence = "Socket.IO connects at /socket.io/, outside of the prefix: its WebSocket is not redirected."
                yield Finding("root-websocket", sentence, locate(code.file, code.text, *match.span()), (remedy,))
                return


def _find_io_call(code: Code) -> re.Match[str] | None:
    """A connection of Socket.IO without a path."""
    if _OWN_IO.search(code.mask) is not None:
        return None
    for call in _IO_CALL.finditer(code.mask):
        if _DEFINES.match(code.mask, call.end()) is not None:
            continue
        end = code.mask.find(";", call.end(), call.end() + _MAX_OPTIONS)
        if _PATH_OPTION.search(code.mask, call.end(), end if end >= 0 else call.end() + _MAX_OPTIONS) is None:
            return call
    return None


def find_refused_sockets(seen: Observation) -> Iterator[Finding]:
    for visit in seen.of_kind("socket"):
        direct, proxied = visit.direct, visit.proxied
        if proxied is None or proxied.status == 101 or seen.leaves_prefix(visit) or _is_missing(visit):
            continue
        status = proxied.error or proxied.status
        if direct is not None and direct.status == 101:
            sentence = f"The WebSocket {make_excerpt(visit.url)} opens on localhost, and is refused through Jupyter ({status})."
        elif proxied.status in (401, 403):
            sentence = f"The service refuses the WebSocket {make_excerpt(visit.url)} ({status}), also on localhost."
        else:
            continue
        yield Finding("websocket-refused", sentence, visit.source)
        return


def find_worker_scope(seen: Observation) -> Iterator[Finding]:
    for visit in seen.of_kind("worker"):
        if seen.leaves_prefix(visit):
            sentence = (
                f"The service worker {make_excerpt(visit.url)} is at the root of the server: browsers follow no redirect to one."
            )
            yield Finding("service-worker-scope", sentence, visit.source)
            return
        allowed = visit.direct.field("service-worker-allowed") if visit.direct is not None else ""
        if allowed and visit.proxied is not None and not visit.proxied.field("service-worker-allowed"):
            sentence = (
                f"The service worker's scope {make_excerpt(allowed)} is larger than the service's prefix, and does not pass."
            )
            yield Finding("service-worker-scope", sentence, locate_field(visit.direct_url, "Service-Worker-Allowed", allowed))
            return
    for code in seen.codes:
        for match in code.find(_REGISTER):
            scope = urlsplit(urljoin(seen.target.jupyter_origin + seen.page.proxied_url, match["scope"])).path
            if not seen.target.has_below(scope):
                sentence = f"The service worker's scope {make_excerpt(match['scope'])} is not below the service's prefix."
                yield Finding("service-worker-scope", sentence, locate(code.file, code.text, *match.span("scope")))
                return


# ---- pages that lead to others by content ----


def find_content_redirects(seen: Observation) -> Iterator[Finding]:
    """`<meta http-equiv=refresh>`, and scripts that assign to `location`."""
    for page, meta, written in _refreshes(seen):
        url = urljoin(seen.target.jupyter_origin + page.proxied_url, written)
        yield from _content_redirect(seen, written, url, meta.evidence)
    pages = {page.direct_url for page in seen.of_kind("page")}
    for visit in seen.of_kind("link"):
        if visit.url == "/" and visit.source.file not in pages:
            continue  # libraries lead there from their error pages
        if _is_script_redirect(visit):
            yield from _content_redirect(seen, visit.url, seen.target.jupyter_origin + visit.proxied_url, visit.source)
            return


def _content_redirect(seen: Observation, written: str, url: str, evidence: Evidence) -> Iterator[Finding]:
    origin = seen.target.jupyter_origin
    if not url.startswith(f"{origin}/"):
        if is_loopback(host_of(url)):
            yield Finding(
                "redirect-outside-prefix", f"The page leads to {make_excerpt(written)}, on the machine of the browser.", evidence
            )
        return
    path = url[len(origin) :]
    if seen.target.has_below(path):
        return
    if can_be_redirected(seen) and not leads_to_jupyter(seen, path):
        return  # a notice
    where = "a page of Jupyter" if leads_to_jupyter(seen, path) else "the root of the server"
    yield Finding(
        "redirect-outside-prefix", f"The page leads to {make_excerpt(written)}, {where}, and not below its prefix.", evidence
    )


def _is_script_redirect(visit: Visit) -> bool:
    """True if a script assigns the URL to `location`; False for the `href` of an element."""
    return visit.kind == "link" and _stands_behind(_ASSIGNS, visit)


def _stands_behind(pattern: re.Pattern[str], visit: Visit) -> bool:
    """True if the source of a visit has its URL directly behind a match."""
    excerpt = visit.source.excerpt
    return any(excerpt.startswith(visit.url, match.end()) for match in pattern.finditer(excerpt))


# ---- helpers ----


def _refreshes(seen: Observation) -> Iterator[tuple[Visit, MetaTag, str]]:
    """Pages with a `<meta http-equiv=refresh>`, and the URLs there."""
    for page in seen.of_kind("page"):
        response = page.proxied or page.direct
        meta = response.document.meta("refresh") if response is not None and response.document is not None else None
        if meta is not None and (written := parse_refresh(meta.value)[1]):
            yield page, meta, written


def _is_missing(visit: Visit) -> bool:
    """True for a WebSocket that the service does not have: a script may name some that it never opens."""
    return visit.direct is not None and visit.direct.status in (0, 200, 404, 405)


def _is_absolute(url: str) -> bool:
    return re.match(r"\s*(?:(?:https?|wss?):)?//", url, re.IGNORECASE) is not None


def _is_relative(url: str) -> bool:
    return re.match(r"\s*(?:[a-z][a-z0-9+.-]*:|/)", url, re.IGNORECASE) is None


def _http(url: str) -> str:
    return re.sub(r"^\s*ws", "http", url, count=1, flags=re.IGNORECASE)
