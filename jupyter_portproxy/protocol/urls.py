"""Routes: the gateway's URLs, parsed; and the parsers of ports, host names, origins and paths.

Paths and queries are split, never decoded: what follows the port reaches the upstream byte for byte as the client sent it. A
`str` is a part of the request line, decoded as latin-1: one character per byte.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar

from ..errors import BadRoute, GatewayError

if TYPE_CHECKING:
    from .named_project_urls import NamedProjectRoute
    from .project_urls import ProjectRoute

_PORT = re.compile(r"[1-9][0-9]{0,4}\Z", re.ASCII)
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\Z", re.ASCII)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]/]*\]|[^:/\[\]]*):(?P<port>[^/]*)\Z")
_SHORT = re.compile(r"(?P<form>port|server)/(?P<port>[0-9][^/]*)", re.ASCII)
_ABSOLUTE = re.compile(r"(?:(?P<scheme>https?):)?//(?P<authority>[^/?#]*)(?P<rest>.*)\Z", re.IGNORECASE | re.DOTALL)
_DOT_SEGMENTS = re.compile(r"(?:/|%2f|\\)(?:\.|%2e){2}(?:/|%2f|\\|\Z)", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# Characters that mean the same percent-encoded or not: visible ASCII but for the delimiters of paths and segments.
_EQUIVALENT = frozenset(map(chr, range(0x21, 0x7F))) - frozenset("#%/?\\")
LOOPBACK_NAME = "localhost"
_BLANKS = " \t\n\r\f\v"
_MAX_LITERAL = 45  # characters of an IPv6 address that ends with an IPv4 address
DEFAULT_PORTS = {"http": 80, "https": 443}
_DEFAULT_PORT_SUFFIXES = {scheme: f":{port}" for scheme, port in DEFAULT_PORTS.items()}
# First path segments below `base_url` of Jupyter's own pages and of its extensions: services cannot have these names.
RESERVED_NAMES = frozenset([
    "api", "auth", "config", "custom", "doc", "edit", "favicon.ico", "files", "gateway", "hub", "jupyter", "kernelspecs",
    "lab", "labextensions", "login", "logo", "logout", "lsp", "metrics", "nbclassic", "nbconvert", "nbextensions",
    "notebooks", "oauth_callback", "port", "proxy", "server", "server-proxy", "services", "static", "template", "terminals",
    "themes", "tree", "user", "view", "voila",
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Upstream:
    """The server to connect to.

    Attributes:
        host: the name or address literal of the URL, without brackets; "localhost" for a bare port.
        port: 1 to 65535.
        addresses: IP literals to connect to, in order; policy has approved each.
        unix_socket: path of the Unix socket to connect to instead, if not empty.
        scheme: "http", "https" for TLS, or "tcp" for a raw byte stream.
        owner: the uid that must hold the listening socket; None: this server's user or root.
        group: letters, digits, `.`, `_` and `-`; connections are kept for upstreams of the same group alone.
    """

    host: str
    port: int
    addresses: tuple[str, ...]
    unix_socket: str = ""
    scheme: str = "http"
    owner: int | None = None
    group: str = ""

    @property
    def origin(self) -> str:
        """The value of Origin (RFC 6454 6.2)."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of Host (RFC 9110 7.2), without the scheme's default port."""
        host = bracket_host(self.host)
        return host if self.port == DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"


D = TypeVar("D")
D_co = TypeVar("D_co", covariant=True)


class Resolver(Protocol[D_co]):
    """Finds the destination of a route: one method for each kind. Each raises GatewayError."""

    async def resolve_port(self, route: Route) -> D_co: ...

    async def resolve_service(self, route: ServiceRoute) -> D_co: ...

    async def resolve_project(self, route: ProjectRoute | NamedProjectRoute) -> D_co: ...


class Redirected(Exception):
    """The response is a redirect."""

    def __init__(self, to: Redirect) -> None:
        super().__init__(to.location)
        self.to = to


