"""Builds what serves projects from the settings: those of this machine, or one hop of a chain with its starter and heartbeat.

Only the modules of the configured kind are imported: `local` needs neither the chain nor Postgres.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from tornado.util import import_object
from traitlets import TraitError

from ..config import PortProxy
from ..errors import HUB, PROJECT_HOST, SERVER, BadInput, GatewayError
from ..gateway.policy import Policy
from ..services.ports import PortLeases
from ..system import background_tasks
from .access import JUPYTER, PORTS, START, ProjectAccess
from .directory import PlacementDirectory
from .local import LocalProjects
from .model import ROLES, ProjectResolver
from .permissions import GroupDirectory
from .placement.admin import PlacementAdmin
from .placement.lookup import Placement
from .placement.store import DatabaseUnavailable, open_store

if TYPE_CHECKING:
    from .chain import Chain
    from .starter import Starter


class Heartbeat:
    """Writes to the placements at regular intervals that this host is alive.

    Args:
        interval: seconds.
    """

    def __init__(self, dsn: str, host_id: str, log: logging.Logger, *, interval: float = 5.0) -> None:
        self._admin = PlacementAdmin(dsn, hop=PROJECT_HOST, log=log)
        self._host_id, self._log, self._interval = host_id, log, interval
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = background_tasks.run("heartbeat", self._run, self._log)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._admin.close()

    async def _run(self) -> None:
        failed = False
        while True:
            try:
                await self._admin.heartbeat(self._host_id)
                failed = False
            except GatewayError as error:
                if not failed:
                    self._log.error("portproxy: the heartbeat of %s failed: %s", self._host_id, error)
                failed = True
            await asyncio.sleep(self._interval)


class ProjectsRuntime:
    """The projects and the heartbeat of this server.

    Args:
        local_file: the SQLite file of this machine's projects, for the resolver "local".

    Attributes:
        has_users: users log in to this server; False if the previous hop has authenticated them.
        directory: the list of projects for each user; None where there are no users, or no placements.
    """

    def __init__(
        self,
        projects: LocalProjects | Chain,
        log: logging.Logger,
        *,
        heartbeat: Heartbeat | None = None,
        directory: PlacementDirectory | None = None,
        local_file: Path | None = None,
    ) -> None:
        self.projects, self._log, self._heartbeat, self.directory = projects, log, heartbeat, directory
        self._local_file = local_file
        self.has_users = not projects.is_behind_hub

    async def start(self) -> None:
        if self._local_file is not None and await _make_tables(self._local_file, self._log):
            await self.projects.access.start()  # from now on, services start on ports that no project claims
        if self._heartbeat is not None:
            self._heartbeat.start()

    async def close(self) -> None:
        await self.projects.close()
        if self.directory is not None:
            await self.directory.close()
        if self._heartbeat is not None:
            await self._heartbeat.close()


def build(
    settings: PortProxy,
    policy: Policy,
    base_url: str,
    log: logging.Logger,
    identity_provider: IdentityProvider,
    leases: PortLeases,
) -> ProjectsRuntime:
    """What serves the projects that the settings describe.

    Args:
        identity_provider: authenticates users. If it is a GroupDirectory, groups may be members of projects.
        leases: the ports of this machine that owners of projects may reserve.

    Raises:
        TraitError: a setting is missing or invalid.
        MissingPackage: asyncpg is not installed.
    """
    groups = identity_provider if isinstance(identity_provider, GroupDirectory) else None
    make_directory = partial(PlacementDirectory, policy, leases, groups, allows_public=settings.public_projects)
    if settings.project_resolver != "local":
        return _build_hop(settings, policy, base_url, groups, identity_provider, log, make_directory)
    _check_login(identity_provider, log)
    path = _projects_path(settings)
    dsn = _dsn(path)
    placement = Placement(
        dsn, hop=SERVER, groups=groups, allows_public=settings.public_projects, on_claims=leases.set_claims, log=log
    )
    projects = LocalProjects(policy, placement, _roles(settings), log)
    directory = make_directory(PlacementAdmin(dsn, hop=SERVER, log=log), projects.access)
    return ProjectsRuntime(projects, log, directory=directory, local_file=path)


def _build_hop(
    settings: PortProxy,
    policy: Policy,
    base_url: str,
    groups: GroupDirectory | None,
    identity_provider: IdentityProvider,
    log: logging.Logger,
    make_directory: Callable[[PlacementAdmin, ProjectAccess], PlacementDirectory],
) -> ProjectsRuntime:
    """One hop of a chain. Raises: see `build`."""
    from .chain import Chain

    resolver, hop = _resolver(settings, groups, log)
    if hop == HUB:
        _check_login(identity_provider, log)
    elif not settings.hop_credentials:
        raise TraitError("c.PortProxy.hop_credentials is empty: a project host needs the credential that its hub sends")
    starter = _starter(settings, base_url, resolver, hop, log)
    chain = Chain(policy, resolver, hop, _roles(settings), settings.hop_credentials, log, starter)
    if hop == HUB:
        has_placements = settings.project_resolver == "placement"
        admin = PlacementAdmin(settings.placement_dsn, hop=HUB, log=log) if has_placements else None
        return ProjectsRuntime(chain, log, directory=make_directory(admin, chain.access) if admin is not None else None)
    has_heartbeat = settings.host_id and settings.placement_dsn
    heartbeat = Heartbeat(settings.placement_dsn, settings.host_id, log) if has_heartbeat else None
    return ProjectsRuntime(chain, log, heartbeat=heartbeat)


def _check_login(identity_provider: IdentityProvider, log: logging.Logger) -> None:
    if not identity_provider.auth_enabled:
        raise TraitError("c.IdentityProvider.token is empty, and there is no password: projects have no anonymous users")
    if type(identity_provider) in (IdentityProvider, PasswordIdentityProvider):
        log.warning(
            "portproxy: the login of this server (%s) gives its users no lasting names, so they are members of no project. "
            "Set c.ServerApp.identity_provider_class to 'jupyter_portproxy.auth.UserPasswords', or to another login with names.",
            type(identity_provider).__name__,
        )


def _resolver(settings: PortProxy, groups: GroupDirectory | None, log: logging.Logger) -> tuple[ProjectResolver, str]:
    """The resolver, and HUB or PROJECT_HOST."""
    name = settings.project_resolver
    if name == "placement":
        if not settings.placement_dsn:
            raise TraitError("c.PortProxy.placement_dsn is empty: a hub needs the database of its placements")
        dsn, allows_public = settings.placement_dsn, settings.public_projects
        return Placement(dsn, groups=groups, allows_public=allows_public, log=log), HUB
    if name == "registry":
        from .registry.leases import Registry

        return Registry(_registry_path(settings), log=log), PROJECT_HOST
    try:
        built: tuple[ProjectResolver, str] = import_object(name)(settings)
    except (ImportError, ValueError) as error:
        raise TraitError(
            f"c.PortProxy.project_resolver: {name!r} is not local, placement or registry, and not found: {error}"
        ) from None
    return built


def _projects_path(settings: PortProxy) -> Path:
    return Path(settings.projects_path or Path(jupyter_data_dir(), "portproxy", "projects.sqlite")).absolute()


def _dsn(path: Path) -> str:
    return f"sqlite:///{path}"


async def _make_tables(path: Path, log: logging.Logger) -> bool:
    """Make the file and its tables, or migrate them. False if it cannot be used; look-ups try it again."""
    store = open_store(_dsn(path), log=log)
    try:
        await store.init(store.statements.MIGRATIONS)
        return True
    except DatabaseUnavailable:
        return False  # the store has logged it
    except BadInput as error:
        log.error("portproxy: the placements %s cannot be used: %s", path, error.message)
        return False
    finally:
        await store.close()


def _registry_path(settings: PortProxy) -> Path:
    return Path(settings.registry_path or Path(jupyter_data_dir(), "portproxy", "registry.sqlite"))


def _starter(settings: PortProxy, base_url: str, resolver: ProjectResolver, hop: str, log: logging.Logger) -> Starter | None:
    if hop == HUB or not settings.project_starter:
        return None
    from .starter import Starter

    async def is_running(key: str) -> bool:
        try:
            await resolver.resolve(key, None)
        except GatewayError:
            return False
        return True

    variables = {"PORTPROXY_REGISTRY": str(_registry_path(settings).absolute())}
    return Starter(settings.project_starter, base_url, variables, is_running, log)


def _roles(settings: PortProxy) -> dict[str, list[str]]:
    for role, actions in settings.project_roles.items():
        if role not in ROLES or not isinstance(actions, (list, tuple)) or not set(actions) <= {PORTS, JUPYTER, START}:
            raise TraitError(
                f"c.PortProxy.project_roles: {role!r}: {actions!r} is not a role ({', '.join(ROLES)}) "
                f"with a list of {PORTS!r}, {JUPYTER!r} and {START!r}"
            )
    return {role: list(actions) for role, actions in settings.project_roles.items()}
