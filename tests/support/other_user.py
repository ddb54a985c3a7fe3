"""A process of another user of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

root = pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root can start a process of another user")
LISTEN = """
import os, socket
os.setgid(65534), os.setuid(65534)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    connection.settimeout(5)
    print(len(connection.recv(100)), flush=True)
"""


@contextlib.contextmanager
def another_users_server() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process of another user that listens, and prints how many bytes each connection brought."""
    with subprocess.Popen([sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()
