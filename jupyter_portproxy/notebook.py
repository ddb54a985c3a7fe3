"""For notebooks: the URL of a port or service of this environment, an IFrame that shows it, and `attach` for a remote kernel.

The first two read environment variables and runtime files, and send no request to the server. `show` needs IPython.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .protocol import urls
from .protocol.origin_hosts import FRAME_FEATURES
from .services.link_variables import port_template
from .services.template_keys import NAME

if TYPE_CHECKING:
    from IPython.display import IFrame

    from .attachment.background import Attachment


def url_for(target: int | str, path: str = "", *, isolated: bool = False) -> str:
    """The URL path at which this Jupyter server serves a port, or a service by its name.

    Args:
        target: a port from 1 to 65535, or the name of a service.
        path: the rest of the path, for example "index.html?a=1".
        isolated: for pages, the URL that leads to the isolated origin (`proxy/enter/8050/`); where there is none, that URL
            redirects to the path-based one.

    Returns:
        A path below this server's base URL (under JupyterHub that of this user's server), such as
        `/user/ada/proxy/port/8050/`. In a page of the same origin it is a complete link. Where the environment has
        JUPYTER_PORTPROXY_URL, that is the form of the link, also if it is an absolute URL.

    Raises:
        BadRoute: the port is not valid.
        ValueError: the target is neither a port nor a valid name.
    """
    if isinstance(target, int) or target.isdigit():
        port = urls.parse_port(str(target))
        if not isolated:
            template = port_template(os.environ) or urls.build_port_path(_base_url(), "{port}")
            return template.replace("{port}", str(port)) + path.lstrip("/")
        target = str(port)
    if not NAME.match(target):
        raise ValueError(f"{target!r} is neither a port nor the name of a service")
    prefix = f"{_base_url()}proxy/enter/{target}" if isolated else urls.build_service_path(_base_url(), target)
    return f"{prefix}/{path.lstrip('/')}"


def show(target: int | str, path: str = "", *, width: str = "100%", height: int = 500, isolated: bool = False) -> IFrame:
    """An IFrame in the notebook's output with the page of a port or service. `height` is in pixels; `isolated`: see `url_for`.

    At an isolated origin the page may use what the notebook's page may (clipboard, full screen, camera ...), also where its links
    lead: the host name of that origin is not in the environment.
    """
    from IPython.display import IFrame

    allow = "; ".join(f"{feature} *" for feature in FRAME_FEATURES)
    return IFrame(url_for(target, path, isolated=isolated), width, height, [f'allow="{allow}"'] if isolated else None)


def attach(
    *ports: int,
    server: str,
    name: str = "",
    token: str = "",
    ca_file: str | None = None,
    any_owner: bool = False,
    timeout: float = 30.0,
) -> Attachment:
    """Attach ports of the machine where this kernel runs to a Jupyter server elsewhere, as `jupyter portproxy attach` does.

    It runs in a thread of its own, beside an event loop that runs already.

    Args:
        ports: on which programs of this user listen here, or will.
        server: the server's URL, as the browser shows it.
        name: of the services, before `-PORT`; by default this machine's.
        token: of `jupyter portproxy attach-token`; by default that in the environment variable PORTPROXY_ATTACH_TOKEN.
        ca_file: a PEM file with the certificates that are trusted in place of the system's.
        any_owner: also attach ports of other users of this machine.
        timeout: seconds for the first attempt; a server that does not answer in time is dialled again.

    Returns:
        an object with the addresses in `urls`, and `close()`.

    Raises:
        CliError: nothing can be attached there; the text says why.
    """
    import socket

    from .attachment.agent import AttachedPorts
    from .attachment.background import Attachment
    from .attachment.local_ports import LocalPorts
    from .cli import attach as command
    from .protocol.attach_messages import clean_host

    access = command.attach_access(server, token or os.environ.get(command.TOKEN_VARIABLE, "").strip(), ca_file)
    host = clean_host(socket.gethostname())
    checked = [urls.parse_port(str(port)) for port in ports]
    offer = AttachedPorts(command.check_name(name or host), host, checked, LocalPorts(host, any_owner=any_owner))
    return Attachment(access, offer, name or host, timeout)


def _base_url() -> str:
    """The base URL of the server that started this process, as its environment has it, else of a running server."""
    base_url, is_usual, _ = port_template(os.environ).partition(urls.build_port_path("", "{port}"))
    if is_usual:
        return base_url
    return os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or os.environ.get("JUPYTER_BASE_URL") or _running_base_url()


def _running_base_url() -> str:
    """The base URL of the server that started this kernel, else of the first that runs for this user, else `/`."""
    from .cli.running_servers import running_servers

    servers = running_servers()[0]
    parents = [server for server in servers if str(server.get("pid")) == os.environ.get("JPY_PARENT_PID")]
    return str((parents or servers or [{"base_url": "/"}])[0]["base_url"])
