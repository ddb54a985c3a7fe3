"""The only door to pycurl: an AsyncHTTPClient whose exchanges stream both ways, with back-pressure, over one CurlMulti.

Rule of this file: libcurl calls back in the middle of its own work, so callbacks only move data and note what to do; what
can re-enter libcurl (pause, remove_handle, socket_action) is called from the event loop alone.

Tornado's own CurlAsyncHTTPClient is made for fetching: it queues behind ten handles, has no back-pressure towards a slow
reader, no streamed upload and no cancel. `AsyncHTTPClient.fetch_impl` is the documented extension point; `fetch` works here
as with any client, and `open` gives the stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pycurl
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders

from ..errors import BadUpstream, Distrusted, GatewayError, NoDescriptors, Unreachable, UpstreamTimeout
from ..protocol.framing import Content
from ..protocol.urls import Upstream, bracket_host
from ..system.descriptors import affordable, is_scarce, keep_descriptor_alive, none_left, sockets_of
from ..system.tls import Trust
from .exchange import RECEIVE_BUFFER, Exchange, Head, Outbound

_MAX_FETCHED = 1 << 20
# libcurl 8.16 and 8.17 fail a transfer that is paused in the middle of their work (error 23; curl/curl#19334), in whatever way.
# The older ones are not asked to, either: they read less at a time, as they read some twenty times before they can be stopped.
_PAUSES_AT_ONCE = pycurl.version_info()[2] >= 0x081300
_READ_AT_ONCE = RECEIVE_BUFFER if _PAUSES_AT_ONCE else 16 * 1024
_IDLE_HANDLES = 64
_KEPT_CONNECTIONS = 1024
# RFC 9110 9.2.2. Only these may be sent on a kept-alive connection: libcurl repeats a request whose connection turns out
# to be dead, and nothing but an idempotent request without content may be repeated.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"})


class CurlTransport(AsyncHTTPClient):
    """Exchanges over libcurl. One per event loop; create with `force_instance=True` and close it."""

    pauses_at_once = _PAUSES_AT_ONCE

    def initialize(self, defaults: dict[str, Any] | None = None) -> None:
        super().initialize(defaults=defaults)
        self.loop = asyncio.get_running_loop()
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_MAXCONNECTS, affordable(_KEPT_CONNECTIONS))
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self._sockets = sockets_of(self.io_loop, self._drive)
        self._timer: asyncio.TimerHandle | None = None  # of the loop
        self._rings = 0.0  # when: a handle of uvloop's cannot tell while it runs
        self._due: float | None = None  # libcurl's
        self._driving = False
        self._kick: asyncio.Handle | None = None
        self._to_pause: list[Exchange] = []
        self._to_resume: list[Exchange] = []
        self._idle: list[_Handle] = []
        self._handles: dict[Exchange, _Handle] = {}  # of the exchanges in flight
        self._fetches: set[asyncio.Task[None]] = set()
        self._stopped = False

    def open(self, outbound: Outbound) -> Exchange:
        """Start an exchange; it connects and sends in the background."""
        exchange = Exchange(self, outbound)
        self._driving = True  # the timer that a new transfer sets is what comes next
        self._start(exchange)
        self._driving = False
        self._drive(pycurl.SOCKET_TIMEOUT, 0)
        return exchange

    def __len__(self) -> int:
        """Exchanges in flight."""
        return len(self._handles)

    def close(self) -> None:
        """Abort every exchange and close all connections."""
        if self._stopped:
            return
        self._stopped = True
        for exchange in list(self._handles):
            self.abandon(exchange)
        for handle in self._idle:
            handle.curl.close()
        self._idle.clear()
        self._multi.close()
        self._sockets.close()
        for planned in (self._timer, self._kick):
            if planned is not None:
                planned.cancel()
        super().close()

    def resume(self, exchange: Exchange) -> None:
        """Let a paused transfer go on, from the event loop."""
        self._to_resume.append(exchange)
        if self._kick is None:
            self._kick = self.loop.call_soon(self._resume_all)

    def complete(self, exchange: Exchange) -> None:
        """End an exchange whose answer is whole; its connection is closed if the request was not."""
        if exchange in self._handles:
            self._release(exchange)
            exchange.end(None)

    def pause(self, exchange: Exchange) -> None:
        """Called from within libcurl's work on this exchange."""
        if self.pauses_at_once:
            self._handles[exchange].curl.pause(pycurl.PAUSE_RECV)
        else:
            self._to_pause.append(exchange)

    def abandon(self, exchange: Exchange) -> None:
        """Take the exchange out of libcurl; a transfer that was not complete loses its connection."""
        if exchange in self._handles:
            self._release(exchange)
            exchange.end(BadUpstream("the exchange was given up"))

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        """Buffered requests of our own (probes): at most 1 MiB of answer, the address is the URL's literal host."""
        task = self.loop.create_task(self._fetch(request, callback), name="portproxy fetch")
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        url = urlsplit(request.url)
        host = url.hostname or ""
        upstream = Upstream(host, url.port or 80, (host,))
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        fields = [("Host", upstream.authority), *HTTPHeaders(request.headers).get_all()]
        timeout = request.connect_timeout or 5.0
        body = request.body or b""
        content = Content(len(body)) if body else None
        exchange = self.open(Outbound(request.method, upstream, target, fields, content, connect_timeout=timeout))
        try:
            await exchange.send(body)
            exchange.end_content()
            head, answer = await asyncio.wait_for(_collect(exchange), request.request_timeout or None)
            callback(_buffered(request, head, answer))
        except (GatewayError, asyncio.TimeoutError) as error:
            status = error.status if isinstance(error, GatewayError) else UpstreamTimeout.status
            callback(HTTPResponse(request, status, error=error, request_time=0))
        finally:
            exchange.abort()

    # ---- handles ----

    def _start(self, exchange: Exchange) -> None:
        out = exchange.outbound
        special = out.upstream.unix_socket or out.upstream.scheme == "https"
        handle = self._idle.pop() if self._idle and not special else self._made(out)
        self._handles[exchange] = handle
        handle.prepare(exchange, exchange.next_address() or "")
        self._multi.add_handle(handle.curl)

    def _made(self, out: Outbound) -> _Handle:
        return _Handle(out, self.loop, self._too_slow, self._sockets.opened)

    def _release(self, exchange: Exchange) -> None:
        handle = self._handles.pop(exchange, None)
        if handle is None:
            return
        handle.end_patience()
        self._multi.remove_handle(handle.curl)
        handle.exchange = None
        if len(self._idle) < _IDLE_HANDLES and not handle.special and not self._stopped:
            self._idle.append(handle)
        else:
            handle.curl.close()

    def _too_slow(self, exchange: Exchange) -> None:
        """It has not connected in time.

        A timer of the event loop runs after what the sockets had to say: libcurl's own would call a connection late that
        has stood for long when something else has held the loop up.
        """
        self._release(exchange)
        exchange.end(UpstreamTimeout.connect(exchange.outbound.connect_timeout))

    def _finish_done(self) -> None:
        while True:
            left, good, bad = self._multi.info_read()
            for curl in good:
                self._finish(curl.exchange_handle.exchange, None, "")
            for curl, number, text in bad:
                self._finish(curl.exchange_handle.exchange, number, text)
            if not left:
                return

    def _finish(self, exchange: Exchange | None, number: int | None, text: str) -> None:
        if exchange is None:
            return
        if number == pycurl.E_COULDNT_CONNECT and exchange.error is None:
            handle = self._handles.get(exchange)
            if handle is not None and not handle.fresh and none_left():  # libcurl keeps to itself why there is no socket
                exchange.error = NoDescriptors()
            address = exchange.next_address() if exchange.error is None else None
            if address is not None and handle is not None:
                self._multi.remove_handle(handle.curl)
                handle.prepare(exchange, address)
                self._multi.add_handle(handle.curl)
                return
        if number == pycurl.E_FTP_WEIRD_SERVER_REPLY and text.startswith(_BAD_LENGTH) and self._again_without_length(exchange):
            return
        if number is not None and not (exchange.ends_with_head and exchange.head.done()):
            error: GatewayError | None = _translate(number, text, exchange)
        else:
            error = None if exchange.head.done() else BadUpstream()
        self._release(exchange)
        exchange.end(error)

    def _again_without_length(self, exchange: Exchange) -> bool:
        """Ask once more for an answer whose Content-Length libcurl does not take; its head then tells if that is empty.

        False if the request may not be repeated, or was.
        """
        handle, out = self._handles.get(exchange), exchange.outbound
        if handle is None or handle.ignores_length or exchange.error is not None or exchange.head.done():
            return False
        if out.content is not None or out.method not in _REPEATABLE:
            return False
        exchange.begin_again()
        self._multi.remove_handle(handle.curl)
        handle.prepare(exchange, handle.address, ignores_length=True)
        self._multi.add_handle(handle.curl)
        return True

    # ---- the event loop ----

    def _set_timer(self, milliseconds: int) -> None:
        """libcurl moves its timer with each step of each transfer: one of the loop's that rings too early is let ring."""
        at_once = milliseconds == 0 and self._driving
        self._due = None if at_once or milliseconds < 0 else self.loop.time() + milliseconds / 1000
        if self._due is not None and (self._timer is None or self._rings > self._due):
            self._arm(self._due)

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings = self.loop.call_at(due, self._on_timer), due

    def _on_timer(self) -> None:
        self._timer, due = None, self._due
        if due is None:
            return
        if due > self.loop.time():
            self._arm(due)
            return
        self._due = None
        self._drive(pycurl.SOCKET_TIMEOUT, 0)

    def _drive(self, fd: int, action: int) -> None:
        """Let libcurl work, then tell the exchanges that it has ended."""
        self._multi.socket_action(fd, action)
        self._finish_done()
        while self._to_pause:
            handle = self._handles.get(self._to_pause.pop())
            if handle is not None:
                with contextlib.suppress(pycurl.error):  # the transfer has failed meanwhile; info_read tells it
                    handle.curl.pause(pycurl.PAUSE_RECV)

    def _watch(self, event: int, fd: int, multi: object, data: object) -> None:
        self._sockets.watch(fd, 0 if event == pycurl.POLL_REMOVE else event)

    def _resume_all(self) -> None:
        self._kick = None
        exchanges, self._to_resume = self._to_resume, []
        for exchange in exchanges:
            handle = self._handles.get(exchange)
            if handle is not None:
                with contextlib.suppress(pycurl.error):  # as above
                    handle.curl.pause(pycurl.PAUSE_CONT)
        self._drive(pycurl.SOCKET_TIMEOUT, 0)


