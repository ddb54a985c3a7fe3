"""URLs of projects: `{base_url}KEY/...`, and which keys a project may have."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import ClassVar, Protocol
from urllib.parse import quote, unquote

from .urls import BaseRoute, D, Redirect, Resolver, Route, ServiceRoute, find_first_segment, parse_url

KEY_RULE = (
    "Use up to 64 lower-case letters, digits, '_' and '-', a letter or digit first, and no name that Jupyter's own pages use."
)
_MAX_KEY = 64  # characters; a UUID in lower case is a valid key
_KEY = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{_MAX_KEY - 1}}}\Z", re.ASCII)
_START = "/proxy/start"
_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]{1,8000}\Z")


class KeyFinder(Protocol):
    """Finds projects that are addressed by owner and name. Both methods raise GatewayError."""

    async def is_visible(self, key: str, username: str) -> bool: ...

    async def find_key(self, owner: str, name: str, username: str) -> str: ...


@dataclass(frozen=True, slots=True)
class ProjectRoute(BaseRoute):
    """The route of a project's Jupyter, or of a port of the project.

    Attributes:
        prefix: the path of the project, without a final slash.
        port: of a service there; None for the project's own Jupyter.
        path: the path below the prefix, as sent.
        query: the query with its `?`, as sent.
        tcp: the port or service there of a route for raw TCP; else empty.
    """

    is_project: ClassVar[bool] = True
    key: str
    prefix: str
    port: int | None
    path: str
    query: str
    tcp: str = ""

    @property
    def tcp_target(self) -> str:
        return f"{self.key}/{self.tcp}" if self.tcp else ""

    @property
    def start_uri(self) -> str:
        """The URL at which a POST starts the project and redirects to this route."""
        uri = f"{self.prefix}{self.path}{self.query}"
        return f"{self.prefix}{_START}?next={quote(uri, safe='', encoding='latin-1')}"

    @property
    def is_start(self) -> bool:
        """True for the URL at which a POST starts the project."""
        return self.port is None and self.path == _START

    @property
    def start_route(self) -> ProjectRoute | None:
        """The route itself if a POST to it starts the project, else None."""
        return self if self.is_start else None

    @property
    def next_uri(self) -> str:
        """The URL to which a POST to `start_uri` redirects: always one of the project."""
        name, _, value = self.query[1:].partition("=")
        uri = unquote(value, encoding="latin-1")
        is_valid = name == "next" and uri.startswith(f"{self.prefix}/") and _TARGET.match(uri)
        return uri if is_valid else f"{self.prefix}/"

    @property
    def stable_prefix(self) -> str:
        below = self.parse_below(self.path) if self.port is not None else None
        return below.prefix if isinstance(below, Route) else ""

    async def resolve(self, resolver: Resolver[D]) -> D:
        return await resolver.resolve_project(self)

    async def resolve_key(self, finder: KeyFinder, username: str) -> tuple[ProjectRoute, None]:
        """The route itself: only a project that is addressed by its name needs a look-up of its key."""
        return self, None

    def at(self, uri: str) -> ProjectRoute:
        path, mark, query = uri.partition("?")
        return replace(self, path=path[len(self.prefix) :], query=mark + query)

    def stripped_prefix(self, keeps_prefix: Callable[[str], bool]) -> str | None:
        """The prefix as the project's own host parses the URL."""
        find = partial(parse_url, base_url=f"{self.prefix}/")
        parsed = self.parse_below(self.path + self.query)
        below = parsed.at_slash(find) if parsed is not None else None
        return below.stripped_prefix(keeps_prefix) if below is not None else ""

    def parse_below(self, target: str) -> Route | ServiceRoute | Redirect | None:
        """The route of a target below the prefix, as a server whose base URL is the prefix parses it. Raises: BadRoute"""
        return parse_url(self.prefix + target, f"{self.prefix}/")


def parse_project_url(uri: str, base_url: str) -> ProjectRoute | Redirect | None:
    """`{base_url}KEY/...` as a route; None if the first segment is not a valid key.

    Raises:
        BadRoute: a port or host in the URL is invalid.
    """
    path, mark, query = uri.partition("?")
    if not path.startswith(base_url):
        return None
    key, slash, _ = path[len(base_url) :].partition("/")
    if not is_key(key):
        return None
    prefix = base_url + key
    if not slash:
        return Redirect(f"{prefix}/{mark}{query}", 308)
    below = parse_url(uri, f"{prefix}/")
    port = below.port if isinstance(below, Route) else None
    tcp = below.tcp_target if below is not None else ""
    return ProjectRoute(key, prefix, port, path[len(prefix) :], mark + query, tcp)


def is_key(text: object) -> bool:
    """True for a project's key: see KEY_RULE."""
    return isinstance(text, str) and len(text) <= _MAX_KEY and _is_key(text)


@lru_cache(maxsize=1024)
def _is_key(text: str) -> bool:
    return _KEY.match(text) is not None and find_first_segment(f"/{text}", "/") == text
