"""The jupyter_server extension: constructs every object with its collaborators, and closes them in reverse order.

What only some configurations use is imported here when it is used: `projects` and the handlers of isolated origins.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_core.paths import jupyter_config_path, jupyter_data_dir, jupyter_runtime_dir
from jupyter_server.auth import AllowAllAuthorizer
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from jupyter_server.extension.application import ExtensionApp
from jupyter_server.gateway.managers import GatewayKernelSpecManager
from jupyter_server.serverapp import ServerApp
from tornado.ioloop import IOLoop
from tornado.routing import AnyMatches, Rule
from tornado.web import RequestHandler
from traitlets import TraitError

from .api import handlers, index_page, kernels, ready
from .api.events import Events
from .api.listing import Listing
from .api.metrics import PortProxyCollector
from .api.port_list import PortList
from .api.project_list import ProjectList
from .attachment import api as attachment_api
from .attachment.connected_agents import ConnectedAgents
from .attachment.handlers import AttachParts, ControlHandler, DataHandler
from .attachment.reverse import ReverseListeners
from .attachment.tokens import AttachTokens
from .config import OWN_PORTS, PortProxy
from .diagnose import handlers as diagnose_api
from .diagnose import recorder_handlers
from .diagnose.doctor import Doctor
from .diagnose.recorder import Recorder
from .gateway.connector import Connector
from .gateway.counters import Counters
from .gateway.destinations import DestinationFinder
from .gateway.gateway import Gateway
from .gateway.limits import Limits
from .gateway.logins import CHECK_INTERVAL, HasLoginAge, Logins
from .gateway.outbound import OutboundBuilder
from .gateway.policy import Policy
from .gateway.probe import Probe
from .handlers.decision_cache import DecisionCache
from .handlers.header_timeout import HeaderTimeout
from .handlers.router import PortRouter
from .isolation.sessions import Origins
from .project_file import handlers as folder_api
from .project_file.consents import Consents
from .project_file.folders import Folders
from .protocol import urls
from .protocol.origin_hosts import OriginHosts
from .server_proxy import config
from .server_proxy.config import AdoptedConfiguration, ServerProxy
from .server_proxy.handlers import make_rules
from .services import logs, templates
from .services.folder_rules import FolderRules
from .services.kernel_environments import KernelEnvironments
from .services.link_variables import LinkVariables
from .services.manager import ServiceManager
from .services.port_rules import PortRules
from .services.ports import PortLeases, Reservations, remove_stale_endpoints
from .services.remembered import RememberedServices
from .services.running_activity import RunningActivity
from .services.templates import Template
from .services.user_ports import UserPorts
from .system.addresses import ephemeral_ports

if TYPE_CHECKING:
    from .projects.setup import ProjectsRuntime


class PortProxyApp(ExtensionApp):
    name = "jupyter_portproxy"
    extension_url = "/proxy/"
    load_other_extensions = True
    classes = [PortProxy, ServerProxy]  # noqa: RUF012 (an instance trait of jupyter_server's)

    def initialize_settings(self) -> None:
        """Construct everything, each object from those before it; `stop_extension` closes them in reverse order."""
        server, base_url = self._server, str(self._server.base_url)
        try:
            # The server's configuration: what `jupyter_lab_config.py` says arrives there after this extension was linked.
            settings = PortProxy(parent=server)
        except TraitError as error:
            # As traitlets does for the server's own traits; never a server with another policy than the configured one.
            self._refuse_to_start(error)
        is_enabled = self._is_enabled(config.INCUMBENT)
        adopted = config.adopt(ServerProxy(parent=server), base_url, self.log, is_enabled=is_enabled)
        # Where this server keeps files for its user; None where several people share it.
        self.user_folder = Path(jupyter_data_dir(), "portproxy") if self._is_personal(settings) else None
        self.gateway = self._make_gateway(settings, adopted, base_url)
        self.running_activity = RunningActivity(self.services, self.gateway.record_activity)
        self.agents = self._make_agents()
        listens = settings.reverse_forwarding and self.user_folder is not None
        self.reverse = ReverseListeners(self.policy, self.log) if listens else None
        self.origins, self.decisions = self._make_origins(settings), DecisionCache()
        port_list = PortList(self.gateway, self.probe, base_url, self._jupyter_ports)
        self.listing = Listing(self.gateway, port_list, self.origins, base_url, self._list_agents)
        self.project_list = self._make_project_list(port_list, base_url)
        self.folders = self._make_folders(settings)
        self.events = Events(self.listing, self.services, self.log, self.project_list, self.folders)
        self.recorder = Recorder(self.gateway.observe, self._other_name)
        self.collector = PortProxyCollector(self.gateway, self.services)
        self.collector.register()
        timeout = settings.head_timeout
        self.header_timeout = HeaderTimeout(server.web_app, timeout) if timeout else None
        self.settings["portproxy"] = self.gateway
        self.link_variables = self._make_link_variables(settings, base_url)
        IOLoop.current().add_callback(self._start)
        whose = " of this user's own programs" if settings.allowed_ports == [OWN_PORTS] else ""
        ports = urls.print_ports(self.policy.ports)
        self.log.info("portproxy: ports %s%s are reachable below %sproxy/port/", ports, whose, base_url)

    def _make_gateway(self, settings: PortProxy, adopted: AdoptedConfiguration, base_url: str) -> Gateway:
        server, counters, folder = self._server, Counters(), self.user_folder
        self.folder_rules = FolderRules()
        self.policy = Policy(
            settings,
            base_url=base_url,
            own_port=lambda: server.port,
            jupyter_ports=self._jupyter_ports,
            more_ports=config.fixed_ports(adopted.templates.values()),
            user_ports=UserPorts(folder / "allowed-ports.json", self.log) if folder and settings.users_may_allow else None,
            port_rules=PortRules(folder / "port-rules.json", self.log) if folder else None,
            folder_rules=self.folder_rules,
            allows_host=adopted.allows_host,
        )
        provider = server.identity_provider
        self.logins = Logins(self.log, provider.login_age if isinstance(provider, HasLoginAge) else CHECK_INTERVAL)
        self.connector = Connector(self.policy, settings.connect_timeout)
        self.probe = Probe(self.policy, self.connector)
        leases = PortLeases(self.policy.lease_ports, self.policy.reaches)
        reservations = Reservations(leases)
        self.services = self._make_services(settings, leases, adopted.templates, base_url)
        self.projects_runtime = self._make_projects(settings, leases)
        self.adopted_templates = adopted.templates
        return Gateway(
            settings=settings,
            policy=self.policy,
            limits=Limits(settings, counters.count_refusal),
            counters=counters,
            connector=self.connector,
            outbound=OutboundBuilder(settings, self.policy, base_url),
            destinations=DestinationFinder(self.policy, self.services, reservations, adopted.port_hooks, self.log),
            services=self.services,
            reservations=reservations,
            logins=self.logins,
            base_url=base_url,
            projects=self.projects_runtime.projects if self.projects_runtime is not None else None,
            foreign_names=adopted.foreign_names,
            on_activity=self._record_activity,
            report=lambda notice: self.events.report(notice),
        )

    def initialize_handlers(self) -> None:
        if self.project_list is not None:
            from .projects.handlers import ROUTES

            self._add_routes(ROUTES, project_list=self.project_list)
        router = self._make_router()
        doctor = Doctor(self.gateway, self.connector, self.listing, self.origins, router.is_lost, is_behind_hub=_is_at_hub())
        self._add_routes(diagnose_api.ROUTES, doctor=doctor)
        self._add_routes(recorder_handlers.ROUTES, recorder=self.recorder, gateway=self.gateway)
        self._add_routes(folder_api.ROUTES, folders=self.folders)
        self._add_routes(attachment_api.ROUTES, agents=self.agents)
        attach_parts = AttachParts(self.gateway, self.agents, self.reverse)
        for path, is_reverse in (("/proxy/attach", False), ("/proxy/reverse", True)):
            routes = [(path, ControlHandler), (rf"{path}/([^/]+)", DataHandler)]
            self._add_routes(routes, parts=attach_parts, is_reverse=is_reverse)
        self._add_routes(ready.ROUTES, readiness=ready.Readiness(self.policy, self.services, self.probe))
        listing = {"listing": self.listing, "services": self.services, "policy": self.policy}
        parts = {**listing, "events": self.events, "reservations": self.gateway.reservations}
        self._add_routes([*kernels.ROUTES, *handlers.ROUTES], **parts)
        self._add_routes([(r"/proxy/?", index_page.IndexPageHandler)], **listing, project_list=self.project_list)
        self.handlers.extend(make_rules(self.adopted_templates, self.services) if not self.gateway.foreign_names else [])
        web_app: Any = self._server.web_app
        web_app.default_router.rules.insert(0, Rule(AnyMatches(), router))
        web_app.settings["log_function"] = router.count_failures(web_app.settings["log_function"])

    def _add_routes(self, routes: Iterable[tuple[str, type[RequestHandler]]], **arguments: Any) -> None:
        """Serve these paths by handlers that are initialized with the arguments."""
        self.handlers.extend((path, handler, arguments) for path, handler in routes)

    def _make_router(self) -> PortRouter:
        web_app: Any = self._server.web_app
        find_isolated = None
        if self.origins is not None:
            from .isolation.handlers import IsolatedRouter

            find_isolated = IsolatedRouter(web_app, self.gateway, self.origins).find
        return PortRouter(web_app, self.gateway, self.decisions, self.origins, find_isolated)

    async def stop_extension(self) -> None:
        self.link_variables.remove()
        await self.gateway.drain()
        if self.header_timeout is not None:
            self.header_timeout.stop()
        self.collector.unregister()
        self.running_activity.close()
        self.events.close()
        self.recorder.close()
        self.gateway.close()
        if self.projects_runtime is not None:
            await self.projects_runtime.close()
        if self.agents is not None:
            self.agents.close()
        if self.reverse is not None:
            self.reverse.close()
        if self.folders is not None:
            self.folders.close()
        await self.services.close()
        self.connector.close()
        self.logins.close()
        self.policy.close()

    async def _start(self) -> None:
        """Start what needs the running event loop or the HTTP server, which exists only after its extensions."""
        server = getattr(self._server, "http_server", None)
        if server is not None and self.header_timeout is not None:
            self.header_timeout.mount(server)
        if self.projects_runtime is not None:
            await self.projects_runtime.start()
        self.services.start_by_itself()
        if self.folders is not None:
            await self.folders.start()
        await self.services.start_remembered(self._find_allowed_template)

    def _refuse_to_start(self, error: Exception) -> NoReturn:
        self.log.critical("Bad config encountered during initialization: %s", error)
        self.exit(1)
        raise SystemExit(1)  # not reached

    def _make_projects(self, settings: PortProxy, leases: PortLeases) -> ProjectsRuntime | None:
        """What serves projects; None unless `project_resolver` is set. Only then is `projects` imported."""
        if not settings.project_resolver:
            return None
        from .projects import setup
        from .projects.placement.postgres import MissingPackage

        server = self._server
        try:
            runtime = setup.build(settings, self.policy, str(server.base_url), self.log, server.identity_provider, leases)
        except (TraitError, MissingPackage) as error:
            self._refuse_to_start(error)
        if runtime.has_users:
            self._warn_of_open_server()
        return runtime

    def _make_project_list(self, port_list: PortList, base_url: str) -> ProjectList | None:
        """The list of projects; None where users have none."""
        directory = self.projects_runtime.directory if self.projects_runtime is not None else None
        return ProjectList(directory, port_list, base_url, self.log) if directory is not None else None

    def _make_agents(self) -> ConnectedAgents | None:
        """The agents that attach services; None where several people share this server."""
        if self.user_folder is None:
            return None
        return ConnectedAgents(AttachTokens(self.user_folder / "attach-tokens.json", self.log), self.services, self.log)

    def _make_folders(self, settings: PortProxy) -> Folders | None:
        """The folders with project files; None where several people share this server, or the files are not read."""
        if not settings.project_files or self.user_folder is None:
            return None
        consents = Consents(self.user_folder / "folder-consents.json", self.log)
        return Folders(str(self._server.root_dir), consents, self.services, self.folder_rules, self.log)

    async def _find_allowed_template(self, folder: str, name: str) -> Template | None:
        return await self.folders.find_allowed(folder, name) if self.folders is not None else None

    def _list_agents(self) -> list[dict[str, Any]] | None:
        return [attachment_api.describe_agent(agent) for agent in self.agents.list()] if self.agents is not None else None

    def _is_personal(self, settings: PortProxy) -> bool:
        """True if this server has one user: it keeps files for them."""
        provider = type(self._server.identity_provider)
        has_one_user = provider in (IdentityProvider, PasswordIdentityProvider) or _is_at_hub()
        is_configured = "users_may_allow" in self._server.config.PortProxy and bool(settings.users_may_allow)
        return not settings.project_resolver and (has_one_user or is_configured)

    def _warn_of_open_server(self) -> None:
        """Warn if the authorizer lets every user of a server with projects run code on it, as Jupyter's default does."""
        server = self._server
        if type(server.authorizer) is AllowAllAuthorizer and not isinstance(server.identity_provider, HasLoginAge):
            self.log.warning(
                "portproxy: everybody who logs in to this server can run code on it and reach its ports. If that is not meant: "
                "c.ServerApp.authorizer_class = 'jupyter_portproxy.auth.ProjectsOnly'"
            )

    def _make_origins(self, settings: PortProxy) -> Origins | None:
        if settings.isolate == "never":
            return None
        user = os.environ.get("JUPYTERHUB_USER") or _system_user()
        origins = Origins(OriginHosts(settings.origin_pattern, user, at_hub=_is_at_hub()), self.logins)
        if settings.jupyter_url:
            origins.add_jupyter_host(urlsplit(settings.jupyter_url).netloc.lower())
        return origins

    def _is_enabled(self, extension: str) -> bool:
        package = self._server.extension_manager.extensions.get(extension)
        return package is not None and bool(package.enabled)

    def _make_services(
        self, settings: PortProxy, leases: PortLeases, adopted: dict[str, Template], base_url: str
    ) -> ServiceManager:
        from_files, unreadable = templates.from_directories(jupyter_config_path())
        configured, wrong = templates.load_all(templates.shipped(), from_files, settings.service_templates, others=adopted)
        for problem in unreadable + wrong:
            self.log.error("portproxy: %s", problem)
        remove_stale_endpoints()
        return ServiceManager(
            leases,
            partial(_service_url, base_url),
            base_url,
            self.probe.is_ready,
            logs.folder(Path(jupyter_runtime_dir()) / "portproxy"),
            {**configured, **adopted},
            root_dir=str(self._server.root_dir),
            may_start=lambda template: self.folders is not None and self.folders.may_start(template),
            remembered=self._make_remembered(),
            kernels=self._make_kernels(),
            log=self.log,
        )

    def _make_remembered(self) -> RememberedServices | None:
        """The services that a restart starts again; None where several people share this server."""
        if self.user_folder is None:
            return None
        return RememberedServices(self.user_folder / "remembered-services.json", str(self._server.root_dir), self.log)

    def _make_kernels(self) -> KernelEnvironments:
        """The environments of the server's kernels. Those of a gateway server run elsewhere."""
        server: Any = self._server
        specs = None if isinstance(server.kernel_spec_manager, GatewayKernelSpecManager) else server.kernel_spec_manager
        provisioner = KernelProvisionerFactory.instance(parent=server).default_provisioner_name
        return KernelEnvironments(specs, root_dir=str(server.root_dir), provisioner=provisioner)

    def _other_name(self, target: str) -> str:
        """For a port the service that runs there, for a service its port; else empty."""
        if not target.isdigit():
            return str(self.services.get(target).endpoint.port) if target in self.services else ""
        return next((service.name for service in self.services.list() if str(service.endpoint.port) == target), "")

    def _jupyter_ports(self) -> set[int]:
        """The server's own port, and the ZeroMQ ports of its kernels."""
        ports = {self._server.port}
        manager: Any = self._server.kernel_manager
        for kernel_id in manager.list_kernel_ids():
            ports.update(value for key, value in manager.get_connection_info(kernel_id).items() if key.endswith("_port"))
        return ports

    def _make_link_variables(self, settings: PortProxy, base_url: str) -> LinkVariables:
        public_urls = (settings.jupyter_url, os.environ.get("JUPYTERHUB_PUBLIC_URL", ""))
        any_port = self.policy.find_refused(ephemeral_ports()) is None
        variables = LinkVariables(base_url, public_urls, any_port=any_port)
        if settings.link_variables:
            variables.set()
        return variables

    @property
    def _server(self) -> ServerApp:
        if self.serverapp is None:
            raise RuntimeError("an extension is linked to its server before it is initialized")
        return self.serverapp

    def _record_activity(self) -> None:
        activity: dict[str, Any] = self._server.web_app.settings["last_activity_times"]
        activity["portproxy"] = datetime.now(timezone.utc)


def _is_at_hub() -> bool:
    """True if the environment has JupyterHub's variables for a user's server."""
    return any(name.startswith("JUPYTERHUB_") for name in os.environ)


def _system_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the user of a container may have no name
        return str(os.getuid())


def _service_url(base_url: str, name: str, template: Template) -> str:
    return base_url + name if template.at_root else urls.build_service_path(base_url, name)
