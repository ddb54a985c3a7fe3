"""`portproxy.toml`: services with the keys of templates, and rules for ports."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..services import environment_file
from ..services.dependencies import link
from ..services.port_rules import KEYS as PORT_RULE_KEYS
from ..services.port_rules import ON_APPEAR
from ..services.service_list import MAX_SERVICES
from ..services.template_keys import TemplateError
from ..services.templates import KEYS, Template, load
from .document import ParsedDocument, Path, UnreadableFile, print_path, quote, suggest
from .entries import MAX_PORTS, Entries, WrongEntry
from .folder_files import FolderFiles

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP_LEVEL = ("ports", "services", "version")
PORT_KEYS = ("port", "protocol", *(key for key in PORT_RULE_KEYS if key not in ("ports", "pinned")))
# A quote that need not be closed would make the time of a match exponential: a text of several lines can hold any line.
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\[^\n])*"|'[^'\n]*')"""
_HEADER = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY})*)[ \t]*\]")
_ASSIGNMENT = re.compile(rf"[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY})*)[ \t]*=")
_PART = re.compile(_KEY)
_TOKEN = re.compile(rf"(?P<comment>\#[^\n]*)|(?P<part>{_KEY}|[\"'][^\n]*)|(?P<dot>\.)|(?P<blank>[ \t]+)|(?P<other>.)", re.DOTALL)
MAX_REPEATED = 10  # tables that are removed, each for the price of parsing the text again
_MAX_PARSED = 320 << 10  # characters that are parsed again for them
_MAX_PARTS = 64  # of a key: the time that tomllib needs for one grows with their square
_HINTS = {  # by key, and whether it is missing
    ("command", True): 'Add it: command = ["program", "--port", "{port}"].',
    ("environment_file", False): "Write or correct that file, or leave the key out.",
    ("depends_on", False): "Write names of services of this file, or of templates of the server.",
}
_WHERE = re.compile(r" \(at line ([0-9]+), column [0-9]+\)\Z")


