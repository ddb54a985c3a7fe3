"""URLs of services by the project's name, `/{username}/{project}/x?port=N`, and their mapping to URLs by the project's key.

Such a URL is an alias of `/KEY/server/N/{username}/{project}/x`. The first hop maps the URLs in requests to this form, and those
in responses back; other hops only receive URLs by key. Paths and queries are split, never decoded; only the two names are
decoded, for the lookup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from ..errors import BadRoute, TooManyRedirects
from . import project_urls
from .framing import Fields, find_field, normalize_name
from .headers import Client, strip_client_origin
from .project_urls import KeyFinder, ProjectRoute
from .url_fields import REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS
from .urls import BaseRoute, D, Redirect, Resolver, find_first_segment, is_below, parse_port

_MAX_REDIRECTS = 10
_ABSOLUTE_REFERENCE = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\]{2}", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x21-\x7e]")  # in a request target; browsers drop tabs and percent-encode the rest
_LONG_AGO = re.compile(r"19[0-9]{2}")  # the year of an `expires` that deletes a cookie


@dataclass(frozen=True, slots=True)
class NamedProjectRoute(BaseRoute):
    """The route of a port of a project, by the project's owner and name.

    Attributes:
        owner, name: decoded; empty where they are not UTF-8.
        prefix: `{base_url}{username}/{project}`, as sent.
        path: the path below the prefix, as sent.
        query: the query with its `?`, without `port`, all else as sent.
        ports: the values of `port`, as sent.
        by_key: the route of the URL if its first segment is a project's key.
    """

    is_project: ClassVar[bool] = True
    owner: str
    name: str
    base_url: str
    prefix: str
    path: str
    query: str
    ports: tuple[str, ...]
    by_key: ProjectRoute | None

    @property
    def label(self) -> str:
        """The project's name in messages."""
        return f"{self.owner}/{self.name}"

    @property
    def project_owner(self) -> str | None:
        return self.owner if self.by_key is None else None

    @property
    def start_route(self) -> ProjectRoute | None:
        """None: projects are started by their keys."""
        return None

    async def resolve(self, resolver: Resolver[D]) -> D:
        return await resolver.resolve_project(self)

    def at(self, uri: str) -> NamedProjectRoute:
        path, _, query = uri.partition("?")
        ports, rest = _split_port_parameters(query)
        by_key = self.by_key.at(uri) if self.by_key is not None else None
        return replace(self, path=path[len(self.prefix) :], query=rest, ports=ports, by_key=by_key)

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        return None

    async def resolve_key(self, finder: KeyFinder, username: str) -> tuple[ProjectRoute, UrlMapping | None]:
        """The route by the project's key, and the mapping of URLs if the client has another spelling.

        If the first segment is also the key of a project that the user may see, the URL is that project's.

        Raises:
            BadRoute: the port is invalid. No name is looked up then.
            GatewayError: of `finder`.
        """
        if self.by_key is not None and await finder.is_visible(self.by_key.key, username):
            return self.by_key, None
        self.with_key("")
        return self.with_key(await finder.find_key(self.owner, self.name, username))

    def with_key(self, key: str) -> tuple[ProjectRoute, UrlMapping]:
        """The route by the project's key, and the mapping between the two forms of its URLs.

        Raises:
            BadRoute: `port` is invalid or repeated.
        """
        if len(self.ports) > 1:
            raise BadRoute("Invalid port parameter: it is given more than once.", "Name one port, for example ?port=8050.")
        port = parse_port(self.ports[0])
        prefix, server = self.base_url + key, f"/server/{port}"
        route = ProjectRoute(key, prefix, port, f"{server}{self.prefix}{self.path}", self.query)
        return route, UrlMapping(self.prefix, prefix + server, port)


def parse_named_project_url(uri: str, base_url: str) -> NamedProjectRoute | ProjectRoute | Redirect | None:
    """The route of a URL by a project's key, or by its name; a URL that may be either is a NamedProjectRoute.

    Raises:
        BadRoute: a port or host in the URL is invalid.
    """
    by_key = project_urls.parse_project_url(uri, base_url)
    if isinstance(by_key, Redirect) or (by_key is not None and by_key.port is not None):
        return by_key
    path, _, query = uri.partition("?")
    ports, rest = _split_port_parameters(query)
    if not ports or not find_first_segment(uri, base_url):
        return by_key
    owner, _, below = path[len(base_url) :].partition("/")
    name = below.partition("/")[0]
    if not name:
        return by_key
    prefix = f"{base_url}{owner}/{name}"
    return NamedProjectRoute(
        _decode_segment(owner), _decode_segment(name), base_url, prefix, path[len(prefix) :], rest, ports, by_key
    )


