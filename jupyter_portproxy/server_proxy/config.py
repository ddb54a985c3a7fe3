"""The configuration of jupyter-server-proxy: `c.ServerProxy` and entry points, read into templates.

Names and their meaning are those that jupyter-server-proxy 4.6 documents. The other packages see templates with hooks.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

import traitlets
from tornado.web import RequestHandler
from traitlets import Dict, HasTraits, List, TraitError, Union
from traitlets.config import Configurable

from ..protocol import urls
from ..services.hooks import Endpoint
from ..services.template_keys import HARMLESS, NAME, TemplateError, is_harmless
from ..services.templates import Template
from .hooks import LauncherEntry, ServerHooks, ServerProcess

ENTRY_POINT_GROUP = "jupyter_serverproxy_servers"
INCUMBENT = "jupyter_server_proxy"
_INSTALL = (
    "Its extension may stay disabled: pip install jupyter-server-proxy && jupyter server extension disable jupyter_server_proxy"
)


class ServerProxy(Configurable):
    """`c.ServerProxy` of jupyter-server-proxy."""

    servers = Dict(
        help="""Servers in the form of jupyter-server-proxy: name -> {command, environment, timeout (seconds), absolute_url, port,
        unix_socket, mappath, launcher_entry, new_browser_tab, request_headers_override, rewrite_response,
        update_last_activity, exclude_last_activity_patterns, raw_socket_proxy}.
        Example: `c.ServerProxy.servers = {"docs": {"command": ["python", "-m", "http.server", "{port}"]}}`.""",
    ).tag(config=True)

    host_allowlist = Union(
        [List(), traitlets.Callable()],
        default_value=["localhost", "127.0.0.1"],
        help="""Hosts that may be reached as `proxy/HOST:PORT/`, besides c.PortProxy.allowed_hosts: a list, or a function of
        (handler, host) that returns True or False. Example: `c.ServerProxy.host_allowlist = ["gpu-1.example.org"]`.""",
    ).tag(config=True)

    host_whitelist = Union(
        [List(), traitlets.Callable()], default_value=[], help="The old name of host_allowlist. Example: see there."
    ).tag(config=True)

    non_service_rewrite_response = Union(
        [traitlets.Callable(), List(traitlets.Callable()), traitlets.Tuple()],
        default_value=[],
        help="""A function, or a list of functions, that may change every response of a port (`proxy/port/N/`).
        Example: `c.ServerProxy.non_service_rewrite_response = my_function`.""",
    ).tag(config=True)

    @property
    def hosts(self) -> Any:
        """The value of host_allowlist, or of its old name: a list, or a function."""
        return self.host_whitelist or self.host_allowlist

    @property
    def port_hooks(self) -> ServerHooks | None:
        functions = self.non_service_rewrite_response
        return ServerHooks(ServerProcess(rewrite_response=functions)) if functions else None


TRAITS = frozenset(ServerProxy.class_trait_names(config=True))
SERVER_KEYS = frozenset({"name", *ServerProcess.class_trait_names()})
LAUNCHER_ENTRY_KEYS = frozenset(LauncherEntry.class_trait_names())


@dataclass(frozen=True)
class AdoptedConfiguration:
    """What the configuration of jupyter-server-proxy leads to.

    Attributes:
        allows_host: a function of (handler, host).
        port_hooks: of plain ports.
        foreign_names: first segments below base_url that jupyter-server-proxy serves itself.
    """

    templates: dict[str, Template] = field(default_factory=dict)
    allows_host: Callable[[RequestHandler | None, str], object] = lambda handler, host: False
    port_hooks: ServerHooks | None = None
    foreign_names: frozenset[str] = frozenset()


def adopt(settings: ServerProxy, base_url: str, log: logging.Logger, *, is_enabled: bool) -> AdoptedConfiguration:
    """Read `c.ServerProxy` and the entry points, and log what is wrong with them.

    Args:
        is_enabled: jupyter-server-proxy is enabled too, and serves them itself.
    """
    if is_enabled:
        names = server_names(settings.servers)
        log.info(
            "portproxy: jupyter-server-proxy is enabled too and keeps its names (%s). "
            "To let this extension serve them: jupyter server extension disable jupyter_server_proxy",
            ", ".join(sorted(names)) or "it has none",
        )
        return AdoptedConfiguration(foreign_names=names | {"server-proxy"})
    unknown: list[str] = []
    entries, wrong_entries = read_entry_points(base_url, unknown)
    servers, wrong = read_servers(settings.servers, base_url, unknown)
    allows_host, wrong_hosts = host_list(settings.hosts)
    for problem in wrong + wrong_entries + wrong_hosts:
        log.error("portproxy: %s", problem)
    for name, template in (*entries.items(), *servers.items()):
        for pattern in template.hooks.refused if isinstance(template.hooks, ServerHooks) else ():
            what = f"{name}: the pattern {pattern[:80]!r} of exclude_last_activity_patterns"
            log.error("portproxy: %s is left out, as it may stop the server: %s.", what, HARMLESS)
    if unknown:
        log.warning("portproxy: these keys of servers mean nothing: %s", ", ".join(unknown))
    return AdoptedConfiguration({**entries, **servers}, allows_host, settings.port_hooks)


def read_servers(servers: Mapping[str, object], base_url: str, unknown: list[str]) -> tuple[dict[str, Template], list[str]]:
    """Templates of `c.ServerProxy.servers`, and why others are left out. Appends keys that do not exist to `unknown`."""
    read: dict[str, Template] = {}
    problems: list[str] = []
    for name, data in servers.items():
        try:
            template = read_server(str(name), data, base_url, unknown)
            read[template.name] = template
        except (TemplateError, TraitError, re.error) as error:
            problems.append(f"The server '{name}' of c.ServerProxy.servers is left out: {error}")
    return read, problems


def read_entry_points(base_url: str, unknown: list[str]) -> tuple[dict[str, Template], list[str]]:
    """Templates of the installed packages' entry points, and why others are left out."""
    read: dict[str, Template] = {}
    problems: list[str] = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            read[entry.name] = read_server(entry.name, entry.load()(), base_url, unknown)
        except (Exception, SystemExit) as error:  # another package's code may raise anything
            problems.append(f"The entry point '{entry.name}' ({entry.value}) is left out: {' '.join(explain_failure(error))}")
    return read, problems


