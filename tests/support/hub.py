"""A real JupyterHub in processes of its own, and browsers that log in to it as people do.

A missing part is a failure, never a skip, and no process is left behind. Users' servers are configured as docs/jupyterhub.md
describes it to administrators.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from yarl import URL

from .jupyter_processes import environment
from .upstreams import free_port

HUB_TOKEN = "the-tests-service-token"
PASSWORD = "one-for-all"
SCOPES = ["admin:users", "admin:groups", "admin:servers", "tokens", "access:servers", "list:users", "shares"]
SECONDS = 60
# A service that says whose it is. `url_for` is asked in the user's own environment.
WHO = """
import http.server, json, os, sys
from jupyter_portproxy import url_for

class Who(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {"user": os.environ["JUPYTERHUB_USER"], "url": url_for(int(sys.argv[1]), "x"), "named": url_for("who")}
        told["secrets"] = [name for name in os.environ if "TOKEN" in name]
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Who).serve_forever()
"""
CONFIG = """
import os, sys
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub_port}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.authenticator_class = "dummy"
c.SharedPasswordAuthenticator.user_password = c.DummyAuthenticator.password = "{password}"
c.Authenticator.allowed_users = {users!r}
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": {scopes!r}, "services": ["tests"]}}]
# What a server tells of its activity is seen at once, and nothing but that.
c.JupyterHub.activity_resolution = 0
c.JupyterHub.last_activity_interval = 3600
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 0}}  # servers start side by side
c.SimpleLocalProcessSpawner.home_dir_template = {homes!r}
c.Spawner.cmd = [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root"]
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = c.Spawner.start_timeout = {seconds}
c.Spawner.environment = {{
    "JUPYTER_CONFIG_PATH": {configs!r},
    "JUPYTERHUB_ACTIVITY_INTERVAL": "1",
    "JUPYTER_PLATFORM_DIRS": "0",
}}
"""
REVERSE_PROXIES = {
    "configurable-http-proxy": """
c.ConfigurableHTTPProxy.command = {proxy_command!r}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
""",
    "traefik": """
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
c.JupyterHub.proxy_class = "traefik_file"
c.TraefikProxy.traefik_api_url = "http://127.0.0.1:{api_port}"
c.TraefikProxy.traefik_api_username = "tests"
c.TraefikProxy.traefik_api_password = "{token}"
c.TraefikProxy.traefik_log_level = "ERROR"
c.TraefikProxy.extra_static_config = {{"entryPoints": {{"http": {{"forwardedHeaders": {{"trustedIPs": ["127.0.0.1"]}}}}}}}}
""",
}
NEEDED = ("jupyterhub", "jupyterhub_traefik_proxy", "jupyterlab")
CONFIGURABLE_HTTP_PROXY = Path(
    sys.prefix, "chp", "node_modules", "configurable-http-proxy", "bin", "configurable-http-proxy"
)  # npm's


@dataclass
class Hub:
    """A running hub. `origin` is what a browser shows: `http://127.0.0.1:PORT`."""

    origin: str
    _log: Path
    pid: int = 0

    @property
    def log(self) -> str:
        return self._log.read_text()

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The answer of JupyterHub's REST API to the tests' service."""
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.origin}/hub/api/{path}", content, method=method)
        request.add_header("Authorization", f"token {HUB_TOKEN}")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}\n{self.log}") from None

    def start_servers(self, *servers: str) -> None:
        """Starts servers (`NAME`, or `NAME/SERVER` for a named one), all at once, and returns when each is ready."""
        for server in servers:
            user, _, name = server.partition("/")
            self.api("POST", f"users/{user}/servers/{name}" if name else f"users/{user}/server")
        until = time.monotonic() + SECONDS
        while not all(self.server(server)["ready"] for server in servers):
            assert time.monotonic() < until, self.log
            time.sleep(0.2)

    def server(self, server: str) -> dict[str, Any]:
        """What the hub knows of a server."""
        user, _, name = server.partition("/")
        found: dict[str, Any] = self.api("GET", f"users/{user}?include_stopped_servers")["servers"].get(name, {"ready": False})
        return found

    def token(self, user: str, *scopes: str) -> str:
        """A new API token of that user."""
        token: str = self.api("POST", f"users/{user}/tokens", {"scopes": list(scopes)} if scopes else {})["token"]
        return token

    @contextlib.asynccontextmanager
    async def browser(self, server: str = "") -> AsyncIterator[Browser]:
        """A browser of its own; with a server, logged in through the hub's form as its user and shown its Lab page."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            browser = Browser(self.origin, session)
            if server:
                page = await browser.open(f"/user/{server}/lab", server.partition("/")[0])
                assert (page.status, page.path) == (200, f"/user/{server}/lab"), (page, self.log)
            yield browser


@dataclass
class Page:
    """An answer, and the path at which the browser has arrived."""

    status: int
    path: str
    text: str
    fields: Any

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class Browser:
    """Keeps cookies by their paths, follows redirects and sends Fetch Metadata, as browsers do."""

    def __init__(self, origin: str, session: aiohttp.ClientSession) -> None:
        self.origin, self._session = origin, session

    async def open(self, path: str, user: str = "", **more: str) -> Page:
        """A navigation; with a user, one that fills in the hub's login form on the way."""
        page = await self._ask("GET", path, **NAVIGATION, **more)
        if not user or not page.path.startswith("/hub/login"):
            return page
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert action, page.text
        return await self.submit(html.unescape(action[1]), page, username=user, password=PASSWORD)

    async def submit(self, path: str, page: Page, **values: str) -> Page:
        """A form of that page, sent with the XSRF token that is in it."""
        hidden = re.search(r'name="_xsrf"\s+value="([^"]+)"', page.text)
        assert hidden, page.text
        done = await self._ask("POST", path, {"_xsrf": hidden[1], **values}, follow=False, Origin=self.origin, **NAVIGATION)
        leads_on = done.status in (302, 303)  # by GET, and a navigation by GET has no Origin
        return await self._ask("GET", done.fields["Location"], **NAVIGATION) if leads_on else done

    async def fetch(self, path: str, method: str = "GET", data: Any = None, **more: str) -> Page:
        """What a script of a page does, from the same origin unless `more` has another."""
        origin = {"Origin": self.origin} if method not in ("GET", "HEAD") else {}
        return await self._ask(method, path, data, **{**FETCH, **origin, **more})

    async def call(self, path: str, token: str, method: str = "GET", data: Any = None, **more: str) -> Page:
        """What a program does that has a token and is no browser."""
        return await self._ask(method, path, data, Authorization=f"token {token}", **more)

    def websocket(self, path: str, **more: str) -> Any:
        """An aiohttp context manager with the open WebSocket."""
        fields = {**FETCH, "Origin": self.origin, "Sec_Fetch_Mode": "websocket", **more}
        return self._session.ws_connect(f"{self.origin}{path}", headers=_named(fields))

    def cookies(self, path: str) -> dict[str, str]:
        """The cookies that would be sent to a path."""
        sent = self._session.cookie_jar.filter_cookies(URL(f"{self.origin}{path}"))
        return {name: morsel.value for name, morsel in sent.items()}

    async def _ask(self, method: str, path: str, data: Any = None, *, follow: bool = True, **fields: str) -> Page:
        url = URL(self.origin).join(URL(path, encoded=True))
        async with self._session.request(method, url, data=data, headers=_named(fields), allow_redirects=follow) as answer:
            return Page(answer.status, answer.url.path_qs, await answer.text(), answer.headers)


