"""What was written for jupyter-server-proxy: its entry points and its configuration, read into our own templates.

Rule of this file: it stands apart. The core sees a Template with hooks, and knows nothing of how it came about. The
names and their meaning are those that jupyter-server-proxy 4.6 documents; what its users' functions see is what they saw there.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import mimetypes
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace
from http.client import responses
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import traitlets
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import HTTPError, RequestHandler, authenticated
from traitlets import Bool, Dict, Float, HasTraits, Instance, Int, List, TraitError, Unicode, Union
from traitlets.config import Configurable

from ..protocol import urls
from ..protocol.framing import is_field
from ..services.hooks import BufferedResponse, Endpoint, TemplateHooks
from ..services.manager import ServiceManager
from ..services.templates import NAME, Template, TemplateError

GROUP = "jupyter_serverproxy_servers"
INCUMBENT = "jupyter_server_proxy"
_INSTALL = (
    "Its extension may stay disabled: pip install jupyter-server-proxy && jupyter server extension disable jupyter_server_proxy"
)
_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})
Values = Mapping[str, str]


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
        help="""A function, or a list of functions, that may change every answer of a port (`proxy/port/N/`).
        Example: `c.ServerProxy.non_service_rewrite_response = my_function`.""",
    ).tag(config=True)

    @property
    def hosts(self) -> Any:
        """What host_allowlist says, or its old name: a list, or a function."""
        return self.host_whitelist or self.host_allowlist


class _LauncherEntry(HasTraits):
    """The form of `launcher_entry`."""

    enabled = Bool(True)
    icon_path = Union([Unicode(), Instance(Path)], default_value="")
    title = Unicode()
    path_info = Unicode()
    category = Unicode("Notebook")


class _ServerProcess(HasTraits):
    """The form of one server."""

    command = Union([List(Unicode()), traitlets.Callable()], default_value=[])
    environment = Union([Dict(), traitlets.Callable()], default_value={})
    timeout = Float(5.0)
    absolute_url = Bool(False)
    port = Int(0)
    unix_socket = Union([Bool(), Unicode()], default_value=None, allow_none=True)
    mappath = Union([Dict(), traitlets.Callable()], default_value={})
    launcher_entry = traitlets.Any()
    new_browser_tab = Bool(True)
    request_headers_override = Union([Dict(), traitlets.Callable()], default_value={})
    rewrite_response = Union([traitlets.Callable(), List(traitlets.Callable()), traitlets.Tuple()], default_value=[])
    update_last_activity = Union([Bool(), traitlets.Callable()], default_value=True)
    exclude_last_activity_patterns = List(Union([Unicode(), Instance(re.Pattern)]))
    raw_socket_proxy = Bool(False)


class RewritableResponse:
    """What a rewrite_response function gets as `response`, and may change."""

    def __init__(self, answer: BufferedResponse) -> None:
        self._code, self.reason, self.body = answer.status, answer.reason, answer.content
        self.headers = HTTPHeaders()
        for name, value in answer.fields:
            self.headers.add(name, value)

    @property
    def code(self) -> int:
        return self._code

    @code.setter
    def code(self, code: int) -> None:
        """The usual reason follows its code; one of the service's own stays."""
        if self.reason == responses.get(self._code, "Unknown"):
            self.reason = responses.get(code, "Unknown")
        self._code = code

    def copied(self) -> RewritableResponse:
        copied = copy.copy(self)
        copied.headers = copy.copy(self.headers)
        return copied

    def whole(self) -> BufferedResponse:
        headers = self.headers if isinstance(self.headers, HTTPHeaders) else HTTPHeaders(self.headers)
        fields = [(name, _field_value(name, value)) for name, value in headers.get_all()]
        return BufferedResponse(int(self._code), str(self.reason or ""), fields, bytes(self.body or b""))


