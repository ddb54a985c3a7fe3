"""Servers as they are configured for jupyter-server-proxy."""

from __future__ import annotations

import sys

import pytest

from ..support.jupyter_processes import TOKEN
from ..support.upstreams import free_port

# Tells what it was asked, on a port or on a Unix socket.
ECHO = """
import http.server, os, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = (self.requestline + "\\n" + str(self.headers) + os.environ.get("TOLD", "")).encode()
        self.send_response(200)
        self.send_header("Content-Length", len(text))
        self.end_headers()
        self.wfile.write(text if self.command == "GET" else b"")
    do_HEAD = do_GET
    def address_string(self):
        return "x"
where = sys.argv[1]
if where.isdigit():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(where)), Handler)
else:
    server = socketserver.ThreadingUnixStreamServer(where, Handler)
server.serve_forever()
"""
SWAP = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        client, _ = server.accept()
        while data := client.recv(1024):
            client.sendall(data.swapcase())
        client.close()
"""
ECHOES = [sys.executable, "-c", ECHO, "{port}"]


def shout(response):
    response.body = response.body.upper()
    response.headers["X-Shouted"] = "yes"


def fails(response):
    raise ValueError("a secret of the configuration")


def mapped(path):
    return path + "mapped"


@pytest.fixture
def unix_path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("s") / "own.sock")


@pytest.fixture
def fixed_port():
    return free_port(range(30000, 40000))


@pytest.fixture
def jp_server_config(tmp_path, unix_path, fixed_port):
    icon = tmp_path / "icon.svg"
    icon.write_text("<svg/>")
    servers = {
        "plain": {"command": ECHOES, "launcher_entry": {"title": "Plain", "icon_path": str(icon)}},
        "absolute": {"command": ECHOES, "absolute_url": True, "environment": {"TOLD": "told {base_url}"}},
        "fixed": {"command": ECHOES, "port": fixed_port},
        "external": {"port": fixed_port},
        "second": {"command": ECHOES, "port": fixed_port, "mappath": mapped},
        "socket": {"command": [sys.executable, "-c", ECHO, "{unix_socket}"], "unix_socket": unix_path},
        "socket-external": {"unix_socket": unix_path},
        "mapped": {"command": ECHOES, "mappath": mapped, "request_headers_override": {"X-Own": "own {port}", "User-Agent": "me"}},
        "shouts": {"command": ECHOES, "rewrite_response": [shout]},
        "fails": {"command": ECHOES, "rewrite_response": fails},
        "raw": {"command": [sys.executable, "-c", SWAP, "{port}"], "raw_socket_proxy": True},
        "quiet": {"command": ECHOES, "update_last_activity": False},
        "asks": {"command": ECHOES, "update_last_activity": lambda handler: "loud" in handler.request.path},
        "excludes": {"command": ECHOES, "exclude_last_activity_patterns": [r".*/poll$"]},
        "broken": {"command": 5},
        "ends": {"command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]},
    }
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}},
        "IdentityProvider": {"token": TOKEN},
        "ServerProxy": {"servers": servers},
    }
