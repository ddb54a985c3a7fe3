"""`server-proxy/servers-info` and `server-proxy/icon/NAME`; and what other extensions read of jupyter-server-proxy's handlers."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError, authenticated

from ..services.manager import ServiceManager
from ..services.templates import Template
from .hooks import ServerHooks


class ServersHandler(JupyterHandler):
    """Base class of both. `templates` are those of the configuration for jupyter-server-proxy."""

    auth_resource = "portproxy"

    def initialize(self, templates: Mapping[str, Template]) -> None:
        self.templates = templates


class ServersInfoHandler(ServersHandler):
    """`GET server-proxy/servers-info`: the servers, for jupyter-server-proxy's launchers."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.finish({"server_processes": [_describe(template) for template in self.templates.values()]})


class IconHandler(ServersHandler):
    """`GET server-proxy/icon/NAME`: the icon of a launcher's tile."""

    @authenticated
    @authorized("read")
    async def get(self, name: str) -> None:
        template = self.templates.get(name)
        path = template.hooks.icon if template is not None and isinstance(template.hooks, ServerHooks) else ""
        try:
            content = Path(path).read_bytes() if path else b""  # noqa: ASYNC240 (a few kilobytes)
        except OSError as error:
            self.log.warning("portproxy: the icon of '%s' cannot be read: %s", name, error)
            content = b""
        if not content:
            raise HTTPError(404)
        self.set_header("Content-Type", mimetypes.guess_type(path)[0] or "application/octet-stream")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.finish(content)


def _describe(template: Template) -> dict[str, Any]:
    is_outside = template.path_info.startswith("../")
    entry: dict[str, Any] = {
        "enabled": bool(template.launcher),
        "title": template.title,
        "path_info": template.path_info.removeprefix("../") if is_outside else f"{template.name}/{template.path_info}",
        "category": template.category,
    }
    if template.icon:
        entry["icon_url"] = template.icon
    return {"name": template.name, "launcher_entry": entry, "new_browser_tab": template.open_in == "browser"}


class SupervisedProcess:
    """A server's process with the interface of simpervisor's class: `running`, `terminate()`, `kill()`."""

    def __init__(self, services: ServiceManager, name: str) -> None:
        self._services, self._name = services, name

    @property
    def running(self) -> bool:
        return self._name in self._services and self._services.get(self._name).alive

    async def terminate(self) -> None:
        """Stop it and remove it, so that the next request starts it, whatever it requests."""
        if self._name in self._services:
            await self._services.delete(self._name)

    kill = terminate


class HandlerState(MutableMapping[str, Any]):
    """The `state` of a server's handlers: `proc_lock`, and `proc` while its process runs.

    marimo-jupyter-extension reads it from the rules of the web application, for its health check and its *Restart*.
    """

    def __init__(self, services: ServiceManager, name: str) -> None:
        self._process = SupervisedProcess(services, name)
        self._others: dict[str, Any] = {"proc_lock": asyncio.Lock()}

    def __getitem__(self, key: str) -> Any:
        return self._process if key == "proc" and self._process.running else self._others[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._others[key] = value

    def __delitem__(self, key: str) -> None:
        self._others.pop(key, None)  # `proc` goes when the process ends

    def __iter__(self) -> Iterator[str]:
        return iter([*self._others, *(["proc"] if self._process.running else [])])

    def __len__(self) -> int:
        return len(list(iter(self)))


def make_rules(
    templates: Mapping[str, Template], services: ServiceManager
) -> list[tuple[str, type[JupyterHandler], dict[str, Any]]]:
    """The rules of both URLs; and one for each server that matches no path, with its name in the pattern and its state."""
    arguments = {"templates": templates}
    return [
        (r"/server-proxy/servers-info", ServersInfoHandler, arguments),
        (r"/server-proxy/icon/([^/]+)", IconHandler, arguments),
        *((rf"/{name}(?!)", JupyterHandler, {"state": HandlerState(services, name)}) for name in templates),
    ]