def _field_value(name: str, value: Any) -> str:
    """A field's value as text: functions may set numbers and bytes, as Tornado's `set_header` takes them.

    Raises:
        ValueError: it cannot be sent.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if not is_field(name, text):
        raise ValueError(f"A rewritten answer's field cannot be sent: {name!r}.")
    return text


@dataclass(frozen=True, slots=True)
class ServerHooks(TemplateHooks):
    """The functions of one server of jupyter-server-proxy's configuration. `icon` is the path of a file, or empty."""

    settings: _ServerProcess
    patterns: tuple[re.Pattern[str], ...] = ()
    icon: str = ""

    @property
    def raw_socket(self) -> bool:
        return bool(self.settings.raw_socket_proxy)

    @property
    def rewrites(self) -> bool:
        return bool(self.settings.rewrite_response) and not self.raw_socket

    def command(self, values: Values) -> list[str]:
        command = self._realized("command", self.settings.command, _arguments(values))
        if not isinstance(command, list) or not command:
            raise TemplateError("Its 'command' gave no list of texts.")
        return [str(part) for part in command]

    def environment(self, values: Values) -> dict[str, str]:
        return self._texts("environment", self.settings.environment, _arguments(values))

    @property
    def depends_on_request(self) -> bool:
        return True

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        values = {"port": endpoint.port, "unix_socket": endpoint.unix_socket, "base_url": base_url}
        fields = self._texts("request_headers_override", self.settings.request_headers_override, values)
        return [(name, value) for name, value in fields.items() if name.lower() not in _FRAMING]

    def path(self, path: str) -> str:
        mapping: Any = self.settings.mappath
        mapped = _called(mapping, {"path": path}) if callable(mapping) else mapping.get(path, path)
        return "/" + quote(str(mapped), safe="/:?#[]@!$&'()*+,;=-._~%").lstrip("/") if mapped != path else path

    def counts_as_activity(self, handler: RequestHandler) -> bool:
        wanted: Any = self.settings.update_last_activity
        if callable(wanted):
            return bool(wanted(handler))
        return bool(wanted) and not any(pattern.match(handler.request.path) for pattern in self.patterns)

    def rewrite(self, answer: BufferedResponse, request: HTTPServerRequest, host: str, port: int, path: str) -> BufferedResponse:
        return rewritten(self.settings.rewrite_response, answer, request, host, port, path)

    def _texts(self, key: str, value: Any, values: Mapping[str, object]) -> dict[str, str]:
        texts = self._realized(key, value, values)
        if not isinstance(texts, dict):
            raise TemplateError(f"Its '{key}' gave no mapping of names to texts.")
        return {str(name): str(text) for name, text in texts.items()}

    def _realized(self, key: str, value: Any, values: Mapping[str, object]) -> Any:
        """Call a function, then fill in every text: `{port}`, `{unix_socket}`, `{base_url}`, as str.format does."""
        try:
            return _rendered(_called(value, values) if callable(value) else value, values)
        except Exception as error:
            raise TemplateError(f"Its '{key}' failed: {type(error).__name__}: {error}") from None


def for_plain_ports(functions: Any) -> ServerHooks | None:
    """The hooks of plain ports: `c.ServerProxy.non_service_rewrite_response`, and nothing else."""
    return ServerHooks(_ServerProcess(rewrite_response=functions)) if functions else None


def rewritten(
    functions: Any, answer: BufferedResponse, request: HTTPServerRequest, host: str, port: int, path: str
) -> BufferedResponse:
    """The answer after one function or several, each on a copy of what the one before left."""
    original = RewritableResponse(answer)
    response = original
    for function in functions if isinstance(functions, (list, tuple)) else [functions]:
        response = response.copied()
        known = {"response": response, "request": request, "orig_response": original, "host": host, "port": port, "path": path}
        _called(function, known)
    whole = response.whole()
    sent = next((value for name, value in answer.fields if name.lower() == "location"), "")
    fields = [(name, _location(value, sent, request) if name.lower() == "location" else value) for name, value in whole.fields]
    return replace(whole, fields=fields)


def _location(value: str, sent: str, request: HTTPServerRequest) -> str:
    """A rewritten Location; the one that the service sent where only the client's host was put into it.

    jupyter-rsession-proxy does that. What the service sent is then mapped below its prefix as every Location is.
    """
    after, before = urlsplit(value), urlsplit(sent)
    if not request.host or after.netloc != request.host:
        return value
    same = after.path in (before.path, f"/{before.path}", urljoin(request.uri or "", before.path))
    return sent if same and after[3:] == before[3:] else value


# ---- reading ----


def read_servers(servers: Mapping[str, object], base_url: str, unknown: list[str]) -> tuple[dict[str, Template], list[str]]:
    """Templates of `c.ServerProxy.servers`, and what was wrong with those that were left out."""
    found: dict[str, Template] = {}
    problems: list[str] = []
    for name, data in servers.items():
        try:
            template = read_server(str(name), data, base_url, unknown)
            found[template.name] = template
        except (TemplateError, TraitError, re.error) as error:
            problems.append(f"The server '{name}' of c.ServerProxy.servers is left out: {error}")
    return found, problems


