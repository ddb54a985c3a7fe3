"""The WebSockets of agents at a real server: who may open them, what may be said, and what is relayed."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
import time
from dataclasses import replace

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_portproxy.attachment.handlers import ControlHandler, DataHandler

from ..conftest import TOKEN
from ..support.upstreams import mirror, serve
from ..support.waiting import eventually, settled
from .conftest import INSTANCE


@pytest.fixture
def parts(jp_serverapp):
    """Sets the times of the handlers: `parts(silence=0.1)`."""

    def set_times(**times: float) -> None:
        for rule in jp_serverapp.web_app.default_router.rules[1].target.rules:
            for each in getattr(rule, "target_kwargs", {}) or {}:
                if each == "parts":
                    rule.target_kwargs["parts"] = replace(rule.target_kwargs["parts"], **times)

    return set_times


async def refusal(connecting) -> tuple[int, str, str]:
    """Status, code and message of a handshake that is refused."""
    with pytest.raises(HTTPClientError) as caught:
        await connecting
    body = json.loads(caught.value.response.body)
    return caught.value.code, body["code"], body["message"]


async def test_an_attached_port_is_a_service(wire_agent, call, jp_base_url, agents):
    agent = wire_agent()
    started = time.monotonic()
    assert await agent.attach() == {"type": "attached", "addresses": {"6006": f"{jp_base_url}proxy/service/trainer-6006/"}}
    (service,) = json.loads((await call("proxy/api/services")).content)
    assert time.monotonic() - started < 1
    assert (service["name"], service["state"], service["runs"], service["agent"]) == (
        "trainer-6006",
        "up",
        "n0123:6006",
        "trainer",
    )
    socket = agents.list()[0].services[6006].endpoint.unix_socket
    assert stat.S_IMODE(os.stat(socket).st_mode) == 0o600 and stat.S_IMODE(os.stat(os.path.dirname(socket)).st_mode) == 0o700


async def test_a_request_goes_through_a_data_connection(wire_agent, call):
    agent = wire_agent()
    await agent.attach()
    calling = asyncio.ensure_future(call("proxy/service/trainer-6006/a/b?c=1"))
    message, data = await agent.serve()
    assert message["port"] == 6006
    request = b""
    while b"\r\n\r\n" not in request:
        request += await data.read_message()
    assert request.startswith(b"GET /a/b?c=1 HTTP/1.1\r\n") and TOKEN.encode() not in request
    await data.write_message(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", binary=True)
    await data.write_message(b"hello", binary=True)
    assert (await calling).content == b"hello"


async def test_what_is_refused_is_said_with_the_next_request(wire_agent, call):
    agent = wire_agent()
    await agent.attach()
    calling = asyncio.ensure_future(call("proxy/service/trainer-6006/"))
    message = await agent.read()
    await agent.send("refused", id=message["id"], error="Nothing listens on port 6006 of n0123.")
    assert (await calling).status == 502
    answer = await call("proxy/service/trainer-6006/", fields=["Accept: application/json"])
    assert answer.status == 502
    assert json.loads(answer.content)["message"] == (
        "The service 'trainer-6006' is unhealthy. Nothing listens on port 6006 of n0123."
    )
    await agent.send("health", port=6006, error="")
    await eventually(lambda: wire_state(agent, "up"))


def wire_state(agent, state) -> bool:
    return all(service.state == state for each in agent.registry.list() for service in each.services.values())


@pytest.fixture(autouse=True)
def registry(request, monkeypatch):
    """`agent.registry` of each agent is the server's."""
    if "agents" in request.fixturenames:
        from .conftest import WireAgent

        monkeypatch.setattr(WireAgent, "registry", request.getfixturevalue("agents"), raising=False)


@pytest.mark.parametrize("field", ["Origin", "Sec_WebSocket_Origin"])
@pytest.mark.parametrize("path", ["", "/a-waiting-connection-0"])
async def test_no_page_of_a_browser_attaches(wire_agent, origin, path, field):
    for value in (f"http://{origin}", "null", "https://evil.example"):
        assert await refusal(wire_agent().connect(path, **{field: value})) == (
            403,
            "forbidden",
            "A page in a browser may not attach.",
        )


