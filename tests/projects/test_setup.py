"""A server becomes a hop as its settings say, or does not start and says which setting is wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3

import pytest
from jupyter_server.auth.identity import PasswordIdentityProvider
from traitlets import TraitError
from traitlets.config import Config

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.errors import HUB, PROJECT_HOST
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.projects import setup
from jupyter_portproxy.projects.local import LocalProjects
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.services.ports import PortLeases

from ..support.identity_providers import NamedUsers
from ..support.project_sites import local_site, place_locally

LOG = logging.getLogger("test")


def made(identity_provider=None, **traits):
    settings = PortProxy(config=Config({"PortProxy": traits}))
    policy = Policy(settings)
    return setup.build(settings, policy, "/", LOG, identity_provider or NamedUsers(token="t"), PortLeases(policy.ports))


def plugged(settings):
    """A resolver of somebody else's."""
    return object(), HUB


async def test_a_hub_a_project_host_and_a_custom_resolver(tmp_path):
    hub = made(project_resolver="placement", placement_dsn="postgresql://x@127.0.0.1/x")
    host = made(project_resolver="registry", registry_path=str(tmp_path / "r"), hop_credentials=["c"])
    other = made(project_resolver="tests.projects.test_setup.plugged")
    assert [hop.projects.hop for hop in (hub, host, other)] == [HUB, PROJECT_HOST, HUB]
    assert [hop.projects.is_behind_hub for hop in (hub, host)] == [False, True]
    for hop in (hub, host):
        await hop.close()


@pytest.mark.parametrize(
    ("traits", "sentence"),
    [
        ({"project_resolver": "placement"}, "placement_dsn is empty"),
        ({"project_resolver": "registry"}, "hop_credentials is empty"),
        ({"project_resolver": "nothing"}, "'nothing' is not local, placement or registry"),
        ({"project_resolver": "tests.projects.test_setup.nothing"}, "not found: No module named nothing"),
        ({"project_roles": {"boss": []}}, "'boss': [] is not a role (owner, member, viewer)"),
        ({"project_roles": {"owner": ["all"]}}, "'owner': ['all'] is not a role"),
        ({"project_roles": {"owner": "ports"}}, "'owner': 'ports' is not a role"),
    ],
)
def test_a_setting_that_cannot_be_is_named(traits, sentence):
    hub = {"project_resolver": "placement", "placement_dsn": "postgresql://x@127.0.0.1/x"}
    with pytest.raises(TraitError) as caught:
        made(**(hub | traits if "project_roles" in traits else traits))
    assert sentence in str(caught.value)


@pytest.mark.parametrize("login", [{"token": "t"}, {"token": "", "hashed_password": "argon2:x"}])
async def test_a_hub_requires_a_login(login, tmp_path):
    hub = {"project_resolver": "placement", "placement_dsn": "postgresql://x@127.0.0.1/x"}
    with pytest.raises(TraitError, match="projects have no anonymous users"):
        made(PasswordIdentityProvider(token=""), **hub)
    with pytest.raises(TraitError, match="projects have no anonymous users"):
        made(PasswordIdentityProvider(token=""), project_resolver="tests.projects.test_setup.plugged")
    host = {"project_resolver": "registry", "registry_path": str(tmp_path / "r"), "hop_credentials": ["c"]}
    for hop in (made(PasswordIdentityProvider(**login), **hub), made(PasswordIdentityProvider(token=""), **host)):
        await hop.close()


@pytest.mark.parametrize("path", ["", "own.sqlite"])
async def test_projects_of_this_machine_ask_for_a_login_and_warn_of_one_without_names(caplog, path):
    local = {"project_resolver": "local", "projects_path": path}
    with pytest.raises(TraitError, match="projects have no anonymous users"):
        made(PasswordIdentityProvider(token=""), **local)
    for provider, is_warned in ((PasswordIdentityProvider(token="t"), True), (NamedUsers(token="t"), False)):
        caplog.clear()
        runtime = made(provider, **local)
        assert any("gives its users no lasting names" in line for line in caplog.messages) is is_warned
        assert isinstance(runtime.projects, LocalProjects) and runtime.has_users
        await runtime.close()


