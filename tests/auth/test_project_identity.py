"""The login of a project's own server: by the project's secret, which its pages do not have."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from jupyter_portproxy.auth.project_identity import IDENTITY_PROVIDER
from jupyter_portproxy.protocol.credentials import SECRET_VARIABLE

from ..support.jupyter_processes import TOKEN, environment, jupyter_server, portproxy
from ..support.upstreams import mirror, serve

SECRET, KEY = "the-secret-of-a-project", "p1"
CLASS = f"--ServerApp.identity_provider_class={IDENTITY_PROVIDER}"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    home = tmp_path_factory.mktemp("project")
    arguments = (CLASS, "--ServerApp.trust_xheaders=True", "--IdentityProvider.token=of-the-configuration")
    with jupyter_server(home, *arguments, base=f"/{KEY}/", more={SECRET_VARIABLE: SECRET}) as server:
        server.home = home
        yield server


@pytest.mark.parametrize(
    ("token", "query", "status"),
    [(SECRET, "", 200), (SECRET, "?token=own", 200), (TOKEN, "", 403), ("", f"?token={SECRET}", 403)],
)
def test_the_secret_logs_in_as_a_field(project, token, query, status):
    assert project.call("GET", f"api/status{query}", token=token)[0] == status


@pytest.mark.parametrize("page", ["lab", "tree", "login", "proxy/", "api/status", "notebooks/x.ipynb"])
def test_no_page_has_it(project, page):
    status, text = project.call("GET", page, token=SECRET)
    assert status in (200, 404) and SECRET not in text
    assert page != "lab" or '"token": ""' in text


async def test_a_service_gets_its_own_token_but_not_the_secret(project):
    async with serve(mirror) as up:
        status, _ = await asyncio.to_thread(project.call, "GET", f"proxy/port/{up.port}/?token=own", token=SECRET)
        assert (status, up.last.target, up.last.one("Authorization")) == (200, "/?token=own", None)


def test_its_commands_log_in_and_print_no_secret(project):
    more = {SECRET_VARIABLE: SECRET}
    assert portproxy(project.home, "list", more=more)[0] == 0
    code, printed, errors = portproxy(project.home, "url", "15000", more=more)
    assert (code, printed.partition("proxy/")[0]) == (0, project.url.replace("127.0.0.1", "localhost"))
    assert SECRET not in printed + errors


def test_without_a_secret_it_does_not_start(tmp_path):
    command = [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser", CLASS]
    done = subprocess.run(
        command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1 and "PORTPROXY_PROJECT_SECRET is empty" in done.stderr
