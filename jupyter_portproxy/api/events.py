"""The server-sent events of the API: a snapshot of the listing, its changes, and notices.

While at least one client watches, one background task compares the listing with the last one every `poll_interval`, and the
output of services that are starting more often; changes of a service's state are published at once. Without watchers there is no
task. A notice that comes without watchers waits for the next.
Folders with project files are for watchers who may start services; the comparison reads those again whose files have changed.
Projects are those that the watcher's user may see: they are read again when a port or a project has changed, else each
`_PROJECTS_INTERVAL`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from logging import Logger
from typing import Protocol, TypeVar

from ..errors import GatewayError
from ..gateway.notices import LostSocket, Notice
from ..services.manager import ServiceManager
from ..services.service import Service
from ..system import background_tasks
from .listing import Listing
from .port_list import Item
from .project_list import ProjectList

_HEARTBEAT_INTERVAL = 15.0  # s between comments on quiet streams, so that reverse proxies keep them open
_MAX_NOTICES = 20
_MAX_NOTICE_AGE = 600.0  # s that a notice about a page waits for a watcher
_MAX_QUEUED = 10_000  # events of a client that does not read
_CLOSED = "closed"
_KINDS = ("port", "service", "reservation")
_RULE = "port_rule"
_AGENT = "agent"
_FOLDER = "folder"
_PROJECTS_INTERVAL = 10.0  # s
_OUTPUT_CHECKS = 4  # in each poll interval, of the output of services that are starting
_Key = tuple[str, str]
K = TypeVar("K")


class WatchedFolders(Protocol):
    """The folders with project files."""

    async def refresh(self) -> None:
        """Read again what has changed."""

    def items(self) -> list[Item]:
        """The folders as the API shows them, with `folder` as their key."""


@dataclass(frozen=True, slots=True)
class _Watcher:
    """Attributes: username: whose projects are shown; None for no projects."""

    username: str | None
    sees_folders: bool

    def sees(self, item: Item, username: str | None) -> bool:
        """Whether an event is for this watcher. `username`: of the only user whom it is for."""
        return (username is None or username == self.username) and (self.sees_folders or item.get("kind") != _FOLDER)


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
        projects: ProjectList | None = None,
        folders: WatchedFolders | None = None,
        *,
        poll_interval: float = 2.0,
        retry_pause: float = background_tasks.FIRST_PAUSE,
    ) -> None:
        self._listing, self._services, self._log, self._projects = listing, services, log, projects
        self._folders, self._poll_interval, self._retry_pause = folders, poll_interval, retry_pause
        self._watchers: dict[asyncio.Queue[tuple[str, Item]], _Watcher] = {}
        self._published: dict[_Key, Item] = {}
        self._published_projects: dict[str, dict[str, Item]] = {}  # by user and key, for users with watchers
        self._projects_version, self._projects_read_at = -1, -float("inf")
        self._poll_task: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None
        self._waiting_notices: dict[Hashable, tuple[float, Item]] = {}  # by their subject: until when, and what
        self._noticed: set[LostSocket] = set()

    async def watch(self, username: str | None = None, *, sees_folders: bool = False) -> AsyncIterator[tuple[str, Item] | None]:
        """Yield ("snapshot", everything), then ("changed" | "removed" | "notice", item); None after each quiet interval.

        Args:
            username: whose projects are shown; None for no projects.
            sees_folders: whether folders with project files are shown, where there are any.
        """
        queue: asyncio.Queue[tuple[str, Item]] = asyncio.Queue(maxsize=_MAX_QUEUED)
        self._publish_changes(await self._read_all())
        shown = await self._publish_projects(username) if username is not None else None
        # No await from here to the start of the task: no change after the snapshot is lost, and two watchers share one task.
        snapshot = self._snapshot(sees_folders=sees_folders)
        if shown is not None and username is not None:
            snapshot["projects"] = list(shown.values())
            self._published_projects[username] = shown
        self._watchers[queue] = _Watcher(username, sees_folders)
        if self._poll_task is None:
            self._unsubscribe = self._services.subscribe(self._service_changed)
            self._poll_task = background_tasks.run("events", self._poll, self._log, first_pause=self._retry_pause)
        try:
            yield "snapshot", snapshot
            while self._waiting_notices:
                until, notice = self._waiting_notices.pop(next(iter(self._waiting_notices)))
                if time.monotonic() < until:
                    yield "notice", notice
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
            self._watchers.pop(queue, None)
            if username not in {watcher.username for watcher in self._watchers.values()}:
                self._published_projects.pop(username or "", None)
            if not self._watchers and self._poll_task is not None:
                self._poll_task.cancel()
                self._poll_task = None
                self._unsubscribe()

    def _snapshot(self, *, sees_folders: bool) -> Item:
        """What is published now, without projects; lists that this server does not have are left out."""
        folders = self._folders.items() if self._folders is not None and sees_folders else None
        lists = {_RULE: self._listing.port_rules(), _AGENT: self._listing.agents(), _FOLDER: folders}
        kinds = (*_KINDS, *(kind for kind, items in lists.items() if items is not None))
        return {f"{kind}s": [item for key, item in self._published.items() if key[0] == kind] for kind in kinds}

    def report(self, notice: Notice) -> None:
        """Publish a notice; each lost WebSocket once."""
        if isinstance(notice, LostSocket):
            if notice in self._noticed or len(self._noticed) >= _MAX_NOTICES:
                return
            self._noticed.add(notice)
            age, item = float("inf"), self._describe_lost_socket(notice)
        else:
            age, item = _MAX_NOTICE_AGE, {"kind": "failed-requests", **asdict(notice)}
        if self._watchers:
            self._publish("notice", item)
            return
        subject: Hashable = notice if isinstance(notice, LostSocket) else notice.target
        self._waiting_notices.pop(subject, None)
        self._waiting_notices[subject] = (time.monotonic() + age, item)
        if len(self._waiting_notices) > _MAX_NOTICES:
            self._waiting_notices.pop(next(iter(self._waiting_notices)))

    def _describe_lost_socket(self, notice: LostSocket) -> Item:
        prefix = notice.prefix
        url, isolated = (f"{prefix}/", self._listing.entrance_of(prefix)) if prefix else (None, None)
        return {"kind": "lost-socket", "path": notice.path[:200], "url": url, "isolated": isolated}

    def close(self) -> None:
        self._publish(_CLOSED, {})
        if self._poll_task is not None:
            self._poll_task.cancel()

    # ---- changes ----

    async def _poll(self) -> None:
        while True:
            for _ in range(_OUTPUT_CHECKS):
                await asyncio.sleep(self._poll_interval / _OUTPUT_CHECKS)
                if any(service.state == "starting" for service in self._services.list()):
                    self._publish_services()
            has_changed = self._publish_changes(await self._read_all())
            await self._poll_projects(has_changed)

    async def _poll_projects(self, has_changed: bool) -> None:
        if self._projects is None:
            return
        version, now = self._projects.directory.version, time.monotonic()
        if has_changed or version != self._projects_version or now - self._projects_read_at > _PROJECTS_INTERVAL:
            self._projects_version, self._projects_read_at = version, now
            for username in {each.username for each in self._watchers.values() if each.username is not None}:
                await self._publish_projects(username)
                await asyncio.sleep(0)  # a read of SQLite does not yield to the loop

    async def _publish_projects(self, username: str) -> dict[str, Item] | None:
        """Publish what has changed of a user's projects, and return them; None if there are none to show."""
        if self._projects is None:
            return None
        try:
            now = {item["key"]: item for item in await self._projects.read(username)}
        except GatewayError:  # the database is away: what was shown stays
            return self._published_projects.get(username, {})
        before = self._published_projects.get(username)
        if before is not None:
            self._published_projects[username] = now
            for event, _, item in _differences(before, now):
                self._publish(event, {"kind": "project", **item}, username)
        return now

    async def _read_all(self) -> dict[_Key, Item]:
        if self._folders is not None:
            await self._folders.refresh()
        ports = {("port", f"{item['port']}/{item['pid']}"): item for item in await self._listing.ports()}
        reservations = {("reservation", item["name"]): item for item in self._listing.reservations()}
        rules = {(_RULE, item["id"]): item for item in self._listing.port_rules() or []}
        return {**rules, **ports, **reservations, **self._read_services()}  # a new port is shown by its rule

    def _read_services(self) -> dict[_Key, Item]:
        """The services, and the agents and folders, which change together."""
        agents = {(_AGENT, item["name"]): item for item in self._listing.agents() or []}
        folders = {(_FOLDER, item["folder"]): item for item in (self._folders.items() if self._folders is not None else ())}
        return {**agents, **folders, **{("service", item["name"]): item for item in self._listing.services()}}

    def _service_changed(self, service: Service) -> None:
        self._publish_services()

    def _publish_services(self) -> None:
        others = {key: item for key, item in self._published.items() if key[0] not in ("service", _AGENT, _FOLDER)}
        self._publish_changes({**others, **self._read_services()})

    def _publish_changes(self, now: dict[_Key, Item]) -> bool:
        """True if there were changes."""
        before, self._published = self._published, now
        changes = _differences(before, now)
        for event, key, item in changes:
            self._publish(event, {"kind": key[0], **item})
        return bool(changes)

    def _publish(self, event: str, item: Item, username: str | None = None) -> None:
        """Send to all watchers, or to those of one user."""
        for queue, watcher in list(self._watchers.items()):
            if not watcher.sees(item, username):
                continue
            if queue.full():
                queue.get_nowait()  # drop the oldest; the client's next snapshot has all
            queue.put_nowait((event, item))


def _differences(before: Mapping[K, Item], now: Mapping[K, Item]) -> list[tuple[str, K, Item]]:
    """The events that lead from one listing to the next."""
    changed = [("changed", key, item) for key, item in now.items() if before.get(key) != item]
    return changed + [("removed", key, before[key]) for key in before.keys() - now.keys()]