async def test_the_file_of_the_projects_is_made_at_the_start(tmp_path):
    file = tmp_path / "folder" / "projects.sqlite"
    for _ in range(2):
        runtime = made(project_resolver="local", projects_path=str(file))
        await runtime.start()
        assert await runtime.directory.list("ann") == []
        await runtime.close()
    assert file.stat().st_mode & 0o777 == 0o600


def of_garbage(file):
    file.write_bytes(b"garbage" * 1000)


def of_a_newer_version(file):
    with sqlite3.connect(file) as connection:
        connection.execute("create table placement_migrations (number integer primary key, done_at text)")
        connection.execute("insert into placement_migrations values (1000, '')")
    connection.close()


def as_a_folder(file):
    file.mkdir()


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (of_garbage, "file is not a database"),
        (of_a_newer_version, "A newer version of jupyter_portproxy has made these tables."),
        (as_a_folder, "unable to open database file"),
    ],
)
async def test_a_file_that_cannot_be_used_is_one_line_at_the_start(tmp_path, caplog, make, problem):
    file = tmp_path / "projects.sqlite"
    make(file)
    runtime = made(project_resolver="local", projects_path=str(file))
    await runtime.start()
    await runtime.close()
    assert [line for line in caplog.messages if str(file) in line] == [
        f"portproxy: the placements {file} cannot be used: {problem}"
    ]


def test_by_default_a_viewer_may_use_the_services():
    assert PortProxy().project_roles["viewer"] == ["ports"]
    assert PortProxy().public_projects is False


async def test_a_hub_whose_login_gives_no_names_warns(caplog):
    hub = {"project_resolver": "placement", "placement_dsn": "postgresql://x@127.0.0.1/x"}
    for provider, warned in ((PasswordIdentityProvider(token="t"), True), (NamedUsers(token="t"), False)):
        caplog.clear()
        hop = made(provider, **hub)
        assert any("gives its users no lasting names" in record.getMessage() for record in caplog.records) is warned
        await hop.close()


async def test_a_host_writes_its_heartbeat(database):
    admin = PlacementAdmin(database.dsn)
    await admin.set_host("one", "http://127.0.0.1:1", "c")
    heartbeat = setup.Heartbeat(database.dsn, "one", LOG)
    heartbeat.start()
    for _ in range(100):
        (host,) = await admin.hosts()
        if host.silent is not None and host.silent < 5:
            break
        await asyncio.sleep(0.05)
    assert host.silent < 5
    await heartbeat.close()
    await admin.close()


async def test_a_heartbeat_that_fails_is_logged_once_and_goes_on(caplog):
    heartbeat = setup.Heartbeat("postgresql://x@127.0.0.1:1/x", "one", LOG, interval=0.05)
    with caplog.at_level(logging.ERROR, "test"):
        heartbeat.start()
        await asyncio.sleep(0.5)
    await heartbeat.close()
    assert len([record for record in caplog.records if "heartbeat of one failed" in record.getMessage()]) == 1


async def test_a_project_host_starts_projects_and_a_hub_does_not(tmp_path):
    host = {"project_resolver": "registry", "registry_path": str(tmp_path / "r"), "hop_credentials": ["c"]}
    made_ones = [
        made(**host),
        made(**host, project_starter=[]),
        made(project_resolver="placement", placement_dsn="postgresql://x@127.0.0.1/x"),
    ]
    assert [hop.projects._starter is not None for hop in made_ones] == [True, False, False]
    with pytest.raises(
        TraitError, match=r"c\.PortProxy\.project_starter: '\{port\}' has a placeholder that is not \{key\} or \{base_url\}"
    ):
        made(**host, project_starter=["x", "{port}"])
    for hop in made_ones:
        await hop.close()


async def test_services_and_reservations_get_no_port_that_a_project_claims(tmp_path):
    """From the start of the server on, before any request for a project."""
    with local_site(tmp_path, settings={"allowed_ports": ["15300-15301"]}) as site:
        admin = PlacementAdmin(site.dsn)
        await place_locally(admin, "p1", allowed_ports=["15300"])
        await asyncio.sleep(1)
        answers = [
            await site.ask("/proxy/api/reservations", method="POST", content=json.dumps({"name": name}).encode())
            for name in ("one", "two")
        ]
        assert [(answer.status, json.loads(answer.text).get("port")) for answer in answers] == [(201, 15301), (503, None)]
        await admin.close()
