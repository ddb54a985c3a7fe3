"""`jupyter portproxy check --migrate`: what becomes of a configuration that was written for jupyter-server-proxy.

Rule of this file: it reads and tells, and changes nothing. What becomes of an option stands in OPTIONS, from which the
documentation's table is made too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from jupyter_core.paths import jupyter_config_path, jupyter_path
from traitlets import TraitError
from traitlets.config.loader import Config, JSONFileConfigLoader, PyFileConfigLoader

from ..errors import CliError
from ..services.templates import TemplateError
from . import config as serverproxy

WORKS, REPLACED, IGNORED, DECIDE = "works", "replaced", "ignored", "decide"
_SERVER_FILES = ("jupyter_config", "jupyter_server_config")
_LAB_PART = "@jupyterhub/jupyter-server-proxy"
_DISABLE = "jupyter server extension disable jupyter_server_proxy"
_PORTS = 'c.PortProxy.allowed_ports = ["1-65535"]'


@dataclass(frozen=True, slots=True)
class Option:
    """One option of jupyter-server-proxy 4.x. `kind` is where it is written, `says` what becomes of it, in Markdown."""

    kind: str
    name: str
    verdict: str
    says: str


OPTIONS = (
    Option("trait", "servers", WORKS, "The same; each server becomes a template, see below."),
    Option("trait", "host_allowlist", WORKS, "Added to `c.PortProxy.allowed_hosts`. A function of `(handler, host)` works too."),
    Option("trait", "host_whitelist", REPLACED, "The old name of `host_allowlist`; it still works. Write `host_allowlist`."),
    Option("trait", "non_service_rewrite_response", WORKS, "The same, for `proxy/N/` and all its forms."),
    Option("key", "name", WORKS, "The same: it comes before the name in the mapping."),
    Option(
        "key", "command", WORKS,
        "The same: a list, or a function that returns one; `{port}`, `{unix_socket}` and `{base_url}` are filled in. "
        "Without it, another program starts the server.",
    ),
    Option(
        "key", "environment", WORKS,
        "The same: a mapping, or a function. The rest is the Jupyter server's own environment, without Jupyter's tokens.",
    ),
    Option("key", "timeout", WORKS, "The same: seconds until the server must accept connections; 5."),
    Option("key", "absolute_url", WORKS, "The same: the server sees its prefix."),
    Option(
        "key", "port", WORKS,
        "The same: a fixed port, which is then allowed. If another program listens on it, the start fails, and the "
        "other program's page is never shown.",
    ),
    Option("key", "unix_socket", WORKS, "The same: `True`, or a path. A socket of another user is refused."),
    Option("key", "mappath", WORKS, "The same: a mapping, or a function of `path`. The path is not decoded."),
    Option("key", "launcher_entry", WORKS, "The same, see below."),
    Option("key", "new_browser_tab", WORKS, "The same."),
    Option(
        "key", "request_headers_override", WORKS, "The same, for WebSockets too. Framing fields cannot be set."
    ),
    Option(
        "key", "rewrite_response", WORKS,
        "The same: a function or a list of them, with `response`, `request`, `orig_response`, `host`, `port`, `path`. Answers "
        "above 100 MiB are refused. An event stream is not changed.",
    ),
    Option("key", "update_last_activity", WORKS, "The same: true, false, or a function of the handler."),
    Option("key", "exclude_last_activity_patterns", WORKS, "The same."),
    Option("key", "raw_socket_proxy", WORKS, "The same: messages of a WebSocket are bytes to the server."),
    Option("entry", "enabled", WORKS, "The same: false makes no tile."),
    Option("entry", "icon_path", WORKS, "The same: the file is served after a login only."),
    Option("entry", "title", WORKS, "The same."),
    Option("entry", "path_info", WORKS, "The same: it is relative to the server's base URL."),
    Option("entry", "category", WORKS, "The same."),
    Option("url", "proxy/N/x", WORKS, "The same, for the ports of `c.PortProxy.allowed_ports`."),
    Option("url", "proxy/absolute/N/x", WORKS, "The same."),
    Option("url", "proxy/HOST:N/x", WORKS, "The same, for hosts and ports that are allowed."),
    Option("url", "proxy/absolute/HOST:N/x", WORKS, "The same."),
    Option("url", "NAME/x", WORKS, "The same: opening it starts the server."),
    Option("url", "server-proxy/servers-info", WORKS, "The same."),
    Option("url", "server-proxy/icon/NAME", WORKS, "The same, after a login only."),
    Option("package", "jupyter_serverproxy_servers", WORKS, "Entry points of installed packages: the same."),
    Option(
        "package", "jupyter_server_proxy", REPLACED,
        "The extension itself: disable it, and leave it installed for the packages that depend on it. While it is enabled, it "
        "serves its names.",
    ),
    Option(
        "package", "@jupyterhub/jupyter-server-proxy", REPLACED,
        "Its JupyterLab part: disable it too, or each tile shows twice.",
    ),
    Option(
        "package", "jupyter standaloneproxy", IGNORED,
        "The command that runs one server without Jupyter is not part of this package. Keep jupyter-server-proxy for it.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one thing. `where` is a file or a package, `write` the line that settles it."""

    option: str
    verdict: str
    says: str
    where: str = ""
    write: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a Jupyter server would read: its files, later ones over earlier ones; and which extensions are enabled.

    Attributes:
        lab_part: the incumbent's part for JupyterLab is installed and enabled.
    """

    files: tuple[tuple[str, Config], ...]
    unreadable: tuple[tuple[str, str], ...]
    enabled: frozenset[str] = frozenset()
    lab_part: bool = False

    @property
    def config(self) -> Config:
        merged = Config()
        for _, config in self.files:
            merged.merge(config)
        return merged

    def where(self, option: str) -> str:
        """The last file that sets this option of c.ServerProxy."""
        return next((name for name, config in reversed(self.files) if option in config.get("ServerProxy", {})), "")


def read(file: str | None = None) -> Setup:
    """The user's configuration, or one file of it.

    Raises:
        CliError: there is no such file.
    """
    if file is not None and not Path(file).is_file():
        raise CliError(f"There is no file {file}.")
    unreadable: list[tuple[str, str]] = []
    if file is not None:
        return Setup(tuple(_load([Path(file)], unreadable)), tuple(unreadable))
    files = _load(_files(_SERVER_FILES), unreadable)
    enabled = _enabled(files)
    below = _load(_files(_extension_files(enabled)), unreadable)
    return Setup((*below, *files), tuple(unreadable), enabled, _has_lab_part())


def findings(setup: Setup) -> list[Finding]:
    """What becomes of everything that this configuration and the installed packages say."""
    found = [
        Finding(name, DECIDE, f"The file cannot be read: {why}.", name, "Correct it, or remove what it imports.")
        for name, why in setup.unreadable
    ]
    return [*found, *_of_traits(setup), *_of_entry_points(), *_of_extension(setup), *_of_ports(setup)]


def report(found: list[Finding], *, as_json: bool) -> int:
    """Print it; returns 1 if something needs attention."""
    open_ = [finding for finding in found if finding.verdict != WORKS]
    if as_json:
        print(json.dumps({"ready": not open_, "findings": [asdict(finding) for finding in found]}, indent=2))
        return 1 if open_ else 0
    for finding in found:
        print(f"{finding.verdict:<9} {finding.option}{f'  ({finding.where})' if finding.where else ''}")
        if finding.verdict != WORKS:
            print(f"          {finding.says}")
            print(f"          -> {finding.write}" if finding.write else "", end="\n" if finding.write else "")
    things = "1 thing needs" if len(open_) == 1 else f"{len(open_)} things need"
    print(f"\n{things} attention." if open_ else "\nEverything works as it is.")
    return 1 if open_ else 0


# ---- one function for each kind of thing ----


def _of_traits(setup: Setup) -> Iterator[Finding]:
    section = setup.config.get("ServerProxy", {})
    known = {option.name: option for option in OPTIONS if option.kind == "trait"}
    for name in section:
        full, where = f"c.ServerProxy.{name}", setup.where(name)
        if name not in known:
            yield _unknown(full, name, known, where)
            continue
        try:
            settings = serverproxy.ServerProxy(config=Config({"ServerProxy": {name: section[name]}}))
        except TraitError as error:
            yield Finding(full, IGNORED, f"Its value cannot be used: {error}", where)
            continue
        if name == "servers":
            for server, data in settings.servers.items():
                yield from _of_server(f"{full}[{server!r}]", str(server), data, where)
        elif name in ("host_allowlist", "host_whitelist"):
            yield from _of_hosts(full, known[name], getattr(settings, name), where)
        else:
            yield Finding(full, known[name].verdict, known[name].says, where)


def _of_hosts(full: str, option: Option, hosts: Any, where: str) -> Iterator[Finding]:
    good, bad = ([], []) if callable(hosts) else serverproxy.split_hosts(hosts)
    write = "c.ServerProxy.host_allowlist = ..."
    if not callable(hosts):
        write = f"c.PortProxy.allowed_hosts = {json.dumps([host for host in good if host not in ('localhost', '127.0.0.1')])}"
    yield Finding(full, option.verdict, option.says, where, write if option.verdict != WORKS else "")
    for host in bad:
        yield Finding(f"{full}: {host!r}", IGNORED, "This is neither a name nor an address of a host.", where)


def _of_server(full: str, name: str, data: object, where: str) -> Iterator[Finding]:
    problems: list[str] = []
    try:
        serverproxy.read_server(name, data, "/", problems)
    except (TemplateError, TraitError, ValueError, TypeError) as error:
        yield Finding(full, IGNORED, f"It is left out: {str(error).rstrip('.')}.", where, "Correct it, or take it out.")
        return
    if not isinstance(data, Mapping):
        yield Finding(full, WORKS, "An object of jupyter-server-proxy's own class: that package must stay installed.", where)
        return
    yield from _of_keys_of_server(full, data, where)


def _of_keys_of_server(full: str, data: Mapping[str, object], where: str) -> Iterator[Finding]:
    yield from _of_keys(full, "key", data, where)
    entry = data.get("launcher_entry")
    yield from _of_keys(f"{full}['launcher_entry']", "entry", entry if isinstance(entry, Mapping) else {}, where)


def _of_keys(full: str, kind: str, data: Mapping[str, object], where: str) -> Iterator[Finding]:
    known = {option.name: option for option in OPTIONS if option.kind == kind}
    for key in data:
        option = known.get(key)
        if option is None:
            yield _unknown(f"{full}[{key!r}]", key, known, where)
        else:
            yield Finding(f"{full}[{key!r}]", option.verdict, option.says, where)


def _unknown(full: str, name: str, known: Iterable[str], where: str) -> Finding:
    """Neither extension has ever had it: most often a slip of the pen."""
    near = get_close_matches(name, known, 1)
    write = f"Write '{near[0]}' instead." if near else "Take it out."
    return Finding(full, IGNORED, f"There is no such option; there are {', '.join(known)}.", where, write)


def _of_entry_points() -> Iterator[Finding]:
    for entry in entry_points(group=serverproxy.GROUP):
        full, where = f"entry point {entry.name}", entry.value
        try:
            data = entry.load()()
            serverproxy.read_server(entry.name, data, "/", [])
        except Exception as error:  # another package's code may raise anything
            says, write = serverproxy.why_left_out(error)
            yield Finding(full, IGNORED, f"It is left out: {says}", where, write)
        else:
            yield Finding(full, WORKS, "The same.", where)
            keys = _of_keys_of_server(full, data, where) if isinstance(data, Mapping) else ()
            yield from (finding for finding in keys if finding.verdict != WORKS)


def _of_extension(setup: Setup) -> Iterator[Finding]:
    if serverproxy.INCUMBENT in setup.enabled:
        says = "jupyter-server-proxy is enabled too, and keeps its names and `server-proxy/` for itself."
        yield Finding("the extension jupyter_server_proxy", REPLACED, says, write=_DISABLE)
    if setup.lab_part:
        says = "The part of jupyter-server-proxy in JupyterLab makes its own tiles: each server would show twice."
        yield Finding(_LAB_PART, REPLACED, says, write=f"jupyter labextension disable {_LAB_PART}")


def _of_ports(setup: Setup) -> Iterator[Finding]:
    """jupyter-server-proxy reaches every port: the one thing that nobody can decide but the administrator."""
    if "allowed_ports" in setup.config.get("PortProxy", {}):
        return
    says = "jupyter-server-proxy reaches every port. Here c.PortProxy.allowed_ports says which; by default 10000 to 20000."
    yield Finding("proxy/N/", DECIDE, says, write=f"{_PORTS}   # every port as before, or the ones that you need")


# ---- what a server would read ----


def _load(paths: Iterable[Path], unreadable: list[tuple[str, str]]) -> list[tuple[str, Config]]:
    files: list[tuple[str, Config]] = []
    for path in paths:
        loader = JSONFileConfigLoader if path.suffix == ".json" else PyFileConfigLoader
        try:
            files.append((str(path), loader(path.name, path=str(path.parent)).load_config()))
        except (Exception, SystemExit) as error:  # a configuration file may raise anything
            unreadable.append((str(path), f"{type(error).__name__}: {error}"))
    return files


def _extension_files(enabled: Iterable[str]) -> list[str]:
    """The names of the enabled extensions' files (`jupyter_lab_config`), lowest first.

    The server links its extensions in alphabetical order. Each one's file goes below all that the server has by then.
    """
    from jupyter_server.extension.manager import ExtensionPackage

    names: list[str] = []
    for extension in sorted(enabled):
        with contextlib.suppress(Exception):  # the server leaves out what it cannot import, too
            package: Any = ExtensionPackage
            points = package(name=extension, enabled=True).extension_points.values()
            names += [str(point.app.config_file_name) for point in points if point.app]
    return [name for name in reversed(dict.fromkeys(names)) if name not in _SERVER_FILES]


def _files(names: Iterable[str]) -> Iterator[Path]:
    """As a Jupyter server does: lower folders of the path first, and JSON after Python in each."""
    for name in names:
        for folder in reversed(jupyter_config_path()):
            yield from (path for kind in (".py", ".json") if (path := Path(folder, name + kind)).is_file())


def _enabled(files: list[tuple[str, Config]]) -> frozenset[str]:
    from jupyter_server.extension.config import ExtensionConfigManager  # a second, which only this command spends

    manager: Any = ExtensionConfigManager(read_config_path=jupyter_config_path())
    states: dict[str, Any] = dict(manager.get_jpserver_extensions())
    for _, config in files:
        states.update(config.get("ServerApp", {}).get("jpserver_extensions", {}))
    return frozenset(name for name, on in states.items() if on)


def _has_lab_part() -> bool:
    if not any(Path(folder, "labextensions", _LAB_PART).is_dir() for folder in jupyter_path()):
        return False
    disabled: dict[str, Any] = {}
    for folder in reversed(jupyter_config_path()):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            page = json.loads(Path(folder, "labconfig", "page_config.json").read_text("utf-8"))
            stated = page.get("disabledExtensions", {})
            disabled.update(dict.fromkeys(stated, True) if isinstance(stated, list) else stated)
    return not disabled.get(_LAB_PART)
