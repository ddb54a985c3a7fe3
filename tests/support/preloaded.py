"""Runs modules without importing what they need each time: a process that has imported it forks.

What is started is a process of its own, with the arguments, variables, folder and files that `python -m MODULE` would have. Two
things differ: its parent, and its command line in /proc, are those of the process that forks. This is for Linux; elsewhere
it is `python -m`.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

# What each module imports, and more: its process begins with it. Not `jupyterlab.labapp`, whose classes have paths of the home.
IMPORTED = {
    "jupyter_server": (
        "jupyter_portproxy.app",
        "jupyter_lsp",
        "jupyter_server_terminals.app",
        "jupyterlab.commands",
        "jupyterlab.extensions",
        "jupyterlab_server",
    ),
    "jupyter_portproxy.cli.main": (
        "jupyter_portproxy.cli.projects",
        "jupyter_portproxy.cli.running_servers",
        "jupyter_portproxy.cli.server_choice",
        "jupyter_portproxy.projects.placement.admin",
        "jupyter_portproxy.projects.placement.sqlite",
    ),
}


class Process:
    """A process that was forked; as `subprocess.Popen`, as far as the tests use that."""

    def __init__(self, args: list[str], status: socket.socket) -> None:
        self.args, self._status = args, status
        self.pid = int(status.recv(32))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                self.returncode = int(self._status.recv(32))
            except (TimeoutError, BlockingIOError):
                return None
            self._status.close()
        return self.returncode


def start(
    module: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
) -> Process | subprocess.Popen[bytes]:
    """Run a module, with these descriptors; default: those of this process."""
    args = [sys.executable, "-m", module, *arguments]
    if sys.platform != "linux" or module not in IMPORTED:
        return subprocess.Popen(args, env=env, cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr)
    forks = _forks(os.getpid(), module, tuple((name, value) for name, value in env.items() if name.startswith("PYTHON")))
    status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs, open(os.devnull, "r+b") as null:
        files = [null.fileno() if file == subprocess.DEVNULL else number if file is None else file
                 for number, file in enumerate((stdin, stdout, stderr))]  # fmt: skip
        request = json.dumps([module, list(arguments), dict(env), str(cwd)]).encode()
        socket.send_fds(forks, [request], [*files, theirs.fileno()])
    return Process(args, status)


def run(
    module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, given: str = "", timeout: float = 40
) -> subprocess.CompletedProcess[str]:
    """Run a module to its end, with this standard input."""
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        stdin.write(given)
        stdin.seek(0)
        files = {"stdin": stdin.fileno(), "stdout": stdout.fileno(), "stderr": stderr.fileno()}
        process = start(module, arguments, env=env, cwd=cwd, **files)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        for file in (stdout, stderr):
            file.seek(0)
        return subprocess.CompletedProcess(process.args, code, stdout.read(), stderr.read())


@functools.cache
def _forks(_: int, module: str, variables: tuple[tuple[str, str], ...]) -> socket.socket:
    """The connection to a process that forks; it ends with this one. The interpreter of that process has these variables."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        others = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JUPYTER"))}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, module, str(theirs.fileno())],
            env={**others, **dict(variables), "JUPYTER_PLATFORM_DIRS": "0", "HOME": "/nonexistent"},
            cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
        )  # fmt: skip
    atexit.register(_close, ours, process)
    return ours


def _close(requests: socket.socket, process: subprocess.Popen[bytes]) -> None:
    requests.close()
    process.wait()


def _serve(requests: socket.socket) -> tuple[str, list[str], dict[str, str], str] | None:
    """Fork for each request, and report how each child ends. Returns in a child, what it is to run; None: no more requests."""
    children: dict[int, socket.socket] = {}
    ended, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            ready = [key.fd for key, _ in selector.select()]
            if ended in ready:
                os.read(ended, 4096)
                for pid, status in list(children.items()):
                    done, code = os.waitpid(pid, os.WNOHANG)
                    if done:
                        status.send(b"%d" % os.waitstatus_to_exitcode(code))
                        children.pop(pid).close()
            if requests.fileno() not in ready:
                continue
            text, files, _, _ = socket.recv_fds(requests, 1 << 20, 4)
            if not text:
                return None
            if (pid := os.fork()) == 0:
                break
            children[pid] = socket.socket(fileno=files.pop())
            children[pid].send(b"%d" % pid)
            for file in files:
                os.close(file)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for each in (requests, *children.values()):
        each.close()
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in (ended, wake, *files):
        os.close(file)
    module, arguments, variables, folder = json.loads(text)
    return module, arguments, variables, folder


def _main() -> None:
    for name in IMPORTED[sys.argv[1]]:
        importlib.import_module(name)
    assert threading.active_count() == 1
    gc.freeze()
    request = _serve(socket.socket(fileno=int(sys.argv[2])))
    if request is None:
        return
    module, arguments, variables, folder = request
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv[1:] = arguments
    sys.path[0] = folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    for number, (stream, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        before, buffering = getattr(sys, stream), 1 if stream == "stderr" or os.isatty(number) else -1
        opened = os.fdopen(number, mode, buffering, encoding=before.encoding, errors=before.errors, closefd=False)
        setattr(sys, stream, opened)
        setattr(sys, f"__{stream}__", opened)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
