"""A way to a server that can be made slow: a TCP relay in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator


class Relay:
    """`port` leads to the server's; what that says arrives `delay` seconds late."""

    def __init__(self, to: int, port: int = 0) -> None:
        self.delay, self.port, self._to = 0.0, port, to
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready, self._end, self._loop = threading.Event(), asyncio.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(5)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0.1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                far, there = await asyncio.open_connection("127.0.0.1", self._to)
            except OSError:
                self._writers.discard(writer)
                writer.close()
                return
            self._writers.add(there)
            await asyncio.gather(self._pass(reader, there, late=False), self._pass(far, writer, late=True))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                if late and self.delay:
                    await asyncio.sleep(self.delay)
                writer.write(data)
                await writer.drain()
        finally:
            self._writers.discard(writer)
            writer.close()


@contextlib.contextmanager
def relay(to: int, port: int = 0) -> Iterator[Relay]:
    made = Relay(to, port)
    made.start()
    try:
        yield made
    finally:
        made.stop()
