"""The running Jupyter servers of this user, and their API, for commands.

Rule of this file: it knows no command. What goes wrong is a CliError with one sentence.
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urljoin, urlsplit
from urllib.request import Request

import psutil

from ..auth.project_identity import SECRET_VARIABLE
from ..errors import CliError
from ..protocol.urls import build_enter_url
from .running_servers import opener, running_servers

SECONDS = 30
_MAX_ERROR = 1 << 16  # bytes
_URLS = opener()


def find(url: str | None) -> Server:
    """The one with this URL; without one the only one, or the nearest.

    Raises:
        CliError: there is none, or which one is meant cannot be told.
    """
    running, ignored = running_servers()
    if url is not None:
        running = [info for info in running if info["url"].rstrip("/") == url.rstrip("/")]
    if not running:
        raise CliError("\n".join([f"No Jupyter server of yours runs {'here' if url is None else f'at {url}'}.", *ignored]))
    if len(running) > 1:
        running = _nearest(running)
    if len(running) > 1:
        raise CliError("Several servers run; choose one with --server:\n" + "\n".join(info["url"] for info in running))
    return Server(running[0])


def _nearest(running: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of several servers the one in whose terminal this runs; else those that no other one has started (a nested Jupyter).

    A server on a Unix socket alone cannot be asked by a URL.
    """
    running = [info for info in running if not info.get("sock")]
    by_pid = {int(info["pid"]): info for info in running}
    for parent in psutil.Process().parents():
        if parent.pid in by_pid:
            return [by_pid[parent.pid]]
    return [info for pid, info in by_pid.items() if not any(parent.pid in by_pid for parent in _parents(pid))]


def _parents(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).parents()
    except psutil.Error:
        return []  # it has just ended


class Server:
    """The API of one running Jupyter server."""

    def __init__(self, info: dict[str, Any]) -> None:
        self.url = str(info["url"])
        # Under JupyterHub a server's token is one of the hub's: it is good for more than this server, and no link may show it.
        # Nor a project's secret, by which its own server is asked.
        hubs = os.environ.get("JUPYTERHUB_API_TOKEN", "")
        token = str(info.get("token") or "")
        self._credential = token or os.environ.get(SECRET_VARIABLE) or hubs
        self._token = "" if token == hubs else token
        self._public = _public_url(self.url)

    def link(self, path: str) -> str:
        """An absolute URL for people: one that logs in, or JupyterHub's, where they log in themselves.

        Behind a JupyterHub whose address is not known it is a path below that address, as browsers cannot use this server's own.

        Args:
            path: a path, or a URL that begins with this server's.
        """
        url = urljoin(self.url, path)
        if self._public is not None:
            return urljoin(self._public, urlsplit(url)._replace(scheme="", netloc="").geturl())
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'token': self._token})}" if self._token else url

    def has_origins(self) -> bool:
        """True if services open at isolated origins."""
        return self.ask("GET", "origins")["probe"] is not None

    def addresses(self, target: str, url: str) -> list[str]:
        """Links to a port or service, the best first: its isolated origin where there is one, and its path-based URL.

        Args:
            url: that path-based URL, without a host.
        """
        isolated = self.enter_url(target, url)
        return [self.link(each) for each in ([isolated, url] if isolated != url and self.has_origins() else [url])]

    def enter_url(self, target: str, url: str) -> str:
        """The way to the isolated origin of a port or service; `url` is its path-based one."""
        return build_enter_url(url, target, urlsplit(self.url).path)

    @property
    def shows_paths(self) -> bool:
        """True if `link` gives paths, as the address of the JupyterHub before this server is not known."""
        return self._public == ""

    def ask(self, method: str, path: str, body: object = None, *, patient: bool = False) -> Any:
        """Call the API and return its JSON.

        Args:
            patient: it may be silent for as long as it likes.

        Raises:
            CliError: with the API's own sentence.
        """
        with self.open(method, path, body, patient=patient) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def failure(self, port: int) -> dict[str, str]:
        """What the gateway says where it cannot reach this port: its error's `code`, `message` and `hint`. Empty if it can."""
        fields = {"Authorization": f"token {self._credential}", "Accept": "application/json"}
        try:
            _URLS.open(Request(f"{self.url}proxy/port/{port}/", headers=fields, method="GET"), timeout=SECONDS).close()  # noqa: S310
        except HTTPError as error:
            with error:
                return _failure(error.read(_MAX_ERROR))
        except (URLError, OSError):
            return {"code": "unreachable", "message": "", "hint": ""}
        return {}

    def open(self, method: str, path: str, body: object = None, *, patient: bool = False) -> Any:
        """Call the API and return its answer, to be read and closed."""
        fields = {"Authorization": f"token {self._credential}", "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        timeout = None if patient else SECONDS
        try:
            return _URLS.open(Request(f"{self.url}proxy/api/{path}", content, fields, method=method), timeout=timeout)  # noqa: S310
        except HTTPError as error:
            if error.code == 403 and not self._credential:
                error.close()
                raise CliError("The server has a password and no token: set JUPYTER_TOKEN where it is started.") from None
            raise CliError(_sentence(error)) from None
        except (URLError, OSError) as error:
            raise CliError(f"The server at {self.url} does not answer: {getattr(error, 'reason', error)}.") from None


def _public_url(url: str) -> str | None:
    """The address by which JupyterHub's users reach the server at this URL.

    The variables are inherited by all that the server starts: a nested Jupyter has another base URL, and is not meant.

    Returns:
        an empty string if JupyterHub does not know its own address; None if it has not started that server.
    """
    public, prefix = (os.environ.get(f"JUPYTERHUB_{name}", "") for name in ("PUBLIC_URL", "SERVICE_PREFIX"))
    paths = {unquote(urlsplit(each).path).rstrip("/") for each in (public or prefix, url)}
    return public if (public or prefix) and len(paths) == 1 else None


def _failure(content: bytes) -> dict[str, str]:
    """The gateway's error in an answer; empty if a service made the answer."""
    try:
        body = json.loads(content)
        return {key: str(body[key]) for key in ("code", "message", "hint")}
    except (ValueError, KeyError, TypeError):
        return {}


def _sentence(error: HTTPError) -> str:
    if error.code == 404 and "json" not in error.headers.get("Content-Type", ""):
        return "The server has no jupyter_portproxy; see: jupyter server extension list"
    try:
        body = json.loads(error.read())
        return "\n".join(filter(None, [body["message"], body.get("hint"), *body.get("details", ())]))
    except (ValueError, KeyError, TypeError):
        return f"The server answered {error.code} {error.reason}."
    finally:
        error.close()