class BaseRoute:
    """A parsed request URL.

    Attributes:
        is_local: it leads to a port or service of this server, not to a project.
        is_project: it leads to a project.
        is_redirect: it leads to another URL only.
        service: name of the service that it leads to; empty for any other route.
        needs_login: False if the response follows from the request alone, without information about this server.
        scheme: "https" for TLS to the upstream; "tcp" for a raw byte stream to it.
        tcp_target: of a route for raw TCP the port or service, in a project `KEY/` and that; empty for any other route.
    """

    __slots__ = ()
    is_local: ClassVar[bool] = False
    is_project: ClassVar[bool] = False
    is_redirect: ClassVar[bool] = False
    needs_login: bool = True
    scheme: str = "http"

    @property
    def service(self) -> str:
        return ""

    @property
    def target_name(self) -> str:
        """The port or the name of the service that it leads to; empty for any other route."""
        return ""

    @property
    def tcp_target(self) -> str:
        return ""

    @property
    def project_owner(self) -> str | None:
        """The owner in the URL of a project that is addressed by owner and name alone; None for any other route."""
        return None

    @property
    def isolated_target(self) -> tuple[str, str] | None:
        """Port or service name, and path with query, with which the isolated origin is entered; None without such an origin."""
        return None

    @property
    def stable_prefix(self) -> str:
        """The prefix below which all paths lead to the same destination, without a final slash; empty without one."""
        return ""

    async def resolve(self, resolver: Resolver[D]) -> D:
        """The destination. Raises: Redirected, GatewayError"""
        raise NotImplementedError

    def at(self, uri: str) -> BaseRoute:
        """The route of another request target below `stable_prefix`."""
        return self

    def canonical(
        self, sees_prefix: Callable[[str], bool], prefix_of: Callable[[str], str | None], *, upgrade: bool
    ) -> BaseRoute:
        """The route itself, or a redirect to the one URL of a service.

        Args:
            sees_prefix: True if the service of that name gets the whole path.
            prefix_of: the path of the service of that name, or None.
            upgrade: a WebSocket request; its clients do not follow redirects.
        """
        return self

    def at_slash(self, find: Callable[[str], BaseRoute | None]) -> BaseRoute | None:
        """The route with its final slash; `find` parses a request target."""
        return self

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        """The prefix that is removed from the path for the upstream; empty if none is removed, None if that is unknown.

        Args:
            keeps_prefix: True if the template of that name keeps the prefix.
        """
        return ""


@dataclass(frozen=True, slots=True)
class Route(BaseRoute):
    """The route of a port.

    Attributes:
        host: name or address literal, lower case, no brackets.
        port: 1 to 65535.
        prefix: the part of the path that leads to the service, without a final slash, as sent.
        path: the path below the prefix, as sent; empty if the slash after the port is missing. A service that sees the prefix
            gets that path unchanged: some redirect to it (Next.js).
        query: the query with its `?`, as sent; empty if there is none.
        keep_prefix: True if the upstream sees the prefix, too ("absolute" in the URL).
    """

    is_local: ClassVar[bool] = True
    host: str
    port: int
    prefix: str
    path: str
    query: str
    keep_prefix: bool = False
    scheme: str = "http"

    @property
    def target(self) -> str:
        """The request target for the upstream (RFC 9112 3.2.1)."""
        return f"{self.prefix}{self.path}{self.query}" if self.keep_prefix else f"{self.path or '/'}{self.query}"

    @property
    def target_name(self) -> str:
        return str(self.port) if is_loopback(self.host) else ""

    @property
    def with_slash(self) -> str:
        """The URL with the final slash that is missing; empty if it is not missing."""
        return f"{self.prefix}/{self.query}" if self.keep_prefix and not self.path else ""

    @property
    def isolated_target(self) -> tuple[str, str] | None:
        return (self.target_name, self.target) if self.target_name and not self.tcp_target else None

    @property
    def stable_prefix(self) -> str:
        return self.prefix if is_loopback(self.host) else ""  # a name may resolve to another address the next time

    @property
    def tcp_target(self) -> str:
        return str(self.port) if self.scheme == "tcp" else ""

    async def resolve(self, resolver: Resolver[D]) -> D:
        return await resolver.resolve_port(self)

    def at(self, uri: str) -> Route:
        path, mark, query = uri.partition("?")
        return replace(self, path=path[len(self.prefix) :], query=mark + query)

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        return "" if self.keep_prefix else self.prefix


@dataclass(frozen=True, slots=True)
class ServiceRoute(BaseRoute):
    """The route of a service by its name. Prefix, path and query are those of a Route."""

    is_local: ClassVar[bool] = True
    name: str
    prefix: str
    path: str
    query: str
    scheme: str = "http"

    @property
    def service(self) -> str:
        return self.name

    @property
    def target_name(self) -> str:
        return self.name

    @property
    def isolated_target(self) -> tuple[str, str] | None:
        return None if self.tcp_target else (self.name, f"{self.path or '/'}{self.query}")

    @property
    def tcp_target(self) -> str:
        return self.name if self.scheme == "tcp" else ""

    @property
    def stable_prefix(self) -> str:
        return self.prefix

    async def resolve(self, resolver: Resolver[D]) -> D:
        return await resolver.resolve_service(self)

    def at(self, uri: str) -> ServiceRoute:
        path, mark, query = uri.partition("?")
        return replace(self, path=path[len(self.prefix) :], query=mark + query)

    def canonical(
        self, sees_prefix: Callable[[str], bool], prefix_of: Callable[[str], str | None], *, upgrade: bool
    ) -> BaseRoute:
        if self.tcp_target:
            return self
        if not self.path and not sees_prefix(self.name):
            return Redirect(f"{self.prefix}/{self.query}", 308)
        prefix = None if upgrade else prefix_of(self.name)
        return self if prefix in (None, self.prefix) else Redirect(f"{prefix}{self.path}{self.query}", 307)

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        return "" if keeps_prefix(self.name) else self.prefix


