"""What has passed through the gateway since the start, as plain numbers that `/metrics` reads."""

from __future__ import annotations

from dataclasses import dataclass, field

_STATUS_CLASSES = [f"{digit}xx" for digit in range(10)]


@dataclass(slots=True)
class Counters:
    """Answers by class of status, upstream errors by code, refusals by setting, and bytes of content."""

    answers: dict[str, int] = field(default_factory=dict)
    upstream_errors: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    bytes_to_service: int = 0
    bytes_to_client: int = 0
    bytes_in_tunnels: int = 0

    def answer(self, status: int) -> None:
        _increment(self.answers, _STATUS_CLASSES[status // 100])

    def upstream_error(self, code: str) -> None:
        _increment(self.upstream_errors, code)

    def refusal(self, setting: str) -> None:
        _increment(self.refusals, setting)


def _increment(numbers: dict[str, int], key: str) -> None:
    numbers[key] = numbers.get(key, 0) + 1
