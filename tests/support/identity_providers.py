"""Named users for a hub under test: a token `user-NAME` is NAME's, and so is `Authorization: Odd NAME`, without a word of it."""

from __future__ import annotations

from urllib.parse import unquote

from jupyter_server.auth.identity import IdentityProvider, User

from .jupyter_processes import TOKEN


class NamedUsers(IdentityProvider):
    def get_user(self, handler):
        scheme, _, name = handler.request.headers.get("Authorization", "").partition(" ")
        if scheme == "Odd":
            return User(name)
        token = self.get_token(handler) or ""
        if not token.startswith("user-"):
            return None
        handler._token_authenticated = True
        return User(unquote(token.removeprefix("user-")))


class NamedTokens(NamedUsers):
    """The same, and its logins follow from the fields of a request alone: a decision about one holds for its repetition."""

    is_stateless = True


def configured(**more) -> dict:
    """The configuration of a server under test, with more of `c.ServerApp`."""
    return {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}, **more}, "IdentityProvider": {"token": TOKEN}}
