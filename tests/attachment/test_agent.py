"""The agent against a real server: what it serves, how it returns, and what ends it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import socket
import sys
import time

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from jupyter_portproxy.attachment import connected_agents
from jupyter_portproxy.attachment.agent import Agent, AgentEnded, AttachedPorts
from jupyter_portproxy.attachment.local_ports import LocalPorts
from jupyter_portproxy.upstream.websocket_client import ServerAccess

from ..conftest import TOKEN
from ..support.upstreams import free_port, mirror, serve
from ..support.waiting import eventually


class Running:
    """An agent in a task of the test's loop."""

    def __init__(self, access: ServerAccess, name: str, ports) -> None:
        self.reports: list[str] = []
        self.attached: list[dict[int, str]] = []
        self.stop = asyncio.Event()
        offer = AttachedPorts(name, "n0123", ports, LocalPorts("n0123"))
        self.agent = Agent(access, offer, self.reports.append, self.attached.append, first_pause=0.05, health_period=0.05)
        self.task = asyncio.ensure_future(self.agent.run(self.stop))

    async def ready(self, times: int = 1) -> None:
        await eventually(lambda: len(self.attached) >= times or self.task.done())
        assert not self.task.done() or self.task.result()

    async def ended(self) -> str:
        with pytest.raises(AgentEnded) as caught:
            await asyncio.wait_for(asyncio.shield(self.task), 5)
        return str(caught.value)


@pytest.fixture
def attach(agents, origin, jp_base_url):
    """`async with attach(port, ...) as running`; without a token a new one is made."""

    @contextlib.asynccontextmanager
    async def start(*ports: int, name: str = "trainer", token: str | None = None, url: str = ""):
        text = token or agents.tokens.create(3600)[1]
        running = Running(ServerAccess(url or f"http://{origin}{jp_base_url}", text), name, ports)
        try:
            yield running
        finally:
            running.stop.set()
            await asyncio.wait({running.task}, timeout=5)
            assert running.task.done()

    return start


@pytest.fixture
def states(gateway):
    return lambda: {service.name: service.state for service in gateway.services.list()}


async def test_a_port_of_another_machine_is_a_service(attach, call, states):
    async with serve(mirror) as upstream, attach(upstream.port) as running:
        started = time.monotonic()
        await running.ready()
        assert time.monotonic() - started < 1 and states() == {f"trainer-{upstream.port}": "up"}
        answer = await call(f"proxy/service/trainer-{upstream.port}/x?y=1", "POST", content=b"content")
        assert answer.status == 200 and upstream.last.target == "/x?y=1" and upstream.last.content == b"content"
        assert upstream.last.one("Authorization") is None
    assert states() == {f"trainer-{upstream.port}": "down"}


async def test_a_large_body_goes_both_ways_unchanged(attach, call):
    body = random.Random(5).randbytes(8 << 20)
    async with serve(mirror) as upstream, attach(upstream.port) as running:
        await running.ready()
        answer = await call(f"proxy/service/trainer-{upstream.port}/", "POST", content=body)
        assert answer.status == 200 and upstream.last.content == body


async def test_the_health_of_a_port_is_followed(attach, states, gateway):
    port = free_port()
    async with attach(port) as running:
        await running.ready()
        assert states() == {f"trainer-{port}": "unhealthy"}
        service = gateway.services.get(f"trainer-{port}")
        assert service.error == f"Nothing listens on port {port} of n0123."
        with socket.create_server(("127.0.0.1", port)):
            await eventually(lambda: service.state == "up")
        await eventually(lambda: service.state == "unhealthy")


async def test_a_program_that_ends_between_two_checks(attach, call, gateway):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        async with attach(port) as running:
            running.agent._health_period = 60
            await running.ready()
            await asyncio.sleep(0.1)
            listening.close()
            assert (await call(f"proxy/service/trainer-{port}/")).status == 502
            assert gateway.services.get(f"trainer-{port}").error == f"Nothing listens on port {port} of n0123."


