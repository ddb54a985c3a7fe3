"""HTTP services of other users of this machine: `serve_as(uid)`. Needs root, or the uid of this process."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .upstreams import free_port

# Echoes the bytes of a WebSocket after the handshake, and answers any other request with the uid and the request target.
_SERVICE = """
import os, socket, ssl, sys, threading
port, uid, certificate, head = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], b""
context = None
if certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
if uid != os.getuid():
    os.setgroups([]), os.setgid(uid), os.setuid(uid)

def report(line):
    os.write(1, f"{line}\\n".encode())  # in one piece: threads report at once

def serve(connection):
    try:
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        while True:
            head = b""
            while b"\\r\\n\\r\\n" not in head:
                more = connection.recv(65536)
                if not more:
                    report(len(head))
                    return
                head += more
            report("request")
            if b"upgrade: websocket" in head.lower():
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n")
                while data := connection.recv(65536):
                    connection.sendall(data)
                return
            body = b"%d %s" % (os.getuid(), head.split(b" ")[1])
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    except OSError:
        report(0)

listener = socket.create_server(("127.0.0.1", port))
report("up")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""


class UserService:
    """A running service; `lines` are what it has seen: "request", or the bytes that came on a connection without one."""

    def __init__(self, port: int, process: subprocess.Popen[str]) -> None:
        self.port, self.process = port, process

    def end(self) -> list[str]:
        """End it; the lines that it has printed."""
        self.process.kill()
        assert self.process.stdout is not None
        return self.process.stdout.read().split()


@contextlib.contextmanager
def serve_as(uid: int, port: int = 0, certificate: Path | None = None) -> Iterator[UserService]:
    """A service of that user on 127.0.0.1; with a certificate (PEM, with its key) it speaks https."""
    port = port or free_port()
    command = [sys.executable, "-c", _SERVICE, str(port), str(uid), str(certificate or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        try:
            yield UserService(port, process)
        finally:
            process.kill()