@dataclass(frozen=True, slots=True)
class UrlMapping:
    """The mapping between the forms of one service's URLs.

    The client requests `{client_prefix}/x?port=N`, the hops `{hop_prefix}{client_prefix}/x`, the service `{client_prefix}/x`.
    """

    client_prefix: str
    hop_prefix: str
    port: int

    def covers(self, uri: str) -> bool:
        """True if a client's request target below `client_prefix` has this port."""
        return _split_port_parameters(uri.partition("?")[2])[0] == (str(self.port),)

    def to_hop_target(self, uri: str) -> str:
        """A client's request target that is covered, in the form of the hops."""
        path, _, query = uri.partition("?")
        return f"{self.hop_prefix}{path}{_split_port_parameters(query)[1]}"

    def to_client_url(self, url: str) -> str:
        """A URL of the service (path, query, fragment) in the form in which the client can request it."""
        rest, mark, fragment = url.partition("#")
        path, question, query = rest.partition("?")
        ports, _ = _split_port_parameters(query)
        if not is_below(path, self.client_prefix) or (ports and ports != (str(self.port),)):
            return self.hop_prefix + url
        if not ports:
            query = f"{query}&port={self.port}" if question else f"port={self.port}"
        return f"{path}?{query}{mark}{fragment}"

    def to_service_url(self, url: str, base: str, client: Client) -> str | None:
        """A URL of a response -> the service's own (path, query, fragment); None if it does not lead to the service.

        Args:
            base: the service's URL that was requested.
        """
        own = strip_client_origin(url, client)
        if own is not None and (_starts_with_path(own, self.hop_prefix) or is_below(own, self.client_prefix)):
            url = own
        if _ABSOLUTE_REFERENCE.match(url):
            return None
        if not url.startswith("/"):
            return self._without_port(_resolve_reference(url, base))
        if _starts_with_path(url, self.hop_prefix):
            url = url[len(self.hop_prefix) :]
        elif not is_below(url, self.client_prefix):
            return None
        return self._without_port(_resolve_reference(url if url.startswith("/") else f"/{url}", base))

    def _without_port(self, url: str) -> str:
        """Some services write URLs in the client's form themselves."""
        rest, mark, fragment = url.partition("#")
        path, _, query = rest.partition("?")
        ports, kept = _split_port_parameters(query)
        named = ports == (str(self.port),) and is_below(path, self.client_prefix)
        return f"{path}{kept}{mark}{fragment}" if named else url

    def map_request_fields(self, fields: Fields, client: Client) -> Fields:
        """The fields of a request, with its URLs in the form of the hops."""
        forms = [REQUEST_URL_FIELDS.get(normalize_name(name)) for name, _ in fields]
        return [
            (name, form(value, partial(self._to_hop_url, client)) if form is not None else value)
            for form, (name, value) in zip(forms, fields, strict=True)
        ]

    def _to_hop_url(self, client: Client, value: str) -> str:
        """One URL of a request in the form of the hops, if it has the port: others may be Jupyter's."""
        own = strip_client_origin(value, client)
        rest = value if own is None else own
        if not is_below(rest, self.client_prefix):
            return value
        url = self._without_port(rest)
        return value if url == rest else f"{value[: len(value) - len(rest)]}{self.hop_prefix}{url}"


class RedirectFollower:
    """Follows the redirects of a service to itself for one request, and keeps the cookies that they set.

    Attributes:
        url: path and query of the service's URL that is to be requested next.
    """

    def __init__(self, mapping: UrlMapping, url: str, client: Client) -> None:
        self.url = url
        self._mapping, self._client = mapping, client
        self._steps = 0
        self._cookies: list[str] = []

    @property
    def target(self) -> str:
        """The request target for the next hop."""
        return self._mapping.hop_prefix + self.url

    def follow(self, fields: Fields) -> bool:
        """Take the URL of a redirect; False if it does not lead to this service.

        Args:
            fields: the response's, as received from the next hop.

        Raises:
            TooManyRedirects
        """
        location = find_field(fields, "location")
        url = self._mapping.to_service_url(location, self.url, self._client) if location else None
        if url is None:
            return False
        self._steps += 1
        if self._steps > _MAX_REDIRECTS:
            raise TooManyRedirects(_MAX_REDIRECTS)
        self._cookies += [_move_cookie(value, self._mapping) for name, value in fields if name.lower() == "set-cookie"]
        self.url = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", url.partition("#")[0].replace("\t", ""))
        return True

    def map_request_fields(self, fields: Fields) -> Fields:
        """A request's fields with the cookies of the redirects."""
        jar = _select_cookies(self._cookies, self.url.partition("?")[0])
        if not jar:
            return fields
        sent = [pair.strip() for name, value in fields if name.lower() == "cookie" for pair in value.split(";")]
        kept = [pair for pair in sent if pair and pair.partition("=")[0] not in jar]
        cookie = "; ".join(kept + [pair for pair in jar.values() if pair])
        return [field for field in fields if field[0].lower() != "cookie"] + ([("Cookie", cookie)] if cookie else [])

    def _to_client_url(self, url: str) -> str:
        """One URL of a response in the client's form."""
        own = self._mapping.to_service_url(url, self.url, self._client)
        return url if own is None else self._mapping.to_client_url(own)

    def map_response_fields(self, fields: Fields) -> Fields:
        """The fields of the last response, with its URLs in the client's form, and the cookies of the redirects."""
        out = [("Set-Cookie", value) for value in self._cookies]
        for name, value in fields:
            key = normalize_name(name)
            if key in RESPONSE_URL_FIELDS:
                value = RESPONSE_URL_FIELDS[key](value, self._to_client_url)
            elif key == "set-cookie":
                value = _move_cookie(value, self._mapping)
            out.append((name, value))
        return out


