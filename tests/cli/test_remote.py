"""All commands against servers elsewhere: at a real JupyterHub, and behind a real nginx that is reached through a proxy."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
from urllib.parse import urlsplit

import pytest

from ..support.connect_proxy import connect_proxy
from ..support.hub import Hub, jupyterhub
from ..support.jupyter_processes import TOKEN, jupyter_server, portproxy
from ..support.nginx import nginx
from ..support.upstreams import free_port

pytestmark = [pytest.mark.skipif(sys.platform == "win32", reason="a hub"), pytest.mark.timeout(180)]
LAPTOP = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "JUPYTER_TOKEN": "", "XDG_CONFIG_HOME": ""}
LOCATION = (
    "location / { proxy_pass http://127.0.0.1:8888; proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https; }"
)
TLS = "ssl_certificate /etc/ssl/jupyter.pem; ssl_certificate_key /etc/ssl/jupyter.key;"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with jupyterhub(tmp_path_factory.mktemp("hub"), "", "ada", users=["bob"]) as running:
        yield running


@pytest.fixture
def laptop(tmp_path):
    """Runs commands in a home without a server; returns (exit code, output, errors)."""
    (home := tmp_path / "laptop").mkdir()

    def run(*arguments: str, given: str = "", **more: str) -> tuple[int, str, str]:
        return portproxy(home, *arguments, given=given, more={**LAPTOP, **more})

    run.home = home
    return run


def test_all_commands_work_from_afar(hub: Hub, laptop):
    token, url = hub.token("ada"), f"{hub.origin}/user/ada/"
    code, output, errors = laptop("login", f"{url}lab/workspaces/x", given=token)
    assert (code, output.splitlines()[0]) == (0, f"You are logged in to {url}"), errors
    everything = []

    def run(*arguments: str, **more: str) -> str:
        code, output, errors = laptop(*arguments, **more)
        assert (code, errors) == (0, ""), arguments
        everything.append(output)
        return output

    assert "who " in run("templates")
    started = run("start", "who", "--name", "mine")
    assert started.startswith(f"mine is up: {url}proxy/") and run("logs", "mine") == ""
    services = json.loads(run("list", "--json"))["services"]
    assert [service["name"] for service in services] == ["mine"]
    assert run("url", "mine", "--path") == f"{url}proxy/service/mine/\n"
    browser = laptop.home / "browser"
    browser.write_text(f"#!/bin/sh\necho $1 >> {laptop.home}/opened\n")
    browser.chmod(0o755)
    run("open", "mine", "--path", BROWSER=str(browser))
    assert (laptop.home / "opened").read_text() == f"{url}proxy/service/mine/\n"
    port = services[0]["port"]
    assert run("check", str(port)).startswith(f"Port {port} answers HTTP: {url}proxy/")
    assert run("restart", "mine").startswith("mine is up: ")
    assert run("stop", "mine") == "mine is stopped.\n"
    assert 10000 <= int(run("reserve", "soon")) <= 20000
    other = str(free_port(range(21000, 29000)))
    assert run("allow", other, "--for", "8h").startswith(f"Port {other} is allowed until ")
    assert other in run("allowed") and run("disallow", other) == f"Port {other} is not allowed any more.\n"
    assert url in run() and url in run("logins")
    assert not [text for text in everything if token in text or "token=" in text]


def test_a_path_counts_from_the_servers_own_folder(tmp_path, laptop):
    (home := tmp_path / "server").mkdir()
    templates = home / ".jupyter" / "jupyter_portproxy.d"
    templates.mkdir(parents=True)
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", "{folder}", "{port}"]
    folder = {"command": command, "arguments": [{"name": "folder", "default": ".", "kind": "path"}], "stop_timeout": 1}
    (templates / "mine.json").write_text(json.dumps({"folder": folder}))
    for place in (home, laptop.home):
        (place / "data").mkdir()
        (place / "data" / "here.txt").write_text(place.name)
    with jupyter_server(home) as server:
        code, _, errors = laptop("--server", server.url, "start", "folder", "folder=data", JUPYTER_TOKEN=TOKEN)
        assert code == 0, errors
        assert server.get("proxy/service/folder/here.txt") == (200, "server")


def test_why_a_hub_refuses(hub: Hub, laptop):
    url = f"{hub.origin}/user/ada/"

    def refused(*arguments: str, given: str, where: str = url) -> list[str]:
        code, output, errors = laptop("--server", where, *arguments, JUPYTERHUB_API_TOKEN=given)
        assert (code, output, given in errors) == (1, "", False)
        return errors.splitlines()

    source = "It comes from the variable JUPYTERHUB_API_TOKEN, which counts before a login. Correct it there, or remove it."
    advice = [f"Make another one at {hub.origin}/hub/token", source]
    reasons = {
        "it-has-ended": "it is unknown to JupyterHub: it has ended, or was revoked",
        hub.token("bob"): "it is bob's",
        hub.token("ada", "read:users!user=ada"): "it lacks the scope access:servers!user=ada",
    }
    for token, reason in reasons.items():
        sentences = [f"The token for {url} is not accepted: {reason}.", *advice]
        assert refused("list", given=token) == sentences
        assert refused("allow", "25000", given=token) == sentences
    token = hub.token("ada")
    for path in ("/user/bob/", "/user/none/"):
        stopped = [f"JupyterHub has no running server at {hub.origin}{path}", f"Start it: {hub.origin}/hub/home"]
        assert refused("list", given=token, where=f"{hub.origin}{path}") == stopped
    for path in ("/", "/hub", "/elsewhere/"):
        first, second = refused("list", given=token, where=f"{hub.origin}{path}")
        assert first.endswith(" is a JupyterHub, not a server.") and second.endswith(f"at {hub.origin}/user/NAME/")
    assert refused("list", given=token, where=f"{hub.origin}/hub/home")[0].startswith("Invalid URL: /hub/home is a page")


def test_the_token_of_the_server_in_which_a_command_runs_stays_there(hub: Hub, laptop):
    """As in ada's terminal, where JupyterHub has set these variables."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(1)
        variables = {
            "JUPYTERHUB_API_TOKEN": hub.token("ada"),
            "JUPYTERHUB_API_URL": f"{hub.origin}/hub/api",
            "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
            "JUPYTERHUB_USER": "ada",
        }
        url = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/user/ada/"
        for other in (url, f"{hub.origin}/user/bob/"):
            code, _, errors = laptop("--server", other, "list", **variables)
            reason = "JUPYTERHUB_API_TOKEN is that of the server in which this command runs, and is not sent to another."
            assert (code, errors.splitlines()[:2]) == (1, [f"There is no token for {other}", reason])
        with pytest.raises(TimeoutError):
            elsewhere.accept()
        assert laptop("--server", f"{hub.origin}/user/ada/", "list", **variables)[0] == 0


