"""`jupyter portproxy ...`: lists, starts, stops and explains, by asking the running server's API.

Rule of this file: tables for people, `--json` for programs; an error is one sentence on standard error and exit code 1.
What an operator does without a server is in `operate`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import webbrowser
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ..errors import CliError
from .api_client import Server, find
from .output import port_number, print_json, table
from .projects import add_commands

_PROJECTS = "jupyter_portproxy.projects"
_PROGRAM = "jupyter portproxy"
_SECOND = "Path-based URL, for programs too: "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    own, behind = _halves(sys.argv[1:] if arguments is None else arguments)
    options, rest = parser.parse_known_args(own)
    if (rest or behind) and (not hasattr(options, "arguments") or any(item.startswith("-") for item in rest)):
        parser.error(f"unknown: {' '.join([*rest, *behind])}")
    if rest or behind:
        options.arguments = [*options.arguments, *rest, *behind]  # argparse takes those behind an option for strangers
    try:
        return int(options.run(options) or 0)
    except CliError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


# ---- commands ----


def _list(server: Server, options: argparse.Namespace) -> None:
    services, ports, reserved = (server.ask("GET", what) for what in ("services", "ports", "reservations"))
    if options.json:
        return print_json({"services": services, "ports": ports, "reservations": reserved})
    url = "URL (AND THE PATH-BASED ONE)" if server.has_origins() else "URL"

    def both(target: str, path: str) -> str:
        return f"{server.enter_url(target, path)} ({path})" if url != "URL" else path

    table(
        ["SERVICE", "STATE", "PORT", "RUNS", url],
        [[s["name"], s["state"], s["port"] or "-", s["runs"][-40:] or "-", both(s["name"], s["url"])] for s in services],
    )
    if reserved:
        table(["RESERVED", "PORT", url], [[r["name"], r["port"], both(r["name"], r["url"])] for r in reserved])
    in_services = {service["port"] for service in services}
    others = [port for port in ports if port["port"] not in in_services]
    shown = others if options.all else [port for port in others if port["allowed"]]
    ways = [both(str(p["port"]), p["url"]) if p["url"] else p["reason"] for p in shown]
    rows = [
        [p["port"], p["process"] or "-", p["owner"] or "-", p["title"] or "-", way] for p, way in zip(shown, ways, strict=True)
    ]
    table(["PORT", "PROCESS", "OWNER", "TITLE", url if not options.all else f"{url}, OR WHY NOT"], rows)
    if len(shown) < len(others):
        print(f"Not shown, as they cannot be reached: {len(others) - len(shown)}. --all lists them with the reason.")


def _templates(server: Server, options: argparse.Namespace) -> None:
    templates = server.ask("GET", "templates")
    if options.json:
        return print_json(templates)
    rows = [
        [
            t["name"],
            " ".join(f"{a['name']}={a['default']}" for a in t["arguments"]) or "-",
            t["title"] if t["available"] else t["hint"],
        ]
        for t in templates
    ]
    table(["TEMPLATE", "ARGUMENTS", "TITLE, OR HOW TO INSTALL IT"], rows)


def _url(server: Server, options: argparse.Namespace) -> None:
    best, *others = _addresses_of(server, options)
    print(best, flush=True)
    for other in others:  # apart from what a script reads
        print(f"{_SECOND}{other}", file=sys.stderr)
    _explain_paths(server)


def _open(server: Server, options: argparse.Namespace) -> None:
    url = _addresses_of(server, options)[0]
    if server.shows_paths:
        raise CliError(f"The address of your JupyterHub is not known here. Open this path below it: {url}")
    if not webbrowser.open(url):
        raise CliError(f"No browser could be opened. The address is {url}")


def _start(server: Server, options: argparse.Namespace) -> None:
    arguments = {}
    for item in options.arguments:
        name, mark, value = item.partition("=")
        if not mark:
            raise CliError(f"{item!r} is not of the form NAME=VALUE.")
        arguments[name] = value
    arguments |= _from_here(server, options.template, arguments)
    body = {"template": options.template, "arguments": arguments, **({"name": options.name} if options.name else {})}
    with server.open("POST", "services", body, patient=True) as answer:
        ran_already, service = answer.status == 200, json.load(answer)
    _tell_start(server, service, options, ran_already=ran_already)


def _tell_start(server: Server, service: dict[str, Any], options: argparse.Namespace, *, ran_already: bool = False) -> None:
    while options.wait and service["state"] == "starting":
        time.sleep(0.2)
        service = server.ask("GET", f"services/{quote(service['name'], safe='')}")
    if options.json:
        return print_json(service)
    if service["state"] == "failed":
        raise CliError("\n".join([f"{service['name']} failed: {service['error']}", *service["last_lines"]]))
    told = f" already ({service['runs']})" if ran_already and service["runs"] else " already" if ran_already else ""
    _print_addresses(server, f"{service['name']} is {service['state']}{told}: ", service["name"], service["url"])


def _restart(server: Server, options: argparse.Namespace) -> None:
    _tell_start(server, server.ask("POST", f"services/{quote(options.name, safe='')}/restart", {}, patient=True), options)


def _from_here(server: Server, template: str, arguments: dict[str, str]) -> dict[str, str]:
    """The paths among the arguments, counted from the folder in which this command runs; the server's is another one."""
    known: list[dict[str, Any]] = next(
        (each["arguments"] for each in server.ask("GET", "templates") if each["name"] == template), []
    )
    paths = [argument["name"] for argument in known if argument["kind"] == "path"]
    return {name: str(Path(value).expanduser().absolute()) for name, value in arguments.items() if name in paths and value}


