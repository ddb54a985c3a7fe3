"""No page in Chromium opens raw TCP, neither Jupyter's own nor one of another origin. A program with the token does."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_server

import pytest
from websockets.sync.client import connect
from websockets.sync.server import serve

from ..support.jupyter_processes import TOKEN
from ..support.upstreams import free_port
from .conftest import log_in

# How the WebSocket of a page ends: true if it opened.
OPENS = """([url, protocols]) => new Promise(resolve => {
  const socket = new WebSocket(url, protocols);
  socket.onopen = () => { socket.send(new Uint8Array([1])); resolve(true); };
  socket.onerror = () => resolve(false);
})"""
SUBPROTOCOLS = ["v1.token.websocket.jupyter.org", f"v1.token.websocket.jupyter.org.{TOKEN}"]


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A port, and what has arrived there in each connection."""
    port, received = free_port(), []
    with create_server(("127.0.0.1", port)) as server:

        def accept() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    data = connection.recv(1 << 16)
                    if b"User-Agent: jupyter_portproxy" not in data:  # the panel's look at the port
                        received.append(data)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield port, received


@pytest.fixture
def other_origin():
    """The URL of a page of another origin."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def addresses(server: str, port: int) -> list[tuple[str, list[str]]]:
    """URLs and subprotocols of attempts: by the cookie, by the token in the URL, by the token as a subprotocol."""
    url = f"{server.replace('http', 'ws', 1)}proxy/tcp/{port}"
    return [(url, []), (f"{url}?token={TOKEN}", []), (url, SUBPROTOCOLS), (f"{url}/", ["binary"])]


@pytest.mark.parametrize("where", ["jupyter", "other", "sandboxed"])
def test_no_page_opens_raw_tcp(chromium, server, other_origin, where):
    context = chromium.new_context()
    log_in(context, server)
    page = context.new_page()
    with listening() as (port, received):
        page.goto(other_origin if where == "other" else f"{server}lab", wait_until="commit")
        frame = page.main_frame
        if where == "sandboxed":
            page.evaluate("""() => { const frame = document.createElement('iframe');
                frame.sandbox = 'allow-scripts'; document.body.append(frame); }""")
            frame = page.frames[-1]
        for url, protocols in addresses(server, port):
            assert frame.evaluate(OPENS, [url, protocols]) is False, (where, url)
        assert received == []
        fields = {"Authorization": f"token {TOKEN}"}
        with connect(addresses(server, port)[0][0], additional_headers=fields) as link:
            link.send(b"a program")
            assert link.recv(10) == b""  # the end of the service's stream
        assert received == [b"a program"]
    context.close()


def test_the_same_page_opens_an_ordinary_websocket_by_its_cookie(chromium, server):
    """So the refusals above are not those of a browser that is not logged in."""
    context = chromium.new_context()
    log_in(context, server)
    page = context.new_page()
    page.goto(f"{server}lab", wait_until="commit")  # whose Content-Security-Policy allows WebSockets
    seen = []

    def talk(connection) -> None:
        seen.append((connection.request.path, connection.recv(10)))

    with serve(talk, "127.0.0.1", free_port()) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        port = service.socket.getsockname()[1]
        assert page.evaluate(OPENS, [f"{server.replace('http', 'ws', 1)}proxy/port/{port}/ws", []]) is True
        page.wait_for_timeout(200)
        context.close()
    assert seen == [("/ws", b"\1")]
