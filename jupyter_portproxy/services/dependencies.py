"""Which services a service needs: `depends_on` of templates, resolved. Unknown names and cycles are refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .templates import Template


def link(templates: Mapping[str, Template], others: Mapping[str, Template]) -> tuple[dict[str, Template], dict[str, str]]:
    """Resolve `depends_on` of templates.

    Args:
        templates: by name. A name in `depends_on` is one of these, or else one of the others.
        others: templates that are linked already.

    Returns:
        the templates with their `dependencies`; and by name why the rest is left out, as a part of a sentence.
    """
    linked: dict[str, Template] = {}
    problems: dict[str, str] = {}
    for name in templates:
        _link(name, templates, others, linked, problems)
    return {name: linked[name] for name in templates if name in linked}, problems


def _link(
    name: str,
    templates: Mapping[str, Template],
    others: Mapping[str, Template],
    linked: dict[str, Template],
    problems: dict[str, str],
) -> None:
    """Link a template after those that it depends on, without recursion: a chain may be as long as there are templates."""
    path = [name]
    while path:
        template = templates[path[-1]]
        if template.name in linked or template.name in problems:
            path.pop()
            continue
        needs = [need for need in template.depends_on if need in templates]
        cycle = next((need for need in needs if need in path), None)
        if cycle is not None:
            names = path[path.index(cycle) :]
            for each in names:
                problems[each] = f"'depends_on' is a cycle: {_print_cycle(names, each)}"
            continue
        open_need = next((need for need in needs if need not in linked and need not in problems), None)
        if open_need is not None:
            path.append(open_need)
            continue
        found = {need: linked[need] if need in linked else others.get(need) for need in template.depends_on}
        problem = next(_find_problems(template, found, problems), None)
        if problem is None:
            linked[template.name] = replace(template, dependencies=tuple(each for each in found.values() if each is not None))
        else:
            problems[template.name] = problem


def _print_cycle(names: list[str], first: str) -> str:
    start = names.index(first)
    return " -> ".join([*names[start:], *names[:start], first])


def _find_problems(template: Template, found: Mapping[str, Template | None], problems: Mapping[str, str]) -> Iterator[str]:
    for need, dependency in found.items():
        if need in problems:
            yield f"'depends_on' has '{need}', which cannot be used"
        elif dependency is None:
            yield f"'depends_on' has '{need}', which does not exist"
        elif dependency.external:
            yield f"'depends_on' has '{need}', which is not started by this server"
        elif dependency.protocol == "none" and any(template.uses(f"{need}.{part}") for part in ("port", "unix_socket", "prefix")):
            yield f"'{need}' has the protocol 'none': it has no port and no address that a placeholder could stand for"
        elif dependency.unix_socket and template.uses(f"{need}.port"):
            yield f"'{need}' listens on a Unix socket: write '{{{need}.unix_socket}}' instead of '{{{need}.port}}'"
        elif not dependency.unix_socket and template.uses(f"{need}.unix_socket"):
            yield f"'{need}' listens on a port: write '{{{need}.port}}' instead of '{{{need}.unix_socket}}'"


def in_order(templates: Mapping[str, Template], names: Iterable[str] | None = None) -> list[str]:
    """The names of linked templates, each after those that it depends on.

    Args:
        names: of these, and of what they depend on; None for all.
    """
    ordered: dict[str, None] = {}
    for name in templates if names is None else names:
        path = [name]
        while path:
            open_need = next((need for need in templates[path[-1]].depends_on if need in templates and need not in ordered), None)
            if open_need is None:
                ordered[path.pop()] = None
            else:
                path.append(open_need)
    return list(ordered)