def _stop(server: Server, options: argparse.Namespace) -> None:
    """Without a limit: a service may take its template's `stop_timeout`."""
    server.ask("DELETE", f"services/{quote(options.name, safe='')}", patient=True)
    print(f"{options.name} is stopped.")


def _logs(server: Server, options: argparse.Namespace) -> None:
    follow = "?follow=1" if options.follow else ""
    with server.open("GET", f"services/{quote(options.name, safe='')}/logs{follow}", patient=options.follow) as answer:
        while data := answer.read1(65536):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _reserve(server: Server, options: argparse.Namespace) -> None:
    """The port alone on standard output: for `PORT=$(jupyter portproxy reserve NAME)`."""
    reservation = server.ask("POST", "reservations", {"name": options.name, "seconds": options.seconds})
    if options.json:
        return print_json(reservation)
    print(reservation["port"])


def _check(server: Server, options: argparse.Namespace) -> int:
    """Explain whether a port can be reached, and if not what to do."""
    ports = [port for port in server.ask("GET", f"ports?look={options.port}") if port["port"] == options.port]
    problem, remedy = _diagnose(server, options.port, ports) if ports else _unlisted(server, options.port)
    if options.json:
        print_json({"port": options.port, "reachable": not problem, "problem": problem, "remedy": remedy})
    elif problem:
        print(f"{problem}\n{remedy}")
    else:
        found = "answers HTTP" if any(port["http"] for port in ports) else "can be reached"
        found = (
            found
            if ports
            else "is not in the list of listening ports (a rule of the packet filter may forward it), and answers HTTP"
        )
        target = str(options.port)
        _print_addresses(server, f"Port {target} {found}: ", target, _path_of(server, target))
    return 1 if problem else 0


def _migrate(options: argparse.Namespace) -> int:
    from ..server_proxy import check  # it imports Jupyter's server, which takes a second

    return check.report(check.findings(check.read(options.config)), as_json=options.json)


def _unlisted(server: Server, port: int) -> tuple[str, str]:
    """No process listens: whether the port can be reached all the same, or once something listens, only the gateway can tell."""
    problem = f"Nothing listens on port {port} of the server's machine."
    failure = server.failure(port)
    match failure.get("code"):
        case None:
            return "", ""  # forwarded
        case "loop":
            return f"Port {port} is this Jupyter server's own.", "Name the port of a service."
        case "unreachable":
            return problem, f"Start the service, for example: python3 -m http.server {port}"
        case "forbidden":
            return f"{problem}\n{failure['message'].rstrip('.')}.", failure["hint"]
    return failure["message"], failure["hint"]


def _diagnose(server: Server, port: int, found: list[dict[str, Any]]) -> tuple[str, str]:
    reached = [listener for listener in found if listener["allowed"]]
    if not reached:
        reason = found[0]["reason"]
        if "outside allowed range" in reason:
            return reason, server.failure(port).get("hint", "")
        if "another user" in reason:
            return reason, "Start your service on another port."
        return reason, "Let the service listen on 127.0.0.1 or 0.0.0.0."
    if not any(listener["http"] for listener in reached):
        if not any(listener["mine"] for listener in reached):
            return "", ""  # root's (docker's, for one): those are not asked
        return (
            f"Port {port} is listened on, but does not answer HTTP.",
            "Is it a web service? Does it expect https, or is it still starting? c.PortProxy.unprobed_ports are not asked.",
        )
    return "", ""


