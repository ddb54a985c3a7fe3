"""Agents as bytes on the wire: a control connection and data connections that a test speaks itself."""

from __future__ import annotations

import json

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

INSTANCE = "an-instance-of-an-agent"


class WireAgent:
    """A client of `proxy/attach`, with one attach token."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.control: WebSocketClientConnection
        self._open: list[WebSocketClientConnection] = []

    async def connect(self, path: str = "", target: str = "attach", **fields: str) -> WebSocketClientConnection:
        headers = {"Authorization": f"token {self.token}", **{name.replace("_", "-"): value for name, value in fields.items()}}
        connection = await websocket_connect(HTTPRequest(f"{self.url}proxy/{target}{path}", headers=headers))
        self._open.append(connection)
        return connection

    async def attach(self, name: str = "trainer", *ports: int, instance: str = INSTANCE, errors: dict[int, str] | None = None):
        """Attach, and return the server's first message."""
        self.control = await self.connect()
        hello = {"name": name, "host": "n0123", "instance": instance, "ports": list(ports) or [6006], "errors": errors or {}}
        await self.send("hello", **hello)
        return await self.read()

    async def send(self, type_: str, **values: object) -> None:
        await self.control.write_message(json.dumps({"type": type_, **values}))

    async def read(self) -> dict[str, object] | None:
        message = await self.control.read_message()
        return None if message is None else json.loads(message)

    async def serve(self) -> tuple[dict[str, object], WebSocketClientConnection]:
        """The next `open`, and the data connection for it."""
        message = await self.read()
        assert message["type"] == "open", message
        return message, await self.connect(f"/{message['id']}")

    def close(self) -> None:
        for connection in self._open:
            connection.close()


@pytest.fixture
def agents(extension):
    """The agents of the server under test."""
    return extension.agents


@pytest.fixture
def server_url(origin, jp_base_url) -> str:
    return f"ws://{origin}{jp_base_url}"


@pytest.fixture
def wire_agent(agents, server_url, jp_asyncio_loop):
    """Makes agents, each with a new token unless one is given."""
    made: list[WireAgent] = []

    def make(token: str | None = None) -> WireAgent:
        made.append(WireAgent(server_url, token or agents.tokens.create(3600)[1]))
        return made[-1]

    yield make
    for agent in made:
        agent.close()
