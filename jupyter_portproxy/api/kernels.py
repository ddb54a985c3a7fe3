"""`GET proxy/api/kernels`: the kernels in whose environments services can be started."""

from __future__ import annotations

from typing import Any

from ..errors import BadInput
from ..services.kernel_environments import KernelEnvironment
from .handlers import ProxyAPIHandler, permitted


class KernelsHandler(ProxyAPIHandler):
    """All kernels of the server, each with its environment or the reason why it has none here."""

    @permitted("read")
    async def get(self) -> None:
        self.send([describe_kernel(name, found) for name, found in await self.services.kernels.read_all()])


def describe_kernel(name: str, found: KernelEnvironment | BadInput) -> dict[str, Any]:
    if isinstance(found, BadInput):
        unknown = {"title": name, "language": "", "python": None, "environment": None, "own": False}
        return {"name": name, **unknown, "available": False, "reason": f"{found.message} {found.hint}"}
    program = {"language": found.language, "python": found.python or None, "environment": found.prefix}
    return {"name": name, "title": found.title, **program, "own": found.is_servers_own, "available": True, "reason": ""}


ROUTES: list[tuple[str, type[ProxyAPIHandler]]] = [(r"/proxy/api/kernels", KernelsHandler)]
