"""`jupyter portproxy ...`: list, start, stop and check services through the API of the running server.

Commands print tables for people and JSON with `--json`. An error is one sentence on standard error and exit code 1. The commands
for operators, which need no server, are in `cli.projects`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..errors import CliError
from ..protocol import urls
from . import users
from .api_client import REQUEST_TIMEOUT, ApiClient, find_server
from .output import Commands, Options, parse_duration, parse_port_argument, print_json, print_table
from .projects import add_commands

_PROGRAM = "jupyter portproxy"
_PATH_BASED = "Path-based URL, for programs too: "
_PATHS_ONLY = (
    "These are paths below your JupyterHub's address, which is not configured. "
    "Its administrator can set c.JupyterHub.public_url in jupyterhub_config.py."
)
_REMEDIES = {  # by the `reason_code` of a port in the API
    "not_on_localhost": "Let the service listen on 127.0.0.1 or 0.0.0.0.",
    "other_user": "Start your service on another port.",
}


def main(arguments: Sequence[str] | None = None, *, timeout: float = REQUEST_TIMEOUT) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: default: those of the process.
        timeout: of requests to the server, in seconds.
    """
    options = _parse(list(sys.argv[1:] if arguments is None else arguments), timeout)
    try:
        return int(options.run(options) or 0)
    except CliError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


# ---- lists ----


def _overview(parser: argparse.ArgumentParser, options: Options) -> None:
    """Without a command: the server, its services and ports, and the commands."""
    try:
        client = find_server(options.server, options.timeout)
        print(f"Jupyter server: {client.url}\n")
        _list(client, argparse.Namespace(json=False, all=False))
    except CliError as error:
        print(f"{error}\n")
    print(parser.epilog)


def _list(client: ApiClient, options: Options) -> None:
    services, ports, reservations = (client.call("GET", path) for path in ("services", "ports", "reservations"))
    if options.json:
        return print_json({"services": services, "ports": ports, "reservations": reservations})
    has_origins = client.has_origins()
    head = "URL (AND THE PATH-BASED ONE)" if has_origins else "URL"

    def urls(target: str, path: str) -> str:
        return f"{client.enter_url(target, path)} ({path})" if has_origins else path

    print_table(
        ["SERVICE", "STATE", "PORT", "RUNS", head],
        [[s["name"], s["state"], s["port"], s["runs"][-40:], urls(s["name"], s["url"])] for s in services],
    )
    if reservations:
        print_table(["RESERVED", "PORT", head], [[r["name"], r["port"], urls(r["name"], r["url"])] for r in reservations])
    others = [port for port in ports if port["port"] not in {service["port"] for service in services}]
    shown = [port for port in others if options.all or port["allowed"]]
    links = [urls(str(port["port"]), port["url"]) if port["url"] else port["reason"] or port["scheme"] for port in shown]
    print_table(
        ["PORT", "PROCESS", "OWNER", "TITLE", f"{head}, OR WHY NOT" if options.all else head],
        [[p["port"], p["process"], p["owner"], p["label"] or p["title"], link] for p, link in zip(shown, links, strict=True)],
    )
    if len(shown) < len(others):
        print(f"Not shown, as they cannot be reached: {len(others) - len(shown)}. --all lists them with the reason.")


def _templates(client: ApiClient, options: Options) -> None:
    templates = client.call("GET", "templates")
    if options.json:
        return print_json(templates)
    arguments = [" ".join(f"{a['name']}={a['default']}" for a in t["arguments"]) for t in templates]
    rows = [[t["name"], a, t["title"] if t["available"] else t["hint"]] for t, a in zip(templates, arguments, strict=True)]
    print_table(["TEMPLATE", "ARGUMENTS", "TITLE, OR HOW TO INSTALL IT"], rows)


# ---- links ----


def _url(client: ApiClient, options: Options) -> None:
    best, *others = _links(client, options)
    print(best, flush=True)
    for other in others:  # a script reads standard output only
        print(f"{_PATH_BASED}{other}", file=sys.stderr)
    _explain_paths(client)


def _open(client: ApiClient, options: Options) -> None:
    url = _links(client, options)[0]
    if client.shows_paths:
        raise CliError(f"The address of your JupyterHub is not known here. Open this path below it: {url}")
    if not webbrowser.open(url):
        raise CliError(f"No browser could be opened. The address is {url}")


def _links(client: ApiClient, options: Options) -> list[str]:
    """Links to the port or service that the command names, the best first."""
    path = _path_of(client, options.target)
    if options.isolated or options.path:
        return [client.link(path if options.path else client.enter_url(options.target, path))]
    return client.links(options.target, path)


