"""The extension as jupyter_server finds, configures, runs and stops it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from traitlets.config import Config

from .conftest import TOKEN
from .support.identity_providers import NamedUsers, configured
from .support.jupyter_processes import jupyter_server, portproxy
from .support.upstreams import answers, free_port, serve

CONFIG = {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}}, "IdentityProvider": {"token": TOKEN}}


async def test_serves_below_the_base_url(call, jp_base_url):
    assert jp_base_url == "/a%40b/"
    async with serve(answers(b"hello")) as upstream:
        answer = await call(f"proxy/port/{upstream.port}/")
    assert (answer.status, answer.text) == (200, "hello")


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, "PortProxy": {"allowed_ports": [9, "30000-30010"]}}])
async def test_reads_its_traits_from_the_servers_configuration(call, gateway, jp_server_config):
    assert gateway.settings.allowed_ports == [9, "30000-30010"]
    assert (await call("proxy/port/15000/")).text.startswith("Port 15000 is outside allowed range (9, 30000-30010)\n")


async def test_traffic_is_the_servers_activity(call, jp_serverapp, jp_web_app):
    assert "portproxy" not in jp_web_app.settings["last_activity_times"]
    before = jp_web_app.last_activity()
    async with serve(answers()) as upstream:
        await call(f"proxy/port/{upstream.port}/")
    assert jp_web_app.settings["last_activity_times"]["portproxy"] >= before


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, "PortProxy": {"count_activity": False}}])
async def test_activity_can_be_left_uncounted(call, jp_web_app, jp_server_config):
    async with serve(answers()) as upstream:
        await call(f"proxy/port/{upstream.port}/")
    assert "portproxy" not in jp_web_app.settings["last_activity_times"]


@pytest.mark.parametrize(
    ("server", "traits", "may_allow", "has_rules"),
    [
        ({}, {}, True, True),
        ({}, {"users_may_allow": []}, False, True),  # an administrator who forbids ports does not forbid rules
        ({"identity_provider_class": NamedUsers}, {}, False, False),
        ({"identity_provider_class": NamedUsers}, {"users_may_allow": []}, False, False),
        ({"identity_provider_class": NamedUsers}, {"users_may_allow": ["1024-65535"]}, True, True),
        ({}, {"project_resolver": "local", "projects_path": "projects.sqlite"}, False, False),
        ({}, {"project_resolver": "local", "projects_path": "projects.sqlite", "users_may_allow": [5000]}, False, False),
    ],
)
async def test_a_file_of_the_user_is_kept_where_there_is_one(
    jp_configurable_serverapp, server, traits, may_allow, has_rules, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    app = jp_configurable_serverapp(config=Config({**configured(**server), "PortProxy": traits}))
    (extension,) = app.extension_manager.extension_apps["jupyter_portproxy"]
    assert (extension.policy.may_allow(5000), extension.policy.has_port_rules) == (may_allow, has_rules)


# ---- a server in a process of its own ----

SOCKET = """
import socketserver, sys
socketserver.UnixStreamServer(sys.argv[1], socketserver.BaseRequestHandler).serve_forever()
"""


@pytest.fixture
def short_folder():
    """The path of a Unix socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no Unix sockets for services")
def test_the_sockets_of_a_killed_server_are_removed_by_the_next_one(tmp_path, short_folder):
    (config := tmp_path / ".jupyter" / "jupyter_portproxy.d").mkdir(parents=True)
    template = {"command": [sys.executable, "-c", SOCKET, "{unix_socket}"], "unix_socket": True, "protocol": "tcp"}
    (config / "mine.json").write_text(json.dumps({"at-socket": template}))
    more = {"TMPDIR": str(short_folder)}
    with jupyter_server(tmp_path, more=more) as killed:
        assert killed.call("POST", "proxy/api/services", {"template": "at-socket"})[0] == 201
        (folder,) = short_folder.glob("portproxy-*")
        with jupyter_server(tmp_path, more=more):
            assert list(folder.glob("*.sock"))  # of a server that runs
        killed.process.kill()
        killed.process.wait()
    assert folder.exists()
    with jupyter_server(tmp_path, more=more):
        assert not folder.exists()


