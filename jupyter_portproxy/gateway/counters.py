"""What has passed through the gateway since the start, as plain numbers that `/metrics` reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

_STATUS_CLASSES = [f"{digit}xx" for digit in range(10)]


@dataclass(slots=True)
class Counters:
    """Responses by class of status, upstream errors by code, refusals by setting, and bytes of content."""

    responses: Counter[str] = field(default_factory=Counter)
    upstream_errors: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    bytes_to_service: int = 0
    bytes_to_client: int = 0
    bytes_in_tunnels: int = 0

    def count_response(self, status: int) -> None:
        self.responses[_STATUS_CLASSES[status // 100]] += 1

    def count_upstream_error(self, code: str) -> None:
        self.upstream_errors[code] += 1

    def count_in_tunnels(self, size: int) -> None:
        self.bytes_in_tunnels += size

    def count_refusal(self, setting: str) -> None:
        self.refusals[setting] += 1
