"""Projects of one machine with JupyterHub as the login: the server is a service of a real JupyterHub."""

from __future__ import annotations

import asyncio
import sys

import pytest

from jupyter_portproxy.projects.model import LOCAL_HOST
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from ..docs.test_docs import projects_settings
from ..projects.test_chain import folder
from ..support.hub import jupyterhub
from ..support.project_sites import make_tables
from ..support.upstreams import answers, free_port, serve
from .test_jupyterhub import AGE, BASE

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform == "win32", reason="JupyterHub needs POSIX"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """JupyterHub with the documentation's settings, and the placements' DSN; the server has the resolver "local"."""
    home, port = tmp_path_factory.mktemp("hublocal"), free_port(range(21000, 29000))
    dsn = f"sqlite:///{home / 'projects.sqlite'}"
    asyncio.run(make_tables(dsn))
    settings = f"c.PortProxy.project_resolver = 'local'\nc.PortProxy.projects_path = {str(home / 'projects.sqlite')!r}\n"
    age = f"c.HubIdentityProvider.login_age = c.PortProxy.connect_timeout = {AGE}\n"
    (home / "hub.py").write_text(f"{projects_settings('# /etc/portproxy/hub.py')}\n{settings}{age}")
    command = [sys.executable, "-m", "jupyter", "server", "--allow-root", f"--config={home / 'hub.py'}"]
    config = (
        projects_settings("# jupyterhub_config.py: projects")
        .replace('["jupyter", "server", "--config=/etc/portproxy/hub.py"]', repr(command))
        .replace("127.0.0.1:10101", f"127.0.0.1:{port}")
    )
    for trait in ("services", "load_roles"):
        config = config.replace(f"c.JupyterHub.{trait} = ", f"c.JupyterHub.{trait} += ")
    with jupyterhub(folder(home / "jupyterhub"), "", users=("ann", "bob", "eve"), more=f"import os\n{config}") as hub:
        yield hub, dsn


async def test_users_of_jupyterhub_reach_their_projects_by_name_and_by_key(site):
    hub, dsn = site
    admin = PlacementAdmin(dsn)
    await admin.place("p1", LOCAL_HOST, owner="ann", name="proj")
    await admin.add_member("p1", "bob", "viewer")
    async with serve(answers(b"the service")) as upstream:
        for path in (f"{BASE}ann/proj/?port={upstream.port}", f"{BASE}p1/server/{upstream.port}/"):
            for user, status in (("ann", 200), ("bob", 200), ("eve", 404)):
                async with hub.browser() as browser:
                    page = await browser.open(path, user)
                    assert page.status == status, (path, user, page)
                    assert (page.text == "the service") == (status == 200)
        async with hub.browser() as browser:
            assert (await browser.open(f"{BASE}proxy/port/{upstream.port}/", "ann")).status == 403
    await admin.close()
