"""Identity providers and authorizers that a configuration can name.

`HubIdentityProvider` needs the package `jupyterhub`; each class is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "HubIdentityProvider": "jupyterhub",
    "ProjectIdentityProvider": "project_identity",
    "ProjectsOnly": "projects_only",
    "UserPasswords": "user_passwords",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