@dataclass(frozen=True, slots=True)
class Redirect(BaseRoute):
    """A URL of the gateway that redirects.

    Attributes:
        location: a path; a URL with scheme and host where it leads into an isolated origin or out of one.
        status: 302, 303, 307 or 308.
        by_referer: from the root to the service whose page has sent the request.
    """

    is_redirect: ClassVar[bool] = True
    location: str
    status: int
    needs_login: bool = True
    by_referer: bool = False

    async def resolve(self, resolver: Resolver[D]) -> D:
        raise Redirected(self)

    def at_slash(self, find: Callable[[str], BaseRoute | None]) -> BaseRoute | None:
        return find(self.location) if self.status == 308 else self


@dataclass(frozen=True, slots=True)
class InvalidRoute(BaseRoute):
    """An invalid URL of the gateway; the error is shown after login."""

    error: GatewayError

    async def resolve(self, resolver: Resolver[D]) -> D:
        raise self.error


def parse_url(uri: str, base_url: str) -> Route | ServiceRoute | Redirect | None:
    """Parse a request target; None if it is not one of the gateway's URLs.

    Args:
        base_url: the server's, with a slash at both ends.

    Raises:
        BadRoute: a port or host in it is invalid.
    """
    root = base_url + "proxy/"
    path, mark, rest = uri.partition("?")
    query = mark + rest
    if not uri.startswith(root):
        return _parse_short_url(path, base_url, query)
    if path.startswith("service/", len(root)):
        name = path[len(root) + len("service/") :].partition("/")[0]
        return build_service_route(name, uri, f"{root}service/{name}")
    if path.startswith("tcp/", len(root)):
        return _parse_tcp_url(path, len(root) + len("tcp/"), query)
    keep_prefix = path.startswith("absolute/", len(root))
    start = len(root) + (len("absolute/") if keep_prefix else 0)
    if not keep_prefix and start == len(path):
        return _redirect_port_parameter(root, query)
    scheme = "https" if path.startswith("https/", start) else "http"
    start += len("https/") if scheme == "https" else 0
    bare = scheme == "http" and path.startswith("port/", start)
    start += len("port/") if bare else 0
    segment, slash, below = path[start:].partition("/")
    prefix = path[: start + len(segment)]
    if bare:
        host, port = LOOPBACK_NAME, parse_port(segment)
    elif "@" in segment or (":" not in segment and ip_literal(segment) is not None):
        return None  # user information, or a host without a port
    elif ":" in segment:
        host, port = parse_authority(segment)
    elif segment and segment[0] in "0123456789+-%":
        host, port = LOOPBACK_NAME, parse_port(segment)
    else:
        return None
    if not slash and not keep_prefix:
        return Redirect(f"{prefix}/{query}", 308)
    return Route(host, port, prefix, slash + below, query, keep_prefix, scheme)


def parse_enter_url(uri: str, base_url: str) -> tuple[str, str] | None:
    """`{base_url}proxy/enter/TARGET/x?q` -> (target, `/x?q`): from Jupyter into the isolated origin of a port or service."""
    root = base_url + "proxy/enter/"
    if not uri.startswith(root):
        return None
    target, slash, below = uri[len(root) :].partition("/")
    target, mark, query = target.partition("?")
    return target, f"/{below}" if slash and not mark else f"/{mark}{query}{slash}{below}"


def build_enter_url(url: str, target: str, base_url: str) -> str:
    """The URL that leads into the isolated origin of a port or service, to the page of its path-based URL `url`."""
    for prefix in (f"{base_url}proxy/port/{target}/", f"{base_url}proxy/service/{target}/", f"{base_url}{target}/"):
        if url.startswith(prefix):
            return f"{base_url}proxy/enter/{target}/{url[len(prefix) :]}"
    return url


def is_below_proxy(uri: str, base_url: str) -> bool:
    """True for `{base_url}proxy` and all below it: the gateway's own URLs, also the invalid ones."""
    root = f"{base_url}proxy"
    return uri.startswith(root) and uri[len(root) : len(root) + 1] in ("", "/", "?")


