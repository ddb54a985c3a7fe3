"""One control connection at the server: the connections that wait for the other side, and those that it serves.

A connection that a listening socket accepts is

    WAITING   `Open` with a random ID was sent; it ends by `take`, by `refuse`, after `open_timeout` seconds, or with the session
    OPEN      it is one end of a ByteTunnel, the other one is the WebSocket that the other side has dialled with the ID

A session is closed exactly once: that closes its listening sockets and all its connections.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from tornado.iostream import IOStream
from tornado.netutil import add_accept_handler

from ..errors import GatewayError, NotFound
from ..protocol.attach_messages import Open, ServerMessage
from ..system.descriptors import is_scarce
from ..upstream.byte_tunnel import ByteTunnel
from ..upstream.connect import reset_on_close

OPEN_TIMEOUT = 30.0  # s, from a new connection to the WebSocket that serves it
MAX_WAITING = 2048  # connections
_ID_SIZE = 24  # bytes


class Control(Protocol):
    """The server's end of a control connection."""

    def send(self, message: ServerMessage) -> None: ...

    async def answers(self) -> bool:
        """True if the other side responds to a ping within some seconds."""

    def end(self, error: GatewayError, *, is_final: bool) -> None:
        """Close it; `is_final`: the other side is not to dial again."""


@dataclass(slots=True)
class _Waiting:
    port: int
    stream: IOStream
    timer: asyncio.TimerHandle


class AttachSession:
    """What belongs to one control connection.

    Args:
        credential: what authenticated it; its data connections must show the same.
        report: called with a port and a sentence if a connection to it could not be served.
        approve: called with a new connection; False closes it before a byte is read.
    """

    def __init__(
        self,
        control: Control,
        credential: object,
        report: Callable[[int, str], None],
        approve: Callable[[socket.socket], bool],
        log: logging.Logger,
        *,
        open_timeout: float = OPEN_TIMEOUT,
    ) -> None:
        self.control, self.credential = control, credential
        self._report, self._approve, self._log, self._open_timeout = report, approve, log, open_timeout
        self._listening: dict[int, Callable[[], None]] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._open: dict[ByteTunnel, int] = {}
        self.is_closed = False

    def listen(self, port: int, sock: socket.socket) -> None:
        """Serve the connections of a listening socket as those of this port. It, and its file, go with the session."""
        remove = add_accept_handler(sock, lambda connection, address: self._accept(port, connection))

        def stop() -> None:
            remove()
            if sock.family == socket.AF_UNIX:
                Path(sock.getsockname()).unlink(missing_ok=True)
            sock.close()

        self._listening[port] = stop

    def stop_port(self, port: int) -> None:
        """Close the listening socket of a port, and its connections."""
        self._listening.pop(port, lambda: None)()
        for id_ in [id_ for id_, waiting in self._waiting.items() if waiting.port == port]:
            self._end_waiting(id_)
        for tunnel in [tunnel for tunnel, its_port in self._open.items() if its_port == port]:
            tunnel.shut_down()

    def take(self, id_: str) -> tuple[int, IOStream]:
        """The connection that waits with this ID, which is valid once, and its port.

        Raises:
            NotFound
        """
        waiting = self._waiting.pop(id_, None)
        if waiting is None:
            raise NotFound(id_, "waiting connection")
        waiting.timer.cancel()
        return waiting.port, waiting.stream

    def add(self, port: int, tunnel: ByteTunnel) -> None:
        """Close a tunnel with the session."""
        self._open[tunnel] = port
        tunnel.add_close_callback(self._open.pop)  # type: ignore[arg-type]

    def is_waiting(self, id_: str) -> bool:
        return id_ in self._waiting

    def refuse(self, id_: str, error: str) -> None:
        """The other side cannot serve the connection with this ID. One that does not wait any more is not an error."""
        waiting = self._waiting.get(id_)
        if waiting is not None:
            self._end_waiting(id_)
            self._report(waiting.port, error)

    def close(self) -> None:
        self.is_closed = True
        for port in list(self._listening):
            self.stop_port(port)
        for id_ in list(self._waiting):
            self._end_waiting(id_)
        for tunnel in list(self._open):
            tunnel.shut_down()

    def _accept(self, port: int, connection: socket.socket) -> None:
        if len(self._waiting) >= MAX_WAITING or is_scarce(connection.fileno()) or not self._approve(connection):
            connection.close()
            return
        id_ = secrets.token_urlsafe(_ID_SIZE)
        timer = asyncio.get_running_loop().call_later(self._open_timeout, partial(self._expire, id_))
        self._waiting[id_] = _Waiting(port, IOStream(connection), timer)
        self.control.send(Open(id_, port))

    def _expire(self, id_: str) -> None:
        port = self._waiting[id_].port
        self._end_waiting(id_)
        self._log.warning("portproxy: the agent did not serve a connection to port %d within %g s", port, self._open_timeout)

    def _end_waiting(self, id_: str) -> None:
        waiting = self._waiting.pop(id_)
        waiting.timer.cancel()
        reset_on_close(waiting.stream.socket)
        waiting.stream.close()
