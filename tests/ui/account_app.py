"""A service with a login by cookies, a WebSocket, an upload and a download, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tornado.web import Application, RequestHandler
from tornado.websocket import WebSocketHandler

from ..support.upstreams import free_port

PAGE = """<!DOCTYPE html><title>Account</title><h1>Account</h1>
<p>Cookies: <output id=cookies>COOKIES</output></p>
<form method=post action=login><button>Log in</button></form>
<p>WebSocket: <output id=text>-</output>, <output id=bytes>-</output></p>
<p><input type=file id=file> <output id=upload>-</output></p>
<p><a id=save href=saved.bin download>Save</a></p>
<script>
const show = (id, text) => { document.getElementById(id).textContent = text; };
const socket = new WebSocket(new URL("socket", location.href.replace(/^http/, "ws")));
socket.binaryType = "arraybuffer";
socket.onopen = () => { socket.send("hello"); socket.send(new Uint8Array(100000).fill(7)); };
socket.onmessage = ({ data }) => typeof data === "string" ? show("text", `echo: ${data}`)
  : show("bytes", `${new Uint8Array(data).filter(value => value === 7).length} bytes`);
document.getElementById("file").onchange = async event => {
  show("upload", await (await fetch("upload", { method: "PUT", body: event.target.files[0] })).text());
};
</script>"""


@dataclass
class Account:
    """The running service: its port, the content of its download, and what was uploaded to it."""

    port: int
    content: bytes
    uploads: list[bytes] = field(default_factory=list)


class Page(RequestHandler):
    """Shows which of its two login cookies the browser has sent."""

    def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        names = sorted({"lax_login", "secure_login"} & set(self.cookies))
        self.write(PAGE.replace("COOKIES", " ".join(names) or "none"))


class Login(RequestHandler):
    def post(self) -> None:
        self.set_header("Set-Cookie", "secure_login=1; Path=/; Secure; SameSite=None; Partitioned; HttpOnly")
        self.add_header("Set-Cookie", "lax_login=1; Path=/; SameSite=Lax; HttpOnly")
        self.redirect("./", status=303)


class Socket(WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


class Upload(RequestHandler):
    def put(self) -> None:
        self.application.settings["account"].uploads.append(self.request.body)
        self.write(f"{len(self.request.body)} bytes arrived")


class Saved(RequestHandler):
    def get(self) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.write(self.application.settings["account"].content)


@contextlib.contextmanager
def account() -> Iterator[Account]:
    """The service until the end of the block."""
    running = Account(free_port(), random.Random(20).randbytes(4_000_000))
    routes = [("/", Page), ("/login", Login), ("/socket", Socket), ("/upload", Upload), ("/saved.bin", Saved)]
    loop, begun, end = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve() -> None:
        server = Application(routes, account=running).listen(running.port, "127.0.0.1")
        begun.set()
        await end.wait()
        server.stop()
        await server.close_all_connections()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.close()))
    thread.start()
    begun.wait(10)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
