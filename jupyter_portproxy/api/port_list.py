"""The listening ports of this machine as the API shows them: who listens, whether the policy allows it, and the page's title.

A scan happens only when the list is read and older than `max_age`. It probes new ports only, and of these only allowed ports of
the server's own user that may speak HTTP; a page is kept until its process ends, its scheme changes by a rule of the user's, or
`probe_again` is called.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from logging import Logger
from typing import Any, TypeVar

from ..errors import BadUpstream, GatewayError
from ..gateway.gateway import Gateway
from ..gateway.probe import Probe
from ..protocol import framing, page_head, urls
from ..protocol.headers import Fields
from ..protocol.urls import Route
from ..services.listeners import Listener, Listeners
from ..system import command_lines

_MAX_PROBES = 8  # at once
_PROBING_LIMIT = 4.0  # s for the new ports of one scan; the next scan probes the others
_TIME_SLICE = 0.005  # s of work on the list between two turns of the loop
_REACHED_BY_LOCALHOST = frozenset({"127.0.0.1", "::1", "0.0.0.0", "::"})  # noqa: S104 (nothing is bound here)
Item = dict[str, Any]
PageKey = tuple[int, int, str]  # port, pid or 0, scheme
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page:
    """The response of a port: whether it answers HTTP, and the title and icon of its HTML page.

    Attributes:
        is_tcp: what it has answered is not HTTP.
    """

    http: bool
    title: str = ""
    icon: str = ""
    is_tcp: bool = False


class PortList:
    """The listening ports.

    Args:
        hidden_ports: returns the ports of the Jupyter server itself.
        max_age: seconds for which a scan is good.
    """

    def __init__(
        self, gateway: Gateway, probe: Probe, base_url: str, hidden_ports: Callable[[], set[int]], *, max_age: float = 1.0
    ) -> None:
        self._gateway, self._probe, self._base_url, self._hidden_ports = gateway, probe, base_url, hidden_ports
        self._max_age = max_age
        self._listeners = Listeners()
        self._scanned_at = float("-inf")
        self._scanning = asyncio.Lock()
        self._items: list[Item] = []
        self._services: dict[int, str] = {}  # by port, at the time of the scan
        self._pages: dict[PageKey, Page] = {}
        self._first_port = 0  # the port that the next scan probes first

    async def read(self) -> list[Item]:
        """The ports (schema `Port` of docs/openapi.yaml)."""
        async with self._scanning:  # concurrent readers wait: pages that are being probed would be missing
            if time.monotonic() - self._scanned_at > self._max_age:
                hidden_ports, started = self._hidden_ports(), time.monotonic()
                listeners = [listener for listener in await self._find_listeners() if listener.port not in hidden_ports]
                self._services = self._services_by_port()
                await self._probe_new_pages(listeners)
                self._items = await self._describe_all(listeners)
                self._scanned_at = started
        services = {**self._services, **self._services_by_port()}  # a service that ended since the scan still owns its port
        return [{**item, "service": services.get(item["port"])} for item in self._items]

    def describe_unused(self, port: int) -> Item:
        """The item of a port on which no program listens."""
        return self._describe(Listener(port, ("127.0.0.1",), "", True, None))

    def probe_again(self, port: int) -> None:
        """Let the next `read` scan, and probe the page of this port first."""
        self._pages = {key: page for key, page in self._pages.items() if key[0] != port}
        self._first_port = port
        self.scan_again()

    def scan_again(self) -> None:
        """Let the next `read` scan."""
        self._scanned_at = float("-inf")

    async def _find_listeners(self) -> list[Listener]:
        omitted_before, listeners = self._listeners.left_out, await asyncio.to_thread(self._listeners.refresh)
        if self._listeners.left_out and not omitted_before:
            self._gateway.log.warning("portproxy: %d listening sockets of others are not listed", self._listeners.left_out)
        return listeners

    def _services_by_port(self) -> dict[int, str]:
        return {s.endpoint.port: s.name for s in self._gateway.services.list() if s.alive and s.endpoint.port}

    # ---- items ----

    async def _describe_all(self, listeners: list[Listener]) -> list[Item]:
        """The items of the listeners, in time slices: another user may listen on thousands of ports."""
        items: list[Item] = []
        started = time.perf_counter()
        for listener in listeners:
            items += describe_all("port", self._describe, [listener], self._gateway.log)
            if time.perf_counter() - started > _TIME_SLICE:
                await asyncio.sleep(0)
                started = time.perf_counter()
        return items

    def _describe(self, listener: Listener) -> Item:
        reason_code, reason, may_allow = self._refusal(listener)
        attributes = self._gateway.policy.attributes_of(listener.port)
        scheme = self._gateway.policy.protocol_of(listener.port, attributes)
        page = self._pages.get(_page_key(listener, scheme), Page(False))
        is_tcp = scheme == "tcp" or page.is_tcp
        if self._gateway.policy.allows_only_tcp(listener.port):
            scheme, is_tcp = "tcp", True
        process = listener.process
        return {
            "port": listener.port,
            "addresses": list(listener.addresses),
            "owner": listener.owner,
            "mine": listener.mine,
            "pid": process.pid if process else None,
            "process": command_lines.printable(process.name) if process else "",
            "command": command_lines.mask_secrets(process.command) if process else [],
            "since": process.since if process else None,
            "allowed": not reason_code,
            "reason": reason,
            "reason_code": reason_code,
            "may_allow": may_allow,
            "allowed_by_user": not reason_code and not self._gateway.policy.allows_port(listener.port),
            "url": urls.build_port_path(self._base_url, listener.port) if not reason_code and scheme != "tcp" else None,
            "scheme": scheme,
            "label": attributes.label,
            "http": page.http,
            "tcp": is_tcp,
            "title": page.title,
            "icon": page.icon,
        }

    def _refusal(self, listener: Listener) -> tuple[str, str, bool]:
        """Why a port cannot be reached, as a stable code and a sentence (both empty if it can), and if its user may allow it."""
        is_only_tcp = self._gateway.policy.allows_only_tcp(listener.port)
        try:
            scheme = "tcp" if is_only_tcp else "http"
            self._gateway.policy.check(Route(urls.LOOPBACK_NAME, listener.port, "", "/", "", scheme=scheme))
        except GatewayError as error:
            return error.code, error.message, getattr(error, "allowable_port", None) is not None and listener.mine
        if not _REACHED_BY_LOCALHOST & set(listener.addresses):
            return "not_on_localhost", f"It listens on {', '.join(listener.addresses)} only, not on localhost.", False
        is_for_one = self._gateway.policy.required_owner(listener.port) is not None and not is_only_tcp
        is_for_all = listener.owner == "root" or self._gateway.settings.allow_other_users
        if not listener.mine and listener.owner and (is_for_one or not is_for_all):
            return "other_user", f"It belongs to another user of this machine ({listener.owner}).", False
        return "", "", False

    # ---- pages ----

    async def _probe_new_pages(self, listeners: list[Listener]) -> None:
        schemes = {each.port: self._gateway.policy.protocol_of(each.port) for each in listeners if each.mine}
        keys = {_page_key(each, schemes[each.port]): each for each in listeners if each.mine}
        self._pages = {key: page for key, page in self._pages.items() if key in keys}
        new = [key for key in keys if key not in self._pages and self._may_probe(key[0], key[2])]
        new.sort(key=lambda key: key[0] != self._first_port)
        slots = asyncio.Semaphore(_MAX_PROBES)
        tasks = [asyncio.ensure_future(self._probe_page(key, keys[key], slots)) for key in new]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=_PROBING_LIMIT)
        finally:
            for task in tasks:
                task.cancel()

    def _may_probe(self, port: int, scheme: str) -> bool:
        is_excluded = scheme == "tcp" or port in self._gateway.settings.unprobed_ports
        return not is_excluded and not self._gateway.policy.allows_only_tcp(port)

    async def _probe_page(self, key: PageKey, listener: Listener, slots: asyncio.Semaphore) -> None:
        page = Page(False)
        try:
            if self._refusal(listener)[0]:
                return
            async with slots:
                response = await self._probe.page(listener.port)
            if response is not None:
                page = parse_page(*response, prefix=f"{self._base_url}proxy/port/{listener.port}")
        except BadUpstream:
            page = Page(False, is_tcp=key[2] == "http")
        except Exception as error:
            self._gateway.log.error("portproxy: the page of port %d cannot be read: %r", listener.port, error)
        self._pages[key] = page


def _page_key(listener: Listener, scheme: str) -> PageKey:
    return listener.port, listener.process.pid if listener.process else 0, scheme


def describe_all(kind: str, describe: Callable[[T], Item], objects: Iterable[T], log: Logger) -> list[Item]:
    """An item for each object; an object that cannot be described, or not as JSON, is logged and left out."""
    items = []
    for each in objects:
        try:
            item = describe(each)
            json.dumps(item)
            items.append(item)
        except Exception as error:
            log.error("portproxy: a %s is left out of the list: %r", kind, error)
    return items


def parse_page(fields: Fields, content: bytes, *, prefix: str) -> Page:
    """Title and icon of an HTML page; the icon as a URL below `prefix`, or empty."""
    if "html" not in framing.find_field(fields, "content-type").lower():
        return Page(True)
    title, icon = page_head.parse_page_head(content)
    return Page(True, title, page_head.build_icon_url(icon, prefix))
