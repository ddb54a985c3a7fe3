"""Activity of the Jupyter server by services that run, where their templates say so (`running_is_activity`): for long jobs.

There is one timer, which is set while such a service runs, and no other work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .manager import ServiceManager
from .service import Service

PERIOD = 30.0  # s; JupyterHub's servers report their activity every 300 s


class RunningActivity:
    """Records activity from the start of such a service to its end.

    Args:
        record: records activity of the server now.
        period: seconds between two records.
    """

    def __init__(self, services: ServiceManager, record: Callable[[], None], *, period: float = PERIOD) -> None:
        self._services, self._record, self._period = services, record, period
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe = services.subscribe(self._service_changed, watches=False)

    def _service_changed(self, service: Service) -> None:
        if service.template.running_is_activity:
            self._update()

    def _update(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._record()
        if any(service.alive and service.template.running_is_activity for service in self._services.list()):
            self._timer = asyncio.get_running_loop().call_later(self._period, self._update)

    def close(self) -> None:
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
