"""The settings: the traits of `c.PortProxy`, each with its help, and the validation of their values.

A value that cannot work is refused with a TraitError that names it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import partial
from string import Formatter
from typing import Any
from urllib.parse import urlsplit

import traitlets
from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, Unicode, Union
from traitlets.config import LoggingConfigurable

from .protocol import urls
from .protocol.origin_hosts import OriginHosts
from .system.tls import check_bundle

_SANDBOX = ("allow-downloads", "allow-forms", "allow-modals", "allow-popups", "allow-scripts")
# Without `allow-same-origin`, which would undo the sandbox, and without what lets a page navigate its window.
_SANDBOX_TOKENS = frozenset([*_SANDBOX, "allow-orientation-lock", "allow-pointer-lock", "allow-presentation"])
_EMBEDDER = re.compile(r"https?://(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*(:[0-9]{1,5})?\Z", re.ASCII)
_YEAR = 86400 * 365  # s
OWN_PORTS = "own"  # in `allowed_ports`
AS_ALLOWED = "allowed"  # in `tcp_ports`
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_network(text: str) -> Network | None:
    """A network in CIDR form, or a single address; None if the text is neither."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def check_command(command: Sequence[str]) -> None:
    """Refuse a command by which no project could be started: `{key}` stands for its key, `{base_url}` for the host's base URL.

    Raises:
        ValueError: the text names what is wrong.
    """
    names: set[str] = set()
    for argument in command:
        try:
            parts = list(Formatter().parse(argument))
        except ValueError as error:
            raise ValueError(f"{argument!r}: {error}") from None
        for _, name, form, conversion in parts:
            if name is not None and (name not in ("key", "base_url") or form or conversion):
                raise ValueError(f"{argument!r} has a placeholder that is not {{key}} or {{base_url}}; for braces, double them")
            names.add(name or "")
    if "key" not in names:
        raise ValueError("no argument has {key}, the key of the project that is to start")


def _check_ports(value: bool | Sequence[int | str], word: str | None = None) -> None:
    """`word`: what may stand in the list besides ports."""
    if not isinstance(value, bool):
        urls.parse_ports(item for item in value if item != word)


def _check_hosts(hosts: Sequence[str]) -> None:
    for host in hosts:
        if parse_network(host) is None and not urls.is_name(host.lower()):
            raise ValueError(f"{host!r} is not a DNS name, an IP address or a network in CIDR form")


def _check_jupyter_url(url: str) -> None:
    try:
        is_valid = re.fullmatch(r"https?://[^/?#@\s]+/([^?#\s]*/)?", url) is not None and urlsplit(url).port != 0
    except ValueError:  # a host in brackets that is no IPv6 address, or a port that is no number
        is_valid = False
    if not is_valid:
        raise ValueError(f"{url!r} is not an http(s) URL that ends with a slash")


def _check_embedders(origins: Sequence[str]) -> None:
    for origin in origins:
        if not _EMBEDDER.match(origin):
            raise ValueError(f"{origin!r} is not an origin: write 'https://portal.example.org'")


def _check_sandbox(value: bool | Sequence[str]) -> None:
    for token in value if not isinstance(value, bool) else ():
        if token not in _SANDBOX_TOKENS:
            raise ValueError(f"{token!r} is not allowed there; allowed are {', '.join(sorted(_SANDBOX_TOKENS))}")


def _check_limit(number: int) -> None:
    if not 0 <= number <= 1 << 30:
        raise ValueError(f"{number!r} is not a limit: use a number above 0, or 0 for no limit")


def _check_seconds(seconds: float, minimum: float = 0) -> None:
    if not minimum <= seconds <= _YEAR:
        raise ValueError(f"{seconds!r} is not a number of seconds between {minimum} and {_YEAR}")


