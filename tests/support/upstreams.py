"""Upstreams on real sockets, most of which misbehave on purpose.

A script is an `async` function of one `Connection` that writes the exact bytes of a response, valid or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Script = Callable[["Connection"], Awaitable[None]]
ALLOWED = range(10000, 20001)


class Message:
    """Something with header fields."""

    fields: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, values
        return values[0] if values else None


@dataclass
class Request(Message):
    """A request as it came over the wire."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    content: bytes = b""


@dataclass
class Seen:
    """What an upstream has seen so far."""

    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    received: bytearray = field(default_factory=bytearray)

    @property
    def last(self) -> Request:
        return self.requests[-1]


class Connection:
    """One accepted connection, as a script uses it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Seen) -> None:
        self.reader, self.writer, self.seen = reader, writer, seen

    async def head(self) -> Request:
        """Read a request's head; ends the script when the peer closes."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = raw[:-4].split("\r\n")
        method, target, _ = start.split(" ", 2)
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        request = Request(method, target, fields)
        self.seen.requests.append(request)
        return request

    async def request(self) -> Request:
        """Read a request with its content."""
        request = await self.head()
        if request.one("Transfer-Encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                request.content += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        elif length := request.one("Content-Length"):
            request.content = await self.reader.readexactly(int(length))
        return request

    async def write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        while data := await self.reader.read(65536):
            self.seen.received += data


def free_port(ports: range = ALLOWED) -> int:
    """A port of the range on which nobody listens."""
    while True:
        port = random.choice(ports)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@contextlib.asynccontextmanager
async def serve(
    script: Script, host: str = "127.0.0.1", port: int | None = None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Seen]:
    """Run an upstream; every connection runs the script and is closed at its end."""
    seen = Seen()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            await script(Connection(reader, writer, seen))
        except (asyncio.IncompleteReadError, ConnectionError):
            seen.gone.set()
        except asyncio.CancelledError:
            writer.transport.abort()  # the test is over; a TLS connection would wait for the other end's good-bye
        finally:
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()

    running: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(run(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)
        task.add_done_callback(lambda task: writer.close())  # one that is cancelled before it began closes nothing itself

    server = await asyncio.start_server(accept, host, port or free_port(), limit=1 << 20, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(list(running))


# ---- well-behaved ----


def answers(content: bytes = b"hello", head: bytes = b"Content-Type: text/plain", status: bytes = b"200 OK") -> Script:
    """Answers every request the same, on a kept-alive connection."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            await connection.write(b"HTTP/1.1 %b\r\n%b\r\nContent-Length: %d\r\n\r\n" % (status, head, len(content)))
            if request.method != "HEAD":
                await connection.write(content)

    return script


def says(raw: bytes) -> Script:
    """Answers one request with these very bytes and closes."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(raw)

    return script


async def mirror(connection: Connection) -> None:
    """Tells as JSON what it was sent."""
    while True:
        request = await connection.request()
        description = {
            "method": request.method,
            "target": request.target,
            "fields": request.fields,
            "content": request.content.decode("latin-1"),
        }
        body = b"" if request.method == "HEAD" else json.dumps(description).encode()
        await connection.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )


async def sink(connection: Connection) -> None:
    """Reads one request's content piece by piece and tells how much it was."""
    request = await connection.head()
    size = 0
    while size < int(request.one("Content-Length") or 0):
        size += len(await connection.reader.read(1 << 20))
    text = b"%d" % size
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


async def echo_frames(connection: Connection) -> None:
    """Grants any upgrade and sends all that comes straight back, unmasked frames or not."""
    await connection.head()
    await connection.write(SWITCHING)
    while data := await connection.reader.read(1 << 20):
        connection.seen.received += data
        await connection.write(data)


# ---- misbehaving ----

SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


async def never_answers(connection: Connection) -> None:
    await connection.request()
    await connection.until_closed()
    connection.seen.gone.set()


async def closes_without_answer(connection: Connection) -> None:
    await connection.request()


async def resets_without_answer(connection: Connection) -> None:
    await connection.request()
    connection.reset()


async def cut_mid_content(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)


async def cut_mid_chunk(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 50)


async def early_hints(connection: Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def drips(pieces: list[bytes], pause: float) -> Script:
    """Server-sent events or any slow stream: a piece, a pause, a piece; then it waits for the client to go."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(pause)
        await connection.until_closed()
        connection.seen.gone.set()

    return script


async def endless(connection: Connection) -> None:
    """Sends zeros until it is stopped."""
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    block = b"10000\r\n" + bytes(65536) + b"\r\n"
    while True:
        await connection.write(block)
        connection.seen.received += b"."  # one for each block that was taken


async def closes_after_answer(connection: Connection) -> None:
    """Answers as if it kept the connection alive, and closes it at once: a stale connection for whoever pools it."""
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def closes_tunnel(code: int) -> Script:
    """Grants the upgrade and closes it with a code of its own."""

    async def script(connection: Connection) -> None:
        await connection.head()
        await connection.write(SWITCHING + b"\x88\x02" + code.to_bytes(2, "big"))
        await connection.until_closed()

    return script


async def keeps_answering(connection: Connection) -> None:
    """Answers one request after the other on the same connection."""
    while True:
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
