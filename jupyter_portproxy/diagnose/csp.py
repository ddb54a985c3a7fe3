"""Which requests a Content-Security-Policy blocks (CSP Level 3, 6.7). Pure.

What depends on an element, such as a nonce or a hash, counts as allowed: only what every browser blocks counts as blocked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

from ..protocol.frame_ancestors import PORTS, fits_port

Policy = Mapping[str, tuple[str, ...]]  # name of a directive in lower case -> its sources

# Kind of request -> the directives of which the first that the policy has decides (6.8.4).
DIRECTIVES: Mapping[str, tuple[str, ...]] = {
    "script": ("script-src-elem", "script-src", "default-src"),
    "style": ("style-src-elem", "style-src", "default-src"),
    "image": ("img-src", "default-src"),
    "font": ("font-src", "default-src"),
    "manifest": ("manifest-src", "default-src"),
    "frame": ("frame-src", "child-src", "default-src"),
    "worker": ("worker-src", "child-src", "script-src", "default-src"),
    "socket": ("connect-src", "default-src"),
    "fetch": ("connect-src", "default-src"),
    "form": ("form-action",),
    "post": ("form-action",),
    "base": ("base-uri",),
}
_SOURCE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\*|(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}|\*))?(?P<path>/.*)?\Z",
    re.IGNORECASE,
)
_SECURE = {"http": ("http", "https"), "ws": ("ws", "wss", "http", "https"), "wss": ("wss", "https"), "https": ("https",)}
_OF_ELEMENTS = ("'nonce-", "'sha256-", "'sha384-", "'sha512-", "'strict-dynamic'")


def parse_policies(values: Iterable[str]) -> list[Policy]:
    """The policies of header fields or `<meta>` tags; a value may have several, separated by commas."""
    return [policy for value in values for text in value.split(",") if (policy := _parse(text))]


def find_blocking(policy: Policy, kind: str, url: str, own: str) -> str:
    """The directive that blocks a request; empty if it is allowed.

    Args:
        url: absolute, of the request.
        own: origin of the page.
    """
    directive = next((name for name in DIRECTIVES.get(kind, ()) if name in policy), "")
    if not directive:
        return ""
    sources = policy[directive]
    if any(source.lower().startswith(_OF_ELEMENTS) for source in sources) or any(
        _matches(source, url, own) for source in sources
    ):
        return ""
    return directive


def _parse(text: str) -> Policy:
    policy: dict[str, tuple[str, ...]] = {}
    for directive in text.split(";"):
        name, *sources = directive.split() or [""]
        if name:
            policy.setdefault(name.lower(), tuple(sources))  # of two, the first counts
    return policy


def _matches(source: str, url: str, own: str) -> bool:
    try:
        asked, page = urlsplit(url), urlsplit(own)
        port, own_port = asked.port or PORTS.get(asked.scheme), page.port or PORTS.get(page.scheme)
    except ValueError:  # an invalid port
        return True
    expression = source.lower()
    if expression == "'self'":
        is_newer = asked.scheme in ("https", "wss") or asked.scheme.replace("ws", "http") == page.scheme
        return asked.hostname == page.hostname and port == own_port and is_newer
    if expression == "*":
        return asked.scheme in PORTS
    if expression.endswith(":"):
        return asked.scheme in _SECURE.get(expression[:-1], (expression[:-1],))
    match = _SOURCE.match(source)
    if match is None:
        return False
    scheme = (match["scheme"] or page.scheme).lower()
    is_scheme = asked.scheme in _SECURE.get(scheme, (scheme,)) or (not match["scheme"] and asked.scheme in ("ws", "wss"))
    return (
        is_scheme
        and _is_host(match["host"].lower(), asked.hostname or "")
        and fits_port(match["port"], port, asked.scheme)
        and (not match["path"] or _is_path(match["path"], asked.path or "/"))
    )


def _is_host(wanted: str, host: str) -> bool:
    return wanted == "*" or (host.endswith(wanted[1:]) if wanted.startswith("*.") else host == wanted.strip("[]"))


def _is_path(wanted: str, path: str) -> bool:
    wanted, path = unquote(wanted), unquote(path)
    return path.startswith(wanted) if wanted.endswith("/") else path == wanted
