"""The server that a command calls, and the token that it gets.

1. `--server URL` of a server that runs here for this user: that one, with the token of its runtime file.
2. Any other `--server URL`. Its token is the first of: the one in the URL, JUPYTER_TOKEN, JUPYTERHUB_API_TOKEN, that of
   `jupyter portproxy login`.
3. Without `--server`: the only server that runs here, or the nearest; else the only one of `jupyter portproxy login`.

In a terminal or kernel of a Jupyter server, the two variables contain that server's credentials. There they are sent only to the
addresses that its own variables name, and under JupyterHub only to servers of its user: another user's server could keep them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import CliError
from ..protocol.credentials import SECRET_VARIABLE
from .credentials import LoginStore
from .output import PROGRAM
from .running_servers import nearest, running_servers
from .server_address import ServerAddress, is_same_server, parse_server_url

_TOKEN_VARIABLES = ("JUPYTER_TOKEN", "JUPYTERHUB_API_TOKEN")
_ADDRESS_VARIABLES = (  # of the server in which this process runs, and of its hub
    "JUPYTER_SERVER_URL",
    "JUPYTERHUB_API_URL",
    "JUPYTERHUB_HOST",
    "JUPYTERHUB_PUBLIC_HUB_URL",
    "JUPYTERHUB_PUBLIC_URL",
    "JUPYTERHUB_SERVICE_URL",
)
_INSIDE_VARIABLES = (*_ADDRESS_VARIABLES, "JPY_PARENT_PID", "JPY_SESSION_NAME", "JUPYTERHUB_SERVICE_PREFIX")


def choose_server(url: str | None, ca_file: str | None = None) -> ServerAddress:
    """The server with this URL; without one, of the only server that runs, of the nearest, or the one that is logged in to.

    Args:
        url: as people type or paste it.
        ca_file: of `--ca-file`; by default the one that was given at the login.

    Raises:
        CliError: there is no such server or no token for it, or several are equally near.
    """
    running, ignored = running_servers()
    if url is not None:
        wanted, token = parse_server_url(url)
        local = next((info for info in running if is_same_server(wanted, info["url"])), None)
        return remote_server(wanted, token, ca_file) if local is None else _local(local, ca_file)
    if len(running) > 1:
        running = nearest(running)
    if len(running) > 1:
        raise CliError("Several servers run; choose one with --server:\n" + "\n".join(info["url"] for info in running))
    if running:
        return _local(running[0], ca_file)
    kept = LoginStore().logins()
    if len(kept) > 1:
        raise CliError(
            "No Jupyter server of yours runs here, and there are several logins; choose one with --server:\n"
            + "\n".join(login.url for login in kept)
        )
    if kept:
        return remote_server(kept[0].url, LoginStore().token(kept[0]), ca_file)
    hint = f"Log in to a server elsewhere: {PROGRAM} login URL"
    raise CliError("\n".join(["No Jupyter server of yours runs here.", *ignored, hint]))


def remote_server(url: str, token: str = "", ca_file: str | None = None) -> ServerAddress:
    """The server at a base URL that `parse_server_url` has returned, with this token or the one that there is for it.

    Raises:
        CliError: there is no token.
    """
    server = ServerAddress(url, ca_file=os.path.abspath(ca_file) if ca_file else "")
    kept = next((login for login in LoginStore().logins() if is_same_server(url, login.url)), None)
    if kept is not None:
        server = ServerAddress(url, ca_file=server.ca_file or kept.ca_file)
    source = "the URL"
    if not token and (token := variable_token(server, os.environ)):
        source = f"the variable {next(name for name in _TOKEN_VARIABLES if os.environ.get(name, '').strip())}"
    if not token and kept:
        token, source = LoginStore().token(kept), ""
    if not token:
        withheld = next((name for name in _TOKEN_VARIABLES if os.environ.get(name)), None)
        reason = [f"{withheld} is that of the server in which this command runs, and is not sent to another."] if withheld else []
        raise CliError("\n".join([f"There is no token for {url}", *reason, f"Log in: {PROGRAM} login {url}"]))
    return ServerAddress(url, token, server.ca_file, token_source=source)


def variable_token(server: ServerAddress, variables: Mapping[str, str]) -> str:
    """The token that the environment has for a server; empty if there is none, or if it must not be sent there."""
    if any(variables.get(name) for name in _INSIDE_VARIABLES) and not _is_own(server, variables):
        return ""
    return next((token for name in _TOKEN_VARIABLES if (token := variables.get(name, "").strip())), "")


def _is_own(server: ServerAddress, variables: Mapping[str, str]) -> bool:
    """True for the server whose terminal or kernel this process is in, and for others of its user at the same hub."""
    own = {_origin(url) for name in _ADDRESS_VARIABLES if (url := variables.get(name))}
    prefix = variables.get("JUPYTERHUB_SERVICE_PREFIX", "")
    if name := variables.get("JUPYTERHUB_SERVER_NAME"):
        prefix = unquote(prefix).removesuffix(f"{name}/")
    return _origin(server.url) in own and unquote(server.base_path).startswith(unquote(prefix))


def _origin(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.scheme, parts.netloc.lower()


def _local(info: dict[str, Any], ca_file: str | None) -> ServerAddress:
    """Under JupyterHub a server's token is one of the hub's; a project's own server accepts the project's secret."""
    token = str(info.get("token") or "") or os.environ.get(SECRET_VARIABLE) or os.environ.get("JUPYTERHUB_API_TOKEN", "")
    return ServerAddress(str(info["url"]), token, ca_file or "", is_local=True, root_dir=str(info.get("root_dir", "")))
