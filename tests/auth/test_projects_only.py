"""What the users of a hub reach of the hub's own server: with the authorizer nothing, and without it there is a warning."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_portproxy.errors import HUB, NotPlaced, UnknownProject

from ..conftest import TOKEN
from ..support.jupyter_processes import jupyter_server
from ..support.upstreams import mirror, serve

ONLY = "jupyter_portproxy.auth.ProjectsOnly"


class OneProject:
    """A resolver that knows one project, which is nowhere yet."""

    async def resolve(self, key, asker):
        raise NotPlaced(HUB) if key == "mine" else UnknownProject(key, HUB)

    def subscribe(self, callback):
        return lambda: None

    async def start(self):
        pass

    async def close(self):
        pass


def plugged(settings):
    return OneProject(), HUB


def hub(**server):
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True, "jupyter_server_terminals": True}, **server},
        "IdentityProvider": {"token": TOKEN},
        "PortProxy": {"project_resolver": "tests.auth.test_projects_only.plugged"},
    }


OWN_PORTS = ("proxy/port/{}/", "proxy/{}/", "port/{}/", "proxy/enter/{}/")
OWN_PAGES = ("api/contents", "api/kernels", "api/sessions", "api/terminals", "proxy/", "proxy/api/ports", "proxy/service/x/")


@pytest.mark.parametrize("jp_server_config", [hub(authorizer_class=ONLY)])
async def test_projects_are_all_that_a_user_reaches(call, jp_server_config):
    assert (await call("mine/port/15000/x")).status == 503  # it is let through, and not placed yet
    assert (await call("other/port/15000/x")).status == 404
    async with serve(mirror) as up:
        for path in OWN_PORTS:
            assert (await call(path.format(up.port))).status == 403, path
        assert up.connections == 0
    for path in OWN_PAGES:
        assert (await call(path)).status == 403, path
    for path in ("api/kernels", "api/terminals", "proxy/api/services"):
        assert (await call(path, "POST", content=b"{}")).status == 403, path


@pytest.mark.parametrize("only", [True, False])
def test_without_it_the_log_warns_of_open_access(tmp_path, only):
    options = ["--PortProxy.project_resolver=tests.auth.test_projects_only.plugged"]
    options += [f"--ServerApp.authorizer_class={ONLY}"] if only else []
    with jupyter_server(tmp_path, *options, more={"PYTHONPATH": str(Path(__file__).parents[2])}) as running:
        assert (f"c.ServerApp.authorizer_class = '{ONLY}'" in running.log) is not only
