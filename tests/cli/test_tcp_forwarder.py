"""The forwarder against servers that end, stall, restart and are loaded: no hang, no leak, and few sentences."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import psutil
import pytest

from jupyter_portproxy.cli.listening_sockets import close_listener, listen
from jupyter_portproxy.cli.tcp_forwarder import Messages, TcpForwarder
from jupyter_portproxy.protocol.forwards import parse_forward
from jupyter_portproxy.system.descriptors import raise_limit
from jupyter_portproxy.system.tls import SYSTEM_TRUST, Trust
from jupyter_portproxy.upstream.websocket_client import MAX_HANDSHAKES, HandshakeError, ServerAccess

from ..docs.test_nginx_docs import LOCATION, MAP, TLS
from ..support.forwarding import echo, service
from ..support.jupyter_processes import TOKEN, Server, debugged, jupyter_server
from ..support.kernels import as_user
from ..support.nginx import nginx
from ..support.slow_relay import relay
from ..support.upstreams import answers, free_port, says, serve
from ..support.waiting import eventually

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="signals"),
    pytest.mark.timeout(120),  # servers are started, ended and started again
]


class Running:
    """A forwarder in this process. `messages` has its messages."""

    def __init__(self, port: int, messages: list[str], forwarder: TcpForwarder) -> None:
        self.port, self.messages, self.forwarder = port, messages, forwarder

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 16)

    async def ask(self, text: bytes = b"hello") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the echo has answered."""
        reader, writer = await self.connect()
        writer.write(text)
        assert await asyncio.wait_for(reader.readexactly(len(text)), 60) == text
        return reader, writer

    async def is_reset(self, reader: asyncio.StreamReader) -> bool:
        try:
            await asyncio.wait_for(reader.read(), 20)
            return False
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def forwarding(url: str, remote: int, trust: Trust = SYSTEM_TRUST, **options: float) -> AsyncIterator[Running]:
    """At its end no task, no descriptor and no timer is left."""
    tasks, descriptors = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))
    messages: list[str] = []
    listener, forward = listen(parse_forward(f"0:{remote}"))
    access = ServerAccess(url, TOKEN, trust)
    forwarder = TcpForwarder(access, forward.remote, Messages(messages.append, lambda text: None), **options)
    forwarder.serve(listener, forward)
    try:
        yield Running(forward.port, messages, forwarder)
    finally:
        await forwarder.close()
        close_listener(listener, forward)
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    await eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)


def debug_state(server: Server) -> dict[str, object]:
    return json.loads(server.get("debug/state")[1])


def state_without_tunnels(server: Server) -> dict[str, object]:
    """Once all have closed and the server has started, or after 15 s."""
    end = time.monotonic() + 15
    while ((state := debug_state(server))["tunnels"] or "initialize" in state["tasks"]) and time.monotonic() < end:
        time.sleep(0.1)
    return state


# ---- who connects ----


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="becomes another user of a Linux machine")
async def test_a_connection_of_another_user_is_refused(tmp_path):
    with service(echo) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up) as running:
            with as_user(65534):
                stranger = socket.create_connection(("127.0.0.1", running.port))
            reader, writer = await asyncio.open_connection(sock=stranger)
            assert await running.is_reset(reader)
            assert running.messages == ["A connection of another user of this machine (nobody) was refused."]
            writer.close()
            _, writer = await running.ask()
            writer.close()


# ---- the server ends ----


async def test_a_server_that_restarts_is_back_for_new_connections(tmp_path):
    port = free_port(range(21000, 29000))
    with service(echo) as up, jupyter_server(tmp_path, port=port) as server:
        async with forwarding(server.url, up, wait=60) as running:
            clients = [await running.ask() for _ in range(50)]
            os.kill(server.process.pid, signal.SIGTERM)
            assert all([await running.is_reset(reader) for reader, _ in clients])
            await eventually(lambda: running.messages)
            assert running.messages == ["The server does not answer; trying again ..."]
            late = asyncio.ensure_future(running.ask(b"late"))  # it waits for the server
            await asyncio.to_thread(server.process.wait, 20)
            with jupyter_server(tmp_path, port=port):
                _, writer = await late
                assert running.messages == ["The server does not answer; trying again ...", "The server answers again."]
                for each in (writer, *(writer for _, writer in clients)):
                    each.close()


async def test_a_connection_does_not_wait_for_ever_for_a_server_that_is_away():
    async with forwarding(f"http://127.0.0.1:{free_port()}/", 15432, wait=0.3) as running:
        begun = time.monotonic()
        clients = [await running.connect() for _ in range(20)]
        assert all([await running.is_reset(reader) for reader, _ in clients])
        assert 0.2 < time.monotonic() - begun < 3
        assert running.messages[0] == "The server does not answer; trying again ..."
        assert len(running.messages) == 2 and running.messages[1].startswith("15432: The server at http://127.0.0.1:")
        for _, writer in clients:
            writer.close()


