"""`jupyter portproxy start`, `restart`, `stop`, `logs` and `reserve`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CliError, Missing
from .api_command import add_api_command
from .links import print_links, service_path
from .output import PROGRAM, Commands, Options, parse_seconds, print_json

if TYPE_CHECKING:
    from .api_client import ApiClient


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    text = "Start a service from a template; other arguments start another service."
    starting = add_api_command(commands, "start", _start, text, "template", as_json=True)
    starting.add_argument("arguments", nargs="*", default=[], metavar="NAME=VALUE", help="the template's arguments")
    starting.add_argument("--name", help="the service's name; by default the template's, or one made from its script or folder")
    starting.add_argument("--kernel", metavar="NAME", help="the kernel in whose environment it runs; by default the template's")
    restarting = add_api_command(commands, "restart", _restart, "Stop a service and start it again.", "name", as_json=True)
    for command in (starting, restarting):
        command.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it is ready")
    add_api_command(commands, "stop", _stop, "Stop a service and delete it, or release a reserved port.", "name")
    logs = add_api_command(commands, "logs", _logs, "Print the output of a service.", "name")
    logs.add_argument("-f", "--follow", action="store_true", help="continue until the service ends")
    text = "Reserve a free allowed port for a name, and print it."
    reserving = add_api_command(commands, "reserve", _reserve, text, "name", as_json=True)
    reserving.add_argument("--seconds", type=parse_seconds, default=600, help="how long to wait for a listener (default: 600)")


def _start(client: ApiClient, options: Options) -> None:
    arguments = {}
    for item in options.arguments:
        name, separator, value = item.partition("=")
        if not separator:
            raise CliError(f"{item!r} is not of the form NAME=VALUE.\nThe names and their defaults: {PROGRAM} templates")
        arguments[name] = value
    arguments |= _absolute_paths(client, options.template, arguments)
    body = {"template": options.template, "arguments": arguments, **({"name": options.name} if options.name else {})}
    if options.kernel is not None:
        body["kernel"] = options.kernel
    with client.open("POST", "services", body, no_timeout=True) as response:
        is_new, service = response.status == 201, client.read_json(response)
    _print_started(client, service, options, is_new=is_new)


def _absolute_paths(client: ApiClient, template: str, arguments: dict[str, str]) -> dict[str, str]:
    """The arguments that are paths, made absolute here: the server's working directory is another one.

    Of a server elsewhere they stay as typed, and count from its own folder.
    """
    if not client.server.is_local:
        return {}
    templates: list[dict[str, Any]] = client.call("GET", "templates")
    paths = {a["name"] for t in templates if t["name"] == template for a in t["arguments"] if a["kind"] == "path"}
    return {name: str(Path(value).expanduser().absolute()) for name, value in arguments.items() if name in paths and value}


def _print_started(client: ApiClient, service: dict[str, Any], options: Options, *, is_new: bool = True) -> None:
    """Wait until the service is ready, unless --no-wait is given, and print its state and links."""
    while options.wait and service["state"] == "starting":
        time.sleep(0.2)
        service = client.call("GET", service_path(service["name"]))
    if options.json:
        return print_json(service)
    if service["state"] == "failed":
        raise CliError("\n".join([f"{service['name']} failed: {service['error']}", *service["last_lines"]]))
    already = "" if is_new else f" already ({service['runs']})" if service["runs"] else " already"
    text = f"{service['name']} is {service['state']}{already}"
    if service["scheme"] == "none":  # it listens nowhere
        return print(f"{text}.")
    print_links(client, f"{text}: ", service["name"], service["url"])


def _restart(client: ApiClient, options: Options) -> None:
    service = client.call("POST", service_path(options.name, "/restart"), {}, no_timeout=True)
    _print_started(client, service, options)


def _stop(client: ApiClient, options: Options) -> None:
    try:
        client.call("DELETE", service_path(options.name), no_timeout=True)  # its template's `stop_timeout` may be long
    except Missing:
        if not any(reservation["name"] == options.name for reservation in client.call("GET", "reservations")):
            raise
        client.call("DELETE", f"reservations/{options.name}")
        return print(f"{options.name} is not reserved any more.")
    print(f"{options.name} is stopped.")


def _logs(client: ApiClient, options: Options) -> None:
    follow = "?follow=1" if options.follow else ""
    with client.open("GET", service_path(options.name, f"/logs{follow}"), no_timeout=options.follow) as response:
        for data in client.read(response):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _reserve(client: ApiClient, options: Options) -> None:
    """Print only the port to standard output: for `PORT=$(jupyter portproxy reserve NAME)`."""
    reservation = client.call("POST", "reservations", {"name": options.name, "seconds": options.seconds})
    if options.json:
        return print_json(reservation)
    print(reservation["port"])
