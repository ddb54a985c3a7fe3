"""The package without `projects/`: a Jupyter server that proxies HTTP and WebSockets, and a command line."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import websockets

import jupyter_portproxy

from .support.jupyter_processes import TOKEN, environment, jupyter_server
from .support.upstreams import answers, free_port, serve

PACKAGE = Path(jupyter_portproxy.__file__).parent


@pytest.fixture
def variables(tmp_path) -> dict[str, str]:
    """The environment of a Python that imports a copy of the package in which `projects/` is missing."""
    left_out = shutil.ignore_patterns("__pycache__", "projects", "labextension")
    copy = shutil.copytree(PACKAGE, tmp_path / "copy" / "jupyter_portproxy", ignore=left_out)
    assert (copy / "app.py").is_file() and not (copy / "projects").exists()
    return {"PYTHONPATH": str(copy.parent)}


async def test_a_server_without_projects_proxies_http_and_websockets(tmp_path, variables):
    with jupyter_server(tmp_path, more=variables) as server:
        async with serve(answers(b"over HTTP")) as service:
            assert await asyncio.to_thread(server.get, f"proxy/port/{service.port}/") == (200, "over HTTP")
        async with websockets.serve(_echo, "127.0.0.1", port := free_port()):
            url = f"{server.url.replace('http', 'ws', 1)}proxy/port/{port}/"
            async with websockets.connect(url, additional_headers={"Authorization": f"token {TOKEN}"}) as socket:
                await socket.send("over a WebSocket")
                assert await socket.recv() == "over a WebSocket"
        assert str(tmp_path / "copy") in _python(
            tmp_path, variables, "import jupyter_portproxy; print(jupyter_portproxy.__file__)"
        )
        code = "from jupyter_portproxy.cli.main import main; raise SystemExit(main(['url', '15000', '--path']))"
        assert "/proxy/port/15000/" in _python(tmp_path, variables, code)


def test_the_command_line_without_projects_has_no_command_for_operators(tmp_path, variables):
    code = "from jupyter_portproxy.cli.main import main; raise SystemExit(main(['--help']))"
    assert "check" in (text := _python(tmp_path, variables, code)) and "run-project" not in text
    assert "run-project" in _python(tmp_path, {}, code)


@pytest.mark.parametrize("module", ["app", "cli.main"])
def test_projects_are_imported_only_when_they_are_needed(tmp_path, module):
    code = f"import sys, jupyter_portproxy.{module}; print([name for name in sys.modules if 'portproxy.projects' in name])"
    assert _python(tmp_path, {}, code) == "[]\n"


async def _echo(connection) -> None:
    async for message in connection:
        await connection.send(message)


def _python(home: Path, variables: dict[str, str], code: str) -> str:
    """What a program prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(home, variables), cwd=home, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
