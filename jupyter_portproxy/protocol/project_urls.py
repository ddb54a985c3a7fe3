"""URLs of projects: `{base_url}KEY/...`, and which keys a project may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote

from .urls import Redirect, Route, bare_name, parse

KEY_RULE = (
    "Use up to 64 lower-case letters, digits, '_' and '-', a letter or digit first, and no name that Jupyter's own pages use."
)


# A UUID in lower case is one of these. The bound on the length comes first: a key of a megabyte costs nothing.
_LONGEST_KEY = 64


_KEY = re.compile(rf"[a-z0-9][a-z0-9_-]{{0,{_LONGEST_KEY - 1}}}\Z", re.ASCII)


_START = "/proxy/start"


_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]{1,8000}\Z")


@dataclass(frozen=True, slots=True)
class ProjectRoute:
    """What the URL of one request asked for: something of a project.

    Attributes:
        prefix: the path of the project, without a final slash.
        port: of a service there; None for the project's own Jupyter.
        path: the path below the prefix, as sent.
        query: the query with its `?`, as sent.
    """

    key: str
    prefix: str
    port: int | None
    path: str
    query: str

    @property
    def start_uri(self) -> str:
        """Where a POST starts the project and leads back here."""
        uri = f"{self.prefix}{self.path}{self.query}"
        return f"{self.prefix}{_START}?next={quote(uri, safe='', encoding='latin-1')}"

    @property
    def is_start(self) -> bool:
        """A POST there starts the project."""
        return self.port is None and self.path == _START

    @property
    def next_uri(self) -> str:
        """Where a POST to `start_uri` leads: to the project, whatever the query says."""
        name, _, value = self.query[1:].partition("=")
        uri = unquote(value, encoding="latin-1")
        good = name == "next" and uri.startswith(f"{self.prefix}/") and _TARGET.match(uri)
        return uri if good else f"{self.prefix}/"


def route_of(uri: str, base_url: str) -> ProjectRoute | Redirect | None:
    """`{base_url}KEY/...` as a route; None if the first segment can be no project's key.

    Raises:
        BadRoute: a port or host in it cannot be one.
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
    below = parse(uri, f"{prefix}/")
    port = below.port if isinstance(below, Route) else None
    return ProjectRoute(key, prefix, port, path[len(prefix) :], mark + query)


def is_key(text: object) -> bool:
    """True for a project's key: see KEY_RULE."""
    return isinstance(text, str) and len(text) <= _LONGEST_KEY and _is_key(text)


@lru_cache(maxsize=1024)
def _is_key(text: str) -> bool:
    return _KEY.match(text) is not None and bare_name(f"/{text}", "/") == text
