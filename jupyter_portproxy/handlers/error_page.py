"""The form of the gateway's own errors: a page for browsers, JSON or plain text for programs."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tornado.httputil import HTTPServerRequest
from tornado.template import Loader

from ..errors import GatewayError, NotEnteredFrame, NotFramed, NotTheHub
from ..protocol.headers import ERROR_FIELD, Fields
from ..protocol.hop_header import REFUSAL_FIELD
from .diagnosis_link import DiagnosisLink
from .start_page import StartView

PAGES = Loader(str(Path(__file__).parents[1]))
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"
# JupyterLab's tab gets the address that it does not show, in a frame of its window alone.
_FRAME_SCRIPT = "if (parent === top) parent.postMessage({ %s: location.pathname + location.search + location.hash }, '*')"
_FRAME_MESSAGES: dict[type[GatewayError], str] = {NotEnteredFrame: "portproxyNotEntered", NotFramed: "portproxyNotFramed"}
# A refresh by `meta` does not load a URL with a fragment again.
_RELOAD_SCRIPT = "setTimeout(() => location.reload(), 1000 * document.currentScript.dataset.pause);"
_START_SCRIPT = Path(__file__).with_name("start_page.js").read_text("utf-8")


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
    error: GatewayError,
    request: HTTPServerRequest,
    frame_ancestors: str,
    allow: AllowForm | None = None,
    start: StartView | None = None,
    diagnosis: DiagnosisLink | None = None,
) -> tuple[Fields, bytes]:
    """Header fields and body of an error response, in the form that the request accepts.

    Args:
        frame_ancestors: sources of the CSP directive: which pages may show the error in a frame.
        allow, diagnosis: shown on a page for browsers.
        start: a page for browsers shows this instead.
    """
    media_type, text = _content(error, request, allow, start, diagnosis)
    policy = _POLICY
    if type(error) in _FRAME_MESSAGES:
        policy += f"; script-src {_source_of(_frame_script(error))}"
    elif start is not None:
        policy += f"; script-src {_source_of(_START_SCRIPT)}; connect-src 'self'"
    elif _reload_pause(error, request) is not None:
        policy += f"; script-src {_source_of(_RELOAD_SCRIPT)}"
    fields: Fields = [("Retry-After", str(error.retry_after))] if error.retry_after is not None else []
    if isinstance(error, NotTheHub):
        fields.append((REFUSAL_FIELD, "credential"))
    fields += [
        (ERROR_FIELD, error.code),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Type", f"{media_type}; charset=utf-8"),
        ("Content-Security-Policy", f"{policy}; frame-ancestors {frame_ancestors}"),
    ]
    return fields, text.encode()


def print_page(
    error: GatewayError,
    about: str = "",
    reload: int | None = None,
    allow: AllowForm | None = None,
    diagnosis: DiagnosisLink | None = None,
) -> bytes:
    """The page for browsers.

    Args:
        about: URL of the documentation of the error; empty for none.
        reload: seconds after which the page loads itself again; None if it does not.
        allow, diagnosis: see `render`.
    """
    return PAGES.load("handlers/error_page.html").generate(
        error=error,
        about=about,
        reload=reload,
        reload_script=_RELOAD_SCRIPT,
        frame_script=_frame_script(error),
        allow=allow,
        diagnosis=diagnosis,
    )


def _reload_pause(error: GatewayError, request: HTTPServerRequest) -> int | None:
    """Seconds after which a page loads itself again; None if it does not, as it would send a form again."""
    return error.retry_after if request.method == "GET" else None


def _frame_script(error: GatewayError) -> str:
    message = _FRAME_MESSAGES.get(type(error))
    return _FRAME_SCRIPT % message if message else ""


def _source_of(script: str) -> str:
    """The source expression of the Content-Security-Policy that admits one script (CSP 3, 2.3.1)."""
    return f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"


def _content(
    error: GatewayError,
    request: HTTPServerRequest,
    allow: AllowForm | None,
    start: StartView | None,
    diagnosis: DiagnosisLink | None,
) -> tuple[str, str]:
    accept = request.headers.get("Accept", "")
    if start is not None:
        page = PAGES.load("handlers/start_page.html").generate(start=start, about=error.documentation, script=_START_SCRIPT)
        return "text/html", page.decode()
    if "text/html" in accept:
        page = print_page(error, error.documentation, _reload_pause(error, request), allow, diagnosis)
        return "text/html", page.decode()
    if "application/json" in accept:
        return "application/json", json.dumps(error.as_json())
    return "text/plain", "\n".join([error.message, error.hint, *error.details, ""])
