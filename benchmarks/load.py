"""Load generators on raw asyncio streams, so that they cost far less than what they measure.

Every byte of a response is counted. An unexpected response is an error and yields no figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from subjects import Subject

PIECE = 1 << 18


class Connection:
    """One kept-alive connection to a subject."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, subject: Subject, limit: int = 1 << 20) -> Connection:
        return await cls.to(subject.port, limit)

    @classmethod
    async def to(cls, port: int, limit: int = 1 << 20) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in fields}

    async def pieces(self, fields: dict[str, str]) -> AsyncIterator[bytes]:
        if "chunked" not in fields.get("transfer-encoding", ""):
            async for piece in self._read(int(fields["content-length"])):
                yield piece
            return
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            async for piece in self._read(size):
                yield piece
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")

    async def _read(self, left: int) -> AsyncIterator[bytes]:
        while left:
            piece = await self.reader.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionError("the answer was cut")
            left -= len(piece)
            yield piece

    async def ask(self, request: bytes, size: int | None = None) -> bytes:
        """One request and its whole answer, which must be 200 and, if told, of that size. Returns at most 4 MiB."""
        self.writer.write(request)
        status, fields = await self.head()
        got, kept = 0, b""
        async for piece in self.pieces(fields):
            got += len(piece)
            kept = kept + piece if got <= 1 << 22 else b""
        if status != 200 or size not in (None, got):
            raise RuntimeError(f"status {status}, {got} bytes")
        return kept

    def close(self) -> None:
        self.writer.close()


class Timing(NamedTuple):
    """What a load came to: `took` seconds in all, each request's seconds in `each`."""

    took: float
    each: list[float]


async def requests(subject: Subject, request: bytes, size: int | None, connections: int, total: int) -> Timing:
    """`total` requests over so many kept-alive connections, each sending its next when it has the answer."""
    open_ = [await Connection.open(subject) for _ in range(connections)]
    timing = await requests_over(open_, request, size, total)
    for connection in open_:
        connection.close()
    return timing


async def requests_over(open_: list[Connection], request: bytes, size: int | None, total: int) -> Timing:
    """The same over connections that are open already."""
    each: list[float] = []

    async def one(connection: Connection) -> None:
        for _ in range(total // len(open_)):
            begin = time.perf_counter()
            await connection.ask(request, size)
            each.append(time.perf_counter() - begin)

    begin = time.perf_counter()
    await asyncio.gather(*map(one, open_))
    return Timing(time.perf_counter() - begin, each)


async def download(subject: Subject, size: int) -> None:
    connection = await Connection.open(subject, limit=1 << 22)
    await connection.ask(subject.head("GET", f"/{size}"), size)
    connection.close()


async def upload(subject: Subject, size: int) -> None:
    connection = await Connection.open(subject)
    connection.writer.write(subject.head("PUT", "/sink", f"Content-Length: {size}\r\n"))
    block, left = bytes(PIECE), size
    while left:
        connection.writer.write(block[: min(left, PIECE)])
        left -= min(left, PIECE)
        await connection.writer.drain()
    status, fields = await connection.head()
    counted = int(b"".join([piece async for piece in connection.pieces(fields)]))
    if status != 200 or counted != size:
        raise RuntimeError(f"status {status}: the origin got {counted} of {size} bytes")
    connection.close()


async def websocket(subject: Subject) -> Connection:
    """An open WebSocket to the echo."""
    connection = await Connection.open(subject)
    fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    fields += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    connection.writer.write(subject.head("GET", "/echo", fields))
    status, _ = await connection.head()
    if status != 101:
        raise RuntimeError(f"status {status} instead of 101")
    return connection


async def echo(connection: Connection, times: int) -> list[float]:
    """Round trips of a small frame; the seconds of each."""
    frame, answer, each = b"\x82\x88\0\0\0\0" + b"12345678", b"\x82\x08" + b"12345678", []
    for _ in range(times):
        begin = time.perf_counter()
        connection.writer.write(frame)
        if await connection.reader.readexactly(len(answer)) != answer:
            raise RuntimeError("the frame came back changed")
        each.append(time.perf_counter() - begin)
    return each
