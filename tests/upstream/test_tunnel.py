"""The tunnel over real sockets: where frames end, dialling with approval, the upstream's own answer to the handshake, and after
the 101 the relay itself: every byte, both half-closes, resets, back-pressure and the 1001 of a shutdown. The relay's tests run
with a plain client and with a TLS client, whose bytes Tornado's stream holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import random
import socket
import ssl
import subprocess
import sys
import time

import pytest
from tornado.iostream import IOStream
from tornado.tcpserver import TCPServer

from jupyter_portproxy.errors import BadUpstream, Forbidden, Unreachable, UpstreamTimeout
from jupyter_portproxy.protocol.urls import Upstream
from jupyter_portproxy.upstream.tunnel import Tunnel, dial, shake_hands

from ..support.raw_clients import frame
from ..support.upstreams import SWITCHING, Connection, echo_frames, free_port, resets_without_answer, says, serve
from ..support.waiting import eventually, settled

ASK = b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n"
FIRST = b"HTTP/1.1 101 First\r\n\r\n"
BLOCK = bytes(65536)
MANY = 256  # blocks of 64 KiB: 16 MiB, more than the buffers of the kernel and ours together
# Answers 101 and 64 MiB of zeros in one go, faster than anybody reads; then prints how much of it was taken.
FLOOD = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
connection, _ = listener.accept()
data, taken = memoryview(sys.argv[1].encode("latin-1") + bytes(64 << 20)), 0
connection.recv(65536)
connection.settimeout(2)
try:
    while taken < len(data):
        taken += connection.send(data[taken:])
except OSError:
    pass
print(taken, flush=True)
"""


def upstream(port: int, addresses=("127.0.0.1", "::1"), host="localhost") -> Upstream:
    return Upstream(host, port, addresses)


def approve(*ends) -> None:
    pass


# ---- dialling ----


async def test_dial_connects_to_the_first_address_that_accepts_and_asks_first():
    asked = []
    async with serve(echo_frames, "::1") as seen:
        stream = await dial(upstream(seen.port), lambda *ends: asked.append((ends, seen.received)), 5)
        assert stream.socket.getpeername()[:2] == ("::1", seen.port)
        assert stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert asked == [((*stream.socket.getsockname()[:2], "::1", seen.port, stream.socket.fileno()), b"")]
        stream.close()


async def test_dial_to_a_dead_port_is_unreachable_at_once():
    port, start = free_port(), time.monotonic()
    with pytest.raises(Unreachable, match=f"service on port {port}"):
        await dial(upstream(port), approve, 5)
    with pytest.raises(Unreachable, match=f"Failed to connect to example.org:{port}"):
        await dial(upstream(port, host="example.org"), approve, 5)
    assert time.monotonic() - start < 1


async def test_dial_sends_nothing_where_approval_is_refused_and_closes():
    def refuse(*ends) -> None:
        raise Forbidden("no")

    async def script(connection: Connection) -> None:
        await connection.until_closed()
        connection.seen.gone.set()

    async with serve(script) as seen:
        with pytest.raises(Forbidden):
            await dial(upstream(seen.port), refuse, 5)
        await asyncio.wait_for(seen.gone.wait(), 1)
        assert (seen.connections, seen.received) == (1, b"")


async def test_dial_gives_up_in_time():
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # now its queue is full, and the kernel lets further connections wait
            sock = waiting.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        start, before = time.monotonic(), len(os.listdir("/dev/fd"))
        with pytest.raises(UpstreamTimeout, match=r"within 0\.3 s"):
            await dial(upstream(listener.getsockname()[1]), approve, 0.3)
        assert 0.2 < time.monotonic() - start < 2
        assert len(os.listdir("/dev/fd")) == before


# ---- the handshake ----


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


async def hands(script) -> tuple[list[tuple[str, str]] | None, Answered, IOStream]:
    async with serve(script) as seen:
        stream, answered = await dial(upstream(seen.port), approve, 5), Answered()
        granted = await asyncio.wait_for(shake_hands(stream, ASK, answered), 5)
        assert seen.last.target == "/ws" and seen.last.one("Sec-WebSocket-Key") == "eA=="
        return granted, answered, stream


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_101_gives_its_fields(before):
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX: \r\n\r\n"
    granted, answered, stream = await hands(says(before + raw))
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
    granted, answered, stream = await hands(says(raw))
    assert granted is None and answered.end == "finish"
    assert answered.content == content
    assert answered.head == head or head is None
    assert stream.closed()


