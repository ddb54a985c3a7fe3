"""A service that thinks it lives at `/`: every part of its page, its calls and its form are asked for at the root.

python rooted_app.py PORT
"""

from __future__ import annotations

import http.server
import json
import sys

PAGE = b"""<!doctype html><title>Rooted</title>
<link rel=stylesheet href=/static/app.css><script src=/static/app.js defer></script>
<script type=module src=/static/mod.js></script>
<img id=img src=/static/pixel.svg><p id=styled>styled</p>
<form method=post action=/login><input name=a value="b c"><button>Send</button></form>
<a id=about href=/about?x=1>About</a> <a id=jupyter href=/api/status>Jupyter</a> <a id=home href=/>Home</a>"""
APP = b"""
window.done = {};
const note = (name, promise) => promise.then(v => (done[name] = v), e => (done[name] = String(e)));
note('get', fetch('/api/contents?x=%2F').then(r => r.json()).then(r => r.path));
note('post', fetch('/api/kernels', { method: 'POST', body: 'x'.repeat(2000000) }).then(r => r.json()).then(r => r.length));
note('xhr', new Promise(ok => {
  const x = new XMLHttpRequest(); x.onload = () => ok(x.status); x.open('PUT', '/put'); x.send('1'); }));
note('sse', new Promise(ok => { const s = new EventSource('/events');
  s.onmessage = e => { s.close(); ok(e.data); }; s.onerror = () => { s.close(); ok('error'); }; }));
note('ws', new Promise(ok => { const w = new WebSocket(location.origin.replace('http', 'ws') + '/socket');
  w.onopen = () => ok('open'); w.onclose = () => ok('closed'); }));
note('worker', navigator.serviceWorker.register('/static/worker.js').then(r => r.scope));
"""
FILES = {
    "/": ("text/html", PAGE),
    "/about": ("text/html", b"<title>About</title>about us"),
    "/static/app.css": ("text/css", b"#styled { color: rgb(1, 2, 3); background: url(/static/back.svg) }"),
    "/static/app.js": ("text/javascript", APP),
    "/static/mod.js": ("text/javascript", b"import { value } from '/static/deep/dep.js'; window.imported = value;"),
    "/static/deep/dep.js": ("text/javascript", b"export const value = 42;"),
    "/static/worker.js": ("text/javascript", b"self.onfetch = () => {};"),
    **{
        f"/static/{name}.svg": ("image/svg+xml", b"<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'/>")
        for name in ("pixel", "back")
    },
}


class App(http.server.BaseHTTPRequestHandler):
    """Answers, and prints what it was asked for."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/events":
            self.answer("text/event-stream", b"data: an event\n\n")
        elif path in FILES:
            self.answer(*FILES[path])
        elif path.startswith("/api/"):
            self.answer("application/json", json.dumps({"path": self.path}).encode())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/login":
            self.answer("text/html", b"<title>In</title>the form said " + content)
        else:
            self.answer("application/json", json.dumps({"length": len(content)}).encode())

    do_PUT = do_POST

    def answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
