"""The private and undocumented APIs of other projects that the package uses: each is there, and CONTRIBUTING.md lists it."""

from __future__ import annotations

import ast
import re
import socket
from pathlib import Path

import pytest
import tornado.util
import tornado.websocket
from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httpserver import HTTPServer, _HTTPRequestContext
from tornado.iostream import IOStream
from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler, WebSocketProtocol13

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jupyter_portproxy"


# Name -> the object that must have it, or the names that a method of Tornado uses.
CANARIES = {
    "_read_buffer_size": lambda stream: stream,
    "_read_finished": lambda stream: HTTP1Connection(stream, False),
    "_orig_remote_ip": lambda stream: _HTTPRequestContext(stream, ("127.0.0.1", 1), "http"),
    "_break_cycles": lambda stream: RequestHandler,
    "_receive_frame_loop": lambda stream: WebSocketProtocol13,
    "_WebSocketParams": lambda stream: tornado.websocket,
    "_websocket_mask": lambda stream: tornado.util,
    "_new_cookie": lambda stream: RequestHandler.set_cookie.__code__.co_names,
    "conn_params": lambda stream: HTTPServer(Application()),
    "header_timeout": lambda stream: HTTP1ConnectionParameters(),
    "request_callback": lambda stream: HTTPServer(Application()),
    "default_router": lambda stream: Application(),
    "accept_connection": lambda stream: WebSocketHandler.get.__code__.co_names,
    "get_websocket_protocol": lambda stream: WebSocketHandler.get.__code__.co_names,
    "params": lambda stream: WebSocketProtocol13.__init__.__code__.co_names,
}


def names_of_others() -> set[str]:
    """Names with one leading underscore that the package reads of objects and does not define."""
    used: set[str] = set()
    # Parts of texts, a parameter's name, documented functions.
    own = {"_per_port", "_per_user", "_xsrf", "_exit", "_replace", "_asdict"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute):
                is_own = isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self"
                (own if is_own else used).add(node.attr)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                used.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                used.add(node.value)
    return {name for name in used if re.match(r"_(?!_|portproxy_)", name)} - own


def test_every_private_name_of_others_is_in_the_table():
    private = {name for name in CANARIES if name.startswith("_")}
    assert names_of_others() == private


@pytest.mark.parametrize("name", CANARIES)
async def test_the_api_is_there(name):
    here, there = socket.socketpair()
    with here, there:
        where = CANARIES[name](IOStream(here))
    assert name in where if isinstance(where, tuple) else hasattr(where, name), f"{name} of Tornado is gone"


def test_contributing_lists_them():
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## Private APIs")[2].partition("### In the browser")[0]
    rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert rows == sorted(CANARIES)
