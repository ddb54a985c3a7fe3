"""Which page sent a request, by Fetch Metadata and Origin, and whether it may (RFC 6454; W3C Fetch Metadata)."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from tornado.httputil import HTTPServerRequest

from ..protocol.forwarded import SCHEMES, find_client_schemes
from ..protocol.frame_ancestors import FRAME_ELEMENTS
from ..protocol.urls import strip_origin


def is_navigation(request: HTTPServerRequest) -> bool:
    """True if a browser navigates to a page; False for a part of a page, and for programs."""
    headers = request.headers
    if request.method not in ("GET", "HEAD") or "Upgrade" in headers:
        return False
    mode = headers.get("Sec-Fetch-Mode")
    return mode == "navigate" if mode else "text/html" in headers.get("Accept", "")


def is_framed(request: HTTPServerRequest) -> bool:
    """True if the response is to be shown in a frame of a page."""
    return request.headers.get("Sec-Fetch-Dest") in FRAME_ELEMENTS


def is_manifest(request: HTTPServerRequest) -> bool:
    """True if a browser fetches the web app manifest of a page of this origin, which it does without cookies."""
    headers = request.headers
    is_own = headers.get("Sec-Fetch-Dest") == "manifest" and headers.get("Sec-Fetch-Site") == "same-origin"
    return is_own and request.method == "GET"


def is_worker_script(request: HTTPServerRequest) -> bool:
    """True if a browser fetches the script of a service worker of this origin, to install the worker or to renew it."""
    headers = request.headers
    is_own = headers.get("Sec-Fetch-Dest") == "serviceworker" and headers.get("Sec-Fetch-Site") == "same-origin"
    return is_own and request.method == "GET"


def is_same_site(request: HTTPServerRequest, is_allowed: Callable[[str], bool]) -> bool:
    """True unless a page of another site sent the request.

    A form of a page under `Referrer-Policy: no-referrer` is sent with `Origin: null` and `Sec-Fetch-Site: same-origin`.

    Args:
        is_allowed: True for an Origin, in lower case, that may send requests.
    """
    headers = request.headers
    site, origin = headers.get("Sec-Fetch-Site", "none"), headers.get("Origin")
    if site not in ("same-origin", "none"):
        return _is_link(request) or is_allowed((origin or "").lower())
    return origin is None or (site == "same-origin" and origin == "null") or is_allowed(origin.lower())


def is_own_origin(request: HTTPServerRequest, origin: str, hosts: Iterable[str]) -> bool:
    """True if an Origin is the request's own. `Sec-Fetch-Site` is what the browser has found when it compared them.

    Args:
        hosts: of the request, with or without the default port: reverse proxies send `hub.example:443`, browsers leave it out.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in ("same-origin", "none") or not any(strip_origin(origin, host) == "" for host in hosts):
        return False
    return origin.partition("://")[0] in (SCHEMES if site == "same-origin" else client_schemes(request))


def is_jupyter_origin(request: HTTPServerRequest, origin: str, hosts: Iterable[str], settings: Mapping[str, Any]) -> bool:
    """True for the request's own origin, and for those that Jupyter is configured to allow (allow_origin, allow_origin_pat)."""
    if is_own_origin(request, origin, hosts):
        return True
    allowed, pattern = settings.get("allow_origin", ""), settings.get("allow_origin_pat")
    if not origin or allowed:
        return bool(origin) and allowed in ("*", origin)
    return bool(pattern and re.fullmatch(pattern, origin))


def client_schemes(request: HTTPServerRequest) -> Collection[str]:
    return find_client_schemes(request.headers, request.protocol)


def _is_link(request: HTTPServerRequest) -> bool:
    """True for a GET or HEAD that a link on another site causes: a top-level navigation."""
    headers = request.headers
    return is_navigation(request) and "Sec-Fetch-Mode" in headers and headers.get("Sec-Fetch-Dest", "document") == "document"
