"""HTTP exchanges over libcurl: one CurlMulti, streaming both ways, with back-pressure. The only module that imports pycurl.

Tornado's CurlAsyncHTTPClient queues requests behind ten handles, and has no back-pressure, no streamed upload and no cancel.

States, all of them changed by `CurlTransport` on the event loop:

    easy handle   idle (in `_idle`) -> in flight (in `_handles`, added to the multi) -> idle again, or closed if it has options of
                  one upstream (Unix socket, TLS) or `_MAX_IDLE_HANDLES` are idle. A transfer is restarted on the same handle for
                  the next address, or for a response whose Content-Length libcurl rejects.
    connection    belongs to the multi, which keeps idle ones. SOCKOPTFUNCTION reports a fresh one; PREREQFUNCTION, after
                  connecting and before sending, has it approved. A refused connection is never kept.
    receiving     paused by `pause` when an exchange's buffer is full, continued by `resume` in the next turn of the loop.
    sending       paused by READFUNC_PAUSE when there is no content to send, continued by `resume`.
    sockets       watched as libcurl requests (M_SOCKETFUNCTION); see `socket_watcher` for registrations that outlive a request.
    timer         `_due` is libcurl's; `_timer` is the loop's, which may fire earlier and is then set again.

libcurl's callbacks run in the middle of its work: they only move data and record what to do. What may re-enter libcurl (pause,
remove_handle, socket_action) is called from the event loop, except `pause` where libcurl allows that.
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

from ..errors import BadUpstream, Distrusted, GatewayError, NoDescriptors, UpstreamTimeout
from ..protocol.framing import Content
from ..protocol.urls import Upstream, bracket_host
from ..system.descriptors import affordable, is_scarce, keep_descriptor_alive, none_left
from ..system.tls import Trust
from .connect import name_descriptor, unreachable
from .exchange import RECEIVE_BUFFER, Exchange, Outbound
from .socket_watcher import watch_sockets

# libcurl 8.16 and 8.17 fail a transfer that is paused in the middle of their work (error 23; curl/curl#19334). Before 8.19 a
# transfer is paused between two steps, and the buffer is small, as libcurl may read some twenty times per step.
_PAUSES_AT_ONCE = pycurl.version_info()[2] >= 0x081300
_READ_SIZE = RECEIVE_BUFFER if _PAUSES_AT_ONCE else 16 * 1024
_MAX_FETCHED = 1 << 20  # bytes
_MAX_IDLE_HANDLES = 64
_MAX_IDLE_CONNECTIONS = 1024
# Methods that may be sent on a kept-alive connection (RFC 9110 9.2.2): libcurl repeats a request whose connection turns out to
# be dead, and only an idempotent request without content may be repeated.
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", "SEARCH", "QUERY"})


class CurlTransport(AsyncHTTPClient):
    """An AsyncHTTPClient with the curl backend whose exchanges stream both ways; on the running event loop.

    Create it with `force_instance=True` and close it.

    Args:
        keep_registrations: keep sockets registered in an epoll between requests (Linux).
        keep_header_lines: print the fields of an `Outbound` once, however often it is sent.
    """

    pauses_at_once = _PAUSES_AT_ONCE

    def initialize(
        self, defaults: dict[str, Any] | None = None, *, keep_registrations: bool = True, keep_header_lines: bool = True
    ) -> None:
        """Called by Tornado in place of a constructor."""
        super().initialize(defaults=defaults)
        self.loop = asyncio.get_running_loop()
        self._keep_header_lines = keep_header_lines
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_MAXCONNECTS, affordable(_MAX_IDLE_CONNECTIONS))
        self._multi.setopt(pycurl.M_PIPELINING, 0)
        self.sockets = watch_sockets(self.io_loop, self._drive, keep_registrations=keep_registrations)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # a running handle of uvloop's has no `when`
        self._due: float | None = None
        self._is_opening = False
        self._resuming: asyncio.Handle | None = None
        self._to_pause: list[Exchange] = []
        self._to_resume: list[Exchange] = []
        self._idle: list[_EasyHandle] = []
        self._handles: dict[Exchange, _EasyHandle] = {}
        self._fetches: set[asyncio.Task[None]] = set()
        self._stopped = False

    def open(self, outbound: Outbound) -> Exchange:
        """Start an exchange; it connects and sends in the background."""
        exchange = Exchange(self, outbound)
        reusable = self._idle and not _is_special(outbound.upstream)
        handle = self._idle.pop() if reusable else _EasyHandle(self, outbound)
        if outbound.header_lines is None or not self._keep_header_lines:
            outbound.header_lines = _header_lines(outbound)
        handle.prepare(exchange, exchange.next_address() or "")
        self._handles[exchange] = handle
        self._is_opening = True  # the new transfer's timer is due at once, which is the call below
        self._multi.add_handle(handle.curl)
        self._is_opening = False
        self._drive(pycurl.SOCKET_TIMEOUT, 0)
        return exchange

    def __len__(self) -> int:
        """Exchanges in flight."""
        return len(self._handles)

    def close(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        for exchange in list(self._handles):
            self.abort(exchange)
        for handle in self._idle:
            handle.curl.close()
        self._idle.clear()
        self._multi.close()
        self.sockets.close()
        for scheduled in (self._timer, self._resuming):
            if scheduled is not None:
                scheduled.cancel()
        super().close()

    def fetch_impl(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        """What `fetch` calls: a request and its response as a whole, 1 MiB at most, to the literal address in its URL."""
        task = self.loop.create_task(self._fetch(request, callback), name="portproxy fetch")
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    async def _fetch(self, request: HTTPRequest, callback: Callable[[HTTPResponse], None]) -> None:
        url, body = urlsplit(request.url), request.body or b""
        upstream = Upstream(url.hostname or "", url.port or 80, (url.hostname or "",))
        fields = [("Host", upstream.authority), *HTTPHeaders(request.headers).get_all()]
        target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        content = Content(len(body)) if body else None
        timeout = request.connect_timeout or 5.0
        exchange = self.open(Outbound(request.method, upstream, target, fields, content, connect_timeout=timeout))
        try:
            await exchange.send(body)
            exchange.end_content()
            callback(await asyncio.wait_for(_read_whole(request, exchange), request.request_timeout or None))
        except (GatewayError, asyncio.TimeoutError) as error:
            status = error.status if isinstance(error, GatewayError) else UpstreamTimeout.status
            callback(HTTPResponse(request, status, error=error, request_time=0))
        finally:
            exchange.abort()

    # ---- called by exchanges and easy handles ----

    def pause(self, exchange: Exchange) -> None:
        """Receive no more; called within libcurl's work on this exchange."""
        if self.pauses_at_once:
            self._handles[exchange].curl.pause(pycurl.PAUSE_RECV)
        else:
            self._to_pause.append(exchange)

    def resume(self, exchange: Exchange) -> None:
        """Continue a paused transfer, in the next turn of the event loop."""
        self._to_resume.append(exchange)
        if self._resuming is None:
            self._resuming = self.loop.call_soon(self._resume_all)

    def complete(self, exchange: Exchange) -> None:
        """End an exchange whose response is whole; its connection is closed if the request was not."""
        self._end(exchange, None)

    def abort(self, exchange: Exchange) -> None:
        """End an exchange early, which closes its connection; no effect on one that has ended."""
        if exchange in self._handles:
            self._end(exchange, BadUpstream("the exchange was given up"))

    def expire(self, exchange: Exchange) -> None:
        """End an exchange that has not connected in time.

        The event loop's timers run after the sockets' events; libcurl's own timeout would fail a connection that was ready in
        time if the loop was blocked meanwhile.
        """
        self._end(exchange, UpstreamTimeout.connect(exchange.outbound.connect_timeout))

    # ---- the end of a transfer ----

    def _end(self, exchange: Exchange, error: GatewayError | None) -> None:
        handle = self._handles.pop(exchange, None)
        if handle is None:
            return
        handle.stop_timer()
        self._multi.remove_handle(handle.curl)
        handle.exchange = None
        if len(self._idle) < _MAX_IDLE_HANDLES and not handle.is_special and not self._stopped:
            self._idle.append(handle)
        else:
            handle.curl.close()
        exchange.end(error)

    def _finish_done(self) -> None:
        while True:
            left, succeeded, failed = self._multi.info_read()
            for curl in succeeded:
                self._finish(curl.easy_handle, pycurl.E_OK, "")
            for curl, code, text in failed:
                self._finish(curl.easy_handle, code, text)
            if not left:
                return

    def _finish(self, handle: _EasyHandle, code: int, text: str) -> None:
        exchange = handle.exchange
        if exchange is None or (exchange.error is None and self._restart(exchange, handle, code, text)):
            return
        error: GatewayError | None = None
        if code != pycurl.E_OK and not (exchange.ends_with_head and exchange.head.done()):
            error = _translate(code, text, exchange.outbound.upstream)
        elif not exchange.head.done():
            error = BadUpstream()
        self._end(exchange, error)

    def _restart(self, exchange: Exchange, handle: _EasyHandle, code: int, text: str) -> bool:
        """Repeat a failed transfer where that is safe and may help. False if it is not repeated."""
        ignores_length = handle.ignores_length
        if code == pycurl.E_COULDNT_CONNECT:
            if not handle.is_fresh and none_left():  # libcurl does not report why it could not open a socket
                exchange.error = NoDescriptors()
                return False
            address = exchange.next_address()
            if address is None:
                return False
        elif code == pycurl.E_FTP_WEIRD_SERVER_REPLY and text.startswith(_BAD_LENGTH):
            # Repeated without libcurl's check: the head then shows whether all its Content-Lengths are one number.
            out = exchange.outbound
            if ignores_length or exchange.head.done() or out.content is not None or out.method not in _REPEATABLE:
                return False
            exchange.restart()
            address, ignores_length = handle.address, True
        else:
            return False
        self._multi.remove_handle(handle.curl)
        handle.prepare(exchange, address, ignores_length)
        self._multi.add_handle(handle.curl)
        return True

    # ---- the event loop ----

    def _set_timer(self, milliseconds: int) -> None:
        """libcurl moves its timer with each step of each transfer, so a timer of the loop's that fires too early is kept."""
        at_once = milliseconds == 0 and self._is_opening
        self._due = None if at_once or milliseconds < 0 else self.loop.time() + milliseconds / 1000
        if self._due is not None and (self._timer is None or self._timer_at > self._due):
            self._start_timer(self._due)

    def _start_timer(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self.loop.call_at(due, self._on_timer), due

    def _on_timer(self) -> None:
        self._timer, due = None, self._due
        if due is None:
            return
        if due > self.loop.time():
            self._start_timer(due)
            return
        self._due = None
        self._drive(pycurl.SOCKET_TIMEOUT, 0)

    def _drive(self, fd: int, action: int) -> None:
        """Let libcurl work on a socket (or on what is due), then end the exchanges that it has finished."""
        self._multi.socket_action(fd, action)
        self._finish_done()
        while self._to_pause:
            self._pause(self._to_pause.pop(), pycurl.PAUSE_RECV)

    def _watch(self, event: int, fd: int, multi: object, data: object) -> None:
        self.sockets.watch(fd, 0 if event == pycurl.POLL_REMOVE else event)

    def _resume_all(self) -> None:
        self._resuming = None
        exchanges, self._to_resume = self._to_resume, []
        for exchange in exchanges:
            self._pause(exchange, pycurl.PAUSE_CONT)
        self._drive(pycurl.SOCKET_TIMEOUT, 0)

    def _pause(self, exchange: Exchange, mask: int) -> None:
        handle = self._handles.get(exchange)
        if handle is not None:
            with contextlib.suppress(pycurl.error):  # the transfer has failed meanwhile; info_read reports it
                handle.curl.pause(mask)


class _EasyHandle:
    """A curl easy handle: fixed options are set once, the others for every exchange."""

    def __init__(self, transport: CurlTransport, out: Outbound) -> None:
        self._transport = transport
        self.exchange: Exchange | None = None
        self.is_special = _is_special(out.upstream)
        self.is_fresh = False  # the connection has been opened for this exchange
        self.address = ""
        self._is_grouped = False  # the options for a group of connections are set
        self.ignores_length = False  # of the response, which then ends with its connection
        self._fd = -1  # of the fresh connection
        self._timer: asyncio.TimerHandle | None = None  # while it connects
        self.curl = curl = pycurl.Curl()
        curl.easy_handle = self
        for option, value in _FIXED_OPTIONS:
            curl.setopt(option, value)
        if out.upstream.unix_socket:
            curl.setopt(pycurl.UNIX_SOCKET_PATH, out.upstream.unix_socket)
        if out.upstream.scheme == "https":
            _set_trust(curl, out.trust)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_content)
        curl.setopt(pycurl.READFUNCTION, self._on_send_ready)
        curl.setopt(pycurl.SOCKOPTFUNCTION, self._on_socket_opened)
        curl.setopt(pycurl.PREREQFUNCTION, self._on_connected)

    def prepare(self, exchange: Exchange, address: str, ignores_length: bool = False) -> None:
        """Set the options of one exchange with one address of its upstream."""
        self.exchange, self.address, self.is_fresh = exchange, address, False
        curl, out = self.curl, exchange.outbound
        if ignores_length != self.ignores_length:
            curl.setopt(pycurl.IGNORE_CONTENT_LENGTH, ignores_length)
            self.ignores_length = ignores_length
        upstream = out.upstream
        self._set_address(upstream, f"{bracket_host(address)}:{upstream.port}")
        curl.setopt(pycurl.REQUEST_TARGET, out.target.encode("latin-1"))
        curl.setopt(pycurl.HTTPHEADER, out.header_lines)
        # The URL has a certificate's name, by which the connections of groups cannot be kept apart.
        has_own_connection = bool(upstream.group) and upstream.scheme == "https"
        on_new_connection = out.content is not None or out.method not in _REPEATABLE or has_own_connection
        curl.setopt(pycurl.FRESH_CONNECT, on_new_connection)
        curl.setopt(pycurl.FORBID_REUSE, on_new_connection)
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

    def _set_address(self, upstream: Upstream, address: str) -> None:
        """Connect to an address. libcurl keeps connections by the URL's host name, too: a group is one, a certificate has one."""
        curl = self.curl
        if upstream.scheme == "https" or upstream.group:
            curl.setopt(pycurl.CONNECT_TO, [f"::{address}"])
            name = f"{upstream.group}:{upstream.port}"
            curl.setopt(pycurl.URL, f"{upstream.origin}/" if upstream.scheme == "https" else f"http://{name}/")
            self._is_grouped = True
            return
        if self._is_grouped:
            curl.unsetopt(pycurl.CONNECT_TO)
            self._is_grouped = False
        curl.setopt(pycurl.URL, f"http://{address}/")

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- called by libcurl ----

    def _on_header(self, line: bytes) -> int | None:
        return None if self.exchange is not None and self.exchange.on_header(line) else -1

    def _on_content(self, data: bytes) -> int | None:
        if self.exchange is None:
            return -1
        return None if self.exchange.on_content(data) else int(pycurl.WRITEFUNC_PAUSE)

    def _on_send_ready(self, size: int) -> bytes | int:
        if self.exchange is None:
            return int(pycurl.READFUNC_ABORT)
        data = self.exchange.on_send_ready(size)
        return int(pycurl.READFUNC_PAUSE) if data is None else data

    def _on_socket_opened(self, fd: int, purpose: int) -> int:
        self.is_fresh, self._fd = True, fd
        self._transport.sockets.opened(fd)
        if self.exchange is None:
            return int(pycurl.SOCKOPT_ERROR)
        if is_scarce(fd):
            self.exchange.error = NoDescriptors()
            return int(pycurl.SOCKOPT_ERROR)
        if self.exchange.outbound.upstream.unix_socket:
            name_descriptor(fd)
        else:
            keep_descriptor_alive(fd)
        self.stop_timer()
        timeout = self.exchange.outbound.connect_timeout
        self._timer = self._transport.loop.call_later(timeout, self._transport.expire, self.exchange)
        return int(pycurl.SOCKOPT_OK)

    def _on_connected(self, remote: str, local: str, remote_port: int, local_port: int) -> int:
        self.stop_timer()
        if self.exchange is None:
            return int(pycurl.PREREQFUNC_ABORT)
        if not self.is_fresh:  # a kept-alive connection, approved when it was fresh
            return int(pycurl.PREREQFUNC_OK)
        approved = self.exchange.on_connected(remote, local, remote_port, local_port, self._fd)
        return int(pycurl.PREREQFUNC_OK if approved else pycurl.PREREQFUNC_ABORT)


