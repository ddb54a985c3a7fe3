"""The transport against real sockets: what is sent is what was asked for, byte for byte and once; what comes is handed on as it
comes, with back-pressure both ways; and every way in which an upstream can fail ends the exchange with an error of ours and
gives its connection back. Every test runs with both watchers of libcurl's sockets: the epoll of Linux and the event loop's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_portproxy.errors import BadUpstream, Forbidden, GatewayError, Unreachable, UpstreamTimeout
from jupyter_portproxy.protocol.framing import Content
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.upstream.curl import CurlTransport
from jupyter_portproxy.upstream.exchange import RECEIVE_BUFFER, Exchange, Outbound
from jupyter_portproxy.upstream.socket_watcher import EpollWatcher, LoopWatcher

from ..support import upstreams
from ..support.cpu_time import slowness
from ..support.upstreams import Connection, answers, free_port, mirror, says, serve
from ..support.waiting import eventually, settled

BLOCK = bytes(65536)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
MANY = 256  # blocks of 64 KiB: 16 MiB, more than the buffers of the kernel and ours together


@pytest.fixture(params=[True, False], ids=["kept registrations", "loop"])
def make(request):
    """Builds a transport, which the test closes."""

    def build() -> CurlTransport:
        made = CurlTransport(force_instance=True, keep_registrations=request.param)
        assert isinstance(made.sockets, (EpollWatcher, LoopWatcher) if request.param else LoopWatcher)
        return made

    return build


@pytest.fixture
def transport(make, jp_asyncio_loop):
    async def build():
        return make()

    made = jp_asyncio_loop.run_until_complete(build())
    yield made
    made.close()


def outbound(port: int, method="GET", target="/", fields=(), addresses=("127.0.0.1", "::1"), group="", **more) -> Outbound:
    upstream = Upstream("localhost", port, addresses, group=group)
    return Outbound(method, upstream, target, [("Host", upstream.authority), *fields], **more)


async def everything(exchange: Exchange) -> bytes:
    content = b""
    while data := await asyncio.wait_for(exchange.read(), 10):
        content += data
    return content


async def ask(transport, port, method="GET", content: list[bytes] | None = None, chunked=False, **more):
    """One exchange: (head, content of the answer)."""
    framing = None if content is None else Content(None if chunked else len(b"".join(content)))
    exchange = transport.open(outbound(port, method, content=framing, **more))
    for piece in content or ():
        await asyncio.wait_for(exchange.send(piece), 10)
    exchange.end_content()
    return await asyncio.wait_for(exchange.head, 10), await everything(exchange)


async def mirrored(*args, **more) -> dict:
    """What `mirror` says it was sent."""
    return json.loads((await ask(*args, **more))[1])


async def upload(exchange: Exchange, sent: list[int], blocks: int) -> None:
    for _ in range(blocks):
        await exchange.send(BLOCK)
        sent[0] += 1
    exchange.end_content()


@contextlib.contextmanager
def full_listener():
    """The port of a listener whose queue is full: the kernel lets further connections wait."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def refuse(*ends) -> None:
    raise Forbidden("no")


# ---- the request ----


async def test_a_get_brings_the_head_and_the_content(transport):
    async with serve(answers(b"hello")) as seen:
        head, content = await ask(transport, seen.port)
    assert (head.status, head.reason, content) == (200, "OK", b"hello")
    assert head.fields == [("Content-Type", "text/plain"), ("Content-Length", "5")]
    assert len(transport) == 0


async def test_fields_arrive_in_order_repeated_and_empty_and_no_other_is_added(transport):
    fields = [("X-A", "1"), ("Accept-Encoding", "br"), ("X-A", ""), ("x-b", "\xe9 ; y"), ("X-A", "2"), ("User-Agent", "u")]
    async with serve(mirror) as seen:
        full = await mirrored(transport, seen.port, fields=fields)
        bare = await mirrored(transport, seen.port)
    assert full["fields"] == [["Host", f"localhost:{seen.port}"], *map(list, fields)]
    assert bare["fields"] == [["Host", f"localhost:{seen.port}"]], "nothing is left over from the exchange before"


