"""A proxied request in the form that Jupyter's identity provider, authorizer and access log take: a handler.

`JupyterRequest` never serves anything. It exists because `IdentityProvider.get_user`, `Authorizer.is_authorized`,
`Application.log_request` and the functions of a jupyter-server-proxy configuration are called with a `JupyterHandler`, and read
cookies, arguments and settings through its methods. The request itself is served by the delegates (http, websocket, raw_socket).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider, User
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import ensure_async
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import HTTPError

from ..errors import Forbidden, GatewayError, LoginUnavailable
from ..gateway.gateway import Gateway
from ..protocol import credentials
from ..protocol.headers import Fields
from ..protocol.urls import BaseRoute

RESOURCE, ACTION = "portproxy", "execute"
PROJECTS_RESOURCE = "portproxy-projects"  # the list of projects; what a user may see of them, the members table decides
_STATELESS = (IdentityProvider, PasswordIdentityProvider)  # logins by a token of the settings or a signed cookie


class JupyterRequest(JupyterHandler):
    def initialize(self, gateway: Gateway, route: BaseRoute | None) -> None:
        self.gateway, self.route = gateway, route
        # The template namespace refers to the handler; without the cycle the request is freed without the garbage collector.
        self._break_cycles()

    def set_user(self, user: User | None, *, by_token: bool | None = None) -> None:
        """Set the result of the authentication, so that Jupyter does not repeat it. `by_token` None keeps Jupyter's value."""
        self.current_user = self._jupyter_current_user = user
        if by_token is not None:
            self._token_authenticated = by_token

    async def identify(self, *, refresh: bool = False) -> User | None:
        """The user whom the identity provider finds; None without a login.

        Args:
            refresh: do not use what JupyterHub said before.

        Raises:
            Forbidden, LoginUnavailable
        """
        try:
            if refresh:
                await self._forget_hub()
            user: User | None = await ensure_async(self.identity_provider.get_user(self))
        except GatewayError:
            raise
        except HTTPError as error:
            if error.status_code < 500:
                raise Forbidden("Your login is not accepted here.", "Log in to Jupyter again.") from None
            self.log.warning("portproxy: the identity provider failed: %s", error)
            raise LoginUnavailable() from None
        except Exception:
            self.log.exception("portproxy: the identity provider failed")
            raise LoginUnavailable() from None
        self.set_user(user)
        return user

    async def authorize(self) -> None:
        """Raises: Forbidden"""
        if not await is_permitted(self, ACTION):
            raise Forbidden("You may not reach services through this server.", f"Ask for the permission {RESOURCE}:{ACTION}.")

    @property
    def is_stateless(self) -> bool:
        """True if logins follow from the request's fields and the settings alone, as with Jupyter's own identity providers."""
        provider = type(self.identity_provider)
        return provider in _STATELESS or getattr(provider, "is_stateless", False)

    @property
    def is_revocable(self) -> bool:
        """True if identity provider or authorizer may decide otherwise about the next request with the same fields."""
        return not self.is_stateless or type(self.authorizer) is not AllowAllAuthorizer

    def login_cookies(self) -> Fields:
        """The Set-Cookie fields that logging in has left for the response."""
        jar: Any = getattr(self, "_new_cookie", None) or {}
        return [("Set-Cookie", morsel.OutputString(None)) for morsel in jar.values()]

    def cookies_after_response(self) -> dict[str, str]:
        """The browser's cookies once it has the response: a token in the URL, for one, becomes a login cookie."""
        fresh = [value.partition(";")[0].partition("=") for _, value in self.login_cookies()]
        return {**cookies_of(self.request.headers), **{name: value.strip('"') for name, _, value in fresh}}

    def get_cookie(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """Tornado's own method makes an object of each cookie of the head before it looks for one."""
        values = credentials.find_cookie_values(self.request.headers.get_list("Cookie"), name)
        return credentials.unquote_cookie(values[-1]) if values else default

    def get_argument(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """A service's own `token` in the URL does not hide a login by Authorization, which Jupyter's providers read second."""
        value = super().get_argument(name, *args, **kwargs)
        if name != "token" or "Authorization" not in self.request.headers or type(self.identity_provider) not in _STATELESS:
            return value
        return value if value == self.identity_provider.token else ""

    def check_xsrf_cookie(self) -> None:
        """Accept requests without an XSRF token: pages of a service have none; the origin check replaces it.

        JupyterHub's identity provider calls this before it accepts its cookie.
        """

    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **kwargs: Any) -> None:
        """Set no login cookie for a program that sends its token with each request: signing one costs more than the login.

        Any other cookie is set: a login that begins here cannot end without that of JupyterHub's OAuth state.
        """
        if "Authorization" not in self.request.headers or name != self.identity_provider.get_cookie_name(self):
            super().set_signed_cookie(name, value, *args, **kwargs)

    set_secure_cookie = set_signed_cookie

    async def _forget_hub(self) -> None:
        """Clear the identity provider's cache of JupyterHub's responses (`HubOAuth.cache_max_age`), if JupyterHub answers now."""
        hub_auth: Any = getattr(self.identity_provider, "hub_auth", None)
        token = hub_auth.get_token(self) if hub_auth is not None else None
        if token:
            await hub_auth.user_for_token(token, use_cache=False, sync=False)
            hub_auth.cache = type(hub_auth.cache)(hub_auth.cache_max_age)


async def is_permitted(handler: JupyterHandler, action: str, resource: str = RESOURCE) -> bool:
    """True if the authorizer permits it to the user of a request; "read" is to see what the API shows, such as logs."""
    return bool(await ensure_async(handler.authorizer.is_authorized(handler, handler.current_user, action, resource)))


def cookies_of(headers: HTTPHeaders) -> dict[str, str]:
    return credentials.parse_cookies(headers.get_list("Cookie"))


def hypothetical_requests(handler: JupyterRequest) -> Callable[[str, HTTPHeaders], JupyterRequest]:
    """A function that makes, of a request target and fields, another request of the same client.

    It refers to the application, not to the handler, which it may outlive.
    """
    application, gateway, route = handler.application, handler.gateway, handler.route
    context = handler.request.connection.context  # type: ignore[union-attr]
    connection: Any = SimpleNamespace(context=context, set_close_callback=lambda callback: None)

    def make(uri: str, headers: HTTPHeaders) -> JupyterRequest:
        start = RequestStartLine("GET", uri, "HTTP/1.1")
        request = HTTPServerRequest(headers=headers.copy(), connection=connection, start_line=start)
        return JupyterRequest(application, request, gateway=gateway, route=route)

    return make


def login_check(handler: JupyterRequest) -> Callable[[], Awaitable[bool]]:
    """A function that repeats authentication and authorization later, with the login's credentials or the cookies it left."""
    request, make = handler.request, hypothetical_requests(handler)
    user, headers, uri = handler.current_user, request.headers.copy(), request.uri or "/"
    cookies = handler.cookies_after_response()
    if credentials.find_login_cookies(cookies):
        uri = uri.partition("?")[0]  # without the token, which outlives a logout
        headers["Cookie"] = "; ".join(f'{name}="{value}"' for name, value in cookies.items())

    async def is_valid() -> bool:
        repeated = make(uri, headers)
        try:
            now = await repeated.identify(refresh=True)
        except LoginUnavailable:
            return True  # JupyterHub is away: the next check decides
        except GatewayError:
            return False
        if now is None or (now.username != user.username and not repeated.token_authenticated):
            return False  # for a token alone Jupyter makes a new name each time
        try:
            await repeated.authorize()
        except Forbidden:
            return False
        except Exception:
            repeated.log.exception("portproxy: the authorizer failed")
            return False
        return True

    return is_valid