def test_through_a_proxy_to_a_server_behind_nginx(tmp_path, laptop):
    (home := tmp_path / "server").mkdir()
    (front := tmp_path / "nginx").mkdir()
    url = "https://jupyter.example.org/"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(jupyter_server(home, "--ServerApp.allow_remote_access=True"))
        block = f"server {{ listen 443 ssl; {TLS} {LOCATION} }}"
        port, trust = stack.enter_context(nginx(front, block, urlsplit(server.url).netloc))
        proxy = stack.enter_context(connect_proxy(port))
        variables = {"https_proxy": proxy.url, "http_proxy": proxy.url, "no_proxy": "", "HTTPS_PROXY": "", "NO_PROXY": ""}
        code, _, errors = laptop("login", url, given=TOKEN, **variables)
        assert (code, errors.splitlines()[0].partition(":443")[0]) == (1, "The certificate of jupyter.example.org")
        (laptop.home / "ca.pem").write_text("\n".join(map(ssl.DER_cert_to_PEM_cert, trust.get_ca_certs(binary_form=True))))
        code, output, errors = laptop("login", url, "--ca-file", "ca.pem", given=TOKEN, **variables)
        assert (code, output.splitlines()[0]) == (0, f"You are logged in to {url}"), errors
        kept = json.loads(laptop("logins", "--json", **variables)[1])
        assert kept == [{"url": url, "token_in": "file", "ca_file": str(laptop.home / "ca.pem")}]
        assert laptop("login", url, given=TOKEN, **variables)[0] == 0  # the file is remembered
        assert json.loads(laptop("list", "--json", **variables)[1])["services"] == []
        assert {head.split()[1] for head in proxy.heads} == {"jupyter.example.org:443"}
        assert TOKEN.encode() not in proxy.passed and TOKEN not in "".join(proxy.heads)
        server.process.terminate()
        server.process.wait(10)
        code, _, errors = laptop("list", **variables)
        assert (code, errors) == (1, f"The reverse proxy in front of {url} answers 502 Bad Gateway.\nDoes the server run?\n")
