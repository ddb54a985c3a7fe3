"""Servers with projects under test, and requests of their users: the token `user-NAME` logs NAME in (see identity_providers)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import websockets

from jupyter_portproxy.projects.model import LOCAL_HOST
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from .jupyter_processes import Server, jupyter_server
from .raw_clients import Answer, Wire

ROOT = str(Path(__file__).parents[2])
NAMED_USERS = "--ServerApp.identity_provider_class=tests.support.identity_providers.NamedUsers"
BARE = dict.fromkeys(("jupyterlab", "jupyter_lsp", "notebook"), False)


class ProjectSite:
    """A server to which users send requests for projects; `entry` is the one that they log in to."""

    @property
    def entry(self) -> Server:
        raise NotImplementedError

    @property
    def port(self) -> int:
        return int(self.entry.url.split(":")[2].split("/")[0])

    async def ask(self, path: str, user: str | None = "ann", method: str = "GET", fields=(), content=None) -> Answer:
        """One request, byte for byte."""
        async with await Wire.open(self.port) as wire:
            await self.send(wire, path, user, method, fields, content)
            return await asyncio.wait_for(wire.answer(method), 20)

    async def send(self, wire: Wire, path: str, user: str | None = "ann", method: str = "GET", fields=(), content=None) -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *fields]
        lines += [f"Authorization: token user-{user}"] if user else []
        lines += [f"Content-Length: {len(content)}"] if content is not None else []
        await wire.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (content or b""))

    def socket(self, path: str, user: str = "ann"):
        fields = {"Authorization": f"token user-{user}"}
        return websockets.connect(f"ws://127.0.0.1:{self.port}{path}", additional_headers=fields, compression=None)

    async def until(
        self, path: str, status: int, user: str = "ann", seconds: float = 10.0, begins: str = ""
    ) -> tuple[float, Answer]:
        """Ask until the status comes, with a text that begins so; how long it took, and the answer."""
        begun = time.monotonic()
        while (answer := await self.ask(path, user)).status != status or not answer.text.startswith(begins):
            assert time.monotonic() - begun < seconds, answer
            await asyncio.sleep(0.05)
        return time.monotonic() - begun, answer


@dataclass
class LocalSite(ProjectSite):
    """One server that serves the projects of a SQLite file."""

    server: Server
    file: Path

    @property
    def entry(self) -> Server:
        return self.server

    @property
    def dsn(self) -> str:
        return f"sqlite:///{self.file}"


@contextmanager
def local_site(home: Path, *arguments: str, settings: Mapping[str, object] | None = None, base: str = "/") -> Iterator[LocalSite]:
    """A server with the resolver "local" and empty tables; `settings` of `c.PortProxy`, and arguments of the server."""
    file = home / "projects.sqlite"
    with ThreadPoolExecutor() as pool:  # the test's loop may be running
        pool.submit(asyncio.run, make_tables(f"sqlite:///{file}")).result()
    (home / ".jupyter").mkdir(exist_ok=True)
    traits = {"project_resolver": "local", "projects_path": str(file), **(settings or {})}
    config = {"ServerApp": {"jpserver_extensions": BARE}, "PortProxy": traits}
    (home / ".jupyter" / "jupyter_server_config.json").write_text(json.dumps(config))
    with jupyter_server(home, *(arguments or [NAMED_USERS]), more={"PYTHONPATH": ROOT}, base=base) as server:
        yield LocalSite(server, file)
        assert "Traceback" not in server.log, server.log


async def make_tables(dsn: str) -> None:
    admin = PlacementAdmin(dsn)
    await admin.init()
    await admin.close()


async def place_locally(admin: PlacementAdmin, key: str, owner: str = "ann", name: str = "proj", **more) -> None:
    """A project on this machine, with a member bob and a viewer eve."""
    await admin.place(key, LOCAL_HOST, owner=owner, name=name, **more)
    await admin.add_member(key, "bob", "member")
    await admin.add_member(key, "eve", "viewer")


@contextmanager
def two_projects(site: LocalSite, name: str, ports: str, members: Mapping[str, str]) -> Iterator[PlacementAdmin]:
    """The site's placements, with two projects alone: `of-ann` with that name, those ports and members, and bob's.

    Tests that run at once see each other's listening sockets: each file has other ports.
    """
    admin, loop = PlacementAdmin(site.dsn), asyncio.new_event_loop()

    async def place() -> None:
        for project in await admin.list():
            await admin.remove(project.key)
        await admin.place("of-ann", LOCAL_HOST, owner="ann", name=name, allowed_ports=[ports])
        await admin.place("of-bob", LOCAL_HOST, owner="bob", name="demo", allowed_ports=["15200-15299"])
        for member, role in members.items():
            await admin.add_member("of-ann", member, role)

    loop.run_until_complete(place())
    yield admin
    loop.run_until_complete(admin.close())
    loop.close()
