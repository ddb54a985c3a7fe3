"""The list of projects by groups and visibility, and changes by owners; what the API makes of it: test_handlers."""

from __future__ import annotations

import logging
import time

import pytest

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import HUB, BadInput, Forbidden, RegistryAway, UnknownProject
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.projects.access import ProjectAccess
from jupyter_portproxy.projects.directory import PlacementDirectory
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.projects.placement.lookup import Placement
from jupyter_portproxy.services.ports import PortLeases

from ..support.cpu_time import slowness

ROLES = {"owner": ["ports"], "member": ["ports"], "viewer": []}


class Groups:
    def groups_of(self, username):
        return {"gil": ["team"]}.get(username, [])

    def subscribe(self, callback):
        pass


@pytest.fixture
def build(tmp_path, jp_asyncio_loop):
    """A directory over a new file, and what changes the file; `allows_public` and `has_tables` are the test's."""
    opened = []

    async def make(*, allows_public=False, has_tables=True) -> tuple[PlacementDirectory, PlacementAdmin]:
        dsn, groups, policy, log = f"sqlite:///{tmp_path}/p.sqlite", Groups(), Policy(PortProxy()), logging.getLogger("test")
        admin = PlacementAdmin(dsn)
        if has_tables:
            await admin.init()
        access = ProjectAccess(Placement(dsn, groups=groups), HUB, ROLES, lambda port: None, log)
        directory = PlacementDirectory(policy, PortLeases(policy.ports), groups, admin, access, allows_public=allows_public)
        opened.extend([directory, access])
        return directory, admin

    yield make
    for each in opened:
        jp_asyncio_loop.run_until_complete(each.close())


async def test_groups_and_public_projects_give_roles(build):
    directory, admin = await build(allows_public=True)
    await admin.place("p1", "local", owner="ann", visibility="public")
    await admin.place("p2", None, owner="ann")
    await admin.add_member("p2", "@team", "member")
    roles = {user: [(project.key, project.role) for project in await directory.list(user)] for user in ("ann", "gil", "stranger")}
    assert roles == {
        "ann": [("p1", "owner"), ("p2", "owner")],
        "gil": [("p1", "viewer"), ("p2", "member")],
        "stranger": [("p1", "viewer")],
    }


async def test_a_public_project_is_private_unless_the_server_allows_it(build):
    directory, admin = await build()
    await admin.place("p1", "local", owner="ann", visibility="public")
    assert await directory.list("stranger") == []
    with pytest.raises(UnknownProject):
        await directory.set_ports("stranger", "p1", None)


async def test_a_role_without_ports_reaches_none(build):
    directory, admin = await build()
    await admin.place("p1", "local", owner="ann", allowed_ports=["15000"])
    await admin.add_member("p1", "eve", "viewer")
    reached = {user: [project.reaches(15000) for project in await directory.list(user)] for user in ("ann", "eve")}
    assert reached == {"ann": [True], "eve": [False]}
    assert [project.reaches(15001) for project in await directory.list("ann")] == [False]


async def test_a_project_without_a_host_reserves_nothing(build):
    directory, admin = await build()
    await admin.place("p1", None, owner="ann")
    with pytest.raises(BadInput, match="are not on this machine"):
        await directory.reserve("ann", "p1", "web")


async def test_an_owner_by_a_group_changes_the_project(build):
    directory, admin = await build()
    await admin.place("p1", "local", owner="ann")
    await admin.add_member("p1", "@team", "member")
    with pytest.raises(Forbidden, match=r"As a member of this project you may not change it\."):
        await directory.set_ports("gil", "p1", ["15000"])
    await admin.add_member("p1", "@team", "owner")
    version = directory.version
    await directory.set_ports("gil", "p1", ["15000"])
    assert (await admin.find("p1")).allowed_ports == ("15000",)
    await directory.reserve("gil", "p1", "web")
    assert directory.version > version


async def test_a_list_of_ports_is_bounded_and_its_check_is_fast(build):
    directory, admin = await build()
    await admin.place("p1", "local", owner="ann")
    for change in (directory.set_ports, lambda *args: directory.set_member(*args[:2], "bob", "viewer", args[2])):
        with pytest.raises(BadInput, match=r"The list of ports has 101 entries\."):
            await change("ann", "p1", ["10000-20000"] * 101)
        begun = time.process_time()
        await change("ann", "p1", ["10000-20000"] * 100)
        assert time.process_time() - begun < 0.1 * slowness()
        with pytest.raises(BadInput, match=r"Port 20001 is outside allowed range \(10000-20000\)"):
            await change("ann", "p1", ["15000", "19000-21000"])


async def test_without_tables_nothing_is_listed(build):
    directory, _ = await build(has_tables=False)
    with pytest.raises(RegistryAway):
        await directory.list("ann")
