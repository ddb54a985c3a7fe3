"""Ports lent for a time: to services of ours while they run, and by name to scripts of the user that ask for one.

Rule of this file: a port is lent to one at a time, and only while nobody listens on it.
"""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import BadInput, NoPort, NotFound
from .templates import NAME

_TRIES = 1000
_FIRST_UNPRIVILEGED = 1024
_LONGEST = 86400.0
_MOST = 100


class Ports:
    """The allowed ports, and which of them are lent."""

    def __init__(self, ranges: Iterable[range]) -> None:
        self._ranges = [ports for ports in ranges if ports.stop > _FIRST_UNPRIVILEGED]
        self._lent: set[int] = set()

    def lend(self) -> int:
        """A port that is free now.

        Raises:
            NoPort: none was found.
        """
        # Of all of them alike: a single port is allowed for the sake of one program, and would be taken every other time.
        places = range(sum(map(len, self._ranges)))
        for place in random.sample(places, min(len(places), _TRIES)):
            port = self._at(place)
            if port >= _FIRST_UNPRIVILEGED and port not in self._lent and is_free(port):
                self._lent.add(port)
                return port
        raise NoPort()

    def _at(self, place: int) -> int:
        """The port at a place, as if the ranges were one."""
        for ports in self._ranges:
            if place < len(ports):
                return ports[place]
            place -= len(ports)
        raise IndexError(place)

    def give_back(self, port: int) -> None:
        self._lent.discard(port)


@dataclass(slots=True)
class Reservation:
    """A port that a script of the user's has asked for. `deadline`: of `time.monotonic`; `used`: somebody listens on it."""

    name: str
    port: int
    deadline: float
    used: bool = False

    @property
    def until(self) -> float:
        """Seconds since 1970, as the clock is now: for people. A clock that jumps ends no reservation."""
        return time.time() + self.deadline - time.monotonic()


class Reservations:
    """Ports lent by name. One ends with its time, or, once somebody listens on it, with that listener."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._reserved: dict[str, Reservation] = {}

    def list(self) -> list[Reservation]:
        self._expire()
        return sorted(self._reserved.values(), key=lambda reservation: reservation.name)

    def get(self, name: str) -> Reservation | None:
        self._expire()
        return self._reserved.get(name)

    def reserve(self, name: object, seconds: object = 600) -> Reservation:
        """Lend a port to a name.

        Args:
            seconds: how long to wait for a listener, at most a day.

        Raises:
            BadInput: a bad name or time, or the name is taken.
            NoPort
        """
        if not isinstance(name, str) or not NAME.match(name):
            raise BadInput("This is no name for a reservation.", "Use up to 64 letters, digits, '.', '_' and '-'.")
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= _LONGEST:
            raise BadInput("'seconds' is no time that can be waited.", f"Send a number above 0, at most {_LONGEST:.0f}.")
        self._expire()
        if name in self._reserved:
            raise BadInput(f"The name '{name}' is reserved already.", "Choose another name, or delete that reservation.")
        if len(self._reserved) >= _MOST:
            raise BadInput(f"There are {_MOST} reservations already.", "Delete one first.")
        reservation = Reservation(name, self._ports.lend(), time.monotonic() + seconds)
        self._reserved[name] = reservation
        return reservation

    def release(self, name: str) -> None:
        """Raises: NotFound"""
        self._expire()
        if name not in self._reserved:
            raise NotFound(name, "reservation")
        self._ports.give_back(self._reserved.pop(name).port)

    def _expire(self) -> None:
        now = time.monotonic()
        for name, reservation in list(self._reserved.items()):
            listened = not is_free(reservation.port)
            if (reservation.used and not listened) or (not listened and now >= reservation.deadline):
                self._ports.give_back(self._reserved.pop(name).port)
            reservation.used = listened


def is_free(port: int) -> bool:
    """True if nobody listens on the port on either loopback address."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False  # any other: this machine has no IPv6
    return True