def _overview(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Without a command: the server that commands ask, what is there, and the commands."""
    try:
        server = find(options.server)
        print(f"Jupyter server: {server.url}\n")
        _list(server, argparse.Namespace(json=False, all=False))
    except CliError as error:
        print(f"{error}\n")
    print(parser.epilog)


# ---- help ----


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [-h] [--version] [--server URL] [COMMAND ...]",
        description="Web services beside your Jupyter server. Without a command: what is there.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version("jupyter_portproxy"))
    parser.add_argument(
        "--server", metavar="URL", help="the server to ask; by default the only one that runs (jupyter server list)"
    )
    parser.set_defaults(run=partial(_overview, parser))
    commands = parser.add_subparsers(metavar="COMMAND", prog=_PROGRAM, help=argparse.SUPPRESS)  # listed in groups, below

    def command(name: str, run: Any, text: str, *, as_json: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=lambda options: run(find(options.server), options))
        if as_json:
            added.add_argument("--json", action="store_true", help="print JSON")
        return added

    listing = command("list", _list, "List services and ports.", as_json=True)
    listing.add_argument("--all", action="store_true", help="also list ports that cannot be reached, with the reason")
    command("templates", _templates, "List what can be started, with the arguments' defaults.", as_json=True)
    for name, run, text in (("url", _url, "Print the URL of a port or service."), ("open", _open, "Open a port or service.")):
        opening = command(name, run, text)
        opening.add_argument("target", metavar="PORT|NAME")
        which = opening.add_mutually_exclusive_group()
        which.add_argument("--isolated", action="store_true", help="the isolated origin alone")
        which.add_argument("--path", action="store_true", help="the path-based URL alone, which programs use")
    starting = command("start", _start, "Start a service from a template; with other arguments it is another one.", as_json=True)
    starting.add_argument("template")
    starting.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="the template's arguments")
    starting.add_argument("--name", help="the service's name; by default the template's, or one made of its script or folder")
    restarting = command("restart", _restart, "Stop a service and start it again.", as_json=True)
    restarting.add_argument("name")
    for added in (starting, restarting):
        added.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until it is up")
    command("stop", _stop, "Stop a service and forget it.").add_argument("name")
    logs = command("logs", _logs, "Print what a service has printed.")
    logs.add_argument("name")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until it ends")
    reserving = command("reserve", _reserve, "Lend a free allowed port to a name, and print it.", as_json=True)
    reserving.add_argument("name")
    reserving.add_argument("--seconds", type=float, default=600, help="how long to wait for a listener (default: 600)")
    _add_check(command("check", _check, "Explain why a port cannot be reached.", as_json=True))
    own = list(commands.choices)
    groups = [("Commands:", own)]
    if find_spec(_PROJECTS) is not None:  # an installation for one machine may leave that package out
        add_commands(commands)
        groups.append(("For the operators of hubs and project hosts:", [name for name in commands.choices if name not in own]))
    parser.epilog = "\n\n".join("\n".join([title, *(_line(commands.choices[name]) for name in names)]) for title, names in groups)
    return parser


def _line(command: argparse.ArgumentParser) -> str:
    return f"  {command.prog.rpartition(' ')[2]:<12} {command.description}"


def _add_check(checking: argparse.ArgumentParser) -> None:
    """`check PORT` asks a server; `check --migrate` reads files, and needs none."""
    ask = checking.get_default("run")
    checking.set_defaults(run=lambda options: ask(options) if options.port else _migrate(options))
    what = checking.add_mutually_exclusive_group(required=True)
    what.add_argument("port", type=port_number, nargs="?")
    what.add_argument("--migrate", action="store_true", help="tell what becomes of a configuration of jupyter-server-proxy")
    checking.add_argument("--config", metavar="FILE", help="with --migrate: read this file instead of Jupyter's")


def _halves(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What stands before and behind `--`, which argparse reads in another way in each version of Python."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


# ---- helpers ----


def _explain_paths(server: Server) -> None:
    """Say below which address the paths are that stand for links."""
    if server.shows_paths:
        print(
            "These are paths below your JupyterHub's address, which is not configured. "
            "Its administrator can set c.JupyterHub.public_url in jupyterhub_config.py.",
            file=sys.stderr,
        )


def _addresses_of(server: Server, options: argparse.Namespace) -> list[str]:
    path = _path_of(server, options.target)
    if options.isolated or options.path:
        return [server.link(path if options.path else server.enter_url(options.target, path))]
    return server.addresses(options.target, path)


def _print_addresses(server: Server, text: str, target: str, url: str) -> None:
    best, *others = server.addresses(target, url)
    print("\n".join([f"{text}{best}", *(f"{_SECOND}{other}" for other in others)]))
    _explain_paths(server)


def _path_of(server: Server, target: str) -> str:
    if target.isdigit():
        return f"{urlsplit(server.url).path}proxy/port/{_checked_port(target)}/"
    return str(server.ask("GET", f"services/{quote(target, safe='')}")["url"])


def _checked_port(text: str) -> int:
    try:
        return port_number(text)
    except argparse.ArgumentTypeError as error:
        raise CliError(f"{error}.") from None


if __name__ == "__main__":
    sys.exit(main())