async def test_a_killed_server_is_a_reset_while_data_flows(tmp_path):
    def endless(sock: socket.socket) -> None:
        while True:
            sock.sendall(bytes(1 << 16))

    with service(endless) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up) as running:
            reader, writer = await running.connect()
            await reader.readexactly(10_000_000)
            server.process.kill()
            assert await running.is_reset(reader)
            await eventually(lambda: running.messages == ["The server does not answer; trying again ..."])
            writer.close()


async def test_a_server_that_stands_still_is_found_out_by_a_ping(tmp_path):
    """As behind a laptop that slept: the connection is there on this side alone."""
    with service(echo) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up, ping_interval=0.5, timeout=1) as running:
            reader, writer = await running.ask()
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                begun = time.monotonic()
                assert await running.is_reset(reader)
                assert time.monotonic() - begun < 5
                await eventually(lambda: running.messages)
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            await eventually(lambda: len(running.messages) == 2, 20)
            assert running.messages == ["The server does not answer; trying again ...", "The server answers again."]
            writer.close()
            (await running.ask())[1].close()


async def test_pings_keep_a_quiet_connection_behind_a_reverse_proxy_with_a_limit(tmp_path):
    """nginx cuts what is quiet for `proxy_read_timeout`: 60 s by default, 1 s here."""
    trusts = ["--ServerApp.trust_xheaders=True", "--ServerApp.allow_remote_access=True"]
    location = LOCATION.replace("proxy_read_timeout 1d", "proxy_read_timeout 1s")
    assert location != LOCATION
    with service(echo) as up, jupyter_server(tmp_path, *trusts) as server:
        front = nginx(tmp_path, f"{MAP} server {{ listen 443 ssl; {TLS} {location} }}", urlsplit(server.url).netloc)
        with front as (port, _):
            url, trust = f"https://localhost:{port}/", Trust(str(tmp_path / "ca.pem"))
            async with forwarding(url, up, trust=trust, ping_interval=0.3) as running:
                reader, writer = await running.ask()
                await asyncio.sleep(3)
                writer.write(b"still")
                assert await asyncio.wait_for(reader.readexactly(5), 5) == b"still"
                writer.close()
            async with forwarding(url, up, trust=trust, ping_interval=60) as running:
                reader, writer = await running.ask()
                assert await running.is_reset(reader)
                writer.close()


async def test_pings_keep_a_quiet_connection(tmp_path):
    """A way that answers late, but within the interval."""
    with service(echo) as up, jupyter_server(tmp_path) as server, relay(urlsplit(server.url).port) as way:
        async with forwarding(f"http://127.0.0.1:{way.port}/", up, ping_interval=1) as running:
            reader, writer = await running.ask()
            way.delay = 0.4
            await asyncio.sleep(3)
            writer.write(b"still")
            assert await asyncio.wait_for(reader.readexactly(5), 5) == b"still"
            writer.close()


async def test_a_login_that_ends_while_no_connection_is_open_ends_it(tmp_path):
    port = free_port(range(21000, 29000))
    with service(echo) as up, jupyter_server(tmp_path, port=port) as server:
        async with forwarding(server.url, up, ping_interval=0.3) as running:
            ended = asyncio.ensure_future(running.forwarder.wait_ended())
            await asyncio.sleep(1)
            assert not ended.done() and not running.messages
            assert "proxy/tcp" not in server.log
            os.kill(server.process.pid, signal.SIGTERM)
            await asyncio.to_thread(server.process.wait, 20)
            await eventually(lambda: running.messages == ["The server does not answer; trying again ..."], 20)
            with jupyter_server(tmp_path, port=port, more={"JUPYTER_TOKEN": "another"}):
                with pytest.raises(HandshakeError) as refusal:
                    await asyncio.wait_for(ended, 20)
                assert refusal.value.is_login
                assert len(running.messages) == 1


async def test_a_refused_login_ends_it():
    body = b'{"code": "unauthenticated", "message": "This request carries no valid login.", "hint": ""}'
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with serve(says(refusal)) as up, forwarding(f"http://127.0.0.1:{up.port}/", 15432) as running:
        reader, writer = await running.connect()
        assert await running.is_reset(reader)
        writer.close()
        with pytest.raises(HandshakeError, match="no valid login"):
            await asyncio.wait_for(running.forwarder.wait_ended(), 5)


async def test_a_service_that_refuses_does_not_end_it():
    body = b'{"code": "forbidden", "message": "Not this port.", "hint": ""}'
    async with (
        serve(answers(body, status=b"403 Forbidden")) as up,
        forwarding(f"http://127.0.0.1:{up.port}/", 15432) as running,
    ):
        for _ in range(3):
            reader, writer = await running.connect()
            assert await running.is_reset(reader)
            writer.close()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(running.forwarder.wait_ended()), 0.3)
        assert running.messages == ["15432: Not this port."]


