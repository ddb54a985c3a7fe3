"""Raw TCP through a real Jupyter server: who gets in, what is reached, and that bytes, ends and limits are kept."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import ssl
import sys
from pathlib import Path

import pytest
import trustme
import websockets

from jupyter_portproxy.server_proxy.config import read_server
from jupyter_portproxy.services.templates import load

from ..conftest import TOKEN
from ..support.jupyter_processes import jupyter_server
from ..support.raw_clients import UPGRADE, Answer
from ..support.upstreams import free_port, serve
from ..support.waiting import eventually

LOGIN = f"Authorization: token {TOKEN}"


@pytest.fixture
def connect(origin, jp_base_url):
    """Opens raw TCP: to a port, or `service/NAME`."""

    def connected(target, **more):
        fields = {"Authorization": f"token {TOKEN}"}
        return websockets.connect(
            f"ws://{origin}{jp_base_url}proxy/tcp/{target}", additional_headers=fields, max_size=None, **more
        )

    return connected


@pytest.fixture
def shake(call):
    """The answer to a handshake with these fields."""

    async def shaken(target, *fields: str, token: str | None = None, **more) -> Answer:
        return await call(f"proxy/tcp/{target}", fields=[*UPGRADE, "Accept: application/json", *fields], token=token, **more)

    return shaken


async def echoes(connection):
    """Sends back what it gets, and after its end `end`."""
    while data := await connection.reader.read(65536):
        connection.seen.received += data
        await connection.write(data)
    await connection.write(b"end")


def code_of(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.content)["code"]


# ---- bytes ----


async def test_bytes_and_half_closes_pass(connect, gateway):
    async with serve(echoes) as up, connect(up.port) as link:
        for data in (b"\0", b"hello", bytes(range(256)) * 4096):
            await link.send(data)
            received = b""
            while len(received) < len(data):
                received += await link.recv()
            assert received == data
        assert gateway.tunnels == 1
        await link.send(b"")
        assert [await link.recv(), await link.recv()] == [b"end", b""]
        await asyncio.wait_for(link.wait_closed(), 5)
        assert link.close_code == 1000
        await eventually(lambda: gateway.tunnels == gateway.limits.tunnels.in_all == 0)
    assert link.response.headers["Sec-WebSocket-Accept"] and "Sec-WebSocket-Protocol" not in link.response.headers


async def test_a_reset_is_no_end(connect):
    async def resets(connection):
        await connection.reader.readexactly(1)
        connection.reset()

    async with serve(resets) as up, connect(up.port) as link:
        await link.send(b"x")
        await asyncio.wait_for(link.wait_closed(), 5)
        assert link.close_code == 1011


async def test_a_client_that_is_gone_resets_the_service(connect, gateway):
    async with serve(echoes) as up:
        link = await connect(up.port)
        await eventually(lambda: up.connections == 1)
        link.transport.abort()
        await asyncio.wait_for(up.gone.wait(), 5)
        await eventually(lambda: gateway.tunnels == gateway.limits.tunnels.in_all == 0)


async def test_text_is_refused(connect):
    async with serve(echoes) as up, connect(up.port) as link:
        await link.send("text")
        await asyncio.wait_for(link.wait_closed(), 5)
        assert (link.close_code, bytes(up.received)) == (1003, b"")


# ---- who gets in ----


async def test_a_token_in_the_field_authorization_alone_gets_in(shake, gateway, jp_base_url, origin, call):
    """The same cookie, query and subprotocol open a WebSocket of a service: the positive control."""
    name = gateway_cookie_name(gateway, origin)
    async with serve(echoes) as up:
        page = await call(f"proxy/port/{up.port}/?token={TOKEN}", token=None, fields=["Accept: application/json"])
        cookie = page.one("Set-Cookie").partition(";")[0]
        assert cookie.startswith(name)
        before = up.connections
        subprotocol = f"Sec-WebSocket-Protocol: v1.token.websocket.jupyter.org.{TOKEN}, v1.token.websocket.jupyter.org"
        for fields in (
            [f"Cookie: {cookie}"],
            [subprotocol],
            [f"Cookie: {cookie}", subprotocol],
            [],
            ["Authorization: Basic eDp5"],
        ):
            assert code_of(await shake(up.port, *fields)) == (403, "token_only"), fields
        for query in (f"?token={TOKEN}", f"?token={TOKEN}&x", "?x"):
            answer = await call(f"proxy/tcp/{up.port}{query}", token=None, fields=[*UPGRADE, f"Cookie: {cookie}"])
            assert answer.status == 400 and TOKEN not in answer.text
        for wrong in ("token wrong", "Bearer ", f"token {TOKEN}x", "token", "Bearer wrong"):
            assert (await shake(up.port, f"Authorization: {wrong}", f"Cookie: {cookie}")).status == 403
        assert up.connections == before
        assert (await shake(up.port, LOGIN)).status == 101
        assert (await shake(up.port, f"Authorization: Bearer {TOKEN}", f"Cookie: {cookie}")).status == 101
        control = await call(f"proxy/port/{up.port}/", token=None, fields=[*UPGRADE, f"Cookie: {cookie}"])
        assert control.status != 403
        await eventually(lambda: up.connections >= before + 2)


def gateway_cookie_name(gateway, origin: str) -> str:
    return f"username-{re.sub(r'[^A-Za-z0-9]', '-', origin)}"


@pytest.mark.parametrize("field", ["Origin: http://evil.example", "Origin: null", "Origin: ", "origin: http://{origin}"])
async def test_a_page_is_refused_even_with_a_token(shake, origin, field):
    async with serve(echoes) as up:
        answer = await shake(up.port, LOGIN, field.format(origin=origin))
        assert code_of(answer) == (403, "token_only") and "Origin" in json.loads(answer.content)["message"]
        assert up.connections == 0


@pytest.mark.parametrize("password", ["", "argon2:$argon2id$v=19$m=10240,t=10,p=8$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA"])
@pytest.mark.parametrize("fields", [[], [LOGIN]])
async def test_a_server_without_a_token_serves_none(shake, jp_serverapp, monkeypatch, call, fields, password):
    provider = jp_serverapp.identity_provider
    monkeypatch.setattr(provider, "token", "")  # pytest-jupyter sets one
    monkeypatch.setattr(provider, "hashed_password", password)
    async with serve(echoes) as up:
        answer = await shake(up.port, *fields)
        assert code_of(answer) == (403, "token_only") and "no token" in json.loads(answer.content)["message"]
        assert up.connections == 0
    assert (await call("api/contents", token=None)).status == (403 if password else 200)  # where no login is needed at all


# ---- what is reached ----


async def test_the_policy_decides(shake, gateway, jp_serverapp, monkeypatch):
    for port in (1, 22, 9999, 20001, 65535):
        assert code_of(await shake(port, LOGIN)) == (403, "forbidden")
    assert code_of(await shake(jp_serverapp.port, LOGIN)) == (403, "jupyter_port")
    answer = await shake(free_port(), LOGIN)
    assert (code_of(answer), json.loads(answer.content)["hint"]) == ((502, "unreachable"), "Is the service running?")
    for wrong in ("0", "65536", "x", "015432", "localhost:22", "22/x", "service/a/b"):
        assert code_of(await shake(wrong, LOGIN)) == (400, "bad_route")
    assert code_of(await shake("service/none", LOGIN)) == (404, "not_found")
    assert code_of(await shake(15000, LOGIN, content=b"x")) == (400, "bad_request")


async def test_a_kernels_ports_are_never_reached(shake, jp_serverapp, call, monkeypatch):
    made = await call("api/kernels", "POST", content=b"{}", fields=["Content-Type: application/json"])
    kernel = json.loads(made.content)["id"]
    try:
        info = jp_serverapp.kernel_manager.get_connection_info(kernel)
        ports = [value for key, value in info.items() if key.endswith("_port")]
        assert len(ports) == 5
        gateway = jp_serverapp.web_app.settings["portproxy"]
        monkeypatch.setattr(gateway.policy, "_port_allowed", bytearray(b"\1" * 65536))
        for port in ports:
            assert code_of(await shake(port, LOGIN)) == (403, "jupyter_port")
            gateway.services.templates["fixed"] = fixed(port)
            assert code_of(await shake("service/fixed", LOGIN)) == (403, "jupyter_port")
    finally:
        await call(f"api/kernels/{kernel}", "DELETE")


def fixed(port: int):
    """What a configuration of jupyter-server-proxy makes of `{"port": PORT}`."""
    return read_server("fixed", {"port": port}, "/", [])


async def test_a_configured_server_and_a_reservation_are_reached_by_name(connect, gateway, call):
    async with serve(echoes) as up:
        gateway.services.templates["fixed"] = fixed(up.port)
        async with connect("service/fixed") as link:
            await link.send(b"x")
            assert await link.recv() == b"x"
    reserved = json.loads((await call("proxy/api/reservations", "POST", content=b'{"name": "mine"}')).content)
    async with serve(echoes, port=reserved["port"]), connect("service/mine") as link:
        await link.send(b"y")
        assert await link.recv() == b"y"


@pytest.mark.parametrize("fields", [["Accept: text/html"], ["Accept: application/json"], ["Connection: Upgrade", "Upgrade: h2c"]])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_without_an_upgrade_an_address_of_raw_tcp_says_how_to_use_it(call, method, fields):
    async with serve(echoes) as up:
        answer = await call(f"proxy/tcp/{up.port}", method, fields=fields)
        assert answer.status == 400
        if method != "HEAD":
            assert "This address carries raw TCP for programs, so that it has no page." in answer.text
            assert f"jupyter portproxy forward {up.port}" in answer.text
        assert up.connections == 0
        assert (await call(f"proxy/tcp/{up.port}", method, token=None)).status == 403


# ---- services that speak no HTTP ----

ECHO = """
import socketserver, sys

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)

socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Echo).serve_forever()
"""


async def start_echo(call, gateway) -> dict:
    template = {"command": [sys.executable, "-c", ECHO, "{port}"], "protocol": "tcp", "title": "Echo"}
    gateway.services.templates["echo"] = load("echo", template)
    started = await call("proxy/api/services", "POST", content=b'{"template": "echo"}')
    assert started.status == 201
    return json.loads(started.content)


async def test_a_service_of_tcp_is_reached_by_its_name_and_has_no_page(connect, call, gateway):
    service = await start_echo(call, gateway)
    assert (service["scheme"], service["url"]) == ("tcp", None)
    async with connect("service/echo") as link:  # it waits until the service is ready
        await link.send(b"hello")
        assert await link.recv() == b"hello"
    for fields in (["Accept: text/html"], ["Accept: application/json"], UPGRADE):
        answer = await call("proxy/service/echo/", fields=fields)
        assert answer.status == 400
        assert "speaks no HTTP, so that it has no page." in answer.text
        assert "jupyter portproxy forward echo" in answer.text


async def test_a_cookie_opens_no_websocket_of_a_service_of_tcp(call, shake, gateway):
    await start_echo(call, gateway)
    page = await call(f"api?token={TOKEN}", token=None)
    cookie = (await call(f"proxy/service/echo/?token={TOKEN}", token=None)).one("Set-Cookie").partition(";")[0]
    assert page.status == 200
    assert (await call("proxy/service/echo/", token=None, fields=[*UPGRADE, f"Cookie: {cookie}"])).status == 400
    assert code_of(await shake("service/echo", f"Cookie: {cookie}")) == (403, "token_only")


# ---- limits, ends, records ----


async def test_a_slot_of_tunnels_is_taken(shake, connect, gateway, monkeypatch):
    async with serve(echoes) as up, connect(up.port):
        assert gateway.limits.tunnels.in_all == 1
        monkeypatch.setattr(gateway.limits.tunnels, "bounds", type(gateway.limits.tunnels.bounds)(in_all=1))
        assert code_of(await shake(up.port, LOGIN)) == (503, "too_many")


@pytest.mark.parametrize(
    "jp_server_config",
    [
        {
            "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
            "IdentityProvider": {"token": TOKEN},
            "PortProxy": {"tcp_idle_timeout": 0.4},
        }
    ],
)
async def test_an_idle_connection_is_closed(connect, gateway, jp_server_config):
    async with serve(echoes) as up, connect(up.port) as link:
        for _ in range(4):
            await asyncio.sleep(0.2)
            await link.send(b"x")
            assert await link.recv() == b"x"
        await link.ping()  # which is no byte of the stream
        await asyncio.wait_for(link.wait_closed(), 3)
        assert link.close_code == 1001
        await eventually(lambda: up.gone.is_set() and gateway.tunnels == 0)


async def test_a_shutdown_says_so(connect, gateway):
    async with serve(echoes) as up, connect(up.port) as link:
        await eventually(lambda: gateway.tunnels == 1)
        gateway.close()
        await asyncio.wait_for(link.wait_closed(), 5)
        assert link.close_code == 1001


async def test_a_check_of_the_login_is_not_in_the_log(call, caplog):
    """`forward` does that twice a minute while no connection is open."""
    caplog.set_level(logging.INFO)
    check = [UPGRADE[0], UPGRADE[1], "Sec-WebSocket-Version: 0", UPGRADE[3], "Accept: application/json"]
    assert code_of(await call("proxy/tcp/", fields=[*check, LOGIN], token=None)) == (400, "bad_route")
    assert "proxy/tcp/" not in caplog.text
    for path, token, expected in (
        ("proxy/tcp/", "wrong", (403, "unauthenticated")),
        ("proxy/tcp/0", TOKEN, (400, "bad_route")),
    ):
        caplog.clear()
        answer = await call(path, fields=[*check, f"Authorization: token {token}"], token=None)
        assert code_of(answer) == expected and path in caplog.text


async def test_the_log_has_who_what_how_much_and_how_long(connect, gateway, caplog):
    caplog.set_level(logging.INFO)
    before = gateway.counters.bytes_in_tunnels
    async with serve(echoes) as up:
        async with connect(up.port) as link:
            await link.send(b"12345")
            await link.recv()
        await eventually(lambda: gateway.tunnels == 0)
        lines = [record.getMessage() for record in caplog.records if "raw TCP" in record.getMessage()]
        what = rf"portproxy: raw TCP to '{up.port}' for '[0-9a-f]+' at 127\.0\.0\.1"
        assert re.fullmatch(rf"{what} is open", lines[0])
        assert re.fullmatch(rf"{what} has closed after [0-9]+\.[0-9] s and 10 bytes", lines[1])
    assert gateway.counters.bytes_in_tunnels == before + 10
    assert TOKEN not in caplog.text


# ---- a server with TLS ----


def test_a_server_with_tls_carries_the_same(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    with jupyter_server(tmp_path, certificate=tmp_path / "own.pem") as server:
        asyncio.run(talk_over_tls(server.url, tmp_path / "ca.pem"))
        assert "Traceback" not in server.log, server.log


async def talk_over_tls(url: str, authority: Path) -> None:
    async def resets(connection) -> None:
        await connection.reader.readexactly(1)
        connection.reset()

    fields = {"Authorization": f"token {TOKEN}"}
    context = ssl.create_default_context(cafile=str(authority))

    def opened(port: int):
        return websockets.connect(
            f"wss{url.removeprefix('https')}proxy/tcp/{port}", additional_headers=fields, ssl=context, max_size=None
        )

    async with serve(echoes) as up, opened(up.port) as link:
        data = bytes(range(256)) * 8192
        sending, received = asyncio.ensure_future(link.send(data)), b""
        while len(received) < len(data):
            received += await asyncio.wait_for(link.recv(), 10)
        await sending
        assert received == data
        await link.send(b"")
        assert [await link.recv(), await link.recv()] == [b"end", b""]
        await asyncio.wait_for(link.wait_closed(), 5)
        assert link.close_code == 1000
    async with serve(resets) as up, opened(up.port) as link:
        await link.send(b"x")
        await asyncio.wait_for(link.wait_closed(), 5)
        assert link.close_code == 1011
    async with serve(echoes) as up:
        link = await opened(up.port)
        await link.send(b"x")
        assert await link.recv() == b"x"
        link.transport.abort()
        await asyncio.wait_for(up.gone.wait(), 5)  # a reset
