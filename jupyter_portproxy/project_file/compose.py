"""`compose.yaml`: the ports that services publish, and the labels `portproxy.*`. Nothing is run in containers.

A service that runs in a container of Compose is reached at the published port of this machine. The labels are those of a service
(`portproxy.label`) or of one published port of it (`portproxy.8080.label`).
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import print_value
from .compose_files import ENVIRONMENT_FILE, ComposeFiles, ComposeService, Item
from .document import UnreadableFile, quote, suggest
from .entries import Entries, WrongEntry, clean_label
from .folder_files import FolderFiles
from .interpolation import InvalidVariable

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")  # the first that exists is read
OVERRIDES = ("compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml")
_PREFIX = "portproxy."
LABELS = {"label": "label", "on-appear": "on_appear", "scheme": "scheme", "protocol": "scheme", "keep-host": "keep_host"}
_SCHEMES = {"http": "http", "https": "https", "tcp": "tcp"}  # of `app_protocol`, which may have other values
_PORTS = re.compile(r"[0-9]{1,5}(?:-[0-9]{1,5})?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One entry of `ports`. `published` is empty if Compose chooses the port."""

    target: str
    published: str = ""
    address: str = ""
    protocol: str = "tcp"
    scheme: str | None = None
    name: str = ""


def find_files(files: FolderFiles, entries: Entries, variables: Mapping[str, str]) -> list[str]:
    """The files that `docker compose` reads in this folder."""
    if "COMPOSE_FILE" in variables:
        names = variables["COMPOSE_FILE"].split(variables.get("COMPOSE_PATH_SEPARATOR") or ":")
        try:
            return [files.locate(name) for name in names]
        except UnreadableFile as error:
            entries.add_problem(None, "COMPOSE_FILE", error.message, error.hint, ENVIRONMENT_FILE)
            return []
    found = [name for name in NAMES if files.exists(name)]
    for name in found[1:]:
        entries.add_note(None, f"{name} is left out: Compose reads {found[0]}.", name)
    return found[:1] + [name for name in OVERRIDES if found and files.exists(name)][:1]


def read(files: FolderFiles, entries: Entries) -> list[str]:
    """Add what the files of the folder say, and return the names of those that were read."""
    has_default = any(list(map(files.exists, NAMES)))
    # Without one, `.env` may name other files; what is wrong with it is of no interest then.
    compose_files = ComposeFiles(files, entries)
    variables = (compose_files if has_default else ComposeFiles(files, Entries(""))).read_environment(ENVIRONMENT_FILE)
    names = find_files(files, entries, variables)
    if names:
        _add_services(compose_files.load(names, posixpath.dirname(names[0]), variables), variables, (), entries)
        compose_files.add_notes()
    return compose_files.names


def read_files(names: list[str], services: tuple[str, ...], files: FolderFiles, entries: Entries) -> list[str]:
    """The same for given files.

    Args:
        names: relative to the folder; later ones over earlier ones.
        services: that are started, with what they depend on; empty for all.
    """
    compose_files = ComposeFiles(files, entries)
    base = posixpath.dirname(names[0])
    variables = compose_files.read_environment(posixpath.join(base, ENVIRONMENT_FILE))
    _add_services(compose_files.load(names, base, variables), variables, services, entries)
    compose_files.add_notes()
    return compose_files.names


def _add_services(
    services: Mapping[str, ComposeService], variables: Mapping[str, str], targets: tuple[str, ...], entries: Entries
) -> None:
    profiles = {profile.strip() for profile in variables.get("COMPOSE_PROFILES", "").split(",")} - {""}
    started = _with_dependencies(targets, services) if targets else set(services)
    for service in services.values():
        if entries.is_full:
            return
        is_enabled = not service.profiles or service.name in targets or profiles & {*service.profiles, "*"}
        if service.name in started and is_enabled:
            _add_service(service, entries)
        elif service.ports and service.name in started:
            names = ", ".join(f"'{profile[:80]}'" for profile in service.profiles)
            message = (
                f"The service '{service.name[:80]}' is left out: it is of {names}, a profile that is not started by default."
            )
            entries.add_note(service.line, message, service.file)
        elif service.ports:
            entries.add_note(
                service.line, f"The service '{service.name[:80]}' is left out: 'runServices' is without it.", service.file
            )


def _with_dependencies(targets: tuple[str, ...], services: Mapping[str, ComposeService]) -> set[str]:
    found: set[str] = set()
    waiting = list(targets)
    while waiting:
        name = waiting.pop()
        if name in services and name not in found:
            found.add(name)
            waiting += services[name].depends_on
    return found


def _add_service(service: ComposeService, entries: Entries) -> None:
    name = service.name[:80]
    if service.network_mode == "host":
        if service.ports:
            message = f"The ports of '{name}' are left out: with 'network_mode: host' a service publishes none."
            entries.add_note(service.ports[0].line, message, service.ports[0].file)
        return
    if service.exposes:
        entries.add_note(service.line, f"'expose' of '{name}' is left out: those ports are for other containers.", service.file)
    labels = _read_labels(service, entries)
    ports: dict[tuple[str, ...], tuple[PublishedPort, Item]] = {}  # a later file may have the same port with other attributes
    for item in service.ports:
        try:
            port = _read_port(item)
            ports[port.address, port.published, port.target, port.protocol] = port, item
        except (WrongEntry, InvalidVariable) as error:
            entries.add_problem(item.line, f"services.{name}.ports", str(error), getattr(error, "hint", "Correct it."), item.file)
    published = [(port, item) for port, item in ports.values() if _is_reached(port, item, name, entries)]
    of_all, whole = labels.pop("", {}), {port.published for port, _ in published}
    for port, item in published:
        default = name if len(published) == 1 else f"{name} ({port.target})"
        values: dict[str, object] = {"label": port.name or default, "scheme": port.scheme, **of_all}
        values |= labels.get(port.published, {})
        within = sorted(each for each in labels.keys() - whole if _is_within(each, port.published))
        for match in [port.published, *within]:  # the narrowest rule for a port counts
            own = {**values, **labels.get(match, {}), "ports": match}
            entries.add_port(item.line, f"services.{name}.ports", {**own, "label": clean_label(own["label"])}, item.file)
    for match in sorted(labels):
        if not any(_is_within(match, port.published) for port, _ in published):
            message = f"A label is for the port {match[:80]}, which '{name}' does not publish."
            entries.add_problem(service.line, f"services.{name}.labels", message, "Correct it.", service.file)


