"""Builds a hub or a project host from the settings: the resolver, the chain, the starter and the heartbeat."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from jupyter_core.paths import jupyter_data_dir
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from tornado.util import import_object
from traitlets import TraitError

from ..config import PortProxy
from ..errors import HUB, PROJECT_HOST, GatewayError
from ..gateway.policy import Policy
from ..system import background_tasks
from .access import JUPYTER, PORTS, START
from .chain import Chain
from .model import ROLES, ProjectResolver
from .permissions import GroupDirectory
from .placement.admin import PlacementAdmin
from .placement.lookup import Placement
from .registry.leases import Registry
from .starter import Starter


class Heartbeat:
    """Writes to the placements at regular intervals that this host is alive.

    Args:
        interval: seconds.
    """

    def __init__(self, dsn: str, host_id: str, log: logging.Logger, *, interval: float = 5.0) -> None:
        self._admin, self._host_id, self._log, self._interval = PlacementAdmin(dsn, log=log), host_id, log, interval
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


class ChainRuntime:
    """The chain and the heartbeat of this server."""

    def __init__(self, chain: Chain, heartbeat: Heartbeat | None) -> None:
        self.chain, self._heartbeat = chain, heartbeat

    def start(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.start()

    async def close(self) -> None:
        await self.chain.close()
        if self._heartbeat is not None:
            await self._heartbeat.close()


def build(
    settings: PortProxy, policy: Policy, base_url: str, log: logging.Logger, identity_provider: IdentityProvider | None = None
) -> ChainRuntime:
    """The hop that the settings describe.

    Args:
        identity_provider: authenticates users. If it is a GroupDirectory, groups may be members of projects.

    Raises:
        TraitError: a setting is missing or invalid.
        MissingPackage: asyncpg is not installed.
    """
    groups = identity_provider if isinstance(identity_provider, GroupDirectory) else None
    resolver, hop = _resolver(settings, groups, log)
    if hop == HUB:
        _check_login(identity_provider, log)
    elif not settings.hop_credentials:
        raise TraitError("c.PortProxy.hop_credentials is empty: a project host needs the credential that its hub sends")
    starter = _starter(settings, base_url, resolver, hop, log)
    chain = Chain(policy, resolver, hop, _roles(settings), settings.hop_credentials, log, starter)
    has_heartbeat = settings.host_id and settings.placement_dsn and hop != HUB
    return ChainRuntime(chain, Heartbeat(settings.placement_dsn, settings.host_id, log) if has_heartbeat else None)


def _check_login(identity_provider: IdentityProvider | None, log: logging.Logger) -> None:
    if identity_provider is not None and not identity_provider.auth_enabled:
        raise TraitError("c.IdentityProvider.token is empty, and there is no password: a hub has no anonymous users")
    if type(identity_provider) in (IdentityProvider, PasswordIdentityProvider):
        log.warning(
            "portproxy: the login of this hub (%s) gives its users no lasting names, so they are members of no project. "
            "Set c.ServerApp.identity_provider_class, for example to 'jupyter_portproxy.auth.HubIdentityProvider'.",
            type(identity_provider).__name__,
        )


def _resolver(settings: PortProxy, groups: GroupDirectory | None, log: logging.Logger) -> tuple[ProjectResolver, str]:
    """The resolver, and HUB or PROJECT_HOST."""
    name = settings.project_resolver
    if name == "placement":
        if not settings.placement_dsn:
            raise TraitError("c.PortProxy.placement_dsn is empty: a hub needs the database of its placements")
        return Placement(settings.placement_dsn, groups=groups, log=log), HUB
    if name == "registry":
        return Registry(_registry_path(settings), log=log), PROJECT_HOST
    try:
        built: tuple[ProjectResolver, str] = import_object(name)(settings)
    except (ImportError, ValueError) as error:
        raise TraitError(
            f"c.PortProxy.project_resolver: {name!r} is neither placement nor registry, and not found: {error}"
        ) from None
    return built


def _registry_path(settings: PortProxy) -> Path:
    return Path(settings.registry_path or Path(jupyter_data_dir(), "portproxy", "registry.sqlite"))


def _starter(settings: PortProxy, base_url: str, resolver: ProjectResolver, hop: str, log: logging.Logger) -> Starter | None:
    if hop == HUB or not settings.project_starter:
        return None

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
