"""`jupyter portproxy forward` in a process of its own, and services that speak TCP without HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from . import preloaded
from .jupyter_processes import environment
from .upstreams import free_port

COMMAND = [sys.executable, "-m", "jupyter_portproxy.cli.main"]


class Forwarding:
    """A running command. `ports` are those of this machine, in the order of the arguments; `messages` is standard error."""

    def __init__(self, home: Path, arguments: tuple[str, ...], more: Mapping[str, str] | None, count: int) -> None:
        self._output, output = _pipe()
        self._errors, errors = _pipe()
        with output, errors:
            self.process = preloaded.start(
                "jupyter_portproxy.cli.main",
                arguments,
                env=environment(home, more),
                cwd=home,
                stdout=output.fileno(),
                stderr=errors.fileno(),
            )
        self.messages, self.rows = "", list[dict[str, object]]()
        self._reader = threading.Thread(target=self._read_errors)
        self._reader.start()
        for _ in range(count):
            line = self._output.readline()
            assert line, self._end()
            self.rows.append(json.loads(line))

    @property
    def ports(self) -> list[int]:
        return [int(str(row["port"])) for row in self.rows]

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.ports[0]), timeout)

    def wait_for(self, text: str, seconds: float = 30) -> None:
        """Until standard error has this text."""
        end = time.monotonic() + seconds
        while text not in self.messages:
            assert time.monotonic() < end and self._reader.is_alive(), self.messages
            time.sleep(0.01)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = 20) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def close(self) -> None:
        for pipe in (self._output, self._errors):
            pipe.close()

    def _read_errors(self) -> None:
        for line in self._errors:
            self.messages += line

    def _end(self) -> str:
        self.process.kill()
        self.wait()
        return self.messages


def _pipe() -> tuple[IO[str], IO[str]]:
    """What is written into the second is read from the first."""
    read, write = os.pipe()
    return os.fdopen(read), os.fdopen(write, "w")


@contextlib.contextmanager
def forwarding(
    home: Path, *forwards: str, options: Sequence[str] = (), more: Mapping[str, str] | None = None
) -> Iterator[Forwarding]:
    """Runs `forward --json OPTIONS FORWARDS`, which has printed its lines. It must end without a traceback or a warning."""
    running = Forwarding(home, ("forward", "--json", *options, *forwards), more, len(forwards))
    try:
        yield running
        if running.process.poll() is None:
            assert running.end() == 0, running.messages
        for word in ("Traceback", "Warning", "was never", "pending"):
            assert word not in running.messages, running.messages
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.wait()
        running.close()


@contextlib.contextmanager
def service(serve: Callable[[socket.socket], object], port: int | None = None, path: Path | None = None) -> Iterator[int]:
    """A service whose connections are served by a function, each in a thread; its port, or 0 for a Unix socket at `path`."""
    if path is not None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(1024)
    else:
        listener = socket.create_server(("127.0.0.1", port or free_port()), backlog=1024)
    open_: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()

    def run(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            serve(sock)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                open_.put(sock)
                threading.Thread(target=run, args=[sock], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1] if path is None else 0
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        while not open_.empty():
            with contextlib.suppress(OSError):
                open_.get().shutdown(socket.SHUT_RDWR)


def echo(sock: socket.socket) -> None:
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def count(sock: socket.socket) -> None:
    """Read to the end, and only then say how much it was."""
    size = 0
    while data := sock.recv(1 << 16):
        size += len(data)
    sock.sendall(b"%d" % size)


def say_and_hear(sock: socket.socket) -> None:
    """End its own direction first, and then read the other to its end, and reset the connection if that is not `all`."""
    sock.sendall(b"greeting")
    sock.shutdown(socket.SHUT_WR)
    if read_all(sock) != b"all":
        reset(sock)


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(1 << 16):
        data += piece
    return data


def is_reset(sock: socket.socket) -> bool:
    """True if the connection was reset, False if it has ended."""
    try:
        return read_all(sock) is None
    except ConnectionResetError:
        return True
