"""A real server with templates, and a runner of commands, for the tests of the command line."""

from __future__ import annotations

import json
import sys

import pytest

from ..support import preloaded
from ..support.jupyter_processes import WITHOUT_LAB, environment, jupyter_server

SERVE = """
import http.server, sys
print("hello log", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("one", flush=True)
time.sleep(3)
print("two", flush=True)
"""
CLOSES = """
import socketserver, sys

class Closes(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1)

socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Closes).serve_forever()
"""
TEMPLATES = {
    "web": {
        "command": [sys.executable, "-c", SERVE, "{port}", "{word}"],
        "arguments": [{"name": "word", "default": "x"}],
        "stop_timeout": 1,
    },
    "folder": {
        "command": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", "{folder}", "{port}"],
        "arguments": [{"name": "folder", "default": ".", "kind": "path"}],
        "stop_timeout": 1,
    },
    "database": {"command": [sys.executable, "-c", CLOSES, "{port}"], "protocol": "tcp", "stop_timeout": 1},
    "worker": {"command": [sys.executable, "-c", "import time; time.sleep(600)"], "protocol": "none", "stop_timeout": 1},
    "prefix": {
        "title": "Prefix",
        "command": ["python", "-c", "import sys; print(sys.prefix, flush=True)"],
        "requires": {"program": "jupyter", "hint": "pip install jupyter_core"},
    },
    "fails": {"command": [sys.executable, "-c", "print('this is why'); raise SystemExit(3)"]},
    "stubborn": {"command": [sys.executable, "-c", STUBBORN], "stop_timeout": 2},
    "leaves": {
        "command": [sys.executable, "-c", f"import os, sys\nif os.fork(): os.wait()\nos.setsid()\n{SERVE}", "{port}"],
        "stop_timeout": 1,
    },
}


@pytest.fixture
def home(tmp_path):
    """A home whose `jupyter_portproxy.d` has the templates."""
    config = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(TEMPLATES))
    return tmp_path


@pytest.fixture
def server(home):
    with jupyter_server(home, WITHOUT_LAB) as running:
        yield running


@pytest.fixture
def run(home):
    """Runs `jupyter portproxy ...`; returns (exit code, output, errors)."""

    def command(*arguments: str, folder=""):
        done = preloaded.run("jupyter_portproxy.cli.main", arguments, env=environment(home), cwd=home / folder)
        return done.returncode, done.stdout, done.stderr

    return command
