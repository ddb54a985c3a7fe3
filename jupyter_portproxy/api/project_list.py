"""The projects that a user may see, as the API and the index page show them (schema `Project` of docs/openapi.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger
from urllib.parse import quote

from ..gateway.project_directory import ProjectDirectory, VisibleProject
from ..services.ports import Reservation
from .port_list import Item, PortList, describe_all

_REACHABLE = ("", "other_user")  # codes of ports that a connection can reach; the second one needs the project's system user


class ProjectList:
    """Describes projects with their live ports."""

    def __init__(self, directory: ProjectDirectory, port_list: PortList, base_url: str, log: Logger) -> None:
        self.directory = directory
        self._port_list, self._base_url, self._log = port_list, base_url, log

    async def read(self, username: str) -> list[Item]:
        """The projects of a user. Raises: RegistryAway"""
        projects = await self.directory.list(username)
        ports = await self._port_list.read() if projects else []
        return describe_all("project", lambda project: self._describe(project, ports), projects, self._log)

    async def find(self, username: str, key: str) -> Item:
        """One of them. Raises: UnknownProject, RegistryAway"""
        project = await self.directory.find(username, key)
        return self._describe(project, await self._port_list.read())

    def reservation(self, owner: str, name: str, key: str, reservation: Reservation) -> Item:
        """A reserved port of the project with that owner, name and key (schema `ProjectReservation`)."""
        url, key_url = self._urls(owner, name, key, reservation.port)
        keys = ("name", "port", "until", "used")
        return {**{each: getattr(reservation, each) for each in keys}, "url": url, "key_url": key_url}

    def _describe(self, project: VisibleProject, ports: Sequence[Item]) -> Item:
        is_owner, names = project.role == "owner", (project.owner, project.name, project.key)
        members = [{"name": m.name, "role": m.role, "allowed_ports": _list(m.allowed_ports)} for m in project.members]
        return {
            "key": project.key,
            "owner": project.owner,
            "name": project.name,
            "role": project.role,
            "visibility": project.visibility,
            "allowed_ports": _list(project.allowed_ports),
            "ports": [self._port(project, port) for port in _live(project, ports)],
            "members": members if is_owner else None,
            "reservations": [self.reservation(*names, each) for each in project.reservations] if is_owner else None,
        }

    def _port(self, project: VisibleProject, port: Item) -> Item:
        url, key_url = self._urls(project.owner, project.name, project.key, port["port"])
        return {"port": port["port"], "http": port["http"], "title": port["title"], "url": url, "key_url": key_url}

    def _urls(self, owner: str, name: str, key: str, port: int) -> tuple[str, str]:
        """The paths of a port by the project's owner and name, and by its key. A project without a name has the second only."""
        key_url = f"{self._base_url}{key}/server/{port}/"
        if not name:
            return key_url, key_url
        return f"{self._base_url}{quote(owner, safe='')}/{quote(name, safe='')}/?port={port}", key_url


def _live(project: VisibleProject, ports: Sequence[Item]) -> list[Item]:
    """The listening ports that are the project's, each once. They are its system user's, if it has one."""
    live: dict[int, Item] = {}
    for port in ports:
        is_owned = port["owner"] == project.system_user if project.system_user else port["allowed"]
        if is_owned and port["reason_code"] in _REACHABLE and project.reaches(port["port"]):
            live.setdefault(port["port"], port)
    return list(live.values())


def _list(ports: Sequence[str] | None) -> list[str] | None:
    return None if ports is None else list(ports)