@pytest.mark.parametrize("target", ["/%2F//a/../b;x?", "/?", "/a/./../%23?%zz&a=b?c", "/%E4\xe4#f", "*", "//x/", '/"<>\\^`{|}'])
async def test_the_target_arrives_byte_for_byte(transport, target):
    async def script(connection: Connection) -> None:
        connection.seen.received += await connection.reader.readline()
        await connection.write(OK)

    async with serve(script) as seen:
        await ask(transport, seen.port, target=target)
    assert seen.received == f"GET {target} HTTP/1.1\r\n".encode("latin-1")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "QUERY", "My-Own_1"])
async def test_any_method_goes_out_with_and_without_content(transport, method):
    async with serve(mirror) as seen:
        for content, framing in ((None, []), ([], [["Content-Length", "0"]]), ([b"abc", b"de"], [["Content-Length", "5"]])):
            sent = await mirrored(transport, seen.port, method, content)
            assert (sent["method"], sent["content"], sent["fields"][1:]) == (method, "abcde" if content else "", framing)


async def test_content_of_unknown_length_is_chunked_and_arrives_whole(transport):
    parts = [b"x" * 300_000, b"", b"y", BLOCK * 20]
    async with serve(mirror) as seen:
        sent = await mirrored(transport, seen.port, "POST", parts, chunked=True)
    assert sent["content"].encode() == b"".join(parts)
    assert sent["fields"][1:] == [["Transfer-Encoding", "chunked"]]


async def test_the_proxy_variables_of_the_environment_are_ignored(transport, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with serve(answers()) as seen:
        assert (await ask(transport, seen.port))[1] == b"hello"


# ---- the answer ----


async def test_head_brings_the_fields_of_the_content_and_no_content(transport):
    async with serve(answers(b"hello")) as seen:
        head, content = await ask(transport, seen.port, "HEAD")
        assert (head.fields[1], content) == (("Content-Length", "5"), b"")
        head, content = await ask(transport, seen.port, "HEAD", [b"with content"])
        assert (head.fields[1], content) == (("Content-Length", "5"), b"")


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
async def test_an_answer_without_content_ends_with_its_head(transport, status):
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 %b\r\nETag: x\r\n\r\n" % status)
        await connection.until_closed()

    async with serve(script) as seen:
        head, content = await ask(transport, seen.port)
    assert (head.status, head.fields, content) == (int(status[:3]), [("ETag", "x")], b"")


async def test_103_is_passed_over_and_the_final_answer_counts(transport):
    async with serve(upstreams.early_hints) as seen:
        head, content = await ask(transport, seen.port)
    assert (head.status, head.fields, content) == (200, [("Content-Length", "2")], b"ok")


async def test_101_without_an_upgrade_request_is_refused(transport):
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(upstreams.SWITCHING)
        await connection.until_closed()

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port))
        with pytest.raises(BadUpstream):
            await asyncio.wait_for(exchange.head, 2)


async def test_repeated_fields_of_the_answer_stay_repeated(transport):
    async with serve(
        says(b"HTTP/1.1 200 Sehr gut\r\nSet-Cookie: a=1\r\nX:\r\nset-cookie: b=2\r\nContent-Length: 0\r\n\r\n")
    ) as seen:
        head, _ = await ask(transport, seen.port)
    assert head.reason == "Sehr gut"
    assert head.fields == [("Set-Cookie", "a=1"), ("X", ""), ("set-cookie", "b=2"), ("Content-Length", "0")]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
    ],
)
async def test_content_ends_with_the_connection_or_the_last_chunk(transport, raw):
    async with serve(says(raw)) as seen:
        assert (await ask(transport, seen.port))[1] == b"hello"