def read_entry_points(base_url: str, unknown: list[str]) -> tuple[dict[str, Template], list[str]]:
    """Templates of the installed packages' entry points, and what was wrong with those that were left out."""
    found: dict[str, Template] = {}
    problems: list[str] = []
    for entry in entry_points(group=GROUP):
        try:
            found[entry.name] = read_server(entry.name, entry.load()(), base_url, unknown)
        except Exception as error:  # another package's code may raise anything
            problems.append(f"The entry point '{entry.name}' ({entry.value}) is left out: {' '.join(why_left_out(error))}")
    return found, problems


def why_left_out(error: Exception) -> tuple[str, str]:
    """What is wrong with an entry point that raised, and what to do about it, if that is known."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == INCUMBENT:
        return "It imports jupyter_server_proxy, which is not installed.", _INSTALL
    return f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}.", ""


def names_of(servers: Mapping[str, object]) -> frozenset[str]:
    """The names that jupyter-server-proxy serves where it is enabled itself."""
    return frozenset([*map(str, servers), *(entry.name for entry in entry_points(group=GROUP))])


def read_server(name: str, data: object, base_url: str, unknown: list[str]) -> Template:
    """One server, from a dict or from an object of jupyter-server-proxy's own class. Appends keys that mean nothing to `unknown`.

    Raises:
        TemplateError, traitlets.TraitError, re.error: what is wrong with it.
    """
    values = _plain(data)
    name = str(values.pop("name", "") or name)
    if not NAME.match(name):
        raise TemplateError(f"{name[:80]!r} is no name for a server: use up to 64 letters, digits, '.', '_' and '-'")
    if not urls.find_first_segment(f"/{name}", "/"):
        raise TemplateError(f"{name!r} is the name of a page of Jupyter's own: choose another")
    known = set(_ServerProcess.class_trait_names())
    unknown += [f"{name}[{key!r}]" for key in values if key not in known]
    settings = _ServerProcess(**{key: value for key, value in values.items() if key in known})
    endpoint = _endpoint(settings)
    if not settings.command and endpoint is None:
        raise TemplateError("it has none of 'command', 'port' and 'unix_socket'; it needs one")
    shown = _plain(settings.launcher_entry)
    unknown += [f"{name}['launcher_entry'][{key!r}]" for key in shown if key not in _ENTRY_KEYS]
    entry = _LauncherEntry(**{key: value for key, value in shown.items() if key in _ENTRY_KEYS})
    hooks = ServerHooks(settings, tuple(map(re.compile, settings.exclude_last_activity_patterns)), str(entry.icon_path))
    return Template(
        name=name,
        command=(),
        ready_timeout=settings.timeout,
        restart="on-failure",
        keep_prefix=settings.absolute_url,
        unix_socket=settings.unix_socket is True,
        path_info=_below(name, entry.path_info),
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


_ENTRY_KEYS = frozenset(_LauncherEntry.class_trait_names())


def _plain(data: object) -> dict[str, Any]:
    """A mapping's or a HasTraits object's values by name."""
    if isinstance(data, HasTraits):
        return {key: value for key, value in data.trait_values().items() if key not in ("parent", "config", "log")}
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise TemplateError(f"it is no mapping of keys to values, but {type(data).__name__}")
    return dict(data)


def _endpoint(settings: _ServerProcess) -> Endpoint | None:
    if isinstance(settings.unix_socket, str) and settings.unix_socket:
        return Endpoint(0, settings.unix_socket)
    if not 0 <= settings.port <= 65535:
        raise TemplateError(f"'port' is {settings.port}; it must be from 1 to 65535")
    return Endpoint(settings.port) if settings.port and not settings.unix_socket else None


def _below(name: str, path_info: str) -> str:
    """`path_info` counts from the server's base URL; a template's from its own prefix."""
    if not path_info or path_info == name:
        return ""
    below = path_info.lstrip("/")
    return below[len(name) + 1 :] if below.startswith(f"{name}/") else f"../{below}"


def _arguments(values: Values) -> dict[str, object]:
    return {"port": int(values["port"]), "unix_socket": values["unix_socket"], "base_url": values["base_url"]}


def _called(function: Any, known: Mapping[str, object]) -> Any:
    """Call a function with those of the known values that its parameters name."""
    parameters = inspect.signature(function).parameters.values()
    wanted = {p.name: known[p.name] for p in parameters if p.name in known}
    return function(**wanted)


def _rendered(value: Any, values: Mapping[str, object]) -> Any:
    if isinstance(value, str):
        return value.format(**values)
    if isinstance(value, (list, tuple)):
        return [_rendered(part, values) for part in value]
    if isinstance(value, Mapping):
        return {_rendered(name, values): _rendered(part, values) for name, part in value.items()}
    raise TypeError(f"{value!r} is no text, no list and no mapping")


# ---- what other extensions read of its handlers ----


class SupervisedProcess:
    """A server's process with the interface of simpervisor's class: `running`, `terminate()`, `kill()`."""

    def __init__(self, services: ServiceManager, name: str) -> None:
        self._services, self._name = services, name

    @property
    def running(self) -> bool:
        return self._name in self._services and self._services.get(self._name).alive

    async def terminate(self) -> None:
        """Stop it and forget it, so that the next request starts it, whatever it asks for."""
        if self._name in self._services:
            await self._services.delete(self._name)

    kill = terminate


class HandlerState(MutableMapping[str, Any]):
    """The `state` of a server's handlers: `proc_lock`, and `proc` while its process runs.

    marimo-jupyter-extension looks for it in the rules of the web application, for its health check and its *Restart*.
    """

    def __init__(self, services: ServiceManager, name: str) -> None:
        self._process = SupervisedProcess(services, name)
        self._others: dict[str, Any] = {"proc_lock": asyncio.Lock()}

    def __getitem__(self, key: str) -> Any:
        return self._process if key == "proc" and self._process.running else self._others[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._others[key] = value

    def __delitem__(self, key: str) -> None:
        self._others.pop(key, None)  # a process is forgotten when it ends

    def __iter__(self) -> Iterator[str]:
        return iter([*self._others, *(["proc"] if self._process.running else [])])

    def __len__(self) -> int:
        return len(list(iter(self)))


# ---- its own two URLs ----


class ServersInfo(JupyterHandler):
    """`GET server-proxy/servers-info`: what jupyter-server-proxy's launchers ask for."""

    auth_resource = "portproxy"

    def initialize(self, templates: Mapping[str, Template]) -> None:
        self.templates = templates

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.finish({"server_processes": [_info(template) for template in self.templates.values()]})


