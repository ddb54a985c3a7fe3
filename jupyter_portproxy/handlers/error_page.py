"""The form of the gateway's own errors: a page for browsers, JSON or plain text for programs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tornado.httputil import HTTPServerRequest
from tornado.template import Loader

from ..errors import GatewayError, NotFramed, NotTheHub
from ..protocol.headers import Fields
from ..protocol.hop_header import REFUSAL_FIELD

PAGES = Loader(str(Path(__file__).parents[1]))
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"


@dataclass(frozen=True, slots=True)
class AllowForm:
    """The form of an error page by which its user allows the port.

    Attributes:
        action: the URL of the index page, which serves the form.
        next_uri: where the browser goes afterwards: the URL that was refused.
        xsrf: HTML of the field with Jupyter's XSRF token.
    """

    action: str
    port: int
    next_uri: str
    xsrf: str


def render(
    error: GatewayError, request: HTTPServerRequest, frame_ancestors: str, allow: AllowForm | None = None
) -> tuple[Fields, bytes]:
    """Header fields and body of an error response, in the form that the request accepts.

    Args:
        frame_ancestors: sources of the CSP directive: which pages may show the error in a frame.
        allow: shown on a page for browsers.
    """
    media_type, text = _content(error, request, allow)
    policy = _POLICY + ("; script-src 'unsafe-inline'" if isinstance(error, NotFramed) else "")
    fields: Fields = [("Retry-After", str(error.retry_after))] if error.retry_after is not None else []
    if isinstance(error, NotTheHub):
        fields.append((REFUSAL_FIELD, "credential"))
    fields += [
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Type", f"{media_type}; charset=utf-8"),
        ("Content-Security-Policy", f"{policy}; frame-ancestors {frame_ancestors}"),
    ]
    return fields, text.encode()


def _content(error: GatewayError, request: HTTPServerRequest, allow: AllowForm | None) -> tuple[str, str]:
    accept = request.headers.get("Accept", "")
    if "text/html" in accept:
        reload = error.retry_after if request.method == "GET" else None
        page = PAGES.load("handlers/error_page.html").generate(error=error, reload=reload, about=error.documentation, allow=allow)
        return "text/html", page.decode()
    if "application/json" in accept:
        return "application/json", json.dumps(error.as_json())
    return "text/plain", "\n".join([error.message, error.hint, *error.details, ""])