class _Handle:
    """A curl easy handle for life: what never changes is set once, what changes is set for every exchange."""

    def __init__(
        self,
        out: Outbound,
        loop: asyncio.AbstractEventLoop,
        on_slow: Callable[[Exchange], None],
        on_opened: Callable[[int], None],
    ) -> None:
        self.exchange: Exchange | None = None
        self.special = bool(out.upstream.unix_socket) or out.upstream.scheme == "https"  # its options are left behind for nobody
        self.fresh = False
        self._fd = -1  # of the fresh connection
        self._loop, self._on_slow, self._on_opened = loop, on_slow, on_opened
        self._patience: asyncio.TimerHandle | None = None  # while it connects
        self._shape: str | None = None
        self._url = self.address = ""
        self.ignores_length = False  # of the answer, which then ends with its connection
        self.curl = curl = pycurl.Curl()
        curl.exchange_handle = self
        for option, value in _FIXED_OPTIONS:
            curl.setopt(option, value)
        if out.upstream.unix_socket:
            curl.setopt(pycurl.UNIX_SOCKET_PATH, out.upstream.unix_socket)
        if out.upstream.scheme == "https":
            _set_trust(curl, out.trust)
        curl.setopt(pycurl.HEADERFUNCTION, self._header)
        curl.setopt(pycurl.WRITEFUNCTION, self._content)
        curl.setopt(pycurl.READFUNCTION, self._wanted)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._opened)
        curl.setopt(pycurl.PREREQFUNCTION, self._connected)

    def prepare(self, exchange: Exchange, address: str, ignores_length: bool = False) -> None:
        self.exchange, self.address = exchange, address
        self.fresh = False
        out = exchange.outbound
        curl = self.curl
        if ignores_length != self.ignores_length:
            curl.setopt(pycurl.IGNORE_CONTENT_LENGTH, ignores_length)
            self.ignores_length = ignores_length
        url = self._address_url(out.upstream, address)
        if url != self._url:
            curl.setopt(pycurl.URL, url)
            self._url = url
        curl.setopt(pycurl.REQUEST_TARGET, out.target.encode("latin-1"))
        if out.made is None:
            out.made = _header_lines(out)
        curl.setopt(pycurl.HTTPHEADER, out.made)
        shape = None if out.content is not None else out.method
        if shape is None or shape != self._shape:
            self._take_shape(out)
        self._shape = shape

    def _address_url(self, upstream: Upstream, address: str) -> str:
        """The URL that makes libcurl dial an address; with TLS it has the name that the certificate must have."""
        if upstream.scheme == "http":
            return f"http://{bracket_host(address)}:{upstream.port}/"
        self.curl.setopt(pycurl.CONNECT_TO, [f"::{bracket_host(address)}:{upstream.port}"])
        return f"{upstream.origin}/"

    def _take_shape(self, out: Outbound) -> None:
        """What is the same for most requests, and left as it is between two of them."""
        curl = self.curl
        once = out.content is not None or out.method not in _REPEATABLE
        curl.setopt(pycurl.FRESH_CONNECT, once)
        curl.setopt(pycurl.FORBID_REUSE, once)
        # NOBODY and UPLOAD choose how libcurl frames the exchange; CUSTOMREQUEST only names the method.
        curl.setopt(pycurl.UPLOAD, 0)
        curl.setopt(pycurl.NOBODY, 0)
        curl.setopt(pycurl.HTTPGET, 1)
        if out.content is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE_LARGE, -1 if out.content.length is None else out.content.length)
        elif out.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        curl.setopt(pycurl.CUSTOMREQUEST, out.method)

    def end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _header(self, line: bytes) -> int | None:
        return None if self.exchange is not None and self.exchange.on_header(line) else -1

    def _content(self, data: bytes) -> int | None:
        if self.exchange is None:
            return -1
        return None if self.exchange.on_content(data) else int(pycurl.WRITEFUNC_PAUSE)

    def _wanted(self, size: int) -> bytes | int:
        if self.exchange is None:
            return int(pycurl.READFUNC_ABORT)
        data = self.exchange.on_wanted(size)
        return int(pycurl.READFUNC_PAUSE) if data is None else data

    def _opened(self, fd: int, purpose: int) -> int:
        self.fresh, self._fd = True, fd
        self._on_opened(fd)
        if self.exchange is None:
            return int(pycurl.SOCKOPT_ERROR)
        if is_scarce(fd):
            self.exchange.error = NoDescriptors()
            return int(pycurl.SOCKOPT_ERROR)
        keep_descriptor_alive(fd)
        self.end_patience()
        self._patience = self._loop.call_later(self.exchange.outbound.connect_timeout, self._on_slow, self.exchange)
        return int(pycurl.SOCKOPT_OK)

    def _connected(self, remote: str, local: str, remote_port: int, local_port: int) -> int:
        self.end_patience()
        if self.exchange is None:
            return int(pycurl.PREREQFUNC_ABORT)
        if not self.fresh:  # a kept-alive connection, approved when it was new; a refused one is never kept
            return int(pycurl.PREREQFUNC_OK)
        approved = self.exchange.on_connected(remote, local, remote_port, local_port, self._fd)
        return int(pycurl.PREREQFUNC_OK if approved else pycurl.PREREQFUNC_ABORT)


