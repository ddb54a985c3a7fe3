"""Which ports, hosts and addresses may be reached, and the owner check of what listens there.

Every access decision except the login is made here, before a byte is sent. The policy opens no connection; its only state are
the netlink sockets of the owner check. Ports that the user allows and the user's rules for ports are in files
(services.user_file), which are compared at each request.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable
from functools import partial

from tornado.web import RequestHandler

from ..config import AS_ALLOWED, OWN_PORTS, PortProxy, parse_network
from ..errors import BadInput, BadUpstream, Forbidden, ForwardedPort, JupyterPort, LoopDetected, NotFound, Unreachable
from ..protocol import urls
from ..protocol.activity import ALL, ActivityRule
from ..protocol.urls import Route, Upstream
from ..services.folder_rules import FolderRules
from ..services.port_rules import PortAttributes, PortRules
from ..services.user_file import in_thread
from ..services.user_ports import UserPort, UserPorts
from ..system.addresses import LOOPBACK, resolve_host
from ..system.netlink import SUPPORTED
from ..system.socket_owners import (
    NoLocalSocket,
    OwnerUnknown,
    SocketOwners,
    is_established,
    unix_peer_owner,
    user_name,
)
from ..system.tls import Trust
from ..upstream.exchange import Approve

_ROOT = 0
_UNPRIVILEGED = ["1024-65535"]
_LEASE_PORTS = ["10000-20000"]  # for services and reservations if `allowed_ports` is "own": not those of outgoing connections
_UNSPECIFIED = ("0.0.0.0", "::")  # noqa: S104 (nothing is bound here)
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Policy:
    """Decides which ports and hosts may be reached.

    Args:
        base_url: the Jupyter server's.
        own_port: the Jupyter server's port; None until it listens.
        jupyter_ports: the ports of the Jupyter server and its kernels.
        more_ports: ports that the configuration of jupyter-server-proxy names.
        user_ports: the ports that the user has allowed; None if the user may allow none.
        port_rules: the user's rules for ports; None if there are none, because several people share the server.
        folder_rules: the rules for ports of folders that the user has allowed.
        allows_host: the host list of jupyter-server-proxy, which may be a function of the request's handler and the host.
    """

    def __init__(
        self,
        settings: PortProxy,
        *,
        base_url: str = "/",
        own_port: Callable[[], int | None] = lambda: None,
        jupyter_ports: Callable[[], Collection[int]] = frozenset,
        more_ports: Iterable[int] = (),
        user_ports: UserPorts | None = None,
        port_rules: PortRules | None = None,
        folder_rules: FolderRules | None = None,
        allows_host: Callable[[RequestHandler | None, str], object] = lambda handler, host: False,
        owners: SocketOwners | None = None,
    ) -> None:
        self._settings, self._log = settings, settings.log
        self._base_url, self._own_port, self._jupyter_ports = base_url, own_port, jupyter_ports
        self._also_allows_host = allows_host
        self._user_ports, self._port_rules, self._folder_rules = user_ports, port_rules, folder_rules or FolderRules()
        self._users_may_allow = urls.parse_ports(settings.users_may_allow)
        self._listed_ports = listed = urls.parse_ports(ports for ports in settings.allowed_ports if ports != OWN_PORTS)
        own = urls.parse_ports(_UNPRIVILEGED) if OWN_PORTS in settings.allowed_ports else ()
        self.ports = (*listed, *own)
        self._tcp_ports = urls.parse_ports(ports for ports in settings.tcp_ports if ports != AS_ALLOWED)
        self._tcp_as_allowed = AS_ALLOWED in settings.tcp_ports
        self.lease_ports = listed or urls.parse_ports(_LEASE_PORTS)
        self._https_ports = urls.parse_ports(settings.https_ports)
        self._keep_host_ports = urls.parse_ports(settings.keep_host if isinstance(settings.keep_host, list) else [])
        self._port_allowed = bytearray(65536)
        for ports in self.ports:
            self._port_allowed[ports.start : ports.stop] = b"\1" * len(ports)
        for port in more_ports:
            self._port_allowed[port] = 1
        self._is_unlisted = bytearray(b"\1" * 65536)
        for port in (*itertools.chain(*listed), *more_ports):
            self._is_unlisted[port] = 0
        self._verified, self._unverified = Trust(settings.trusted_certificates), Trust(verified=False)
        self._names = frozenset(h.lower() for h in settings.allowed_hosts if parse_network(h) is None)
        self._networks = [n for n in map(parse_network, settings.allowed_hosts) if n is not None]
        self._owners = owners or SocketOwners()

    # ---- ports ----

    def allows_port(self, port: int) -> bool:
        """True if the configuration allows the port. The user's permission may end at any time."""
        return bool(self._port_allowed[port])

    def reaches(self, port: int) -> bool:
        """True if the configuration or the user allows the port."""
        return self.allows_port(port) or self._is_user_port(port)

    def find_refused(self, ports: range) -> int | None:
        """The first of the ports that the configuration does not allow; None if it allows them all."""
        refused = self._port_allowed.find(0, ports.start, ports.stop)
        return refused if refused >= 0 else None

    def keeps_host(self, upstream: Upstream) -> bool:
        """True if that upstream gets the client's own Host."""
        is_port = _is_local(upstream.host) and not upstream.unix_socket
        by_rule = self.attributes_of(upstream.port).keep_host if is_port else None
        if by_rule is not None:
            return by_rule
        return self._is_keep_host_port(upstream.port)

    def _is_keep_host_port(self, port: int) -> bool:
        return self._settings.keep_host is True or any(port in ports for ports in self._keep_host_ports)

    def check(self, route: Route, handler: RequestHandler | None = None) -> None:
        """Refuse a route that the policy does not allow.

        Args:
            handler: of the request, for a host list that is a function of it.

        Raises:
            Forbidden: the port is outside allowed_ports, or the host is not in allowed_hosts.
            LoopDetected: the port is this server's own.
            And what `check_tcp` raises, for raw TCP.
        """
        if route.scheme == "tcp":  # such a route has no host
            return self.check_tcp(route.port)
        local = _is_local(route.host)
        if not local and not self._allows_host(route.host) and not self._also_allows_host(handler, route.host):
            remedy = f"The administrator can allow it: c.PortProxy.allowed_hosts = ['{route.host}']."
            if route.host in _UNSPECIFIED:
                remedy = f"A service that listens there is reached as proxy/port/{route.port}/."
            raise Forbidden(f"Host '{route.host}' is not allowed.", remedy)
        if local and route.port == self._own_port():
            raise LoopDetected()
        # "own" and what the user has allowed are ports of this machine; ports in lists are those of any allowed host.
        is_allowed_here = local and (self._port_allowed[route.port] or self._is_user_port(route.port))
        if self._is_unlisted[route.port] and not is_allowed_here:
            raise self._outside_allowed(route.port, local=local)

    async def resolve(self, route: Route, handler: RequestHandler | None = None) -> Upstream:
        """The upstream of a route, with approved addresses only.

        Raises:
            Unreachable: the name does not resolve to an approved address. And all that `check` raises.
        """
        self.check(route, handler)
        owner = None if route.scheme == "tcp" and self.is_tcp_listed(route.port) else self.required_owner(route.port)
        if route.host == urls.LOOPBACK_NAME:
            return Upstream(route.host, route.port, LOOPBACK, scheme=self.scheme_of(route), owner=owner)
        addresses = await resolve_host(route.host, route.port)
        approved = tuple(a for a in addresses if self._allows_address(a))
        if not approved:
            raise Unreachable.host(f"{urls.bracket_host(route.host)}:{route.port}")
        if any(_is_local(a) for a in approved) and route.port == self._own_port():
            raise LoopDetected()
        return Upstream(route.host, route.port, approved, scheme=self.scheme_of(route), owner=owner)

    def check_tcp(self, port: int) -> None:
        """Refuse raw TCP to a port of this machine that the policy does not allow.

        Args:
            port: 0 for a Unix socket.

        Raises:
            JupyterPort
            Forbidden: it is outside tcp_ports.
        """
        if port and port in self._jupyter_ports():
            raise JupyterPort(port)
        self.check_tcp_list(port)
        if port and not self.is_tcp_listed(port) and not self.reaches(port):
            raise self._outside_allowed(port, local=True)

    def check_tcp_list(self, port: int, at: str = "this server") -> None:
        """Refuse raw TCP to a port that `tcp_ports` excludes; `at` has that setting. Raises: Forbidden"""
        if self._tcp_as_allowed or self.is_tcp_listed(port):
            return
        what = f"Raw TCP to port {port}" if port and self._tcp_ports else "Raw TCP"
        example = [*self._settings.tcp_ports, port or AS_ALLOWED]
        raise Forbidden(
            f"{what} is not allowed by {at}.",
            f"The administrator can allow it: c.PortProxy.tcp_ports = {json.dumps(example)}.",
        )

    def allows_only_tcp(self, port: int) -> bool:
        """True if raw TCP reaches the port, by `tcp_ports`, and HTTP does not."""
        return self.is_tcp_listed(port) and not self.reaches(port)

    def is_tcp_listed(self, port: int) -> bool:
        """True if `tcp_ports` names the port itself: raw TCP reaches it even if HTTP does not."""
        return any(port in ports for ports in self._tcp_ports)

    def _outside_allowed(self, port: int, *, local: bool) -> Forbidden:
        """The error for a port outside `allowed_ports`. `local`: it is one of this machine."""
        at_root = self._base_url == "/"
        where = "the server's configuration" if at_root else f"the configuration of the server at {self._base_url}"
        may_allow = local and self.may_allow(port)
        start = f"Allow it for yourself: jupyter portproxy allow {port}. Or start" if may_allow else "Start"
        error = Forbidden(
            f"Port {port} is outside allowed range ({urls.print_ports(self.ports if local else self._listed_ports)})",
            f"{start} the service on an allowed port, or allow this one in {where}: "
            f"c.PortProxy.allowed_ports = {json.dumps([*self._settings.allowed_ports, port])}.",
        )
        error.allowable_port = port if may_allow else None
        return error

    # ---- ports that the user allows ----

    def may_allow(self, port: int) -> bool:
        """True if the user of this server may allow the port."""
        return self._user_ports is not None and any(port in ports for ports in self._users_may_allow)

    def user_ports(self) -> list[UserPort]:
        """The ports that the user has allowed."""
        return self._user_ports.list() if self._user_ports is not None else []

    async def allow_for_user(self, port: int, seconds: object = None) -> UserPort:
        """Allow a port on behalf of the user.

        Args:
            seconds: see `UserPorts.add`.

        Raises:
            BadInput: it is allowed already, or the time is invalid, or the list cannot be written.
            LoopDetected
            Forbidden: `users_may_allow` does not contain it, or another user listens on it.
        """
        if port == self._own_port():
            raise LoopDetected()
        if self._port_allowed[port]:
            raise BadInput(f"Port {port} is allowed by the server's configuration already.", f"Open it: proxy/port/{port}/.")
        if self._user_ports is None or not self.may_allow(port):
            which = f"They are: {urls.print_ports(self._users_may_allow)}." if self._user_ports is not None else "There are none."
            hint = f"The administrator sets the ports that users may allow: c.PortProxy.users_may_allow. {which}"
            raise Forbidden(f"You may not allow port {port}.", hint)
        self.approve_listeners(Upstream(urls.LOOPBACK_NAME, port, LOOPBACK, owner=_own_uid()))
        return await in_thread(self._user_ports.add, port, seconds)

    async def disallow_for_user(self, port: int) -> None:
        """Take back what `allow_for_user` has allowed.

        Raises:
            NotFound, BadInput: see `UserPorts.remove`.
        """
        if self._user_ports is None:
            raise NotFound.allowed_port(port)
        await in_thread(self._user_ports.remove, port)

    def _is_user_port(self, port: int) -> bool:
        return self._user_ports is not None and self.may_allow(port) and self._user_ports.get(port) is not None

    # ---- rules for ports ----

    @property
    def port_rules(self) -> PortRules:
        """The user's rules.

        Raises:
            Forbidden: this server has none.
        """
        if self._port_rules is None:
            raise Forbidden(
                "This server keeps no rules for ports, as several people may use it.",
                "JupyterLab has such rules in its settings: Settings, Settings Editor, Ports and services.",
            )
        return self._port_rules

    @property
    def has_port_rules(self) -> bool:
        return self._port_rules is not None

    @property
    def rules_version(self) -> int:
        """Another number after each change of the rules: decisions made before are not valid any more."""
        # Both numbers only grow.
        return self._folder_rules.version + (self._port_rules.version if self._port_rules is not None else 0)

    def attributes_of(self, port: int) -> PortAttributes:
        """The attributes of a port of this machine by the user's rules, then by those of folders that the user has allowed.

        A folder does not change what the configuration says of the port.
        """
        own = self._port_rules.find(port) if self._port_rules is not None else PortAttributes()
        folders = self._folder_rules.find(port)
        if folders == PortAttributes():
            return own
        if self._is_https_port(port):
            folders = folders._replace(scheme=None)
        if self._is_keep_host_port(port):
            folders = folders._replace(keep_host=None)
        set_by_user = {key: value for key, value in own._asdict().items() if value not in (None, "")}
        return folders._replace(**set_by_user)

    # ---- attributes of a port ----

    def activity_of(self, route: Route) -> ActivityRule:
        """Which requests for a port are activity of this server; the user's rules are for ports of this machine."""
        kind = self.attributes_of(route.port).activity if _is_local(route.host) else None
        return ALL if kind is None else ActivityRule(kind)

    def required_owner(self, port: int) -> int | None:
        """See `Upstream.owner`: a port that is allowed only for the server's own user."""
        return _own_uid() if self._is_unlisted[port] else None

    def scheme_of(self, route: Route) -> str:
        if route.scheme == "tcp":
            return "tcp"
        is_https = route.scheme == "https" or (_is_local(route.host) and self.protocol_of(route.port) == "https")
        return "https" if is_https else "http"

    def protocol_of(self, port: int, attributes: PortAttributes | None = None) -> str:
        """The protocol of a port of this machine by the user's rule or the configuration: "http", "https" or "tcp".

        Args:
            attributes: the port's, where they are known already.
        """
        by_configuration = "https" if self._is_https_port(port) else "http"
        return (attributes or self.attributes_of(port)).scheme or by_configuration

    def _is_https_port(self, port: int) -> bool:
        return any(port in ports for ports in self._https_ports)

    def trust_in(self, upstream: Upstream) -> Trust:
        """How the certificate of an https upstream is checked."""
        exempt = not self._settings.verify_loopback_certificates and all(map(_is_local, upstream.addresses))
        return self._unverified if exempt else self._verified

    # ---- owners ----

    def approval_of(self, upstream: Upstream) -> Approve:
        """The check of new connections to an upstream."""
        return self.approve_connection if upstream.owner is None else partial(self.approve_connection, expected=upstream.owner)

    def approve_connection(
        self, local: str, local_port: int, remote: str, remote_port: int, fd: int, expected: int | None = None
    ) -> None:
        """Check the owner of a new connection's other end before anything is sent; the ends of a Unix socket have port 0.

        Args:
            expected: see `Upstream.owner`.

        Raises:
            Forbidden: the owner is another user of this machine, or unknown to the kernel.
            BadUpstream: its other end has closed it.
        """
        if not self._checks_owners(expected):
            return
        if not remote_port:
            return _check_socket_owner(unix_peer_owner(fd))
        if not (urls.is_loopback(remote) or local == remote):
            return
        try:
            owner = self._owners.peer_owner(local, local_port, remote, remote_port)
        except OwnerUnknown as error:
            if SUPPORTED and not is_established(fd):
                raise BadUpstream("it closed the connection without a response") from None
            raise self._owner_error(error, remote_port) from None
        _check_owner(owner, remote_port, expected)

    def approve_listeners(self, upstream: Upstream) -> None:
        """Check the owners of the listening sockets. libcurl reports a connection after its TLS handshake: too late.

        Raises:
            Forbidden: an owner is another user of this machine, or unknown to the kernel.
        """
        if upstream.unix_socket or not self._checks_owners(upstream.owner):
            return
        for address in filter(urls.is_loopback, upstream.addresses):
            try:
                owners = self._owners.listener_owners(address, upstream.port)
            except OwnerUnknown as error:
                raise self._owner_error(error, upstream.port) from None
            for owner in owners:
                _check_owner(owner, upstream.port, upstream.owner)

    def _checks_owners(self, expected: int | None) -> bool:
        """True if owners are checked: an expected one always, and others as far as the settings and the system allow."""
        return expected is not None or (SUPPORTED and not self._settings.allow_other_users)

    def _owner_error(self, error: OwnerUnknown, port: int) -> Forbidden:
        """The error for a port without a known owner."""
        if isinstance(error, NoLocalSocket):
            return ForwardedPort(port)
        self._log.warning("portproxy: the owner of port %d is unknown: %s", port, error)
        return Forbidden(
            f"The system does not report the owner of port {port}.",
            "If no other user has an account on this machine: c.PortProxy.allow_other_users = True.",
        )

    def close(self) -> None:
        """Close the netlink sockets."""
        self._owners.close()

    # ---- hosts ----

    def _allows_host(self, host: str) -> bool:
        literal = urls.ip_literal(host)
        return host in self._names if literal is None else self._in_networks(literal)

    def _allows_address(self, address: str) -> bool:
        """Decide on an address to which a name resolved. Link-local, multicast and IPv4-mapped ones must be listed themselves."""
        literal = urls.ip_literal(address)
        if literal is None or literal.is_unspecified:
            return False
        if literal.is_loopback and _is_local(address):
            return True
        special = literal.is_link_local or literal.is_multicast or getattr(literal, "ipv4_mapped", None) is not None
        return not special or self._in_networks(literal)

    def _in_networks(self, literal: Address) -> bool:
        return not literal.is_unspecified and any(literal in network for network in self._networks)


