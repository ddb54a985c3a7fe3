"""A client of the recorder's event stream, on a raw connection."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from .jupyter_processes import TOKEN


class Watcher:
    """What has come on the stream so far.

    Attributes:
        exchanges: by id, the last state of each, in order.
        raw: all that was sent.
    """

    def __init__(self, connection) -> None:
        self._connection = connection
        self.exchanges, self.names, self.raw = {}, [], ""
        self._chunks = connection.chunks()

    async def read(self) -> None:
        text = (await asyncio.wait_for(anext(self._chunks), 20)).decode()
        self.raw += text
        for event in text.split("\n\n"):
            name, _, data = event.partition("\ndata: ")
            if not name.startswith("event: "):
                continue
            self.names.append(name.removeprefix("event: "))
            content = json.loads(data)
            if self.names[-1] == "cleared":
                self.exchanges.clear()
            for exchange in content["exchanges"] if self.names[-1] == "snapshot" else [content] if content else []:
                self.exchanges[exchange["id"]] = exchange

    async def until(self, predicate) -> list[dict]:
        """All exchanges once the predicate is true for them."""
        while not predicate(found := list(self.exchanges.values())):
            await self.read()
        return found

    async def last(self, count: int = 1, *, is_over: bool = True) -> dict:
        """The last exchange, once there are so many, all of them over."""
        return (await self.until(lambda found: len(found) >= count and not (is_over and any(e["is_open"] for e in found))))[-1]


@pytest.fixture
def watch(wire, origin, jp_base_url):
    """Opens a recording and watches it: `async with watch(8050) as watcher`."""

    @contextlib.asynccontextmanager
    async def watching(target):
        async with await wire() as connection:
            path = f"{jp_base_url}proxy/api/exchanges/events?target={target}"
            await connection.send(f"GET {path} HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n".encode())
            assert (await connection.head()).status == 200
            watcher = Watcher(connection)
            await watcher.read()
            yield watcher

    return watching
