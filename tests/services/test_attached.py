"""Attached services: listed beside those of the server, by names that are free."""

from __future__ import annotations

import pytest

from jupyter_portproxy.errors import BadInput, ShuttingDown
from jupyter_portproxy.services.templates import Template

REMOTE = Template("remote", (), unix_socket=True, external=True)


async def test_an_attached_service_is_listed_reported_and_removed(make):
    manager = make(web={"command": ["true"]})
    states = []
    manager.subscribe(lambda service: states.append(service.state))
    service = manager.attached.attach("gpu", REMOTE, {}, "ada", lambda: None)
    assert (manager.get("gpu"), service.state, service.agent) == (service, "down", "ada")
    manager.attached.report(service, "up")
    manager.attached.report(service, "up")
    manager.attached.report(service, "unhealthy", "silent")
    assert manager.attached.attach("gpu", REMOTE, {"a": "b"}, "ada", lambda: None) is service
    manager.attached.remove(service)
    assert (manager.list(), states) == ([], ["up", "unhealthy", "unhealthy"])
    assert [line.split(" ", 2)[2] for line in service.last_lines()] == ["up", "unhealthy: silent"]


async def test_a_name_that_is_taken_is_refused(make):
    manager = make(web={"command": ["true"]})
    manager.attached.attach("gpu", REMOTE, {}, "ada", lambda: None)
    for name, agent in (("web", "ada"), ("gpu", "bob")):
        with pytest.raises(BadInput, match=f"The name '{name}' belongs to another service"):
            manager.attached.attach(name, REMOTE, {}, agent, lambda: None)


async def test_nothing_is_attached_to_a_server_that_closes(make):
    manager = make()
    await manager.close()
    with pytest.raises(ShuttingDown):
        manager.attached.attach("gpu", REMOTE, {}, "ada", lambda: None)
