"""The migration check (`jupyter portproxy check --migrate`): what becomes of a configuration of jupyter-server-proxy.

Reads configuration files and entry points, and changes nothing. Options that the traits of `config` know work as before; the rest
is a finding with its remedy. docs/jupyter-server-proxy.md describes each option.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

from jupyter_core.paths import jupyter_config_path, jupyter_path
from traitlets import TraitError
from traitlets.config.loader import Config, JSONFileConfigLoader, PyFileConfigLoader

from ..services.template_keys import TemplateError
from .config import (
    ENTRY_POINT_GROUP,
    INCUMBENT,
    LAUNCHER_ENTRY_KEYS,
    SERVER_KEYS,
    TRAITS,
    ServerProxy,
    explain_failure,
    read_server,
    split_hosts,
)

_SERVER_FILES = ("jupyter_config", "jupyter_server_config")
_LAB_EXTENSION = "@jupyterhub/jupyter-server-proxy"
Verdict = Literal["works", "replaced", "ignored", "decide"]


@dataclass(frozen=True, slots=True)
class CheckedOption:
    """What becomes of one option. `where` is a file or a package, `write` the line that settles it."""

    option: str
    verdict: Verdict
    says: str = "The same."
    where: str = ""
    write: str = ""


@dataclass(frozen=True)
class ServerConfiguration:
    """What a Jupyter server reads: its files with the configuration of each, later ones over earlier ones, and its extensions.

    Attributes:
        unreadable: a finding for each file that cannot be read.
        has_lab_extension: jupyter-server-proxy's extension for JupyterLab is installed and enabled.
    """

    files: tuple[tuple[str, Config], ...]
    unreadable: tuple[CheckedOption, ...]
    extensions: frozenset[str] = frozenset()
    has_lab_extension: bool = False

    @cached_property
    def merged(self) -> Config:
        merged = Config()
        for _, config in self.files:
            merged.merge(config)
        return merged

    def file_of(self, option: str) -> str:
        """The last file that sets this option of c.ServerProxy."""
        return next((name for name, config in reversed(self.files) if option in config.get("ServerProxy", {})), "")


def read_configuration(file: Path | None = None) -> ServerConfiguration:
    """The configuration of the user's server, or that of one file."""
    unreadable: list[CheckedOption] = []
    if file is not None:
        return ServerConfiguration(tuple(_load([file], unreadable)), tuple(unreadable))
    files = _load(_files(_SERVER_FILES), unreadable)
    extensions = _enabled_extensions(files)
    below = _load(_files(_extension_files(extensions)), unreadable)
    return ServerConfiguration((*below, *files), tuple(unreadable), extensions, _has_lab_extension())


def check(configuration: ServerConfiguration) -> list[CheckedOption]:
    """What becomes of each option of this configuration and of the installed packages."""
    return [
        *configuration.unreadable,
        *_check_traits(configuration),
        *_check_entry_points(),
        *_check_extensions(configuration),
        *_check_ports(configuration),
    ]


def _check_traits(configuration: ServerConfiguration) -> Iterator[CheckedOption]:
    section = configuration.merged.get("ServerProxy", {})
    for name in section:
        option, where = f"c.ServerProxy.{name}", configuration.file_of(name)
        if name not in TRAITS:
            yield _unknown(option, name, TRAITS, where)
            continue
        try:
            settings = ServerProxy(config=Config({"ServerProxy": {name: section[name]}}))
        except TraitError as error:
            yield CheckedOption(option, "ignored", f"Its value cannot be used: {error}", where)
            continue
        if name == "servers":
            for server, data in settings.servers.items():
                yield from _check_server(f"{option}[{server!r}]", str(server), data, where)
        elif name in ("host_allowlist", "host_whitelist"):
            yield from _check_hosts(name, getattr(settings, name), where)
        else:
            yield CheckedOption(option, "works", where=where)


def _check_hosts(name: str, hosts: Any, where: str) -> Iterator[CheckedOption]:
    option = f"c.ServerProxy.{name}"
    good, bad = ([], []) if callable(hosts) else split_hosts(hosts)
    if name == "host_allowlist":
        yield CheckedOption(option, "works", where=where)
    else:
        write = "c.ServerProxy.host_allowlist = ..."
        if not callable(hosts):
            write = f"c.PortProxy.allowed_hosts = {json.dumps([host for host in good if host not in ('localhost', '127.0.0.1')])}"
        says = "The old name of `host_allowlist`; it still works. Write `host_allowlist`."
        yield CheckedOption(option, "replaced", says, where, write)
    for host in bad:
        yield CheckedOption(f"{option}: {host!r}", "ignored", "This is neither a name nor an address of a host.", where)


def _check_server(option: str, name: str, data: object, where: str) -> Iterator[CheckedOption]:
    try:
        read_server(name, data, "/", [])
    except (TemplateError, TraitError, ValueError, TypeError) as error:
        yield CheckedOption(option, "ignored", f"It is left out: {str(error).rstrip('.')}.", where, "Correct it, or take it out.")
        return
    if isinstance(data, Mapping):
        yield from _check_server_keys(option, data, where)
    else:
        says = "An object of jupyter-server-proxy's own class: that package must stay installed."
        yield CheckedOption(option, "works", says, where)


