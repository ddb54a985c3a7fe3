"""The REST API of folders with project files, below `proxy/api/folders`. Only for users who may start services."""

from __future__ import annotations

from typing import Any

from ..api.handlers import ProxyAPIHandler, permitted
from ..errors import BadInput, NoProjectFiles
from .folders import Folders
from .schema import read_schema


class FolderAPIHandler(ProxyAPIHandler):
    """The collaborator of all handlers.

    Args:
        folders: None where project files are not read.
    """

    def initialize(self, folders: Folders | None) -> None:  # type: ignore[override]
        self._folders = folders

    @property
    def folders(self) -> Folders:
        """Raises: NoProjectFiles"""
        if self._folders is None:
            raise NoProjectFiles()
        return self._folders


class FoldersHandler(FolderAPIHandler):
    """`GET folders?path=PATH`: what the project files of a folder say."""

    @permitted("execute")
    async def get(self) -> None:
        known = await self.folders.find(self.get_query_argument("path", "", strip=False))
        self.send(self.folders.describe(known))


class OpenFolderHandler(FolderAPIHandler):
    """`POST folders/open`: a person looks at a folder: {path}. null if it has no project file."""

    @permitted("execute")
    async def post(self) -> None:
        self.send(await self.folders.open(self.json_body("path").get("path", "")))


class ConsentHandler(FolderAPIHandler):
    """`PUT folders/consent` allows a content: {path, digest}; `DELETE folders/consent?path=PATH` takes that back."""

    @permitted("execute")
    async def put(self) -> None:
        data = self.json_body("path", "digest")
        self.send(await self.folders.allow(data.get("path", ""), data.get("digest")))

    @permitted("execute")
    async def delete(self) -> None:
        self.send(await self.folders.withdraw(self.get_query_argument("path", "", strip=False)))


class UpHandler(FolderAPIHandler):
    """`POST folders/up` starts the services of a folder with this digest: {path, digest, services?}."""

    @permitted("execute")
    async def post(self) -> None:
        data = self.json_body("path", "digest", "services")
        names = _read_names(data)
        item = await self.folders.up(data.get("path", ""), data.get("digest"), self.current_user.username, names)
        self.send(item, 202)


class DownHandler(FolderAPIHandler):
    """`POST folders/down` stops the services of a folder: {path, services?}."""

    @permitted("execute")
    async def post(self) -> None:
        data = self.json_body("path", "services")
        self.send(await self.folders.down(data.get("path", ""), _read_names(data)))


def _read_names(data: dict[str, Any]) -> list[str] | None:
    """The names in `services`; None for all. Raises: BadInput"""
    names = data.get("services")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BadInput("'services' must be a list of names.", "See the API's description.")
    return names


class SchemaHandler(FolderAPIHandler):
    """`GET project-file-schema`: the JSON schema of `portproxy.toml`, for editors."""

    @permitted("read")
    async def get(self) -> None:
        self.send(read_schema())


ROUTES: list[tuple[str, type[FolderAPIHandler]]] = [
    (r"/proxy/api/folders", FoldersHandler),
    (r"/proxy/api/folders/open", OpenFolderHandler),
    (r"/proxy/api/folders/consent", ConsentHandler),
    (r"/proxy/api/folders/up", UpHandler),
    (r"/proxy/api/folders/down", DownHandler),
    (r"/proxy/api/project-file-schema", SchemaHandler),
]
