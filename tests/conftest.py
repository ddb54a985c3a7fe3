"""Fixtures: a real Jupyter server with the extension, and raw connections to it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import pytest

from .support.gateways import make_gateway
from .support.jupyter_processes import TOKEN
from .support.kernels import very_many_sockets
from .support.own_network import enter_own_network, is_own_network_possible
from .support.postgres import database, empty_database, postgres_server, shared_database
from .support.raw_clients import Answer, Wire
from .support.recordings import watch

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would our servers

__all__ = ["database", "empty_database", "make_gateway", "postgres_server", "shared_database", "very_many_sockets", "watch"]


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # this is a process of pytest-xdist
        enter_own_network()


@pytest.hookimpl(optionalhook=True)  # runs without pytest-xdist have no such hook
def pytest_xdist_auto_num_workers() -> int:
    """With `-n auto`: the tests that need a network of their own run side by side where they can have it."""
    return 2 if is_own_network_possible() else 0


@pytest.fixture
def jp_server_config():
    return {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}}, "IdentityProvider": {"token": TOKEN}}


@pytest.fixture
def jp_nbconvert_templates():
    """pytest-jupyter's copies them for each test, and nothing here converts a notebook."""


@pytest.fixture
def gateway(jp_serverapp):
    """The gateway of the server under test."""
    return jp_serverapp.web_app.settings["portproxy"]


@pytest.fixture
def extension(jp_serverapp):
    """The extension of the server under test."""
    (found,) = jp_serverapp.extension_manager.extension_apps["jupyter_portproxy"]
    return found


@pytest.fixture
def probe(extension):
    """The probe of the server under test."""
    return extension.probe


@pytest.fixture
def origin(jp_serverapp, http_server, jp_http_port, jp_asyncio_loop) -> str:
    """`host:port` of the server under test, as a browser writes it in Host. It listens where pytest-tornasync made it listen."""
    for extension in jp_serverapp.extension_manager.extension_apps["jupyter_portproxy"]:
        extension.header_timeout.mount(http_server)
    return f"127.0.0.1:{jp_http_port}"


@pytest.fixture
def wire(origin) -> Callable[[], Awaitable[Wire]]:
    """Opens a raw connection to the server under test."""
    return lambda: Wire.open(urlsplit(f"//{origin}").port)


@pytest.fixture
def call(origin, wire, jp_base_url) -> Callable[..., Awaitable[Answer]]:
    """Sends one request below `base_url` with the token and returns the answer.

    `call("proxy/port/8050/x", method="PUT", fields=["X: y"], content=b"...")`; `token=None` sends no token.
    """

    async def send(
        path: str,
        method: str = "GET",
        fields: list[str] | None = None,
        content: bytes | None = None,
        token: str | None = TOKEN,
        version: str = "HTTP/1.1",
        host: str | None = None,
    ) -> Answer:
        async with await wire() as connection:
            lines = [f"{method} {jp_base_url}{path} {version}", f"Host: {host or origin}"]
            lines += [f"Authorization: token {token}"] if token else []
            lines += [f"Content-Length: {len(content)}"] if content is not None else []
            head = "\r\n".join([*lines, *(fields or []), "", ""])
            await connection.send(head.encode("latin-1") + (content or b""))
            return await asyncio.wait_for(connection.answer(method), 20)

    return send


@pytest.fixture
def head_of(origin, jp_base_url):
    """The first lines of a request to a port, to be completed by the test."""

    def lines(method: str, port: int, login: str = f"token {TOKEN}", version: str = "HTTP/1.1") -> bytes:
        start = f"{method} {jp_base_url}proxy/port/{port}/ {version}"
        return f"{start}\r\nHost: {origin}\r\nAuthorization: {login}\r\n".encode()

    return lines
