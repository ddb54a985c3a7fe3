"""WebSocket on one side, bytes on the other: back-pressure, both ends, refusals. (That it carries messages: test_serverproxy.)"""

from __future__ import annotations

import asyncio
from socket import socketpair

import pytest
import websockets
from tornado.iostream import IOStream

from jupyter_portproxy.handlers.raw_socket import RawSocketTunnel

from ..conftest import TOKEN
from ..support.raw_clients import UPGRADE, frame
from ..support.upstreams import free_port, serve
from ..support.waiting import eventually

PORT = free_port()


@pytest.fixture
def jp_server_config():
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
        "IdentityProvider": {"token": TOKEN},
        "ServerProxy": {"servers": {"raw": {"port": PORT, "raw_socket_proxy": True}}},
    }


@pytest.fixture
def connect(origin, jp_base_url):
    def connected(token: str = TOKEN, fields: dict[str, str] | None = None, **more):
        login = {"Authorization": f"token {token}", **(fields or {})}
        return websockets.connect(f"ws://{origin}{jp_base_url}raw/", additional_headers=login, max_size=None, **more)

    return connected


def refused(status: int):
    return pytest.raises(websockets.InvalidStatus, match=f"HTTP {status}")


async def stays(connection):
    """Reads until the gateway closes, and then says so."""
    await connection.until_closed()
    connection.seen.received += b"closed"


async def test_without_a_login_no_byte_leaves(connect):
    async with serve(stays, port=PORT) as upstream:
        with refused(403):
            await connect(token="wrong")
        with refused(403):
            await connect(fields={"Origin": "http://evil.example"})
        assert upstream.connections == 0


async def test_a_service_that_does_not_listen_is_a_502(connect):
    with refused(502):
        await connect()


async def test_the_services_end_closes_the_websocket(connect):
    async def leaves(connection):
        await connection.write(b"bye")

    async with serve(leaves, port=PORT), connect() as socket:
        assert await socket.recv() == b"bye"
        await asyncio.wait_for(socket.wait_closed(), 5)


async def test_the_clients_end_closes_the_services(connect, gateway):
    async with serve(stays, port=PORT) as upstream:
        async with connect() as socket:
            await eventually(lambda: gateway.tunnels == 1)
            await socket.send(b"x")
        await eventually(lambda: upstream.received == b"xclosed")
        await eventually(lambda: gateway.tunnels == 0)


async def test_text_is_bytes_and_an_empty_message_nothing(connect, gateway):
    async with serve(stays, port=PORT) as upstream, connect() as socket:
        for message in ("gr\xfc\xdfe", "", b"", b"\0\xff"):
            await socket.send(message)
        await eventually(lambda: upstream.received == "gr\xfc\xdfe".encode() + b"\0\xff")
        assert (gateway.tunnels, upstream.gone.is_set()) == (1, False)


@pytest.mark.parametrize("code", [1000, 1001, 1011])
async def test_a_page_that_is_left_resets_no_connection(connect, code):
    async with serve(stays, port=PORT) as upstream, connect() as socket:
        await socket.send(b"x")
        await socket.close(code)
        await eventually(lambda: upstream.received == b"xclosed")


async def test_pings_keep_a_connection_open_and_notice_a_client_that_is_gone():
    ours, client = socketpair()
    service, theirs = socketpair()
    tunnel, closed = RawSocketTunnel(dials=False, ping_interval=0.1), asyncio.Event()
    tunnel.add_close_callback(lambda tunnel: closed.set())
    await tunnel.connect(IOStream(ours), IOStream(theirs))
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        assert await asyncio.wait_for(loop.sock_recv(client, 9), 2) == b"\x89\0"
        await loop.sock_sendall(client, frame(10, b""))
    await asyncio.wait_for(closed.wait(), 2)
    client.close()
    service.close()


async def test_a_slow_client_slows_the_service(connect):
    sent = 0

    async def floods(connection):
        nonlocal sent
        for _ in range(1000):
            await connection.write(bytes(1 << 16))
            sent += 1 << 16

    async with serve(floods, port=PORT), connect(max_queue=1) as socket:
        await asyncio.sleep(1)
        assert sent < 32 << 20  # of 64 MiB: the kernel holds some
        received = 0
        async for message in socket:
            received += len(message)
        assert received == 1000 << 16


async def test_the_token_is_no_subprotocol(connect):
    offered = ["v1.token.websocket.jupyter.org", "binary"]
    async with serve(stays, port=PORT), connect(subprotocols=offered) as socket:
        assert socket.subprotocol == "binary"


async def test_a_server_that_stops_says_so(connect, gateway):
    async with serve(stays, port=PORT), connect() as socket:
        await eventually(lambda: gateway.tunnels == 1)
        gateway.close()
        await asyncio.wait_for(socket.wait_closed(), 5)
        assert socket.close_code == 1001


async def test_a_client_that_goes_away_during_the_handshake_leaves_nothing(wire, origin, jp_base_url, gateway):
    lines = [f"GET {jp_base_url}raw/ HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}", *UPGRADE, "", ""]
    async with serve(stays, port=PORT) as upstream:
        async with await wire() as connection:
            await connection.send("\r\n".join(lines).encode())
        await asyncio.sleep(0.3)
        assert upstream.received == b"closed" * upstream.connections
        await eventually(lambda: gateway.tunnels == gateway.limits.tunnels.in_all == 0)


async def test_an_upgrade_to_another_version_is_tornados_426(call, gateway):
    async with serve(stays, port=PORT) as upstream:
        answer = await call("raw/", fields=[*UPGRADE[:2], "Sec-WebSocket-Version: 6", UPGRADE[3]])
        assert (answer.status, answer.one("Sec-WebSocket-Version")[-2:]) == (426, "13")
        assert (upstream.connections, gateway.limits.tunnels.in_all) == (0, 0)


async def test_a_shutdown_ends_a_socket_whose_service_does_not_read(connect, gateway):
    async def never_reads(connection):
        await asyncio.sleep(30)

    async with serve(never_reads, port=PORT), connect() as socket:
        sending = asyncio.ensure_future(socket.send(bytes(8 << 20)))
        sending.add_done_callback(lambda future: future.cancelled() or future.exception())
        await asyncio.sleep(1)
        assert gateway.tunnels == 1
        gateway.close()
        await eventually(lambda: gateway.tunnels == 0, 10)
        sending.cancel()