async def test_each_piece_is_there_as_soon_as_it_was_written(transport):
    turns: asyncio.Queue[bytes] = asyncio.Queue()

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while piece := await turns.get():
            await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port))
        assert (await asyncio.wait_for(exchange.head, 2)).status == 200
        for piece in (b"data: 1\n\n", b"data: 2\n\n", b"."):
            await turns.put(piece)
            assert await asyncio.wait_for(exchange.read(), 2) == piece
        exchange.abort()
        turns.put_nowait(b"")


async def test_200_exchanges_at_once_all_complete(transport):
    async with serve(mirror) as seen:
        inbound = [ask(transport, seen.port, "PUT", [b"%d" % n], target=f"/{n}") for n in range(100)]
        inbound += [ask(transport, seen.port, target=f"/{n}") for n in range(100, 200)]
        got = [json.loads(content) for _, content in await asyncio.gather(*inbound)]
    assert [one["target"] for one in got] == [f"/{n}" for n in range(200)]
    assert [one["content"] for one in got] == [str(n) for n in range(100)] + [""] * 100
    assert len(transport) == 0


# ---- both directions at once ----


async def test_both_directions_flow_at_once(transport):
    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while line := await connection.reader.readline():
            await connection.write(line + await connection.reader.readexactly(int(line, 16) + 2))
            if line == b"0\r\n":
                return

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port, "POST", content=Content(None)))
        assert (await asyncio.wait_for(exchange.head, 2)).status == 200, "before any content was sent"
        for n in range(50):
            await exchange.send(b"turn %d" % n)
            assert await asyncio.wait_for(exchange.read(), 2) == b"turn %d" % n
        exchange.end_content()
        assert await asyncio.wait_for(exchange.read(), 2) == b""
        assert exchange.whole


@pytest.mark.parametrize("then", ["stops reading", "closes"])
@pytest.mark.parametrize("status", [200, 302, 413])
@pytest.mark.parametrize("length", [None, MANY * 65536])
async def test_an_answer_is_whole_although_the_upstream_did_not_read_everything(transport, status, then, length):
    got_it = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\nok" % status)
        await got_it.wait()
        if then == "stops reading":
            await asyncio.sleep(60)

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port, "POST", content=Content(length)))
        sending = asyncio.create_task(upload(exchange, [0], MANY))
        assert (await asyncio.wait_for(exchange.head, 2)).status == status
        assert await asyncio.wait_for(exchange.read(), 2) == b"ok"
        got_it.set()
        try:
            assert await asyncio.wait_for(exchange.read(), 1) == b""
        finally:
            exchange.abort()
            await sending


async def test_an_endless_upstream_is_not_read_while_the_exchange_is_not_read(transport):
    async with serve(upstreams.endless) as seen:
        exchange = transport.open(outbound(seen.port))
        await asyncio.wait_for(exchange.head, 2)
        taken = await settled(lambda: len(seen.received))
        assert 0 < taken < MANY
        for _ in range(3):  # it goes on as far as it is read, again and again
            size = 0
            while size < 4 * MANY * len(BLOCK) // 3:
                size += len(await asyncio.wait_for(exchange.read(), 2))
            more = await settled(lambda: len(seen.received))
            assert taken < more < taken + 2 * MANY
            taken = more
        exchange.abort()
        await asyncio.wait_for(seen.gone.wait(), 1)


async def test_a_slow_upstream_makes_send_wait(transport):
    may_read, sent = asyncio.Event(), [0]

    async def script(connection: Connection) -> None:
        await connection.head()
        await may_read.wait()
        for _ in range(2 * MANY):
            await connection.reader.readexactly(len(BLOCK))
        await connection.write(OK)

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port, "PUT", content=Content(2 * MANY * len(BLOCK))))
        sending = asyncio.create_task(upload(exchange, sent, 2 * MANY))
        assert 0 < await settled(lambda: sent[0]) < MANY
        assert not sending.done()
        may_read.set()
        assert (await asyncio.wait_for(exchange.head, 10)).status == 200
        await asyncio.wait_for(sending, 2)
        assert await everything(exchange) == b"ok"


