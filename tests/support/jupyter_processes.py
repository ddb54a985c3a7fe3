"""Jupyter servers in processes of their own, for what a server in the test's process cannot show."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .preloaded import Process, run, start
from .upstreams import free_port

TOKEN = "a-token-of-the-tests"
# An argument for servers that need neither Lab nor Notebook: it takes a third of their start.
_OTHERS = dict.fromkeys(["jupyterlab", "notebook", "notebook_shim", "jupyter_lsp", "jupyter_server_terminals"], False)
WITHOUT_LAB = f"--ServerApp.jpserver_extensions={_OTHERS}"


@dataclass
class Server:
    """A running server: `url` ends with a slash, `log` is what it has said so far."""

    url: str
    process: Process | subprocess.Popen[bytes]
    _log: Path

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.is_file() else ""

    def get(self, path: str) -> tuple[int, str]:
        return self.call("GET", path)

    def call(self, method: str, path: str, body: object = None, token: str = TOKEN) -> tuple[int, str]:
        """Status and content of a path below the base URL, asked for with a token."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", content, {"Authorization": f"token {token}"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with another home and without its Jupyter settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    return {**kept, "HOME": str(home), "JUPYTER_TOKEN": TOKEN, "JUPYTER_PLATFORM_DIRS": "0", **(more or {})}


def debugged(home: Path) -> list[str]:
    """Arguments for `jupyter_server` that load debug_extension.py."""
    folder = home / ".jupyter" / "jupyter_server_config.d"
    folder.mkdir(parents=True, exist_ok=True)
    extensions = {"ServerApp": {"jpserver_extensions": {"tests.support.debug_extension": True}}}
    (folder / "debug.json").write_text(json.dumps(extensions))
    config = home / "debug_config.py"
    config.write_text(f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n")
    return [f"--config={config}"]


@contextlib.contextmanager
def jupyter_server(
    home: Path,
    *arguments: str,
    more: Mapping[str, str] | None = None,
    base: str = "/",
    port: int = 0,
    certificate: Path | None = None,
    python: Path | str = sys.executable,
    module: str = "jupyter_server",
    preloaded: bool = True,
) -> Iterator[Server]:
    """Runs `jupyter server` until the end of the block; `more` are further variables, `base` its base URL, `python` runs it.

    `module` is another application's: "jupyterlab", for one. With `preloaded=False` it imports all by itself: where its cost is
    measured.

    With a certificate (a PEM file that has its key, too) it speaks https as `localhost`.
    """
    port, log = port or free_port(range(21000, 29000)), home / "server.log"
    options = ["--no-browser", "--allow-root", f"--ServerApp.port={port}", f"--ServerApp.base_url={base}"]
    if certificate is not None:
        options += [f"--ServerApp.certfile={certificate}", f"--ServerApp.keyfile={certificate}"]
    origin = f"https://localhost:{port}" if certificate is not None else f"http://127.0.0.1:{port}"
    variables = environment(home, more)
    process: Process | subprocess.Popen[bytes]
    with log.open("w") as output:
        if preloaded and python == sys.executable:
            process = start(module, [*options, *arguments], env=variables, cwd=home, stderr=output.fileno())
        else:
            command = [str(python), "-m", module, *options, *arguments]
            process = subprocess.Popen(command, env=variables, cwd=home, stderr=output)
    server = Server(f"{origin}{base}", process, log)
    try:
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # jupyter-server-proxy, where it is enabled, takes SIGTERM for itself
            process.kill()
            process.wait()


def _wait_for(server: Server) -> None:
    until, anybody = time.monotonic() + 60, ssl._create_unverified_context()
    while True:
        try:
            urllib.request.urlopen(f"{server.url}api", timeout=1, context=anybody).close()
            return
        except OSError:
            assert time.monotonic() < until and server.process.poll() is None, server.log
            time.sleep(0.1)


def portproxy(home: Path, *arguments: str, more: Mapping[str, str] | None = None, given: str = "") -> tuple[int, str, str]:
    """Runs `jupyter portproxy ...`; returns exit code, output and errors."""
    done = run("jupyter_portproxy.cli.main", arguments, env=environment(home, more), cwd=home, given=given)
    return done.returncode, done.stdout, done.stderr
