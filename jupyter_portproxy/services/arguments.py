"""The arguments of a service: filled in, compared and described. Paths count from the template's folder, or the root of
the file browser."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ..errors import BadInput
from ..system import command_lines
from .service import Service
from .template_keys import TemplateError
from .templates import Template


class Arguments:
    """Checks arguments, and prints them.

    Args:
        root_dir: the root of the file browser.
    """

    def __init__(self, root_dir: str) -> None:
        self._root_dir = root_dir

    def fill_in(self, template: Template, given: Mapping[str, object]) -> dict[str, str]:
        """Raises: BadInput"""
        try:
            filled = template.fill_in(given)
        except TemplateError as error:
            raise BadInput(str(error), "See the template's list of arguments.") from None
        for argument in template.arguments:
            path = self.path(filled[argument.name], template)
            if argument.kind == "path" and argument.must_exist and filled[argument.name] and not _exists(path):
                raise BadInput(
                    f"The argument '{argument.name}': there is no file or folder '{path}'.",
                    "Paths count from the folder that the file browser shows, those of a folder's project file from that folder; "
                    "in the server's terminals from the current one.",
                )
        return filled

    def path(self, value: str, template: Template) -> str:
        """An absolute path."""
        return os.path.normpath(os.path.join(template.folder or self._root_dir, value))

    def are_of(self, service: Service, template: Template, arguments: Mapping[str, str], kernel: str) -> bool:
        """True if a service of this template has these arguments and kernel, where different paths may name the same file."""
        if service.template.key != template.key or service.arguments.keys() != arguments.keys() or service.kernel != kernel:
            return False
        paths = {argument.name for argument in template.arguments if argument.kind == "path"}
        pairs = ((name, value, arguments[name]) for name, value in service.arguments.items())
        return all(
            one == other or (name in paths and self.path(one, template) == self.path(other, template))
            for name, one, other in pairs
        )

    def describe(self, service: Service) -> str:
        """What runs in a service, for people: its script or folder, and its other arguments where they are not the defaults."""
        parts = []
        for argument in service.template.arguments:
            value = service.arguments.get(argument.name, "")
            if argument.kind == "path":
                path = self.path(value, service.template)
                relative = os.path.relpath(path, self._root_dir or ".")
                parts.append(path if relative.startswith("..") else relative)
            elif value != argument.default:
                parts.append(masked(argument.name, value))
        return ", ".join(parts)


def masked(name: str, value: str) -> str:
    """The value of an argument for people; a secret is masked as in a command line."""
    return command_lines.MASK if value and command_lines.is_secret(name) else value


def _exists(path: str) -> bool:
    """True for a file or folder, and for `app.py:name` and `package.module:name` as Flask and Shiny take them."""
    file = path.rpartition(":")[0] or path
    module = os.path.join(os.path.dirname(file), os.path.basename(file).replace(".", os.sep))
    return any(os.path.exists(each) for each in (path, file, f"{file}.py", module, f"{module}.py"))
