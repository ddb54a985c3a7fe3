"""Flow control of one exchange, with a transport that only counts; over real sockets it is tested in test_curl."""

from __future__ import annotations

import asyncio

import pytest

from jupyter_portproxy.errors import BadUpstream, Forbidden
from jupyter_portproxy.protocol.framing import Content
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.upstream.exchange import RECEIVE_BUFFER, Exchange, Outbound


class Transport:
    """Counts its calls."""

    pauses_at_once = True

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.paused, self.resumed, self.completed, self.aborted = 0, 0, 0, 0

    def pause(self, exchange: Exchange) -> None:
        self.paused += 1

    def resume(self, exchange: Exchange) -> None:
        self.resumed += 1

    def complete(self, exchange: Exchange) -> None:
        self.completed += 1

    def abort(self, exchange: Exchange) -> None:
        self.aborted += 1


def begin(method: str = "GET", content: Content | None = None, approve=None) -> tuple[Transport, Exchange]:
    transport = Transport()
    upstream = Upstream("localhost", 8050, ("127.0.0.1", "::1"))
    return transport, Exchange(transport, Outbound(method, upstream, "/", [], content, approve=approve))


def head(exchange: Exchange, *lines: bytes) -> list[bool]:
    return [exchange.on_header(line + b"\r\n") for line in (*lines, b"")]


async def test_what_comes_before_the_transport_can_wait_is_kept_too():
    transport, exchange = begin()
    transport.pauses_at_once = False
    assert all(head(exchange, b"HTTP/1.1 200 OK"))
    assert exchange.on_content(b"x" * RECEIVE_BUFFER) and exchange.on_content(b"y") and exchange.on_content(b"z")
    assert transport.paused == 1
    assert await exchange.read() == b"x" * RECEIVE_BUFFER + b"yz"
    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    assert transport.resumed == 1
    exchange.end(None)
    assert await reading == b""


async def test_what_is_received_is_read_and_a_full_buffer_makes_the_transport_wait():
    transport, exchange = begin()
    assert all(head(exchange, b"HTTP/1.1 200 OK"))
    assert exchange.on_content(b"x" * RECEIVE_BUFFER)
    assert transport.paused == 1
    assert not exchange.on_content(b"y")
    assert await exchange.read() == b"x" * RECEIVE_BUFFER
    assert transport.resumed == 0  # the client has the first piece to take before the upstream may send more
    reading = asyncio.ensure_future(exchange.read())
    await asyncio.sleep(0)
    assert transport.resumed == 1
    assert exchange.on_content(b"y")
    assert await reading == b"y"
    exchange.end(None)
    assert await exchange.read() == b""
    assert exchange.whole


async def test_what_is_sent_is_taken_in_pieces_of_the_transports_size_and_a_full_buffer_makes_the_sender_wait():
    transport, exchange = begin("PUT", Content(None))
    assert exchange.on_send_ready(10) is None
    await exchange.send(b"abc")
    assert transport.resumed == 1
    assert [exchange.on_send_ready(2), exchange.on_send_ready(2), exchange.on_send_ready(2)] == [b"ab", b"c", None]
    sending = asyncio.create_task(exchange.send(b"x" * (1 << 20)))
    await asyncio.sleep(0.01)
    assert not sending.done()
    since, taken = exchange.last_sent, 0
    while (data := exchange.on_send_ready(1 << 16)) is not None:
        taken += len(data)
    await asyncio.wait_for(sending, 1)
    exchange.end_content()
    assert exchange.on_send_ready(10) == b""
    assert taken == 1 << 20 and exchange.last_sent > since


async def test_the_end_wakes_sender_and_reader():
    _, exchange = begin("PUT", Content(None))
    sending = asyncio.create_task(exchange.send(b"x" * (1 << 20)))
    reading = asyncio.create_task(exchange.read())
    await asyncio.sleep(0.01)
    exchange.end(BadUpstream())
    await asyncio.wait_for(sending, 1)
    for waiting in (reading, exchange.head):
        with pytest.raises(BadUpstream):
            await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(exchange.send(b"late"), 1)


async def test_interim_answers_are_passed_over_and_a_head_that_is_none_stops_the_transport():
    _, exchange = begin()
    assert all(head(exchange, b"HTTP/1.1 103 Early Hints", b"Link: x"))
    assert not exchange.head.done()
    assert all(head(exchange, b"HTTP/1.1 200 OK", b"A: 1"))
    assert (await exchange.head).fields == [("A", "1")]
    for lines in ([b"garbage"], [b"HTTP/1.1 101 Switching Protocols"], []):
        _, other = begin()
        assert head(other, *lines)[-1] is False
        assert isinstance(other.error, BadUpstream)


async def test_a_whole_answer_ends_an_exchange_that_still_sends():
    transport, exchange = begin("PUT", Content(1000))
    head(exchange, b"HTTP/1.1 200 OK", b"Content-Length: 2")
    exchange.on_content(b"o")
    await asyncio.sleep(0)
    assert transport.completed == 0
    exchange.on_content(b"k")
    await asyncio.sleep(0)
    assert transport.completed == 1


async def test_a_connection_that_is_not_approved_stops_the_transport():
    def refuse(*ends) -> None:
        raise Forbidden(str(ends))

    _, exchange = begin(approve=refuse)
    assert not exchange.on_connected("127.0.0.1", "127.0.0.2", 1, 2, 7)
    assert exchange.error.message == "('127.0.0.2', 2, '127.0.0.1', 1, 7)"
    assert begin()[1].on_connected("127.0.0.1", "127.0.0.1", 1, 2, 7)


async def test_addresses_are_tried_in_order():
    _, exchange = begin()
    assert [exchange.next_address() for _ in range(3)] == ["127.0.0.1", "::1", None]