# A gateway dials what it was told, as it was told, and reads what came: no environment, no redirect, no decoding, no jar.
_FIXED_OPTIONS: list[tuple[int, Any]] = [
    (pycurl.VERBOSE, 0),
    (pycurl.NOSIGNAL, 1),
    (pycurl.PROXY, ""),
    (pycurl.NOPROXY, "*"),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.HTTP09_ALLOWED, 0),
    (pycurl.HTTP_CONTENT_DECODING, 0),
    (pycurl.USERAGENT, ""),
    (pycurl.BUFFERSIZE, _READ_AT_ONCE),
    (pycurl.UPLOAD_BUFFERSIZE, 256 * 1024),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.CONNECTTIMEOUT, 86400 * 20),  # `_too_slow` counts
]


def _set_trust(curl: Any, trust: Trust) -> None:
    curl.setopt(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2)
    curl.setopt(pycurl.SSL_VERIFYPEER, 1 if trust.verified else 0)
    curl.setopt(pycurl.SSL_VERIFYHOST, 2 if trust.verified else 0)
    for option, path in zip((pycurl.CAINFO, pycurl.CAPATH), trust.files, strict=True):
        if path:
            curl.setopt(option, path)


def _header_lines(out: Outbound) -> list[bytes]:
    """The fields as libcurl takes them: `Name:` alone would drop the field, `Name;` sends it empty."""
    lines = [f"{name}: {value}".encode("latin-1") if value else f"{name};".encode("latin-1") for name, value in out.fields]
    names = {name.lower() for name, _ in out.fields}
    lines.append(b"Expect:")
    if "accept" not in names:
        lines.append(b"Accept:")
    if out.content is not None and out.content.length is None:
        lines.append(b"Transfer-Encoding: chunked")
    return lines


