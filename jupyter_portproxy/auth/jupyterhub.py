"""JupyterHub as the login of a hub: `c.ServerApp.identity_provider_class = "jupyter_portproxy.auth.HubIdentityProvider"`.

Rule of this file: who somebody is, in which groups, and whether their login still holds, is JupyterHub's word and never older
than some seconds. Whoever is logged in reaches projects, and nothing else of this server. It is imported where it is chosen,
and nowhere else, for it needs JupyterHub (extra `jupyterhub`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any, cast

from jupyter_server.auth.identity import User
from jupyter_server.base.handlers import JupyterHandler
from jupyterhub.services.auth import HubOAuth
from jupyterhub.singleuser.extension import JupyterHubIdentityProvider, JupyterHubUser
from tornado.web import HTTPError
from traitlets import Float, default

from ..errors import Forbidden
from ..handlers.base import PortHandler
from ..protocol.urls import Route, ServiceRoute

_NEEDED = ("api_token", "oauth_client_id")


class HubIdentityProvider(JupyterHubIdentityProvider):
    """Logs users in by JupyterHub's OAuth, or by their JupyterHub tokens; also a `projects.permissions.GroupDirectory`.

    Its settings are those of JupyterHub's own `c.HubOAuth`, from the environment where JupyterHub runs this server.
    """

    # Jupyter would write it into pages. It is this service's own, and nobody logs in with it.
    token = ""

    login_age = Float(
        10.0,
        help="""Seconds for which JupyterHub's word on a login and its groups holds, also for open WebSockets.
        Example: `c.HubIdentityProvider.login_age = 5`.""",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._groups: dict[str, frozenset[str]] = {}  # of JupyterHub's users, and only of those: it needs no bound
        self._callbacks: list[Callable[[], None]] = []

    @default("hub_auth")
    def _default_hub_auth(self) -> HubOAuth:
        auth = HubOAuth(parent=self, base_url=self.parent.base_url)
        auth.cache_max_age = max(1, round(self.login_age))  # 0 would be for ever
        if missing := [name for name in _NEEDED if not getattr(auth, name)]:
            self.log.critical("portproxy: c.HubOAuth.%s is empty: JupyterHub gives it to its services", missing[0])
            self.parent.exit(1)
        return auth

    def get_cookie_name(self, handler: JupyterHandler) -> str:
        """Of the cookie that is taken out of what goes on to projects."""
        return str(self.hub_auth.cookie_name)

    async def get_user(self, handler: JupyterHandler) -> User | None:
        """Who asks for a project; for anything else there is nobody."""
        if not isinstance(handler, PortHandler):
            handler.get_login_url = _no_login  # type: ignore[method-assign]  # or it would lead here again after a login
            return None
        if isinstance(handler.asked, (Route, ServiceRoute)):
            raise Forbidden("This server has projects only.", "Open a project: its address begins with the project's key.")
        try:
            user: JupyterHubUser | None = await asyncio.wait_for(
                super().get_user(handler), handler.gateway.settings.connect_timeout
            )
        except asyncio.TimeoutError:
            raise HTTPError(503, "JupyterHub does not answer") from None
        if user is not None:
            self._note(user.hub_user)
        return cast("User | None", user)

    # ---- groups ----

    def groups_of(self, username: str) -> Collection[str]:
        """See `projects.permissions.GroupDirectory`."""
        return self._groups.get(username, ())

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _note(self, model: dict[str, Any]) -> None:
        """A token that may not read its user's groups says nothing of them."""
        if "groups" not in model:
            return
        name, groups = model["name"], frozenset(model["groups"])
        before, self._groups[name] = self._groups.get(name), groups
        if before is not None and before != groups:
            for callback in self._callbacks:
                callback()


def _no_login() -> str:
    raise HTTPError(403, "This server has projects only.")