_PORT_LISTS = ("allowed_ports", "tcp_ports", "users_may_allow", "https_ports", "keep_host")
_LIMITS = (
    *("max_exchanges", "max_exchanges_per_user", "max_exchanges_per_port"),
    *("max_tunnels", "max_tunnels_per_user", "max_tunnels_per_port"),
    *("max_fields", "max_field_size"),
)
_TIMEOUTS = ("first_byte_timeout", "idle_timeout", "tcp_idle_timeout", "head_timeout", "shutdown_grace")
_CHECKS: dict[str, Callable[[Any], object]] = {
    **dict.fromkeys(_PORT_LISTS, _check_ports),
    "allowed_ports": partial(_check_ports, word=OWN_PORTS),
    "tcp_ports": partial(_check_ports, word=AS_ALLOWED),
    **dict.fromkeys(_LIMITS, _check_limit),
    **dict.fromkeys(_TIMEOUTS, _check_seconds),
    "connect_timeout": partial(_check_seconds, minimum=0.001),
    "allowed_hosts": _check_hosts,
    "origin_pattern": lambda pattern: OriginHosts(pattern, "user"),
    "jupyter_url": _check_jupyter_url,
    "embedders": _check_embedders,
    "sandbox": _check_sandbox,
    "trusted_certificates": check_bundle,
    "project_starter": check_command,
}


class PortsTrait(List):  # type: ignore[type-arg]  # in traitlets 5.6 it has no parameters
    """A list of ports; a word of such lists alone stands for a list of it."""

    def validate(self, obj: Any, value: Any) -> Any:
        return super().validate(obj, [value] if value in (OWN_PORTS, AS_ALLOWED) else value)


