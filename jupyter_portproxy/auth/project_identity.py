"""The login of a project's own Jupyter server: `jupyter_portproxy.auth.ProjectIdentityProvider`.

The project host sends the project's secret with each request, and no other login is accepted. The secret is not Jupyter's token:
Jupyter writes that into its pages, where scripts can read it.
"""

from __future__ import annotations

import hmac
import os
import sys
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.utils import ensure_async
from tornado.web import RequestHandler

from ..protocol.credentials import SECRET_VARIABLE

IDENTITY_PROVIDER = "jupyter_portproxy.auth.ProjectIdentityProvider"


class ProjectIdentityProvider(IdentityProvider):
    """Authenticates requests with the secret in Authorization, or with the cookie of such a login.

    The secret is in the environment, as PORTPROXY_PROJECT_SECRET.
    """

    token = ""
    is_stateless = True  # as Jupyter's own providers: the login depends on the request's fields alone

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
        """The token of the Authorization field alone: a `token` in the URL belongs to a service."""
        match = self.auth_header_pat.match(handler.request.headers.get("Authorization", ""))
        return match[2] if match else ""

    async def get_user_token(self, handler: RequestHandler) -> User | None:
        """The user that the cookie names, or an anonymous one."""
        if not hmac.compare_digest(self.get_token(handler).encode(), self._secret):
            return None
        user: User | None = await ensure_async(self.get_user_cookie(handler))
        return user or self.generate_anonymous_user(handler)
