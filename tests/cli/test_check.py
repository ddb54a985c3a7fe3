"""`check PORT` against a real server, and what it says of a port on which no process listens."""

from __future__ import annotations

import json
import socket
import sys

import pytest

from jupyter_portproxy.cli import check

from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


def test_check_explains(server, run):
    port = free_port()
    code, output, _ = run("check", str(port))
    assert (code, output.splitlines()[0]) == (1, f"Nothing listens on port {port} of the server's machine.")
    with socket.create_server(("127.0.0.1", port)):
        assert run("check", str(port))[1].startswith(f"Port {port} is listened on, but does not answer HTTP.\n")
    outside = free_port(range(30000, 40000))
    code, output, _ = run("check", str(outside))
    assert (code, output.splitlines()[:2]) == (
        1,
        [
            f"Nothing listens on port {outside} of the server's machine.",
            f"Port {outside} is outside allowed range (10000-20000).",
        ],
    )
    with socket.create_server(("127.0.0.1", outside)):
        code, output, _ = run("check", str(outside), "--json")
        result = json.loads(output)
        assert result["problem"] == f"Port {outside} is outside allowed range (10000-20000)"
        assert f'c.PortProxy.allowed_ports = ["10000-20000", {outside}]' in result["remedy"]
    own = run("check", server.url.rstrip("/").rpartition(":")[2])[1]
    assert "is this Jupyter server's own." in own and "Nothing listens" not in own
    with socket.create_server(("127.0.0.2", port)):
        lines = run("check", str(port))[1].splitlines()
        assert lines == ["It listens on 127.0.0.2 only, not on localhost.", "Let the service listen on 127.0.0.1 or 0.0.0.0."]
    web = json.loads(run("start", "web", "--json")[1])
    lines = run("check", str(web["port"]))[1].splitlines()
    assert lines[0].startswith(f"Port {web['port']} answers HTTP: http://") and f"/proxy/enter/{web['port']}/" in lines[0]
    assert lines[1].startswith("Path-based URL, for programs too: http://") and f"/proxy/port/{web['port']}/" in lines[1]


class Gateway:
    """A client for `check`: the gateway's error for a port."""

    def __init__(self, **error: str) -> None:
        self.port_error = lambda port: error


@pytest.mark.parametrize(
    ("failure", "problem", "remedy"),
    [
        ({}, "", ""),  # reached all the same: the packet filter forwards it, and allow_other_users is on
        ({"code": "forwarded_port", "message": "It is forwarded.", "hint": "Allow it."}, "It is forwarded.", "Allow it."),
        ({"code": "bad_upstream", "message": "No HTTP.", "hint": "Look."}, "No HTTP.", "Look."),
        (
            {"code": "forbidden", "message": "Port 5 is outside allowed range (10000-20000)", "hint": "Allow it."},
            "Nothing listens on port 5 of the server's machine.\nPort 5 is outside allowed range (10000-20000).",
            "Allow it.",
        ),
        (
            {"code": "unreachable", "message": "Failed to connect to service on port 5.", "hint": ""},
            "Nothing listens on port 5 of the server's machine.",
            "Start the service, for example: python3 -m http.server --bind 127.0.0.1 5",
        ),
        ({"code": "loop", "message": "x", "hint": "y"}, "Port 5 is this Jupyter server's own.", "Name the port of a service."),
    ],
)
def test_why_an_unlisted_port_cannot_be_reached_is_what_the_gateway_says(failure, problem, remedy):
    assert check._diagnose_unlisted(Gateway(**failure), 5) == (problem, remedy)
