"""`jupyter portproxy check`: why a port cannot be reached, why its page is broken, or what an old configuration needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CliError
from .api_command import add_api_command
from .check_page import check_page, run_check
from .links import forward_command, path_of, print_links
from .output import PROGRAM, Commands, Options, parse_name, parse_port_operand, print_json, printable

if TYPE_CHECKING:
    from .api_client import ApiClient

_REMEDIES = {  # by the `reason_code` of a port in the API
    "not_on_localhost": "Let the service listen on 127.0.0.1 or 0.0.0.0.",
    "other_user": "Start your service on another port.",
}


def add_commands(commands: Commands) -> None:
    """Add the command to the command line. `check PORT` calls a server; `check --migrate` reads files and needs none."""
    text = "Explain why a port cannot be reached, or with --page why its page is broken."
    checking = add_api_command(commands, "check", _check, text, as_json=True)
    call_server = checking.get_default("run")
    checking.set_defaults(run=partial(_run, call_server))
    what = checking.add_mutually_exclusive_group(required=True)
    what.add_argument("target", metavar="PORT|NAME", nargs="?", type=parse_name)
    what.add_argument("--migrate", action="store_true", help="check a configuration of jupyter-server-proxy instead")
    text = "look at the page as a browser would, and say what is wrong with it; exit code 1 with findings, 2 if it cannot be seen"
    checking.add_argument("--page", action="store_true", help=text)
    checking.add_argument("--path", metavar="PATH", help="with --page: the path of the page at the service, by default /")
    checking.add_argument("--config", metavar="FILE", help="with --migrate: read this file instead of Jupyter's")


def _run(call_server: Callable[[Options], int], options: Options) -> int:
    if not options.target:
        return _check_configuration(options)
    if options.page:
        return run_check(call_server, options)
    if options.path:
        raise CliError("--path names a page.\nAdd --page.")
    return call_server(options)


def _check(client: ApiClient, options: Options) -> int:
    if options.page:
        return check_page(client, options)
    try:
        port = parse_port_operand(options.target)
    except CliError as error:
        raise CliError(f"{error}\nOf a service its page is checked: {PROGRAM} check NAME --page") from None
    return _check_port(client, port, options)


def _check_port(client: ApiClient, number: int, options: Options) -> int:
    listeners = [port for port in client.call("GET", f"ports?look={number}") if port["port"] == number]
    diagnose = partial(_diagnose_listeners, listeners=listeners) if listeners else _diagnose_unlisted
    problem, remedy = diagnose(client, number)
    if options.json:
        print_json({"port": number, "reachable": not problem, "problem": problem, "remedy": remedy})
    elif problem:
        print(printable(f"{problem}\n{remedy}"))
    else:
        unlisted = "is not in the list of listening ports (a rule of the packet filter may forward it), and answers HTTP"
        listed = "answers HTTP" if any(listener["http"] for listener in listeners) else "can be reached"
        target = str(number)
        print_links(client, f"Port {target} {listed if listeners else unlisted}: ", target, path_of(client, target))
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
            f"Reach it with: {forward_command(str(port))}\n"
            "If it is a web page, change or remove the rule in the panel or on the page proxy/.",
        )
    if all(listener["tcp"] for listener in reachable):
        return (
            f"Port {port} speaks no HTTP.",
            f"Reach it with: {forward_command(str(port))}\n"
            "If it speaks https, set that in a rule in the panel or on the page proxy/.",
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
            return problem, f"Start the service, for example: python3 -m http.server --bind 127.0.0.1 {port}"
        case "forbidden":
            return f"{problem}\n{error['message'].rstrip('.')}.", error["hint"]
    return error["message"], error["hint"]


def _check_configuration(options: Options) -> int:
    from dataclasses import asdict

    if find_spec("jupyter_portproxy.server_proxy") is None:
        raise CliError("A configuration is checked where the server runs.\nInstall jupyter_portproxy there.")
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
