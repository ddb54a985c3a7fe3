"""The service behind every subject: raw asyncio protocols, so that it costs far less than what is measured.

    GET /N             N bytes with a Content-Length
    GET /events        one event every 20 ms, each with the time at which it was written, in ns
    PUT /sink          reads the content, answers with its size
    GET /echo          WebSocket: frames come back as they went

Run: python origin.py PORT
     python origin.py --many COUNT     so many ports that are allowed by default; prints a line when they listen
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import re
import sys
import time

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_BLOCK = bytes(1 << 18)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1]
            if path == b"/events":
                await events(writer)
            elif path == b"/echo":
                await echo(head, reader, writer)
                return
            elif path == b"/sink":
                await sink(head, reader, writer)
            else:
                await content(int(path.rpartition(b"/")[2] or 0), writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def content(size: int, writer: asyncio.StreamWriter) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % size
    if size <= len(_BLOCK):
        writer.write(head + _BLOCK[:size])
        return
    writer.write(head)
    while size:
        writer.write(_BLOCK[: min(size, len(_BLOCK))])
        size -= min(size, len(_BLOCK))
        await writer.drain()


async def events(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        event = b"data: %d\n\n" % time.monotonic_ns()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(0.02)


async def echo(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One masked frame in, the same unmasked frame out. Frames of up to 125 bytes, as the load sends them."""
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    key = found[1] if found else b""
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )
    while True:
        first, second = await reader.readexactly(2)
        masked = await reader.readexactly(4 + (second & 127))
        mask = int.from_bytes(masked[:4] * 32, "big") >> 8 * (128 - (second & 127))
        plain = (int.from_bytes(masked[4:], "big") ^ mask).to_bytes(second & 127, "big")
        writer.write(bytes([first, second & 127]) + plain)


async def sink(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    size, chunked = 0, b"chunked" in head.lower()
    found = re.search(rb"(?i)content-length: *([0-9]+)", head)
    left = int(found[1]) if found else 0
    while chunked or left:
        if chunked:
            left = int((await reader.readline()).strip(), 16)
        step = left
        while left:
            data = await reader.read(min(left, 1 << 20))
            if not data:
                raise ConnectionError
            left -= len(data)
            size += len(data)
        if chunked:
            await reader.readline()
            if not step:
                break
    answer = b"%d" % size
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readuntil(b"\r\n\r\n")
        text = b"<title>One of many</title>"
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text)
        writer.write(head + text)
    writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=1 << 20, backlog=4096)
    await server.serve_forever()


async def many(count: int) -> None:
    servers: list[asyncio.Server] = []
    for port in range(10000, 20000):
        if len(servers) == count:
            break
        with contextlib.suppress(OSError):  # of another program
            servers.append(await asyncio.start_server(page, "127.0.0.1", port))
    print(len(servers), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(many(int(sys.argv[2])) if sys.argv[1] == "--many" else main(int(sys.argv[1])))
