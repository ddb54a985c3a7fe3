"""Which pages may show a response in a frame: X-Frame-Options (HTML Living Standard, 7.5) and the directive frame-ancestors
(CSP Level 3, 6.4.2).

A response counts as forbidden only if every browser would refuse to show it; doubtful ones count as allowed.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .framing import Fields
from .urls import DEFAULT_PORTS

FRAME_ELEMENTS = frozenset({"iframe", "frame"})  # Sec-Fetch-Dest of pages in frames
FRAME_DESTINATIONS = FRAME_ELEMENTS | {"embed", "object"}  # Sec-Fetch-Dest of content inside another page
_DIRECTIVE = re.compile(
    r"(?:(?<=;)|(?<=,)|\A)[\t\n\f\r ]*frame-ancestors(?![^\t\n\f\r ;,])(?P<sources>[^;,]*)", re.IGNORECASE | re.ASCII
)
_SOURCE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]*)://)?(?P<host>\*|[^:/]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}|\*))?(?:/.*)?\Z"
)
_MAX_SOURCES = 4096  # characters of all policies; longer ones are not evaluated
_OPTIONS = frozenset({"deny", "sameorigin", "allowall"})
PORTS = {**DEFAULT_PORTS, "ws": 80, "wss": 443}


def denies_frames(fields: Fields) -> bool:
    """True if X-Frame-Options forbids every frame: `DENY`, or contradictory values."""
    lines = [value for name, value in fields if name.lower() == "x-frame-options"]
    options = {value.strip().lower() for line in lines for value in line.split(",")}
    return "deny" in options or (len(options) > 1 and bool(options & _OPTIONS))


def find_frame_policies(fields: Fields) -> list[str]:
    """The sources of each frame-ancestors directive; a page must be allowed by all of them."""
    lines = [value for name, value in fields if name.lower() == "content-security-policy"]
    directives = (_DIRECTIVE.search(policy) for line in lines for policy in line.split(","))
    return [match["sources"] for match in directives if match]


def allow_framing(fields: Fields, embedder: str) -> Fields:
    """A response's fields with a policy that lets the response's own origin and `embedder` show it in a frame.

    A policy of the response's own is only widened, and only where it lists 'self'; a response that denies all frames stays.
    X-Frame-Options cannot name another origin; Content-Security-Policy can, and overrides it.
    """
    restricted = bool(find_frame_policies(fields))
    if denies_frames(fields) and not restricted:
        return fields
    out = [(name, value) for name, value in fields if name.lower() != "x-frame-options"]
    if not restricted:
        return [*out, ("Content-Security-Policy", f"frame-ancestors 'self' {embedder}".strip())]

    def widen(match: re.Match[str]) -> str:
        return f"{match[0]} {embedder}" if "'self'" in match[0].lower() else match[0]

    return [(name, _DIRECTIVE.sub(widen, value) if name.lower() == "content-security-policy" else value) for name, value in out]


def forbids_frame(fields: Fields, own: str, ancestors: set[str]) -> bool:
    """True if no page of `ancestors` may show the response in a frame.

    Args:
        fields: of the client's response.
        own: origin of the response.
        ancestors: origins of which one shows the response; one that is allowed is enough.
    """
    restrictions = find_frame_policies(fields)
    if not restrictions:  # frame-ancestors overrides X-Frame-Options
        return denies_frames(fields)
    if sum(map(len, restrictions)) > _MAX_SOURCES:
        return False
    return not all(any(_admits(sources, own, origin) for origin in ancestors) for sources in restrictions)


def _admits(sources: str, own: str, ancestor: str) -> bool:
    scheme, host, port = _parts(ancestor)
    is_own = ancestor == own
    return any(is_own if source == "'self'" else _matches(source, own, scheme, host, port) for source in sources.lower().split())


def _matches(source: str, own: str, scheme: str, host: str, port: int) -> bool:
    """Match one source expression; one that allows http allows https, too."""
    if source.endswith(":"):
        return scheme in (source[:-1], source[:-1] + "s")
    match = _SOURCE.match(source)
    if match is None:
        return False
    wanted = match["scheme"] or own.partition(":")[0]
    if source != "*" and scheme not in (wanted, wanted + "s"):
        return False
    if match["host"].startswith("*"):
        return host.endswith(match["host"][1:]) and (source == "*" or fits_port(match["port"], port, scheme))
    return host == match["host"].strip("[]") and fits_port(match["port"], port, scheme)


def fits_port(wanted: str | None, port: int | None, scheme: str) -> bool:
    """True if the port of a source expression, or of its scheme without one, matches (CSP Level 3, 6.7)."""
    return wanted == "*" or port == (int(wanted) if wanted else PORTS.get(scheme)) or (wanted == "80" and port == 443)


def _parts(origin: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(origin)
        return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:  # an invalid port
        return "", "", 0
