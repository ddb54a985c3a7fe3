"""The link of the gateway's pages to the diagnosis of a port or service in JupyterLab, or the command that prints the same.

The link starts nothing: JupyterLab shows the view of the diagnosis, and waits there for its button.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

_PARAMETER = "portproxy-diagnose"  # as in labextension/src/inspection.ts
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
_PATH = re.compile(r"/[\x21-\x7e]{1,2000}\Z")


@dataclass(frozen=True, slots=True)
class DiagnosisLink:
    """What a page shows for the diagnosis of a port or service.

    Attributes:
        url: of JupyterLab; empty without one: the command is shown instead.
    """

    url: str
    command: str


def find_lab(settings: Mapping[str, Any]) -> str:
    """The path of JupyterLab below the base URL, such as `lab`; empty if this server has none.

    Args:
        settings: of the Tornado application.
    """
    server = settings.get("serverapp")
    apps = server.extension_manager.extension_apps.get("jupyterlab", ()) if server is not None else ()
    return next((str(app.app_url).strip("/") for app in apps), "")


def link_diagnosis(lab_url: str, target: str, path: str = "/") -> DiagnosisLink | None:
    """The link for a target; None if the target is neither a port nor the name of a service.

    Args:
        lab_url: of JupyterLab; empty if there is none, or it is not known.
        path: of the page at the service, as sent. Its query, which may hold secrets, is left out.
    """
    if not _TARGET.match(target):
        return None
    path = path.partition("?")[0]
    subject = quote(target + path if _PATH.match(path) else target, safe="")
    return DiagnosisLink(f"{lab_url}?{_PARAMETER}={subject}" if lab_url else "", f"jupyter portproxy check {target} --page")