@pytest.mark.parametrize("path", ["", "/a-waiting-connection-0"])
async def test_only_an_attach_token_in_the_authorization_field_attaches(wire_agent, agents, path):
    token, text = agents.tokens.create(3600)
    for wrong in (TOKEN, "", text[:-1], token.id):
        status, code, message = await refusal(wire_agent(wrong or " ").connect(path))
        assert (status, code) == (403, "bad_attach_token") and "attach token" in message
    assert (await refusal(wire_agent(TOKEN).connect(f"{path}?token={text}")))[0] == 403
    assert (await refusal(wire_agent(TOKEN).connect(path, Cookie=f"token={text}")))[0] == 403
    agents.tokens.revoke(token.id)
    assert (await refusal(wire_agent(text).connect(path)))[1] == "bad_attach_token"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "api/contents"),
        ("GET", "api/kernels"),
        ("POST", "api/terminals"),
        ("GET", "files/x.txt"),
        ("GET", "proxy/"),
        ("GET", "proxy/api/services"),
        ("POST", "proxy/api/attach-tokens"),
        ("GET", "proxy/api/attached"),
        ("DELETE", "proxy/api/attached/trainer"),
        ("GET", "proxy/service/trainer-6006/"),
        ("GET", "proxy/enter/trainer-6006/"),
        ("GET", "proxy/port/15000/"),
        ("GET", "metrics"),
    ],
)
async def test_an_attach_token_is_good_for_nothing_else(wire_agent, agents, call, method, path):
    _, text = agents.tokens.create(3600)
    content = b'{"seconds": 60}' if method == "POST" else None
    for fields in ([f"Authorization: token {text}"], [f"Authorization: Bearer {text}"]):
        answer = await call(path, method, fields, content, token=None)
        assert answer.status in (302, 403), answer.status
    answer = await call(f"{path}?token={text}", method, [], content, token=None)
    assert answer.status in (302, 403)
    assert len(agents.tokens.list()) == 1


async def test_an_attach_token_never_reaches_a_service(wire_agent, agents, call):
    _, text = agents.tokens.create(3600)
    async with serve(mirror) as upstream:
        fields = [f"Authorization: token {text}"]
        answer = await call(f"proxy/port/{upstream.port}/?token={TOKEN}&a=1", fields=fields, token=None)
        assert answer.status == 200 and upstream.last.target == "/?a=1" and upstream.last.one("Authorization") is None
        await call(f"proxy/port/{upstream.port}/?token={text}&a=1")
        assert upstream.last.target == "/?a=1"


@pytest.mark.parametrize(
    ("message", "code", "sentence"),
    [
        ("{", 1008, "A message is not JSON."),
        ('{"type": "hi"}', 1008, "A message is not an object whose type is one of hello, listen, health, refused."),
        ('{"type": "health", "port": 6006, "error": ""}', 1008, "The first message of this connection, and only that,"),
        (b"{}", 1003, "A control connection has text messages only."),
    ],
)
async def test_a_wrong_first_message_is_answered_with_one_sentence(wire_agent, message, code, sentence):
    agent = wire_agent()
    agent.control = await agent.connect()
    await agent.control.write_message(message, binary=isinstance(message, bytes))
    answer = await agent.read()
    assert (answer["type"], answer["is_final"]) == ("ended", True) and answer["sentence"].startswith(sentence)
    assert await agent.read() is None and agent.control.close_code == code


async def test_a_second_hello_ends_the_connection(wire_agent, agents):
    agent = wire_agent()
    await agent.attach()
    await agent.send("hello", name="x", host="n0123", instance=INSTANCE, ports=[1], errors={})
    assert (await agent.read())["sentence"].startswith("The first message of this connection, and only that, is 'hello'.")
    assert await agent.read() is None
    await eventually(lambda: [each.state.value for each in agents.list()] == ["lost"])


async def test_a_message_over_the_limit_ends_the_connection(wire_agent):
    agent = wire_agent()
    await agent.attach()
    await agent.send("health", port=6006, error="x" * 70000)
    assert await agent.read() is None


async def test_an_agent_that_says_nothing_is_cut(wire_agent, parts):
    parts(first_message_timeout=0.1)
    agent = wire_agent()
    agent.control = await agent.connect()
    answer = await agent.read()
    assert (answer["sentence"], answer["is_final"]) == ("No message came within 0.1 s.", False)
    assert await agent.read() is None


async def test_a_half_open_control_connection_is_given_up(wire_agent, agents, parts):
    parts(silence=0.3)
    agent = wire_agent()
    await agent.attach()
    agent.control.protocol.stream.io_loop.remove_handler(agent.control.protocol.stream.socket)  # as a machine that sleeps
    await eventually(lambda: agents.list()[0].state.value == "lost")
    assert "is lost" in agents.list()[0].services[6006].error


async def test_pings_keep_a_control_connection(wire_agent, agents, parts):
    parts(silence=0.4)
    agent = wire_agent()
    await agent.attach()
    for _ in range(20):
        agent.control.ping()
        await asyncio.sleep(0.05)
    assert agents.list()[0].state.value == "up"