async def test_a_sender_that_waits_for_an_upstream_that_never_reads_is_freed_by_abort(transport):
    async def script(connection: Connection) -> None:
        await connection.head()
        connection.writer.transport.pause_reading()
        await asyncio.sleep(60)

    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port, "PUT", content=Content(None)))
        sending = asyncio.create_task(upload(exchange, sent := [0], MANY))
        assert await settled(lambda: sent[0]) < MANY
        exchange.abort()
        await asyncio.wait_for(sending, 1)
        with pytest.raises(BadUpstream):
            await exchange.head
    assert len(transport) == 0


async def test_what_waits_costs_no_time(transport):
    async with serve(upstreams.endless) as endless, serve(upstreams.never_answers) as silent:
        async with serve(upstreams.closes_after_answer) as stale:
            await ask(transport, stale.port)
        open_ones = [transport.open(outbound(endless.port)), transport.open(outbound(silent.port))]
        open_ones.append(transport.open(outbound(silent.port, "PUT", content=Content(None))))
        await settled(lambda: len(endless.received))
        before = time.process_time()
        await asyncio.sleep(0.5)
        assert time.process_time() - before < 0.2 * slowness()
        for exchange in open_ones:
            exchange.abort()


# ---- the ends ----


async def test_abort_closes_the_connection_within_a_second(transport):
    async with serve(upstreams.never_answers) as seen:
        exchange = transport.open(outbound(seen.port))
        await eventually(lambda: seen.requests)
        exchange.abort()
        await asyncio.wait_for(seen.gone.wait(), 1)
        with pytest.raises(BadUpstream, match="given up"):
            await exchange.head
        exchange.abort()
    assert len(transport) == 0


async def test_abort_wakes_a_reader_with_an_error(transport):
    async with serve(upstreams.drips([b"one"], 0)) as seen:
        exchange = transport.open(outbound(seen.port))
        assert await asyncio.wait_for(exchange.read(), 2) == b"one"
        reading = asyncio.create_task(exchange.read())
        await asyncio.sleep(0)
        exchange.abort()
        with pytest.raises(BadUpstream):
            await asyncio.wait_for(reading, 1)
        await asyncio.wait_for(seen.gone.wait(), 1)
        assert not exchange.whole


@pytest.mark.parametrize(("script", "size"), [(upstreams.cut_mid_content, 100), (upstreams.cut_mid_chunk, 50)])
async def test_a_cut_raises_after_the_content_that_came(transport, script, size):
    async with serve(script) as seen:
        exchange = transport.open(outbound(seen.port))
        assert (await asyncio.wait_for(exchange.head, 2)).status == 200
        assert await asyncio.wait_for(exchange.read(), 2) == b"x" * size
        for _ in range(2):
            with pytest.raises(BadUpstream):
                await asyncio.wait_for(exchange.read(), 2)
        assert not exchange.whole


@pytest.mark.parametrize(
    "raw",
    [
        b"garbage\r\n\r\n",
        b"<html>this is HTTP/0.9</html>",
        b"\x16\x03\x01\x02\0\x01\0",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Cut: in the he",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 2000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
    ],
    ids=lambda raw: raw[:40].decode("latin-1"),
)
async def test_what_is_no_http_is_a_bad_upstream(transport, raw):
    async with serve(says(raw)) as seen:
        exchange = transport.open(outbound(seen.port))
        with pytest.raises(BadUpstream):
            await asyncio.wait_for(exchange.head, 2)
    assert len(transport) == 0


@pytest.mark.parametrize("script", [upstreams.closes_without_answer, upstreams.resets_without_answer])
async def test_no_answer_is_a_bad_upstream(transport, script):
    async with serve(script) as seen:
        with pytest.raises(BadUpstream, match="without a response"):
            await ask(transport, seen.port)


