"""JupyterHub as the login of a hub: `c.ServerApp.identity_provider_class = "jupyter_portproxy.auth.HubIdentityProvider"`.

Users and groups are JupyterHub's, cached for `login_age` seconds. Users reach projects and nothing else of this server. This
module needs the package `jupyterhub` (extra `jupyterhub`).
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
from ..handlers.jupyter_request import JupyterRequest

_REQUIRED_SETTINGS = ("api_token", "oauth_client_id")


class HubIdentityProvider(JupyterHubIdentityProvider):
    """Authenticates users by JupyterHub's OAuth or by their JupyterHub tokens, and is a GroupDirectory of their groups.

    Its settings are those of JupyterHub's `c.HubOAuth`, from the environment if JupyterHub runs this server.
    """

    # Read by the page of projects, which then shows nothing else, whatever the authorizer permits.
    has_projects_only = True

    # This service's own token authenticates no user, and must not appear in pages, into which Jupyter writes the login token.
    token = ""

    login_age = Float(
        10.0,
        help="""Seconds for which JupyterHub's response about a login and its groups is cached, also for open WebSockets.
        Example: `c.HubIdentityProvider.login_age = 5`.""",
    ).tag(config=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._groups: dict[str, frozenset[str]] = {}  # by username; bounded by JupyterHub's users
        self._callbacks: list[Callable[[], None]] = []

    @default("hub_auth")
    def _default_hub_auth(self) -> HubOAuth:
        auth = HubOAuth(parent=self, base_url=self.parent.base_url)
        auth.cache_max_age = max(1, round(self.login_age))  # 0 would never expire
        if missing := [name for name in _REQUIRED_SETTINGS if not getattr(auth, name)]:
            self.log.critical("portproxy: c.HubOAuth.%s is empty: JupyterHub gives it to its services", missing[0])
            self.parent.exit(1)
        return auth

    def get_cookie_name(self, handler: JupyterHandler) -> str:
        """The login cookie, which is removed from requests to projects."""
        return str(self.hub_auth.cookie_name)

    async def get_user(self, handler: JupyterHandler) -> User | None:
        """The user of a request for a project or for the list of projects; None for all other pages of this server."""
        route = handler.route if isinstance(handler, JupyterRequest) else None
        if not isinstance(handler, JupyterRequest) and not getattr(handler, "shows_projects", False):
            handler.get_login_url = _no_login  # type: ignore[method-assign]  # after a login it would redirect here again
            return None
        if route is not None and route.is_local:
            raise Forbidden("This server has projects only.", "Open a project: its address begins with the project's key.")
        try:
            timeout = handler.settings["portproxy"].settings.connect_timeout
            user: JupyterHubUser | None = await asyncio.wait_for(super().get_user(handler), timeout)
        except asyncio.TimeoutError:
            raise HTTPError(503, "JupyterHub does not answer") from None
        if user is not None:
            self._update_groups(user.hub_user)
        return cast("User | None", user)

    # ---- groups ----

    def groups_of(self, username: str) -> Collection[str]:
        """See `GroupDirectory`."""
        return self._groups.get(username, ())

    def subscribe(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _update_groups(self, model: dict[str, Any]) -> None:
        if "groups" not in model:  # the token's scopes do not include them
            return
        name, groups = model["name"], frozenset(model["groups"])
        before, self._groups[name] = self._groups.get(name), groups
        if before is not None and before != groups:
            for callback in self._callbacks:
                callback()


def _no_login() -> str:
    raise HTTPError(403, "This server has projects only.")