def _path_of(client: ApiClient, target: str) -> str:
    """The path-based URL of a port or service, without a host."""
    if not target.isdigit():
        return str(client.call("GET", _service_path(target))["url"])
    try:
        return urls.build_port_path(urlsplit(client.url).path, parse_port_argument(target))
    except argparse.ArgumentTypeError as error:
        raise CliError(f"{error}.") from None


def _print_links(client: ApiClient, text: str, target: str, url: str) -> None:
    best, *others = client.links(target, url)
    print("\n".join([f"{text}{best}", *(f"{_PATH_BASED}{other}" for other in others)]))
    _explain_paths(client)


def _explain_paths(client: ApiClient) -> None:
    if client.shows_paths:
        print(_PATHS_ONLY, file=sys.stderr)


# ---- services ----


def _service_path(name: str, action: str = "") -> str:
    return f"services/{quote(name, safe='')}{action}"


def _start(client: ApiClient, options: Options) -> None:
    arguments = {}
    for item in options.arguments:
        name, separator, value = item.partition("=")
        if not separator:
            raise CliError(f"{item!r} is not of the form NAME=VALUE.")
        arguments[name] = value
    arguments |= _absolute_paths(client, options.template, arguments)
    body = {"template": options.template, "arguments": arguments, **({"name": options.name} if options.name else {})}
    with client.open("POST", "services", body, no_timeout=True) as response:
        is_new, service = response.status == 201, json.load(response)
    _print_started(client, service, options, is_new=is_new)


def _absolute_paths(client: ApiClient, template: str, arguments: dict[str, str]) -> dict[str, str]:
    """The arguments that are paths, made absolute here: the server's working directory is another one."""
    templates: list[dict[str, Any]] = client.call("GET", "templates")
    paths = {a["name"] for t in templates if t["name"] == template for a in t["arguments"] if a["kind"] == "path"}
    return {name: str(Path(value).expanduser().absolute()) for name, value in arguments.items() if name in paths and value}


def _print_started(client: ApiClient, service: dict[str, Any], options: Options, *, is_new: bool = True) -> None:
    """Wait until the service is ready, unless --no-wait is given, and print its state and links."""
    while options.wait and service["state"] == "starting":
        time.sleep(0.2)
        service = client.call("GET", _service_path(service["name"]))
    if options.json:
        return print_json(service)
    if service["state"] == "failed":
        raise CliError("\n".join([f"{service['name']} failed: {service['error']}", *service["last_lines"]]))
    already = "" if is_new else f" already ({service['runs']})" if service["runs"] else " already"
    _print_links(client, f"{service['name']} is {service['state']}{already}: ", service["name"], service["url"])


def _restart(client: ApiClient, options: Options) -> None:
    service = client.call("POST", _service_path(options.name, "/restart"), {}, no_timeout=True)
    _print_started(client, service, options)


def _stop(client: ApiClient, options: Options) -> None:
    client.call("DELETE", _service_path(options.name), no_timeout=True)  # its template's `stop_timeout` may be long
    print(f"{options.name} is stopped.")


