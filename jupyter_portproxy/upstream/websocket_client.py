"""Dialling a Jupyter server from another machine: the handshake of a WebSocket with a token, after which the stream is raw.

`open_websocket` goes to the server directly, or through an HTTP proxy (CONNECT) for https. The token goes into `Authorization`
of that one request alone: no redirect is followed. Every failure is a `HandshakeError` with one sentence.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import responses
from urllib.parse import unquote, urljoin, urlsplit

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError
from tornado.tcpclient import TCPClient
from tornado.util import TimeoutError
from tornado.websocket import WebSocketProtocol13

from ..errors import BadRoute, BadUpstream, CliError, parse_error
from ..protocol.framing import UPGRADE_FIELDS, Fields, find_field
from ..protocol.urls import DEFAULT_PORTS, bracket_host, ip_literal, is_below_loopback
from ..system.tls import SYSTEM_TRUST, Trust
from .connect import prepare_socket, start_tls
from .handshake import request_upgrade

NO_DESCRIPTORS = "This process has no file descriptor left for another connection. Raise the limit: ulimit -n"
TIMEOUT = 30.0  # s for a connection and its handshake
MAX_HANDSHAKES = 64  # at the same time; a server's backlog holds 128 connections, and others arrive seconds later or not at all
_MAX_BODY = 1 << 16  # bytes of a refusal that are read
_MAX_PROXY_HEAD = 1 << 14  # bytes
_VERSION, _NO_VERSION = "13", "0"  # the second one does not exist, so that a server refuses it with _UPGRADE_REQUIRED
_UPGRADE_REQUIRED = 426
_AWAY_STATUSES = frozenset({424, 502, 503, 504})  # of a reverse proxy or a hub whose server is away
_PASSING_CODES = frozenset({"shutting_down", "login_unavailable"})
_LOGIN_CODES = frozenset({"", "unauthenticated", "token_only"})
_USER_AGENT = "jupyter-portproxy"


class HandshakeError(CliError):
    """A WebSocket could not be opened; the text is one sentence.

    Args:
        status: of the response; 0 without one.
        code: of the gateway's error; empty if the response is not the gateway's.
        is_passing: the server is away, and trying again may help.
    """

    def __init__(self, text: str, status: int = 0, code: str = "", *, is_passing: bool = False) -> None:
        super().__init__(text)
        self.status, self.code, self.is_passing = status, code, is_passing

    @property
    def is_login(self) -> bool:
        """True if the server does not accept the token."""
        return not self.is_passing and (300 <= self.status < 400 or (self.status in (401, 403) and self.code in _LOGIN_CODES))


@dataclass(frozen=True)
class ServerAccess:
    """How a Jupyter server is reached.

    Attributes:
        url: its base URL, with a final slash.
        token: for `Authorization`.
        trust: for an https URL.
        proxy: URL of the HTTP proxy (`http://[USER:PASSWORD@]HOST:PORT`) for an https URL; empty: none.
        approve: sees a new connection before the first byte is sent on it; it raises a CliError.
        explain: status, fields and content of a refused handshake -> the sentence for people.
    """

    url: str
    token: str = field(repr=False)
    trust: Trust = SYSTEM_TRUST
    proxy: str = field(default="", repr=False)
    approve: Callable[[socket.socket], object] | None = None
    explain: Callable[[int, HTTPHeaders, bytes], object] | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or DEFAULT_PORTS[parts.scheme]

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.url).scheme == "https"


async def open_websocket(access: ServerAccess, path: str, timeout: float = TIMEOUT) -> IOStream:
    """Open a WebSocket at `path`, below the server's base URL. The stream that is returned carries frames.

    Raises:
        HandshakeError, CliError: what `access.approve` raises.
    """
    key = b64encode(os.urandom(16)).decode()
    stream, answer = await _request(access, path, key, _VERSION, timeout)
    if answer is None:
        raise HandshakeError(f"{access.url} does not answer as a WebSocket server: it sent no 101.")
    if find_field(answer, "sec-websocket-accept") != WebSocketProtocol13.compute_accept_value(key):
        stream.close()
        raise HandshakeError(f"{access.url} does not answer as a WebSocket server: its Sec-WebSocket-Accept is wrong.")
    return stream


async def check_websocket(access: ServerAccess, path: str, timeout: float = TIMEOUT) -> None:
    """Check that the server admits the handshake, without a connection to the service.

    The version of WebSocket that is offered does not exist: a server says so when all else is in order (RFC 6455 4.2.2).

    Raises:
        HandshakeError, CliError: what `access.approve` raises.
    """
    refusal = await _provoke_refusal(access, path, timeout)
    if refusal.status != _UPGRADE_REQUIRED:
        raise refusal


async def check_login(access: ServerAccess, timeout: float = TIMEOUT) -> None:
    """Check that the server accepts the token. No port is reached for it and no service started, and it is not in the log.

    The address of raw TCP without a port is offered: the server refuses it after the login.

    Raises:
        HandshakeError, CliError: what `access.approve` raises.
    """
    refusal = await _provoke_refusal(access, "proxy/tcp/", timeout)
    if refusal.code != BadRoute.code:
        raise refusal


async def _provoke_refusal(access: ServerAccess, path: str, timeout: float) -> HandshakeError:
    """The refusal of a handshake that a server never grants."""
    try:
        stream, _ = await _request(access, path, b64encode(bytes(16)).decode(), _NO_VERSION, timeout)
    except HandshakeError as error:
        return error
    stream.close()
    return HandshakeError(f"{access.url} does not answer as a WebSocket server.")


async def _request(access: ServerAccess, path: str, key: str, version: str, timeout: float) -> tuple[IOStream, Fields | None]:
    """Send a handshake; the stream and the fields of a 101, or None for another status below 300."""
    target = urlsplit(urljoin(access.url, path)).path
    authority = urlsplit(access.url).netloc.rpartition("@")[2]
    fields = [("Host", authority), ("Authorization", f"token {access.token}"), ("User-Agent", _USER_AGENT)]
    fields += [("Accept", "application/json"), *UPGRADE_FIELDS, ("Sec-WebSocket-Version", version), ("Sec-WebSocket-Key", key)]
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    stream, refusal = await _dial(access, timeout), _Refusal()
    with _Deadline(stream, timeout) as deadline:
        try:
            answer = await request_upgrade(stream, "\r\n".join([*lines, "", ""]).encode("latin-1"), refusal)
        except BadUpstream:
            deadline.check(access.url)
            text = f"The server at {access.url} does not answer: it closed the connection."
            raise HandshakeError(text, is_passing=True) from None
        except BaseException:
            stream.close()
            raise
    if answer is None and refusal.status >= 300:
        raise refusal.error(access, target)
    return stream, answer


async def _dial(access: ServerAccess, timeout: float) -> IOStream:
    """A connection to the server on which the request can be sent."""
    proxy = urlsplit(access.proxy)
    host, port = (proxy.hostname or "", proxy.port or 80) if access.proxy else (access.host, access.port)
    stream = await _connect(access, host, port, timeout)
    try:
        if access.approve is not None:
            access.approve(stream.socket)
        if access.proxy:
            await _connect_through_proxy(stream, access, timeout)
        return await _start_tls(stream, access, timeout) if access.is_tls else stream
    except BaseException:
        stream.close()
        raise


async def _connect(access: ServerAccess, host: str, port: int, timeout: float) -> IOStream:
    if is_below_loopback(host) and ip_literal(host) is None:
        try:
            return await _connect(access, "127.0.0.1", port, timeout)
        except HandshakeError as error:
            if not error.is_passing:
                raise
            host = "::1"
    try:
        stream = await TCPClient().connect(host, port, timeout=timeout)
    except TimeoutError:  # Tornado's
        raise HandshakeError(f"{_peer_name(access)} did not answer within {timeout:g} s.", is_passing=True) from None
    except socket.gaierror as error:
        text = f"The name {host} of {_peer_name(access, 'the')} cannot be resolved: {error.strerror}."
        raise HandshakeError(text, is_passing=True) from None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise HandshakeError(NO_DESCRIPTORS) from None
        raise HandshakeError(f"{_peer_name(access)} does not answer: {_reason(error)}.", is_passing=True) from None
    prepare_socket(stream.socket)
    return stream


async def _connect_through_proxy(stream: IOStream, access: ServerAccess, timeout: float) -> None:
    """RFC 9110 9.3.6."""
    parts, there = urlsplit(access.proxy), f"{bracket_host(access.host)}:{access.port}"
    lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}", f"User-Agent: {_USER_AGENT}"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Proxy-Authorization: Basic {b64encode(login.encode()).decode()}")
    with _Deadline(stream, timeout) as deadline:
        try:
            await stream.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
            head = await stream.read_until(b"\r\n\r\n", max_bytes=_MAX_PROXY_HEAD)
        except (StreamClosedError, UnsatisfiableReadError):
            deadline.check(access.url)
            raise HandshakeError(f"{_peer_name(access)} closed the connection.", is_passing=True) from None
    version, _, status = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not status.startswith("2"):
        text = f"{_peer_name(access)} refused the connection to {there}: {status or version}."
        raise HandshakeError(text, is_passing=status[:3] in map(str, _AWAY_STATUSES))


async def _start_tls(stream: IOStream, access: ServerAccess, timeout: float) -> IOStream:
    try:
        return await start_tls(stream, access.host, timeout, access.trust)
    except asyncio.TimeoutError:
        text = f"The server at {access.url} did not complete the TLS handshake within {timeout:g} s."
        raise HandshakeError(text, is_passing=True) from None
    except ssl.SSLCertVerificationError as error:
        reason = (error.verify_message or str(error)).rstrip(".")
        text = f"The certificate of {access.host} could not be verified: {reason}."
        raise HandshakeError(f"{text} Name the file of its authority: --ca-file FILE.") from None
    except (OSError, StreamClosedError) as error:
        text = f"The server at {access.url} did not complete the TLS handshake: {_reason(error)}."
        raise HandshakeError(text, is_passing=not isinstance(error, ssl.SSLError)) from None


class _Deadline:
    """Closes a stream after some seconds, unless the block has ended."""

    def __init__(self, stream: IOStream, seconds: float) -> None:
        self._stream, self._seconds, self._is_over = stream, seconds, False
        self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def __enter__(self) -> _Deadline:
        return self

    def __exit__(self, *args: object) -> None:
        self._timer.cancel()

    def _expire(self) -> None:
        self._is_over = True
        self._stream.close()

    def check(self, url: str) -> None:
        """Raises: HandshakeError, if the time is over."""
        if self._is_over:
            raise HandshakeError(f"The server at {url} did not answer within {self._seconds:g} s.", is_passing=True)


class _Refusal:
    """Collects a response that is not a 101: the ResponseWriter of `request_upgrade`."""

    def __init__(self) -> None:
        self.status, self._fields, self._body = 0, HTTPHeaders(), b""

    async def start(self, status: int, reason: str, fields: Fields) -> None:
        self.status = status
        for name, value in fields:
            self._fields.add(name, value)

    async def write(self, data: bytes) -> None:
        if len(self._body) < _MAX_BODY:
            self._body += data

    def finish(self) -> None:
        """The response is complete: nothing to do."""

    def cut(self) -> None:
        """Its status is known, and that is enough."""

    def error(self, access: ServerAccess, target: str) -> HandshakeError:
        own = parse_error(self._body)
        code, message = own.get("code", ""), "\n".join(filter(None, [own.get("message"), own.get("hint")]))
        text = message or f"The server at {access.url} answered {self.status} {responses.get(self.status, '')}".rstrip() + "."
        if access.explain is not None:
            text = str(access.explain(self.status, self._fields, self._body))
        is_away = self.status in _AWAY_STATUSES or self._leads_to_hub(access.url, target)
        return HandshakeError(text, self.status, code, is_passing=code in _PASSING_CODES if code else is_away)

    def _leads_to_hub(self, url: str, target: str) -> bool:
        """A hub redirects to `/hub/user/...` while the user's server does not run; other redirects lead to a login."""
        location = urlsplit(urljoin(urljoin(url, target), self._fields.get("Location") or ""))
        return 300 <= self.status < 400 and location.path.endswith(f"/hub{target}")


def _peer_name(access: ServerAccess, article: str = "The") -> str:
    """The other end of the TCP connection for sentences: the proxy, without its password, or the server."""
    if not access.proxy:
        return f"{article} server at {access.url}"
    parts = urlsplit(access.proxy)
    return f"{article} proxy {parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(error: OSError) -> str:
    cause = error.real_error if isinstance(error, StreamClosedError) else error
    return getattr(cause, "reason", None) or getattr(cause, "strerror", None) or "it closed the connection"
