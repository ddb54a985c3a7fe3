"""`jupyter portproxy watch`: the requests to a port or service as they happen, one line for each, and as an HTTP Archive."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO
from urllib.parse import quote

from ..errors import CliError
from .api_command import add_api_command
from .output import Commands, Options, parse_name, parse_port_operand, printable

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from .api_client import ApiClient

_MAX_SAVED = 10_000  # exchanges in an archive, the last ones
_MAX_EVENT = 4 << 20  # bytes
_ORIGIN = re.compile(r"[a-z]+://[^/]*")  # with a host as a client has sent it, which may be none
_REASONS = {  # of cookies that the gateway has refused
    "unnamed": "it has no name",
    "jupyter": "Jupyter has a cookie of that name",
    "host_prefix": "__Host- needs an isolated origin",
    "too_many": "the response sets too many",
}


def add_commands(commands: Commands) -> None:
    """Add the command to the command line; `options.run(options)` executes it."""
    text = "Show the requests to a port or service as they happen, until Ctrl-C."
    watching = add_api_command(commands, "watch", _watch, text)
    watching.add_argument("target", metavar="PORT|NAME", type=parse_name)
    watching.add_argument("--har", metavar="FILE", help="write them to this file at the end, as an HTTP Archive (HAR)")
    watching.add_argument("--json", action="store_true", help="print one JSON object in each line")


def _watch(client: ApiClient, options: Options) -> int:
    target = str(parse_port_operand(options.target)) if options.target.isdigit() else options.target
    archive = _open_archive(options.har) if options.har is not None else None
    saved: dict[int, dict[str, Any]] = {}
    try:
        with client.open("GET", f"exchanges/events?target={quote(target, safe='')}") as response:
            for name, content in _read_events(client, response):
                if name == "snapshot":
                    print(f"The requests to {target} are shown from now on, until Ctrl-C.", file=sys.stderr)
                for exchange in content["exchanges"] if name == "snapshot" else [content] if name == "exchange" else []:
                    if archive is not None:
                        _keep(saved, exchange)
                    _show(exchange, options)
        raise CliError(f"{client.server.url} has ended the recording.")
    except KeyboardInterrupt:
        return 0
    finally:
        if archive is not None:
            _write_archive(archive, saved)


def _read_events(client: ApiClient, response: HTTPResponse) -> Iterator[tuple[str, Any]]:
    """Name and content of each server-sent event."""
    rest = b""
    for piece in client.read(response):
        *events, rest = (rest + piece).split(b"\n\n")
        if len(rest) > _MAX_EVENT:
            raise CliError(f"{client.server.url} sends an event of more than {_MAX_EVENT} bytes.")
        for event in events:
            name, _, data = event.decode("utf-8", "replace").partition("\n")
            if name.startswith("event: ") and data.startswith("data: "):
                yield name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def _show(exchange: dict[str, Any], options: Options) -> None:
    line = json.dumps(exchange) if options.json else printable(print_exchange(exchange))
    print(line, flush=True)


def print_exchange(exchange: dict[str, Any]) -> str:
    """The line for an exchange: time, status, method, duration, bytes both ways, path, and what the gateway did."""
    at = time.strftime("%H:%M:%S", time.localtime(exchange["since"]))
    path = _ORIGIN.sub("", exchange["url"]).partition("#")[0]
    method = exchange["method"] if exchange["kind"] == "http" else {"websocket": "WS", "tcp": "TCP"}[exchange["kind"]]
    sizes = f"{_size(exchange['bytes_up'])} up, {_size(exchange['bytes_down'])} down"
    first = _duration(exchange["first_byte"])
    whole = "open" if exchange["is_open"] else _duration(exchange["seconds"])
    notes = "; ".join(_notes(exchange))
    line = f"{at}  {exchange['status'] or '-':>3}  {method:<5} {first:>8} {whole:>8}  {sizes:<24} {path}"
    return f"{line}  [{notes}]" if notes else line


def _notes(exchange: dict[str, Any]) -> Iterator[str]:
    gateway = exchange["gateway"]
    if exchange["kind"] == "websocket" and exchange["status"] == 101 and not exchange["is_open"]:
        code, peer = exchange["close_code"], exchange["closed_by"]
        yield f"closed by the {peer}, code {code}" if code is not None else "cut without a close frame"
    elif not exchange["is_whole"]:
        yield "cut" if exchange["error"] else "the client has gone"
    if exchange["error"]:
        yield f"error {exchange['error']}"
    if gateway["by_referer"]:
        yield "sent to the service by its Referer"
    if gateway["redirect"]:
        yield f"Location {gateway['redirect']['from']} became {gateway['redirect']['to'] or 'none'}"
    for cookie in gateway["refused_cookies"]:
        yield f"cookie {cookie['name'] or '?'} refused: {_REASONS.get(cookie['reason'], cookie['reason'])}"
    if gateway["left_out"]:
        yield f"{gateway['left_out']} before it not recorded"
    if gateway["removed"]:
        yield f"not passed on: {', '.join(gateway['removed'])}"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _size(count: int) -> str:
    return f"{count} B" if count < 10_000 else f"{count / 1000:.0f} kB" if count < 10_000_000 else f"{count / 1e6:.0f} MB"


# ---- the archive ----


def _open_archive(name: str) -> TextIO:
    """Opened before anything is recorded, so that nothing is recorded for a file that cannot be written. Raises: CliError"""
    try:
        return open(name, "w", encoding="utf-8")
    except OSError as error:
        raise CliError(f"The file {name} cannot be written: {error.strerror}.") from None


def _keep(saved: dict[int, dict[str, Any]], exchange: dict[str, Any]) -> None:
    saved.pop(exchange["id"], None)
    saved[exchange["id"]] = exchange
    if len(saved) > _MAX_SAVED:
        del saved[next(iter(saved))]


def _write_archive(file: TextIO, saved: dict[int, dict[str, Any]]) -> None:
    """Raises: CliError"""
    from importlib.metadata import version

    from ..diagnose.har import build_archive

    try:
        with file:
            json.dump(build_archive(saved.values(), version("jupyter_portproxy")), file, indent=1)
    except OSError as error:
        raise CliError(f"The file {file.name} cannot be written: {error.strerror}.") from None
