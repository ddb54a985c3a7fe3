"""What a response that is not the API's own answer means, in a sentence: a login page, the hub, a reverse proxy, a refusal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.message import Message
from http import HTTPStatus
from urllib.parse import unquote, urljoin, urlsplit

from ..errors import BadAttachToken, CliError, Missing, NotFound, ServerUnavailable, Unauthenticated, parse_error
from ..protocol.credentials import ATTACH_TOKEN_START
from .output import PROGRAM
from .server_address import ServerAddress

_LOGIN_SEGMENTS = frozenset(["login", "oauth", "oauth2", "oauth_login", "authorize", "signin", "sso", "saml", "saml2", "cas"])
_GATEWAY_STATUSES = (502, 503, 504)


class TokenRefused(CliError):
    """The server does not accept the token."""


def explain_refusal(server: ServerAddress, status: int, fields: Message | Mapping[str, str], content: bytes) -> CliError:
    """The error for a response with a status other than 2xx; also for the refused handshake of a WebSocket.

    Args:
        fields: the response's header, with a `get` that ignores case, as `http.client` and Tornado have it.
        content: of the response; its beginning is enough.

    Returns:
        a ServerUnavailable if trying again may help.
    """
    own = parse_error(content)
    from_hub = fields.get("X-JupyterHub-Version") is not None
    if 300 <= status < 400:
        return _explain_redirect(server, fields.get("Location") or "")
    if status == 401 or own.get("code") == Unauthenticated.code:
        return TokenRefused(_not_accepted(server))
    if own:
        kind = ServerUnavailable if status in _GATEWAY_STATUSES else Missing if own["code"] == NotFound.code else CliError
        return kind("\n".join(filter(None, [own["message"], own["hint"], *own["details"]])))
    if status == 424 or (from_hub and status in _GATEWAY_STATUSES):
        return ServerUnavailable(_not_running(server))
    if status == 404 and from_hub and server.hub_path is None:
        return CliError(_is_hub(server))
    if status == 404:
        return CliError(
            f"{server.url} has no jupyter_portproxy.\nIs this the URL of a Jupyter server? See: jupyter server extension list"
        )
    if status in _GATEWAY_STATUSES:
        return ServerUnavailable(f"The reverse proxy in front of {server.url} answers {_phrase(status)}.\nDoes the server run?")
    if status == 403:
        return CliError(f"{server.url} refuses the request (403 Forbidden) and gives no reason.")
    return CliError(f"{server.url} answers {_phrase(status)}.")


def explain_hub_token(server: ServerAddress, status: int, content: bytes) -> CliError:
    """Why a server of JupyterHub does not accept a token, by the response of `GET /hub/api/user` to that token."""
    owner = unquote(server.base_path.partition("/user/")[2].partition("/")[0])
    page = urljoin(server.url, f"{server.hub_path}token")
    if status in (401, 403):
        reason = "it is unknown to JupyterHub: it has ended, or was revoked"
    else:
        try:
            user = json.loads(content)["name"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return TokenRefused(_not_accepted(server))
        reason = f"it is {user}'s" if user != owner else f"it lacks the scope access:servers!user={owner}"
    return TokenRefused(
        f"The token for {server.url} is not accepted: {reason}.\nMake another one at {page}\n{_log_in_again(server)}"
    )


def explain_page(server: ServerAddress) -> CliError:
    """The error for a response that is a page where JSON was expected."""
    hint = "Is there a login in front of the server that programs cannot pass?"
    return CliError(f"{server.url} answers with a web page instead of data.\n{hint}")


def _explain_redirect(server: ServerAddress, location: str) -> CliError:
    """The token is not sent to where a redirect leads."""
    try:
        parts = urlsplit(urljoin(server.url, location))
        shown, segments = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}", parts.path.lower().split("/")
    except ValueError:
        return CliError(f"{server.url} answers with a redirect that is not valid.")
    here = urlsplit(server.url)
    if _LOGIN_SEGMENTS & {*segments}:
        return TokenRefused(f"{server.url} leads to a login page ({shown}).\n{_not_accepted(server)}")
    if parts.netloc == here.netloc and "hub" in segments:
        after = segments[segments.index("hub") + 1 :][:1]
        if after == ["user"]:
            return ServerUnavailable(_not_running(server))
        return CliError(_is_hub(server))
    if (parts.scheme, parts.netloc) != (here.scheme, here.netloc) and parts.path.startswith(here.path):
        return CliError(
            f"{server.url} leads to another address, to which the token was not sent.\nUse {parts.scheme}://{parts.netloc}{here.path}"
        )
    return CliError(f"{server.url} answers with a redirect to {shown}, which was not followed.")


def _not_accepted(server: ServerAddress) -> str:
    if not server.token:
        return "The server's login has no token. Where it is Jupyter's own password, start the server with JUPYTER_TOKEN."
    if server.is_local:
        return f"The server at {server.url} does not accept its own token."
    reason = "it has ended, or is not this server's" if server.hub_path is None else "it has ended, or does not permit that"
    return f"The token for {server.url} is not accepted: {reason}.\n{_log_in_again(server)}"


def _log_in_again(server: ServerAddress) -> str:
    if server.token.startswith(ATTACH_TOKEN_START):
        return BadAttachToken.hint
    if server.token_source:
        return f"It comes from {server.token_source}, which counts before a login. Correct it there, or remove it."
    return f"Log in again: {PROGRAM} login {server.url}"


def _not_running(server: ServerAddress) -> str:
    home = urljoin(server.url, f"{server.hub_path or '/hub/'}home")
    return f"JupyterHub has no running server at {server.url}\nStart it: {home}"


def _is_hub(server: ServerAddress) -> str:
    return f"{server.url} is a JupyterHub, not a server.\nA user's server is at {urljoin(server.url, '/user/NAME/')}"


def _phrase(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
