"""Web services beside your notebooks, in your browser, under the Jupyter server's own URL and login."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .notebook import attach, show, url_for

    __version__: str

__all__ = ["__version__", "attach", "show", "url_for"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: the command line needs none of them."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("jupyter_portproxy")
    elif name in __all__:
        from . import notebook

        value = getattr(notebook, name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from .app import PortProxyApp

    return [{"module": "jupyter_portproxy", "app": PortProxyApp}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter-builder develop` finds what npm has built, and its name in JupyterLab."""
    return [{"src": "labextension", "dest": "jupyter-portproxy"}]
