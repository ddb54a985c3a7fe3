"""Which files of running servers are believed, and where the token of one is sent: never to another user's socket."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_portproxy.cli.running_servers import running_servers
from jupyter_portproxy.notebook import url_for

from ..support.jupyter_processes import portproxy
from ..support.other_user import another_users_server, root


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the file of a server, as jupyter_server does, into the runtime folder of this process."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))

    def written(pid: int, port: int, **more: object) -> Path:
        file = tmp_path / f"jpserver-{pid}.json"
        info = {"pid": pid, "url": f"http://127.0.0.1:{port}/", "base_url": "/", "token": "secret", "sock": "", **more}
        file.write_text(json.dumps(info))
        file.chmod(0o600)
        return file

    return written


@pytest.fixture
def own_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_server_of_this_user_is_found(write, own_port):
    write(os.getpid(), own_port)
    running, ignored = running_servers()
    assert ([info["url"] for info in running], ignored) == ([f"http://127.0.0.1:{own_port}/"], [])


@root
def test_a_process_that_is_another_users_now_is_ignored(write, own_port):
    with another_users_server() as (process, port):
        file = write(process.pid, port)
        assert running_servers() == ([], [f"{file} is ignored: its process {process.pid} belongs to another user (nobody)."])
        write(process.pid, own_port)
        assert running_servers()[0] == []


@root
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_that_is_another_users_now_is_ignored(write, host):
    with another_users_server() as (_, port):
        file = write(os.getpid(), port, url=f"http://{host}:{port}/")
        assert running_servers() == ([], [f"{file} is ignored: port {port} belongs to another user (nobody)."])


@root
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda file: os.chown(file, 65534, -1), "it belongs to another user (nobody)."),
        (lambda file: file.chmod(0o620), "other users may write it."),
        (lambda file: file.chmod(0o602), "other users may write it."),
    ],
)
def test_a_file_that_others_wrote_or_may_write_is_ignored(write, own_port, change, sentence):
    change(file := write(os.getpid(), own_port))
    assert running_servers() == ([], [f"{file} is ignored: {sentence}"])


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"pid": "1"}', '{"pid": -1, "url": ""}', '{"pid": true}', "\x00", '{"pid": 1e999}', "[" * 100_000]
    + [f'{{"pid": {2**bits}, "url": ""}}' for bits in (31, 32, 64)],
)
def test_a_file_that_is_no_servers_is_passed_over(write, text):
    write(os.getpid(), 1).write_text(text)
    assert running_servers() == ([], [])


def test_a_process_that_has_ended_is_passed_over(write, own_port):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    write(process.pid, own_port)
    assert running_servers() == ([], [])


@root
def test_a_command_sends_no_token_to_another_user(write, tmp_path):
    with another_users_server() as (process, port):
        for pid in (process.pid, os.getpid()):
            file = write(pid, port)
            code, output, errors = portproxy(tmp_path, "list", more={"JUPYTER_RUNTIME_DIR": str(tmp_path)})
            assert (code, output) == (1, "")
            first, second, _ = errors.splitlines()
            assert first == "No Jupyter server of yours runs here."
            assert second.startswith(f"{file} is ignored: ")
            file.unlink()
        process.kill()
        assert process.stdout.read() == ""  # no connection came


@root
def test_url_for_ignores_servers_of_other_users(write, monkeypatch, own_port):
    for name in ("JUPYTERHUB_SERVICE_PREFIX", "JUPYTER_BASE_URL", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    with another_users_server() as (process, port):
        write(process.pid, port, base_url="/theirs/")
        assert url_for(8050) == "/proxy/port/8050/"
        write(os.getpid(), own_port, base_url="/mine/")
        assert url_for(8050) == "/mine/proxy/port/8050/"