def _is_within(ports: str, others: str) -> bool:
    """True if both are ports or ranges, and the second has all of the first."""
    if not _PORTS.match(ports) or not _PORTS.match(others):
        return ports == others
    (first, _, last), (start, _, end) = ports.partition("-"), others.partition("-")
    return int(start) <= int(first) <= int(last or first) <= int(end or start)


def _is_reached(port: PublishedPort, item: Item, name: str, entries: Entries) -> bool:
    """False, after a note, if the port cannot be reached at a known port of this machine."""
    if port.protocol != "tcp":
        reason = f"{port.protocol.upper()[:10]} is not proxied"
    elif not port.published or port.published == "0":
        reason = "Compose chooses the port of this machine when it starts the service"
    elif not _is_local(port.address):
        reason = f"it is published at {port.address[:80]} alone, and not at this machine's loopback"
    else:
        return True
    entries.add_note(item.line, f"The port {quote(port.target)} of '{name}' is left out: {reason}.", item.file)
    return False


def _is_local(address: str) -> bool:
    if address in ("", "localhost"):
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_unspecified


# ---- entries of `ports` ----


def _read_port(item: Item) -> PublishedPort:
    """Raises: WrongEntry, InvalidVariable"""
    value = item.value
    if isinstance(value, bool) or not isinstance(value, (int, str, dict)):
        raise WrongEntry("", f"{quote(value)} is not a port.", 'Write "8080:80".')
    if isinstance(value, dict):
        port = _read_long(
            {key: item.interpolation.replace(text) if isinstance(text, str) else text for key, text in value.items()}
        )
    else:
        port = _read_short(item.interpolation.replace(str(value)))
    if not _PORTS.match(port.target) or (port.published and not _PORTS.match(port.published)):
        raise WrongEntry("", f"{quote(value)} is not a port.", 'Write "8080:80".')
    if "-" in port.target and port.published and _count(port.target) != _count(port.published):
        raise WrongEntry(
            "", f"The two ranges of {quote(value)} have different lengths.", 'Write for example "8000-8010:3000-3010".'
        )
    return port


def _read_short(text: str) -> PublishedPort:
    """`[[ADDRESS:][PUBLISHED]:]TARGET[/PROTOCOL]`"""
    rest, _, protocol = text.partition("/")
    rest, _, target = rest.rpartition(":")
    address, _, published = rest.rpartition(":")
    return PublishedPort(target.strip(), published.strip(), address.strip("[] "), protocol.lower() or "tcp")


def _read_long(value: dict[str, Any]) -> PublishedPort:
    texts = {key: "" if text is None else print_value(text).strip() for key, text in value.items()}
    scheme = _SCHEMES.get(texts.get("app_protocol", "").lower())
    protocol = texts.get("protocol", "").lower() or "tcp"
    address = texts.get("host_ip", "").strip("[]")
    return PublishedPort(texts.get("target", ""), texts.get("published", ""), address, protocol, scheme, texts.get("name", ""))


def _count(ports: str) -> int:
    first, _, last = ports.partition("-")
    return int(last or first) - int(first) + 1


# ---- labels ----


def _read_labels(service: ComposeService, entries: Entries) -> dict[str, dict[str, object]]:
    """The values of rules by labels: of a published port, and under the empty text of all ports of the service."""
    labels: dict[str, dict[str, object]] = {}
    for item in service.labels:
        try:
            for match, key, value in _read_label(item):
                labels.setdefault(match, {})[key] = value
        except (WrongEntry, InvalidVariable) as error:
            key = f"services.{service.name[:80]}.labels"
            entries.add_problem(item.line, key, str(error), getattr(error, "hint", "Correct it."), item.file)
    return labels


def _read_label(item: Item) -> Iterator[tuple[str, str, object]]:
    """Published port or empty text, key and value of a rule, if the label is one of `portproxy.*`.

    Raises:
        WrongEntry, InvalidVariable
    """
    if isinstance(item.value, str):
        label, _, text = item.interpolation.replace(item.value).partition("=")
    elif isinstance(item.value, tuple) and isinstance(item.value[1], (str, int, float)):
        label, given = item.value
        text = item.interpolation.replace(given) if isinstance(given, str) else str(given).lower()
    else:
        return
    if not label.startswith(_PREFIX):
        return
    match, _, key = label.removeprefix(_PREFIX).rpartition(".")
    key = key.replace("_", "-")
    if key not in LABELS:
        raise WrongEntry("", f"There is no label '{label[:80]}'.", suggest(label, [_PREFIX + known for known in LABELS]))
    value: object = text
    if key == "keep-host":
        if text not in ("true", "false"):
            raise WrongEntry("", f"'{label[:80]}' is {quote(text)}.", "Write true or false.")
        value = text == "true"
    elif key == "on-appear":
        value = text.replace("-", "_")
    yield match, LABELS[key], value
