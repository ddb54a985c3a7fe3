"""`POST proxy/api/diagnose`: looks at the page of a port or service, and says what is wrong with it."""

from __future__ import annotations

import asyncio

from ..api.handlers import ProxyAPIHandler, permitted
from ..errors import BadInput
from .doctor import PATH_HINT, Doctor
from .observation import Observation
from .report import build_report


class DiagnoseHandler(ProxyAPIHandler):
    """{port | service, path?} -> findings, the worst first. One at a time for each user.

    Args:
        doctor: looks at pages.
    """

    _looking: asyncio.Future[Observation] | None = None

    def initialize(self, doctor: Doctor) -> None:  # type: ignore[override]
        self._doctor = doctor

    @permitted("read", "execute")
    async def post(self) -> None:
        data = self.json_body("port", "service", "path")
        name, path = self._target(data), data.get("path", "/")
        if not isinstance(path, str):
            raise BadInput.value("path", path, PATH_HINT)
        by_token = bool(self.token_authenticated)
        user = "" if by_token else str(self.current_user.username)  # for a token alone Jupyter makes a new name each time
        token = str(self.identity_provider.get_token(self) or "") if by_token else ""
        self._looking = asyncio.ensure_future(self._doctor.look(user, name, path, self.request, token))
        seen = await self._looking
        self.send(await asyncio.to_thread(build_report, seen))

    def on_connection_close(self) -> None:
        """End the look with its caller."""
        super().on_connection_close()
        if self._looking is not None:
            self._looking.cancel()

    @staticmethod
    def _target(data: dict[str, object]) -> int | str:
        port, service = data.get("port"), data.get("service")
        if isinstance(port, int) and not isinstance(port, bool) and 0 < port <= 65535 and service is None:
            return port
        if isinstance(service, str) and port is None:
            return service
        raise BadInput("Neither 'port' nor 'service' names a page.", "Send one of them: a number from 1 to 65535, or a name.")


ROUTES = [(r"/proxy/api/diagnose", DiagnoseHandler)]