async def test_a_dead_port_is_unreachable_at_once(transport):
    port, start = free_port(), time.monotonic()
    with pytest.raises(Unreachable, match=f"Failed to connect to service on port {port}"):
        await ask(transport, port)
    assert time.monotonic() - start < 1


async def test_the_second_address_is_tried_when_the_first_refuses(transport):
    seen_ends = []
    async with serve(answers(), "::1") as seen:
        assert (await ask(transport, seen.port, approve=lambda *ends: seen_ends.append(ends)))[1] == b"hello"
    assert [ends[2:4] for ends in seen_ends] == [("::1", seen.port)]


async def test_a_connection_that_is_not_accepted_in_time_is_a_timeout(transport):
    with full_listener() as port:
        start = time.monotonic()
        with pytest.raises(UpstreamTimeout, match=r"within 0\.3 s"):
            await ask(transport, port, connect_timeout=0.3)
        assert 0.2 < time.monotonic() - start < 2


async def test_a_slow_answer_is_no_connect_timeout(transport):
    async with serve(upstreams.drips([b"a", b"b"], 0.4)) as seen:
        exchange = transport.open(outbound(seen.port, connect_timeout=0.2))
        assert await asyncio.wait_for(exchange.read(), 2) == b"a"
        assert await asyncio.wait_for(exchange.read(), 2) == b"b"
        exchange.abort()


# ---- approval ----


async def test_each_fresh_connection_is_approved_once_before_a_byte_is_sent(transport):
    approved, accepted = [], []

    async def script(connection: Connection) -> None:
        ends = [connection.writer.get_extra_info(name) for name in ("peername", "sockname")]
        accepted.append((*ends[0], *ends[1]))
        await answers()(connection)

    async with serve(script) as seen:

        def approve(*ends):
            approved.append((ends[:4], len(seen.requests)))

        for _ in range(3):
            await ask(transport, seen.port, approve=approve)
        await ask(transport, seen.port, "POST", [b"x"], approve=approve)
    assert approved == [(accepted[0], 0), (accepted[1], 3)]


async def test_a_refused_connection_carries_nothing_and_is_never_used_again(transport):
    async def script(connection: Connection) -> None:
        await connection.until_closed()
        closed.append(connection)

    closed = []
    async with serve(script) as seen:
        for times, method in enumerate(("GET", "GET", "POST"), 1):
            with pytest.raises(Forbidden):
                await ask(transport, seen.port, method, [b"secret"] if method == "POST" else None, approve=refuse)
            await eventually(lambda times=times: len(closed) == times, 1)
        assert (seen.connections, seen.received) == (3, b"")


# ---- kept-alive connections ----


async def test_a_connection_is_kept_for_the_next_get_and_none_is_shared_with_what_must_not_be_repeated(transport):
    async with serve(answers()) as seen:
        for _ in range(5):
            await ask(transport, seen.port)
        assert seen.connections == 1
        for method in ("POST", "DELETE", "PATCH"):
            await ask(transport, seen.port, method)
        assert seen.connections == 4


async def test_a_get_goes_through_after_the_upstream_closed_its_kept_connection(transport):
    async with serve(upstreams.closes_after_answer) as seen:
        for _ in range(5):
            assert (await ask(transport, seen.port))[1] == b"ok"
        assert (seen.connections, len(seen.requests)) == (5, 5)


@pytest.mark.parametrize(("method", "content"), [("POST", [b"x"]), ("POST", None), ("DELETE", None), ("PUT", [b"x"])])
async def test_only_a_get_is_repeated_when_the_upstream_closes_after_reading_it(transport, method, content):
    async def script(connection: Connection) -> None:
        while (await connection.request()).method == "GET" and len(connection.seen.requests) != 2:
            await connection.write(OK)

    async with serve(script) as seen:
        for _ in range(2):
            assert (await ask(transport, seen.port))[1] == b"ok"
        assert [request.method for request in seen.requests] == ["GET"] * 3, "the second was read, not answered, and repeated"
        with pytest.raises(BadUpstream):
            await ask(transport, seen.port, method, content)
        assert [request.method for request in seen.requests[3:]] == [method]


