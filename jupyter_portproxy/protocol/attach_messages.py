"""The messages of an agent's control connection: JSON objects in text messages, each with a `type` and the fields of its class.

    agent -> server    Hello or Listen     once, the first message
                       PortHealth          a port can be reached, or why not; after each change
                       Refused             a connection cannot be served, and why
    server -> agent    Attached            the response to the first message
                       Open                a connection has come: dial `proxy/attach/ID` and the local port
                       Detach              a port was detached at the server
                       Ended               the connection ends, and whether dialling again helps

Field values are checked here, so that both sides may use them without a look.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from typing import Any

AGENT_ENDS = 1001  # the close code of an agent that does not dial again (RFC 6455 7.4.1)
MAX_MESSAGE = 1 << 16  # bytes
MAX_PORTS = 32  # of one agent
MAX_NAME = 58  # characters, as the name of a service has a port after it
_MAX_SENTENCE = 500  # characters
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}\Z", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]{1,64}\Z", re.ASCII)
_RANDOM = re.compile(r"[A-Za-z0-9_-]{16,64}\Z", re.ASCII)
_CODE = re.compile(r"[a-z_]{1,40}\Z", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class BadMessage(ValueError):
    """A message that is not one of those above. Its text is one sentence, for the other side."""


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent attaches ports.

    Attributes:
        instance: random text of the agent's process: a connection with the same one replaces the last.
        host: the name of its machine.
        errors: by port, why it cannot be reached now; a port that can has none.
    """

    name: str
    host: str
    instance: str
    ports: tuple[int, ...]
    errors: dict[int, str]


@dataclass(frozen=True, slots=True)
class Listen:
    """A client offers ports of its machine: the server is to listen on these ports of its loopback address."""

    host: str
    instance: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PortHealth:
    """`error`: why the port cannot be reached; empty if it can."""

    port: int
    error: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The connection `id` cannot be served."""

    id: str
    error: str


@dataclass(frozen=True, slots=True)
class Attached:
    """`addresses`: by port, where the server has it: the path of a URL, or `127.0.0.1:PORT`."""

    addresses: dict[int, str]


@dataclass(frozen=True, slots=True)
class Open:
    id: str
    port: int


@dataclass(frozen=True, slots=True)
class Detach:
    port: int


@dataclass(frozen=True, slots=True)
class Ended:
    """`is_final`: dialling again does not help."""

    code: str
    sentence: str
    is_final: bool


AgentMessage = Hello | Listen | PortHealth | Refused
ServerMessage = Attached | Open | Detach | Ended
_AGENT: dict[str, type[Any]] = {"hello": Hello, "listen": Listen, "health": PortHealth, "refused": Refused}
_SERVER: dict[str, type[Any]] = {"attached": Attached, "open": Open, "detach": Detach, "ended": Ended}
_TYPES = {kind: name for name, kind in {**_AGENT, **_SERVER}.items()}


def print_message(message: AgentMessage | ServerMessage) -> str:
    return json.dumps({"type": _TYPES[type(message)], **asdict(message)})


def parse_agent_message(text: str) -> AgentMessage:
    """Raises: BadMessage"""
    message: AgentMessage = _parse(text, _AGENT)
    return message


def parse_server_message(text: str) -> ServerMessage:
    """Raises: BadMessage"""
    message: ServerMessage = _parse(text, _SERVER)
    return message


def clean_sentence(text: str) -> str:
    """A text as it may stand in a message: without control characters, and not too long."""
    return _CONTROL.sub(" ", text)[:_MAX_SENTENCE]


def clean_host(name: str) -> str:
    """The name of a machine as it may stand in a message."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name)[:64] or "unknown"


def _parse(text: str, kinds: dict[str, type[Any]]) -> Any:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage("A message is not JSON.") from None
    kind = kinds.get(data.get("type", "")) if isinstance(data, dict) and isinstance(data.get("type", ""), str) else None
    if kind is None:
        raise BadMessage(f"A message is not an object whose type is one of {', '.join(kinds)}.")
    name, expected = data.pop("type"), {field.name for field in fields(kind)}
    if set(data) != expected:
        raise BadMessage(f"A message of the type '{name}' has other fields than {', '.join(sorted(expected))}.")
    return kind(**{key: _READERS[key](key, value) for key, value in data.items()})


# ---- readers of values: (key, value) -> value, or a BadMessage ----


def _text(pattern: re.Pattern[str]) -> Any:
    def read(key: str, value: object) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise BadMessage(f"The field '{key}' of a message is invalid: {clean_sentence(repr(value))[:60]}.")
        return value

    return read


def _sentence(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_SENTENCE or _CONTROL.search(value):
        raise BadMessage(f"The field '{key}' of a message is not a text of at most {_MAX_SENTENCE} characters.")
    return value


def _port(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 65535:
        raise BadMessage(f"The field '{key}' of a message has no port from 1 to 65535: {clean_sentence(repr(value))[:60]}.")
    return value


def _ports(key: str, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_PORTS:
        raise BadMessage(f"The field '{key}' of a message has not 1 to {MAX_PORTS} ports.")
    ports = tuple(_port(key, each) for each in value)
    if len(set(ports)) < len(ports):
        raise BadMessage(f"The field '{key}' of a message has a port twice.")
    return ports


def _by_port(key: str, value: object) -> dict[int, str]:
    if not isinstance(value, dict) or len(value) > MAX_PORTS:
        raise BadMessage(f"The field '{key}' of a message is not an object with at most {MAX_PORTS} ports.")
    numbers = {port: int(port) if re.fullmatch(r"[1-9][0-9]{0,4}", port, re.ASCII) else 0 for port in value}
    return {_port(key, numbers[port]): _sentence(key, text) for port, text in value.items()}


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise BadMessage(f"The field '{key}' of a message is not true or false.")
    return value


_READERS: dict[str, Any] = {
    "name": _text(NAME),
    "host": _text(_HOST),
    "instance": _text(_RANDOM),
    "id": _text(_RANDOM),
    "code": _text(_CODE),
    "error": _sentence,
    "sentence": _sentence,
    "port": _port,
    "ports": _ports,
    "errors": _by_port,
    "addresses": _by_port,
    "is_final": _flag,
}