def _logs(client: ApiClient, options: Options) -> None:
    follow = "?follow=1" if options.follow else ""
    with client.open("GET", _service_path(options.name, f"/logs{follow}"), no_timeout=options.follow) as response:
        while data := response.read1(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _reserve(client: ApiClient, options: Options) -> None:
    """Print only the port to standard output: for `PORT=$(jupyter portproxy reserve NAME)`."""
    reservation = client.call("POST", "reservations", {"name": options.name, "seconds": options.seconds})
    if options.json:
        return print_json(reservation)
    print(reservation["port"])


# ---- ports that the user allows ----


def _allow(client: ApiClient, options: Options) -> None:
    allowed = client.call("PUT", "allowed-ports", {"port": options.port, "seconds": options.seconds})
    if options.json:
        return print_json(allowed)
    _print_links(
        client, f"Port {options.port} is allowed{_end(allowed)}: ", str(options.port), _path_of(client, str(options.port))
    )


def _disallow(client: ApiClient, options: Options) -> None:
    client.call("DELETE", f"allowed-ports/{options.port}")
    print(f"Port {options.port} is not allowed any more.")


def _allowed(client: ApiClient, options: Options) -> None:
    ports = client.call("GET", "allowed-ports")
    if options.json:
        return print_json(ports)
    print_table(["ALLOWED PORT", "UNTIL"], [[p["port"], _end(p).removeprefix(" until ")] for p in ports])


def _end(allowed: dict[str, Any]) -> str:
    return f" until {time.strftime('%Y-%m-%d %H:%M', time.localtime(allowed['until']))}" if allowed["until"] else ""


# ---- check ----


def _check(client: ApiClient, options: Options) -> int:
    listeners = [port for port in client.call("GET", f"ports?look={options.port}") if port["port"] == options.port]
    diagnose = partial(_diagnose_listeners, listeners=listeners) if listeners else _diagnose_unlisted
    problem, remedy = diagnose(client, options.port)
    if options.json:
        print_json({"port": options.port, "reachable": not problem, "problem": problem, "remedy": remedy})
    elif problem:
        print(f"{problem}\n{remedy}")
    else:
        unlisted = "is not in the list of listening ports (a rule of the packet filter may forward it), and answers HTTP"
        listed = "answers HTTP" if any(listener["http"] for listener in listeners) else "can be reached"
        target = str(options.port)
        _print_links(client, f"Port {target} {listed if listeners else unlisted}: ", target, _path_of(client, target))
    return 1 if problem else 0


def _diagnose_listeners(client: ApiClient, port: int, listeners: list[dict[str, Any]]) -> tuple[str, str]:
    """What is wrong with a port on which processes listen, and what to do; both empty if it can be reached."""
    reachable = [listener for listener in listeners if listener["allowed"]]
    if not reachable:
        remedy = _REMEDIES.get(listeners[0]["reason_code"])
        return listeners[0]["reason"], client.port_error(port).get("hint", "") if remedy is None else remedy
    # The server does not probe ports of root (docker's, for example), so nothing is known of them.
    if any(listener["http"] for listener in reachable) or not any(listener["mine"] for listener in reachable):
        return "", ""
    if all(listener["scheme"] == "tcp" for listener in reachable):
        return (
            f"By your rule, port {port} is tcp and not a web page.",
            "If it is a web page, change or remove the rule in the panel or on the page proxy/.",
        )
    return (
        f"Port {port} is listened on, but does not answer HTTP.",
        "Is it a web service? Does it expect https, or is it still starting? Ports in c.PortProxy.unprobed_ports are not probed.",
    )


def _diagnose_unlisted(client: ApiClient, port: int) -> tuple[str, str]:
    """The same for a port on which no process listens: the gateway's error shows whether it is forwarded, or not allowed."""
    problem = f"Nothing listens on port {port} of the server's machine."
    error = client.port_error(port)
    match error.get("code"):
        case None:
            return "", ""  # forwarded
        case "loop":
            return f"Port {port} is this Jupyter server's own.", "Name the port of a service."
        case "unreachable":
            return problem, f"Start the service, for example: python3 -m http.server {port}"
        case "forbidden":
            return f"{problem}\n{error['message'].rstrip('.')}.", error["hint"]
    return error["message"], error["hint"]


def _check_configuration(options: Options) -> int:
    from ..server_proxy.check import check, read_configuration  # they import Jupyter's server, which takes a second

    file = Path(options.config) if options.config is not None else None
    if file is not None and not file.is_file():
        raise CliError(f"There is no file {file}.")
    findings = check(read_configuration(file))
    attention = sum(finding.verdict != "works" for finding in findings)
    if options.json:
        print_json({"ready": not attention, "findings": [asdict(finding) for finding in findings]})
        return 1 if attention else 0
    for finding in findings:
        print(f"{finding.verdict:<9} {finding.option}{f'  ({finding.where})' if finding.where else ''}")
        if finding.verdict != "works":
            print(f"          {finding.says}")
            if finding.write:
                print(f"          -> {finding.write}")
    things = "1 thing needs" if attention == 1 else f"{attention} things need"
    print(f"\n{things} attention." if attention else "\nEverything works as it is.")
    return 1 if attention else 0


# ---- parser ----


def _parse(arguments: list[str], timeout: float) -> Options:
    """The options of a command line. What follows `--`, and positional arguments after an option, are added to `arguments`.

    argparse treats `--` differently in each version of Python, and counts positional arguments after an option as unknown.
    """
    parser = _parser()
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, unknown = parser.parse_known_args(arguments[:end], argparse.Namespace(timeout=timeout))
    more = [*unknown, *arguments[end + 1 :]]
    if more and (not hasattr(options, "arguments") or any(item.startswith("-") for item in unknown)):
        parser.error(f"unknown: {' '.join(more)}")
    if more:
        options.arguments = [*options.arguments, *more]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [-h] [--version] [--server URL] [COMMAND ...]",
        description="Web services beside your Jupyter server. Without a command: list them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("jupyter_portproxy"))
    parser.add_argument(
        "--server", metavar="URL", help="the Jupyter server; by default the only one that runs (see: jupyter server list)"
    )
    parser.set_defaults(run=partial(_overview, parser))
    commands = parser.add_subparsers(metavar="COMMAND", prog=_PROGRAM, help=argparse.SUPPRESS)  # the epilog lists them
    _add_lists_and_links(commands)
    _add_services(commands)
    _add_user_ports(commands)
    _add_check(commands)
    for_users = len(commands.choices)
    if find_spec("jupyter_portproxy.projects") is not None:  # an installation for one machine may leave that package out
        add_commands(commands)
        users.add_commands(commands)
    lines = [f"  {name:<12} {command.description}" for name, command in commands.choices.items()]
    if lines[for_users:]:
        lines[for_users:for_users] = ["\nFor the operators of hubs and project hosts:"]
    parser.epilog = "\n".join(["Commands:", *lines])
    return parser


def _add(
    commands: Commands,
    name: str,
    run: Callable[[ApiClient, Options], int | None],
    text: str,
    *arguments: str,
    as_json: bool = False,
) -> argparse.ArgumentParser:
    """Add a command that calls the server's API."""
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    for argument in arguments:
        command.add_argument(argument)
    command.set_defaults(run=lambda options: run(find_server(options.server, options.timeout), options))
    if as_json:
        command.add_argument("--json", action="store_true", help="print JSON")
    return command


def _add_lists_and_links(commands: Commands) -> None:
    listing = _add(commands, "list", _list, "List services and ports.", as_json=True)
    listing.add_argument("--all", action="store_true", help="also list ports that cannot be reached, with the reason")
    _add(commands, "templates", _templates, "List templates with the defaults of their arguments.", as_json=True)
    for name, run, verb in (("url", _url, "Print the URL of"), ("open", _open, "Open")):
        linking = _add(commands, name, run, f"{verb} a port or service.")
        linking.add_argument("target", metavar="PORT|NAME")
        which = linking.add_mutually_exclusive_group()
        which.add_argument("--isolated", action="store_true", help="only the isolated origin")
        which.add_argument("--path", action="store_true", help="only the path-based URL, which programs use")


def _add_services(commands: Commands) -> None:
    text = "Start a service from a template; other arguments start another service."
    starting = _add(commands, "start", _start, text, "template", as_json=True)
    starting.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="the template's arguments")
    starting.add_argument("--name", help="the service's name; by default the template's, or one made from its script or folder")
    restarting = _add(commands, "restart", _restart, "Stop a service and start it again.", "name", as_json=True)
    for command in (starting, restarting):
        command.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it is ready")
    _add(commands, "stop", _stop, "Stop a service and delete it.", "name")
    logs = _add(commands, "logs", _logs, "Print the output of a service.", "name")
    logs.add_argument("-f", "--follow", action="store_true", help="continue until the service ends")
    text = "Reserve a free allowed port for a name, and print it."
    reserving = _add(commands, "reserve", _reserve, text, "name", as_json=True)
    reserving.add_argument("--seconds", type=float, default=600, help="how long to wait for a listener (default: 600)")


