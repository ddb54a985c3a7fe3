"""An HTTP proxy for CONNECT, of real sockets, that keeps what it is sent in the clear."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class ConnectProxy:
    """`heads` are the heads of all requests so far, `passed` the bytes that clients have sent through tunnels."""

    url: str
    heads: list[str] = field(default_factory=list)
    passed: bytearray = field(default_factory=bytearray)


@contextlib.contextmanager
def connect_proxy(upstream: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Iterator[ConnectProxy]:
    """A proxy that reaches every host at this port of loopback, or refuses with another answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = ConnectProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
        accepting = threading.Thread(target=_accept, args=(listener, proxy, upstream, answer))
        accepting.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(listener: socket.socket, proxy: ConnectProxy, upstream: int, answer: bytes) -> None:
    serving = []
    with contextlib.suppress(OSError):
        while True:
            serving.append(threading.Thread(target=_serve, args=(listener.accept()[0], proxy, upstream, answer)))
            serving[-1].start()
    for each in serving:
        each.join()


def _serve(client: socket.socket, proxy: ConnectProxy, upstream: int, answer: bytes) -> None:
    with client, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head and (data := client.recv(4096)):
            head += data
        proxy.heads.append(head.decode("latin-1"))
        client.sendall(answer)
        if not head.startswith(b"CONNECT ") or b" 200 " not in answer.partition(b"\r\n")[0]:
            return
        with socket.create_connection(("127.0.0.1", upstream)) as server:
            back = threading.Thread(target=_relay, args=(server, client))
            back.start()
            _relay(client, server, proxy.passed)
            back.join()


def _relay(source: socket.socket, sink: socket.socket, kept: bytearray | None = None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept += data
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
