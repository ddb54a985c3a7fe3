"""An environment for the documentation's commands: a home, a running server, and stand-ins for programs that are not installed.

A command of the documentation either runs for real, or a stand-in on PATH checks what it can of it and refuses the rest. Nothing
is downloaded; installations go into an environment of their own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from jupyter_portproxy.services.templates import shipped

from .fresh_environment import OURS, ROOT, Fresh
from .jupyter_processes import TOKEN, Server, environment, jupyter_server
from .upstreams import free_port

ELSEWHERE = "https://hub.example.org/user/ada/"  # of the examples: it is the server that runs here, and takes the same token
__all__ = ["ROOT", "Desk", "desk"]
PROGRAMS = ("streamlit", "mlflow", "tensorboard", "flask", "panel", "bokeh", "voila", "marimo", "shiny", "code-server", "npx")
TEMPLATES = {"docs": {"command": ["python", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "{folder}", "{port}"],
                      "arguments": [{"name": "folder", "default": "docs", "kind": "path"}]}}  # fmt: skip

# Listens where its options or its environment say. In a shell of the documentation it goes to the background, as in a terminal of
# its own. Imported, it is an application of Flask's.
SERVE = """
import http.server, os, re, socketserver, sys
if __name__ == "__main__":
    options = dict(zip(sys.argv, sys.argv[1:])) | dict(re.findall(r"(--[\\w.]+)=(.+)", "\\n".join(sys.argv)))
    told = [options.get("--port"), options.get("--server.port"), os.environ.get("GRADIO_SERVER_PORT"), os.environ.get("PORT")]
    told.append(sys.argv[-1])
    if path := options.get("--socket"):
        class Handler(http.server.SimpleHTTPRequestHandler):
            def address_string(self):
                return "a socket"
        server = socketserver.ThreadingUnixStreamServer(path, Handler)
    else:
        place = ("127.0.0.1", int(next(filter(None, told))))
        server = http.server.ThreadingHTTPServer(place, http.server.SimpleHTTPRequestHandler)
    if "DOCS_SHELL" in os.environ:
        if os.fork():
            os._exit(0)
        os.setsid()
        with open(os.environ["DOCS_SHELL"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        null = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(null, number)
    server.serve_forever()
else:
    from flask import Flask
    app = Flask(__name__)
"""
# A server that already runs need not be started: its options are checked, as Jupyter would.
START = """
import re, sys
from jupyter_server.serverapp import ServerApp
from jupyter_portproxy.config import PortProxy
known = {"ServerApp": ServerApp, "PortProxy": PortProxy}
for argument in sys.argv[1:]:
    name, trait = re.match(r"--(\\w+)\\.(\\w+)=", argument).groups()
    assert trait in known[name].class_trait_names(config=True), argument
"""
# curl, as far as the documentation uses it: the server of the examples is the one that runs here.
CURL = """
import json, os, sys, urllib.request
fields, body, method, url = {}, None, None, ""
words = iter(sys.argv[1:])
for word in words:
    if word == "-H":
        name, _, value = next(words).partition(": ")
        fields[name] = value
    elif word == "-d":
        body = next(words)
    elif word == "-X":
        method = next(words)
    else:
        assert not url and not word.startswith("-"), word
        url = word
assert fields["Authorization"] == "token " + os.environ["TOKEN"]
if "/hub/api/" in url:
    from jupyterhub.scopes import scope_definitions
    assert {scope.partition("!")[0] for scope in json.loads(body)["scopes"]} <= set(scope_definitions)
else:
    assert url.startswith("http://localhost:8888/"), url
    url = os.environ["SERVER"] + url.removeprefix("http://localhost:8888/")
    content = None if body is None else body.encode()
    with urllib.request.urlopen(urllib.request.Request(url, content, fields, method=method)) as answer:
        print(answer.read().decode())
"""


class Desk:
    """Runs blocks of commands beside a running server."""

    def __init__(self, home: Path, server: Server, fresh: Fresh) -> None:
        self.home, self.server, self.fresh = home, server, fresh
        self.port = free_port()
        self._children = home / "children"

    def run(self, block: str) -> subprocess.CompletedProcess[str]:
        """One fenced block, as a script that stops at the first failure.

        Port 15000 of the examples is a free one, `port`: somebody else on this machine may have that. What installs this package
        finds it not installed, and what asks for the lists of extensions finds it installed.
        """
        installed = (self.fresh.bin / "jupyter-portproxy").exists()
        if installed and f"pip install {OURS}" in block:
            self.fresh.forget()
        elif not installed and "extension list" in block and "pip install" not in block:
            self.fresh.run(f"pip install {OURS}")
        block = re.sub(r"\b15000\b", str(self.port), block).replace(ELSEWHERE, self.server.url)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], env=self._environment(), cwd=self.home, capture_output=True, text=True,
            timeout=150, check=False, input=f"{TOKEN}\n",
        )  # fmt: skip

    def python(self, block: str, **more: str) -> subprocess.CompletedProcess[str]:
        """One block of a notebook, with these variables."""
        env = {**self._environment(), **more}
        return subprocess.run([sys.executable, "-c", block], env=env, capture_output=True, text=True, check=False)

    def _environment(self) -> dict[str, str]:
        more = {"DOCS_SHELL": str(self._children), "TOKEN": TOKEN, "SERVER": self.server.url, "BROWSER": "true"}
        more |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring", "XDG_CONFIG_HOME": ""}
        return {**environment(self.home, more), **self.fresh.variables, "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}

    def close(self) -> None:
        for line in self._children.read_text().split() if self._children.exists() else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line), 9)


@contextlib.contextmanager
def desk(home: Path) -> Iterator[Desk]:
    """A home with an app, folders, templates and stand-ins; and a server that knows them."""
    config = home / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(TEMPLATES))
    for folder in ("docs", "runs", "bin"):
        (home / folder).mkdir()
    for file in ("app.py", "docs/reference.py"):
        (home / file).write_text(SERVE)
    subprocess.run(
        [sys.executable, ROOT / "client" / "build.py", home / "jupyter-portproxy.pyz"], check=True, capture_output=True
    )
    fresh = Fresh(home / "fresh", _packages())
    _programs(home / "bin", fresh)
    with jupyter_server(home, more={"PATH": f"{home / 'bin'}:{os.environ['PATH']}"}) as server:
        running = Desk(home, server, fresh)
        try:
            yield running
        finally:
            running.close()


def _packages() -> list[str]:
    """Those of other people that the documentation has installed: what the templates name, and the one that this one replaces."""
    hints = [template.get("requires", {}).get("hint", "") for template in shipped().values()]
    return [*(hint.removeprefix("pip install ") for hint in hints if hint.startswith("pip install ")), "jupyter-server-proxy"]


def _programs(folder: Path, fresh: Fresh) -> None:
    def program(name: str, text: str) -> None:
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)

    python = shlex.quote(sys.executable)
    for name, text in {"curl": CURL, **dict.fromkeys(PROGRAMS, SERVE)}.items():
        (folder / f"{name}.py").write_text(text)
        program(name, f'#!/bin/sh\nexec {python} {shlex.quote(str(folder / name))}.py "$@"\n')
    program("pip", f'#!/bin/sh\nexec {shlex.quote(str(fresh.bin / "pip"))} "$@"\n')
    program("make", f'#!/bin/sh\nexec {shutil.which("make")} --dry-run --directory {shlex.quote(str(ROOT))} "$@"\n')
    (folder / "start.py").write_text(START)
    files = shlex.quote(str(folder / "streamlit.py"))  # the one server of files that is real, but stays in the foreground
    program("python", f'#!/bin/sh\ncase "$1 $2" in "-m http.server") exec {python} {files} "$@" ;; esac\nexec {python} "$@"\n')
    real = shlex.quote(str(Path(sys.executable).with_name("jupyter")))
    start = f'shift; exec {python} {shlex.quote(str(folder / "start.py"))} "$@"'
    there = f'PATH={shlex.quote(str(fresh.bin))}:$PATH exec jupyter "$@"'  # what pip has installed, and nobody else's settings
    cases = f'"lab --"* | "server --"*) {start} ;; "labextension "* | "server extension") {there} ;;'
    direct = (
        f'shift; exec {shlex.quote(str(Path(sys.executable).with_name("jupyter-portproxy")))} "$@"'  # as jupyter does, sooner
    )
    cases += f' "portproxy "*) {direct} ;;'
    program("jupyter", f'#!/bin/sh\ncase "$1 $2" in {cases} esac\nexec {real} "$@"\n')