def _add_user_ports(commands: Commands) -> None:
    allowing = _add(commands, "allow", _allow, "Allow a port outside the configured ones, for yourself.", as_json=True)
    allowing.add_argument(
        "--for", dest="seconds", type=parse_duration, metavar="TIME", help="until then, for example 30m, 8h or 7d"
    )
    disallowing = _add(commands, "disallow", _disallow, "Take back a port that you have allowed.")
    for command in (allowing, disallowing):
        command.add_argument("port", type=parse_port_argument)
    _add(commands, "allowed", _allowed, "List the ports that you have allowed.", as_json=True)


def _add_check(commands: Commands) -> None:
    """`check PORT` calls a server; `check --migrate` reads files and needs none."""
    checking = _add(commands, "check", _check, "Explain why a port cannot be reached.", as_json=True)
    check_port = checking.get_default("run")
    checking.set_defaults(run=lambda options: check_port(options) if options.port else _check_configuration(options))
    what = checking.add_mutually_exclusive_group(required=True)
    what.add_argument("port", type=parse_port_argument, nargs="?")
    what.add_argument("--migrate", action="store_true", help="check a configuration of jupyter-server-proxy instead")
    checking.add_argument("--config", metavar="FILE", help="with --migrate: read this file instead of Jupyter's")


if __name__ == "__main__":
    sys.exit(main())
