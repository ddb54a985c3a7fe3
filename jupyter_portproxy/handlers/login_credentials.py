"""Which credentials of a request log in at Jupyter, where its identity provider is none of Jupyter's own.

Rule of this file: how such a provider reads a request is not known, so it is asked twice for each credential: about a request
that has nothing else, and about one that has all else. The credential is Jupyter's if the first logs in or the second does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from jupyter_server.auth.identity import User
from tornado.httputil import HTTPHeaders, HTTPServerRequest

from ..errors import LoginUnavailable
from ..protocol import credentials
from ..protocol.url_fields import PAGE_FIELDS

Ask = Callable[[str, HTTPHeaders], Awaitable[User | None]]  # request target, fields -> who that is
MAX_ASKED = 4  # credentials of one request; of more, all are taken for Jupyter's


@dataclass(frozen=True, slots=True)
class Credential:
    """What may log in: the value of an Authorization field, or a token in the URL, the page's URL or the subprotocols."""

    value: str
    is_field: bool


def credentials_in(request: HTTPServerRequest) -> set[Credential]:
    """Those of a request."""
    headers = request.headers
    pages = (url for name in PAGE_FIELDS for url in headers.get_list(name))
    tokens = [token for url in (request.uri or "", *pages) for token in credentials.find_token_parameters(url)]
    tokens += credentials.find_subprotocol_tokens(headers.get("Sec-WebSocket-Protocol", ""))
    fields = {Credential(value.strip(), True) for value in headers.get_list("Authorization") if value.strip()}
    return fields | {Credential(token, False) for token in tokens if token}


async def logs_in(credential: Credential, request: HTTPServerRequest, ask: Ask) -> bool:
    """True if the request may have logged in by it."""
    return await logs_in_alone(credential, request, ask) or not await _logs_in_without(credential, request, ask)


async def logs_in_alone(credential: Credential, request: HTTPServerRequest, ask: Ask) -> bool:
    """True if it logs in somebody whom a request without any credential does not."""
    value, headers = credential.value, HTTPHeaders({"Host": request.headers.get("Host", "")})
    query = "" if credential.is_field else f"?token={quote(value, safe='')}"
    try:
        nobody = await ask(request.path, headers.copy())
        headers["Authorization"] = value if credential.is_field else f"token {value}"
        user = await ask(request.path + query, headers)
    except LoginUnavailable:
        return True
    return user is not None and (nobody is None or nobody.username != user.username)


async def _logs_in_without(credential: Credential, request: HTTPServerRequest, ask: Ask) -> bool:
    left_out = "authorization" if credential.is_field else "sec-websocket-protocol"
    headers = HTTPHeaders()
    for name, value in request.headers.get_all():
        if name.lower() != left_out:
            headers.add(name, value)
    uri = request.uri or ""
    try:
        return (
            await ask(uri if credential.is_field else credentials.remove_secret_parameters(uri, {credential.value}), headers)
            is not None
        )
    except LoginUnavailable:
        return False
