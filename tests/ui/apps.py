"""Typical services, most of which expect to be served at `/`, and one malicious service.

An application is a function of method, path and content that returns status, fields and content.
"""

from __future__ import annotations

import contextlib
import http.server
import mimetypes
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..support.upstreams import free_port

Answer = tuple[int, dict[str, str], bytes]
App = Callable[[str, str, bytes, dict[str, str]], Answer]
HTML, SCRIPT, STYLE = ({"Content-Type": kind} for kind in ("text/html", "text/javascript", "text/css"))

ROOTED = b"""<!DOCTYPE html><title>rooted</title><link rel=stylesheet href=/static/app.css>
<h1 id=styled>rooted</h1><p id=script>-</p><p id=fetched>-</p><p id=event>-</p><p id=socket>-</p><p id=worker>-</p>
<a id=link href=/deep/page?x=1#there>deep</a> <a id=save href=/api/data download>save</a>
<form method=post action=/submit><input name=a value=1><button>send</button></form>
<script src=/static/app.js></script>"""
ROOTED_SCRIPT = b"""
const say = (id, text) => { document.getElementById(id).textContent = text; };
say("script", "ran");
fetch("/api/data").then(a => a.text()).then(text => say("fetched", text));
new EventSource("/events").onmessage = event => say("event", event.data);
navigator.serviceWorker?.register("/sw.js").then(() => navigator.serviceWorker.ready)
  .then(() => new Promise(done => navigator.serviceWorker.controller ? done()
    : navigator.serviceWorker.addEventListener("controllerchange", done)))
  .then(() => fetch("/from-worker")).then(a => a.text()).then(text => say("worker", text))
  .catch(error => say("worker", String(error)));
"""
WORKER = b"""
self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", event => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", event => {
  if (new URL(event.request.url).pathname === "/from-worker") event.respondWith(new Response("by the worker"));
});
"""


def rooted(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
    """Absolute links, forms, a stylesheet, an event stream, a service worker, a cookie: as with Flask's `url_for`."""
    pages: dict[str, Answer] = {
        "/": (200, {**HTML, "Set-Cookie": "visits=1; Path=/; HttpOnly"}, ROOTED),
        "/static/app.js": (200, SCRIPT, ROOTED_SCRIPT),
        "/static/app.css": (200, STYLE, b"#styled { color: rgb(1, 2, 3); }"),
        "/api/data": (200, {"Content-Type": "text/plain"}, fields.get("cookie", "no cookie").encode()),
        "/events": (200, {"Content-Type": "text/event-stream"}, b"data: an event\n\n"),
        "/sw.js": (200, SCRIPT, WORKER),
        "/deep/page?x=1": (200, HTML, b"<p id=deep>deep</p><a href=/>home</a>"),
        "/thanks": (200, HTML, b"<p id=thanks>thanks</p>"),
    }
    if (method, path) == ("POST", "/submit"):
        return 303, {"Location": "/thanks" if content == b"a=1" else "/wrong"}, b""
    return pages.get(path, (404, HTML, b"no such page"))


CACHING_WORKER = b"""
oninstall = event => event.waitUntil(caches.open("shell").then(cache => cache.add("/")).then(() => skipWaiting()));
onactivate = event => event.waitUntil(clients.claim());
onfetch = event => {
  if (event.request.mode === "navigate" && event.request.method === "GET") event.respondWith(caches.match("/"));
};"""
CACHING_PAGE = b"""<!doctype html><title>shell</title><p id=data>-</p><a href=/other>other</a><script>
navigator.serviceWorker.register("/sw.js");
const show = text => { document.getElementById("data").textContent = `${location.pathname} ${text}`; };
fetch("/api/data").then(async answer => show(answer.ok ? await answer.text() : answer.status), show);</script>"""


def caching(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
    """A page whose service worker answers all navigations from its cache, as that of `vite-plugin-pwa` does."""
    if path == "/sw.js":
        return 200, SCRIPT, CACHING_WORKER
    return (200, {"Content-Type": "text/plain"}, b"data") if path == "/api/data" else (200, HTML, CACHING_PAGE)


BUILD_PAGE = b"""<!doctype html><title>build</title><link rel=manifest href=/manifest.json>
<script defer src=/static/js/main.js></script><div id=root></div>"""
BUILD_SCRIPT = b"""document.getElementById("root").textContent = "route " + location.pathname;
const next = document.createElement("button");
next.onclick = () => {
  history.pushState({}, "", "/items/2");
  document.getElementById("root").firstChild.data = "route " + location.pathname;
};
document.getElementById("root").append(next);"""


def build(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
    """A single page application's static build, as Create React App makes it: one page for every path but its assets."""
    if path == "/static/js/main.js":
        return 200, SCRIPT, BUILD_SCRIPT
    return (200, {"Content-Type": "application/json"}, b"{}") if path == "/manifest.json" else (200, HTML, BUILD_PAGE)


def files(folder: Path) -> App:
    """A folder as a static host serves a single page application: what is no file is its page."""

    def answer(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
        if path == "/api/data":
            return 200, {"Content-Type": "text/plain"}, b"from the service"
        file = folder / path.partition("?")[0].lstrip("/")
        file = file if file.is_file() else folder / "index.html"
        return 200, {"Content-Type": mimetypes.guess_type(file.name)[0] or "text/plain"}, file.read_bytes()

    return answer


def hostile(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
    """A page from which a test does what a service must not, with every header field that might help it."""
    if path.startswith("/sw.js"):
        return 200, {**SCRIPT, "Service-Worker-Allowed": "/"}, WORKER
    helping = {
        "Content-Security-Policy": "frame-ancestors *",
        "Access-Control-Allow-Origin": "*",
        "Set-Cookie": "_xsrf=planted; Path=/; Domain=localhost",
    }
    return 200, {**HTML, **helping}, b"<title>hostile</title>hostile"


def api_for(caller: int) -> App:
    """An API that allows the pages of one other service of this machine to call it, and says by what it was called."""

    def answer(method: str, path: str, content: bytes, fields: dict[str, str]) -> Answer:
        allowed = f"http://localhost:{caller}"
        request_fields = {"Content-Type": "text/plain"}
        if fields.get("origin") == allowed:
            request_fields |= {
                "Access-Control-Allow-Origin": allowed,
                "Access-Control-Allow-Credentials": "true",
                "Vary": "Origin",
            }
            request_fields |= {"Access-Control-Allow-Methods": "PUT", "Access-Control-Allow-Headers": "content-type, x-mine"}
        return 200, request_fields, f"{method} {content.decode()}".encode()

    return answer


@contextlib.contextmanager
def running(app: App, port: int | None = None) -> Iterator[int]:
    """The application on this port, or on one of its own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request_fields = {name.lower(): value for name, value in self.headers.items()}
            status, fields, body = app(self.command, self.path, content, request_fields)
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)
                if "event-stream" in fields.get("Content-Type", ""):
                    time.sleep(0.3)

        do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port or free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
