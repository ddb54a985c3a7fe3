"""What a folder needs, as the API and the command line show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..services.templates import PLACEHOLDER, Template
from .model import ProjectFile


def describe(project_file: ProjectFile) -> dict[str, Any]:
    """The item of a folder, without what only a server knows: the state of its services, and the consent."""
    return {
        "folder": project_file.folder,
        "name": project_file.name,
        "files": [asdict(source) for source in project_file.sources],
        "services": [_describe_service(template) for template in project_file.templates.values()],
        "ports": [asdict(rule) for rule in project_file.ports],
        "problems": [asdict(problem) for problem in project_file.problems],
        "notes": [asdict(note) for note in project_file.notes],
        "digest": project_file.digest,
    }


def _describe_service(template: Template) -> dict[str, Any]:
    """Its arguments have their defaults: what a person allows shows all that runs."""
    defaults = {each.name: each.default.replace("{", "{{").replace("}", "}}") for each in template.arguments}

    def fill_in(text: str) -> str:
        return PLACEHOLDER.sub(lambda match: defaults.get(match[1], match[0]), text)

    return {
        "name": template.name,
        "command": list(map(fill_in, template.command)),
        "cwd": fill_in(template.cwd),
        "environment": {name: fill_in(text) for name, text in template.environment.items()},
        "kernel": template.kernel,
        "autostart": template.autostart,
        "restart": template.restart,
        "depends_on": list(template.depends_on),
        "environment_file": template.environment_file,
        "activity": template.activity,
        "activity_exclude": list(template.activity_exclude),
        "running_is_activity": template.running_is_activity,
    }