async def test_an_agent_that_says_goodbye_has_ended(wire_agent, agents, call):
    agent = wire_agent()
    await agent.attach()
    agent.control.close(1001)
    await eventually(lambda: agents.list()[0].state.value == "ended")
    log = (await call("proxy/api/services/trainer-6006/logs")).content.decode()
    assert [line[20:] for line in log.splitlines()] == [
        "attached from n0123 as port 6006 of 'trainer'",
        "up",
        "down: The agent has ended.",
    ]


async def test_an_id_is_good_once_and_for_its_token_alone(wire_agent, call):
    agent, other = wire_agent(), wire_agent()
    await agent.attach()
    await other.attach("other")
    calling = asyncio.ensure_future(call("proxy/service/trainer-6006/"))
    message = await agent.read()
    path = f"/{message['id']}"
    assert (await refusal(other.connect(path)))[:2] == (404, "not_found")
    assert (await refusal(agent.connect(path[:-1])))[:2] == (404, "not_found")
    data = await agent.connect(path)
    assert (await refusal(agent.connect(path)))[:2] == (404, "not_found")
    await data.write_message(b"HTTP/1.1 204 No Content\r\n\r\n", binary=True)
    assert (await calling).status == 204


async def test_a_plain_request_uses_no_id_up(wire_agent, call):
    agent = wire_agent()
    await agent.attach()
    calling = asyncio.ensure_future(call("proxy/service/trainer-6006/"))
    message = await agent.read()
    answer = await call(f"proxy/attach/{message['id']}", token=agent.token)
    assert answer.status == 400
    data = await agent.connect(f"/{message['id']}")
    await data.write_message(b"HTTP/1.1 204 No Content\r\n\r\n", binary=True)
    assert (await calling).status == 204


async def test_an_agent_that_does_not_open_a_data_connection(wire_agent, agents, call, caplog):
    agents._open_timeout = 0.2
    agent = wire_agent()
    await agent.attach()
    answer = await call("proxy/service/trainer-6006/")
    assert answer.status == 502 and "did not serve a connection to port 6006 within 0.2 s" in caplog.text


@pytest.mark.skipif(sys.platform != "linux", reason="a Unix socket is reset on Linux alone")
@pytest.mark.parametrize("ends", ["whole", "lost", "detached"])
async def test_a_response_without_a_length_is_complete_at_its_end_alone(wire_agent, agents, call, ends):
    """Such a response ends with its connection, which a lost agent ends, too."""
    agent = wire_agent()
    await agent.attach()
    for _ in range(2):
        calling = asyncio.ensure_future(call("proxy/service/trainer-6006/"))
        _, data = await agent.serve()
        await data.write_message(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1 << 20), binary=True)
        await asyncio.sleep(0.2)
        if ends == "whole":
            await data.write_message(b"", binary=True)
            data.close(1000)
        elif ends == "lost":
            data.protocol.stream.close()
        else:
            agents.detach("trainer")
        answer = await calling
        assert answer.content == bytes(1 << 20) and answer.whole == (ends == "whole")
        if ends == "detached":
            return


async def test_a_lost_agent_cuts_what_flows_and_leaves_nothing(wire_agent, agents, call):
    async def lose_one() -> None:
        agent = wire_agent(text)
        await agent.attach()
        calling = asyncio.ensure_future(call("proxy/service/trainer-6006/"))
        _, data = await agent.serve()
        await data.write_message(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin", binary=True)
        await asyncio.sleep(0.1)
        for connection in (agent.control, data):  # what the death of a process does
            connection.protocol.stream.close()
        answer = await calling
        assert answer.content == b"begin" and not answer.whole
        await eventually(lambda: agents.list()[0].state.value == "lost")
        folder = os.path.dirname(agents.list()[0].services[6006].endpoint.unix_socket)
        assert not [name for name in os.listdir(folder) if name.endswith(".sock")]

    _, text = agents.tokens.create(3600)
    await lose_one()
    counts = await settled(lambda: len(os.listdir("/proc/self/fd"))), await settled(lambda: len(asyncio.all_tasks()))
    for _ in range(3):
        await lose_one()
    assert await settled(lambda: len(os.listdir("/proc/self/fd"))) <= counts[0]
    assert await settled(lambda: len(asyncio.all_tasks())) <= counts[1]


def test_the_handlers_have_bounds():
    assert ControlHandler.max_message_size.fget(None) == DataHandler.max_message_size.fget(None) == 65536