async def test_an_aborted_exchange_gives_its_connection_up(transport):
    async with serve(upstreams.drips([b"x"], 0)) as seen:
        for _ in range(2):
            exchange = transport.open(outbound(seen.port))
            assert await asyncio.wait_for(exchange.read(), 2) == b"x"
            exchange.abort()
        assert seen.connections == 2


# ---- the transport ----


async def test_header_lines_are_kept_with_the_request_unless_switched_off():
    async with serve(mirror) as seen:
        for keep in (True, False):
            transport, out = CurlTransport(force_instance=True, keep_header_lines=keep), outbound(seen.port)
            transport.open(out).abort()
            first = out.header_lines
            exchange = transport.open(out.with_target("/other"))
            assert json.loads(await everything(exchange))["target"] == "/other"
            assert (exchange.outbound.header_lines is first) is keep
            transport.close()


# ---- the client ----


async def test_fetch_is_that_of_any_client(transport):
    async with serve(mirror) as seen:
        response = await transport.fetch(f"http://127.0.0.1:{seen.port}/a?b", headers={"X-A": "1"})
        assert (response.code, response.headers["Content-Type"]) == (200, "application/json")
        inbound = json.loads(response.body)
    assert inbound["target"] == "/a?b"
    assert inbound["fields"] == [["Host", f"127.0.0.1:{seen.port}"], ["X-A", "1"]]
    async with serve(answers(status=b"404 Not Found")) as seen:
        with pytest.raises(HTTPClientError, match="404"):
            await transport.fetch(f"http://127.0.0.1:{seen.port}/")
    with pytest.raises(Unreachable):
        await transport.fetch(f"http://127.0.0.1:{seen.port}/")


async def test_fetch_sends_the_content_that_it_was_given(transport):
    async with serve(mirror) as seen:
        response = await transport.fetch(f"http://127.0.0.1:{seen.port}/", method="POST", body=b"content")
    assert json.loads(response.body)["content"] == "content"


async def test_fetch_gives_up_in_time_and_at_1_mib(transport):
    async with serve(upstreams.never_answers) as seen:
        with pytest.raises(asyncio.TimeoutError):
            await transport.fetch(f"http://127.0.0.1:{seen.port}/", request_timeout=0.2)
        await asyncio.wait_for(seen.gone.wait(), 1)
    async with serve(upstreams.endless) as seen:
        with pytest.raises(BadUpstream, match="1 MiB"):
            await transport.fetch(f"http://127.0.0.1:{seen.port}/")
        await asyncio.wait_for(seen.gone.wait(), 1)


async def test_close_ends_what_is_in_flight_with_an_error(make):
    transport = make()
    async with serve(upstreams.never_answers) as silent, serve(upstreams.endless) as endless:
        waiting, reading = transport.open(outbound(silent.port)), transport.open(outbound(endless.port))
        await asyncio.wait_for(reading.head, 2)
        await eventually(lambda: silent.requests)
        transport.close()
        with pytest.raises(BadUpstream):
            await waiting.head
        with pytest.raises(BadUpstream):
            await everything(reading)
        await asyncio.wait_for(asyncio.gather(silent.gone.wait(), endless.gone.wait()), 1)
    assert len(transport) == 0


async def test_close_may_be_called_twice(make):
    transport = make()
    transport.close()
    transport.close()