async def test_a_large_refusal_arrives_whole():
    raw = b"HTTP/1.1 403 No\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    _, answered, _ = await hands(says(raw))
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
    granted, answered, stream = await hands(says(b"HTTP/1.1 403 No\r\n" + raw))
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
            await asyncio.wait_for(shake_hands(stream, ASK, answered), 5)
        assert (answered.head, answered.end, stream.closed()) == (None, None, True)


async def test_a_reset_instead_of_an_answer_is_a_bad_upstream():
    async with serve(resets_without_answer) as seen:
        with pytest.raises(BadUpstream, match="without an answer"):
            await shake_hands(await dial(upstream(seen.port), approve, 5), ASK, Answered())


# ---- the relay ----


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A key and a certificate for 127.0.0.1, made now: path of a PEM file with both."""
    path = tmp_path_factory.mktemp("tls")
    key, cert = path / "key.pem", path / "cert.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, "-keyout", key, "-out", cert, *names]
    subprocess.run(command, check=True, capture_output=True)
    (path / "both.pem").write_bytes(key.read_bytes() + cert.read_bytes())
    return path / "both.pem"


class Relay(TCPServer):
    """Takes clients as the gateway does: each gets a tunnel of its own to the upstream."""

    def __init__(self, upstream_port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(ssl_options=tls)
        self.upstream_port = upstream_port
        self.tunnels, self.closed, self.sockets, self.moved, self.sent = [], [], [], 0, 0

    def on_data(self, size: int) -> None:
        self.moved += 1

    async def handle_stream(self, stream, address) -> None:
        there = await dial(upstream(self.upstream_port), approve, 5)
        assert await shake_hands(there, ASK, Answered()) is not None
        self.sockets += [stream.socket, there.socket]
        tunnel = Tunnel(self.on_data)
        tunnel.add_close_callback(self.closed.append)
        self.tunnels.append(tunnel)
        await tunnel.connect(stream, there, FIRST)


class Client:
    """A client at the other side of a relay, past its 101."""

    def __init__(self, relay: Relay, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.relay, self.reader, self.writer = relay, reader, writer

    @property
    def tunnel(self) -> Tunnel:
        return self.relay.tunnels[-1]

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self, size: int) -> bytes:
        return await asyncio.wait_for(self.reader.readexactly(size), 5)

    async def rest(self) -> bytes:
        """All that comes until the end, which a reset is too."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await asyncio.wait_for(self.reader.read(1 << 20), 5):
                data += piece
        return data

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def tunnel(port: int, tls: tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None] = (None, None), early=b"", then=None):
    """A client whose tunnel leads to the upstream on that port; `early` is sent before the 101, and then `then` is called.

    At the end the tunnel has closed, and has said so once.
    """
    relay = Relay(port, tls[0])
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    relay.add_socket(listener)
    reader, writer = await asyncio.open_connection(*listener.getsockname(), ssl=tls[1], limit=1 << 16)
    client = Client(relay, reader, writer)
    try:
        await client.send(early)
        if then is not None:
            then()
        assert await client.read(len(FIRST)) == FIRST
        yield client
        writer.transport.abort()
        await eventually(lambda: relay.closed, 5)
        await asyncio.sleep(0)
        assert relay.closed == relay.tunnels
    finally:
        writer.transport.abort()
        relay.stop()


@pytest.fixture(params=["plain", "tls"])
def tunnel_to(request):
    """`tunnel`, for a plain client and for one that speaks TLS."""
    if request.param == "plain":
        return tunnel
    certificate = request.getfixturevalue("certificate")
    ours, theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificate)
    ours.load_cert_chain(certificate)
    return functools.partial(tunnel, tls=(ours, theirs))