async def test_the_agent_returns_after_the_loss_of_its_connection(attach, agents, call, states):
    async with serve(mirror) as upstream, attach(upstream.port) as running:
        for times in range(1, 4):
            await running.ready(times)
            assert (await call(f"proxy/service/trainer-{upstream.port}/")).status == 200
            agents.list()[0].session.control.ws_connection.stream.close()
        await running.ready(4)
        assert states() == {f"trainer-{upstream.port}": "up"}
        assert running.reports and all("is lost. Next attempt in 0.1 s." in report for report in running.reports)


async def test_a_list_of_tokens_that_cannot_be_read_is_waited_for(attach, agents, states):
    _, token = agents.tokens.create(3600)
    path = agents.tokens._file.path
    text = path.read_bytes()
    path.write_text("{")
    async with serve(mirror) as upstream, attach(upstream.port, token=token) as running:
        await eventually(lambda: len(running.reports) > 1)
        assert running.reports[0].startswith("The server cannot read its list of attach tokens now.")
        path.write_bytes(text)
        await running.ready()
        assert states() == {f"trainer-{upstream.port}": "up"}


async def test_a_server_that_cannot_listen_says_why_and_is_dialled_again(attach, agents, states, monkeypatch, caplog):
    async with serve(mirror) as upstream:
        with monkeypatch.context() as patch:
            patch.setattr(
                connected_agents, "bind_unix_socket", lambda path, **more: (_ for _ in ()).throw(OSError(28, "No space"))
            )
            async with attach(upstream.port) as running:
                await eventually(lambda: len(running.reports) > 1)
                assert running.reports[0].startswith(
                    "The server cannot listen for the ports: No space. See the server's log. Next"
                )
                assert "the ports of n0123 cannot be attached: [Errno 28] No space" in caplog.text and agents.list() == []
                patch.undo()
                await running.ready()
                assert states() == {f"trainer-{upstream.port}": "up"}


async def test_a_server_that_is_away_is_dialled_again(agents, attach):
    async with attach(6006, url=f"http://127.0.0.1:{free_port()}/") as running:
        await eventually(lambda: len(running.reports) > 2)
        assert "does not answer" in running.reports[0] and "Next attempt in 0.1 s." in running.reports[0]
        assert "Next attempt in 0.2 s." in running.reports[2]


@pytest.mark.parametrize("token", [TOKEN, "portproxy-attach-wrong"])
async def test_a_token_that_does_not_attach_ends_the_agent(attach, token):
    async with attach(6006, token=token) as running:
        assert await running.ended() == (
            "The attach token is not valid: it was revoked, has ended, or belongs to another user.\n"
            "Make one where you use Jupyter: jupyter portproxy attach-token --for 8h"
        )


async def test_a_server_without_attachment_ends_the_agent(attach, origin):
    async with attach(6006, url=f"http://{origin}/") as running:
        assert (await running.ended()).startswith(f"Nothing can be attached at http://{origin}/. Has the server")


async def test_a_revoked_token_ends_the_agent(attach, agents):
    token, text = agents.tokens.create(3600)
    agents._check_period = 0.05
    async with attach(6006, token=text) as running:
        await running.ready()
        agents.tokens.revoke(token.id)
        assert await running.ended() == "'trainer' is not attached any more. Its attach token was revoked or has ended."


async def test_a_name_that_is_taken_ends_the_second_agent(attach, states):
    async with attach(6006) as first:
        await first.ready()
        async with attach(6006) as second:
            assert await second.ended() == (
                "The name 'trainer' is taken by an agent on n0123. "
                "Choose another name, or detach that agent: jupyter portproxy detach trainer"
            )
        assert not first.task.done()