def respell_prefix(path: str, base: str) -> str:
    """A path that begins with an equivalent of `base`, with `base` in its place; any other path unchanged.

    `@` and `%40`, `%c3` and `%C3` are equivalent. What follows stays as sent.

    Args:
        base: a path that ends with a slash.
    """
    if path.startswith(base) or ("%" not in path and "%" not in base):
        return path
    *segments, below = path.split("/", base.count("/"))
    same = len(segments) == base.count("/") and _canonical("/".join([*segments, ""])) == _canonical(base)
    return base + below if same else path


def _canonical(path: str) -> str:
    """RFC 3986 6.2.2: percent-encoding in upper case, and only where it is needed."""
    return _ESCAPE.sub(lambda match: char if (char := chr(int(match[1], 16))) in _EQUIVALENT else match[0].upper(), path)


def strip_base_url(uri: str, base_url: str) -> str:
    """The request target below the base URL, with a leading slash; any other target unchanged."""
    uri = respell_prefix(uri, base_url)
    return uri[len(base_url) - 1 :] if uri.startswith(base_url) else uri


def find_first_segment(uri: str, base_url: str) -> str:
    """NAME of `{base_url}NAME/rest`; empty for reserved names and for URLs outside `base_url`."""
    if not uri.startswith(base_url):
        return ""
    name = re.split(r"[/?]", uri[len(base_url) :], maxsplit=1)[0]
    return "" if name in RESERVED_NAMES else name


def build_service_route(name: str, uri: str, prefix: str) -> ServiceRoute:
    """The route of a service's URL: `uri` begins with `prefix`, which ends with its name."""
    path, mark, query = uri.partition("?")
    return ServiceRoute(name, prefix, path[len(prefix) :], mark + query)


def build_service_path(base_url: str, name: str) -> str:
    """The path of a service's URL, without a final slash."""
    return f"{base_url}proxy/service/{name}"


def build_port_path(base_url: str, port: int | str) -> str:
    """The path-based URL of a port, with a final slash; `port` may be a placeholder."""
    return f"{base_url}proxy/port/{port}/"


def parse_port(text: str) -> int:
    """A port from its decimal digits: ASCII, no sign, no blanks, no leading zero.

    Raises:
        BadRoute: anything else, 0 and 65536 included.
    """
    if not _PORT.match(text) or int(text) > 65535:
        raise BadRoute.port(text)
    return int(text)


def parse_authority(text: str) -> tuple[str, int]:
    """`HOST:PORT` -> (host in lower case without brackets, port).

    Raises:
        BadRoute: the host is neither a DNS name nor an IP literal (IPv6 in brackets), or the port is invalid.
    """
    match = _AUTHORITY.match(text)
    if match is None:
        raise BadRoute.host(text)
    host, port = match["host"].lower(), parse_port(match["port"])
    if host.startswith("["):
        if ip_literal(host[1:-1]) is None or ":" not in host:
            raise BadRoute.host(text)
        return host[1:-1], port
    if not is_name(host):
        raise BadRoute.host(text)
    return host, port


def split_port(host: str) -> tuple[str, str]:
    """`host[:port]` of a client, whatever it contains -> (host, port, or "" without one)."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and port.isascii() and port.isdigit() else (host, "")


def split_absolute_url(url: str) -> tuple[str, str, str] | None:
    """`[scheme:]//authority...` -> (scheme or "", authority, the rest), as written; None for any other URL."""
    match = _ABSOLUTE.match(url)
    return (match["scheme"] or "", match["authority"], match["rest"]) if match else None


def parse_origin(url: str) -> str:
    """The origin of an absolute URL, in lower case; empty for any other."""
    parts = split_absolute_url(url)
    return f"{parts[0]}://{parts[1]}".lower() if parts and parts[0] and parts[1] else ""


def strip_origin(url: str, host: str) -> str | None:
    """What follows the origin in an absolute URL on that host (as the Host field has it); None for any other."""
    parts = split_absolute_url(url) if "://" in url else None
    if not parts or not parts[0] or not host:
        return None
    scheme, authority, rest = parts
    if authority != host:
        scheme = scheme.lower()
        if without_default_port(scheme, authority) != without_default_port(scheme, host):
            return None
    return rest


def without_default_port(scheme: str, authority: str) -> str:
    """`host[:port]` in lower case, without the default port of its scheme, "http" or "https" (RFC 3986 6.2.3)."""
    return authority.lower().removesuffix(_DEFAULT_PORT_SUFFIXES[scheme])


def is_below(path: str, prefix: str) -> bool:
    """True if the path is the prefix or lies below it; False with dot segments, which could lead out again."""
    head = path.partition("?")[0].partition("#")[0]
    return (head == prefix or head.startswith(f"{prefix}/")) and not _DOT_SEGMENTS.search(head)


def is_name(text: str) -> bool:
    """True for a DNS name in lower case."""
    return bool(_NAME.match(text))


def ip_literal(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address in standard form; None for a name (also for glibc's 127.1 or 0x7f.1) and with an IPv6 zone (RFC 4007)."""
    return _known_literal(text) if len(text) <= _MAX_LITERAL else None


