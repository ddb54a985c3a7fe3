"""A client of the API of a Jupyter server, and of the links to it. Failures are CliErrors with one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from typing import Any
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from ..errors import CliError, ServerUnavailable, parse_error
from ..protocol.credentials import SECRET_VARIABLE
from ..protocol.urls import build_enter_url
from .api_command import REQUEST_TIMEOUT
from .connection import open_socket
from .refusals import TokenRefused, explain_hub_token, explain_page, explain_refusal
from .server_address import ServerAddress

_MAX_ERROR_SIZE = 1 << 16  # bytes
_PIECE = 1 << 16  # bytes that are read at once


class ApiClient:
    """The API of one Jupyter server.

    Args:
        timeout: seconds without a byte after which a request fails.
    """

    def __init__(self, server: ServerAddress, timeout: float = REQUEST_TIMEOUT) -> None:
        self.server, self.url = server, server.url
        # No link contains the token of a hub or of a server elsewhere, or a project's secret: they are valid for longer.
        shared = {os.environ.get(name, "") for name in ("JUPYTERHUB_API_TOKEN", SECRET_VARIABLE)}
        self._link_token = server.token if server.is_local and server.token not in shared else ""
        self._public_url = _public_url(self.url) if server.is_local else None
        self._timeout = timeout

    # ---- links for people ----

    def link(self, path: str, *, with_token: bool = True) -> str:
        """An absolute URL that logs in by the server's token, or below JupyterHub's public URL, where people log in themselves.

        Without a known public URL under JupyterHub it is a path, as browsers cannot reach this server's own address.

        Args:
            path: a path, or a URL that begins with this server's.
            with_token: let the link log in.
        """
        url = urljoin(self.url, path)
        if self._public_url is not None:
            return urljoin(self._public_url, urlsplit(url)._replace(scheme="", netloc="").geturl())
        if not self._link_token or not with_token:
            return url
        return f"{url}{'&' if '?' in url else '?'}{urlencode({'token': self._link_token})}"

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
            return self.read_json(response)

    def open(self, method: str, path: str, body: object = None, *, no_timeout: bool = False) -> HTTPResponse:
        """Send a request to the API and return its response, which the caller reads and closes. Raises what `call` raises."""
        content = None if body is None else json.dumps(body).encode()
        response = self._send(method, self._path(f"api/{path}"), content, None if no_timeout else self._timeout)
        if not 200 <= response.status < 300:
            raise self._refusal(response, retry=method != "GET")
        if response.headers.get_content_type() == "text/html":
            response.close()
            raise explain_page(self.server)
        return response

    def read_json(self, response: HTTPResponse) -> Any:
        """The JSON of a response that `open` has returned; None for an empty one. Raises a CliError."""
        text = b"".join(self.read(response))
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError):
            raise explain_page(self.server) from None

    def read(self, response: HTTPResponse) -> Iterator[bytes]:
        """The content of a response as it arrives. Raises a CliError if the connection is lost."""
        try:
            while data := response.read1(_PIECE):
                yield data
            if response.length:  # of the content that was announced
                raise IncompleteRead(b"", response.length)
        except (OSError, HTTPException) as error:
            raise _lost(self.server, error) from None

    def port_error(self, port: int) -> dict[str, Any]:
        """`code`, `message` and `hint` of the gateway's error for a request to this port; empty if the port can be reached."""
        try:
            response = self._send("GET", self._path(f"port/{port}/"), None, self._timeout)
            with response:
                return parse_error(response.read(_MAX_ERROR_SIZE)) if response.status >= 400 else {}
        except (ServerUnavailable, OSError, HTTPException):
            return {"code": "unreachable", "message": "", "hint": ""}

    def explain(self, status: int, fields: Message | Mapping[str, str], content: bytes) -> CliError:
        """The error for a response with a status other than 2xx, also for the refused handshake of a WebSocket.

        Of a token that a server of JupyterHub does not accept, the hub says whose it is and what it permits.
        """
        error = explain_refusal(self.server, status, fields, content)
        if isinstance(error, TokenRefused) and self.server.hub_path is not None and self.server.token:
            with self._send("GET", f"{self.server.hub_path}api/user", None, self._timeout) as response:
                return explain_hub_token(self.server, response.status, response.read(_MAX_ERROR_SIZE))
        return error

    def _send(self, method: str, path: str, content: bytes | None, timeout: float | None) -> HTTPResponse:
        """Send a request with the token to a path of the server's origin."""
        fields = {"Authorization": f"token {self.server.token}", "Accept": "application/json", "Connection": "close"}
        if content is not None:
            fields["Content-Type"] = "application/json"
        connection = _Connection(self.server, timeout)
        try:
            connection.request(method, path, content, fields)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            connection.close()
            raise _lost(self.server, error) from None
        if connection.sock is not None:
            connection.sock.close()  # the response has its own file of it
        return response

    def _refusal(self, response: HTTPResponse, *, retry: bool) -> CliError:
        """The error for a response. Jupyter refuses a write without a valid login for its XSRF token: a GET shows the reason."""
        with response:
            content = response.read(_MAX_ERROR_SIZE)
        if response.status == 403 and retry:
            with self._send("GET", self._path("api/services"), None, self._timeout) as second:
                if second.status == 403:
                    response, content = second, second.read(_MAX_ERROR_SIZE)
        return self.explain(response.status, response.headers, content)

    def _path(self, below: str) -> str:
        return f"{self.server.base_path}proxy/{below}"


class _Connection(HTTPConnection):
    """One request to a server."""

    def __init__(self, server: ServerAddress, timeout: float | None) -> None:
        self.default_port = 443 if server.is_https else 80
        super().__init__(server.host, server.port)
        self._server, self._timeout = server, timeout

    def connect(self) -> None:
        self.sock = open_socket(self._server, self._timeout)


def _lost(server: ServerAddress, error: Exception) -> CliError:
    """The error for a connection that ends, or a response that is not HTTP."""
    match error:
        case TimeoutError():
            return ServerUnavailable(f"{server.url} does not answer in time.")
        case OSError():
            return ServerUnavailable(f"The connection to {server.url} was lost: {error.strerror or error}.")
    return ServerUnavailable(f"{server.url} does not answer in HTTP, or its response was cut.")


def _public_url(url: str) -> str | None:
    """JupyterHub's public URL of the server at this URL.

    All processes of a server inherit JupyterHub's variables. A nested Jupyter server has another base URL, and they do not apply.

    Returns:
        an empty string if JupyterHub has no public URL; None if JupyterHub did not start this server.
    """
    public, prefix = (os.environ.get(f"JUPYTERHUB_{name}", "") for name in ("PUBLIC_URL", "SERVICE_PREFIX"))
    paths = {unquote(urlsplit(each).path).rstrip("/") for each in (public or prefix, url)}
    return public if (public or prefix) and len(paths) == 1 else None
