"""Requests like a browser's, to one origin: that of a service, or that of this Jupyter server. GET and WebSocket handshakes only.

A client has a jar of cookies and a budget of time and bytes, which both clients of a crawl share.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from os import urandom
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from ..errors import GatewayError
from ..gateway.connector import Connector
from ..gateway.policy import Policy
from ..handlers.websocket import print_head
from ..protocol.framing import UPGRADE_FIELDS, Fields, find_field
from ..protocol.headers import ERROR_FIELD
from ..protocol.urls import Upstream
from ..system.tls import Trust
from ..upstream.exchange import Exchange, Outbound
from ..upstream.handshake import request_upgrade
from .cookie_jar import CookieJar
from .decoding import CONTENT_CODINGS, Inflater
from .observation import LoadedKind, Response

REQUEST_TIMEOUT = 8.0  # s for a response with its content
MAX_REDIRECTS = 10
_CONNECT_TIMEOUT = 4.0  # s
_USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36"
_PAGE_TYPES = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
# What a browser sends in Accept and Sec-Fetch-Dest, by what it loads.
_LOADS: dict[LoadedKind, tuple[str, str]] = {
    "page": (_PAGE_TYPES, "document"),
    "frame": (_PAGE_TYPES, "iframe"),
    "script": ("*/*", "script"),
    "style": ("text/css,*/*;q=0.1", "style"),
    "image": ("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", "image"),
    "font": ("*/*", "font"),
    "manifest": ("*/*", "manifest"),
    "worker": ("*/*", "serviceworker"),
    "socket": ("*/*", "websocket"),
}
_CLOSE_FRAME = b"\x88\x82\0\0\0\0\x03\xe8"  # 1000, masked with zeros (RFC 6455 5.5.1)


@dataclass
class Budget:
    """What is left for a crawl.

    Attributes:
        deadline: of `time.monotonic`.
        bytes: that may still be read; requests that have begun may exceed it by their own limits.
    """

    deadline: float
    bytes: int

    @property
    def seconds(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def is_spent(self) -> bool:
        return self.seconds <= 0 or self.bytes <= 0


@dataclass(frozen=True, slots=True)
class Load:
    """One GET.

    Attributes:
        url: absolute, without a fragment.
        referer: the page's URL as its referrer policy lets it be sent; empty for none.
        max_content: bytes of content after which the rest is not read.
    """

    url: str
    kind: LoadedKind
    referer: str = ""
    max_content: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """The response to a GET, after redirects if these were followed, with the URL that it came from."""

    response: Response
    content: bytes = b""
    url: str = ""


@dataclass
class PageClient:
    """One of the two ways to a page.

    Attributes:
        origin: of the page's URL.
        owns: True for the authority of a URL that this client may request: all of them are at `upstream`.
        fields: sent with each request to `origin`, such as the login at Jupyter.
        is_gateway: the responses come from this server's gateway, or from Jupyter.
        trust: in the certificate of `upstream`; None for the policy's.
    """

    origin: str
    upstream: Upstream
    connector: Connector
    policy: Policy
    budget: Budget
    owns: Callable[[str], bool]
    fields: Fields = field(default_factory=list)
    is_gateway: bool = False
    trust: Trust | None = None
    jar: CookieJar = field(default_factory=CookieJar)

    async def get(self, load: Load) -> Loaded:
        """The response to one request; redirects are not followed. Errors are in `Loaded.response`."""
        started = time.monotonic()
        timeout = min(REQUEST_TIMEOUT, self.budget.seconds)
        if self.budget.is_spent:
            return Loaded(Response(error="timeout"), url=load.url)
        try:
            exchange = self.connector.open(self._outbound(load), self.trust)
        except GatewayError as error:
            return Loaded(Response(error=error.code), url=load.url)
        reading = asyncio.ensure_future(self._read(exchange, load, started))
        try:
            await asyncio.wait({reading}, timeout=timeout)
        finally:
            reading.cancel()
            exchange.abort()
        late = Response(error="timeout", seconds=time.monotonic() - started)
        return await _result(reading) or Loaded(late, url=load.url)

    async def follow(self, load: Load, may_load: Callable[[Load], bool] = lambda load: True) -> Loaded:
        """The response at the end of its redirects, or where they lead to what may not be requested."""
        locations: list[str] = []
        while True:
            loaded = await self.get(load)
            location = loaded.response.redirect_url
            following = join_url(load.url, location) if location else ""
            next_load = replace(load, url=following)
            is_last = not following or not self.owns_url(following) or not may_load(next_load)
            if is_last or len(locations) == MAX_REDIRECTS:
                error = loaded.response.error if is_last else "too_many_redirects"
                return replace(loaded, response=replace(loaded.response, redirects=tuple(locations), error=error))
            locations.append(location)
            load = next_load

    async def shake_hands(self, url: str, page_origin: str) -> Response:
        """The response to the handshake of a WebSocket, which is closed at once."""
        started, refusal = time.monotonic(), _RefusedUpgrade()
        timeout = min(REQUEST_TIMEOUT, self.budget.seconds)
        if self.budget.is_spent:
            return Response(error="timeout")
        fields = [*self.fields_of(Load(url, "socket")), ("Origin", page_origin), *UPGRADE_FIELDS]
        fields += [("Sec-WebSocket-Key", b64encode(urandom(16)).decode()), ("Sec-WebSocket-Version", "13")]
        head = print_head(f"GET {target_of(url)} HTTP/1.1", fields)
        connecting = asyncio.ensure_future(self._upgrade(head, refusal, timeout))
        try:
            await asyncio.wait({connecting}, timeout=timeout)
        finally:
            connecting.cancel()
        response = await _result(connecting) or refusal.response or Response(error="timeout")
        return replace(response, seconds=time.monotonic() - started, error=response.error or self._error_in(response.fields))

    def owns_url(self, url: str) -> bool:
        return self.owns(urlsplit(url).netloc.lower())

    def is_at_origin(self, url: str) -> bool:
        """True if a URL has the authority of `origin`, also with the scheme of a WebSocket."""
        return urlsplit(url).netloc.lower() == urlsplit(self.origin).netloc

    def _error_in(self, fields: Iterable[tuple[str, str]]) -> str:
        """The code of the gateway's own error; empty for a service's response, in which that field means nothing."""
        return find_field(fields, ERROR_FIELD.lower()) if self.is_gateway else ""

    async def _upgrade(self, head: bytes, refusal: _RefusedUpgrade, timeout: float) -> Response | None:
        try:
            stream = await self.connector.dial(self.upstream, min(_CONNECT_TIMEOUT, timeout), self.trust)
        except GatewayError as error:
            return Response(error=error.code)
        try:
            granted = await request_upgrade(stream, head, refusal, timeout)
            if granted is None:
                return refusal.response
            await stream.write(_CLOSE_FRAME)
            return Response(101, "Switching Protocols", tuple(granted))
        except GatewayError as error:
            return Response(error=error.code)
        except OSError:
            return Response(error="bad_upstream")
        finally:
            stream.close()

    def _outbound(self, load: Load) -> Outbound:
        fields, approve = self.fields_of(load), self.policy.approval_of(self.upstream)
        return Outbound("GET", self.upstream, target_of(load.url), fields, None, _CONNECT_TIMEOUT, approve)

    def fields_of(self, load: Load) -> Fields:
        """The fields of a request, as Chromium sends them to a trustworthy origin."""
        accept, destination = _LOADS[load.kind]
        is_page = load.kind in ("page", "frame")
        mode = "navigate" if is_page else "websocket" if load.kind == "socket" else "no-cors"
        authority = urlsplit(load.url).netloc
        out = [("Host", authority), ("User-Agent", _USER_AGENT), ("Accept", accept), ("Accept-Language", "en-US,en;q=0.9")]
        out += [("Accept-Encoding", "gzip, deflate"), ("Sec-Fetch-Dest", destination), ("Sec-Fetch-Mode", mode)]
        out.append(("Sec-Fetch-Site", "none" if load.kind == "page" and not load.referer else "same-origin"))
        out += [("Upgrade-Insecure-Requests", "1"), ("Sec-Fetch-User", "?1")] if load.kind == "page" else []
        out += [("Referer", load.referer)] if load.referer else []
        own = self.fields if self.is_at_origin(load.url) else []
        cookies = [value for name, value in own if name.lower() == "cookie"]
        cookies += filter(None, [self.jar.find(authority, urlsplit(load.url).path)])
        out += [("Cookie", "; ".join(cookies))] if cookies else []
        names = {name.lower() for name, _ in out} | {"cookie"}
        return out + [(name, value) for name, value in own if name.lower() not in names]

    async def _read(self, exchange: Exchange, load: Load, started: float) -> Loaded:
        try:
            head = await exchange.head
        except GatewayError as failure:
            return Loaded(Response(error=failure.code, seconds=time.monotonic() - started), url=load.url)
        fields = tuple(head.fields)
        self.jar.store(urlsplit(load.url).netloc, urlsplit(load.url).path, fields)
        response = Response(head.status, head.reason, fields, seconds=time.monotonic() - started)
        coding = find_field(fields, "content-encoding")
        inflater = Inflater(coding, load.max_content)
        error = self._error_in(fields)
        if coding.strip().lower() not in CONTENT_CODINGS:
            return Loaded(replace(response, error=error or "not_decodable"), url=load.url)
        timeout = min(REQUEST_TIMEOUT, self.budget.seconds) - response.seconds
        try:
            await asyncio.wait_for(self._read_content(exchange, inflater), max(timeout - 0.1, 0.05))
        except asyncio.TimeoutError:
            error = error or "timeout"
        except GatewayError as failure:
            error = error or failure.code
        error = error or ("not_decodable" if inflater.is_broken else "")
        content, is_cut = bytes(inflater.content), inflater.is_cut or error == "timeout"
        return Loaded(replace(response, size=len(content), is_cut=is_cut, error=error), content, load.url)

    async def _read_content(self, exchange: Exchange, inflater: Inflater) -> None:
        while not inflater.is_cut and not inflater.is_broken and (data := await exchange.read()):
            self.budget.bytes -= len(data)
            inflater.feed(data)


class _RefusedUpgrade:
    """The response to a handshake that is not granted; its content is not kept (a `ResponseWriter`)."""

    def __init__(self) -> None:
        self.response: Response | None = None

    def start(self, status: int, reason: str, fields: Fields) -> Awaitable[None]:
        self.response = Response(status, reason, tuple(fields))
        return _nothing()

    def write(self, data: bytes) -> Awaitable[None]:
        return _nothing()

    def finish(self) -> None:
        pass

    def cut(self) -> None:
        pass


async def _nothing() -> None:
    pass


T = TypeVar("T")


async def _result(task: asyncio.Future[T]) -> T | None:
    """The result of a task that has been cancelled unless it was done; None if it was not."""
    try:
        return await task
    except asyncio.CancelledError:
        if not task.cancelled():
            raise
        return None


def target_of(url: str) -> str:
    """The request target of a URL, in ASCII."""
    target = path_and_query(url)
    return "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode("utf-8", "replace")) for c in target)


def path_and_query(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def join_url(base: str, url: str) -> str:
    """The absolute URL of a reference, without a fragment; empty for one that is not valid or not of the web."""
    try:
        joined = urlsplit(urljoin(base, url.strip().replace("\\", "/")))
        is_web = joined.scheme in ("http", "https", "ws", "wss") and joined.hostname and (joined.port or 1)
    except ValueError:
        return ""
    return joined._replace(fragment="").geturl() if is_web else ""