# Nothing is taken from the environment, followed, decoded or stored.
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
    (pycurl.BUFFERSIZE, _READ_SIZE),
    (pycurl.UPLOAD_BUFFERSIZE, 256 * 1024),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.CONNECTTIMEOUT, 86400 * 20),  # in effect none: `CurlTransport.expire`
]


def _is_special(upstream: Upstream) -> bool:
    """True if its easy handle has options that must not be left over for another upstream."""
    return bool(upstream.unix_socket) or upstream.scheme == "https"


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
    lines.append(b"Expect:")
    if all(name.lower() != "accept" for name, _ in out.fields):
        lines.append(b"Accept:")
    if out.content is not None and out.content.length is None:
        lines.append(b"Transfer-Encoding: chunked")
    return lines


# ---- libcurl's errors as GatewayErrors ----

_BAD_LENGTH = "Invalid Content-Length"
# libcurl's message for a response head that it rejects -> the reason in a BadUpstream.
_BAD_HEADS = (
    (_BAD_LENGTH, "its Content-Length is not one whole number"),
    ("Header without colon", "a header line has no colon"),
    ("Carriage return", "a header field has control characters in it"),
    ("NUL byte", "a header field has control characters in it"),
    ("Unsolicited Transfer-Encoding", "its Transfer-Encoding is not chunked"),
    ("Multiple Location headers", "it has two Locations that differ"),
    ("Unsupported response code", "its status line is not of HTTP/1.0 or 1.1"),
    ("Unsupported HTTP/1 subversion", "its status line is not of HTTP/1.0 or 1.1"),
    ("Invalid status line", "its status line is not of HTTP/1.0 or 1.1"),
)


def _translate(code: int, text: str, upstream: Upstream) -> GatewayError:
    if code == pycurl.E_COULDNT_CONNECT:
        return unreachable(upstream)
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        return Distrusted.certificate()
    if code == pycurl.E_SSL_CONNECT_ERROR:
        return Distrusted.no_tls()
    if code in (pycurl.E_GOT_NOTHING, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR):
        return BadUpstream("it closed the connection without a response")
    if code == pycurl.E_PARTIAL_FILE:
        return BadUpstream("it ended in the middle")
    reasons = [reason for beginning, reason in _BAD_HEADS if text.startswith(beginning)]
    return BadUpstream(*reasons[:1])


async def _read_whole(request: HTTPRequest, exchange: Exchange) -> HTTPResponse:
    head, content, headers = await exchange.head, bytearray(), HTTPHeaders()
    while data := await exchange.read():
        content += data
        if len(content) > _MAX_FETCHED:
            raise BadUpstream("it is larger than 1 MiB")
    for name, value in head.fields:
        headers.add(name, value)
    return HTTPResponse(request, head.status, headers, io.BytesIO(content), reason=head.reason)
