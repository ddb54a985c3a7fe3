"""`check PORT|NAME --page` against a real server: what it prints, and its exit code."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pty
import subprocess
import sys
import threading

import pytest

from jupyter_portproxy.cli.check_page import _describe

from ..support.jupyter_processes import environment
from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
HEALTHY = {"/": b"<title>x</title><script src=a.js></script>", "/a.js": b"1"}
# Without a Referer the gateway cannot redirect what is at the root.
BROKEN = {"/": b"<meta name=referrer content=no-referrer>\n<script src=/a.js></script>", "/a.js": b"1", "/sub/": b"<p>fine"}


@contextlib.contextmanager
def web(pages: dict[str, bytes]):
    """A service with these pages; yields its port."""

    class Pages(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Pages) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_exit_codes_and_output(server, run):
    with web(HEALTHY) as port:
        code, output, _ = run("check", str(port), "--page")
        assert (code, output.splitlines()[0]) == (0, "Nothing wrong was found, in 4 requests:")
        assert f"/proxy/port/{port}/" in output.splitlines()[1]
        report = json.loads(run("check", "--page", "--json", str(port))[1])
        assert (report["findings"], report["problem"], report["target"]) == ([], None, str(port))
    with web(BROKEN) as port:
        code, output, _ = run("check", str(port), "--page")
        assert code == 1
        assert output.startswith("1. error: ") and "  at /:2\n" in output and "     <script src=/a.js></script>\n" in output
        assert "  -> " in output and f"/proxy/enter/{port}/" in output
        assert all(len(line) <= 80 or "http" in line for line in output.splitlines())
        code, output, _ = run("check", str(port), "--page", "--json")
        assert (code, json.loads(output)["findings"][0]["severity"]) == (1, "error")
        assert json.loads(output)["findings"][0]["link"].startswith("http://")
        assert run("check", str(port), "--page", "--path", "/sub/")[0] == 0
        code, output, _ = run("check", str(port), "--page", "--path", "/none")
        assert (code, output.startswith("1. error: The service answers 404")) == (1, True) and "  at /none\n" in output


def test_what_cannot_be_looked_at(server, run):
    port = free_port()
    code, output, _ = run("check", str(port), "--page")
    assert (code, output) == (2, f"Nothing listens at port {port}. Start the service, and try again.\n")
    code, output, errors = run("check", "5", "--page")
    assert (code, output, errors.splitlines()[0]) == (2, "", "Port 5 is outside allowed range (10000-20000)")
    code, output, _ = run("check", "none-such", "--page", "--json")
    assert (code, json.loads(output)["findings"]) == (2, []) and "none-such" in json.loads(output)["problem"]
    code, _, errors = run("--server", "http://127.0.0.1:1", "check", "5", "--page")
    assert (code, "127.0.0.1:1" in errors) == (2, True)
    code, _, errors = run("check", "5", "--path", "/x")
    assert (code, errors) == (1, "--path names a page.\nAdd --page.\n")
    code, _, errors = run("check", "web")
    assert code == 1
    assert errors == (
        "'web' is not a port: a port is a whole number from 1 to 65535.\n"
        "Of a service its page is checked: jupyter portproxy check NAME --page\n"
    )


def test_a_service_has_a_name(server, run):
    run("start", "web")
    code, output, _ = run("check", "web", "--page")
    assert (code, output.splitlines()[0]) == (0, "Nothing wrong was found, in 2 requests:")
    assert "/proxy/service/web/" in output


def test_a_terminal_shows_progress(server, home):
    """On a terminal, a line that is gone at the end."""
    master, slave = pty.openpty()
    with web(HEALTHY) as port:
        command = [sys.executable, "-m", "jupyter_portproxy.cli.main", "check", str(port), "--page"]
        done = subprocess.run(
            command, env=environment(home), cwd=home, stderr=slave, stdout=subprocess.PIPE, timeout=30, check=False
        )
    os.close(slave)
    shown = os.read(master, 4096).decode()
    os.close(master)
    assert done.returncode == 0
    assert shown.startswith(f"Looking at the page of {port}") and shown.endswith("\r\x1b[K")


def test_a_report_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    finding = {
        "severity": "warning",
        "sentence": "The page loads " + "many things " * 20,
        "evidence": {
            "file": "/app/index.html",
            "line": None,
            "field": "Content-Security-Policy",
            "excerpt": "default-src 'self' " * 8,
        },
        "remedies": ["Set this variable: " + "A=B " * 30, "Or open it elsewhere."],
        "link": "http://localhost:8888/" + "x" * 90,
        "documentation": "https://docs.example/#x",
    }
    lines = list(_describe({"findings": [finding, finding], "problem": None, "notes": ["One " * 40], "requests": 3, "url": "u"}))
    assert [line for line in lines if len(line) > 80] == [f"     {finding['link']}"] * 2
    assert (lines[0].startswith("1. warning: The page") and lines[1].startswith("  many")) or lines[1].startswith("  things")
    assert any(line == "  at /app/index.html, field Content-Security-Policy" for line in lines)
    assert any(line.startswith("2. warning") for line in lines) and "" in lines
    assert any(line.startswith("Note: One") for line in lines)
