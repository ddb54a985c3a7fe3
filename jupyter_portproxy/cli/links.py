"""`jupyter portproxy url` and `open`, and the links that other commands print."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from ..errors import CliError
from .api_command import add_api_command
from .output import PROGRAM, Commands, Options, parse_name, parse_port_operand

if TYPE_CHECKING:
    from .api_client import ApiClient

_PATH_BASED = "Path-based URL, for programs too: "
_PATHS_ONLY = (
    "These are paths below your JupyterHub's address, which is not configured. "
    "Its administrator can set c.JupyterHub.public_url in jupyterhub_config.py."
)


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    for name, run, verb in (("url", _url, "Print the URL of"), ("open", _open, "Open")):
        linking = add_api_command(commands, name, run, f"{verb} a port or service.")
        linking.add_argument("target", metavar="PORT|NAME", type=parse_name)
        which = linking.add_mutually_exclusive_group()
        which.add_argument("--isolated", action="store_true", help="only the isolated origin")
        which.add_argument("--path", action="store_true", help="only the path-based URL, which programs use")


def service_path(name: str, action: str = "") -> str:
    """The path of a service in the API. `action` is what follows, for example `/restart`."""
    return f"services/{quote(name, safe='')}{action}"


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
    import webbrowser

    if not webbrowser.open(url):
        raise CliError(f"No browser could be opened. The address is {url}")


def _links(client: ApiClient, options: Options) -> list[str]:
    """Links to the port or service that the command names, the best first."""
    path = path_of(client, options.target)
    if options.isolated or options.path:
        return [client.link(path if options.path else client.enter_url(options.target, path))]
    return client.links(options.target, path)


def path_of(client: ApiClient, target: str) -> str:
    """The path-based URL of a port or service, without a host."""
    if not target.isdigit():
        service = client.call("GET", service_path(target))
        if service["url"] is None:
            if service["scheme"] == "none":
                raise CliError(f"The service '{target}' listens nowhere, so that it has no URL. Its log: {PROGRAM} logs {target}")
            reach = forward_command(target)
            raise CliError(f"The service '{target}' speaks no HTTP, so that it has no URL. Reach it with: {reach}")
        return str(service["url"])
    from ..protocol import urls

    return urls.build_port_path(urlsplit(client.url).path, parse_port_operand(target))


def forward_command(target: str) -> str:
    """The command by which programs reach a port or service."""
    return f"{PROGRAM} forward {target}"


def print_links(client: ApiClient, text: str, target: str, url: str | None) -> None:
    """Print a text and the links to a target; for one without HTTP (None) the command that reaches it."""
    if url is None:
        print(f"{text}{forward_command(target)}")
        return
    best, *others = client.links(target, url)
    print("\n".join([f"{text}{best}", *(f"{_PATH_BASED}{other}" for other in others)]))
    _explain_paths(client)


def _explain_paths(client: ApiClient) -> None:
    if client.shows_paths:
        print(_PATHS_ONLY, file=sys.stderr)
