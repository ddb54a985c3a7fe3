"""Generates parts of the documentation: settings, the REST API, commands of shipped templates, rules of the page doctor.

Run it as `python docs/reference.py`. A page has a part between `<!-- begin: NAME -->` and `<!-- end: NAME -->`. The tests fail if
one is out of date.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Any

import traitlets
import yaml

from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.diagnose.frameworks import FRAMEWORKS
from jupyter_portproxy.diagnose.rules import RULES
from jupyter_portproxy.protocol import urls
from jupyter_portproxy.services import templates

DOCS = Path(__file__).parent
_KINDS = {
    traitlets.Bool: "true or false",
    traitlets.Dict: "mapping",
    traitlets.Float: "number",
    traitlets.Integer: "whole number",
    traitlets.List: "list",
    traitlets.Unicode: "text",
}


def render(page: str, text: str) -> str:
    """The text of a page with its generated parts replaced.

    Raises:
        SystemExit: the page lacks a part.
    """
    for name, part in PARTS.get(page, {}).items():
        begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        if not found:
            raise SystemExit(f"{page} has no part {name}")
        text = "".join([before, begin, "\n", *(f"{line}\n" for line in part()), end, after])
    return text


# ---- settings ----


def setting_names() -> list[str]:
    """The settings, in the order of the source."""
    traits = PortProxy.class_own_traits(config=True)
    return [name for name in vars(PortProxy) if name in traits]


def settings() -> Iterator[str]:
    """A heading, the help, the type and an example for each trait of PortProxy."""
    for name in setting_names():
        trait = PortProxy.class_traits()[name]
        text, _, example = " ".join(cleandoc(trait.help).split()).partition("Example: ")
        yield from ("", f"### `{name}`", "", text.strip(), "")
        kind = _kind(trait)
        yield f"{kind[:1].upper()}{kind[1:]}; `{_default(trait)}` by default."
        if example:
            yield from ("", "```python", example.strip().rstrip(".").strip("`"), "```")
    yield ""


def _kind(trait: Any) -> str:
    if isinstance(trait, traitlets.Enum):
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in trait.values)
    if isinstance(trait, traitlets.Union):
        return ", or ".join(map(_kind, trait.trait_types))
    return next(word for cls, word in _KINDS.items() if isinstance(trait, cls))


def _default(trait: Any) -> str:
    value = trait.default()
    return repr(value) if isinstance(value, bool) else json.dumps(value)


# ---- the REST API ----


def calls() -> Iterator[str]:
    document = yaml.safe_load((DOCS / "openapi.yaml").read_text("utf-8"))
    for path, item in document["paths"].items():
        for verb in ("get", "post", "put", "patch", "delete"):
            if verb in item:
                yield from _call(path, verb.upper(), item[verb], document["components"])
    yield ""


def _call(path: str, verb: str, call: Mapping[str, Any], components: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"### {verb} {path.strip('/')}", "", f"{call['summary']}.", "")
    for parameter in call.get("parameters", ()):
        yield f"- `?{parameter['name']}=`: {_sentence(parameter['description'])}"
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body is not None:
        for name, schema in body["properties"].items():
            suffix = "" if name in body.get("required", ()) else ", optional"
            yield f"- `{name}` in the content, {_type(schema)}{suffix}."
    for status, answer in call["responses"].items():
        if "$ref" not in answer:
            yield f"- {status}: {_sentence(answer['description'])}{_content(answer)}"
    refused = [status for status, answer in call["responses"].items() if "$ref" in answer]
    yield f"- {', '.join(refused)}: an [Error](#error)."


def _content(answer: Mapping[str, Any]) -> str:
    kinds = answer.get("content", {})
    if not kinds:
        return ""
    kind, content = next(iter(kinds.items()))
    return f" Content: {_type(content['schema']) if kind == 'application/json' else f'`{kind}`'}."


def objects() -> Iterator[str]:
    for name, schema in yaml.safe_load((DOCS / "openapi.yaml").read_text("utf-8"))["components"]["schemas"].items():
        yield from ("", f"### {name}", "", "| Key | Type | |", "|---|---|---|")
        for key, value in schema["properties"].items():
            yield f"| `{key}` | {_type(value)} | {_sentence(value.get('description', ''))} |"
    yield ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    if "oneOf" in schema:
        return " or ".join(map(_type, schema["oneOf"]))
    kind: Any = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(_type({**schema, "type": one}) for one in kind)
    if kind == "array":
        return f"list of {_type(schema['items'])}"
    return {"integer": "whole number", "string": "text", "object": "mapping", "boolean": "true or false"}.get(kind, str(kind))


def _sentence(text: str) -> str:
    text = text.strip().replace("|", "\\|")
    return f"{text}." if text and text[-1] not in ".:!?" else text


# ---- shipped templates ----

FIRST_PORT = 15001  # of the examples; each has a different port


def program(name: str) -> Iterator[str]:
    """How to install a program, start it from its template, and start it by hand."""
    template = templates.shipped()[name]
    hint = template.get("requires", {}).get("hint", "")
    arguments = template.get("arguments", ())
    install = [hint] if hint.startswith("pip install ") else []
    if hint and not install:
        yield from ("", f"{hint}." if hint.startswith("Install") else f"Install it with `{hint}`.")
    start = " ".join(["jupyter portproxy start", name, *(f"{one['name']}={one['default']}" for one in arguments)])
    yield from ("", "```sh", *install, start, "```", "")
    labels = ", ".join(f"*{one['label']}*" for one in arguments)
    yield f"Or the tile **{template['title']}**. Its form has: {labels}."
    if not template.get("unix_socket"):
        yield from ("", "By hand:", "", "```sh", *_by_hand(name, template), "```")
    yield ""


def _by_hand(name: str, template: Mapping[str, Any]) -> Iterator[str]:
    port = FIRST_PORT + list(templates.shipped()).index(name)
    values = {one["name"]: one["default"] for one in template.get("arguments", ())}
    values |= {"port": port, "prefix": "$PREFIX"}
    command = [shlex.quote(word).replace("'", "") for word in template["command"]]
    variables = [f"{key}={value}" for key, value in template.get("environment", {}).items()]
    line = " ".join([*variables, *command]).format_map(values)
    if "$PREFIX" in line:
        form = "absolute/port" if template.get("keep_prefix") else "port"
        yield f"PREFIX=${{JUPYTERHUB_SERVICE_PREFIX:-/}}proxy/{form}/{port}"
    if "cwd" in template:
        yield f"cd {template['cwd'].format_map(values)}"
    yield line


# ---- rules of the page doctor ----

_VALUES = {
    "{absolute_prefix}": "/proxy/absolute/port/N",
    "{prefix}": "/proxy/port/N",
    "{port}": "N",
    "{isolated_url}": "`proxy/enter/N/`",
    "{jupyter_origin}": "ORIGIN",
    "{jupyter_authority}": "HOST:PORT",
    "{jupyter_host}": "HOST",
}


def rules() -> Iterator[str]:
    """A row for each rule; those with a framework's remedy link to the table of frameworks."""
    yield from ("", "| Finding | What it means | What cures it |", "|---|---|---|")
    for rule in RULES:
        of_framework = "[An option of the framework](#frameworks).<br>" if rule.topic else ""
        yield f"| `{rule.id}` | {rule.severity}: [{rule.title}](#{rule.anchor}) | {of_framework}{_remedies(rule.remedies)} |"
    yield ""


def frameworks() -> Iterator[str]:
    """A row for each framework, with its remedies by topic."""
    yield from ("", "| Framework | What cures it |", "|---|---|")
    for framework in FRAMEWORKS:
        texts = [f"*{topic}*: {_remedies(remedies)}" for topic, remedies in framework.remedies.items()]
        yield f"| [{framework.name}]({framework.docs}) | {' '.join(texts)} |"
    yield ""


def _remedies(remedies: Iterable[str]) -> str:
    text = "<br>".join(remedies).replace("|", "\\|")
    for name, value in _VALUES.items():
        text = text.replace(name, value)
    return text


PARTS: Mapping[str, Mapping[str, Any]] = {
    "troubleshooting.md": {"rules": rules, "frameworks": frameworks},
    "configuration.md": {"settings": settings},
    "jupyter-server-proxy.md": {
        "names": lambda: [", ".join(f"`{name}`" for name in sorted(urls.RESERVED_NAMES)) + "."],
    },
    "api.md": {"calls": calls, "objects": objects},
    "how-to.md": {name: partial(program, name) for name in templates.shipped()},
}


def main(pages: Iterable[str] = PARTS) -> int:
    for page in pages:
        path = DOCS / page
        path.write_text(render(page, path.read_text("utf-8")), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