class Icon(JupyterHandler):
    """`GET server-proxy/icon/NAME`: the icon of a launcher's tile."""

    auth_resource = "portproxy"

    def initialize(self, templates: Mapping[str, Template]) -> None:
        self.templates = templates

    @authenticated
    @authorized("read")
    async def get(self, name: str) -> None:
        template = self.templates.get(name)
        path = template.hooks.icon if template is not None and isinstance(template.hooks, ServerHooks) else ""
        try:
            content = Path(path).read_bytes() if path else b""  # noqa: ASYNC240 (a few kilobytes)
        except OSError as error:
            self.log.warning("portproxy: the icon of '%s' cannot be read: %s", name, error)
            content = b""
        if not content:
            raise HTTPError(404)
        self.set_header("Content-Type", mimetypes.guess_type(path)[0] or "application/octet-stream")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.finish(content)


def handlers(
    templates: Mapping[str, Template], services: ServiceManager
) -> list[tuple[str, type[JupyterHandler], dict[str, Any]]]:
    parts = {"templates": templates}
    # No path matches `(?!)`: these rules are there to be found, with the name in their pattern.
    states: list[tuple[str, type[JupyterHandler], dict[str, Any]]] = [
        (rf"/{name}(?!)", JupyterHandler, {"state": HandlerState(services, name)}) for name in templates
    ]
    return [(r"/server-proxy/servers-info", ServersInfo, parts), (r"/server-proxy/icon/([^/]+)", Icon, parts), *states]


def _info(template: Template) -> dict[str, Any]:
    inside, outside = f"{template.name}/{template.path_info}", template.path_info.removeprefix("../")
    path_info = outside if template.path_info.startswith("../") else inside
    entry: dict[str, Any] = {
        "enabled": bool(template.launcher),
        "title": template.title,
        "path_info": path_info,
        "category": template.category,
    }
    if template.icon:
        entry["icon_url"] = template.icon
    return {"name": template.name, "launcher_entry": entry, "new_browser_tab": template.open_in == "browser"}


def fixed_ports(templates: Iterable[Template]) -> set[int]:
    """The ports that a configuration names itself: it has thereby allowed them."""
    return {template.endpoint.port for template in templates if template.endpoint is not None and template.endpoint.port}


def split_hosts(hosts: Iterable[object]) -> tuple[list[str], list[str]]:
    """The hosts of a host_allowlist that can be reached, and those that are no host at all."""
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
