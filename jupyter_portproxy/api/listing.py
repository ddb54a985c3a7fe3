"""What runs beside this server, as one list: listeners with what the policy says of them, and services; and its changes.

Rule of this file: it looks only while somebody asks or watches, and sends a packet only to allowed ports of this very user.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from tornado.httputil import HTTPServerRequest

from ..errors import GatewayError
from ..gateway.gateway import Gateway
from ..gateway.probe import Probe
from ..protocol import framing, page_head, urls
from ..protocol.headers import Fields
from ..protocol.origin_hosts import FRAME_FEATURES, WELL_KNOWN_PATH
from ..protocol.urls import Route
from ..services.listeners import Listener, Listeners
from ..services.manager import Service
from ..services.ports import Reservation
from ..services.templates import Template
from ..system import background_tasks, command_lines

_FRESH = 1.0  # s: two that ask within it get the same list
_PERIOD = 2.0  # s between looks while somebody watches
_HEARTBEAT = 15.0  # s: a comment on quiet event streams, so that fronts keep them open
_PROBES_AT_ONCE = 8
_PROBING_LIMIT = 4.0  # s for the new ports of one list: those that are not asked by then are asked for the next one
_SLICE = 0.005  # s of work on the list between two turns of the loop
_MOST_NOTICES = 20
_CLOSED = "closed"
_KINDS = ("port", "service", "reservation")
_REACHED_BY_LOCALHOST = frozenset({"127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 (nothing is bound here)
Item = dict[str, Any]
Key = tuple[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """What a port answered: whether it speaks HTTP, and the title and icon of its page, if it is one."""

    http: bool
    title: str = ""
    icon: str = ""


class Inventory:
    """Lists ports and services. `hidden` tells the ports that are Jupyter's own."""

    def __init__(self, gateway: Gateway, probe: Probe, base_url: str, hidden: Callable[[], set[int]]) -> None:
        self._gateway, self._probe, self._base_url, self._hidden = gateway, probe, base_url, hidden
        self._listeners = Listeners()
        self._seen: list[Listener] = []
        self._ports: list[Item] = []
        self._held: dict[int, str] = {}  # port -> the service that was on it when it was seen
        self._seen_at = float("-inf")
        self._looked_for = 0  # the port that somebody asks about: its page is asked first
        self._looking = asyncio.Lock()
        self._pages: dict[tuple[int, int], Page] = {}
        self._watchers: set[asyncio.Queue[tuple[str, Item]]] = set()
        self._known: dict[Key, Item] = {}
        self._poll: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._notices: dict[Key, Item] = {}  # nobody has been told of these yet
        self._told: set[Key] = set()

    async def ports(self) -> list[Item]:
        """The listeners, each with what a person needs to know of it."""
        async with self._looking:  # who asks meanwhile waits, or sees pages that have not answered yet as none
            if time.monotonic() - self._seen_at > _FRESH:
                hidden, begun = self._hidden(), time.monotonic()
                self._seen = [found for found in await self._refreshed() if found.port not in hidden]
                self._held = self._services_by_port()
                await self._look_at_new_pages()
                self._ports = await self._listed()
                self._seen_at = begun
        on = {**self._held, **self._services_by_port()}  # one that has ended since the port was seen is still its owner
        return [{**item, "service": on.get(item["port"])} for item in self._ports]

    async def _listed(self) -> list[Item]:
        """The items of the listeners, in slices: another user may listen on thousands of ports."""
        items: list[Item] = []
        begun = time.perf_counter()
        for found in self._seen:
            items += self._items("a port", self._port, [found])
            if time.perf_counter() - begun > _SLICE:
                await asyncio.sleep(0)
                begun = time.perf_counter()
        return items

    def _items(self, what: str, describe: Callable[[T], Item], things: Iterable[T]) -> list[Item]:
        """What the API tells of each; one that cannot be described, or is no JSON, is logged and left out."""
        items = []
        for thing in things:
            try:
                item = describe(thing)
                json.dumps(item)
                items.append(item)
            except Exception as error:
                self._gateway.log.error("portproxy: %s is left out of the list: %r", what, error)
        return items

    async def _refreshed(self) -> list[Listener]:
        """The listeners of this machine, asked for in a thread."""
        before, found = self._listeners.left_out, await asyncio.to_thread(self._listeners.refresh)
        if self._listeners.left_out and not before:
            self._gateway.log.warning("portproxy: %d listening sockets of others are not listed", self._listeners.left_out)
        return found

    async def look_again(self, port: int) -> None:
        """Ask a port once more for its page, when it is listed next."""
        self._pages = {key: page for key, page in self._pages.items() if key[0] != port}
        self._looked_for, self._seen_at = port, float("-inf")

    def services(self) -> list[Item]:
        return self._items("a service", self.service, self._gateway.services.list())

    def service(self, service: Service) -> Item:
        """One service as the API tells it."""
        return {
            "name": service.name,
            "template": service.template.name,
            "title": service.template.title,
            "icon": service.template.icon,
            "arguments": dict(service.arguments),
            "runs": self._gateway.services.describe(service),
            "state": service.state,
            "since": service.since,
            "error": service.error,
            "exit_code": service.exit_code,
            "port": service.endpoint.port or None,
            "url": self._url(service.prefix, service.template),
            "open_in": service.template.open_in,
            "needs_storage": service.template.needs_storage,
            "last_lines": service.log.last_lines() if service.error and not service.alive else [],
        }

    @staticmethod
    def _url(prefix: str | None, template: Template) -> str | None:
        """The address of a service's first page; None for a template that nobody starts by opening it."""
        return f"{prefix}/{template.path_info.lstrip('/')}" if prefix is not None else None

    def origins(self, request: HTTPServerRequest) -> Item:
        """How services are to be opened, for a page of Jupyter's that asks with this request.

        `probe` is an address that answers 204 to this page where its browser finds origins, `origin` any of these with `{target}`
        for what it is of; null if there are none for it.
        """
        origins, scheme = self._gateway.origins, request.protocol
        probed = origins.names.find_host("1", request) if origins is not None else None
        if origins is not None:
            origins.add_jupyter(request.headers.get("Host", "").lower())
        probe = f"{scheme}://{probed}{WELL_KNOWN_PATH}hello" if probed is not None else None
        origin = f"{scheme}://{origins.names.build_pattern(probed)}" if origins is not None and probed is not None else None
        isolate = self._gateway.settings.isolate
        return {"isolate": isolate, "probe": probe, "origin": origin, "features": list(FRAME_FEATURES)}

    def reservations(self) -> list[Item]:
        return self._items("a reservation", self.reservation, self._gateway.reservations.list())

    def reservation(self, reservation: Reservation) -> Item:
        """One reservation as the API tells it."""
        url = f"{urls.build_service_path(self._base_url, reservation.name)}/"
        return {
            "name": reservation.name,
            "port": reservation.port,
            "until": reservation.until,
            "used": reservation.used,
            "url": url,
        }

    def templates(self) -> list[Item]:
        manager = self._gateway.services
        return [
            {
                "name": template.name,
                "title": template.title,
                "category": template.category,
                "icon": template.icon,
                "open_in": template.open_in,
                "needs_storage": template.needs_storage,
                "launcher": template.launcher,
                "external": template.external,
                "url": self._url(manager.prefix(template.name), template),
                "available": template.available,
                "hint": template.requires.hint if template.requires and not template.available else "",
                "arguments": [
                    {"name": a.name, "label": a.label or a.name, "default": a.default, "kind": a.kind, "choices": list(a.choices)}
                    for a in template.arguments
                ],
            }
            for template in manager.templates.values()
        ]

    async def watch(self) -> AsyncIterator[tuple[str, Item] | None]:
        """First ("snapshot", everything), then ("changed" | "removed", item) as it happens; None when it has long been quiet."""
        queue: asyncio.Queue[tuple[str, Item]] = asyncio.Queue(maxsize=10_000)
        self._compare(await self._everything())
        # From here to the poll nothing waits: all that changes after the snapshot is told, and two watchers have one poll.
        snapshot = {f"{kind}s": [item for key, item in self._known.items() if key[0] == kind] for kind in _KINDS}
        self._watchers.add(queue)
        if self._poll is None:
            self._unsubscribe = self._gateway.services.subscribe(self._service_changed)
            self._poll = background_tasks.run("inventory", self._poll_forever, self._gateway.log)
        try:
            yield "snapshot", snapshot
            while self._notices:
                yield "notice", self._notices.pop(next(iter(self._notices)))
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _HEARTBEAT)
                except asyncio.TimeoutError:
                    yield None
                    continue
                if event[0] == _CLOSED:
                    return
                yield event
        finally:
            self._watchers.discard(queue)
            if not self._watchers and self._poll is not None:
                self._poll.cancel()
                self._poll = None
                self._unsubscribe()

    def _service_changed(self, service: Service) -> None:
        """A service has another state; watchers learn it at once."""
        others = {key: item for key, item in self._known.items() if key[0] != "service"}
        self._compare({**others, **{("service", item["name"]): item for item in self.services()}})

    def lost_socket(self, path: str, prefix: str) -> None:
        """A page opened a WebSocket to a path of Jupyter's where nothing is: told once, at once or to whoever looks next."""
        key = (prefix, path)
        if key in self._told or len(self._told) >= _MOST_NOTICES:
            return
        self._told.add(key)
        origins = self._gateway.origins
        target = self._target_below(prefix) if origins is not None and origins.names.is_available else ""
        notice = {
            "kind": "lost-socket",
            "path": path[:200],
            "url": f"{prefix}/" if prefix else None,
            "isolated": f"{self._base_url}proxy/enter/{target}/" if target else None,
        }
        if self._watchers:
            self._publish("notice", notice)
        else:
            self._notices[key] = notice

    def _target_below(self, prefix: str) -> str:
        """The port or the service of a prefix that can have an origin of its own; empty if it is none of these."""
        match prefix.removeprefix(self._base_url).split("/"):
            case ["proxy", "port" | "service", target] | ["server", target]:
                return target
            case ["proxy", target] if target.isdigit():
                return target
            case [target]:
                return target
        return ""

    def close(self) -> None:
        """End every watch."""
        self._publish(_CLOSED, {})
        if self._poll is not None:
            self._poll.cancel()

    # ---- changes ----

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(_PERIOD)
            self._compare(await self._everything())

    async def _everything(self) -> dict[Key, Item]:
        ports = {("port", f"{item['port']}/{item['pid']}"): item for item in await self.ports()}
        reserved = {("reservation", item["name"]): item for item in self.reservations()}
        return {**ports, **reserved, **{("service", item["name"]): item for item in self.services()}}

    def _compare(self, now: dict[Key, Item]) -> None:
        before, self._known = self._known, now
        for key, item in now.items():
            if before.get(key) != item:
                self._publish("changed", {"kind": key[0], **item})
        for key in before.keys() - now.keys():
            self._publish("removed", {"kind": key[0], **before[key]})

    def _publish(self, event: str, item: Item) -> None:
        for queue in list(self._watchers):
            if queue.full():
                queue.get_nowait()  # a watcher that does not read; its next snapshot mends it
            queue.put_nowait((event, item))

    # ---- one port ----

    def _port(self, found: Listener) -> Item:
        reason_code, reason = self._refusal(found)
        page = self._pages.get(_page_key(found), Page(False))
        process = found.process
        return {
            "port": found.port,
            "addresses": list(found.addresses),
            "owner": found.owner,
            "mine": found.mine,
            "pid": process.pid if process else None,
            "process": command_lines.printable(process.name) if process else "",
            "command": command_lines.mask_secrets(process.command) if process else [],
            "since": process.since if process else None,
            "allowed": not reason_code,
            "reason": reason,
            "reason_code": reason_code,
            "url": f"{self._base_url}proxy/port/{found.port}/" if not reason_code else None,
            "http": page.http,
            "title": page.title,
            "icon": page.icon,
        }

    def _refusal(self, found: Listener) -> tuple[str, str]:
        """Why a port cannot be reached, as a stable code and a sentence; both are empty if it can."""
        try:
            self._gateway.policy.check(Route(urls.LOOPBACK_NAME, found.port, "", "/", ""))
        except GatewayError as error:
            return error.code, error.message
        if not _REACHED_BY_LOCALHOST & set(found.addresses):
            return "not_on_localhost", f"It listens on {', '.join(found.addresses)} only, not on localhost."
        if not found.mine and found.owner not in ("root", "") and not self._gateway.settings.allow_other_users:
            return "other_user", f"It belongs to another user of this machine ({found.owner})."
        return "", ""

    def _services_by_port(self) -> dict[int, str]:
        return {s.endpoint.port: s.name for s in self._gateway.services.list() if s.alive and s.endpoint.port}

    # ---- pages ----

    async def _look_at_new_pages(self) -> None:
        keys = {_page_key(found) for found in self._seen}
        self._pages = {key: page for key, page in self._pages.items() if key in keys}
        excluded = set(self._gateway.settings.unprobed_ports)
        mine = [found for found in self._seen if found.mine and found.port not in excluded]
        new = [found for found in mine if _page_key(found) not in self._pages]
        gate = asyncio.Semaphore(_PROBES_AT_ONCE)
        new.sort(key=lambda found: found.port != self._looked_for)
        tasks = [asyncio.ensure_future(self._look_at(found, gate)) for found in new]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=_PROBING_LIMIT)
        finally:
            for task in tasks:
                task.cancel()

    async def _look_at(self, found: Listener, gate: asyncio.Semaphore) -> None:
        page = Page(False)
        try:
            if self._refusal(found)[0]:
                return
            async with gate:
                answer = await self._probe.page(found.port)
            if answer is not None:
                page = read_page(*answer, prefix=f"{self._base_url}proxy/port/{found.port}")
        except Exception as error:
            self._gateway.log.error("portproxy: the page of port %d cannot be read: %r", found.port, error)
        self._pages[_page_key(found)] = page


def read_page(fields: Fields, content: bytes, *, prefix: str) -> Page:
    """Title and icon of an HTML page; the icon as a URL below `prefix`, or empty."""
    if "html" not in framing.find_field(fields, "content-type").lower():
        return Page(True)
    title, icon = page_head.parse_page_head(content)
    return Page(True, title, page_head.build_icon_url(icon, prefix))


def _page_key(found: Listener) -> tuple[int, int]:
    return found.port, found.process.pid if found.process else 0
