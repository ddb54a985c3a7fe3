"""The upgrade request over real sockets: a 101, any other response relayed as it is, and what is not HTTP."""

from __future__ import annotations

import asyncio

import pytest
from tornado.iostream import IOStream

from jupyter_portproxy.errors import BadUpstream
from jupyter_portproxy.upstream.connect import dial
from jupyter_portproxy.upstream.handshake import request_upgrade

from ..support.upstreams import resets_without_answer, says, serve
from .test_connect import approve, upstream

ASK = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n"


class Answered:
    """Keeps the answer of an upstream that refused."""

    def __init__(self) -> None:
        self.head, self.content, self.end = None, b"", None

    async def start(self, status, reason, fields) -> None:
        self.head = (status, reason, fields)

    async def write(self, data) -> None:
        self.content += data

    def finish(self) -> None:
        self.end = "finish"

    def cut(self) -> None:
        self.end = "cut"


async def upgrade(script) -> tuple[list[tuple[str, str]] | None, Answered, IOStream]:
    async with serve(script) as seen:
        stream, answered = await dial(upstream(seen.port), approve, 5), Answered()
        granted = await asyncio.wait_for(request_upgrade(stream, ASK, answered), 5)
        assert seen.last.target == "/ws" and seen.last.one("Sec-WebSocket-Key") == "eA=="
        return granted, answered, stream


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_101_gives_its_fields(before):
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX: \r\n\r\n"
    granted, answered, stream = await upgrade(says(before + raw))
    assert granted == [("Upgrade", "websocket"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("X", "")]
    assert answered.head is None and answered.end is None
    stream.close()


@pytest.mark.parametrize(
    ("raw", "head", "content"),
    [
        (b"HTTP/1.1 403 No\r\nX: 1\r\nContent-Length: 3\r\n\r\nno!", (403, "No", [("X", "1"), ("Content-Length", "3")]), b"no!"),
        (
            b"HTTP/1.1 302 F\r\nLocation: /l\r\nContent-Length: 0\r\n\r\n",
            (302, "F", [("Location", "/l"), ("Content-Length", "0")]),
            b"",
        ),
        (b"HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", None, b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, "OK", []), b"until the end"),
        (b"HTTP/1.1 204 None\r\n\r\n", (204, "None", []), b""),
    ],
)
async def test_any_other_answer_is_relayed_as_it_is(raw, head, content):
    granted, answered, stream = await upgrade(says(raw))
    assert granted is None and answered.end == "finish"
    assert answered.content == content
    assert answered.head == head or head is None
    assert stream.closed()


async def test_a_large_refusal_arrives_whole():
    raw = b"HTTP/1.1 403 No\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    _, answered, _ = await upgrade(says(raw))
    assert (len(answered.content), answered.end) == (3_000_000, "finish")


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Length: 100\r\n\r\nthe first hal",
        b"Transfer-Encoding: chunked\r\n\r\n64\r\nthe first hal",
        b"Content-Length: 9\r\n\r\n",
    ],
)
async def test_a_refusal_that_ends_in_the_middle_is_cut(raw):
    granted, answered, stream = await upgrade(says(b"HTTP/1.1 403 No\r\n" + raw))
    assert granted is None and answered.end == "cut"
    assert answered.head[0] == 403 and stream.closed()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\0",
        b"<html>this is HTTP/0.9</html>",
        b"HTTP/1.1 101 Switching Proto",
        b"HTTP/1.1 403 No\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 403 No\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: gzip\r\n\r\nab",
        b"HTTP/1.1 101 X\r\nX: a\0b\r\n\r\n",
    ],
    ids=lambda raw: raw[:40].decode("latin-1"),
)
async def test_what_is_no_http_is_a_bad_upstream(raw):
    async with serve(says(raw)) as seen:
        stream, answered = await dial(upstream(seen.port), approve, 5), Answered()
        with pytest.raises(BadUpstream):
            await asyncio.wait_for(request_upgrade(stream, ASK, answered), 5)
        assert (answered.head, answered.end, stream.closed()) == (None, None, True)


async def test_a_reset_instead_of_an_answer_is_a_bad_upstream():
    async with serve(resets_without_answer) as seen:
        with pytest.raises(BadUpstream, match="without a response"):
            await request_upgrade(await dial(upstream(seen.port), approve, 5), ASK, Answered())
