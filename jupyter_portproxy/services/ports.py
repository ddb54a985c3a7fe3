"""Leases of ports and Unix sockets: for services while they run, and by name for scripts of the user (reservations).

A port has at most one lease, and is leased only while no process listens on it. The end of a service releases its endpoint. A
reservation ends when it is released, when its time passes without a listener, or with the listener that has used it.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ..errors import BadInput, NoPort, NotFound, ServiceFailed
from ..system.private_folder import PrivateFolder, remove_stale_folders
from .hooks import Endpoint
from .template_keys import NAME, NAME_HINT, NUMBER_HINT
from .templates import Template

_MAX_TRIES = 1000
_FIRST_UNPRIVILEGED = 1024
_FOLDER_PREFIX = "portproxy-"
_MAX_FOLDER = 57  # bytes; a socket's path below it has 46 more, and 103 at most on macOS
MAX_RESERVED_SECONDS = 86400
MAX_RESERVATIONS = 100


class PortLeases:
    """The allowed ports above 1023, which of them are leased, and which the projects of this machine claim.

    Args:
        may_use: True for a port that a template may have as its fixed port.
    """

    def __init__(self, ranges: Iterable[range], may_use: Callable[[int], bool] = lambda port: True) -> None:
        self._may_use = may_use
        ranges = (range(max(ports.start, _FIRST_UNPRIVILEGED), ports.stop) for ports in ranges)
        self._ranges = [ports for ports in ranges if ports]
        self._leased: set[int] = set()
        self._claims = bytes(65536)

    def set_claims(self, claims: bytes) -> None:
        """Ports that are leased to their own projects only.

        Args:
            claims: a byte for each port, 1 for a claimed one.
        """
        self._claims = claims

    def lease(self, allows: Callable[[int], bool] | None = None) -> int:
        """A port that is free now.

        Args:
            allows: True for ports that may be taken; None for all that no project claims.

        Raises:
            NoPort: none was found.
        """
        may_take = allows or (lambda port: not self._claims[port])
        ports = [port for ports in self._ranges for port in ports if may_take(port)]
        # All ports are equally likely: one that is allowed by itself belongs to one program, and must not be taken before others.
        for port in random.sample(ports, min(len(ports), _MAX_TRIES)):
            if port not in self._leased and is_free(port):
                self._leased.add(port)
                return port
        raise NoPort()

    def lease_fixed(self, port: int, name: str) -> None:
        """Lease this port for a service.

        Raises:
            ServiceFailed: it may not be used, or is taken.
        """
        if self._claims[port] or not self._may_use(port):
            what = "is not allowed on this server (c.PortProxy.allowed_ports)"
        elif port in self._leased:
            what = "is in use by another service, or reserved"
        elif not is_free(port):
            what = "is in use by another program"
        else:
            self._leased.add(port)
            return
        hint = "Set 'port' to another one, or leave it out: '{port}' is then any free one."
        raise ServiceFailed(f"Port {port} of the service '{name}' {what}.", hint=hint)

    def release(self, port: int) -> None:
        self._leased.discard(port)


class EndpointLeases:
    """Endpoints of services: a leased port, a Unix socket in a private directory, or the fixed endpoint of a template."""

    def __init__(self, ports: PortLeases) -> None:
        self._ports = ports
        self._folder: PrivateFolder | None = None

    def lease(self, name: str, template: Template) -> Endpoint:
        """The endpoint for a run of the service.

        Raises:
            NoPort
            ServiceFailed: the template's fixed port or endpoint is in use, or not allowed.
        """
        if not template.listens:
            return Endpoint(0)
        if template.port:
            self._ports.lease_fixed(template.port, name)
            return Endpoint(template.port)
        if template.endpoint is not None:
            _clear(template.endpoint)
            return template.endpoint
        if not template.unix_socket:
            return Endpoint(self._ports.lease())
        if self._folder is None:
            self._folder = PrivateFolder(_FOLDER_PREFIX, _short_folder())
        # Short, because its path has 107 bytes at most (unix(7)), and different for each name.
        path = Path(self._folder.path, f"{name[:12]}-{sha256(name.encode()).hexdigest()[:8]}.sock")
        path.unlink(missing_ok=True)
        return Endpoint(0, str(path))

    def release(self, endpoint: Endpoint) -> None:
        self._ports.release(endpoint.port)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.close()
            self._folder = None  # a server may stop its extensions twice


def remove_stale_endpoints() -> None:
    """Remove the Unix sockets of servers of this user that were killed."""
    remove_stale_folders(_FOLDER_PREFIX, _short_folder())


def _short_folder() -> str | None:
    """Where the directory of sockets is made: the folder for temporary files (None), unless its path is too long for them."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _MAX_FOLDER else None  # noqa: S108 (a private directory there)


