"""The tables of `list`, against a real server."""

from __future__ import annotations

import json
import re
import socket
import sys

import pytest

from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


def test_a_rule_for_a_port_shows_in_the_list_and_the_check(server, run):
    with socket.create_server(("127.0.0.1", free_port())) as listening:
        port = listening.getsockname()[1]
        status, answer = server.call("PUT", "proxy/api/port-rules", {"ports": str(port), "label": "Data base", "scheme": "tcp"})
        assert status == 200
        (line,) = [line for line in run("list")[1].splitlines() if line.startswith(f"{port} ")]
        assert re.search(rf"Data base +jupyter portproxy forward {port}$", line)
        code, output, _ = run("check", str(port))
        assert (code, output.splitlines()[0]) == (1, f"By your rule, port {port} is tcp and not a web page.")
        assert output.splitlines()[1] == f"Reach it with: jupyter portproxy forward {port}"
        server.call("DELETE", f"proxy/api/port-rules/{json.loads(answer)['id']}")


def test_a_worker_has_no_address(server, run):
    """It listens nowhere: no command reaches it."""
    assert run("start", "worker") == (0, "worker is up.\n", "")
    (line,) = [line for line in run("list")[1].splitlines() if line.startswith("worker ")]
    assert line.split() == ["worker", "up", "-", "-", "-"]
    expected = "The service 'worker' listens nowhere, so that it has no URL. Its log: jupyter portproxy logs worker\n"
    assert run("url", "worker") == (1, "", expected)
    page = server.get("proxy/")[1]
    assert "worker</" in page and "jupyter portproxy forward worker" not in page
    run("stop", "worker")
