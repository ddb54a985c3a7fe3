"""Standard input and output as one end of a connection, for `forward --stdio`.

Pipes, terminals, files and /dev/null cannot all be read by an event loop. Two threads copy between them and one half of a pair of
sockets; the other half is the stream. The end of the input ends that direction alone. At the end of the server's stream standard
output is closed, and a terminal is not read any further.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading

_PIECE = 1 << 16
_INPUT, _OUTPUT = 0, 1


class StandardStreams:
    """Copies from the construction on. `far` is the end for the tunnel."""

    def __init__(self) -> None:
        self._near, self.far = socket.socketpair()
        self._loop, self._written = asyncio.get_running_loop(), asyncio.Event()
        # Threads that end with the process: a read of standard input cannot be interrupted.
        threading.Thread(target=self._read_input, name="portproxy stdin", daemon=True).start()
        threading.Thread(target=self._write_output, name="portproxy stdout", daemon=True).start()

    async def wait_written(self) -> None:
        """Wait until standard output has all of the server's stream, or is closed."""
        await self._written.wait()

    def _read_input(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(_INPUT, _PIECE):
                self._near.sendall(data)
            self._near.shutdown(socket.SHUT_WR)

    def _write_output(self) -> None:
        try:
            while data := self._near.recv(_PIECE):
                self._write(data)
            if os.isatty(_INPUT):
                self._near.shutdown(socket.SHUT_WR)
        except OSError:  # the reader of a pipe has gone
            with contextlib.suppress(OSError):
                self._near.shutdown(socket.SHUT_RDWR)
        finally:
            self._close_output()
            with contextlib.suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._written.set)

    def _close_output(self) -> None:
        """The reader of a pipe sees the end. The number stays in use, so that no other file gets it."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, _OUTPUT)
        os.close(null)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(_OUTPUT, view) :]
