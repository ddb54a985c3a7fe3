"""The one place that builds, wires and closes everything.

Rule of this file: no decision and no byte; parts are made here, introduced to each other here, and closed here.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path, jupyter_runtime_dir
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado.routing import AnyMatches, Rule
from traitlets import TraitError

from . import api, catalog, routes
from .gateway import PortProxy
from .handlers import PortRouter
from .inventory import Inventory
from .leases import Ports, Reservations
from .metrics import PortProxyCollector
from .services import Services


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
        self.services = self.gateway.services = self._make_services()
        self.inventory = Inventory(self.gateway, str(self._server.base_url), self._jupyters_ports)
        self.collector = PortProxyCollector(self.gateway, self.services)
        self.collector.register()
        self.services.on_change = self.inventory.service_changed
        self.gateway.own_port = lambda: self._server.port
        self.gateway.on_activity = self._touch
        self.settings["portproxy"] = self.gateway
        self.log.info(
            "portproxy: ports %s are reachable below %sproxy/port/",
            ", ".join(map(str, self.gateway.allowed_ports)),
            self._server.base_url,
        )

    def initialize_handlers(self) -> None:
        parts = {"inventory": self.inventory, "services": self.services, "reservations": self.gateway.reservations}
        self.handlers.extend((path, handler, parts) for path, handler in api.ROUTES)
        web_app: Any = self._server.web_app
        web_app.add_handlers(".*$", [Rule(AnyMatches(), PortRouter(web_app, self.gateway))])

    async def stop_extension(self) -> None:
        self.collector.unregister()
        self.inventory.close()
        await self.services.close()
        self.gateway.close()

    def _make_services(self) -> Services:
        base_url, gateway = str(self._server.base_url), self.gateway
        directory = Path(jupyter_runtime_dir()) / "portproxy"
        ports = Ports(gateway.ports)
        gateway.reservations = Reservations(ports)
        services = Services(ports, partial(routes.service_url, base_url), base_url, gateway.answers, directory)
        found, unreadable = catalog.from_directories(jupyter_config_path())
        services.templates, wrong = catalog.load_all(catalog.shipped(), found, gateway.service_templates)
        for problem in unreadable + wrong:
            self.log.error("portproxy: %s", problem)
        return services

    def _jupyters_ports(self) -> set[int]:
        """The server's own ports, and those on which its kernels speak ZeroMQ."""
        ports = {self._server.port}
        manager: Any = self._server.kernel_manager
        for kernel_id in manager.list_kernel_ids():
            ports.update(value for key, value in manager.get_connection_info(kernel_id).items() if key.endswith("_port"))
        return ports

    @property
    def _server(self) -> ServerApp:
        if self.serverapp is None:
            raise RuntimeError("an extension is linked to its server before it is initialized")
        return self.serverapp

    def _touch(self) -> None:
        activity: dict[str, Any] = self._server.web_app.settings["last_activity_times"]
        activity["portproxy"] = datetime.now(timezone.utc)
