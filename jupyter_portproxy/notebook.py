"""For notebooks: the URL of a port or service of this environment, and an IFrame that shows it.

Rule of this file: it works from the environment alone, without asking the server, and needs IPython for `show` only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .protocol import urls
from .services.templates import NAME

if TYPE_CHECKING:
    from IPython.display import IFrame

# What browsers deny to frames of another origin unless it is delegated to them.
_FEATURES = (
    "accelerometer autoplay bluetooth camera clipboard-read clipboard-write cross-origin-isolated display-capture encrypted-media"
    " fullscreen gamepad geolocation gyroscope hid idle-detection keyboard-map local-fonts microphone midi payment"
    " picture-in-picture publickey-credentials-create publickey-credentials-get screen-wake-lock serial storage-access usb"
    " web-share window-management xr-spatial-tracking"
)


def url_for(target: int | str, path: str = "", *, isolated: bool = False) -> str:
    """The URL path at which this Jupyter server serves a port, or a service by its name.

    Args:
        target: a port from 1 to 65535, or the name of a service.
        path: what follows, for example "index.html?a=1".
        isolated: the way to an origin of its own (`proxy/enter/8050/`), for pages; where there is none, it leads to the other.

    Returns:
        A path below this server's base URL (under JupyterHub that of this user's server), such as
        `/user/ada/proxy/port/8050/`. In a page of the same origin it is a complete link.

    Raises:
        BadRoute: the target is no port.
        ValueError: the target is no name either.
    """
    base_url = os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or os.environ.get("JUPYTER_BASE_URL") or _running_base_url()
    if isinstance(target, int) or target.isdigit():
        form = "enter" if isolated else "port"
        return f"{base_url}proxy/{form}/{urls.parse_port(str(target))}/{path.lstrip('/')}"
    if not NAME.match(target):
        raise ValueError(f"{target!r} is neither a port nor the name of a service")
    prefix = f"{base_url}proxy/enter/{target}" if isolated else urls.build_service_path(base_url, target)
    return f"{prefix}/{path.lstrip('/')}"


def show(target: int | str, path: str = "", *, width: str = "100%", height: int = 500, isolated: bool = False) -> IFrame:
    """An IFrame in the notebook's output with the page of a port or service. `height` is in pixels; `isolated`: see `url_for`.

    At an isolated origin the page may use what the notebook's page may (clipboard, full screen, camera ...), wherever its links
    lead: the environment does not tell the name of that origin.
    """
    from IPython.display import IFrame

    allow = "; ".join(f"{feature} *" for feature in _FEATURES.split())
    return IFrame(url_for(target, path, isolated=isolated), width, height, [f'allow="{allow}"'] if isolated else None)


def _running_base_url() -> str:
    """The base URL of the server that started this kernel, else of the first that runs for this user, else `/`."""
    from .cli.running_servers import running_servers

    servers = running_servers()[0]
    parent = os.environ.get("JPY_PARENT_PID")
    mine = [server for server in servers if str(server.get("pid")) == parent]
    return str((mine or servers or [{"base_url": "/"}])[0]["base_url"])
