"""Services with pages, and looks at them through the server under test."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from jupyter_portproxy.diagnose.crawl import Crawl
from jupyter_portproxy.diagnose.doctor import LOOK_SIZE, LOOK_TIMEOUT, make_request
from jupyter_portproxy.diagnose.observation import Observation, Target
from jupyter_portproxy.diagnose.page_client import Budget, PageClient, target_of
from jupyter_portproxy.handlers.router import PortRouter
from jupyter_portproxy.protocol.urls import Upstream

from ..support.jupyter_processes import TOKEN
from ..support.upstreams import Connection, Request

Respond = Callable[[Request], "Reply"]


@dataclass
class Reply:
    """A response of a test's service."""

    body: bytes | str = b""
    type: str = "text/html"
    status: str = "200 OK"
    fields: list[str] = field(default_factory=list)

    def wire(self) -> bytes:
        body = self.body.encode() if isinstance(self.body, str) else self.body
        lines = [f"HTTP/1.1 {self.status}", f"Content-Type: {self.type}", f"Content-Length: {len(body)}", *self.fields, "", ""]
        return "\r\n".join(lines).encode() + body


def site(pages: Mapping[str, Reply | str] | Respond) -> Callable[[Connection], Awaitable[None]]:
    """A service with these pages by path; a text is an HTML page. All other paths are 404."""

    def find(request: Request) -> Reply:
        if callable(pages):
            return pages(request)
        return as_reply(pages.get(request.target.partition("?")[0], Reply("nothing", status="404 Not Found")))

    async def run(connection: Connection) -> None:
        while True:
            await connection.write(find(await connection.request()).wire())

    return run


def as_reply(page: Reply | str) -> Reply:
    return page if isinstance(page, Reply) else Reply(page)


@pytest.fixture
def observe(extension, jp_serverapp, origin, jp_base_url) -> Callable[..., Awaitable[Observation]]:
    """Looks at the page of a port through the server under test; keywords change the target."""

    async def look(
        port: int, path: str = "/", *, seconds: float = LOOK_TIMEOUT, size: int = LOOK_SIZE, **more: Any
    ) -> Observation:
        prefix, absolute = f"{jp_base_url}proxy/port/{port}", f"{jp_base_url}proxy/absolute/port/{port}"
        target = Target(str(port), port, prefix, absolute, jp_base_url, f"http://{origin}", **more)
        budget = Budget(time.monotonic() + seconds, size)
        service = Upstream("localhost", port, ("127.0.0.1",))
        jupyter = Upstream("localhost", int(origin.rpartition(":")[2]), ("127.0.0.1",))
        parts = extension.connector, extension.policy, budget
        direct = PageClient(service.origin, service, *parts, lambda host: host in (f"localhost:{port}", f"127.0.0.1:{port}"))
        login = [("Authorization", f"token {TOKEN}")]
        proxied = PageClient(target.jupyter_origin, jupyter, *parts, lambda host: host == origin, login, is_gateway=True)
        router = next(rule.target for rule in jp_serverapp.web_app.default_router.rules if isinstance(rule.target, PortRouter))
        connection = SimpleNamespace(context=SimpleNamespace(remote_ip="127.0.0.1", protocol="http"))
        like = SimpleNamespace(connection=connection)
        return await Crawl(
            target, direct, proxied, f"{service.origin}{path}", f"{target.jupyter_origin}{prefix}{path}",
            lambda load: router.is_lost(make_request(target_of(load.url), proxied.fields_of(load), like)),
        ).run()  # fmt: skip

    return look
