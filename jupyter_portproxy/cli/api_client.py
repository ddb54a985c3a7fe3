"""The running Jupyter server that a command calls, and a client of its API. Failures are CliErrors with one sentence."""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urljoin, urlsplit
from urllib.request import Request

import psutil

from ..errors import CliError
from ..protocol.credentials import SECRET_VARIABLE
from ..protocol.urls import build_enter_url
from .api_command import REQUEST_TIMEOUT
from .running_servers import opener, running_servers

_MAX_ERROR_SIZE = 1 << 16  # bytes


def find_server(url: str | None, timeout: float = REQUEST_TIMEOUT) -> ApiClient:
    """A client of the server with this URL; without one, of the only server that runs, or of the nearest.

    Raises:
        CliError: there is no such server, or several are equally near.
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
    return ApiClient(running[0], timeout)


def _nearest(running: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The server in whose terminal this process runs; else those that no other of the servers started (a nested Jupyter).

    Servers that listen on a Unix socket only have no URL to call and are left out.
    """
    by_pid = {int(info["pid"]): info for info in running if not info.get("sock")}
    for parent in psutil.Process().parents():
        if parent.pid in by_pid:
            return [by_pid[parent.pid]]
    return [info for pid, info in by_pid.items() if not any(parent.pid in by_pid for parent in _parents(pid))]


def _parents(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).parents()
    except psutil.Error:
        return []  # it has just ended


class ApiClient:
    """The API of one running Jupyter server.

    Args:
        info: the content of its runtime file, `jpserver-PID.json`.
        timeout: seconds without a byte after which a request fails.
    """

    def __init__(self, info: dict[str, Any], timeout: float = REQUEST_TIMEOUT) -> None:
        self.url = str(info["url"])
        # Under JupyterHub a server's token is one of the hub's and valid for more than this server: no link may contain it.
        # The same holds for a project's secret, which its own server accepts.
        hub_token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
        token = str(info.get("token") or "")
        self._credential = token or os.environ.get(SECRET_VARIABLE) or hub_token
        self._link_token = "" if token == hub_token else token
        self._public_url = _public_url(self.url)
        self._timeout, self._opener = timeout, opener()

    # ---- links for people ----

    def link(self, path: str) -> str:
        """An absolute URL that logs in by the server's token, or below JupyterHub's public URL, where people log in themselves.

        Without a known public URL under JupyterHub it is a path, as browsers cannot reach this server's own address.

        Args:
            path: a path, or a URL that begins with this server's.
        """
        url = urljoin(self.url, path)
        if self._public_url is not None:
            return urljoin(self._public_url, urlsplit(url)._replace(scheme="", netloc="").geturl())
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'token': self._link_token})}" if self._link_token else url

    @property
    def shows_paths(self) -> bool:
        """True if `link` returns paths, because the public URL of JupyterHub is not known."""
        return self._public_url == ""

    def has_origins(self) -> bool:
        return self.call("GET", "origins")["probe"] is not None

    def links(self, target: str, url: str) -> list[str]:
        """Links to a port or service, the best first: its isolated origin if it has one, and its path-based URL `url`."""
        isolated = self.enter_url(target, url)
        return [self.link(each) for each in ([isolated, url] if isolated != url and self.has_origins() else [url])]

    def enter_url(self, target: str, url: str) -> str:
        """The URL that leads to the isolated origin of a port or service; `url` is its path-based URL."""
        return build_enter_url(url, target, urlsplit(self.url).path)

    # ---- requests ----

    def call(self, method: str, path: str, body: object = None, *, no_timeout: bool = False) -> Any:
        """Send a request to the API and return the JSON of its response; None for an empty one.

        Raises:
            CliError: with the sentence of the API's error.
        """
        with self.open(method, path, body, no_timeout=no_timeout) as response:
            text = response.read()
        return json.loads(text) if text else None

    def open(self, method: str, path: str, body: object = None, *, no_timeout: bool = False) -> Any:
        """Send a request to the API and return its response, which the caller reads and closes. Raises what `call` raises."""
        content = None if body is None else json.dumps(body).encode()
        try:
            return self._send(method, f"proxy/api/{path}", content, None if no_timeout else self._timeout)
        except HTTPError as error:
            if error.code == 403 and not self._credential:
                error.close()
                raise CliError(
                    "The server's login has no token. Where it is Jupyter's own password, start the server with JUPYTER_TOKEN."
                ) from None
            raise CliError(_sentence(error)) from None
        except (URLError, OSError) as error:
            raise CliError(f"The server at {self.url} does not answer: {getattr(error, 'reason', error)}.") from None

    def port_error(self, port: int) -> dict[str, str]:
        """`code`, `message` and `hint` of the gateway's error for a request to this port; empty if the port can be reached."""
        try:
            self._send("GET", f"proxy/port/{port}/", None, self._timeout).close()
        except HTTPError as error:
            with error:
                return _gateway_error(error.read(_MAX_ERROR_SIZE))
        except (URLError, OSError):
            return {"code": "unreachable", "message": "", "hint": ""}
        return {}

    def _send(self, method: str, path: str, content: bytes | None, timeout: float | None) -> Any:
        fields = {"Authorization": f"token {self._credential}", "Accept": "application/json"}
        if content is not None:
            fields["Content-Type"] = "application/json"
        request = Request(f"{self.url}{path}", content, fields, method=method)  # noqa: S310
        return self._opener.open(request, timeout=timeout)


def _public_url(url: str) -> str | None:
    """JupyterHub's public URL of the server at this URL.

    All processes of a server inherit JupyterHub's variables. A nested Jupyter server has another base URL, and they do not apply.

    Returns:
        an empty string if JupyterHub has no public URL; None if JupyterHub did not start this server.
    """
    public, prefix = (os.environ.get(f"JUPYTERHUB_{name}", "") for name in ("PUBLIC_URL", "SERVICE_PREFIX"))
    paths = {unquote(urlsplit(each).path).rstrip("/") for each in (public or prefix, url)}
    return public if (public or prefix) and len(paths) == 1 else None


def _gateway_error(content: bytes) -> dict[str, str]:
    """The gateway's error in a response; empty if the response is a service's own."""
    try:
        body = json.loads(content)
        return {key: str(body[key]) for key in ("code", "message", "hint")}
    except (ValueError, KeyError, TypeError):
        return {}


def _sentence(error: HTTPError) -> str:
    with error:
        if error.code == 404 and "json" not in error.headers.get("Content-Type", ""):
            return "The server has no jupyter_portproxy; see: jupyter server extension list"
        try:
            body = json.loads(error.read())
            return "\n".join(filter(None, [body["message"], body.get("hint"), *body.get("details", ())]))
        except (ValueError, KeyError, TypeError):
            return f"The server answered {error.code} {error.reason}."
