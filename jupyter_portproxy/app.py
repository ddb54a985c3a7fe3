"""The one place that builds, wires and closes everything.

Rule of this file: no decision and no byte; parts are made here, introduced to each other here, and closed here.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from tornado.routing import AnyMatches, Rule

from .gateway import PortProxy
from .handlers import PortRouter


class PortProxyApp(ExtensionApp):
    """The jupyter_server extension."""

    name = "jupyter_portproxy"
    extension_url = "/proxy/"
    load_other_extensions = True
    classes = [PortProxy]

    def initialize_settings(self) -> None:
        self.gateway = PortProxy(parent=self)
        self.gateway.own_port = lambda: self.serverapp.port if self.serverapp else None
        self.gateway.on_activity = self._touch
        self.settings["portproxy"] = self.gateway
        self.log.info("portproxy: ports %s are reachable below %sproxy/port/", ", ".join(map(str, self.gateway.allowed_ports)), self._base_url)

    def initialize_handlers(self) -> None:
        web_app = self.serverapp.web_app
        web_app.add_handlers(".*$", [Rule(AnyMatches(), PortRouter(web_app, self.gateway))])

    async def stop_extension(self) -> None:
        self.gateway.close()

    @property
    def _base_url(self) -> str:
        return str(self.serverapp.base_url) if self.serverapp else "/"

    def _touch(self) -> None:
        activity: dict[str, Any] = self.serverapp.web_app.settings["last_activity_times"]
        activity["portproxy"] = datetime.now(timezone.utc)