@lru_cache(maxsize=1024)
def _known_literal(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_below_loopback(host: str) -> bool:
    """True for a loopback address, and for `localhost` and all names below it, which are never looked up (RFC 6761 6.3)."""
    return is_loopback(host) or host.endswith(f".{LOOPBACK_NAME}")


def is_loopback(host: str) -> bool:
    """True for "localhost" and for a loopback address in any form, also IPv4-mapped (::ffff:127.0.0.1)."""
    if host == LOOPBACK_NAME:
        return True
    literal = ip_literal(host)
    return literal is not None and (getattr(literal, "ipv4_mapped", None) or literal).is_loopback


def bracket_host(host: str) -> str:
    """The host as it stands in a URL: IPv6 literals in brackets (RFC 3986 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def parse_ports(items: Iterable[object]) -> tuple[range, ...]:
    """Ports and port ranges, `[8888, "10000-20000"]` -> ranges.

    Raises:
        ValueError: an item is neither.
    """
    return tuple(_parse_port_range(item) for item in items)


def print_ports(ranges: Iterable[range]) -> str:
    """Port ranges as text: `8888, 10000-20000`."""
    return ", ".join(str(r.start) if len(r) == 1 else f"{r.start}-{r.stop - 1}" for r in ranges) or "none"


def _parse_port_range(item: object) -> range:
    low, dash, high = str(item).partition("-")
    try:
        first = parse_port(low.strip(_BLANKS))
        ports = range(first, (parse_port(high.strip(_BLANKS)) if dash else first) + 1)
    except BadRoute:
        ports = range(0)
    if not ports:
        raise ValueError(f"{item!r} is not a port or a range of ports: write 8888 or '10000-20000', within 1-65535")
    return ports


def _parse_tcp_url(path: str, start: int, query: str) -> Route | ServiceRoute:
    """`proxy/tcp/N` or `proxy/tcp/service/NAME`, with or without a final slash: an address of raw TCP, below which is nothing.

    Args:
        start: index of what follows `tcp/`.
    """
    is_service = path.startswith("service/", start)
    target, _, below = path[start + (len("service/") if is_service else 0) :].partition("/")
    if len(path) == start:
        raise BadRoute.without_tcp_target()
    port, prefix = 0 if is_service else parse_port(target), path.removesuffix("/")
    if query:
        raise BadRoute("An address of raw TCP has no query.", "Send the token in the field Authorization.")
    if below:
        raise BadRoute("An address of raw TCP ends with the port or the service's name.", "For example: proxy/tcp/5432.")
    if is_service:
        return ServiceRoute(target, prefix, "", "", "tcp")
    return Route(LOOPBACK_NAME, port, prefix, "", "", scheme="tcp")


def _parse_short_url(path: str, base_url: str, query: str) -> Route | Redirect | None:
    """`{base_url}port/N/` keeps the prefix, `{base_url}server/N/` strips it: the forms of a project's own server."""
    match = _SHORT.match(path, len(base_url)) if path.startswith(base_url) else None
    if match is None:
        return None
    port, prefix, below = parse_port(match["port"]), path[: match.end()], path[match.end() :]
    keep_prefix = match["form"] == "port"
    if not below and not keep_prefix:
        return Redirect(f"{prefix}/{query}", 308)
    return Route(LOOPBACK_NAME, port, prefix, below, query, keep_prefix)


def _redirect_port_parameter(root: str, query: str) -> Redirect | None:
    """`proxy/?port=N&more` -> the port's own URL with the other parameters."""
    parameters = query[1:].split("&") if query else []
    ports = [p[5:] for p in parameters if p.startswith("port=")]
    if not ports:
        return None
    if len(ports) > 1:
        raise BadRoute("Invalid port parameter: it is given more than once.", "Name one port, for example proxy/?port=8050.")
    rest = "&".join(p for p in parameters if not p.startswith("port="))
    return Redirect(f"{root}port/{parse_port(ports[0])}/{'?' + rest if rest else ''}", 307)
