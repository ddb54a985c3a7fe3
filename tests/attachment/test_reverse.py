"""Ports of a client's machine beside the server: who may have one, who may connect to it, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest

from jupyter_portproxy.attachment.agent import Agent, AgentEnded, ReversePorts
from jupyter_portproxy.attachment.local_ports import LocalPorts
from jupyter_portproxy.errors import LoopDetected
from jupyter_portproxy.upstream.websocket_client import ServerAccess

from ..conftest import TOKEN
from ..support.upstreams import free_port, mirror, serve
from ..support.waiting import eventually
from .test_handlers import refusal


@pytest.fixture
def jp_server_config(jp_server_config):
    return {**jp_server_config, "PortProxy": {"reverse_forwarding": True}}


@pytest.fixture
def forward(origin, jp_base_url):
    """`async with forward({remote: local})` runs a client; yields its task and its reports."""

    @contextlib.asynccontextmanager
    async def start(pairs, token=TOKEN):
        stop, reports = asyncio.Event(), []
        offer = ReversePorts("laptop", pairs, LocalPorts("laptop"))
        access = ServerAccess(f"http://{origin}{jp_base_url}", token)
        task = asyncio.ensure_future(Agent(access, offer, reports.append, reports.append, first_pause=0.05).run(stop))
        await eventually(lambda: reports or task.done())
        try:
            yield task, reports
        finally:
            stop.set()
            await asyncio.wait({task}, timeout=5)
            assert task.done()

    return start


async def ended(task) -> str:
    with pytest.raises(AgentEnded) as caught:
        await task
    return str(caught.value)


async def test_a_port_beside_the_server_leads_to_the_client(forward, gateway):
    remote = free_port()
    async with serve(mirror) as upstream:
        async with forward({remote: upstream.port}) as (_, reports):
            assert reports == [{remote: f"127.0.0.1:{remote}"}]
            reader, writer = await asyncio.open_connection("127.0.0.1", remote)
            writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
            writer.close()
            assert upstream.last.target == "/x"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", remote)


async def test_a_port_on_which_nothing_listens_at_the_client(forward, caplog):
    remote, local = free_port(), free_port()
    async with forward({remote: local}) as (_, reports):
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", remote)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert reports[1:] == [f"A connection was not served: Nothing listens on port {local} of laptop."]  # once
    assert f"a connection to port {remote} was not served: Nothing listens on port {local} of laptop." in caplog.text


async def test_a_port_that_is_not_allowed(forward):
    async with forward({80: 8000}) as (task, _):
        assert (await ended(task)).startswith("Port 80 is outside allowed range (10000-20000). ")


async def test_a_port_that_is_in_use(forward):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        async with forward({port: 8000}) as (task, _):
            assert await ended(task) == f"Port {port} of the server's machine is in use. Choose another one."


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="becomes another user")
async def test_another_user_of_the_machine_is_cut_before_the_first_byte(forward):
    remote = free_port()
    code = f"import socket; s = socket.create_connection(('127.0.0.1', {remote})); s.sendall(b'x'); print(s.recv(1))"
    async with serve(mirror) as upstream, forward({remote: upstream.port}):
        process = await asyncio.create_subprocess_exec(
            "python3", "-c", code, user=65534, cwd="/", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        output, errors = await process.communicate()
        assert output == b"b''\n" or b"Connection reset" in errors
        assert upstream.connections == 0


@pytest.mark.parametrize("token", ["", "wrong", "attach"])
async def test_only_a_token_of_the_user_forwards(wire_agent, agents, token):
    text = agents.tokens.create(60)[1] if token == "attach" else token
    agent = wire_agent(text or " ")
    status, _, _ = await refusal(agent.connect("", target="reverse"))
    assert status == 403


async def test_cookies_parameters_and_pages_do_not_forward(wire_agent, origin, call):
    agent = wire_agent(TOKEN)
    assert (await refusal(agent.connect("?token=" + TOKEN, target="reverse")))[0] == 403
    assert (await refusal(agent.connect(target="reverse", Origin=f"http://{origin}")))[0] == 403
    login = await call("?token=" + TOKEN, token=None)
    cookies = "; ".join(value.partition(";")[0] for name, value in login.fields if name == "Set-Cookie")
    assert "username-" in cookies
    answer = await call("proxy/reverse", fields=[f"Cookie: {cookies}"], token=None)
    assert answer.status == 403


async def test_a_data_connection_needs_the_same_token(forward, wire_agent, extension, agents):
    remote = free_port()
    async with forward({remote: free_port()}):
        (client,) = extension.reverse._clients.values()
        client.session.control.send = lambda message: None  # the client gets no message
        _, writer = await asyncio.open_connection("127.0.0.1", remote)
        await eventually(lambda: client.session._waiting)
        (id_,) = client.session._waiting
        assert (await refusal(wire_agent(agents.tokens.create(60)[1]).connect(f"/{id_}", target="reverse")))[0] == 403
        assert (await refusal(wire_agent(agents.tokens.create(60)[1]).connect(f"/{id_}")))[0] == 404
        await wire_agent(TOKEN).connect(f"/{id_}", target="reverse")
        writer.close()


async def test_a_client_that_returns_takes_its_port_again(forward, extension):
    remote = free_port()
    async with forward({remote: free_port()}) as (_, reports):
        (client,) = extension.reverse._clients.values()
        client.session.control.ws_connection.stream.close()
        await eventually(lambda: reports.count({remote: f"127.0.0.1:{remote}"}) == 2)
        assert len(extension.reverse._clients) == 1


class TestAllPorts:
    @pytest.fixture
    def jp_server_config(self, jp_server_config):
        return {**jp_server_config, "PortProxy": {"reverse_forwarding": True, "allowed_ports": ["1024-65535"]}}

    async def test_the_servers_own_port_is_refused(self, forward, jp_serverapp):
        async with forward({jp_serverapp.port: 8000}) as (task, _):
            assert await ended(task) == " ".join(filter(None, [LoopDetected().message, LoopDetected().hint]))


class TestOff:
    @pytest.fixture
    def jp_server_config(self, jp_server_config):
        return {**jp_server_config, "PortProxy": {}}

    async def test_it_is_off_by_default(self, forward):
        async with forward({15000: 8000}) as (task, _):
            assert (await ended(task)).startswith("Ports of other machines cannot be forwarded to this server.\n")


class TestSharedServers:
    @pytest.fixture
    def jp_server_config(self, jp_server_config):
        return {**jp_server_config, "PortProxy": {"reverse_forwarding": True, "project_resolver": "local"}}

    async def test_it_is_off(self, forward):
        async with forward({15000: 8000}) as (task, _):
            assert "cannot be forwarded" in await ended(task)
