"""PURE. A service by its project's name: `/{username}/{project}/x?port=N`, and the path that it has between the hops.

Rule of this file: at the hub such a URL is another spelling of `/KEY/server/N/{username}/{project}/x`. Requests are respelled
on their way in, and what answers say of addresses on its way out; all hops behind the hub know the second spelling only.
Paths and queries are cut, never decoded; only the two names are, to be looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from ..errors import BadRoute, TooManyRedirects
from . import project_urls
from .framing import Fields, find_field, normalize_name
from .headers import Client, strip_client_origin
from .project_urls import ProjectRoute
from .url_fields import REQUEST_URL_FIELDS, RESPONSE_URL_FIELDS
from .urls import BaseRoute, D, Redirect, Resolver, find_first_segment, is_below, parse_port

_FOLLOWED = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|[/\\]{2}", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\x21-\x7e]")  # in a request target; browsers, too, drop tabs and escape the rest
_LONG_AGO = re.compile(r"19[0-9]{2}")  # the year of a date by which cookies are deleted


@dataclass(frozen=True, slots=True)
class NamedProjectRoute(BaseRoute):
    """What the URL of one request asked for: a port of a project that is called by its owner and its name.

    Attributes:
        owner, name: decoded; empty where they are no text.
        prefix: `{base_url}{username}/{project}`, as sent.
        path: the path below the prefix, as sent.
        query: the query with its `?`, without `port`, all else as sent.
        ports: the values of `port`, as sent.
        by_key: what the URL asks for if its first segment is a project's key.
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
        """What the project is called, for people."""
        return f"{self.owner}/{self.name}"

    async def resolve(self, resolver: Resolver[D]) -> D:
        return await resolver.resolve_project(self)

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        return None

    def with_key(self, key: str) -> tuple[ProjectRoute, UrlMapping]:
        """The same by the project's key, and how the two spellings are told from each other.

        Raises:
            BadRoute: `port` is none, or is there more than once.
        """
        if len(self.ports) > 1:
            raise BadRoute("Invalid port parameter: it is given more than once.", "Name one port, for example ?port=8050.")
        port = parse_port(self.ports[0])
        inside = f"/server/{port}"
        prefix = self.base_url + key
        route = ProjectRoute(key, prefix, port, f"{inside}{self.prefix}{self.path}", self.query)
        return route, UrlMapping(self.prefix, prefix + inside, port)


def parse_named_project_url(uri: str, base_url: str) -> NamedProjectRoute | ProjectRoute | Redirect | None:
    """The route of a URL by a project's key, or by its name; a URL that may be either is a NamedRoute.

    Raises:
        BadRoute: a port or host in it cannot be one.
    """
    by_key = project_urls.parse_project_url(uri, base_url)
    if isinstance(by_key, Redirect) or (by_key is not None and by_key.port is not None):
        return by_key
    path, _, query = uri.partition("?")
    ports, rest = _cut(query)
    if not ports or not find_first_segment(uri, base_url):
        return by_key
    owner, _, below = path[len(base_url) :].partition("/")
    name = below.partition("/")[0]
    if not name:
        return by_key
    prefix = f"{base_url}{owner}/{name}"
    return NamedProjectRoute(_text(owner), _text(name), base_url, prefix, path[len(prefix) :], rest, ports, by_key)


