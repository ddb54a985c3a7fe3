"""The environment variables from which programs in kernels and terminals make links that lead through this server.

`JUPYTER_PORTPROXY_URL` is the template: the URL of a port, with `{port}` in the place of the port. The others have the same URL
in the form that their reader expects; docs/services.md lists the readers.

Kernels and terminals inherit the variables from the server's process, which is why the first of two servers in one process sets
them. A variable that is set already is left as it is. A server that was started in a terminal of another one inherits that
server's variables and replaces them: `JUPYTER_PORTPROXY_VARIABLES` has their names, after the pid of the process that set them.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from urllib.parse import unquote

from ..protocol import urls

TEMPLATE_VARIABLE = "JUPYTER_PORTPROXY_URL"
_NAMES_VARIABLE = "JUPYTER_PORTPROXY_VARIABLES"
_PORT = "{port}"
_URL = re.compile(r"(?P<origin>https?://[^/?#]+)(?P<path>/[^?#]*)")
_LINK_KEY = re.compile(r"""^[^#\n]*\blink["']?\s*:""", re.MULTILINE)
_MAX_FILE_SIZE = 1 << 20  # bytes


class LinkVariables:
    """Sets the variables in an environment, and removes them again.

    Args:
        base_url: the Jupyter server's.
        public_urls: addresses of this server in browsers. If one has this base URL, links for terminals are absolute.
        any_port: whether ports that programs choose at random are reachable.
    """

    def __init__(
        self,
        base_url: str,
        public_urls: Iterable[str] = (),
        *,
        any_port: bool = False,
        environment: MutableMapping[str, str] | None = None,
    ) -> None:
        # For `str.format`, braces would be placeholders. Browsers encode them, too.
        self._base_url = base_url.replace("{", "%7B").replace("}", "%7D")
        self._origin = _find_origin(public_urls, base_url)
        self._any_port = any_port
        self._environment = os.environ if environment is None else environment
        self._set: dict[str, str] = {}

    def set(self) -> None:
        """Set those variables that are not set."""
        environment = self._environment
        owner, *inherited = environment.get(_NAMES_VARIABLE, "").split() or [""]
        if owner != str(os.getpid()):
            for name in [_NAMES_VARIABLE, *inherited]:
                environment.pop(name, None)
        own = urls.build_port_path(self._base_url, _PORT)
        template = environment.get(TEMPLATE_VARIABLE, own)
        links = {TEMPLATE_VARIABLE: own, **self._links(template if _PORT in template else own)}
        self._set = {name: value for name, value in links.items() if name not in environment}
        if self._set and _NAMES_VARIABLE not in environment:
            self._set[_NAMES_VARIABLE] = " ".join([str(os.getpid()), *self._set])
        environment.update(self._set)

    def remove(self) -> None:
        """Remove what was set, except for variables that were changed since."""
        for name, value in self._set.items():
            if self._environment.get(name) == value:
                del self._environment[name]
        self._set = {}

    def _links(self, template: str) -> dict[str, str]:
        origin = self._origin if template.startswith("/") else ""
        links = {
            "VSCODE_PROXY_URI": origin + template.replace(_PORT, "{{port}}"),
            "TENSORBOARD_PROXY_URL": template.replace(_PORT, "%PORT%"),
            "JPY_BASE_URL": self._base_url,
        }
        if not _dask_has_link(self._environment):
            links["DASK_DISTRIBUTED__DASHBOARD__LINK"] = template + "status"
        # Without these, their readers make links that work on the user's own machine. Where each port must be allowed first, the
        # proxied links would be worse: the ports are others each time, and pictures have no error page.
        if self._any_port:
            links["LOCALTILESERVER_CLIENT_PREFIX"] = template.rstrip("/")
        if self._any_port and template.endswith(f"{_PORT}/"):
            links["LARGE_IMAGE_JUPYTER_PROXY"] = template.removesuffix(f"{_PORT}/")
            if "JUPYTERHUB_SERVICE_PREFIX" not in self._environment:  # to which PyVista would add the value
                links["PYVISTA_TRAME_SERVER_PROXY_PREFIX"] = links["LARGE_IMAGE_JUPYTER_PROXY"]
        return links


def remove_link_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment without the variables that a server with this extension has set in it."""
    _, *names = variables.get(_NAMES_VARIABLE, "").split() or [""]
    return {name: value for name, value in variables.items() if name not in (_NAMES_VARIABLE, *names)}


def port_template(environment: Mapping[str, str]) -> str:
    """The template of links to ports; empty if there is none."""
    template = environment.get(TEMPLATE_VARIABLE, "")
    return template if _PORT in template else ""


def _find_origin(public_urls: Iterable[str], base_url: str) -> str:
    """`https://hub.example.org`, of the first of the URLs that has this base URL; empty if none has it."""
    for parts in filter(None, map(_URL.fullmatch, public_urls)):
        if unquote(parts["path"]) == unquote(base_url):
            return parts["origin"]
    return ""


def _dask_has_link(environment: Mapping[str, str]) -> bool:
    """True if a file that configures Dask has a key `link`: Dask prefers an environment variable to its files."""
    for file in _dask_files(environment):
        try:
            with open(file, encoding="utf-8", errors="replace") as opened:
                if _LINK_KEY.search(opened.read(_MAX_FILE_SIZE)):
                    return True
        except OSError:
            continue
    return False


def _dask_files(environment: Mapping[str, str]) -> Iterator[str]:
    """The files below `dask.config.paths`, for this Python's prefix."""
    user = os.path.join(os.path.expanduser("~"), ".config", "dask")
    paths = [environment.get("DASK_ROOT_CONFIG", "/etc/dask"), os.path.join(sys.prefix, "etc", "dask"), user]
    for path in (*paths, environment.get("DASK_CONFIG", "")):
        yield from filter(os.path.isfile, [path, *glob.iglob(os.path.join(glob.escape(path), "*.[jy]*"))])
