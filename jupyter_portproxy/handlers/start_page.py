"""The page for a browser that opens a service which is starting or has failed, and the reports that its script polls.

The script repeats the page's own request with START_FIELD, at any URL and at isolated origins too: the same pipeline admits it.
Such a request never reaches the service. `report` reads the state; `again`, in a POST, starts a service that does not run. From
another origin, browsers send the field after a preflight only.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from urllib.parse import quote

from tornado.httputil import HTTPServerRequest

from ..protocol.headers import Fields
from ..services.service import Service

START_FIELD = "X-Portproxy-Start"
_REPORTED = ("state", "heading", "step", "address", "seconds", "message", "lines", "is_over")
_HEADINGS = {
    "starting": "{} is starting",
    "up": "{} is ready",
    "unhealthy": "{} is ready",
    "stopping": "{} is being stopped",
    "down": "{} is stopped",
    "failed": "{} has failed",
}
_ATTACHED_HEADINGS = {  # of what an agent has attached
    **_HEADINGS,
    "unhealthy": "{} does not answer",
    "down": "{} is not attached",
}


@dataclass(frozen=True, slots=True)
class StartReport:
    """What a user may see of a service that is starting or has ended.

    Attributes:
        step: 0 while the program is being started, 1 while its port is awaited, 2 when it is ready, so that the page is loaded.
        address: where it is to listen, for people.
        seconds: since the start.
        message: why it does not run; empty if there is no reason.
        has_output: the user may read its log.
        is_over: it will not become ready by itself. What an agent has attached may, and is not started here.
    """

    name: str
    state: str
    heading: str
    step: int
    address: str
    seconds: float
    message: str
    lines: tuple[str, ...]
    has_output: bool
    is_over: bool


@dataclass(frozen=True, slots=True)
class StartView:
    """What the page shows.

    Attributes:
        jupyter_url: of Jupyter's base URL; empty if it is not known: the page then has no links there.
    """

    report: StartReport
    jupyter_url: str

    @property
    def log_url(self) -> str:
        """Empty if there is none, or the user may not read the log."""
        path = f"proxy/api/services/{quote(self.report.name, safe='')}/logs?follow=1"
        return self.jupyter_url + path if self.jupyter_url and self.report.has_output else ""

    @property
    def list_url(self) -> str:
        return f"{self.jupyter_url}proxy/" if self.jupyter_url else ""


class StartReported(Exception):
    """The response is a report for the script of a start page."""

    def __init__(self, report: StartReport) -> None:
        super().__init__(report.state)
        self.report = report


def describe_start(service: Service, *, has_output: bool, message: str = "") -> StartReport:
    """What a start page shows.

    Args:
        message: shown instead of the service's own reason.
    """
    endpoint, template = service.endpoint, service.template
    title = template.title if service.name == template.name else f"{template.title} ({service.name})"
    is_running = service.task is not None and not service.task.done()  # also between two runs of a service that is restarted
    # What is silent may answer the next request, but an agent has looked at its own port.
    is_ready = service.state == "up" or (service.state == "unhealthy" and not service.agent)
    step = 2 if is_ready else 0 if service.process is None else 1
    return StartReport(
        name=service.name,
        state=service.state,
        heading=(_ATTACHED_HEADINGS if service.agent else _HEADINGS)[service.state].format(title),
        step=step,
        address=f"port {endpoint.port}" if endpoint.port else "its socket",
        seconds=round(max(time.time() - service.since, 0), 1),
        message=message or service.reason(with_output=has_output),
        lines=tuple(service.last_lines()) if has_output else (),
        has_output=has_output,
        is_over=service.state in ("down", "failed") and not is_running and not service.agent,
    )


def start_command(request: HTTPServerRequest) -> str:
    """`again` or `report`, if the script of a start page sent the request; else empty."""
    command = request.headers.get(START_FIELD, "")
    if not command or "Upgrade" in request.headers:
        return ""
    return "again" if command == "again" and request.method == "POST" else "report"


def render_report(report: StartReport) -> tuple[Fields, bytes]:
    shown = {key: getattr(report, key) for key in _REPORTED}
    fields = [("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"), ("Content-Type", "application/json")]
    return [*fields, (START_FIELD, "report")], json.dumps(shown).encode()