@pytest.fixture
def jupyter(tmp_path):
    """Runs `jupyter ...` with a home of its own and waits for its end."""
    environment = {**os.environ, "HOME": str(tmp_path), "JUPYTER_TOKEN": TOKEN}
    running = []

    def run(*arguments: str, wait: bool = True) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "jupyter", *arguments]
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        running.append(process)
        if wait:
            process.wait(30)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def test_is_installed_enabled_and_valid(jupyter):
    listed = jupyter("server", "extension", "list").stdout.read()
    (line,) = [line for line in listed.splitlines() if "jupyter_portproxy" in line and "OK" in line]
    assert "jupyter_portproxy" in line
    assert "jupyter_portproxy \x1b[32menabled\x1b[0m" in listed or "jupyter_portproxy enabled" in listed


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("--PortProxy.allowed_ports=abc", "c.PortProxy.allowed_ports: 'abc' is not a port or a range of ports: write 8888 or"),
        (
            "--PortProxy.allowed_hosts=a b",
            "c.PortProxy.allowed_hosts: 'a b' is not a DNS name, an IP address or a network",
        ),
        (
            "--PortProxy.connect_timeout=-1",
            "c.PortProxy.connect_timeout: -1.0 is not a number of seconds between 0.001",
        ),
    ],
)
def test_bad_settings_stop_the_start_with_one_sentence(jupyter, setting, sentence):
    process = jupyter("server", "--no-browser", "--allow-root", f"--ServerApp.port={free_port()}", setting)
    output = process.stdout.read()
    assert process.returncode == 1
    assert f"Bad config encountered during initialization: {sentence}" in output
    assert "Traceback" not in output


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_starts_as_a_command_and_stops_on_sigterm(jupyter):
    port = free_port()
    extension = "--ServerApp.jpserver_extensions={'jupyter_portproxy': True}"
    process = jupyter(
        "server",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        extension,
        "--PortProxy.allowed_ports=30000",
        wait=False,
    )
    request = urllib.request.Request(f"http://127.0.0.1:{port}/proxy/port/15000/", headers={"Authorization": f"token {TOKEN}"})
    until = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            assert error.read().decode().startswith("Port 15000 is outside allowed range (30000)\n")
            error.close()
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert "Traceback" not in process.stdout.read()


# `jupyter notebook`, as far as its configuration goes; the package itself is large.
NOTEBOOK = """
from jupyter_server.extension.application import ExtensionApp
class App(ExtensionApp):
    name, load_other_extensions = "notebook", True
def _jupyter_server_extension_points():
    return [{"module": "an_app", "app": App}]
if __name__ == "__main__":
    import an_app
    an_app.App.launch_instance()
"""


@pytest.mark.parametrize("given", ["", "15009"])
@pytest.mark.parametrize(("module", "file"), [("jupyterlab", "jupyter_lab_config.py"), ("an_app", "jupyter_notebook_config.py")])
def test_the_file_of_the_application_counts_and_the_command_line_is_above_it(tmp_path, module, file, given):
    (tmp_path / "an_app.py").write_text(NOTEBOOK)
    folder = tmp_path / ".jupyter"
    enabled = folder / "jupyter_server_config.d" / "an_app.json"
    enabled.parent.mkdir(parents=True)
    enabled.write_text(json.dumps({"ServerApp": {"jpserver_extensions": {"an_app": True}}}))
    (folder / file).write_text("c.PortProxy.allowed_ports = [15005]\nc.ServerProxy.servers = {'docs': {'port': 18050}}\n")
    more = {"PYTHONPATH": str(tmp_path)}
    arguments = [f"--PortProxy.allowed_ports={given}"] if given else []
    with jupyter_server(tmp_path, *arguments, more=more, module=module) as server:
        status, output = server.get("proxy/port/15007/")
        assert (status, output.partition("\n")[0]) == (403, f"Port 15007 is outside allowed range ({given or 15005})")
        assert '"docs"' in server.get("server-proxy/servers-info")[1]
    found = portproxy(tmp_path, "check", "--migrate", more=more)[1]
    assert f"works     c.ServerProxy.servers['docs']['port']  ({folder / file})" in found
    assert "allowed_ports" not in found
