"""The choice of one of several running servers."""

from __future__ import annotations

import json
import sys

import pytest

from ..support.jupyter_processes import jupyter_server, portproxy

CLI = f"{sys.executable} -m jupyter_portproxy.cli.main"
SERVE = f"exec {sys.executable} -m http.server --bind 127.0.0.1 {{port}}"
NESTED = [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ServerApp.base_url={prefix}/"]
TEMPLATES = {
    "asks": {"command": ["sh", "-c", f"{CLI} url 15000 > said; {SERVE}"], "stop_timeout": 1},
    "below": {"command": [*NESTED, "--port={port}"], "keep_prefix": True},
    "below-socket": {"command": [*NESTED, "--ServerApp.sock={unix_socket}"], "keep_prefix": True, "unix_socket": True},
}


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text(json.dumps(TEMPLATES))
    with jupyter_server(tmp_path) as running:
        yield running


@pytest.mark.parametrize("template", ["below", "below-socket"])
def test_a_nested_server_is_not_taken_for_the_one_that_started_it(server, tmp_path, template):
    assert portproxy(tmp_path, "start", template)[0] == 0
    code, said, errors = portproxy(tmp_path, "list", "--json")
    assert (code, errors) == (0, "")
    assert [service["name"] for service in json.loads(said)["services"]] == [template]


def test_of_two_servers_one_must_be_named_or_run_the_command(server, tmp_path):
    (tmp_path / "second").mkdir()
    with jupyter_server(tmp_path / "second", more={"HOME": str(tmp_path)}) as second:
        code, _, errors = portproxy(tmp_path, "list")
        assert (code, errors.splitlines()[0]) == (1, "Several servers run; choose one with --server:")
        assert len(errors.splitlines()) == 3
        for running, folder in ((server, tmp_path), (second, tmp_path / "second")):
            url = running.url.replace("127.0.0.1", "localhost")
            assert portproxy(tmp_path, "--server", url, "start", "asks")[0] == 0
            assert (folder / "said").read_text().startswith(f"{url}proxy/enter/15000/")
        logs = tmp_path / ".local" / "share" / "jupyter" / "runtime" / "portproxy"
        written = {path.relative_to(logs).as_posix() for path in logs.glob("**/*.log")}
        assert written == {f"jpserver-{running.process.pid}/asks.log" for running in (server, second)}
    assert portproxy(tmp_path, "list")[0] == 0
