"""What people should look at, and have not asked for: published once to those who watch the lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LostSocket:
    """A page opened a WebSocket at a path that belongs to no service.

    Attributes:
        prefix: of the page's service, as far as it is known; else empty.
    """

    path: str
    prefix: str


@dataclass(frozen=True, slots=True)
class FailedRequests:
    """A page has loaded, and requests of it have failed.

    Attributes:
        target: the port or the name of the service.
        count: of different paths.
    """

    target: str
    count: int


Notice = LostSocket | FailedRequests
Report = Callable[[Notice], None]
