"""What a hostile service in the path form can do to Jupyter by its answers alone, and what `sandbox` leaves to its scripts."""

from __future__ import annotations

import http.server
import threading

import pytest

from ..support.jupyter_processes import jupyter_server
from ..support.upstreams import free_port
from .conftest import log_in

BOMB = [("Set-Cookie", f"bomb{number}=1; Path=/; Priority=High") for number in range(400)]
FIELDS = [
    ("Set-Cookie", "_xsrf=stolen; Path=/"),
    ("Set-Cookie", "=_xsrf=stolen; Path=/"),
    ("Set-Cookie", "wide=1; Path=/; Domain=127.0.0.1"),
    ("Clear-Site-Data", '"*"'),
    ("Service-Worker-Allowed", "/"),
    ("Content-Security-Policy", "frame-ancestors *"),
]
REACH = """async () => {
  const api = await fetch('/api/contents', { referrerPolicy: 'no-referrer' }).then(r => r.status, () => 'refused');
  let cookie; try { cookie = document.cookie } catch { cookie = 'refused' }
  let store; try { localStorage.setItem('x', 1); store = 'open' } catch { store = 'refused' }
  return { api, cookie: cookie === 'refused' ? cookie : 'open', store };
}"""


@pytest.fixture(scope="module")
def hostile():
    """The port of a service whose answers carry all of it."""

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            worker = self.path.startswith("/worker.js")
            self.send_response(200)
            for field in [("Content-Type", "text/javascript" if worker else "text/html"), *FIELDS]:
                self.send_header(*field)
            for field in BOMB if self.path == "/bomb" else []:
                self.send_header(*field)
            self.end_headers()
            self.wfile.write(b"onfetch = () => {}" if worker else b"<title>Hostile</title><script>window.ran = 1</script>")

        def log_message(self, *args):
            pass

    port = free_port()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield port
    server.shutdown()
    server.server_close()


def test_its_answers_do_nothing_to_jupyter(page, server, hostile):
    page.goto(f"{server}no-such-page")
    page.evaluate("localStorage.setItem('mine', 'kept')")
    before = {c["name"]: c["value"] for c in page.context.cookies() if c["path"] == "/"}
    assert before
    for path in ("", "deep/er", "bomb"):
        page.goto(f"{server}proxy/port/{hostile}/{path}")
    cookies = page.context.cookies()
    assert {c["name"]: c["value"] for c in cookies if c["path"] == "/"} == before
    assert all(c["path"].startswith(f"/proxy/port/{hostile}") for c in cookies if c["name"] not in before)
    page.goto(f"{server}api/status")
    assert '"kernels"' in page.inner_text("body")
    assert page.evaluate("localStorage.getItem('mine')") == "kept"
    assert "frame-ancestors 'self'" in page.request.get(f"{server}no-such-page").headers["content-security-policy"]


def test_a_worker_is_kept_below_the_prefix(page, server, hostile):
    page.goto(f"{server}proxy/port/{hostile}/")
    register = """async ([script, scope]) =>
        navigator.serviceWorker.register(script, scope ? { scope } : {}).then(r => r.scope, e => e.name)"""
    below, root = f"/proxy/port/{hostile}/", server.rstrip("/")
    assert page.evaluate(register, [below + "worker.js", None]) == root + below  # so that it can fail
    for script, scope in [
        (below + "worker.js", "/"),
        (below + "worker.js", "/proxy/"),
        ("/worker.js", None),
        (below[:-1] + "%2fworker.js", "/"),
    ]:
        assert page.evaluate(register, [script, scope]) in ("SecurityError", "TypeError"), (script, scope)
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then(all => all.map(r => r.scope))") == [
        server.rstrip("/") + below
    ]


def test_without_a_sandbox_its_scripts_reach_jupyter(page, server, hostile):
    page.goto(f"{server}proxy/port/{hostile}/")
    assert page.evaluate(REACH) == {"api": 200, "cookie": "open", "store": "open"}


def test_with_a_sandbox_they_do_not(chromium, tmp_path, hostile):
    with jupyter_server(tmp_path, "--PortProxy.sandbox=True") as running:
        page = chromium.new_page()
        log_in(page.context, running.url)
        page.goto(f"{running.url}proxy/port/{hostile}/")
        assert page.evaluate("window.ran") == 1
        assert page.evaluate(REACH) == {"api": "refused", "cookie": "refused", "store": "refused"}
        page.close()