class PortProxy(LoggingConfigurable):
    """What an administrator can set; `c.PortProxy` in a Jupyter configuration file."""

    allowed_ports = PortsTrait(
        Union([Integer(), Unicode()]),
        default_value=["10000-20000"],
        help="""Ports that may be reached, on loopback and on allowed hosts: numbers and ranges that include both ends, from 1
        to 65535. A list replaces the default one. The Jupyter server's own port is refused even if it is listed.
        "own" stands for every port from 1024 up on which the user of this server listens (Linux; on other systems: every port
        from 1024 up), for a machine of one person; `["own", 80]` adds to it.
        Example: `c.PortProxy.allowed_ports = [8888, "10000-20000"]`.""",
    ).tag(config=True)

    users_may_allow = List(
        Union([Integer(), Unicode()]),
        default_value=["1024-65535"],
        help="""Ports beyond `allowed_ports` that the user of this server may allow without a restart: in the Ports panel, on the
        error page of the port, or by `jupyter portproxy allow 8501`. Numbers and ranges; `[]`: none. Such a port is reached on
        loopback only, and only while the user of this server listens on it (Linux). No effect on servers with projects; on
        servers whose identity provider is neither Jupyter's own nor JupyterHub's, only if it is set: several people may share
        such a server.
        Example: `c.PortProxy.users_may_allow = [5000, "8000-8999"]`.""",
    ).tag(config=True)

    tcp_ports = PortsTrait(
        Union([Integer(), Unicode()]),
        default_value=[AS_ALLOWED],
        help="""Ports of this machine that raw TCP reaches (`proxy/tcp/N`, `jupyter portproxy forward`), services included:
        numbers and ranges. "allowed" stands for those that HTTP reaches: `allowed_ports`, what the user has allowed, and services
        at Unix sockets; `["allowed", 5432]` adds to it. `[]`: no raw TCP. The ports of the Jupyter server and its kernels are
        refused even if they are listed.
        Example: `c.PortProxy.tcp_ports = [5432, "15000-15099"]`.""",
    ).tag(config=True)

    allowed_hosts = List(
        Unicode(),
        default_value=[],
        help="""Hosts besides loopback that may be reached as `proxy/HOST:PORT/`: exact DNS names, IP addresses, or networks
        in CIDR form. A network covers addresses in the URL, not names: list the name too. The unspecified addresses (0.0.0.0,
        ::) are never reached. If a name resolves to a link-local, multicast or IPv4-mapped address, that address is used only
        if the list has it or its network.
        Example: `c.PortProxy.allowed_hosts = ["gpu-1.example.org", "10.0.0.0/24"]`.""",
    ).tag(config=True)

    https_ports = List(
        Union([Integer(), Unicode()]),
        default_value=[],
        help="""Ports of this machine whose services speak https, so that `proxy/port/N/` reaches them; numbers and ranges.
        `proxy/https/N/` works for any port. A rule of the user's for a port counts before this list.
        Example: `c.PortProxy.https_ports = [8443]`.""",
    ).tag(config=True)

    trusted_certificates = Unicode(
        "",
        help="""Path of a PEM file with the certificates that verify https services and next hops. Empty: the system's.
        Example: `c.PortProxy.trusted_certificates = "/etc/ssl/our-ca.pem"`.""",
    ).tag(config=True)

    verify_loopback_certificates = Bool(
        True,
        help="""Verify the certificates of https services on loopback too. If off, any certificate is accepted there, and only
        there.
        Example: `c.PortProxy.verify_loopback_certificates = False`.""",
    ).tag(config=True)

    allow_other_users = Bool(
        False,
        help="""Linux: also reach loopback ports whose listening socket belongs to another user of this machine, and ports
        that a rule of the packet filter forwards (DNAT). Ports of root are always reached, because container engines publish
        ports as root.
        Example: `c.PortProxy.allow_other_users = True`.""",
    ).tag(config=True)

    connect_timeout = Float(
        5.0, help="Seconds to wait for a connection to the service. Example: `c.PortProxy.connect_timeout = 10`."
    ).tag(config=True)

    first_byte_timeout = Float(
        0.0,
        help="""Seconds to wait for the head of the service's response, after the last byte of content was sent to the service:
        a long upload does not count while it makes progress. Applies to WebSocket handshakes too. 0: no limit.
        Example: `c.PortProxy.first_byte_timeout = 300`.""",
    ).tag(config=True)

    idle_timeout = Float(
        0.0,
        help="""Seconds without a byte of the response's content, after which the connection to the client is cut. Does not
        apply to open WebSockets. 0: no limit.
        Example: `c.PortProxy.idle_timeout = 3600`.""",
    ).tag(config=True)

    reverse_forwarding = Bool(
        False,
        help="""Let the user of this server forward ports of their own machine to it, by `jupyter portproxy forward --reverse
        17000:27000`: this server listens on 127.0.0.1, on an allowed port, for programs of its own user (Linux; on other systems
        for all users of the machine). No effect on servers that several people use.
        Example: `c.PortProxy.reverse_forwarding = True`.""",
    ).tag(config=True)

    tcp_idle_timeout = Float(
        0.0,
        help="""Seconds without a byte in either direction, after which a raw TCP connection is closed. 0: no limit.
        Example: `c.PortProxy.tcp_idle_timeout = 86400`.""",
    ).tag(config=True)

    isolate = Enum(
        ["auto", "always", "never"],
        default_value="auto",
        help="""Isolated origins for ports and services: "auto" provides one beside `proxy/port/N/`; "always" also redirects
        page navigations from there to it; "never" provides none.
        Example: `c.PortProxy.isolate = "always"`.""",
    ).tag(config=True)

    origin_pattern = Unicode(
        "",
        help="""The host names of isolated origins: `{port}` in the first label is the port or the service's name, `{user}`
        the user. Empty: `p{port}.localhost`, for Jupyter on the user's own machine or behind a tunnel to it.
        Example: `c.PortProxy.origin_pattern = "{port}--{user}.apps.example.org"`.""",
    ).tag(config=True)

    origin_below_base_url = Bool(
        False,
        help="""The reverse proxy of the isolated origins adds this server's base URL before each path, as JupyterHub's proxy
        needs.
        Example: `c.PortProxy.origin_below_base_url = True`.""",
    ).tag(config=True)

    jupyter_url = Unicode(
        "",
        help="""This server's own address, to which an isolated origin redirects a browser that has not logged in. Empty: the
        address of the last login through `proxy/enter/`.
        Example: `c.PortProxy.jupyter_url = "https://hub.example.org/user/alice/"`.""",
    ).tag(config=True)

    embedders = List(
        Unicode(),
        default_value=[],
        help="""Origins of sites whose pages may show services in a frame, at isolated origins, besides Jupyter's own pages;
        `*.` matches all subdomains.
        Example: `c.PortProxy.embedders = ["https://portal.example.org"]`.""",
    ).tag(config=True)

    max_exchanges = Integer(
        4000,
        help="""Requests in flight through this server, event streams included; 0: no limit. Further requests get a 503.
        Example: `c.PortProxy.max_exchanges = 8000`.""",
    ).tag(config=True)

    max_exchanges_per_user = Integer(
        2000,
        help="""Requests in flight for one user; 0: no limit. Further requests get a 429.
        Example: `c.PortProxy.max_exchanges_per_user = 100`.""",
    ).tag(config=True)

    max_exchanges_per_port = Integer(
        2000,
        help="""Requests in flight to one port or service; 0: no limit. Further requests get a 503.
        Example: `c.PortProxy.max_exchanges_per_port = 500`.""",
    ).tag(config=True)

    max_tunnels = Integer(
        20000,
        help="""Open WebSockets through this server; 0: no limit. Further WebSockets get a 503.
        Example: `c.PortProxy.max_tunnels = 1000`.""",
    ).tag(config=True)

    max_tunnels_per_user = Integer(
        12000,
        help="""Open WebSockets of one user; 0: no limit. Further WebSockets get a 429.
        Example: `c.PortProxy.max_tunnels_per_user = 200`.""",
    ).tag(config=True)

    max_tunnels_per_port = Integer(
        12000,
        help="""Open WebSockets to one port or service; 0: no limit. Further WebSockets get a 503.
        Example: `c.PortProxy.max_tunnels_per_port = 500`.""",
    ).tag(config=True)

    max_fields = Integer(
        500,
        help="""Header fields of one request; 0: no limit. A request with more gets a 431.
        Example: `c.PortProxy.max_fields = 100`.""",
    ).tag(config=True)

    max_field_size = Integer(
        0,
        help="""Bytes of one header field's value; 0: only Tornado's limit of 65536 bytes for the whole head. A request with a
        longer value gets a 431.
        Example: `c.PortProxy.max_field_size = 8192`.""",
    ).tag(config=True)

    head_timeout = Float(
        120.0,
        help="""Seconds from the first byte of a request's head to its end, or up to a quarter more; then the connection is
        closed. Applies to all requests to Jupyter. Idle connections have Tornado's limit of an hour, because load balancers
        keep theirs for many minutes. 0: that limit applies to heads too.
        Example: `c.PortProxy.head_timeout = 30`.""",
    ).tag(config=True)

    shutdown_grace = Float(
        3.0,
        help="""Seconds for requests in flight to end when the server shuts down; the rest are cut. WebSockets are closed
        (1001) at once.
        Example: `c.PortProxy.shutdown_grace = 10`.""",
    ).tag(config=True)

    sandbox = Union(
        [Bool(), List(Unicode())],
        default_value=False,
        help="""Add a Content-Security-Policy sandbox to the responses of services at path-based URLs. Their pages then run in
        an opaque origin without Jupyter's login. True, or the list of allowed features. Suitable only for pages without
        further requests to the server: requests of a sandboxed page count as those of another site and are refused.
        Example: `c.PortProxy.sandbox = ["allow-scripts", "allow-forms"]`.""",
    ).tag(config=True)

    rescue = Bool(
        True,
        help="""Redirect requests at the root (`/static/app.js`) by pages of a service below a prefix to that service: 307,
        identified by the Referer. For services that are built for `/`. Links to Jupyter's own pages are not redirected.
        Example: `c.PortProxy.rescue = False`.""",
    ).tag(config=True)

    keep_host = Union(
        [Bool(), List(Union([Integer(), Unicode()]))],
        default_value=False,
        help="""Send the client's own Host, Origin and Referer to the service instead of the service's address: True, or the
        ports and ranges of the services. Services that check these fields (Bokeh, Vite, Django, Jupyter) must then accept
        this server's name. A rule of the user's for a port counts before this.
        Example: `c.PortProxy.keep_host = [8501, "9000-9100"]`.""",
    ).tag(config=True)

    link_variables = Bool(
        True,
        help="""Set environment variables for kernels and terminals from which programs, such as TensorBoard and Dask, make links
        that lead through this server. A variable that is set already is left as it is.
        Example: `c.PortProxy.link_variables = False`.""",
    ).tag(config=True)

    count_activity = Bool(
        True,
        help="""Count traffic of services as activity of this server, so that JupyterHub's idle culler does not stop it.
        Example: `c.PortProxy.count_activity = False`.""",
    ).tag(config=True)

    unprobed_ports = List(
        Integer(),
        default_value=[],
        help="""Ports that are listed without a request for their page.
        Example: `c.PortProxy.unprobed_ports = [15432]`.""",
    ).tag(config=True)

    service_templates = Dict(
        help="""Templates of services, besides those that come with the package: name -> template.
        Example: `c.PortProxy.service_templates = {"docs": {"command": ["python", "-m", "http.server", "{port}"]}}`.""",
    ).tag(config=True)

    project_files = Bool(
        True,
        help="""Read what folders say of their services and ports: `portproxy.toml` and the files of other tools, in the folder
        that Jupyter serves and in those that a user opens. Nothing of it has an effect until the user has allowed this very
        content. Not on servers that several people use.
        Example: `c.PortProxy.project_files = False`.""",
    ).tag(config=True)

    project_resolver = Unicode(
        "",
        help="""How this server finds projects: "local" serves those of this machine; with many hosts, "placement" makes it a hub
        and "registry" a project host; or the dotted path of a function that takes this object and returns a ProjectResolver and
        the hop's name. Empty: no projects.
        Example: `c.PortProxy.project_resolver = "local"`.""",
    ).tag(config=True)

    projects_path = Unicode(
        "",
        help="""The SQLite file with the projects of this machine, for the resolver "local", which makes it. Empty:
        `portproxy/projects.sqlite` in Jupyter's data folder (`jupyter --data-dir`).
        Example: `c.PortProxy.projects_path = "/var/lib/portproxy/projects.sqlite"`.""",
    ).tag(config=True)

    public_projects = Bool(
        False,
        help="""Make every user who logs in a viewer of the projects whose visibility is "public". If off, such a project is for
        its owner and its members, as a private one.
        Example: `c.PortProxy.public_projects = True`.""",
    ).tag(config=True)

    placement_dsn = Unicode(
        "",
        help="""The database of placements: a hub reads it, and a project host writes its heartbeat to it. PostgreSQL, or a SQLite
        file on the machine of a hub of one process: `sqlite:////var/lib/portproxy/projects.sqlite`.
        Example: `c.PortProxy.placement_dsn = "postgresql://portproxy@db.example.org/portproxy"`.""",
    ).tag(config=True)

    registry_path = Unicode(
        "",
        help="""The SQLite file with the projects of a project host.
        Example: `c.PortProxy.registry_path = "/var/lib/portproxy/registry.sqlite"`.""",
    ).tag(config=True)

    hop_credentials = List(
        Unicode(),
        default_value=[],
        help="""The credentials that this project host accepts from the hub; two during a change.
        Example: `c.PortProxy.hop_credentials = ["a long random text"]`.""",
    ).tag(config=True)

    host_id = Unicode(
        "",
        help="""The name of this project host in the placements, for its heartbeat every five seconds.
        Example: `c.PortProxy.host_id = "host-1"`.""",
    ).tag(config=True)

    project_starter = List(
        Unicode(),
        default_value=["jupyter", "portproxy", "run-project", "{key}", "--base-url", "{base_url}"],
        help="""The command with which this project host starts a stopped project on request; `{key}` is the project's key,
        `{base_url}` the host's base URL, PORTPROXY_REGISTRY in its environment the registry's file. It may keep running, or
        end at once with exit code 0. Empty: projects are not started here.
        Example: `c.PortProxy.project_starter = ["systemctl", "start", "project@{key}"]`.""",
    ).tag(config=True)

    project_roles = Dict(
        default_value={"owner": ["ports", "jupyter", "start"], "member": ["ports", "jupyter", "start"], "viewer": ["ports"]},
        help="""What each role of a project may do: "ports" reaches its services; through a hub, "jupyter" reaches its own Jupyter
        server and "start" starts it.
        Example: `c.PortProxy.project_roles = {"owner": ["ports", "jupyter"], "member": ["ports"], "viewer": []}`.""",
    ).tag(config=True)

    @property
    def sandbox_policy(self) -> str:
        """The Content-Security-Policy of the setting `sandbox`; empty if it is off."""
        if self.sandbox is False:
            return ""
        return " ".join(["sandbox", *(_SANDBOX if self.sandbox is True else self.sandbox)])

    @traitlets.validate(*_CHECKS)
    def _check(self, proposal: Any) -> Any:
        name, value = proposal["trait"].name, proposal["value"]
        try:
            if value or name == "connect_timeout":  # all others may be empty or 0
                _CHECKS[name](value)
        except ValueError as error:
            raise TraitError(f"c.PortProxy.{name}: {error}") from None
        # jupyter_server merges what a file appends to a list more than once.
        return list(dict.fromkeys(value)) if name in _PORT_LISTS and isinstance(value, list) else value