_BAD_LENGTH = "Invalid Content-Length"
# What libcurl says of a head that it does not read, in its words and in ours.
_BAD_HEADS = (
    (_BAD_LENGTH, "its Content-Length is not one whole number"),
    ("Header without colon", "a header line has no colon"),
    ("Carriage return", "a header field has control characters in it"),
    ("NUL byte", "a header field has control characters in it"),
    ("Unsolicited Transfer-Encoding", "its Transfer-Encoding is not chunked"),
    ("Multiple Location headers", "it has two Locations that differ"),
    ("Unsupported response code", "its status line is none of HTTP/1.1"),
    ("Unsupported HTTP/1 subversion", "its status line is none of HTTP/1.1"),
    ("Invalid status line", "its status line is none of HTTP/1.1"),
)


def _translate(number: int, text: str, exchange: Exchange) -> GatewayError:
    """libcurl's error -> ours."""
    upstream = exchange.outbound.upstream
    if number == pycurl.E_COULDNT_CONNECT:
        return Unreachable.port(upstream.port) if upstream.host == "localhost" else Unreachable.host(upstream.authority)
    if number == pycurl.E_PEER_FAILED_VERIFICATION:
        return Distrusted.certificate()
    if number == pycurl.E_SSL_CONNECT_ERROR:
        return Distrusted.no_tls()
    if number in (pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR):
        return BadUpstream("it closed the connection without an answer")
    if number == pycurl.E_PARTIAL_FILE:
        return BadUpstream("it ended in the middle")
    known = [ours for theirs, ours in _BAD_HEADS if text.startswith(theirs)]
    return BadUpstream(*known[:1])


async def _collect(exchange: Exchange) -> tuple[Head, bytes]:
    head = await exchange.head
    content = bytearray()
    while data := await exchange.read():
        content += data
        if len(content) > _MAX_FETCHED:
            raise BadUpstream("it is larger than 1 MiB")
    return head, bytes(content)


def _buffered(request: HTTPRequest, head: Head, content: bytes) -> HTTPResponse:
    headers = HTTPHeaders()
    for name, value in head.fields:
        headers.add(name, value)
    return HTTPResponse(request, head.status, headers, io.BytesIO(content), reason=head.reason)
