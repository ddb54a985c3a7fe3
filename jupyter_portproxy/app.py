"""The one place that builds, wires and closes everything.

Rule of this file: no decision and no byte; parts are made here, introduced to each other here, and closed here.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyter_core.paths import jupyter_config_path, jupyter_runtime_dir
from jupyter_server.auth import AllowAllAuthorizer
from jupyter_server.auth.identity import User
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import IOLoop
from tornado.routing import AnyMatches, Rule
from traitlets import TraitError

from .api import handlers, index_page
from .api.listing import Inventory
from .api.metrics import PortProxyCollector
from .errors import HUB
from .gateway.gateway import PortProxy
from .gateway.logins import CHECK_INTERVAL, Logins
from .handlers.decision_cache import Admissions
from .handlers.dispatcher import Front
from .handlers.router import PortRouter
from .isolation.handlers import OriginRouter
from .isolation.sessions import Origins
from .protocol import urls
from .protocol.origin_hosts import OriginHosts
from .server_proxy import config
from .server_proxy.config import ServerProxy
from .services import logs, templates
from .services.manager import ServiceManager
from .services.ports import Ports, Reservations

if TYPE_CHECKING:
    from .projects.setup import Hop


class PortProxyApp(ExtensionApp):
    """The jupyter_server extension."""

    name = "jupyter_portproxy"
    extension_url = "/proxy/"
    load_other_extensions = True
    classes = [PortProxy, ServerProxy]  # noqa: RUF012 (an instance trait of jupyter_server's)

    def initialize_settings(self) -> None:
        try:
            # The server's configuration: what `jupyter_lab_config.py` says arrives there after this extension was linked.
            self.gateway = PortProxy(parent=self._server)
        except TraitError as error:
            # As traitlets does for the server's own traits: one sentence and no server, rather than one with another policy.
            self.log.critical("Bad config encountered during initialization: %s", error)
            self.exit(1)
        self.gateway.base_url = str(self._server.base_url)
        self.gateway.logins = Logins(self.log, getattr(self._server.identity_provider, "login_age", CHECK_INTERVAL))
        self.gateway.origins = self._make_origins()
        self._take_over()
        self.services = self.gateway.services = self._make_services()
        self.inventory = Inventory(self.gateway, str(self._server.base_url), self._jupyters_ports)
        self.collector = PortProxyCollector(self.gateway, self.services)
        self.collector.register()
        self.services.subscribe(self.inventory.service_changed)
        self.gateway.own_port = lambda: self._server.port
        self.gateway.on_activity = self._touch
        self.gateway.on_lost_socket = self.inventory.lost_socket
        self.settings["portproxy"] = self.gateway
        self.hop = self._join_chain()
        self.admissions = Admissions()
        self.front = Front(self._server.web_app, self.gateway, self.admissions)
        IOLoop.current().add_callback(self._mount_front)
        self.log.info(
            "portproxy: ports %s are reachable below %sproxy/port/",
            ", ".join(map(str, self.gateway.allowed_ports)),
            self._server.base_url,
        )

    def initialize_handlers(self) -> None:
        parts = {"inventory": self.inventory, "services": self.services, "reservations": self.gateway.reservations}
        self.handlers.extend((path, handler, parts) for path, handler in handlers.ROUTES)
        page = {"inventory": self.inventory, "services": self.services}
        self.handlers.append((r"/proxy/?", index_page.IndexPageHandler, page))
        self.handlers.extend(config.handlers(self.taken_over, self.services) if not self.gateway.foreign_names else [])
        web_app: Any = self._server.web_app
        if self.gateway.origins is not None:
            # Ahead of all others: at these hosts nobody but the service answers.
            at_origins = OriginRouter(web_app, self.gateway, self.gateway.origins)
            web_app.default_router.rules.insert(0, Rule(AnyMatches(), at_origins))
        router = PortRouter(web_app, self.gateway, self.admissions)
        web_app.default_router.rules.insert(-1, Rule(AnyMatches(), router))

    async def stop_extension(self) -> None:
        await self.gateway.drain()
        self.front.stop()
        if self.hop is not None:
            await self.hop.close()
        self.collector.unregister()
        self.inventory.close()
        await self.services.close()
        self.gateway.close()

    def _mount_front(self) -> None:
        """The HTTP server is made after its extensions."""
        server = getattr(self._server, "http_server", None)
        if server is not None:
            self.front.mount(server, asyncio.get_running_loop())

    def _join_chain(self) -> Hop | None:
        """Build this server's part in a chain; None unless `project_resolver` is set. Only then is `projects` imported."""
        if not self.gateway.project_resolver:
            return None
        from .projects import setup
        from .projects.placement.postgres import MissingPackage

        parts = None
        try:
            parts = setup.build(self.gateway, self.log, self._server.identity_provider)
        except (TraitError, MissingPackage) as error:
            self.log.critical("Bad config encountered during initialization: %s", error)
            self.exit(1)
        if parts is not None:
            self.gateway.chain = parts.chain
            self._warn_of_guests(parts.chain.hop)
            IOLoop.current().add_callback(parts.start)
        return parts

    def _warn_of_guests(self, hop: str) -> None:
        """The users of a hub are not its owners; by default Jupyter lets whoever has logged in run code."""
        server = self._server
        guarded = hasattr(server.identity_provider, "login_age") or type(server.authorizer) is not AllowAllAuthorizer
        if hop == HUB and not guarded:
            self.log.warning(
                "portproxy: everybody who logs in to this hub can run code on it and reach its ports. If that is not meant: "
                "c.ServerApp.authorizer_class = 'jupyter_portproxy.auth.ProjectsOnly'"
            )

    def _make_origins(self) -> Origins[User] | None:
        if self.gateway.isolate == "never":
            return None
        user = os.environ.get("JUPYTERHUB_USER") or _system_user()
        origins = Origins[User](OriginHosts(self.gateway.origin_pattern, user, at_hub=_is_at_hub()), self.gateway.logins)
        if self.gateway.jupyter_url:
            origins.add_jupyter(urlsplit(self.gateway.jupyter_url).netloc.lower())
        return origins

    def _take_over(self) -> None:
        """What was written for jupyter-server-proxy, unless that is enabled here too and serves it itself."""
        self.taken_over: dict[str, templates.Template] = {}
        settings, gateway = ServerProxy(parent=self._server), self.gateway
        if self._is_enabled(config.INCUMBENT):
            gateway.foreign_names = config.names_of(settings.servers) | {"server-proxy"}
            self.log.info(
                "portproxy: jupyter-server-proxy is enabled too and keeps its names (%s). "
                "To let this extension serve them: jupyter server extension disable jupyter_server_proxy",
                ", ".join(sorted(gateway.foreign_names - {"server-proxy"})) or "it has none",
            )
            return
        unknown: list[str] = []
        entries, wrong_entries = config.read_entry_points(gateway.base_url, unknown)
        servers, wrong = config.read_servers(settings.servers, gateway.base_url, unknown)
        self.taken_over.update({**entries, **servers})
        gateway.allow_ports(config.fixed_ports(self.taken_over.values()))
        gateway.port_hooks = config.for_plain_ports(settings.non_service_rewrite_response)
        wrong += wrong_entries + self._take_over_hosts(settings.hosts)
        for problem in wrong:
            self.log.error("portproxy: %s", problem)
        if unknown:
            self.log.warning("portproxy: these keys of servers mean nothing: %s", ", ".join(unknown))

    def _take_over_hosts(self, hosts: Any) -> list[str]:
        if callable(hosts):
            self.gateway.also_allows_host = hosts
            return []
        good, bad = config.split_hosts(hosts)
        self.gateway.also_allows_host = lambda asker, host: host in good
        return [f"{host!r} in c.ServerProxy.host_allowlist is neither a name nor an address of a host." for host in bad]

    def _is_enabled(self, extension: str) -> bool:
        package = self._server.extension_manager.extensions.get(extension)
        return package is not None and bool(package.enabled)

    def _make_services(self) -> ServiceManager:
        base_url, gateway = str(self._server.base_url), self.gateway
        directory = logs.folder(Path(jupyter_runtime_dir()) / "portproxy")
        ports = Ports(gateway.ports)
        gateway.reservations = Reservations(ports)
        found, unreadable = templates.from_directories(jupyter_config_path())
        loaded, wrong = templates.load_all(templates.shipped(), found, gateway.service_templates)
        for problem in unreadable + wrong:
            self.log.error("portproxy: %s", problem)
        return ServiceManager(
            ports,
            partial(_service_url, base_url),
            base_url,
            gateway.answers,
            directory,
            {**loaded, **self.taken_over},
            root_dir=str(self._server.root_dir),
            is_watched=lambda: self.inventory.watched,
            log=self.log,
        )

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


def _is_at_hub() -> bool:
    """JupyterHub names all that it tells its users' servers so."""
    return any(name.startswith("JUPYTERHUB_") for name in os.environ)


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number alone
        return str(os.getuid())


def _service_url(base_url: str, name: str, template: templates.Template) -> str:
    return base_url + name if template.at_root else urls.build_service_path(base_url, name)
