"""Web services beside your notebooks, in your browser, under the Jupyter server's own URL and login."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from .notebook import show, url_for

__all__ = ["__version__", "show", "url_for"]
__version__ = version("jupyter_portproxy")


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .app import PortProxyApp

    return [{"module": "jupyter_portproxy", "app": PortProxyApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter-builder develop` finds what npm has built, and its name in JupyterLab."""
    return [{"src": "labextension", "dest": "jupyter-portproxy"}]
