"""The program of `make run`: a small web service on an allowed port, and JupyterLab with the extension.

The service has a page with relative links, an event stream, a WebSocket and an upload, which all pass the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

from tornado.iostream import StreamClosedError
from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8"><title>Demonstration service</title>
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <style>
    :root { color-scheme: light dark; }
    body { font: 16px/1.6 system-ui, sans-serif; margin: 8vh auto; max-width: 40rem; padding: 0 1rem; }
    dt { font-weight: 600; } dd { margin: 0 0 1rem; } output { font-family: monospace; }
  </style>
</head>
<body>
  <h1>It works</h1>
  <p>This page comes from a web server on port <strong id="port">{{ port }}</strong> of the machine that runs Jupyter.</p>
  <dl>
    <dt>Event stream</dt><dd><output id="events">waiting</output></dd>
    <dt>WebSocket</dt><dd><output id="socket">waiting</output></dd>
    <dt><label for="file">Upload</label></dt><dd><input type="file" id="file"> <output id="upload"></output></dd>
  </dl>
  <script>
    const show = (id, text) => { document.getElementById(id).textContent = text; };
    // Below /USER/PROJECT/ the address of a service has its port in the query.
    new EventSource("events" + location.search).onmessage = event => show("events", event.data);
    const socket = new WebSocket(new URL("socket" + location.search, location.href.replace(/^http/, "ws")));
    socket.onopen = () => socket.send("hello");
    socket.onmessage = event => show("socket", `the service echoed: ${event.data}`);
    socket.onclose = event => show("socket", `closed (${event.code})`);
    document.getElementById("file").onchange = async event => {
      const answer = await fetch("upload" + location.search, { method: "PUT", body: event.target.files[0] });
      show("upload", await answer.text());
    };
  </script>
</body>
</html>
"""


class Page(RequestHandler):
    def get(self) -> None:
        self.write(PAGE.replace("{{ port }}", str(self.settings["port"])))


class Events(RequestHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        with contextlib.suppress(StreamClosedError):  # the client has closed the stream
            while True:
                self.write(f"data: it is {time.strftime('%H:%M:%S')}\n\n")
                await self.flush()
                await asyncio.sleep(1)


class Socket(WebSocketHandler):
    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message)


@stream_request_body
class Upload(RequestHandler):
    size = 0

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)

    def put(self) -> None:
        self.write(f"{self.size} bytes arrived")


def free_port(first: int) -> int:
    """The first free port from `first` on."""
    for port in range(first, first + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise SystemExit(f"No free port from {first} to {first + 99}.")


def start_lab(port: int, token: str) -> subprocess.Popen[bytes]:
    """Start JupyterLab in a separate session: Ctrl-C reaches only this program, which then stops JupyterLab."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.append("--allow-root")
    environment = {**os.environ, "JUPYTER_TOKEN": token}
    return subprocess.Popen(command, env=environment, start_new_session=True)


async def main() -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service_port, lab_port = free_port(15000), free_port(8888)
    routes = [("/", Page), ("/events", Events), ("/socket", Socket), ("/upload", Upload)]
    server = Application(routes, port=service_port).listen(service_port, "127.0.0.1", max_body_size=1 << 40)
    token = secrets.token_hex(16)
    lab = start_lab(lab_port, token)
    ended = loop.run_in_executor(None, lab.wait)
    try:
        await announce(lab_port, service_port, token, ended)
        await asyncio.wait([asyncio.ensure_future(stop.wait()), ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        server.stop()
        if lab.poll() is None:
            lab.terminate()
        code = await ended
    print("Stopped.", flush=True)
    return 0 if stop.is_set() else code


async def wait_for_server(port: int, ended: asyncio.Future[int]) -> None:
    """Return when the server accepts connections, or has ended."""
    while not ended.done():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.1)


async def announce(lab_port: int, service_port: int, token: str, ended: asyncio.Future[int]) -> None:
    """Print the addresses once the server answers."""
    await wait_for_server(lab_port, ended)
    base = f"http://127.0.0.1:{lab_port}"
    print(f"\n    JupyterLab:   {base}/lab?token={token}", flush=True)
    print(f"    The service:  {base}/proxy/enter/{service_port}/?token={token}", flush=True)
    print(f"    Path-based:   {base}/proxy/port/{service_port}/?token={token}", flush=True)
    print("    Ctrl-C stops both.\n", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
