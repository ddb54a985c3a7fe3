"""The API of attach tokens and agents."""

from __future__ import annotations

import json

import pytest
from tornado.httpclient import HTTPClientError

from jupyter_portproxy.api.events import Events

from ..support.waiting import eventually


@pytest.fixture
def api(call):
    """`api(method, path, body)` returns the status and the JSON of an answer."""

    async def send(method: str, path: str, body: object = None):
        content = None if body is None else json.dumps(body).encode()
        answer = await call(f"proxy/api/{path}", method, ["Accept: application/json"], content)
        return answer.status, json.loads(answer.content) if answer.content else None

    return send


async def test_a_token_is_shown_once(api, agents):
    status, made = await api("POST", "attach-tokens", {"seconds": 3600, "name": "trainer"})
    text = made.pop("token")
    assert status == 201 and agents.tokens.find(text).id == made["id"]
    assert await api("GET", "attach-tokens") == (200, [made])
    assert set(made) == {"id", "name", "created", "until", "used"}
    assert await api("DELETE", f"attach-tokens/{made['id']}") == (204, None)
    assert await api("GET", "attach-tokens") == (200, [])
    status, error = await api("DELETE", f"attach-tokens/{made['id']}")
    assert (status, error["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Invalid time: None."),
        ({"seconds": -1}, "Invalid time: -1."),
        ({"seconds": "8h"}, "Invalid time: '8h'."),
        ({"seconds": 60, "name": "a/b"}, "Invalid token name: 'a/b'."),
        ({"seconds": 60, "scope": "all"}, "The request's content is not an object with keys among seconds, name."),
    ],
)
async def test_bad_input_is_refused_in_one_sentence(api, agents, body, message):
    status, error = await api("POST", "attach-tokens", body)
    assert (status, error["code"], error["message"]) == (400, "bad_input", message) and error["hint"]
    assert agents.tokens.list() == []


async def test_a_revoked_token_ends_its_agent(api, wire_agent, agents):
    agent = wire_agent()
    await agent.attach()
    (token,) = agents.tokens.list()
    assert await api("DELETE", f"attach-tokens/{token.id}") == (204, None)
    assert (await agent.read())["sentence"] == "'trainer' is not attached any more. Its attach token was revoked or has ended."
    assert await agent.read() is None
    with pytest.raises(HTTPClientError):
        await agent.connect()


async def test_an_agent_is_listed_and_detached(api, wire_agent, agents):
    agent = wire_agent()
    await agent.attach("trainer", 6006, 8265)
    (token,) = agents.tokens.list()
    status, (item,) = await api("GET", "attached")
    assert status == 200 and item == {
        "name": "trainer",
        "host": "n0123",
        "state": "up",
        "since": item["since"],
        "error": "",
        "token": token.id,
        "services": ["trainer-6006", "trainer-8265"],
    }
    assert await api("DELETE", "services/trainer-8265") == (204, None)
    assert await agent.read() == {"type": "detach", "port": 8265}
    assert (await api("GET", "attached"))[1][0]["services"] == ["trainer-6006"]
    assert await api("DELETE", "attached/trainer") == (204, None)
    assert (await agent.read())["is_final"] is True
    status, error = await api("DELETE", "attached/trainer")
    assert (status, error["message"]) == (404, "The agent 'trainer' has ended already.")
    status, error = await api("DELETE", "attached/other")
    assert (status, error["message"]) == (404, "There is no agent named 'other'.")


async def test_a_service_is_not_restarted_here(api, wire_agent):
    await wire_agent().attach()
    status, error = await api("POST", "services/trainer-6006/restart", {})
    assert (status, error["message"]) == (400, "'trainer-6006' was attached from elsewhere and cannot be restarted here.")


async def test_agents_are_in_the_events(extension, wire_agent, agents):
    events: Events = extension.events
    watching = events.watch()
    kind, snapshot = await anext(watching)
    assert kind == "snapshot" and snapshot["agents"] == []
    agent = wire_agent()
    await agent.attach()
    seen = [await anext(watching) for _ in range(2)]
    assert [(event, item["kind"], item["name"], item["state"]) for event, item in seen] == [
        ("changed", "agent", "trainer", "up"),
        ("changed", "service", "trainer-6006", "up"),
    ]
    agent.control.close(1001)
    await eventually(lambda: agents.list()[0].state.value == "ended")
    seen = [await anext(watching) for _ in range(2)]
    assert {(item["kind"], item["state"]) for _, item in seen} == {("agent", "ended"), ("service", "down")}
    await watching.aclose()


async def test_a_refusal_is_json(call):
    answer = await call("proxy/attach", token="wrong")
    assert answer.status == 403 and json.loads(answer.content)["code"] == "bad_attach_token"


class TestSharedServers:
    """Several people use a server with another identity provider than Jupyter's own."""

    @pytest.fixture
    def jp_server_config(self, jp_server_config):
        return {**jp_server_config, "PortProxy": {"project_resolver": "local"}}

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "attached"),
            ("DELETE", "attached/a"),
            ("GET", "attach-tokens"),
            ("POST", "attach-tokens"),
            ("DELETE", "attach-tokens/a"),
        ],
    )
    async def test_nothing_is_attached(self, api, method, path):
        status, error = await api(method, path, {"seconds": 60} if method == "POST" else None)
        assert (status, error["message"]) == (403, "Nothing can be attached to this server, as several people use it.")

    @pytest.mark.parametrize("path", ["proxy/attach", "proxy/attach/a-waiting-connection-0"])
    async def test_an_agent_is_refused(self, call, path):
        answer = await call(path)
        assert answer.status == 403 and b"as several people use it" in answer.content