def _check_owner(owner: int, port: int, expected: int | None) -> None:
    own = os.getuid()
    if owner == (own if expected is None else expected) or (owner == _ROOT and expected is None):
        return
    if expected is not None and expected != own:
        raise Forbidden(
            f"Port {port} belongs to {user_name(owner)}, and not to {user_name(expected)}, the user of this project.",
            f"Start the service as {user_name(expected)}.",
        )
    raise Forbidden(
        f"Port {port} belongs to another user of this machine ({user_name(owner)}).",
        "Start your service on another port.",
    )


def _own_uid() -> int | None:
    """This server's user; None on systems without an owner check."""
    return os.getuid() if SUPPORTED else None


def check_socket(path: str) -> None:
    """Refuse a Unix socket that another user owns. A missing one is left to the connection attempt."""
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return
    _check_socket_owner(owner)


def _check_socket_owner(owner: int) -> None:
    if owner not in (os.getuid(), _ROOT):
        raise Forbidden("The service's socket belongs to another user of this machine.", "Let the service use another path.")


def _is_local(host: str) -> bool:
    """True for "localhost" and loopback literals; False for IPv4-mapped loopback (::ffff:127.0.0.1)."""
    literal = urls.ip_literal(host)
    if literal is None:
        return host == urls.LOOPBACK_NAME
    return literal.is_loopback and getattr(literal, "ipv4_mapped", None) is None