def talks(talk) -> object:
    """An upstream that grants the upgrade and goes on with `talk`."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(SWITCHING)
        await talk(connection)

    return script


async def test_5_mb_cross_in_both_directions_exactly(tunnel_to):
    data = random.Random(5).randbytes(5_000_000)
    async with serve(echo_frames) as seen, tunnel_to(seen.port) as client:
        _, back = await asyncio.gather(client.send(data), client.read(len(data)))
        assert back == data
        assert seen.received == data
        assert client.relay.moved > 1
        for sock in client.relay.sockets:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_small_pieces_arrive_one_by_one(tunnel_to):
    async with serve(echo_frames) as seen, tunnel_to(seen.port) as client:
        for n in range(200):
            await client.send(b"%03d" % n)
            assert await client.read(3) == b"%03d" % n


async def test_what_the_upstream_says_right_behind_its_101_arrives(tunnel_to):
    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(SWITCHING + b"early bird")
        await connection.until_closed()

    async with serve(script) as seen, tunnel_to(seen.port) as client:
        assert await client.read(10) == b"early bird"


@pytest.mark.parametrize("last", [b"\x88\x02\x0f\xa1", b""])
async def test_what_the_upstream_says_right_behind_its_101_arrives_even_if_it_closes_at_once(tunnel_to, last):
    async with serve(says(SWITCHING + last)) as seen, tunnel_to(seen.port) as client:
        assert await client.rest() == last


async def test_what_the_client_says_before_the_upstream_has_granted_anything_arrives(tunnel_to):
    may_grant = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.head()
        await may_grant.wait()
        await connection.write(SWITCHING)
        await connection.until_closed()

    async with serve(script) as seen, tunnel_to(seen.port, early=b"x" * 100_000, then=may_grant.set):
        await eventually(lambda: seen.received == b"x" * 100_000)


@pytest.fixture
def flooder():
    """A process that floods whoever connects: it prints its port, and later how many bytes were taken."""
    with subprocess.Popen([sys.executable, "-c", FLOOD, SWITCHING.decode()], stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout
        process.kill()


async def test_an_upstream_that_floods_behind_its_101_is_held_back_and_does_not_hold_the_loop(tunnel_to, flooder):
    port, start = int(flooder.readline()), time.monotonic()
    async with tunnel_to(port):
        assert time.monotonic() - start < 2
        assert int(await asyncio.to_thread(flooder.readline)) < 2 * MANY * len(BLOCK)


async def test_a_client_that_does_not_read_stops_the_upstream(tunnel_to):
    async def floods(connection: Connection) -> None:
        while True:
            await connection.write(BLOCK)
            connection.seen.received += b"."

    async with serve(talks(floods)) as seen, tunnel_to(seen.port) as client:
        taken = await settled(lambda: len(seen.received))
        assert 0 < taken < 2 * MANY
        for _ in range(2 * MANY):
            await client.read(len(BLOCK))
        assert await settled(lambda: len(seen.received)) > taken, "and it goes on as the client reads"
        client.reset()
        await asyncio.wait_for(seen.gone.wait(), 1)


async def test_an_upstream_that_does_not_read_stops_the_client(tunnel_to):
    may_read, sent = asyncio.Event(), []

    async def waits(connection: Connection) -> None:
        await may_read.wait()
        await connection.until_closed()

    async with serve(talks(waits)) as seen, tunnel_to(seen.port) as client:

        async def flood() -> None:
            for n in range(3 * MANY):
                await client.send(BLOCK)
                sent.append(n)

        flooding = asyncio.create_task(flood())
        assert 0 < await settled(lambda: len(sent)) < 2 * MANY
        assert not flooding.done()
        may_read.set()
        await asyncio.wait_for(flooding, 10)
        await eventually(lambda: len(seen.received) == 3 * MANY * len(BLOCK))


# ---- the relay's end ----


async def hears(connection: Connection) -> None:
    """Collects what comes and notes the end."""
    try:
        await connection.until_closed()
    finally:
        connection.seen.gone.set()


async def test_the_clients_half_close_reaches_the_upstream_and_its_last_words_the_client():
    async def last_words(connection: Connection) -> None:
        await connection.until_closed()
        await connection.write(BLOCK + b"and goodbye")

    async with serve(talks(last_words)) as seen, tunnel(seen.port) as client:
        await client.send(b"that was all")
        client.writer.write_eof()
        assert await client.rest() == BLOCK + b"and goodbye"
        assert seen.received == b"that was all"


async def test_the_upstreams_half_close_reaches_the_client_and_its_last_words_the_upstream():
    async def ends(connection: Connection) -> None:
        await connection.reader.readexactly(1)
        connection.writer.write_eof()
        await hears(connection)

    async with serve(talks(ends)) as seen, tunnel(seen.port) as client:
        await client.send(b"x")
        assert await client.rest() == b""
        await client.send(BLOCK + b"and goodbye")
        client.writer.write_eof()
        await asyncio.wait_for(seen.gone.wait(), 2)
        assert seen.received == BLOCK + b"and goodbye"


async def test_a_half_closed_tunnel_does_not_stay_forever(monkeypatch):
    monkeypatch.setattr("jupyter_portproxy.upstream.tunnel._LINGER", 0.2)

    async def ignores(connection: Connection) -> None:
        await connection.until_closed()
        await asyncio.sleep(60)

    async with serve(talks(ignores)) as seen, tunnel(seen.port) as client:
        client.writer.write_eof()
        await eventually(lambda: client.relay.closed, 2)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_the_clients_end_reaches_the_upstream(tunnel_to, how):
    async with serve(talks(hears)) as seen, tunnel_to(seen.port) as client:
        await client.send(b"x")
        await eventually(lambda: seen.received == b"x")
        client.reset() if how == "resets" else client.writer.close()
        await asyncio.wait_for(seen.gone.wait(), 1)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_the_upstreams_end_reaches_the_client(tunnel_to, how):
    async def goes(connection: Connection) -> None:
        await connection.reader.readexactly(1)
        if how == "resets":
            connection.reset()

    async with serve(talks(goes)) as seen, tunnel_to(seen.port) as client:
        await client.send(b"x")
        assert await asyncio.wait_for(client.rest(), 1) == b""


async def test_what_was_under_way_is_delivered_when_the_upstream_closes(tunnel_to):
    async def says_much(connection: Connection) -> None:
        await connection.write(BLOCK * 64)

    async with serve(talks(says_much)) as seen, tunnel_to(seen.port) as client:
        assert len(await client.rest()) == 64 * len(BLOCK)


async def test_a_reset_of_the_upstream_ends_a_tunnel_whose_client_is_held_back(tunnel_to):
    may_go = asyncio.Event()

    async def does_not_read(connection: Connection) -> None:
        connection.writer.transport.pause_reading()
        await may_go.wait()
        connection.reset()

    async with serve(talks(does_not_read)) as seen, tunnel_to(seen.port) as client:

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send(BLOCK)
                    client.relay.sent += 1

        flooding = asyncio.create_task(flood())
        await settled(lambda: client.relay.sent)
        may_go.set()
        try:
            await eventually(lambda: client.relay.closed, 2)
            await asyncio.wait_for(flooding, 2)
        finally:
            flooding.cancel()


# ---- shutdown ----

WHOLE, PART = frame(1, b"hello"), frame(2, bytes(1000))[:500]
TO_CLIENT, TO_UPSTREAM = b"\x88\x02\x03\xe9", b"\x88\x82\0\0\0\0\x03\xe9"


@pytest.mark.parametrize("from_client", [b"", WHOLE, PART], ids=["nothing", "a frame", "half a frame"])
@pytest.mark.parametrize("from_upstream", [b"", WHOLE, PART], ids=["nothing", "a frame", "half a frame"])
async def test_a_shutdown_says_1001_to_whom_stands_between_two_frames(tunnel_to, from_client, from_upstream):
    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(SWITCHING + from_upstream)
        await hears(connection)

    async with serve(script) as seen, tunnel_to(seen.port) as client:
        await client.send(from_client)
        await client.read(len(from_upstream))
        await eventually(lambda: seen.received == from_client)
        client.tunnel.shut_down()
        assert await client.rest() == (b"" if from_upstream == PART else TO_CLIENT)
        await asyncio.wait_for(seen.gone.wait(), 2)
        assert seen.received == from_client + (b"" if from_client == PART else TO_UPSTREAM)
        await eventually(lambda: client.relay.closed, 2)
        client.tunnel.shut_down()


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_shutdown_closes_a_half_closed_tunnel_too(who):
    async def script(connection: Connection) -> None:
        await connection.reader.readexactly(len(WHOLE))
        if who == "upstream":
            connection.writer.write_eof()
        await connection.until_closed()
        connection.seen.gone.set()
        await asyncio.sleep(60)

    async with serve(talks(script)) as seen, tunnel(seen.port) as client:
        await client.send(WHOLE)
        if who == "client":
            client.writer.write_eof()
            await asyncio.wait_for(seen.gone.wait(), 2)
        else:
            assert await client.rest() == b""
        client.tunnel.shut_down()
        await eventually(lambda: client.relay.closed, 2)


def test_a_shutdown_before_anything_is_connected_is_harmless():
    Tunnel(lambda: None).shut_down()
