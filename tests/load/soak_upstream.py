"""An upstream of the soak, in a process of its own: `python -m tests.load.soak_upstream PORT JOURNAL`.

It serves HTTP on PORT and WebSockets on PORT + 1. Its response is a function of the request, so that a client can detect any
wrong byte. What it has received is in its journal before it is acknowledged. It misbehaves only where the request says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import sys
from pathlib import Path
from urllib.parse import parse_qsl

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from ..support.upstreams import Connection, Seen

PIECE = 1 << 16


def blob(seed: int, size: int) -> bytes:
    """The content that both ends know."""
    return random.Random(seed).randbytes(size)


def event(seed: int, number: int) -> str:
    return hashlib.sha256(f"{seed} {number}".encode()).hexdigest()


class Upstream:
    """Serves until it is killed."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal.open("ab", buffering=0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, Seen())
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await connection.head()
                path, _, query = head.target.partition("?")
                arguments = getattr(self, f"_{path.strip('/')}", self._silence)  # other programs of this machine look in, too
                await arguments(connection, head, dict(parse_qsl(query)))
        writer.close()

    async def _blob(self, connection: Connection, head, arguments) -> None:
        data = blob(int(arguments["seed"]), int(arguments["size"]))
        chunked, slow = "chunked" in arguments, float(arguments.get("pause", 0))
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(data)
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%b\r\n\r\n" % framing)
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if "cut" in arguments and start + PIECE > len(data) // 2:
                if arguments["cut"] == "reset":
                    connection.reset()
                raise ConnectionError
            await connection.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            if slow:
                await asyncio.sleep(slow)
        if chunked:
            await connection.write(b"0\r\n\r\n")

    async def _upload(self, connection: Connection, head, arguments) -> None:
        self._journal.write(f"began {arguments['id']}\n".encode())
        summed, size = hashlib.sha256(), 0
        async for piece in _content(connection, head):
            summed.update(piece)
            size += len(piece)
        self._journal.write(f"took {arguments['id']} {size} {summed.hexdigest()}\n".encode())
        text = summed.hexdigest().encode()
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))

    async def _events(self, connection: Connection, head, arguments) -> None:
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(int(arguments["count"])):
            text = f"id: {number}\ndata: {event(int(arguments['seed']), number)}\n\n".encode()
            await connection.write(b"%x\r\n%b\r\n" % (len(text), text))
            await asyncio.sleep(0.02)
        await connection.write(b"0\r\n\r\n")

    async def _page(self, connection: Connection, head, arguments) -> None:
        await connection.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\npage")

    async def _stall(self, connection: Connection, head, arguments) -> None:
        await connection.until_closed()

    async def _junk(self, connection: Connection, head, arguments) -> None:
        await connection.write(random.randbytes(300))
        raise ConnectionError

    async def _silence(self, connection: Connection, head, arguments) -> None:
        raise ConnectionError


async def _content(connection: Connection, head):
    if head.one("Transfer-Encoding") == "chunked":
        while size := int(await connection.reader.readline(), 16):
            yield await connection.reader.readexactly(size)
            await connection.reader.readline()
        await connection.reader.readline()
        return
    left = int(head.one("Content-Length") or 0)
    while left:
        piece = await connection.reader.read(min(left, PIECE))
        if not piece:
            raise ConnectionError
        left -= len(piece)
        yield piece


async def echo(socket) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in socket:
            await socket.send(message)


async def main(port: int, journal: Path) -> None:
    upstream = Upstream(journal)
    async with (
        await asyncio.start_server(upstream.serve, "127.0.0.1", port, limit=1 << 20),
        serve(echo, "127.0.0.1", port + 1, max_size=None),
    ):
        print("up", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
