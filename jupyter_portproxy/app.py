"""The one place that builds, wires and closes everything.

Rule of this file: no decision and no byte; parts are made here, introduced to each other here, and closed here.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado.routing import AnyMatches, Rule
from traitlets import TraitError

from .gateway import PortProxy
from .handlers import PortRouter


class PortProxyApp(ExtensionApp):
    """The jupyter_server extension."""

    name = "jupyter_portproxy"
    extension_url = "/proxy/"
    load_other_extensions = True
    classes = [PortProxy]  # noqa: RUF012 (an instance trait of jupyter_server's)

    def initialize_settings(self) -> None:
        try:
            self.gateway = PortProxy(parent=self)
        except TraitError as error:
            # As traitlets does for the server's own traits: one sentence and no server, rather than one with another policy.
            self.log.critical("Bad config encountered during initialization: %s", error)
            self.exit(1)
        self.gateway.own_port = lambda: self._server.port
        self.gateway.on_activity = self._touch
        self.settings["portproxy"] = self.gateway
        self.log.info(
            "portproxy: ports %s are reachable below %sproxy/port/",
            ", ".join(map(str, self.gateway.allowed_ports)),
            self._server.base_url,
        )

    def initialize_handlers(self) -> None:
        web_app: Any = self._server.web_app
        web_app.add_handlers(".*$", [Rule(AnyMatches(), PortRouter(web_app, self.gateway))])

    async def stop_extension(self) -> None:
        self.gateway.close()

    @property
    def _server(self) -> ServerApp:
        if self.serverapp is None:
            raise RuntimeError("an extension is linked to its server before it is initialized")
        return self.serverapp

    def _touch(self) -> None:
        activity: dict[str, Any] = self._server.web_app.settings["last_activity_times"]
        activity["portproxy"] = datetime.now(timezone.utc)
