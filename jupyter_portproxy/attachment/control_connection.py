"""The agent's end of a control connection: messages over a WebSocket that `upstream.websocket_client` has opened.

Tornado's protocol class reads and writes the frames, and sends the pings. Its own client would dial by itself, without the proxy,
certificate and owner check that data connections have.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketProtocol13, _WebSocketParams

from ..protocol import attach_messages
from ..protocol.attach_messages import AgentMessage, BadMessage, ServerMessage
from ..upstream.byte_tunnel import PING_INTERVAL
from ..upstream.websocket_client import ServerAccess, open_websocket

_CLOSE_TIMEOUT = 2.0  # s


class ControlConnection:
    """Messages are read by `read` alone, one after the other. What Tornado's protocol calls is public here, too."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._closed = asyncio.Event()
        self._protocol: Any = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, access: ServerAccess, path: str, ping_interval: float = PING_INTERVAL) -> ControlConnection:
        """Raises: HandshakeError"""
        connection = cls()
        stream = await open_websocket(access, path)
        parameters = _WebSocketParams(
            ping_interval=ping_interval, ping_timeout=ping_interval, max_message_size=attach_messages.MAX_MESSAGE
        )
        protocol: Any = WebSocketProtocol13(connection, True, parameters)
        connection._protocol, protocol.stream = protocol, stream
        stream.set_nodelay(True)
        protocol.start_pinging()
        connection._task = asyncio.get_running_loop().create_task(protocol._receive_frame_loop(), name="portproxy control")
        return connection

    async def read(self) -> ServerMessage | None:
        """The next message; None at the end of the connection.

        Raises:
            BadMessage
        """
        message = await self._messages.get()
        if isinstance(message, bytes):
            raise BadMessage("A control connection has text messages only.")
        return None if message is None else attach_messages.parse_server_message(message)

    async def send(self, message: AgentMessage) -> None:
        """A message that cannot be sent any more is dropped: `read` returns None soon."""
        with contextlib.suppress(WebSocketClosedError, StreamClosedError):
            await self._protocol.write_message(attach_messages.print_message(message))

    async def close(self, code: int) -> None:
        """Close it, and wait some seconds for the server's response."""
        self._protocol.close(code)
        try:
            await asyncio.wait_for(self._closed.wait(), _CLOSE_TIMEOUT)
        except asyncio.TimeoutError:
            self._protocol.stream.close()
            await self._closed.wait()

    # ---- called by Tornado's protocol ----

    def on_message(self, message: str | bytes) -> None:
        self._messages.put_nowait(message)

    def on_ping(self, data: bytes) -> None:
        """Tornado answers it."""

    def on_pong(self, data: bytes) -> None:
        """Tornado notes it."""

    def on_ws_connection_close(self, close_code: int | None = None, close_reason: str | None = None) -> None:
        self._closed.set()
        self._messages.put_nowait(None)

    def log_exception(self, *args: Any) -> None:
        """The protocol closes the connection."""
