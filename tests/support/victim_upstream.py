"""An upstream in a process of its own, to be killed or stopped at a chosen point: `python victim.py PORT POINT PAUSE`.

It prints "up" once it listens and "there" once it has reached the point, waits PAUSE seconds there, and then continues. It uses
blocking sockets and serves one connection after the other.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from collections.abc import Callable

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"
CONTENT = hashlib.sha512(b"victim").digest() * 16
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"


def _until(enough: Callable[[bytes], bool], connection: socket.socket, data: bytes = b"") -> bytes:
    while not enough(data):
        data += connection.recv(65536)
    return data


def main(port: int, point: str, pause: float) -> None:
    def stand_at(here: str) -> None:
        if here == point:
            print("there", flush=True)
            time.sleep(pause)

    listener = socket.create_server(("127.0.0.1", port))
    print("up", flush=True)
    stand_at("listening")
    while True:
        connection, _ = listener.accept()
        came = _until(lambda data: b"\r\n\r\n" in data, connection)
        stand_at("accepted")
        if point == "upload":
            content = _until(lambda data: len(data) >= 1000, connection, came.partition(b"\r\n\r\n")[2])
            stand_at("upload")
            _until(lambda data: len(data) == 2000, connection, content)
            connection.sendall(HEAD + CONTENT[:1000])
        elif point == "tunnel":
            connection.sendall(SWITCHING)
            stand_at("tunnel")
            while data := connection.recv(65536):
                connection.sendall(data)
        else:
            connection.sendall(HEAD[:30])
            stand_at("head")
            connection.sendall(HEAD[30:] + CONTENT[:500])
            stand_at("content")
            connection.sendall(CONTENT[500:1000])
        connection.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
