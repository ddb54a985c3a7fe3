"""Makes a server one hop of a chain, as its configuration says: the resolver, the chain, and a host's heartbeat.

Rule of this file: settings are read and parts are built here; what they do is theirs.
"""

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
from .chain import JUPYTER, PORTS, START, Chain
from .model import ROLES, ProjectResolver
from .permissions import People
from .placement.admin import PlacementAdmin
from .placement.lookup import Placement
from .registry.leases import Registry
from .starter import Starter

_HEARTBEAT = 5.0


class Heartbeat:
    """Tells the placements every five seconds that this host lives."""

    def __init__(self, dsn: str, host_id: str, log: logging.Logger) -> None:
        self._admin, self._host_id, self._log = PlacementAdmin(dsn, log=log), host_id, log
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = background_tasks.run("heartbeat", self._beat, self._log)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._admin.close()

    async def _beat(self) -> None:
        failed = False
        while True:
            try:
                await self._admin.heartbeat(self._host_id)
                failed = False
            except GatewayError as error:
                if not failed:
                    self._log.error("portproxy: the heartbeat of %s failed: %s", self._host_id, error)
                failed = True
            await asyncio.sleep(_HEARTBEAT)


class Hop:
    """This server's part in a chain."""

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
    settings: PortProxy, policy: Policy, base_url: str, log: logging.Logger, identity_provider: object = None
) -> Hop | None:
    """The hop that the settings ask for; None if they ask for none.

    Args:
        identity_provider: who logs users in. If it is a `People`, groups may be members of projects.

    Raises:
        TraitError: a setting is missing or cannot be.
        MissingPackage: asyncpg is not installed.
    """
    if not settings.project_resolver:
        return None
    people = identity_provider if isinstance(identity_provider, People) else None
    resolver, hop = _resolver(settings, people, log)
    if hop == HUB and not getattr(identity_provider, "auth_enabled", True):
        raise TraitError("c.IdentityProvider.token is empty, and there is no password: at a hub nobody is anonymous")
    if hop == HUB and type(identity_provider) in (IdentityProvider, PasswordIdentityProvider):
        log.warning(
            "portproxy: the login of this hub (%s) gives its users no lasting names, so they are members of no project. "
            "Set c.ServerApp.identity_provider_class, for example to 'jupyter_portproxy.auth.HubIdentityProvider'.",
            type(identity_provider).__name__,
        )
    if hop != HUB and not settings.hop_credentials:
        raise TraitError("c.PortProxy.hop_credentials is empty: a project host needs the credential that its hub sends")
    chain = Chain(
        policy, resolver, hop, _roles(settings), settings.hop_credentials, log, _starter(settings, base_url, resolver, hop, log)
    )
    beats = settings.host_id and settings.placement_dsn and hop != HUB
    return Hop(chain, Heartbeat(settings.placement_dsn, settings.host_id, log) if beats else None)


def _resolver(settings: PortProxy, people: People | None, log: logging.Logger) -> tuple[ProjectResolver, str]:
    name = settings.project_resolver
    if name == "placement":
        if not settings.placement_dsn:
            raise TraitError("c.PortProxy.placement_dsn is empty: a hub needs to know where its placements are")
        return Placement(settings.placement_dsn, people=people, log=log), HUB
    if name == "registry":
        return Registry(_registry_path(settings), log=log), PROJECT_HOST
    try:
        made: tuple[ProjectResolver, str] = import_object(name)(settings)
    except (ImportError, ValueError) as error:
        raise TraitError(
            f"c.PortProxy.project_resolver: {name!r} is neither placement nor registry, and not found: {error}"
        ) from None
    return made


def _registry_path(settings: PortProxy) -> Path:
    return Path(settings.registry_path or Path(jupyter_data_dir(), "portproxy", "registry.sqlite"))


def _starter(settings: PortProxy, base_url: str, resolver: ProjectResolver, hop: str, log: logging.Logger) -> Starter | None:
    if hop == HUB or not settings.project_starter:
        return None

    async def runs(key: str) -> bool:
        try:
            await resolver.resolve(key, None)
        except GatewayError:
            return False
        return True

    variables = {"PORTPROXY_REGISTRY": str(_registry_path(settings).absolute())}
    return Starter(settings.project_starter, base_url, variables, runs, log)


def _roles(settings: PortProxy) -> dict[str, list[str]]:
    for role, reaches in settings.project_roles.items():
        if role not in ROLES or not isinstance(reaches, (list, tuple)) or not set(reaches) <= {PORTS, JUPYTER, START}:
            raise TraitError(
                f"c.PortProxy.project_roles: {role!r}: {reaches!r} is no role ({', '.join(ROLES)}) "
                f"with a list of {PORTS!r}, {JUPYTER!r} and {START!r}"
            )
    return {role: list(reaches) for role, reaches in settings.project_roles.items()}
