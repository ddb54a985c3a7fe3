"""The metrics of this extension on Jupyter's `/metrics`.

The gateway and the service manager keep plain numbers, which cost next to nothing per request; Prometheus' scrapes read them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import get_args

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..gateway.gateway import Gateway
from ..services.manager import ServiceManager
from ..services.service import ServiceState

_PREFIX = "jupyter_portproxy_"


class PortProxyCollector(Collector):
    """Reads the numbers of one server's gateway and services. Register it once, and unregister it at the end."""

    def __init__(self, gateway: Gateway, services: ServiceManager) -> None:
        self._gateway, self._services = gateway, services

    def collect(self) -> Iterator[Metric]:
        counts = self._gateway.counters
        yield _labelled("requests", "Requests answered, by class of status", "status", counts.responses)
        yield _labelled(
            "upstream_errors", "Requests that failed because of their service, by code", "code", counts.upstream_errors
        )
        sizes = {"to_service": counts.bytes_to_service, "to_client": counts.bytes_to_client, "tunnels": counts.bytes_in_tunnels}
        yield _labelled("bytes", "Bytes of content relayed, by direction", "way", sizes)
        yield _labelled("service_starts", "Services started, by template", "template", self._services.starts)
        yield _labelled("service_failures", "Services that failed, by template", "template", self._services.failures)
        yield _labelled("service_unhealthy", "Services that became unhealthy, by template", "template", self._services.unhealthy)
        yield self._services_by_state()
        yield _labelled("refusals", "Requests refused by a limit, by the setting's name", "limit", counts.refusals)
        yield GaugeMetricFamily(f"{_PREFIX}tunnels", "Open tunnels", value=self._gateway.tunnels)
        yield GaugeMetricFamily(f"{_PREFIX}exchanges", "Requests in flight", value=self._gateway.exchanges)
        slots = GaugeMetricFamily(f"{_PREFIX}slots", "Slots in use, by kind of limit", labels=["kind"])
        for limited in (self._gateway.limits.exchanges, self._gateway.limits.tunnels):
            slots.add_metric([limited.kind], limited.in_all)
        yield slots

    def _services_by_state(self) -> GaugeMetricFamily:
        states = GaugeMetricFamily(f"{_PREFIX}services", "Services, by state", labels=["state"])
        numbers = Counter(service.state for service in self._services.list())
        for state in get_args(ServiceState):
            states.add_metric([state], numbers[state])
        return states

    def register(self) -> None:
        REGISTRY.register(self)

    def unregister(self) -> None:
        with suppress(KeyError):  # a server may stop its extensions twice
            REGISTRY.unregister(self)


def _labelled(name: str, text: str, label: str, values: dict[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{_PREFIX}{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
