"""The address of a Jupyter server with what is needed to call it, and its parser: people paste URLs from the browser."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from ..errors import CliError
from ..protocol.urls import DEFAULT_PORTS, bracket_host, is_below_loopback
from ..system.netlink import SUPPORTED
from ..system.tls import Trust, check_bundle

# Segments after which a URL is one of Jupyter's pages, of its API, or of this extension: the base URL ends before them.
_PAGES = frozenset([
    "api", "console", "consoles", "desktop", "doc", "edit", "files", "lab", "login", "logout", "nbclassic", "notebooks", "proxy",
    "retro", "static", "terminals", "tree", "view", "voila",
])  # fmt: skip
_HUB_PAGES = frozenset([
    "admin", "api", "home", "login", "logout", "oauth_login", "share-codes", "spawn", "spawn-pending", "token", "user-redirect",
])  # fmt: skip
_MAX_URL = 4096  # characters
_PATH_CHARACTERS = "/%~@:!$&'()*+,;=-._"  # of RFC 3986 3.3; other characters are percent-encoded
_EXAMPLE = "Write the server's URL, for example https://hub.example.org/user/ada/"


@dataclass(frozen=True)
class ServerAddress:
    """A Jupyter server: where it is, and how this program logs in there.

    Args:
        url: the base URL as `parse_server_url` returns it, with a slash at its end and without a query.
        token: for the Authorization field; empty if there is none.
        ca_file: path of a PEM file with the certificates that are trusted; empty: the system's.
        is_local: it was found by its runtime file, so it runs on this machine for this user. Its certificate is for the name that
            browsers use, which the runtime file does not have: where the kernel tells who owns the other end (Linux), that check
            takes the place of the certificate's, unless there is a `ca_file`.
        root_dir: the folder that its file browser shows; empty where it is not known.
        token_source: what the token was taken from, if that counts before a login: "the variable JUPYTER_TOKEN".

    Raises:
        CliError: the token would cross a network unencrypted, contains what a header field may not, or the file cannot be used.
    """

    url: str
    token: str = field(default="", repr=False)
    ca_file: str = ""
    is_local: bool = False
    root_dir: str = ""
    token_source: str = ""

    def __post_init__(self) -> None:
        check_token(self.token)
        if not self.is_https and not self.is_loopback and not self.is_local:
            secure = urlsplit(self.url)._replace(scheme="https").geturl()
            raise CliError(f"{self.url} is not encrypted, and the token would be readable on the way.\nUse {secure}")
        if self.ca_file:
            try:
                check_bundle(self.ca_file)
            except ValueError as error:
                raise CliError(f"--ca-file: {error}.") from None

    @property
    def is_https(self) -> bool:
        return self._parts.scheme == "https"

    @property
    def host(self) -> str:
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        return self._parts.port or DEFAULT_PORTS[self._parts.scheme]

    @property
    def authority(self) -> str:
        """`HOST:PORT`, for sentences."""
        return f"{bracket_host(self.host)}:{self.port}"

    @property
    def base_path(self) -> str:
        return self._parts.path

    @property
    def hub_path(self) -> str | None:
        """The path of JupyterHub, if this looks like a server of one: `/user/ada/` -> `/hub/`."""
        before, user, _ = self.base_path.partition("/user/")
        return f"{before}/hub/" if user else None

    @property
    def is_loopback(self) -> bool:
        return is_below_loopback(self.host)

    @property
    def trust(self) -> Trust:
        return Trust(self.ca_file, verified=bool(self.ca_file) or not (self.is_local and SUPPORTED))

    @cached_property
    def tls_context(self) -> ssl.SSLContext:
        context = self.trust.context
        context.set_alpn_protocols(["http/1.1"])
        return context

    @cached_property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)


def is_same_server(first: str, second: str) -> bool:
    """True if two base URLs are those of one server. All names of loopback are one host here."""
    return _identity(first) == _identity(second)


def _identity(url: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        loopback = is_below_loopback(host)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return url, "", 0, ""
    return parts.scheme, "localhost" if loopback else host, port, unquote(parts.path).rstrip("/")


def parse_server_url(text: str) -> tuple[str, str]:
    """Take apart what a person has typed or copied from the browser's address bar.

    A page of Jupyter below the base URL, a query and a fragment are left out: `https://hub.example.org/user/ada/lab?token=x` ->
    (`https://hub.example.org/user/ada/`, `x`).

    Returns:
        the base URL, and the token that the query contains, or an empty string.

    Raises:
        CliError: without the query, which may contain a token.
    """
    text = text.strip()
    shown = text.partition("?")[0].partition("#")[0][:200]
    if len(text) > _MAX_URL or not text.isprintable() or " " in text:
        raise CliError(f"Invalid URL: it contains blanks or control characters, or is too long.\n{_EXAMPLE}")
    scheme, separator, _ = text.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise CliError(f"Invalid URL: {shown.rpartition('@')[2]!r} does not begin with https:// or http://.\n{_EXAMPLE}")
    try:
        parts = urlsplit(text)
        port = parts.port
        host = (parts.hostname or "").rstrip(".")
        host = host if ":" in host else host.encode("idna").decode()  # it also checks the labels of an ASCII name
    except ValueError as error:  # UnicodeError is one
        reason = "its host is not a name or address" if isinstance(error, UnicodeError) else "its host or port is not valid"
        raise CliError(f"Invalid URL: {reason}.\n{_EXAMPLE}") from None
    if "@" in parts.netloc:
        raise CliError(f"Invalid URL: it contains a user name or password before the host.\n{_EXAMPLE}")
    if not host or port == 0:
        raise CliError(f"Invalid URL: {shown!r} has no host, or port 0.\n{_EXAMPLE}")
    scheme = scheme.lower()
    authority = bracket_host(host) + (f":{port}" if port not in (None, DEFAULT_PORTS[scheme]) else "")
    return f"{scheme}://{authority}{_base_path(parts.path)}", "".join(parse_qs(parts.query).get("token", ())[:1])


def _base_path(path: str) -> str:
    """The base URL's path in the path of a page; `/hub/user/NAME/` is the hub's own form of `/user/NAME/`."""
    segments = [quote(segment, safe=_PATH_CHARACTERS) for segment in path.split("/") if segment]
    if {".", ".."} & {unquote(segment) for segment in segments}:
        raise CliError(f"Invalid URL: its path contains '.' or '..' as a segment.\n{_EXAMPLE}")
    if "hub" in segments[:-1]:
        hub = segments.index("hub")
        if segments[hub + 1] == "user":
            del segments[hub]
        elif segments[hub + 1] in _HUB_PAGES and segments[hub - 1 : hub] != ["user"]:
            raise CliError(f"Invalid URL: /hub/{segments[hub + 1]} is a page of JupyterHub, not a server.\n{_EXAMPLE}")
    first = segments.index("user") + 2 if "user" in segments else 0  # the name of a user may be that of a page
    end = next((index for index in range(first, len(segments)) if segments[index] in _PAGES), len(segments))
    return "/" + "".join(f"{segment}/" for segment in segments[:end])


def check_token(token: str) -> str:
    """The token itself.

    Raises:
        CliError: it contains what a header field cannot carry. The sentence does not contain it.
    """
    if not all("!" <= character <= "~" for character in token):
        raise CliError("The token contains blanks, line ends or characters outside ASCII: is there more than the token?")
    return token
