"""Clients on raw sockets: they send the exact bytes of a request and keep the exact bytes of the response.

They use no HTTP library, which would correct invalid requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .upstreams import Message

UPGRADE = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
]
CROSS = ["Sec-Fetch-Site: cross-site"]


@dataclass
class Answer(Message):
    """An answer as it came over the wire. `whole` is False if it ended before its framing said so."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    content: bytes = b""
    whole: bool = True

    @property
    def text(self) -> str:
        return self.content.decode()


class Wire:
    """One connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(
        cls, port: int, host: str = "127.0.0.1", limit: int = 1 << 20, local_addr: tuple[str, int] | None = None
    ) -> Wire:
        return cls(*await asyncio.open_connection(host, port, limit=limit, local_addr=local_addr))

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.writer.close()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = raw[:-4].split("\r\n")
        _, status, reason = start.split(" ", 2)
        return Answer(int(status), reason, [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)])

    async def answer(self, method: str = "GET") -> Answer:
        """Read an answer with its content."""
        answer = await self.head()
        if method == "HEAD" or answer.status in (204, 304) or answer.status < 200:
            return answer
        try:
            if answer.one("Transfer-Encoding") == "chunked":
                async for piece in self.chunks():
                    answer.content += piece
            elif (length := answer.one("Content-Length")) is not None:
                answer.content = await self.reader.readexactly(int(length))
            else:
                answer.content = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            answer.content += error.partial
            answer.whole = False
        except ConnectionError:
            answer.whole = False
        return answer

    async def chunks(self):
        while True:
            line = await self.reader.readuntil(b"\r\n")
            size = int(line, 16)
            data = await self.reader.readexactly(size + 2)
            if not size:
                return
            yield data[:-2]

    async def closed(self) -> bool:
        """True once the server has closed, within two seconds."""
        try:
            return await asyncio.wait_for(self.reader.read(), 2) is not None
        except ConnectionError:
            return True


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True) -> bytes:
    """One WebSocket frame (RFC 6455 5.2), masked with zeros."""
    first = (0x80 if fin else 0) | opcode
    mask = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, mask | size])
    elif size < 65536:
        head = bytes([first, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, mask | 127]) + size.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + payload