def parse(text: str) -> ParsedDocument:
    """Raises: UnreadableFile"""
    _check_keys(text)
    lines = text.split("\n")
    limit = min(MAX_REPEATED, _MAX_PARSED // (len(text) + 1))
    repeated: list[tuple[Path, int]] = []
    while True:
        try:
            value = tomllib.loads("\n".join(lines))
            _check_numbers(value)
            return ParsedDocument(value, dict(_locate(lines)), tuple(repeated))
        except tomllib.TOMLDecodeError as error:
            where = _WHERE.search(str(error))
            line = int(where[1]) if where else None
            path = _remove_repeated(lines, line) if line and len(repeated) < limit else ()
            if not path or line is None:
                reason = _WHERE.sub("", str(error))
                at = f" in line {line}" if line else ""
                raise UnreadableFile(f"It is not TOML: {reason}{at}.", "Correct it.", line) from None
            repeated.append((path, line))
        except RecursionError:
            raise UnreadableFile("Its lists and tables are nested too deep.", "Simplify it.") from None
        except (ValueError, OverflowError) as error:  # a number of thousands of digits, a date that does not exist
            raise UnreadableFile(f"It is not TOML: {str(error)[:100]}.", "Correct it.") from None


def _remove_repeated(lines: list[str], number: int) -> Path:
    """Empty the lines of a table that there was already, with the tables in it. Returns its path, or () if it is none."""
    path = _table_at(lines[number - 1])
    if not path or path not in map(_table_at, lines[: number - 1]):
        return ()
    for index in range(number - 1, len(lines)):
        header = _HEADER.match(lines[index])
        if index > number - 1 and header and tuple(_parts(header[2]))[: len(path)] != path:
            break
        lines[index] = ""
    return path


def _table_at(line: str) -> Path:
    """The path of the table that begins in this line; () for another line."""
    header = _HEADER.match(line)
    return tuple(_parts(header[2])) if header and header[1] == "[" else ()


def _check_keys(text: str) -> None:
    """Raises: UnreadableFile: a key has too many parts."""
    parts, before = 0, ""
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup or ""
        if kind == "blank":
            continue
        if kind == "dot" and before == "part":
            parts += 1
        elif kind != "part" or before != "dot":
            parts = 0
        if parts == _MAX_PARTS:
            line = text.count("\n", 0, token.start()) + 1
            raise UnreadableFile(f"A key in line {line} has more than {_MAX_PARTS} parts.", "Correct it.", line)
        before = kind


def _check_numbers(value: Any) -> None:
    """Raises: ValueError: an integer has more than TOML's 64 bits. Python refuses to print one of thousands of digits."""
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            _check_numbers(each)
    elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a number has more than 64 bits")


def _locate(lines: list[str]) -> Iterator[tuple[Path, int]]:
    """The lines of tables and keys. What looks like one within a text of several lines may be taken for it."""
    counts: dict[Path, int] = {}  # of arrays of tables
    table: Path = ()
    seen: set[Path] = set()
    for number, line in enumerate(lines, 1):
        if match := _HEADER.match(line):
            table = tuple(_parts(match[2]))
            if match[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            path = table
        elif match := _ASSIGNMENT.match(line):
            path = (*table, *_parts(match[1]))
        else:
            continue
        for end in range(1, len(path) + 1):
            if path[:end] not in seen:
                seen.add(path[:end])
                yield path[:end], number


def _parts(key: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(key)][:8]


def read(text: str, entries: Entries, files: FolderFiles, others: Mapping[str, Template]) -> None:
    """Add what the file says.

    Args:
        files: of the folder; the environment files of services are read.
        others: templates on which services may depend.

    Raises:
        UnreadableFile
    """
    document = parse(text)
    for path, number in document.repeated:
        name = print_path(path)
        entries.add_problem(number, name, f"'{name}' is there twice; the first one counts.", "Rename or remove one of them.")
    for key in document.value.keys() - {*TOP_LEVEL}:
        entries.add_problem(document.line(key), key, f"There is no key '{key[:80]}' at the top level.", suggest(key, TOP_LEVEL))
    version = document.value.get("version", 1)
    if version != 1 or isinstance(version, bool):
        hint = "Write version = 1, or leave it out."
        raise UnreadableFile(
            f"Its version is {quote(version)}, which this jupyter_portproxy does not know.", hint, document.line("version")
        )
    _read_services(document, entries, files)
    linked, left_out = link(entries.templates, others)
    for name, reason in left_out.items():
        line = document.line("services", name, "depends_on")
        hint = _HINTS["depends_on", False]
        entries.add_problem(line, f"services.{name}.depends_on", f"The service '{name}' is left out: {reason}.", hint)
    entries.templates = linked
    _read_ports(document, entries)


def _read_services(document: ParsedDocument, entries: Entries, files: FolderFiles) -> None:
    services = document.value.get("services", {})
    if not isinstance(services, dict):
        hint = 'Write a table for each: [services.NAME], then command = ["program", "{port}"].'
        return entries.add_problem(document.line("services"), "services", f"'services' is not a table: {quote(services)}.", hint)
    names: dict[str, str] = {}
    for number, (name, data) in enumerate(services.items()):
        key, line = f"services.{name[:80]}", document.line("services", name)
        if number == MAX_SERVICES:
            message = f"There are {len(services)} services; only the first {MAX_SERVICES} are read."
            return entries.add_problem(line, "services", message, "Remove some.")
        other = names.setdefault(name.casefold(), name)
        if other != name:
            message = f"The name '{name[:80]}' differs from '{other[:80]}' only in upper and lower case."
            entries.add_problem(line, key, message, "Rename one of them.")
        elif (template := _read_service(name, data, document, entries, files)) is not None:
            entries.templates[name] = template


def _read_service(name: str, data: Any, document: ParsedDocument, entries: Entries, files: FolderFiles) -> Template | None:
    """The template, or None after problems were added."""
    prefix = f"services.{name[:80]}"
    unknown = [key for key in data if key not in KEYS] if isinstance(data, Mapping) else []
    for key in unknown:
        message = f"There is no key '{key[:80]}' for a service."
        entries.add_problem(document.line("services", name, key), f"{prefix}.{key[:80]}", message, suggest(key, KEYS))
    if unknown:
        return None
    try:
        template = load(name, data, files.folder)
        if template.environment_file:
            template = replace(template, file_variables=_read_environment_file(template, files))
    except TemplateError as error:
        line = document.line("services", name, *([error.key] if error.key else []))
        key = f"{prefix}.{error.key}" if error.key else prefix
        is_missing = isinstance(data, Mapping) and error.key not in data
        hint = _HINTS.get((error.key, is_missing), "Correct it.")
        entries.add_problem(line, key, f"The service '{name[:80]}' is left out: {error.reason.rstrip('.')}.", hint)
        return None
    return template


def _read_environment_file(template: Template, files: FolderFiles) -> dict[str, str]:
    """Its variables, of the very content that is in the digest. Raises: TemplateError: it cannot be used."""
    path = template.environment_file
    try:
        return environment_file.parse(files.read(files.locate(path)))
    except (UnreadableFile, TemplateError) as error:
        text = str(error).rstrip(".")
        reason = f"'environment_file' is '{path[:80]}': {text[0].lower()}{text[1:]}"
        raise TemplateError(reason, "environment_file") from None


def _read_ports(document: ParsedDocument, entries: Entries) -> None:
    ports = document.value.get("ports", [])
    if not isinstance(ports, list) or not all(isinstance(item, dict) for item in ports):
        hint = "Write [[ports]] for each, then port = 3000."
        return entries.add_problem(document.line("ports"), "ports", "'ports' is not a list of tables.", hint)
    if len(ports) > MAX_PORTS:
        message = f"There are {len(ports)} ports; only the first {MAX_PORTS} are read."
        entries.add_problem(document.line("ports", MAX_PORTS), f"ports[{MAX_PORTS}]", message, "Write ranges, or remove some.")
    known: dict[str, int | None] = {}
    for index, item in enumerate(ports[:MAX_PORTS]):
        key, line = f"ports[{index}]", document.line("ports", index)
        values = _read_port(item, index, document, entries)
        if values is None:
            continue
        before = len(entries.ports)
        entries.add_port(line, key, values)
        for rule in entries.ports[before:]:
            match = rule.ports or rule.process or ""
            if rule.id in known:
                entries.ports.pop()
                where = f" in line {known[rule.id]}" if known[rule.id] else ""
                entries.add_problem(line, key, f"There is another entry for '{match}'{where}.", "Make one of them.")
            known.setdefault(rule.id, line)


def _read_port(item: dict[str, Any], index: int, document: ParsedDocument, entries: Entries) -> dict[str, object] | None:
    """The values of a rule, or None after problems were added."""
    key = f"ports[{index}]"
    unknown = [name for name in item if name not in PORT_KEYS]
    for name in unknown:
        message = f"There is no key '{name[:80]}' for a port."
        entries.add_problem(document.line("ports", index, name), f"{key}.{name[:80]}", message, suggest(name, PORT_KEYS))
    if unknown:
        return None
    try:
        return _port_values(item)
    except WrongEntry as error:
        entries.add_problem(document.line("ports", index, error.key), f"{key}.{error.key}", error.message, error.hint)
        return None


def _port_values(item: dict[str, Any]) -> dict[str, object]:
    """Raises: WrongEntry"""
    port, process = item.get("port"), item.get("process")
    if (port is None) == (process is None):
        raise WrongEntry("port", "A port has either 'port' or 'process'.", "Write one of them.")
    if port is not None and (isinstance(port, bool) or not isinstance(port, (int, str))):
        raise WrongEntry("port", f"'port' is {quote(port)}.", 'Write a port or a range, such as 8501 or "8000-8999".')
    scheme, protocol = item.get("scheme"), item.get("protocol")
    if scheme is not None and protocol is not None and scheme != protocol:
        raise WrongEntry("protocol", f"'scheme' is {quote(scheme)}, and 'protocol' is {quote(protocol)}.", "Write one of them.")
    values: dict[str, object] = {key: value for key, value in item.items() if key in PORT_RULE_KEYS}
    on_appear = values.get("on_appear")
    if isinstance(on_appear, str):
        values["on_appear"] = on_appear = on_appear.replace("-", "_")
    if on_appear is not None and on_appear not in ON_APPEAR:
        choices = ", ".join(word.replace("_", "-") for word in ON_APPEAR)
        raise WrongEntry("on_appear", f"'on_appear' is {quote(item['on_appear'])}.", f"Write one of {choices}.")
    return {**values, "ports": None if port is None else str(port), "scheme": protocol if scheme is None else scheme}