@dataclass(frozen=True, slots=True)
class UrlMapping:
    """The two spellings of one service's paths.

    The client requests `{client_prefix}/x?port=N`, the hops `{hop_prefix}{client_prefix}/x`, the service `{client_prefix}/x`.
    """

    client_prefix: str
    hop_prefix: str
    port: int

    def to_client_url(self, url: str) -> str:
        """A URL of the service (path, query, fragment) as the client can ask for it."""
        rest, mark, fragment = url.partition("#")
        path, question, query = rest.partition("?")
        ports, _ = _cut(query)
        if not is_below(path, self.client_prefix) or (ports and ports != (str(self.port),)):
            return self.hop_prefix + url
        if not ports:
            query = f"{query}&port={self.port}" if question else f"port={self.port}"
        return f"{path}?{query}{mark}{fragment}"

    def to_service_url(self, url: str, at: str, client: Client) -> str | None:
        """A URL of an answer -> the service's own (path, query, fragment); None if it leads elsewhere.

        Args:
            at: the service's URL that was asked for.
        """
        own = strip_client_origin(url, client)
        if own is not None and (_begins(own, self.hop_prefix) or is_below(own, self.client_prefix)):
            url = own
        if _ELSEWHERE.match(url):
            return None
        if not url.startswith("/"):
            return self._without_port(_resolved(url, at))
        if _begins(url, self.hop_prefix):
            url = url[len(self.hop_prefix) :]
        elif not is_below(url, self.client_prefix):
            return None
        return self._without_port(_resolved(url if url.startswith("/") else f"/{url}", at))

    def _without_port(self, url: str) -> str:
        """A service that knows this form may write it."""
        rest, mark, fragment = url.partition("#")
        path, _, query = rest.partition("?")
        ports, kept = _cut(query)
        named = ports == (str(self.port),) and is_below(path, self.client_prefix)
        return f"{path}{kept}{mark}{fragment}" if named else url

    def map_request_fields(self, fields: Fields, client: Client) -> Fields:
        """The fields of a request, as if the hops' spelling had been asked for."""
        forms = [REQUEST_URL_FIELDS.get(normalize_name(name)) for name, _ in fields]
        return [
            (name, form(value, partial(self._asked, client)) if form is not None else value)
            for form, (name, value) in zip(forms, fields, strict=True)
        ]

    def _asked(self, client: Client, value: str) -> str:
        """One URL of a request in the hops' spelling, if it names the port: others may be Jupyter's."""
        own = strip_client_origin(value, client)
        rest = value if own is None else own
        if not is_below(rest, self.client_prefix):
            return value
        url = self._without_port(rest)
        return value if url == rest else f"{value[: len(value) - len(rest)]}{self.hop_prefix}{url}"


class RedirectFollower:
    """One request on its way through the redirects of a service to itself.

    Args:
        url: of the service: path and query.

    Attributes:
        url: where the journey is now.
    """

    def __init__(self, alias: UrlMapping, url: str, client: Client) -> None:
        self.url = url
        self._alias, self._client = alias, client
        self._steps = 0
        self._cookies: list[str] = []

    @property
    def target(self) -> str:
        """The path and query to ask the next hop for."""
        return self._alias.hop_prefix + self.url

    def follow(self, status: int, fields: Fields) -> bool:
        """Go where an answer leads; False if that is not to this service.

        Args:
            fields: the answer's, as they came from the next hop.

        Raises:
            TooManyRedirects
        """
        location = find_field(fields, "location")
        url = self._alias.to_service_url(location, self.url, self._client) if status in _FOLLOWED and location else None
        if url is None:
            return False
        self._steps += 1
        if self._steps > _MOST_REDIRECTS:
            raise TooManyRedirects(_MOST_REDIRECTS)
        self._cookies += [_moved(value, self._alias) for name, value in fields if name.lower() == "set-cookie"]
        self.url = _UNSAFE.sub(lambda match: f"%{ord(match[0]):02X}", url.partition("#")[0].replace("\t", ""))
        return True

    def map_request_fields(self, fields: Fields) -> Fields:
        """A request's fields with the cookies that were set on the way."""
        jar = _jar(self._cookies, self.url.partition("?")[0])
        if not jar:
            return fields
        sent = [pair.strip() for name, value in fields if name.lower() == "cookie" for pair in value.split(";")]
        kept = [pair for pair in sent if pair and pair.partition("=")[0] not in jar]
        cookie = "; ".join(kept + [pair for pair in jar.values() if pair])
        return [field for field in fields if field[0].lower() != "cookie"] + ([("Cookie", cookie)] if cookie else [])

    def _printed(self, url: str) -> str:
        """One URL of an answer in the client's spelling."""
        read = self._alias.to_service_url(url, self.url, self._client)
        return url if read is None else self._alias.to_client_url(read)

    def map_response_fields(self, fields: Fields) -> Fields:
        """The fields of the answer at the journey's end, in the client's spelling."""
        out = [("Set-Cookie", value) for value in self._cookies]
        for name, value in fields:
            key = normalize_name(name)
            if key in RESPONSE_URL_FIELDS:
                value = RESPONSE_URL_FIELDS[key](value, self._printed)
            elif key == "set-cookie":
                value = _moved(value, self._alias)
            out.append((name, value))
        return out