def _split_port_parameters(query: str) -> tuple[tuple[str, ...], str]:
    """A query without its `?` -> the values of `port`, and the other parameters with a `?`."""
    if "&" not in query and query.startswith("port="):
        return (query[5:],), ""
    parameters = query.split("&") if query else []
    others = [p for p in parameters if p != "port" and not p.startswith("port=")]
    ports = tuple(p[5:] for p in parameters if p == "port" or p.startswith("port="))
    return ports, f"?{'&'.join(others)}" if others else ""


def _starts_with_path(url: str, prefix: str) -> bool:
    return url.startswith(prefix) and url[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _decode_segment(segment: str) -> str:
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode()
    except UnicodeError:
        return ""


def _resolve_reference(url: str, base: str) -> str:
    """RFC 3986 5.2.2, for references without scheme and authority."""
    rest, mark, fragment = url.partition("#")
    path, question, query = rest.partition("?")
    base_path = base.partition("?")[0]
    if not path:
        tail = question + query if question else base[len(base_path) :]
        return f"{base_path}{tail}{mark}{fragment}"
    if not path.startswith("/"):
        path = base_path[: base_path.rfind("/") + 1] + path
    return f"{_remove_dot_segments(path)}{question}{query}{mark}{fragment}"


def _remove_dot_segments(path: str) -> str:
    """RFC 3986 5.2.4; empty segments count as segments."""
    out: list[str] = []
    segments = path[1:].split("/")
    for number, segment in enumerate(segments, 1):
        if segment == "..":
            out[-1:] = []
        if segment not in (".", ".."):
            out.append(segment)
        elif number == len(segments):
            out.append("")
    return "/" + "/".join(out)


def _move_cookie(set_cookie: str, mapping: UrlMapping) -> str:
    """A Set-Cookie with its Path below the client's prefix."""
    pair, *attributes = set_cookie.split(";")
    keys = [attribute.partition("=")[0].strip().lower() for attribute in attributes]
    moved = [_build_path_attribute(text, mapping) if key == "path" else text for key, text in zip(keys, attributes, strict=True)]
    return ";".join([pair, *moved, *([] if "path" in keys else [f" Path={mapping.client_prefix}"])])


def _build_path_attribute(attribute: str, mapping: UrlMapping) -> str:
    path = attribute.partition("=")[2].strip()
    if _starts_with_path(path, mapping.hop_prefix):
        path = path[len(mapping.hop_prefix) :]
    if path != "/" and _starts_with_path(mapping.client_prefix, path.rstrip("/")):
        path = mapping.client_prefix  # from a folder above it
    elif not is_below(path, mapping.client_prefix):
        path = mapping.client_prefix + (path if path.startswith("/") else "/")
    return f" Path={path}"


def _select_cookies(set_cookies: Iterable[str], path: str) -> dict[str, str]:
    """Name -> `name=value` of the cookies for a path; an empty value for a deleted one (RFC 6265 5.1.4, 5.3)."""
    jar: dict[str, str] = {}
    for line in set_cookies:
        pair, *rest = line.split(";")
        attributes = {key.strip().lower(): value.strip() for key, _, value in (each.partition("=") for each in rest)}
        folder = attributes.get("path", "")
        if folder in ("", path) or path.startswith(folder if folder.endswith("/") else f"{folder}/"):
            deleted = attributes.get("max-age", "1").startswith(("0", "-")) or _LONG_AGO.search(attributes.get("expires", ""))
            jar[pair.partition("=")[0].strip()] = "" if deleted else pair.strip()
    return jar
