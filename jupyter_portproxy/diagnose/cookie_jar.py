"""The cookies that a browser would keep during one crawl (RFC 6265bis), as far as they lead to a page. In memory only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

_MAX_COOKIES = 100
_MAX_SIZE = 4096  # characters of name and value (RFC 6265bis 5.6)


@dataclass
class CookieJar:
    """Cookies by authority, name and path. Expiry is not kept, but a cookie that has expired is removed."""

    _cookies: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def store(self, authority: str, path: str, fields: Iterable[tuple[str, str]]) -> None:
        """Keep the cookies of a response to a request for that path."""
        for name, value in fields:
            if name.lower() == "set-cookie":
                self._store_one(authority.lower(), path, value)

    def find(self, authority: str, path: str) -> str:
        """The value of Cookie for a request; empty without cookies. Longer paths come first (RFC 6265 5.4)."""
        found = [(key, value) for key, value in self._cookies.items() if key[0] == authority.lower() and _matches(path, key[2])]
        return "; ".join(f"{key[1]}={value}" for key, value in sorted(found, key=lambda item: -len(item[0][2])))

    def _store_one(self, authority: str, path: str, line: str) -> None:
        pair, *rest = line.split(";")
        name, _, value = (part.strip() for part in pair.partition("="))
        attributes = {key.strip().lower(): text.strip() for key, _, text in (each.partition("=") for each in rest)}
        scope = attributes.get("path", "")
        key = (authority, name, scope if scope.startswith("/") else path.rpartition("/")[0] or "/")
        if attributes.get("max-age", "").startswith(("0", "-")) or "01 jan 1970" in attributes.get("expires", "").lower():
            self._cookies.pop(key, None)
        elif name and len(name) + len(value) <= _MAX_SIZE and (key in self._cookies or len(self._cookies) < _MAX_COOKIES):
            self._cookies[key] = value


def _matches(path: str, scope: str) -> bool:
    """True if a path lies below that of a cookie (RFC 6265 5.1.4)."""
    return path == scope or path.startswith(scope if scope.endswith("/") else f"{scope}/")
