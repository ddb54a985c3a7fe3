"""The relay over real sockets: every byte, both half-closes, resets, back-pressure and the 1001 of a shutdown.

Its tests run with a plain client and with a TLS client, whose bytes are in Tornado's stream.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import ssl
import subprocess
import sys
import time

import pytest
from tornado.iostream import IOStream
from tornado.tcpserver import TCPServer

from jupyter_portproxy.upstream.connect import dial
from jupyter_portproxy.upstream.handshake import request_upgrade
from jupyter_portproxy.upstream.tunnel import LINGER, Tunnel

from ..support.raw_clients import frame
from ..support.upstreams import SWITCHING, Connection, echo_frames, says, serve
from ..support.waiting import eventually, settled
from .test_connect import approve, upstream
from .test_handshake import ASK, Answered

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

    def __init__(self, upstream_port: int, tls: ssl.SSLContext | None, linger: float) -> None:
        super().__init__(ssl_options=tls)
        self.upstream_port, self.linger = upstream_port, linger
        self.tunnels, self.closed, self.sockets, self.moved, self.sent = [], [], [], 0, 0

    def on_data(self, size: int) -> None:
        self.moved += 1

    async def handle_stream(self, stream, address) -> None:
        there = await dial(upstream(self.upstream_port), approve, 5)
        assert await request_upgrade(there, ASK, Answered()) is not None
        self.sockets += [stream.socket, there.socket]
        tunnel = Tunnel(self.on_data, self.linger)
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
async def tunnel(
    port: int,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | tuple[None, None] = (None, None),
    early=b"",
    then=None,
    linger=LINGER,
):
    """A client whose tunnel leads to the upstream on that port; `early` is sent before the 101, and then `then` is called.

    At the end the tunnel has closed, and has said so once.
    """
    relay = Relay(port, tls[0], linger)
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
    """A process that floods every connection: it prints its port, and later how many bytes were taken."""
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


async def test_the_clients_half_close_reaches_the_upstream_and_its_last_bytes_the_client():
    async def last_words(connection: Connection) -> None:
        await connection.until_closed()
        await connection.write(BLOCK + b"and goodbye")

    async with serve(talks(last_words)) as seen, tunnel(seen.port) as client:
        await client.send(b"that was all")
        client.writer.write_eof()
        assert await client.rest() == BLOCK + b"and goodbye"
        assert seen.received == b"that was all"


async def test_the_upstreams_half_close_reaches_the_client_and_its_last_bytes_the_upstream():
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


async def test_a_half_closed_tunnel_does_not_stay_forever():
    async def ignores(connection: Connection) -> None:
        await connection.until_closed()
        await asyncio.sleep(60)

    async with serve(talks(ignores)) as seen, tunnel(seen.port, linger=0.2) as client:
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


async def test_bytes_in_flight_are_delivered_when_the_upstream_closes(tunnel_to):
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


async def test_a_shutdown_while_the_tunnel_connects_closes_it_too():
    async with serve(talks(hears)) as seen:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        there = await dial(upstream(seen.port), approve, 5)
        assert await request_upgrade(there, ASK, Answered()) is not None
        tunnel, closed = Tunnel(lambda size: None), []
        tunnel.add_close_callback(closed.append)
        connecting = asyncio.create_task(tunnel.connect(IOStream(ours), there, FIRST))
        await asyncio.sleep(0)
        tunnel.shut_down()
        await connecting
        await eventually(lambda: closed == [tunnel], 2)
        with theirs:
            assert theirs.recv(100) == FIRST + TO_CLIENT


@pytest.mark.parametrize("failing", [0, 1])
async def test_both_streams_are_closed_if_the_tunnel_cannot_connect(failing):
    kinds = [socket.SOCK_STREAM, socket.SOCK_STREAM]
    kinds[failing] = socket.SOCK_SEQPACKET  # no transport of asyncio's takes it
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in kinds]
    for ours, _ in pairs:
        ours.setblocking(False)
    tunnel, closed = Tunnel(lambda size: None), []
    tunnel.add_close_callback(closed.append)
    with pytest.raises(ValueError, match="Stream Socket"):
        await tunnel.connect(IOStream(pairs[0][0]), IOStream(pairs[1][0]), FIRST)
    await eventually(lambda: [ours.fileno() for ours, _ in pairs] == [-1, -1], 2)
    assert closed == [tunnel]
    for _, theirs in pairs:
        with theirs:
            assert theirs.recv(100) == b""
