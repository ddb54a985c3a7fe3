"""Which credentials of a request log in at Jupyter, and must therefore not reach a service.

With Jupyter's own identity providers that follows from the settings. How any other reads a request is not known, so it is called
twice for each credential: with a request that has nothing else, and with one that has everything else. The credential is
Jupyter's if the first logs in or the second does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from ..errors import GatewayError, LoginUnavailable
from ..protocol import credentials
from ..protocol.url_fields import PAGE_FIELDS
from .jupyter_request import JupyterRequest

MAX_CREDENTIALS = 4  # of one request that the identity provider is called for; of more, all are taken for Jupyter's


MakeRequest = Callable[[str, HTTPHeaders], JupyterRequest]  # from a request target and fields


@dataclass(frozen=True, slots=True)
class Credential:
    """What may log in: the value of an Authorization field, or a token in the URL, the page's URL or the subprotocols."""

    value: str
    is_field: bool


async def login_tokens(
    handler: JupyterRequest, known: frozenset[str], is_login: Callable[[Credential], Awaitable[bool]]
) -> frozenset[str]:
    """`known` and the credentials of an authenticated request that log in at Jupyter."""
    if handler.token_authenticated:
        known |= {handler.identity_provider.get_token(handler) or ""} - {""}
    if handler.is_stateless:
        return known
    candidates = [
        c for c in credentials_in(handler.request) if not known & {c.value, credentials.parse_authorization_token(c.value)}
    ]
    for credential in candidates:
        if len(candidates) > MAX_CREDENTIALS or await is_login(credential):
            known |= {credential.value, credentials.parse_authorization_token(credential.value)} - {""}
    return known


def credentials_in(request: HTTPServerRequest) -> set[Credential]:
    """Everything in a request that may log in."""
    headers = request.headers
    pages = (url for name in PAGE_FIELDS for url in headers.get_list(name))
    tokens = [token for url in (request.uri or "", *pages) for token in credentials.find_token_parameters(url)]
    tokens += credentials.find_subprotocol_tokens(headers.get("Sec-WebSocket-Protocol", ""))
    fields = {Credential(value.strip(), True) for value in headers.get_list("Authorization") if value.strip()}
    return fields | {Credential(token, False) for token in tokens if token}


async def logs_in(credential: Credential, request: HTTPServerRequest, make: MakeRequest) -> bool:
    """True if the request may have logged in by the credential."""
    return await logs_in_alone(credential, request, make) or not await _logs_in_without(credential, request, make)


async def logs_in_alone(credential: Credential, request: HTTPServerRequest, make: MakeRequest) -> bool:
    """True if the credential alone logs in a user whom a request without any credential does not."""
    value, headers = credential.value, HTTPHeaders({"Host": request.headers.get("Host", "")})
    query = "" if credential.is_field else f"?token={quote(value, safe='')}"
    try:
        anonymous = await _user_of(make(request.path, headers.copy()))
        headers["Authorization"] = value if credential.is_field else f"token {value}"
        user = await _user_of(make(request.path + query, headers))
    except LoginUnavailable:
        return True
    return user is not None and (anonymous is None or anonymous.username != user.username)


async def _logs_in_without(credential: Credential, request: HTTPServerRequest, make: MakeRequest) -> bool:
    left_out = "authorization" if credential.is_field else "sec-websocket-protocol"
    headers = HTTPHeaders()
    for name, value in request.headers.get_all():
        if name.lower() != left_out:
            headers.add(name, value)
    uri = request.uri or ""
    target = uri if credential.is_field else credentials.remove_secret_parameters(uri, {credential.value})
    try:
        return await _user_of(make(target, headers)) is not None
    except LoginUnavailable:
        return False


async def _user_of(request: JupyterRequest) -> User | None:
    """Raises: LoginUnavailable"""
    try:
        return await request.identify()
    except LoginUnavailable:
        raise
    except GatewayError:
        return None
