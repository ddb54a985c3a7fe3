"""The server-sent events of the API: a snapshot of the listing, its changes, and notices.

While at least one client watches, one background task compares the listing with the last one every `poll_interval`; changes of a
service's state are published at once. Without watchers there is no task. A notice that comes without watchers waits for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from logging import Logger

from ..services.manager import Service, ServiceManager
from ..system import background_tasks
from .listing import Listing
from .port_list import Item

_HEARTBEAT_INTERVAL = 15.0  # s between comments on quiet streams, so that reverse proxies keep them open
_MAX_NOTICES = 20
_MAX_QUEUED = 10_000  # events of a client that does not read
_CLOSED = "closed"
_KINDS = ("port", "service", "reservation")
_Key = tuple[str, str]


class Events:
    """Publishes changes to all watchers.

    Args:
        poll_interval: seconds between comparisons of the listing.
        retry_pause: seconds after a comparison that failed.
    """

    def __init__(
        self,
        listing: Listing,
        services: ServiceManager,
        log: Logger,
        *,
        poll_interval: float = 2.0,
        retry_pause: float = background_tasks.FIRST_PAUSE,
    ) -> None:
        self._listing, self._services, self._log = listing, services, log
        self._poll_interval, self._retry_pause = poll_interval, retry_pause
        self._watchers: set[asyncio.Queue[tuple[str, Item]]] = set()
        self._published: dict[_Key, Item] = {}
        self._poll_task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._waiting_notices: list[Item] = []
        self._noticed: set[_Key] = set()

    async def watch(self) -> AsyncIterator[tuple[str, Item] | None]:
        """Yield ("snapshot", everything), then ("changed" | "removed" | "notice", item); None after each quiet interval."""
        queue: asyncio.Queue[tuple[str, Item]] = asyncio.Queue(maxsize=_MAX_QUEUED)
        self._publish_changes(await self._read_all())
        # No await from here to the start of the task: no change after the snapshot is lost, and two watchers share one task.
        snapshot = {f"{kind}s": [item for key, item in self._published.items() if key[0] == kind] for kind in _KINDS}
        self._watchers.add(queue)
        if self._poll_task is None:
            self._unsubscribe = self._services.subscribe(self._service_changed)
            self._poll_task = background_tasks.run("events", self._poll, self._log, first_pause=self._retry_pause)
        try:
            yield "snapshot", snapshot
            while self._waiting_notices:
                yield "notice", self._waiting_notices.pop(0)
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _HEARTBEAT_INTERVAL)
                except asyncio.TimeoutError:
                    yield None
                    continue
                if event[0] == _CLOSED:
                    return
                yield event
        finally:
            self._watchers.discard(queue)
            if not self._watchers and self._poll_task is not None:
                self._poll_task.cancel()
                self._poll_task = None
                self._unsubscribe()

    def report_lost_socket(self, path: str, prefix: str) -> None:
        """Publish, once, that a page below `prefix` opened a WebSocket at a path that belongs to no service."""
        if (prefix, path) in self._noticed or len(self._noticed) >= _MAX_NOTICES:
            return
        self._noticed.add((prefix, path))
        url, isolated = (f"{prefix}/", self._listing.entrance_of(prefix)) if prefix else (None, None)
        notice = {"kind": "lost-socket", "path": path[:200], "url": url, "isolated": isolated}
        if self._watchers:
            self._publish("notice", notice)
        else:
            self._waiting_notices.append(notice)

    def close(self) -> None:
        self._publish(_CLOSED, {})
        if self._poll_task is not None:
            self._poll_task.cancel()

    # ---- changes ----

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_interval)
            self._publish_changes(await self._read_all())

    async def _read_all(self) -> dict[_Key, Item]:
        ports = {("port", f"{item['port']}/{item['pid']}"): item for item in await self._listing.ports()}
        reservations = {("reservation", item["name"]): item for item in self._listing.reservations()}
        return {**ports, **reservations, **self._read_services()}

    def _read_services(self) -> dict[_Key, Item]:
        return {("service", item["name"]): item for item in self._listing.services()}

    def _service_changed(self, service: Service) -> None:
        others = {key: item for key, item in self._published.items() if key[0] != "service"}
        self._publish_changes({**others, **self._read_services()})

    def _publish_changes(self, now: dict[_Key, Item]) -> None:
        before, self._published = self._published, now
        for key, item in now.items():
            if before.get(key) != item:
                self._publish("changed", {"kind": key[0], **item})
        for key in before.keys() - now.keys():
            self._publish("removed", {"kind": key[0], **before[key]})

    def _publish(self, event: str, item: Item) -> None:
        for queue in list(self._watchers):
            if queue.full():
                queue.get_nowait()  # drop the oldest; the client's next snapshot has all
            queue.put_nowait((event, item))