# Python's names of header fields: `_` stands for `-`.
NAVIGATION = {"Accept": "text/html", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Site": "none", "Sec_Fetch_Dest": "document"}
FETCH = {"Accept": "*/*", "Sec_Fetch_Mode": "cors", "Sec_Fetch_Site": "same-origin", "Sec_Fetch_Dest": "empty"}


def _named(fields: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in fields.items()}


@contextlib.contextmanager
def jupyterhub(
    folder: Path,
    settings: str,
    *servers: str,
    reverse_proxy: str = "configurable-http-proxy",
    users: Iterable[str] = (),
    more: str = "",
) -> Iterator[Hub]:
    """Runs JupyterHub behind that reverse proxy, with these servers (`NAME` or `NAME/SERVER`), until the end of the block.

    Args:
        settings: a `jupyter_server_config.py` for all users.
        users: without servers.
        more: of `jupyterhub_config.py`.
    """
    users = {*users, *(server.partition("/")[0] for server in servers)}
    missing = [name for name in NEEDED if find_spec(name) is None]
    assert not missing, f"not installed: {missing}; pip install -e '.[test]'"
    config, log = folder / "config", folder / "hub.log"
    for path in (config, *(folder / user for user in users)):
        path.mkdir()
    (folder / "who.py").write_text(WHO)
    who = {"command": [sys.executable, str(folder / "who.py"), "{port}"]}
    (config / "jupyter_server_config.py").write_text(f"{settings}\nc.PortProxy.service_templates = {{'who': {who!r}}}\n")
    values: dict[str, Any] = {"port": free_port(_PORTS), "hub_port": free_port(_PORTS), "api_port": free_port(_PORTS)}
    values.update(token=HUB_TOKEN, password=PASSWORD, users=users, scopes=SCOPES, seconds=SECONDS)
    values.update(homes=f"{folder}/{{username}}", configs=str(config), proxy_command=_proxy_command())
    (folder / "jupyterhub_config.py").write_text((CONFIG + REVERSE_PROXIES[reverse_proxy]).format(**values) + more)
    with log.open("w") as output:
        command = [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"]
        process = subprocess.Popen(command, env=environment(folder), cwd=folder, stdout=output, stderr=output)
    hub = Hub(f"http://127.0.0.1:{values['port']}", log, process.pid)
    try:
        _wait_for(hub, process)
        hub.start_servers(*servers)
        yield hub
    finally:
        _stop(process)


_PORTS = range(21000, 29000)


def _proxy_command() -> list[str]:
    """The command of configurable-http-proxy."""
    node = shutil.which("node") or shutil.which("node", path=str(Path(sys.executable).parent))
    assert node and CONFIGURABLE_HTTP_PROXY.exists(), (
        f"not installed: npm install --prefix {CONFIGURABLE_HTTP_PROXY.parents[3]} configurable-http-proxy"
    )
    return [node, str(CONFIGURABLE_HTTP_PROXY)]


def _wait_for(hub: Hub, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{hub.origin}/hub/api/", timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < until and process.poll() is None, hub.log
            time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The hub stops its servers and its reverse proxy; what is left of them is killed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        _, left = psutil.wait_procs(started, 3)
        for child in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()
