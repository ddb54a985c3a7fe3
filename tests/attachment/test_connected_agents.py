"""Names, states and services of agents; their connections are tested in test_handlers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jupyter_portproxy.attachment import connected_agents
from jupyter_portproxy.attachment.connected_agents import AgentState
from jupyter_portproxy.errors import BadInput, NotFound
from jupyter_portproxy.protocol.attach_messages import Attached, Detach, Hello, PortHealth

from ..support.waiting import eventually
from .test_sessions import RecordedControl


def hello(name="trainer", ports=(6006,), instance="an-instance-of-an-agent", errors=None, host="n0123") -> Hello:
    return Hello(name, host, instance, tuple(ports), errors or {})


@pytest.fixture
def token(agents):
    return agents.tokens.create(3600)[0]


@pytest.fixture
def services(gateway):
    return gateway.services


def states(services) -> dict[str, str]:
    return {service.name: service.state for service in services.list()}


async def test_the_services_of_an_agent(agents, services, token, jp_base_url):
    control = RecordedControl()
    agent = await agents.attach(hello(ports=(6006, 8265), errors={8265: "Nothing listens."}), token, control)
    assert states(services) == {"trainer-6006": "up", "trainer-8265": "unhealthy"}
    prefix = f"{jp_base_url}proxy/service/trainer-"
    assert control.sent == [Attached({6006: f"{prefix}6006/", 8265: f"{prefix}8265/"})]
    assert agents.tokens.get(token.id).used is not None
    agents.report(agent, PortHealth(8265, ""))
    agents.report(agent, PortHealth(1, ""))
    assert states(services)["trainer-8265"] == "up"


async def test_a_use_that_cannot_be_noted_is_no_failure(agents, services, token):
    agents.tokens.record_use = lambda id_: agents.tokens.create(-1)  # raises BadInput, also for root
    await agents.attach(hello(), token, RecordedControl())
    assert states(services) == {"trainer-6006": "up"} and agents.list()[0].state is AgentState.UP


async def test_a_live_name_is_taken(agents, services, token):
    await agents.attach(hello(), token, RecordedControl())
    for other_token in (token, agents.tokens.create(60)[0]):
        with pytest.raises(BadInput) as caught:
            await agents.attach(hello(instance="another-instance-of-it", host="n9"), other_token, RecordedControl())
        assert caught.value.message == "The name 'trainer' is taken by an agent on n0123."
        assert caught.value.hint == "Choose another name, or detach that agent: jupyter portproxy detach trainer"
    assert states(services) == {"trainer-6006": "up"} and agents.list()[0].host == "n0123"


async def test_the_same_agent_replaces_its_own_connection(agents, services, token):
    first = await agents.attach(hello(), token, RecordedControl())
    await agents.attach(hello(), token, RecordedControl())
    assert first.session.is_closed and states(services) == {"trainer-6006": "up"}
    agents.lose(first)  # the end of its old connection comes late
    assert states(services) == {"trainer-6006": "up"} and agents.list()[0].state is AgentState.UP


async def test_a_name_is_free_once_its_agent_does_not_answer(agents, services, token):
    control = RecordedControl()
    control.is_alive = False
    await agents.attach(hello(), token, control)
    newcomers = [RecordedControl(), RecordedControl()]
    other = hello(instance="another-instance-of-it", host="n9"), hello(instance="a-third-instance-of-it", host="n10")
    results = await asyncio.gather(
        *(agents.attach(each, token, its) for each, its in zip(other, newcomers, strict=True)), return_exceptions=True
    )
    assert [type(result).__name__ for result in results] == ["ConnectedAgent", "BadInput"]
    assert agents.list()[0].host == "n9"
    assert control.ended == [("The agent did not answer for some seconds.", False)]  # so that it dials again, if it lives


async def test_an_agent_that_did_not_answer_returns_to_its_name(agents, services, token):
    """As of a machine that sleeps while an agent with another token wants its name."""
    control = RecordedControl()
    control.is_alive = False
    await agents.attach(hello(), token, control)
    with pytest.raises(BadInput):
        await agents.attach(hello(instance="another-instance-of-it"), agents.tokens.create(60)[0], RecordedControl())
    assert states(services) == {"trainer-6006": "down"} and [is_final for _, is_final in control.ended] == [False]
    await agents.attach(hello(), token, RecordedControl())
    assert states(services) == {"trainer-6006": "up"}


async def test_a_lost_name_is_kept_for_its_token(agents, services, token):
    agents.lose(await agents.attach(hello(), token, RecordedControl()))
    assert states(services) == {"trainer-6006": "down"}
    assert services.get("trainer-6006").error == "The connection to the agent on n0123 is lost. It returns by itself."
    with pytest.raises(BadInput, match="is kept for an agent on n0123 whose connection is lost"):
        await agents.attach(hello(), agents.tokens.create(60)[0], RecordedControl())
    service = services.get("trainer-6006")
    await agents.attach(hello(instance="another-instance-of-it"), token, RecordedControl())
    assert services.get("trainer-6006") is service and service.state == "up"


async def test_the_name_of_an_ended_agent_is_free(agents, services, token):
    agents.end(await agents.attach(hello(ports=(6006, 1)), token, RecordedControl()), "The agent has ended.")
    await agents.attach(hello(), agents.tokens.create(60)[0], RecordedControl())
    assert states(services) == {"trainer-6006": "up"}


async def test_an_ended_agent_is_forgotten(agents, services, token, monkeypatch):
    agents.end(await agents.attach(hello(), token, RecordedControl()), "The agent has ended.")
    assert [agent.name for agent in agents.list()] == ["trainer"]
    monkeypatch.setattr(connected_agents, "_ENDED_KEPT", 0.0)
    assert agents.list() == [] and services.list() == []


async def test_detach_ends_an_agent(agents, services, token):
    control = RecordedControl()
    agent = await agents.attach(hello(), token, control)
    agents.detach("trainer")
    assert control.ended == [("'trainer' is not attached any more. It was detached at the server.", True)]
    assert agent.session.is_closed and states(services) == {"trainer-6006": "down"}
    for name in ("trainer", "unknown"):
        with pytest.raises(NotFound):
            agents.detach(name)


async def test_stopping_a_service_detaches_its_port(agents, services, token):
    control = RecordedControl()
    agent = await agents.attach(hello(ports=(6006, 8265)), token, control)
    path = Path(agent.services[6006].endpoint.unix_socket)
    await services.stop("trainer-6006")
    assert control.sent[-1] == Detach(6006) and not path.exists()  # noqa: ASYNC240
    assert states(services) == {"trainer-6006": "down", "trainer-8265": "up"}
    agents.report(agent, PortHealth(6006, ""))
    assert states(services)["trainer-6006"] == "down"
    agents.lose(agent)
    assert services.get("trainer-6006").error == "It was detached."
    control = RecordedControl()
    await agents.attach(hello(ports=(6006, 8265)), token, control)
    assert [type(message) for message in control.sent] == [Attached, Detach] and 6006 not in control.sent[0].addresses
    await services.delete("trainer-8265")
    with pytest.raises(BadInput, match="All ports of 'trainer' were detached at the server"):
        await agents.attach(hello(ports=(6006, 8265)), token, RecordedControl())
    await agents.attach(hello(instance="another-instance-of-it"), token, RecordedControl())  # started again
    assert states(services)["trainer-6006"] == "up"


async def test_a_service_that_was_attached_is_not_restarted_here(agents, services, token):
    await agents.attach(hello(), token, RecordedControl())
    with pytest.raises(BadInput) as caught:
        await services.restart("trainer-6006")
    assert caught.value.message == "'trainer-6006' was attached from elsewhere and cannot be restarted here."
    assert states(services) == {"trainer-6006": "up"}


async def test_the_name_of_another_service_is_not_taken(agents, services, token):
    taken = next(iter(services.templates))
    services.templates["trainer-8265"] = services.templates[taken]
    with pytest.raises(BadInput, match="The name 'trainer-8265' belongs to another service"):
        await agents.attach(hello(ports=(6006, 8265)), token, RecordedControl())
    assert services.list() == [] and agents.list() == []
    await agents.attach(hello("a", ports=(6006,)), token, RecordedControl())
    assert states(services) == {"a-6006": "up"}


async def test_a_token_that_ends_ends_its_agents(agents, services, token):
    agents._check_period = 0.05
    control = RecordedControl()
    await agents.attach(hello(), token, control)
    await agents.attach(hello("other"), agents.tokens.create(60)[0], RecordedControl())
    agents.tokens.revoke(token.id)  # as another server of the user may do
    await eventually(lambda: control.ended)
    assert control.ended == [("'trainer' is not attached any more. Its attach token was revoked or has ended.", True)]
    assert states(services) == {"trainer-6006": "down", "other-6006": "up"}


async def test_a_list_of_tokens_that_cannot_be_read_ends_no_agent_for_good(agents, services, token):
    """As on a network's file system that is away for a moment; until it is back, no token is valid."""
    agents._check_period = 0.05
    control, path = RecordedControl(), agents.tokens._file.path
    await agents.attach(hello(), token, control)
    text = path.read_bytes()
    path.write_text("{")
    await eventually(lambda: control.ended)
    assert control.ended == [("The server cannot read its list of attach tokens now.", False)]
    assert states(services) == {"trainer-6006": "down"} and agents.list()[0].state is AgentState.LOST
    path.write_bytes(text)
    await asyncio.sleep(0.2)
    await agents.attach(hello(), token, control)
    assert len(control.ended) == 1 and states(services) == {"trainer-6006": "up"}


async def test_the_number_of_agents_is_limited(agents, token, monkeypatch):
    monkeypatch.setattr(connected_agents, "MAX_AGENTS", 1)
    await agents.attach(hello(), token, RecordedControl())
    with pytest.raises(BadInput, match="There are 1 agents already"):
        await agents.attach(hello("other"), token, RecordedControl())


async def test_an_agent_that_has_ended_makes_room(agents, services, token, monkeypatch):
    """A job attaches under a name of its own, so that many names end soon after each other."""
    monkeypatch.setattr(connected_agents, "MAX_AGENTS", 2)
    first, second = [await agents.attach(hello(name), token, RecordedControl()) for name in ("job-1", "job-2")]
    agents.end(second, "The agent has ended.")
    agents.end(first, "The agent has ended.")
    for name in ("job-3", "job-4"):
        await agents.attach(hello(name), token, RecordedControl())
        assert len(agents.list()) == len(states(services)) == 2
    assert states(services) == {"job-3-6006": "up", "job-4-6006": "up"}
    with pytest.raises(BadInput, match="There are 2 agents already"):
        await agents.attach(hello("job-5"), token, RecordedControl())