# ---- many, and slow ----


@pytest.mark.timeout(240)  # a minute where four other programs run
async def test_many_connections_at_once(tmp_path):
    number = 2000
    raise_limit()
    with service(echo) as up, jupyter_server(tmp_path, *debugged(tmp_path)) as server:
        async with forwarding(server.url, up) as running:
            (await running.ask())[1].close()
            before = await asyncio.to_thread(state_without_tunnels, server)
            clients = await asyncio.gather(*(running.ask(b"number %d" % each) for each in range(number)))
            during = await asyncio.to_thread(debug_state, server)
            assert during["tunnels"] == number
            for _, writer in clients:
                writer.close()
            await eventually(lambda: len(running.forwarder._tunnels) == 0, 20)
            after = await asyncio.to_thread(state_without_tunnels, server)
            assert running.messages == []
            for name in ("tasks", "tunnels", "slots", "objects"):
                assert after[name] == before[name], name
            assert after["descriptors"] <= before["descriptors"] + 2


async def test_few_handshakes_run_at_the_same_time():
    """More than the server's backlog has room for come late, or never, and its loop stands still for them."""
    body, now, most = b'{"code": "forbidden", "message": "Not this port.", "hint": ""}', 0, 0

    async def refuses_late(connection) -> None:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await connection.reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        now -= 1
        await connection.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with serve(refuses_late) as up, forwarding(f"http://127.0.0.1:{up.port}/", 15432) as running:
        clients = [await running.connect() for _ in range(500)]
        assert all([await running.is_reset(reader) for reader, _ in clients])
        assert most == MAX_HANDSHAKES and now == 0
        for _, writer in clients:
            writer.close()


async def test_connections_beyond_those_that_may_wait_are_reset_at_once_and_counted(tmp_path):
    with service(echo) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up, max_waiting=20, timeout=60) as running:
            (await running.ask())[1].close()
            os.kill(server.process.pid, signal.SIGSTOP)
            waiting = [await running.connect() for _ in range(20)]
            await eventually(lambda: running.forwarder._waiting == 20)
            begun = time.monotonic()
            refused = [await running.connect() for _ in range(300)]
            assert all([await running.is_reset(reader) for reader, _ in refused])
            assert time.monotonic() - begun < 5
            await eventually(lambda: len(running.messages) == 1)
            assert running.messages == ["300 connections were refused, as 20 others waited for the server already."]
            os.kill(server.process.pid, signal.SIGCONT)
            for reader, writer in waiting:
                writer.write(b"x")
                assert await asyncio.wait_for(reader.readexactly(1), 20) == b"x"
            (await running.ask())[1].close()
            for _, writer in waiting + refused:
                writer.close()


async def test_a_connection_without_a_turn_ends_in_time(tmp_path):
    """More than may shake hands at once, with a server that answers none of them."""
    with service(echo) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up, timeout=2, wait=1) as running:
            (await running.ask())[1].close()
            os.kill(server.process.pid, signal.SIGSTOP)
            try:
                begun = time.monotonic()
                clients = [await running.connect() for _ in range(500)]
                assert all([await running.is_reset(reader) for reader, _ in clients])
                assert time.monotonic() - begun < 10
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
            for _, writer in clients:
                writer.close()


@pytest.mark.parametrize("slow", ["client", "service"])
async def test_a_slow_reader_costs_at_most_1_mb_at_each_end(tmp_path, slow):
    """20 connections whose data is not read: the sender stops, and neither end keeps much."""

    is_over = threading.Event()

    def endless(sock: socket.socket) -> None:
        while True:
            sock.sendall(bytes(1 << 16))

    def deaf(sock: socket.socket) -> None:
        sock.recv(1)
        is_over.wait()

    with service(endless if slow == "client" else deaf) as up, jupyter_server(tmp_path) as server:
        async with forwarding(server.url, up) as running:
            processes = psutil.Process(server.process.pid), psutil.Process()
            (await running.connect())[1].close()
            await asyncio.sleep(0.5)
            before = [process.memory_info().rss for process in processes]
            with contextlib.ExitStack() as stack:
                stack.callback(is_over.set)
                socks = [stack.enter_context(socket.create_connection(("127.0.0.1", running.port))) for _ in range(20)]
                for sock in socks:
                    sock.setblocking(False)
                end, quiet = time.monotonic() + 30, 0
                while quiet < 40:  # looks in a row in which the kernel's buffers took nothing more
                    assert time.monotonic() < end, "the sender is not stopped"
                    await asyncio.sleep(0.05)
                    quiet = quiet + 1 if slow == "client" or not sum(map(send_all, socks)) else 0
                more = [process.memory_info().rss - first for process, first in zip(processes, before, strict=True)]
                assert all(growth < 20 << 20 for growth in more), more


def send_all(sock: socket.socket) -> int:
    """Send until the socket takes no more; how many bytes that were."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(1 << 16))
    return sent
