"""Named users for a hub under test: a token `user-NAME` is NAME's."""

from __future__ import annotations

from urllib.parse import unquote

from jupyter_server.auth.identity import IdentityProvider, User


class NamedUsers(IdentityProvider):
    def get_user(self, handler):
        token = self.get_token(handler) or ""
        if not token.startswith("user-"):
            return None
        handler._token_authenticated = True
        return User(unquote(token.removeprefix("user-")))
