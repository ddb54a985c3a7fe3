"""Starts the programs of the matrix: an application by itself, and Jupyter servers that have it as a template.

An application is started by the same command everywhere; only its port and its prefix differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from jupyter_portproxy.services import templates as catalog

from ..support.jupyter_processes import Server, environment, jupyter_server
from ..support.upstreams import free_port
from .app import App

UP = 180.0  # s; some load for long the first time
_PROJECT = Path(__file__).resolve().parents[2]
_INCUMBENT = Path(sys.prefix, "incumbent")


def variables() -> dict[str, str]:
    """Additions to the environment of a server or an application: the programs of this Python come first."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


class Desk:
    """A home folder with every application's files in it."""

    def __init__(self, home: Path, apps: Sequence[App]) -> None:
        self.home = home
        self.root = home / "files"
        self.root.mkdir()
        for app in apps:
            for path, text in app.files.items():
                target = self.root / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            for path, folder in app.links.items():
                (self.root / path).symlink_to(_PROJECT / folder)
        templates = home / ".jupyter" / "jupyter_portproxy.d"
        templates.mkdir(parents=True)
        (templates / "apps.json").write_text(json.dumps({app.template: app.recipe for app in apps if app.recipe}))

    @contextlib.contextmanager
    def jupyter(self) -> Iterator[Server]:
        """A Jupyter server with this project's extension."""
        options = [f"--ServerApp.root_dir={self.root}", "--LabApp.expose_app_in_browser=True"]
        with jupyter_server(self.home, *options, more=variables()) as server:
            yield server

    @contextlib.contextmanager
    def incumbent(self) -> Iterator[Server]:
        """A Jupyter server with jupyter-server-proxy instead."""
        chosen = "--ServerApp.jpserver_extensions={'jupyter_portproxy': False, 'jupyter_server_proxy': True}"
        more = {**variables(), "PYTHONPATH": os.pathsep.join([str(_INCUMBENT), os.environ.get("PYTHONPATH", "")])}
        with jupyter_server(self.home, f"--ServerApp.root_dir={self.root}", chosen, more=more) as server:
            yield server

    @contextlib.contextmanager
    def program(self, app: App, prefix: str = "") -> Iterator[int]:
        """The application by itself; its port. In `prefix`, {port} stands for the port.

        Raises:
            RuntimeError: it does not come up; with the end of its log.
        """
        plain = not prefix or self._template(app).unix_socket  # jupyter-server-proxy's `proxy/N/` leads to ports alone
        port, template = free_port(), self._template(app, app.directly if plain else {})
        below = prefix.replace("{port}", str(port))
        values = {**template.fill_in(app.arguments), "port": str(port), "prefix": below, "name": app.name, "base_url": "/"}
        command, more, cwd = template.expand({**values, "unix_socket": ""})
        guarded = [
            sys.executable,
            "-I",
            "-S",
            str(_PROJECT / "jupyter_portproxy" / "services" / "guard.py"),
            "5",
            str(port),
            *command,
        ]
        described = environment(self.home, {**variables(), **more})
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(guarded, cwd=self.root / cwd, env=described, stdin=subprocess.PIPE, stdout=log, stderr=log)
            assert process.stdin is not None
            try:
                if not _answers(process, port):
                    log.seek(0)
                    raise RuntimeError(f"{app.name} did not come up: {log.read()[-500:].decode(errors='replace')}")
                yield port
            finally:
                process.stdin.close()  # the guard exits when nothing is left; until then Vite refuses a second process
                process.wait()

    def keeps_prefix(self, app: App) -> bool:
        return self._template(app).keep_prefix

    def _template(self, app: App, more: Mapping[str, object] = types.MappingProxyType({})) -> catalog.Template:
        recipe = app.recipe or catalog.shipped()[app.template]
        assert isinstance(recipe, Mapping)
        return catalog.load(app.template, {**recipe, **more})


def start(server: Server, app: App) -> None:
    """Start it as a service of its own name, and wait until it is up.

    Raises:
        RuntimeError: it did not; with what the server says of it.
    """
    body = {"template": app.template, "name": app.name, "arguments": dict(app.arguments)}
    status, text = server.call("POST", "proxy/api/services", body)
    until = time.monotonic() + UP
    while status in (200, 201) and time.monotonic() < until:
        state = json.loads(text)["state"]
        if state == "up":
            return
        if state in ("failed", "down"):
            break
        time.sleep(0.2)
        status, text = server.get(f"proxy/api/services/{app.name}")
    raise RuntimeError(f"{app.name} did not come up: {text[-800:]}")


def stop(server: Server, app: App) -> None:
    server.call("DELETE", f"proxy/api/services/{app.name}")


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + UP
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
        except urllib.error.HTTPError:
            return True  # a 404 is an answer, too
        except OSError:
            time.sleep(0.2)
        else:
            return True
    return False