async def test_300_mixed_exchanges_leave_no_file_descriptor(make):
    before = len(os.listdir("/dev/fd"))
    transport = make()

    async def one(n: int, ports: list[int]) -> None:
        kind = n % 6
        method, content = ("PUT", [b"x" * n]) if n % 4 == 0 else ("GET", None)
        if kind == 5:
            exchange = transport.open(outbound(ports[5], method, content=content and Content(None)))
            await exchange.read()
            exchange.abort()
            return
        with contextlib.nullcontext() if kind == 0 else pytest.raises(GatewayError):
            await ask(transport, ports[kind], method, content, approve=refuse if kind == 1 else None)

    scripts = [answers(), answers(), upstreams.cut_mid_chunk, upstreams.resets_without_answer, says(b"x"), upstreams.endless]
    async with contextlib.AsyncExitStack() as stack:
        ports = [(await stack.enter_async_context(serve(script))).port for script in scripts]
        for start in range(0, 300, 50):
            await asyncio.gather(*(one(n, ports) for n in range(start, start + 50)))
        with pytest.raises(Unreachable):
            await ask(transport, free_port())
        assert len(transport) == 0
        transport.close()
    await eventually(lambda: len(os.listdir("/dev/fd")) == before)


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_slowly_read_response_arrives_whole_with_either_kind_of_pause(transport, at_once):
    """libcurl 8.16 and 8.17 are stopped between two pieces of work: in the middle of one they fail the transfer."""
    transport.pauses_at_once = at_once and transport.pauses_at_once
    content = bytes(range(256)) * (1 << 16)
    async with serve(answers(content)) as up:
        exchange, got, most = transport.open(outbound(up.port)), b"", 0
        await exchange.head
        while data := await exchange.read():
            got, most = got + data, max(most, len(data))
            await asyncio.sleep(0.001)
        assert got == content and most <= (2 if transport.pauses_at_once else 40) * RECEIVE_BUFFER


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not made for Windows")
def test_a_slowly_read_answer_arrives_whole_on_uvloop():
    """Its timers cannot tell when they ring: libcurl's callback failed, and what was paused was cut."""
    import uvloop

    async def read() -> int:
        async with serve(answers(bytes(4 << 20))) as up:
            transport, size = CurlTransport(force_instance=True), 0
            exchange = transport.open(outbound(up.port))
            await exchange.head
            while data := await exchange.read():
                size += len(data)
                await asyncio.sleep(0.002)
            transport.close()
            return size

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(asyncio.wait_for(read(), 30)) == 4 << 20
    finally:
        loop.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets in asyncio")
async def test_numbers_of_sockets_that_come_again_are_heard_whatever_their_kind(transport, tmp_path):
    """What is known of a descriptor ends when another socket has its number: each is reported to the watcher."""

    async def once(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.01)  # or the answer is there before anybody has to wait for it
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    path = str(tmp_path / "socket")
    async with await asyncio.start_unix_server(once, path), await asyncio.start_server(once, "127.0.0.1", 0) as tcp:
        port = tcp.sockets[0].getsockname()[1]
        for unix_socket in ("", path) * 5:
            upstream = Upstream("localhost", port, ("127.0.0.1",), unix_socket)
            exchange = transport.open(Outbound("GET", upstream, "/", [("Host", "a")]))
            assert (await asyncio.wait_for(exchange.head, 5)).status == 200
            assert await asyncio.wait_for(exchange.read(), 5) == b"ok"
            exchange.abort()


async def test_connections_are_kept_for_upstreams_of_the_same_group(transport):
    """Each fresh one is approved; the easy handles are used for all of them."""
    approved = []

    async with serve(mirror) as seen:
        for group in ("", "p1.7", "p1.7", "", f"{'k' * 64}.7.1001", "a_-b.8", "p1.7", ""):
            sent = await mirrored(transport, seen.port, group=group, approve=lambda *ends: approved.append(ends))
            assert sent["fields"] == [["Host", f"localhost:{seen.port}"]]
    assert seen.connections == len(approved) == 4
    assert {ends[2:4] for ends in approved} == {("127.0.0.1", seen.port)}


async def test_an_upstream_of_a_group_is_tried_at_each_of_its_addresses(transport):
    async with serve(answers(), "::1") as seen:
        assert (await ask(transport, seen.port, group="p1.7"))[1] == b"hello"
    with pytest.raises(Unreachable):
        await ask(transport, free_port(), group="p1.7")