def _cut(query: str) -> tuple[tuple[str, ...], str]:
    """A query without its `?` -> the values of `port`, and the rest with the `?`, if there is any."""
    parameters = query.split("&") if query else []
    others = [p for p in parameters if p != "port" and not p.startswith("port=")]
    ports = tuple(p[5:] for p in parameters if p == "port" or p.startswith("port="))
    return ports, f"?{'&'.join(others)}" if others else ""


def _begins(url: str, prefix: str) -> bool:
    return url.startswith(prefix) and url[len(prefix) : len(prefix) + 1] in ("", "/", "?", "#")


def _text(segment: str) -> str:
    try:
        return unquote_to_bytes(segment.encode("latin-1")).decode()
    except UnicodeError:
        return ""


def _resolved(url: str, at: str) -> str:
    """RFC 3986 5.2.2, for references without scheme and authority."""
    rest, mark, fragment = url.partition("#")
    path, question, query = rest.partition("?")
    base = at.partition("?")[0]
    if not path:
        tail = question + query if question else at[len(base) :]
        return f"{base}{tail}{mark}{fragment}"
    if not path.startswith("/"):
        path = base[: base.rfind("/") + 1] + path
    return f"{_without_dots(path)}{question}{query}{mark}{fragment}"


def _without_dots(path: str) -> str:
    """RFC 3986 5.2.4; empty segments are segments."""
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


def _moved(set_cookie: str, alias: UrlMapping) -> str:
    """A Set-Cookie with its Path below the client's spelling of the prefix."""
    pair, *attributes = set_cookie.split(";")
    keys = [attribute.partition("=")[0].strip().lower() for attribute in attributes]
    moved = [_moved_path(text, alias) if key == "path" else text for key, text in zip(keys, attributes, strict=True)]
    return ";".join([pair, *moved, *([] if "path" in keys else [f" Path={alias.client_prefix}"])])


def _moved_path(attribute: str, alias: UrlMapping) -> str:
    path = attribute.partition("=")[2].strip()
    if _begins(path, alias.hop_prefix):
        path = path[len(alias.hop_prefix) :]
    if path != "/" and _begins(alias.client_prefix, path.rstrip("/")):
        path = alias.client_prefix  # a folder above it
    elif not is_below(path, alias.client_prefix):
        path = alias.client_prefix + (path if path.startswith("/") else "/")
    return f" Path={path}"


def _jar(set_cookies: Iterable[str], path: str) -> dict[str, str]:
    """Name -> `name=value` of the cookies that go to a path; empty for one that was deleted (RFC 6265 5.1.4, 5.3)."""
    jar: dict[str, str] = {}
    for line in set_cookies:
        pair, *rest = line.split(";")
        attributes = {key.strip().lower(): value.strip() for key, _, value in (each.partition("=") for each in rest)}
        below = attributes.get("path", "")
        if below in ("", path) or path.startswith(below if below.endswith("/") else f"{below}/"):
            gone = attributes.get("max-age", "1").startswith(("0", "-")) or _LONG_AGO.search(attributes.get("expires", ""))
            jar[pair.partition("=")[0].strip()] = "" if gone else pair.strip()
    return jar
