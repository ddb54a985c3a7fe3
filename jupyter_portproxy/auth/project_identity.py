"""The login of a project's own Jupyter server: `jupyter_portproxy.auth.ProjectIdentityProvider`.

Rule of this file: the project host shows the project's secret in each request, and nothing else logs in. The secret is not
Jupyter's token: Jupyter writes that into its pages, and every script there can read it.
"""

from __future__ import annotations

import hmac
import os
import sys
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.utils import ensure_async
from tornado.web import RequestHandler


class ProjectIdentityProvider(IdentityProvider):
    """Authenticates requests with the secret in Authorization, or with the cookie of such a login.

    The secret comes in the environment, as PORTPROXY_PROJECT_SECRET.
    """

    token = ""
    is_stateless = True  # as Jupyter's own: what logs in follows from the fields alone

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._secret = os.environ.get(SECRET_VARIABLE, "").encode()
        if not self._secret:
            self.log.critical(
                "portproxy: %s is empty. Set it to the project's secret, or run: jupyter portproxy run-project KEY",
                SECRET_VARIABLE,
            )
            sys.exit(1)

    def get_token(self, handler: RequestHandler) -> str:
        """Of the Authorization field alone: a `token` in the URL is a service's own."""
        match = self.auth_header_pat.match(handler.request.headers.get("Authorization", ""))
        return match[2] if match else ""

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """Somebody without a name, or whom the cookie names."""
        if not hmac.compare_digest(self.get_token(handler).encode(), self._secret):
            return None
        user: User | None = await ensure_async(self.get_user_cookie(handler))
        return user or self.generate_anonymous_user(handler)


SECRET_VARIABLE = "PORTPROXY_PROJECT_SECRET"  # noqa: S105 (a name) of the environment of a project's own server


IDENTITY_PROVIDER = "jupyter_portproxy.auth.ProjectIdentityProvider"  # of that server
