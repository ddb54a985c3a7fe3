"""The load for CPU figures: clients and service in one epoll loop, which costs far less than any server between them. Linux only.

The load generator always waits for the server, never the reverse. Waking the other side costs a server some 30 us where that is
an interrupt of another core. A generator about as fast as the server would be awake for one response and asleep for the next,
and a slightly slower server would seem much slower.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable
from functools import partial

ANSWER = b"x" * 1024
_WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)
_END = b"\r\n\r\n"
_SECONDS = 30.0


class Lean:
    """A service on a loopback port, and clients that ask servers for it. All in one thread; `load` blocks."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._epoll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._watched: dict[int, tuple[socket.socket, Callable[[], None]]] = {}
        self._watch(self._listener, self._accept)

    def close(self) -> None:
        for sock, _ in [*self._watched.values()]:
            self._forget(sock)
        self._epoll.close()

    def load(self, port: int, request: bytes, total: int, connections: int) -> list[float]:
        """So many requests to a server over so many connections; the seconds that each took.

        Raises:
            RuntimeError: an answer is not 200 with the service's content, or none comes.
        """
        taken: list[float] = []

        def hear(client: _Client) -> None:
            if client.has_answer():
                taken.append(time.perf_counter() - client.since)
                if len(taken) + connections <= total:  # all others are under way
                    client.ask()

        clients = [_Client(port, request) for _ in range(connections)]
        for client in clients:
            self._watch(client.sock, partial(hear, client))
            client.ask()
        while len(taken) < total:
            events = self._epoll.poll(_SECONDS)
            if not events:
                raise RuntimeError(f"no answer within {_SECONDS:g} s")
            for number, _ in events:
                self._watched[number][1]()
        for client in clients:
            self._forget(client.sock)
        return taken

    def _watch(self, sock: socket.socket, ready: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._watched[sock.fileno()] = (sock, ready)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _forget(self, sock: socket.socket) -> None:
        self._epoll.unregister(sock.fileno())
        del self._watched[sock.fileno()]
        sock.close()

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(sock, partial(self._serve, sock))

    def _serve(self, sock: socket.socket) -> None:
        request = sock.recv(65536)
        if not request:
            self._forget(sock)
        elif request.endswith(_END):
            sock.sendall(_WHOLE)
        else:
            raise RuntimeError("a request came in two pieces: this service is for small ones")


class _Client:
    """One connection; one request at a time."""

    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since = 0.0
        self._request, self._got = request, b""

    def ask(self) -> None:
        self.since = time.perf_counter()
        self.sock.sendall(self._request)

    def has_answer(self) -> bool:
        """Read what there is; True once the answer is whole."""
        piece = self.sock.recv(65536)
        self._got += piece
        head, end, content = self._got.partition(_END)
        if not piece or (end and not head.startswith(b"HTTP/1.1 200 ")) or not ANSWER.startswith(content):
            raise RuntimeError(f"this is not the answer: {self._got[:200]!r}")
        if len(content) < len(ANSWER):
            return False
        self._got = b""
        return True