def _check_server_keys(option: str, data: Mapping[str, object], where: str) -> Iterator[CheckedOption]:
    yield from _check_keys(option, data, SERVER_KEYS, where)
    entry = data.get("launcher_entry")
    yield from _check_keys(f"{option}['launcher_entry']", entry if isinstance(entry, Mapping) else {}, LAUNCHER_ENTRY_KEYS, where)


def _check_keys(option: str, data: Mapping[str, object], known: frozenset[str], where: str) -> Iterator[CheckedOption]:
    for key in data:
        full = f"{option}[{key!r}]"
        yield CheckedOption(full, "works", where=where) if key in known else _unknown(full, key, known, where)


def _unknown(option: str, name: str, known: frozenset[str], where: str) -> CheckedOption:
    """The finding for an option of neither extension, most often a typing error."""
    near = get_close_matches(name, known, 1)
    write = f"Write '{near[0]}' instead." if near else "Take it out."
    return CheckedOption(option, "ignored", f"There is no such option; there are {', '.join(sorted(known))}.", where, write)


def _check_entry_points() -> Iterator[CheckedOption]:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        option, where = f"entry point {entry.name}", entry.value
        try:
            data = entry.load()()
            read_server(entry.name, data, "/", [])
        except (Exception, SystemExit) as error:  # another package's code may raise anything
            says, write = explain_failure(error)
            yield CheckedOption(option, "ignored", f"It is left out: {says}", where, write)
        else:
            yield CheckedOption(option, "works", where=where)
            keys = _check_server_keys(option, data, where) if isinstance(data, Mapping) else ()
            yield from (finding for finding in keys if finding.verdict != "works")


def _check_extensions(configuration: ServerConfiguration) -> Iterator[CheckedOption]:
    if INCUMBENT in configuration.extensions:
        says = "jupyter-server-proxy is enabled too, and keeps its names and `server-proxy/` for itself."
        write = f"jupyter server extension disable {INCUMBENT}"
        yield CheckedOption(f"the extension {INCUMBENT}", "replaced", says, write=write)
    if configuration.has_lab_extension:
        says = "The part of jupyter-server-proxy in JupyterLab makes its own tiles: each server would show twice."
        yield CheckedOption(_LAB_EXTENSION, "replaced", says, write=f"jupyter labextension disable {_LAB_EXTENSION}")


def _check_ports(configuration: ServerConfiguration) -> Iterator[CheckedOption]:
    if "allowed_ports" not in configuration.merged.get("PortProxy", {}):
        says = "jupyter-server-proxy reaches every port. Here c.PortProxy.allowed_ports says which; by default 10000 to 20000."
        write = 'c.PortProxy.allowed_ports = ["1-65535"]   # every port as before, or the ones that you need'
        yield CheckedOption("proxy/N/", "decide", says, write=write)


# ---- what a server reads ----


def _load(paths: Iterable[Path], unreadable: list[CheckedOption]) -> list[tuple[str, Config]]:
    files: list[tuple[str, Config]] = []
    for path in paths:
        loader = JSONFileConfigLoader if path.suffix == ".json" else PyFileConfigLoader
        try:
            files.append((str(path), loader(path.name, path=str(path.parent)).load_config()))
        except (Exception, SystemExit) as error:  # a configuration file may raise anything
            says = f"The file cannot be read: {type(error).__name__}: {error}."
            unreadable.append(CheckedOption(str(path), "decide", says, str(path), "Correct it, or remove what it imports."))
    return files


def _files(names: Iterable[str]) -> Iterator[Path]:
    """As a Jupyter server does: lower folders of the path first, and JSON after Python in each."""
    for name in names:
        for folder in reversed(jupyter_config_path()):
            yield from (path for kind in (".py", ".json") if (path := Path(folder, name + kind)).is_file())


def _extension_files(extensions: Iterable[str]) -> list[str]:
    """The names of the extensions' files (`jupyter_lab_config`), lowest first.

    The server links its extensions in alphabetical order. The file of each goes below all that the server has by then.
    """
    from jupyter_server.extension.manager import ExtensionPackage

    names: list[str] = []
    for extension in sorted(extensions):
        with contextlib.suppress(Exception):  # the server leaves out what it cannot import, too
            package: Any = ExtensionPackage
            points = package(name=extension, enabled=True).extension_points.values()
            names += [str(point.app.config_file_name) for point in points if point.app]
    return [name for name in reversed(dict.fromkeys(names)) if name not in _SERVER_FILES]


def _enabled_extensions(files: list[tuple[str, Config]]) -> frozenset[str]:
    from jupyter_server.extension.config import ExtensionConfigManager  # takes a second, which only this command spends

    manager: Any = ExtensionConfigManager(read_config_path=jupyter_config_path())
    states: dict[str, Any] = dict(manager.get_jpserver_extensions())
    for _, config in files:
        states.update(config.get("ServerApp", {}).get("jpserver_extensions", {}))
    return frozenset(name for name, on in states.items() if on)


def _has_lab_extension() -> bool:
    if not any(Path(folder, "labextensions", _LAB_EXTENSION).is_dir() for folder in jupyter_path()):
        return False
    disabled: dict[str, Any] = {}
    for folder in reversed(jupyter_config_path()):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            page = json.loads(Path(folder, "labconfig", "page_config.json").read_text("utf-8"))
            stated = page.get("disabledExtensions", {})
            disabled.update(dict.fromkeys(stated, True) if isinstance(stated, list) else stated)
    return not disabled.get(_LAB_EXTENSION)
