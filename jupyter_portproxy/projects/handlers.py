"""The REST API of projects, below `proxy/api/projects`: what a user may see of them, and changes by their owners."""

from __future__ import annotations

from typing import Any

from ..api.handlers import ProxyAPIHandler, permitted
from ..api.project_list import ProjectList
from ..errors import BadInput
from ..handlers.jupyter_request import PROJECTS_RESOURCE

_PORTS_HINT = "Send a list of ports and ranges such as ['15000-15099'], or null for no ports of its own."


class ProjectAPIHandler(ProxyAPIHandler):
    """Collaborators of all handlers of projects. Who is an owner of a project is checked by the directory."""

    auth_resource = PROJECTS_RESOURCE
    shows_projects = True  # see HubIdentityProvider

    def initialize(self, project_list: ProjectList) -> None:  # type: ignore[override]
        self.project_list, self.directory = project_list, project_list.directory

    @property
    def username(self) -> str:
        return str(self.current_user.username)


class ProjectsHandler(ProjectAPIHandler):
    """`GET projects`: the projects that the user may see."""

    @permitted("read")
    async def get(self) -> None:
        self.send(await self.project_list.read(self.username))


class ProjectHandler(ProjectAPIHandler):
    """`PATCH projects/KEY` changes its ports: {allowed_ports}."""

    @permitted("write")
    async def patch(self, key: str) -> None:
        data = self.json_body("allowed_ports")
        if "allowed_ports" not in data:
            raise BadInput("'allowed_ports' is missing.", _PORTS_HINT)
        await self.directory.set_ports(self.username, key, _ports(data))
        self.send(await self.project_list.find(self.username, key))


class ProjectMemberHandler(ProjectAPIHandler):
    """`PUT projects/KEY/members/NAME` adds a member or changes the role: {role, allowed_ports?}. `DELETE` removes a member."""

    @permitted("write")
    async def put(self, key: str, name: str) -> None:
        data = self.json_body("role", "allowed_ports")
        role = data.get("role")
        await self.directory.set_member(self.username, key, name, role if isinstance(role, str) else "", _ports(data))
        self.send(await self.project_list.find(self.username, key))

    @permitted("write")
    async def delete(self, key: str, name: str) -> None:
        await self.directory.remove_member(self.username, key, name)
        self.send_nothing()


class ProjectReservationsHandler(ProjectAPIHandler):
    """`POST projects/KEY/reservations` reserves a free port of the project for a name: {name, seconds?}."""

    @permitted("write")
    async def post(self, key: str) -> None:
        data = self.json_body("name", "seconds")
        reservation = await self.directory.reserve(self.username, key, data.get("name"), data.get("seconds", 600))
        project = await self.directory.find(self.username, key)
        self.send(self.project_list.reservation(project.owner, project.name, key, reservation), 201)


class ProjectReservationHandler(ProjectAPIHandler):
    """`DELETE projects/KEY/reservations/NAME`: releases the port."""

    @permitted("write")
    async def delete(self, key: str, name: str) -> None:
        await self.directory.release(self.username, key, name)
        self.send_nothing()


def _ports(data: dict[str, Any]) -> list[object] | None:
    """The list of ports of a request; None if it has none. Raises: BadInput"""
    ports = data.get("allowed_ports")
    if ports is not None and not isinstance(ports, list):
        raise BadInput("'allowed_ports' is not a list.", _PORTS_HINT)
    return ports


_KEY, _NAME = "(?P<key>[^/]+)", "(?P<name>[^/]+)"
ROUTES: list[tuple[str, type[ProjectAPIHandler]]] = [
    (r"/proxy/api/projects", ProjectsHandler),
    (rf"/proxy/api/projects/{_KEY}", ProjectHandler),
    (rf"/proxy/api/projects/{_KEY}/members/{_NAME}", ProjectMemberHandler),
    (rf"/proxy/api/projects/{_KEY}/reservations", ProjectReservationsHandler),
    (rf"/proxy/api/projects/{_KEY}/reservations/{_NAME}", ProjectReservationHandler),
]
