"""Which requests a project's members may send, and which change ends what is open, and how."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from jupyter_portproxy.errors import (
    HUB,
    Forbidden,
    GatewayError,
    HostDown,
    NotPlaced,
    ProjectStopped,
    RegistryAway,
    UnknownProject,
)
from jupyter_portproxy.gateway.destinations import Destination, Requester
from jupyter_portproxy.projects.access import JUPYTER, PORTS, START, ProjectAccess, ProjectHooks
from jupyter_portproxy.projects.model import ANY_PROJECT, ChangeSubscriptions, NextHop
from jupyter_portproxy.protocol.project_urls import ProjectRoute, parse_project_url
from jupyter_portproxy.protocol.urls import Route, Upstream
from jupyter_portproxy.upstream.closable import Closable, CloseCode

from ..support.waiting import eventually

LOG = logging.getLogger("test")
ROLES = {"owner": [PORTS, JUPYTER, START], "member": [PORTS], "viewer": []}
HOP = NextHop("p1", "http", "127.0.0.1", 8000, "secret", 7, role="owner")


class Resolver:
    """Answers with `now`: a NextHop, or an error that it raises."""

    def __init__(self) -> None:
        self.now: NextHop | GatewayError = HOP
        self.users: list[str | None] = []
        self.changes = ChangeSubscriptions(LOG)
        self.started = self.closed = 0

    async def resolve(self, key, username):
        self.users.append(username)
        if isinstance(self.now, GatewayError):
            raise self.now
        return self.now

    async def find(self, owner, name, username):
        return "p1"

    def subscribe(self, callback):
        return self.changes.add(callback)

    async def start(self):
        self.started += 1

    async def close(self):
        self.closed += 1


class Open(Closable):
    """Keeps the codes with which it is to close."""

    def __init__(self) -> None:
        self.codes: list[CloseCode] = []

    def shut_down(self, code=CloseCode.GOING_AWAY):
        self.codes.append(code)


def check_port(route: ProjectRoute, port: int) -> None:
    if port < 1024 or (route.tcp_target and port == 15001):
        raise Forbidden(f"Port {port} is not allowed here.")


@pytest.fixture
def resolver():
    return Resolver()


@pytest.fixture
def access(resolver):
    return ProjectAccess(resolver, HUB, ROLES, check_port, LOG)


def denial() -> RegistryAway:
    error = RegistryAway(HUB)
    error.is_denial = True
    return error


def route_of(path: str):
    return parse_project_url(f"/p1/{path}", "/")


def destination(hop: NextHop = HOP, path: str = "port/15000/", name: str = "ann") -> Destination:
    hooks = ProjectHooks(hop, route_of(path), Requester(name), changes=0)
    return Destination(Route("127.0.0.1", 8000, "/p1", "/", ""), Upstream("127.0.0.1", 8000, ("127.0.0.1",)), hooks)


@pytest.mark.parametrize(
    ("hop", "path", "posts", "sentence"),
    [
        (HOP, "port/15000/", False, ""),
        (HOP, "lab", False, ""),
        (HOP, "proxy/start", True, ""),
        (replace(HOP, role="member"), "port/15000/", False, ""),
        (replace(HOP, role="member"), "lab", False, "As a member of this project you may not reach this."),
        (replace(HOP, role="member"), "proxy/start", True, "As a member of this project you may not start it."),
        (replace(HOP, role="viewer"), "port/15000/", False, "As a viewer of this project you may not reach this."),
        (replace(HOP, role=None), "port/15000/", False, "As a stranger of this project you may not reach this."),
        (HOP, "port/80/", False, "Port 80 is not allowed here."),
        (replace(HOP, allowed_ports=(range(1, 9),)), "port/80/", False, "Port 80 is not allowed here."),
        (
            replace(HOP, allowed_ports=(range(15001, 15003),)),
            "port/15000/",
            False,
            "Port 15000 is not among the ports of this project.",
        ),
        (replace(HOP, allowed_ports=(range(15001, 15003),)), "port/15002/", False, ""),
        (replace(HOP, user_ports=(range(15001, 15003),)), "port/15000/", False, "Port 15000 is not among your ports"),
        (replace(HOP, user_ports=()), "lab", False, ""),
        (HOP, "proxy/tcp/15000", False, ""),
        (HOP, "proxy/tcp/15001", False, "Port 15001 is not allowed here."),
        (HOP, "port/15001/", False, ""),
        (replace(HOP, role="viewer"), "proxy/tcp/15000", False, "As a viewer of this project you may not reach this."),
        (
            replace(HOP, allowed_ports=(range(1, 9),)),
            "proxy/tcp/15000",
            False,
            "Port 15000 is not among the ports of this project.",
        ),
        (replace(HOP, user_ports=(range(1, 9),)), "proxy/tcp/15000", False, "Port 15000 is not among your ports"),
        (replace(HOP, role="member"), "proxy/tcp/service/db", False, "As a member of this project you may not reach this."),
    ],
)
def test_role_and_lists_of_ports_decide(access, hop, path, posts, sentence):
    def check():
        access.check(route_of(path), hop, Requester("ann", posts=posts))

    if not sentence:
        return check()
    with pytest.raises(Forbidden) as caught:
        check()
    assert caught.value.message.startswith(sentence)


async def test_members_are_looked_up_unless_the_previous_hop_has_checked_them(resolver, access):
    await access.resolve("p1", Requester("ann"))
    behind = ProjectAccess(resolver, HUB, None, check_port, LOG)
    await behind.resolve("p1", Requester("ann"))
    assert resolver.users == ["ann", None]
    behind.check(route_of("lab"), replace(HOP, role=None), Requester("ann"))
    assert (access.finds_names, behind.finds_names) == (True, False)
    assert await access.find_key("ann", "p", "ann") == "p1"
    with pytest.raises(UnknownProject):
        await behind.find_key("ann", "p", "ann")


async def test_a_decision_holds_for_the_same_next_hop_alone(resolver, access):
    assert await access.holds(destination())
    assert await access.holds(replace(destination(), hooks=None))
    for resolver.now in (replace(HOP, role="member"), replace(HOP, generation=8), replace(HOP, allowed_ports=())):
        assert not await access.holds(destination())
    resolver.now = UnknownProject("p1", HUB)
    assert not await access.holds(destination())
    assert not await access.is_visible("p1", "ann")
    resolver.now = HOP
    assert await access.is_visible("p1", "ann")


@pytest.mark.parametrize(
    ("now", "codes"),
    [
        (replace(HOP, role="owner"), []),
        (RegistryAway(HUB), []),
        (denial(), [CloseCode.POLICY_VIOLATION]),
        (UnknownProject("p1", HUB), [CloseCode.POLICY_VIOLATION]),
        (replace(HOP, role="viewer"), [CloseCode.POLICY_VIOLATION]),
        (replace(HOP, allowed_ports=(range(1, 9),)), [CloseCode.POLICY_VIOLATION]),
        (replace(HOP, generation=8), [CloseCode.SERVICE_RESTART]),
        (NotPlaced(HUB), [CloseCode.SERVICE_RESTART]),
        (ProjectStopped(HUB), [CloseCode.SERVICE_RESTART]),
        (HostDown(HUB), [CloseCode.SERVICE_RESTART]),
        (HostDown(HUB, silent=True), [CloseCode.BAD_GATEWAY]),
    ],
)
@pytest.mark.parametrize("key", ["p1", ANY_PROJECT])
async def test_a_change_ends_what_is_open_as_it_requires(resolver, access, now, codes, key):
    await access.start()
    open_, closed = Open(), Open()
    access.watch(open_, destination())
    access.watch(closed, destination())
    closed.run_close_callbacks()
    resolver.now = now
    resolver.changes.notify(["p2"])
    assert resolver.users == []
    resolver.changes.notify([key])
    await eventually(lambda: resolver.users == ["ann"] and not access._checks)
    assert (open_.codes, closed.codes) == (codes, [])
    await access.close()


async def test_a_change_before_a_tunnel_is_open_counts_too(resolver, access):
    await access.start()
    decided = destination()
    resolver.now = UnknownProject("p1", HUB)
    resolver.changes.notify(["p1"])
    open_ = Open()
    access.watch(open_, decided)
    await eventually(lambda: open_.codes == [CloseCode.POLICY_VIOLATION])
    await access.close()


async def test_the_resolver_starts_once_with_the_first_request_and_ends_with_the_access(resolver, access):
    await asyncio.gather(access.start(), access.start())
    await access.start()
    await access.close()
    resolver.changes.notify([ANY_PROJECT])
    assert (resolver.started, resolver.closed) == (1, 1)


async def test_a_resolver_that_was_never_started_is_not_closed(resolver, access):
    await access.close()
    assert (resolver.started, resolver.closed) == (0, 0)
