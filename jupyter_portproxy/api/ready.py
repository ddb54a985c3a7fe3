"""`GET proxy/api/ready`: whether a port or service can be used now, for scripts that wait for it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import asdict, dataclass

from ..errors import BadInput, Distrusted, Forbidden, GatewayError, LoopDetected, NotFound
from ..gateway.policy import Policy
from ..gateway.probe import Probe, target_of, upstream_of
from ..handlers.jupyter_request import is_permitted
from ..protocol import urls
from ..protocol.urls import Route, Upstream
from ..services.manager import ServiceManager
from ..services.service import Service
from ..services.template_keys import NAME, NAME_HINT
from .handlers import ProxyAPIHandler, permitted

_PATH = re.compile(r"/[!\"$-~]{0,2000}\Z")  # as it goes into a request


@dataclass(frozen=True, slots=True)
class ReadyResult:
    """Schema `Ready` of docs/openapi.yaml.

    Attributes:
        reason: why it is not ready, in one sentence; else empty.
        ended: it is a service that has ended and is not started again by itself.
    """

    ready: bool
    reason: str = ""
    ended: bool = False


class Readiness:
    """Checks whether ports and services accept connections, or answer a request."""

    def __init__(self, policy: Policy, services: ServiceManager, probe: Probe) -> None:
        self._policy, self._services, self._probe = policy, services, probe

    async def of_port(self, port: int, path: str) -> ReadyResult:
        """Whether a port of this machine accepts connections; with a path, whether it answers there with a status below 400.

        Raises:
            Forbidden, LoopDetected: it may not be reached.
            Distrusted: its certificate is not valid.
        """
        upstream = await self._policy.resolve(Route(urls.LOOPBACK_NAME, port, "", "/", ""))
        return await self._look(upstream, path, f"Port {port}")

    async def of_service(self, name: str, path: str, *, with_output: bool) -> ReadyResult:
        """Whether a service is up; with a path, whether it answers there with a status below 400.

        Args:
            with_output: a reason may quote the service's output.

        Raises:
            BadInput: a path of a service that speaks no HTTP.
            Distrusted: its certificate is not valid.
        """
        try:
            service = self._services.service_for(name)
        except NotFound as error:
            return ReadyResult(False, error.message)
        if path and not service.template.has_page:
            raise BadInput(f"The service '{name}' speaks no HTTP, so that no path of it can be looked at.", "Leave the path out.")
        if not service.alive:
            return ReadyResult(False, self._services.failure(service, with_output=with_output).message, _has_ended(service))
        if service.state != "up":
            reason = service.reason(with_output=with_output)
            return ReadyResult(False, f"The service '{name}' is {service.state}.{' ' if reason else ''}{reason}")
        if not path:
            return ReadyResult(True)
        upstream = upstream_of(service.endpoint, service.template)
        return await self._look(upstream, target_of(service, path), f"The service '{name}'", path)

    async def _look(self, upstream: Upstream, target: str, subject: str, path: str = "") -> ReadyResult:
        """Connect, or request the target if there is one; `path` is its name in the result."""
        try:
            if not target:
                await self._probe.connect(upstream)
                return ReadyResult(True)
            status = await self._probe.status(upstream, target)
        except (Forbidden, LoopDetected, Distrusted):  # waiting does not help
            raise
        except GatewayError as error:
            return ReadyResult(False, error.message)
        except asyncio.TimeoutError:
            return ReadyResult(False, f"{subject} does not answer in time.")
        return (
            ReadyResult(True) if status < 400 else ReadyResult(False, f"{subject} answers {path or target} with status {status}.")
        )


class ReadyHandler(ProxyAPIHandler):
    """`GET ready?port=N` or `?service=NAME`, with `&path=/health`: whether it can be used now, and why not."""

    def initialize(self, readiness: Readiness) -> None:  # type: ignore[override]
        self._readiness = readiness

    @permitted("execute")
    async def get(self) -> None:
        port, service, path = (self.get_query_argument(name, "", strip=False) for name in ("port", "service", "path"))
        if bool(port) == bool(service):
            raise BadInput("The request has either 'port' or 'service'.", "Send one of them.")
        if path and not _PATH.match(path):
            raise BadInput.value("path", path, "Write a path as in a URL, such as /health.")
        if port:
            return self.send(asdict(await self._readiness.of_port(urls.parse_port(port), path)))
        if not NAME.match(service):
            raise BadInput.name("service", service, NAME_HINT)
        self.send(asdict(await self._readiness.of_service(service, path, with_output=await is_permitted(self, "read"))))


def _has_ended(service: Service) -> bool:
    """True if no restart of it is due."""
    return not service.agent and (service.task is None or service.task.done())


ROUTES: list[tuple[str, type[ProxyAPIHandler]]] = [(r"/proxy/api/ready", ReadyHandler)]
