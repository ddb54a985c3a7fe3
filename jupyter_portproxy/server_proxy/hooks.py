"""Keys and functions of one server of jupyter-server-proxy's configuration, applied to its requests and responses.

The functions get what they get in jupyter-server-proxy 4.6, as far as their parameters name it.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http.client import responses
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import traitlets
from tornado.escape import json_encode
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import RequestHandler
from traitlets import Bool, Dict, Float, HasTraits, Instance, Int, List, Unicode, Union

from ..protocol.activity import ActivityRule
from ..protocol.framing import is_field
from ..services.hooks import BufferedResponse, Endpoint, TemplateHooks
from ..services.template_keys import TemplateError

_FRAMING = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})


class LauncherEntry(HasTraits):
    """The keys of `launcher_entry`."""

    enabled = Bool(True)
    icon_path = Union([Unicode(), Instance(Path)], default_value="")
    title = Unicode()
    path_info = Unicode()
    category = Unicode("Notebook")


class ServerProcess(HasTraits):
    """The keys of one server, without its `name`."""

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


@dataclass(frozen=True, slots=True)
class ServerHooks(TemplateHooks):
    """The hooks of one server.

    Attributes:
        patterns: of `exclude_last_activity_patterns`, without the refused ones.
        refused: those that may stop the server.
        icon: the path of a file, or empty.
    """

    settings: ServerProcess
    patterns: tuple[re.Pattern[str], ...] = ()
    refused: tuple[str, ...] = ()
    icon: str = ""

    @property
    def raw_socket(self) -> bool:
        return bool(self.settings.raw_socket_proxy)

    @property
    def rewrites(self) -> bool:
        return bool(self.settings.rewrite_response) and not self.raw_socket

    @property
    def depends_on_request(self) -> bool:
        return True

    def command(self, values: Mapping[str, str]) -> list[str]:
        command = _expand("command", self.settings.command, _parameters(values))
        if not isinstance(command, list) or not command:
            raise TemplateError("Its 'command' did not give a list of strings.")
        return [str(part) for part in command]

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        return _expand_mapping("environment", self.settings.environment, _parameters(values))

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        values = {"port": endpoint.port, "unix_socket": endpoint.unix_socket, "base_url": base_url}
        fields = _expand_mapping("request_headers_override", self.settings.request_headers_override, values)
        return [(name, value) for name, value in fields.items() if name.lower() not in _FRAMING]

    def path(self, path: str) -> str:
        mapping: Any = self.settings.mappath
        mapped = _call(mapping, {"path": path}) if callable(mapping) else mapping.get(path, path)
        return "/" + quote(str(mapped), safe="/:?#[]@!$&'()*+,;=-._~%").lstrip("/") if mapped != path else path

    def counts_as_activity(self, handler: RequestHandler) -> bool:
        setting: Any = self.settings.update_last_activity
        if callable(setting):
            return bool(setting(handler))
        return bool(setting) and not ActivityRule(exclude=self.patterns).excludes(handler.request.path)

    def rewrite(
        self, response: BufferedResponse, request: HTTPServerRequest, host: str, port: int, path: str
    ) -> BufferedResponse:
        """The response after one function or several, each of which gets a copy of the result of the one before."""
        functions: Any = self.settings.rewrite_response
        original = rewritten = RewritableResponse(response)
        for function in functions if isinstance(functions, (list, tuple)) else [functions]:
            rewritten = rewritten.copied()
            known = {"response": rewritten, "request": request, "orig_response": original}
            _call(function, {**known, "host": host, "port": port, "path": path})
        result = rewritten.buffered()
        sent = next((value for name, value in response.fields if name.lower() == "location"), "")
        fields = [
            (name, _location(value, sent, request) if name.lower() == "location" else value) for name, value in result.fields
        ]
        return replace(result, fields=fields)


class RewritableResponse:
    """The `response` of a rewrite_response function, which may change it."""

    def __init__(self, response: BufferedResponse) -> None:
        self._code, self.reason = response.status, response.reason
        self.body: Any = response.content
        self.headers = HTTPHeaders()
        for name, value in response.fields:
            self.headers.add(name, value)

    @property
    def code(self) -> int:
        return self._code

    @code.setter
    def code(self, code: int) -> None:
        """The standard reason follows its code; one of the service's own stays."""
        if self.reason == responses.get(self._code, "Unknown"):
            self.reason = responses.get(code, "Unknown")
        self._code = code

    def copied(self) -> RewritableResponse:
        copied = copy.copy(self)
        copied.headers = copy.copy(self.headers)
        return copied

    def buffered(self) -> BufferedResponse:
        """Raises: ValueError: a field cannot be sent."""
        headers = self.headers if isinstance(self.headers, HTTPHeaders) else HTTPHeaders(self.headers)
        content = self.body or b""
        if isinstance(content, Mapping):  # as Tornado's `write` takes it, and text
            headers["Content-Type"], content = "application/json; charset=UTF-8", json_encode(content)
        fields = [(name, _field_value(name, value)) for name, value in headers.get_all()]
        return BufferedResponse(
            int(self._code), str(self.reason or ""), fields, content.encode() if isinstance(content, str) else bytes(content)
        )


def _field_value(name: str, value: Any) -> str:
    """A field value as text: functions may set numbers and bytes, as Tornado's `set_header` takes them.

    Raises:
        ValueError: it cannot be sent.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    if not is_field(name, text):
        raise ValueError(f"A field of a rewritten response cannot be sent: {name!r}.")
    return text


def _location(value: str, sent: str, request: HTTPServerRequest) -> str:
    """A rewritten Location; the one that the service sent if only the client's host was put into it.

    jupyter-rsession-proxy does that. What the service sent is then mapped below its prefix like every Location.
    """
    after, before = urlsplit(value), urlsplit(sent)
    if not request.host or after.netloc != request.host:
        return value
    same = after.path in (before.path, f"/{before.path}", urljoin(request.uri or "", before.path))
    return sent if same and after[3:] == before[3:] else value


def _parameters(values: Mapping[str, str]) -> dict[str, object]:
    return {"port": int(values["port"]), "unix_socket": values["unix_socket"], "base_url": values["base_url"]}


def _call(function: Any, known: Mapping[str, object]) -> Any:
    """Call a function with those of the known values that its parameters name."""
    return function(**{name: known[name] for name in inspect.signature(function).parameters if name in known})


def _expand(key: str, value: Any, values: Mapping[str, object]) -> Any:
    """The value of a key, or what its function returns, with `{port}`, `{unix_socket}` and `{base_url}` replaced by str.format.

    Raises:
        TemplateError
    """
    try:
        return _format(_call(value, values) if callable(value) else value, values)
    except Exception as error:
        raise TemplateError(f"Its '{key}' failed: {type(error).__name__}: {error}") from None


def _expand_mapping(key: str, value: Any, values: Mapping[str, object]) -> dict[str, str]:
    """Raises: TemplateError"""
    mapping = _expand(key, value, values)
    if not isinstance(mapping, dict):
        raise TemplateError(f"Its '{key}' did not give a mapping of names to strings.")
    return {str(name): str(text) for name, text in mapping.items()}


def _format(value: Any, values: Mapping[str, object]) -> Any:
    if isinstance(value, str):
        return value.format(**values)
    if isinstance(value, (list, tuple)):
        return [_format(part, values) for part in value]
    if isinstance(value, Mapping):
        return {_format(name, values): _format(part, values) for name, part in value.items()}
    raise TypeError(f"{value!r} is not a string, a list or a mapping")