def explain_failure(error: BaseException) -> tuple[str, str]:
    """What is wrong with an entry point that raised, and the remedy, or an empty text."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == INCUMBENT:
        return "It imports jupyter_server_proxy, which is not installed.", _INSTALL
    text = " ".join(str(error).split()).rstrip(".")
    return f"{type(error).__name__}{text and ': '}{text}.", ""


def server_names(servers: Mapping[str, object]) -> frozenset[str]:
    """The names that jupyter-server-proxy serves where it is enabled itself."""
    return frozenset([*map(str, servers), *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP))])


def read_server(name: str, data: object, base_url: str, unknown: list[str]) -> Template:
    """One server, from a dict or from an object of jupyter-server-proxy's own class. Appends keys that do not exist to `unknown`.

    Raises:
        TemplateError, traitlets.TraitError, re.error
    """
    values = _as_dict(data)
    name = str(values.pop("name", "") or name)
    if not NAME.match(name):
        raise TemplateError(f"Invalid server name: {name[:80]!r}: use up to 64 letters, digits, '.', '_' and '-'")
    if not urls.find_first_segment(f"/{name}", "/"):
        raise TemplateError(f"{name!r} is the name of a page of Jupyter's own: choose another")
    settings = ServerProcess(**_split(values, SERVER_KEYS, name, unknown))
    entry_values = _as_dict(settings.launcher_entry)
    entry = LauncherEntry(**_split(entry_values, LAUNCHER_ENTRY_KEYS, f"{name}['launcher_entry']", unknown))
    endpoint = _fixed_endpoint(settings)
    if not settings.command and endpoint is None:
        raise TemplateError("it has none of 'command', 'port' and 'unix_socket'; it needs one")
    patterns = tuple(map(re.compile, settings.exclude_last_activity_patterns))
    refused = tuple(pattern.pattern for pattern in patterns if not is_harmless(pattern.pattern))
    harmless = tuple(pattern for pattern in patterns if pattern.pattern not in refused)
    hooks = ServerHooks(settings, harmless, refused, str(entry.icon_path))
    return Template(
        name=name,
        command=(),
        ready_timeout=settings.timeout,
        restart="on-failure",
        keep_prefix=settings.absolute_url,
        unix_socket=settings.unix_socket is True,
        path_info=_below_prefix(name, entry.path_info),
        title=entry.title or name,
        icon=f"{base_url}server-proxy/icon/{name}" if hooks.icon else "",
        category=entry.category,
        open_in="browser" if settings.new_browser_tab else "lab",
        start_on_open=True,
        at_root=True,
        endpoint=endpoint,
        external=not settings.command,
        launcher=entry.category if entry.enabled else "",
        hooks=hooks,
    )


def _as_dict(data: object) -> dict[str, Any]:
    """A mapping's or a HasTraits object's values by name."""
    if isinstance(data, HasTraits):
        return {key: value for key, value in data.trait_values().items() if key not in ("parent", "config", "log")}
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise TemplateError(f"it is not a mapping of keys to values, but {type(data).__name__}")
    return dict(data)


def _split(values: Mapping[str, Any], known: frozenset[str], owner: str, unknown: list[str]) -> dict[str, Any]:
    """The values of known keys. Appends the other keys to `unknown`."""
    unknown += [f"{owner}[{key!r}]" for key in values if key not in known]
    return {key: value for key, value in values.items() if key in known}


def _fixed_endpoint(settings: ServerProcess) -> Endpoint | None:
    if isinstance(settings.unix_socket, str) and settings.unix_socket:
        return Endpoint(0, settings.unix_socket)
    if not 0 <= settings.port <= 65535:
        raise TemplateError(f"'port' is {settings.port}; it must be from 1 to 65535")
    return Endpoint(settings.port) if settings.port and not settings.unix_socket else None


def _below_prefix(name: str, path_info: str) -> str:
    """A template's `path_info`, which is relative to its prefix, from a server's, which is relative to the base URL."""
    if not path_info or path_info == name:
        return ""
    path = path_info.lstrip("/")
    return path[len(name) + 1 :] if path.startswith(f"{name}/") else f"../{path}"


def fixed_ports(templates: Iterable[Template]) -> set[int]:
    """The ports that a configuration names itself, and thereby allows."""
    return {template.endpoint.port for template in templates if template.endpoint is not None and template.endpoint.port}


def split_hosts(hosts: Iterable[object]) -> tuple[list[str], list[str]]:
    """The valid hosts of a host_allowlist, and the others."""
    texts = [str(host).lower() for host in hosts]
    good = [text for text in texts if urls.is_name(text) or urls.ip_literal(text) is not None]
    return good, [text for text in texts if text not in good]


def host_list(hosts: Any) -> tuple[Callable[[RequestHandler | None, str], object], list[str]]:
    """The function of (handler, host) that a host_allowlist is, or stands for; and what is wrong with the list."""
    if callable(hosts):
        return hosts, []
    good, bad = split_hosts(hosts)
    wrong = [f"{host!r} in c.ServerProxy.host_allowlist is neither a name nor an address of a host." for host in bad]
    return lambda handler, host: host in good, wrong
