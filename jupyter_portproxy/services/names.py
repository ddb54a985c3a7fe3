"""The name of a new service: its template's, or one with its folder or script where that is taken."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from .arguments import Arguments
from .service_list import ServiceList
from .templates import Template

_MAX_BASE = 58  # characters of a name before its number
_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


class ServiceNames:
    """Names for services.

    Args:
        templates: by name; a service has the name of its own template alone.
    """

    def __init__(self, services: ServiceList, templates: Mapping[str, Template], arguments: Arguments) -> None:
        self._services, self._templates, self._arguments = services, templates, arguments

    def choose(self, template: Template, arguments: Mapping[str, str], kernel: str) -> str:
        """The name of a service with these arguments and this kernel, preferably of one that runs; else a name that is free."""
        same = [service for service in self._services if self._arguments.are_of(service, template, arguments, kernel)]
        if same:
            return max(same, key=lambda service: service.alive).name
        return next(name for name in self._names(template, arguments) if self._is_free(name, template))

    def _names(self, template: Template, arguments: Mapping[str, str]) -> Iterator[str]:
        """The template's name; then with that of its project file's folder, or of its script, appended; then with a number."""
        yield template.name
        name = template.name
        if template.folder:
            name = _append(name, Path(template.folder).name)
            yield name
        argument = next((each for each in template.arguments if each.kind == "path"), None)
        if argument is not None:
            path = Path(self._arguments.path(arguments[argument.name], template))
            is_default = path.name == Path(argument.default).name  # of app.py the folder says more
            name = _append(template.name, path.parent.name if is_default else path.stem)
            yield name
        for number in count(2):
            yield f"{name[:_MAX_BASE]}-{number}"

    def _is_free(self, name: str, template: Template) -> bool:
        """True for a new name, and for that of a service of this template that has ended."""
        known = self._services.find(name)
        if name in self._templates and (template.folder or name != template.name):
            return False
        return known is None or (known.template.key == template.key and not known.alive)


def _append(name: str, word: str) -> str:
    return f"{name}-{_NOT_OF_NAMES.sub('-', word).strip('-._')}"[:_MAX_BASE].rstrip("-._")