@dataclass(slots=True)
class Reservation:
    """A port that a script has reserved. `deadline` is of `time.monotonic`; `used` is True while a process listens on it."""

    name: str
    port: int
    deadline: float
    used: bool = False

    @property
    def until(self) -> float:
        """The deadline in seconds since 1970, by the clock as it is now. The clock does not end a reservation."""
        return time.time() + self.deadline - time.monotonic()


class Reservations:
    def __init__(self, ports: PortLeases) -> None:
        self._ports = ports
        self._reserved: dict[str, Reservation] = {}

    def list(self) -> list[Reservation]:
        self._expire()
        return sorted(self._reserved.values(), key=lambda reservation: reservation.name)

    def get(self, name: str) -> Reservation | None:
        self._expire()
        return self._reserved.get(name)

    def reserve(self, name: object, seconds: object = 600, allows: Callable[[int], bool] | None = None) -> Reservation:
        """Lease a port to a name.

        Args:
            seconds: time until a process must listen on it, at most a day.
            allows: True for ports that may be taken; None for all.

        Raises:
            BadInput: an invalid name or time, or the name is taken.
            NoPort
        """
        if not isinstance(name, str) or not NAME.match(name):
            raise BadInput.name("reservation", name, NAME_HINT)
        if name.isdigit():
            raise BadInput.name("reservation", name, NUMBER_HINT)
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= MAX_RESERVED_SECONDS:
            raise BadInput(f"Invalid time: {seconds!r:.40}.", f"Give seconds above 0, at most {MAX_RESERVED_SECONDS}.")
        self._expire()
        if name in self._reserved:
            hint = f"Choose another name, or release that port: jupyter portproxy stop {name}"
            raise BadInput(f"The name '{name}' is reserved already.", hint)
        if len(self._reserved) >= MAX_RESERVATIONS:
            raise BadInput(f"There are {MAX_RESERVATIONS} reservations already.", "Delete one first.")
        reservation = self._reserved[name] = Reservation(name, self._ports.lease(allows), time.monotonic() + seconds)
        return reservation

    def release(self, name: str) -> None:
        """Raises: NotFound"""
        self._expire()
        if name not in self._reserved:
            raise NotFound(name, "reservation")
        self._ports.release(self._reserved.pop(name).port)

    def _expire(self) -> None:
        now = time.monotonic()
        for name, reservation in list(self._reserved.items()):
            has_listener = not is_free(reservation.port)
            if not has_listener and (reservation.used or now >= reservation.deadline):
                self._ports.release(self._reserved.pop(name).port)
            reservation.used = has_listener


def is_free(port: int) -> bool:
    """True if no process listens on the port on either loopback address."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False  # any other error: this machine has no IPv6
    return True


def _clear(endpoint: Endpoint) -> None:
    """Remove the Unix socket file that an ended service has left.

    Raises:
        ServiceFailed: another program listens there.
    """
    if not endpoint.unix_socket:
        if not is_free(endpoint.port):
            raise ServiceFailed(f"Port {endpoint.port} is in use by another program.")
        return
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(endpoint.unix_socket)
    except (FileNotFoundError, ConnectionRefusedError):
        Path(endpoint.unix_socket).unlink(missing_ok=True)
    except OSError as error:
        raise ServiceFailed(f"The socket '{endpoint.unix_socket}' cannot be used: {error.strerror}.") from None
    else:
        raise ServiceFailed(f"The socket '{endpoint.unix_socket}' is in use by another program.")
