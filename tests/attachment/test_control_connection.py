"""The agent's end of a control connection, with a real server of WebSockets."""

from __future__ import annotations

import asyncio

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from jupyter_portproxy.attachment.control_connection import ControlConnection
from jupyter_portproxy.protocol.attach_messages import BadMessage, Detach, Open, PortHealth, print_message
from jupyter_portproxy.upstream.websocket_client import HandshakeError, ServerAccess

from ..support.waiting import eventually


class Server(WebSocketHandler):
    handlers: list[Server] = []  # noqa: RUF012
    pings = 0

    def open(self) -> None:
        self.handlers.append(self)
        self.messages: list[object] = []

    def on_message(self, message) -> None:
        self.messages.append(message)

    def on_ping(self, data) -> None:
        Server.pings += 1


async def start(sock) -> HTTPServer:
    server = HTTPServer(Application([("/x/control", Server)]))
    server.add_sockets([sock])
    return server


@pytest.fixture
def access(jp_asyncio_loop):
    Server.handlers, Server.pings = [], 0
    sock, port = bind_unused_port()
    server = jp_asyncio_loop.run_until_complete(start(sock))
    yield ServerAccess(f"http://127.0.0.1:{port}/x/", "a-token")
    server.stop()
    jp_asyncio_loop.run_until_complete(server.close_all_connections())


async def test_messages_go_both_ways(access):
    control = await ControlConnection.open(access, "control")
    (server,) = Server.handlers
    assert server.request.headers["Authorization"] == "token a-token" and "Origin" not in server.request.headers
    await control.send(PortHealth(6006, ""))
    await eventually(lambda: server.messages)
    assert server.messages == [print_message(PortHealth(6006, ""))]
    server.write_message(print_message(Detach(6006)))
    server.write_message(print_message(Open("a-random-text-0123", 6006)))
    assert [await control.read(), await control.read()] == [Detach(6006), Open("a-random-text-0123", 6006)]
    await control.close(1001)
    await eventually(lambda: server.close_code == 1001)
    assert await control.read() is None


@pytest.mark.parametrize("message", [b"{}", "{", '{"type": "hello"}'])
async def test_a_wrong_message_is_an_error(access, message):
    control = await ControlConnection.open(access, "control")
    Server.handlers[0].write_message(message, binary=isinstance(message, bytes))
    with pytest.raises(BadMessage):
        await control.read()
    await control.close(1001)


async def test_the_end_of_the_connection(access):
    control = await ControlConnection.open(access, "control")
    Server.handlers[0].ws_connection.stream.close()
    assert await control.read() is None
    await control.send(PortHealth(6006, ""))  # too late, and no error
    await control.close(1001)


async def test_a_server_that_does_not_answer_pings_is_given_up(access):
    control = await ControlConnection.open(access, "control", ping_interval=0.1)
    await eventually(lambda: Server.pings > 2)
    stream = Server.handlers[0].ws_connection.stream
    stream.io_loop.remove_handler(stream.socket)
    assert await asyncio.wait_for(control.read(), 12) is None
    await control.close(1001)
    stream.socket.close()


async def test_a_refused_handshake(access):
    with pytest.raises(HandshakeError) as caught:
        await ControlConnection.open(access, "nothing-there")
    assert caught.value.status == 404