async def test_ports_that_are_stopped_at_the_server(attach, gateway):
    async with attach(6006, 8265) as running:
        await running.ready()
        await gateway.services.stop("trainer-6006")
        await eventually(lambda: running.reports == ["Port 6006 was detached at the server."])
        await gateway.services.delete("trainer-8265")
        assert await running.ended() == "All ports were detached at the server."


async def test_a_detached_agent_ends(attach, agents):
    async with attach(6006) as running:
        await running.ready()
        agents.detach("trainer")
        assert await running.ended() == "'trainer' is not attached any more. It was detached at the server."


async def test_a_connection_to_a_port_that_is_not_attached_is_refused(attach, agents, jp_asyncio_loop):
    async with attach(6006) as running:
        await running.ready()
        session = agents.list()[0].session
        one, other = socket.socketpair()
        session._accept(22, one)
        other.setblocking(False)
        assert await asyncio.wait_for(jp_asyncio_loop.sock_recv(other, 1), 5) == b""
        other.close()


async def raw(server_url: str, port: int):
    """Raw TCP to the service, with `hello` sent."""
    headers = {"Authorization": f"token {TOKEN}"}
    websocket = await websocket_connect(HTTPRequest(f"{server_url}proxy/tcp/service/trainer-{port}", headers=headers))
    await websocket.write_message(b"hello", binary=True)
    return websocket


async def read_to_end(websocket) -> tuple[bytes, int]:
    """The bytes until the other side's end, and the close code."""
    received = b""
    while message := await websocket.read_message():
        received += message
    if message is not None:  # an end of stream, which this side answers
        await websocket.write_message(b"", binary=True)
        assert await websocket.read_message() is None
    return received, websocket.close_code


@pytest.mark.skipif(sys.platform != "linux", reason="Unix sockets have names of their own on Linux alone")
@pytest.mark.parametrize("ends", ["whole", "reset", "detached", "lost", "refused"])
async def test_a_cut_of_raw_tcp_is_no_end(attach, agents, server_url, ends):
    async def program(reader, writer) -> None:
        writer.write(await reader.readexactly(5))
        await writer.drain()
        await asyncio.sleep(0.05)
        if ends == "reset":
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.transport.abort()
        elif ends == "whole":
            writer.close()
        else:
            await reader.read()
            writer.close()

    server = await asyncio.start_server(program, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, attach(port) as running:
        await running.ready()
        if ends == "refused":
            running.agent._offer.remove(port)  # the agent does not serve it, and nothing was sent yet
        websocket = await raw(server_url, port)
        if ends in ("detached", "lost"):
            assert await websocket.read_message() == b"hello"
            agents.detach("trainer") if ends == "detached" else agents.list()[0].session.control.ws_connection.stream.close()
        received, code = await read_to_end(websocket)
        assert (code == 1000) == (ends == "whole")
        assert received == (b"hello" if ends in ("whole", "reset") else b"")
        websocket.close()


@pytest.fixture
def many_descriptors():
    """Both ends of everything are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20000)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(120)
async def test_a_thousand_connections_at_once(attach, agents, many_descriptors):
    async def echo(reader, writer) -> None:
        writer.write(await reader.readexactly(5))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=2000)
    port = server.sockets[0].getsockname()[1]
    async with server, attach(port) as running:
        await running.ready()
        path = agents.list()[0].services[port].endpoint.unix_socket
        before = len(os.listdir("/proc/self/fd"))

        async def talk(number: int) -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"%05d" % number)
            answer = await reader.readexactly(5)
            await gate.wait()
            writer.close()
            return answer

        gate = asyncio.Event()
        talking = [asyncio.ensure_future(talk(number)) for number in range(1000)]
        await eventually(lambda: len(agents.list()[0].session._open) == 1000, 60)
        gate.set()
        assert await asyncio.gather(*talking) == [b"%05d" % number for number in range(1000)]
        # A list of ports of another test may have a connection to one of these servers for a moment.
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before, 60)
        await eventually(lambda: not agents.list()[0].session._open and not running.agent._tunnels)
