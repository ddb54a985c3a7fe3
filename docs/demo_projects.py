"""The program of `make run-projects`: a Jupyter server with two users, each with a project and a small web service.

Everything that it writes is in a temporary folder, which it removes at the end.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from demo import Events, Page, Socket, Upload, free_port, wait_for_server
from tornado.httpserver import HTTPServer
from tornado.web import Application

from jupyter_portproxy.auth.user_passwords import UserFile
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

FIRST_PORTS = {"ann": 15000, "bob": 15100}  # a project has a hundred ports from there
PROJECT = "demo"


def start_service(user: str) -> tuple[int, HTTPServer]:
    """A service at both addresses of the user's project: by its name it gets the whole path, by its key the rest."""
    port, prefix = free_port(FIRST_PORTS[user]), f"(?:/{user}/{PROJECT})?"
    routes = [
        (prefix + path, handler) for path, handler in (("/", Page), ("/events", Events), ("/socket", Socket), ("/upload", Upload))
    ]
    return port, Application(routes, port=port).listen(port, "127.0.0.1", max_body_size=1 << 40)


async def place_projects(dsn: str) -> None:
    admin = PlacementAdmin(dsn)
    await admin.init()
    for user, first in FIRST_PORTS.items():
        await admin.place(f"{PROJECT}-{user}", "local", owner=user, name=PROJECT, allowed_ports=[f"{first}-{first + 99}"])
    await admin.close()


def start_server(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Start Jupyter in a separate session: Ctrl-C reaches only this program, which then stops Jupyter."""
    traits = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder / "files",
        "ServerApp.default_url": "/proxy/",
        "ServerApp.identity_provider_class": "jupyter_portproxy.auth.UserPasswords",
        "ServerApp.authorizer_class": "jupyter_portproxy.auth.ProjectsOnly",
        "UserPasswords.users_file": folder / "users",
        "PortProxy.project_resolver": "local",
        "PortProxy.projects_path": folder / "projects.sqlite",
    }
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", *(f"--{name}={value}" for name, value in traits.items())]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.append("--allow-root")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "XDG_"))}
    environment |= {"HOME": str(folder), "JUPYTER_PLATFORM_DIRS": "0"}  # Jupyter and its extensions write there
    (folder / "files").mkdir()
    return subprocess.Popen(command, env=environment, cwd=folder, start_new_session=True)


async def main(folder: Path) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    passwords = {user: secrets.token_urlsafe(6) for user in FIRST_PORTS}
    for user, password in passwords.items():
        UserFile(str(folder / "users")).set(user, password)
    await place_projects(f"sqlite:///{folder / 'projects.sqlite'}")
    services = {user: start_service(user) for user in FIRST_PORTS}
    port = free_port(8888)
    server = start_server(port, folder)
    ended = loop.run_in_executor(None, server.wait)
    try:
        await announce(port, passwords, {user: number for user, (number, _) in services.items()}, ended)
        await asyncio.wait([asyncio.ensure_future(stop.wait()), ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for _, service in services.values():
            service.stop()
        if server.poll() is None:
            server.terminate()
        code = await ended
    print("Stopped.", flush=True)
    return 0 if stop.is_set() else code


async def announce(port: int, passwords: dict[str, str], ports: dict[str, int], ended: asyncio.Future[int]) -> None:
    """Print the addresses and logins once the server answers."""
    await wait_for_server(port, ended)
    base = f"http://127.0.0.1:{port}"
    print(flush=True)
    for user, password in passwords.items():
        print(f"    {user}, password {password}:  {base}/{user}/{PROJECT}/?port={ports[user]}", flush=True)
    print(f"    The projects of each:  {base}/proxy/", flush=True)
    print(f"    For the other user, take a private window, or log out at {base}/logout", flush=True)
    print("    Ctrl-C stops everything.\n", flush=True)


if __name__ == "__main__":
    with TemporaryDirectory(prefix="portproxy-projects-") as name:
        sys.exit(asyncio.run(main(Path(name))))
