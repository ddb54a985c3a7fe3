"""The REST API and event stream below `proxy/api/`, for the panel and the command line (docs/openapi.yaml).

Responses are JSON, except logs and events, which are streams of text; errors have a stable `code`. Jupyter's base class checks
the login, the authorizer's permission and the XSRF token of writes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, authenticated

from ..errors import BadInput, GatewayError, Unauthenticated
from ..gateway.policy import Policy
from ..handlers.jupyter_request import ACTION, PROJECTS_RESOURCE, RESOURCE, is_permitted
from ..protocol.urls import parse_port
from ..services import port_rules
from ..services.manager import ServiceManager
from ..services.ports import Reservations
from ..services.service import Service
from ..services.user_file import in_thread
from .events import Events
from .listing import Listing

_CODES = {400: "bad_input", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_refused"}
_FOLLOW_PERIOD = 0.2  # s
_MAX_CONTENT = 1 << 20  # bytes
_TEXT = "text/plain; charset=utf-8"
Method = Callable[..., Awaitable[None] | None]


def permitted(*actions: str) -> Callable[[Method], Method]:
    """A decorator: the method serves users who are logged in, and to whom the authorizer permits all of these actions."""

    def decorate(method: Method) -> Method:
        for action in reversed(actions):
            method = authorized(action)(method)
        return authenticated(method)

    return decorate


class ProxyAPIHandler(APIHandler):
    """Collaborators, request bodies, responses and errors of all handlers."""

    auth_resource = RESOURCE

    def initialize(
        self, listing: Listing, events: Events, services: ServiceManager, reservations: Reservations, policy: Policy
    ) -> None:
        self.listing, self.events, self.services, self.reservations = listing, events, services, reservations
        self.policy = policy

    def get_login_url(self) -> str:
        """Tornado's `authenticated` takes it for a request without a login."""
        raise Unauthenticated()

    def update_api_activity(self) -> None:
        """Record activity of the server for writes alone: pages and commands repeat what they read by themselves."""
        if self.request.method not in ("GET", "HEAD"):
            super().update_api_activity()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, GatewayError):
            self.set_status(error.status)
            if error.retry_after is not None:
                self.set_header("Retry-After", str(error.retry_after))
            body = error.as_json()
        else:
            message = error.log_message if isinstance(error, HTTPError) and status_code < 500 else None
            body = {"code": _CODES.get(status_code, "internal"), "message": message or self._reason, "hint": ""}
        self.send(body, self.get_status())

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, GatewayError):
            super().log_exception(typ, value, tb)

    def send(self, body: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body))

    async def send_service(self, service: Service, status: int = 200) -> None:
        """Send a service, without its output to a user who may not read it."""
        item = self.listing.service(service)
        if not await is_permitted(self, "read"):
            item.update(error=service.reason(with_output=False), last_lines=[])
        self.send(item, status)

    def send_nothing(self) -> None:
        self.set_status(204)
        self.finish()

    def json_body(self, *allowed: str) -> dict[str, Any]:
        """The request's JSON object.

        Raises:
            BadInput: the body is too large, is not a JSON object, or has keys that are not allowed.
        """
        size = len(self.request.body)
        if size > _MAX_CONTENT:
            raise BadInput(f"The request's content has {size} bytes.", f"Send a JSON object of at most {_MAX_CONTENT} bytes.")
        try:
            data = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):  # the latter: 10,000 brackets
            raise BadInput("The request's content is not JSON.", "Send a JSON object.") from None
        if not isinstance(data, dict) or not set(data) <= set(allowed):
            raise BadInput(f"The request's content is not an object with keys among {', '.join(allowed)}.", "Send a JSON object.")
        return cast("dict[str, Any]", data)


class PortsHandler(ProxyAPIHandler):
    """`GET ports`: the listening ports. `?look=PORT` fetches the page of that port again."""

    @permitted("read")
    async def get(self) -> None:
        port = self.get_query_argument("look", "")
        if port and (not port.isascii() or not port.isdigit() or len(port) > 5):
            raise BadInput("The parameter 'look' is not a port.", "Send a number from 1 to 65535.")
        if port:
            self.listing.probe_again(int(port))
        self.send(await self.listing.ports())


class TemplatesHandler(ProxyAPIHandler):
    """`GET templates`: the templates that services are started from; with `?kernel=NAME`, whether they are available there."""

    @permitted("read")
    async def get(self) -> None:
        self.send(await self.listing.templates(self.get_query_argument("kernel", "")))


class ServicesHandler(ProxyAPIHandler):
    """`GET services`; `POST services` starts one: {template, name?, arguments?, kernel?}. 201, or 200 if it runs already."""

    @permitted("read")
    async def get(self) -> None:
        self.send(self.listing.services())

    @permitted("execute")
    async def post(self) -> None:
        data = self.json_body("template", "name", "arguments", "kernel")
        arguments = data.get("arguments")
        if not isinstance(data.get("template"), str) or not isinstance(arguments, dict | None):
            raise BadInput("'template' must be a string, and 'arguments' an object.", "See the API's description.")
        name, kernel = data.get("name"), data.get("kernel")
        for key, value in (("name", name), ("kernel", kernel)):
            if value is not None and not isinstance(value, str):
                raise BadInput(f"'{key}' must be a string.", "See the API's description.")
        if kernel:
            await self.services.kernels.find(kernel)  # or it is refused now
        await self.services.wait_stopped(name, data["template"])
        running = {service for service in self.services.list() if service.alive}
        user = self.current_user.username
        service = self.services.start(data["template"], name, arguments, started_by=user, kernel=kernel)
        await self.send_service(service, 200 if service in running else 201)


class ServiceHandler(ProxyAPIHandler):
    """`GET services/NAME`; `DELETE services/NAME` stops it and removes it from the list."""

    @permitted("read")
    async def get(self, name: str) -> None:
        await self.send_service(self.services.get(name))

    @permitted("execute")
    async def delete(self, name: str) -> None:
        await self.services.delete(name)
        self.send_nothing()


class RestartHandler(ProxyAPIHandler):
    """`POST services/NAME/restart`: stops it if it runs, and starts it with the same arguments."""

    @permitted("execute")
    async def post(self, name: str) -> None:
        await self.send_service(await self.services.restart(name))


class StopHandler(ProxyAPIHandler):
    """`POST services/NAME/stop`: stops it and keeps its log and arguments."""

    @permitted("execute")
    async def post(self, name: str) -> None:
        await self.send_service(await self.services.stop(name))


class ReservationsHandler(ProxyAPIHandler):
    """`GET reservations`; `POST reservations` reserves a free port for a name: {name, seconds?}."""

    @permitted("read")
    async def get(self) -> None:
        self.send(self.listing.reservations())

    @permitted("execute")
    async def post(self) -> None:
        data = self.json_body("name", "seconds")
        if data.get("name") in self.services:
            raise BadInput("A service has that name.", "Choose another name.")
        self.send(self.listing.reservation(self.reservations.reserve(data.get("name"), data.get("seconds", 600))), 201)


class ReservationHandler(ProxyAPIHandler):
    """`DELETE reservations/NAME`: releases the port."""

    @permitted("execute")
    async def delete(self, name: str) -> None:
        self.reservations.release(name)
        self.send_nothing()


class UserPortsHandler(ProxyAPIHandler):
    """`GET allowed-ports`: what the user has allowed; `PUT allowed-ports` allows a port: {port, seconds?}."""

    @permitted("read")
    async def get(self) -> None:
        self.send(self.listing.user_ports())

    @permitted("execute")
    async def put(self) -> None:
        data = self.json_body("port", "seconds")
        port = data.get("port")
        if isinstance(port, bool) or not isinstance(port, int) or not 0 < port <= 65535:
            raise BadInput("'port' is not a port.", "Send a number from 1 to 65535.")
        allowed = await self.policy.allow_for_user(port, data.get("seconds"))
        self.listing.probe_again(port)
        self.send(asdict(allowed))


class UserPortHandler(ProxyAPIHandler):
    """`DELETE allowed-ports/PORT`: takes the port back."""

    @permitted("execute")
    async def delete(self, port: str) -> None:
        number = parse_port(port)
        await self.policy.disallow_for_user(number)
        self.listing.probe_again(number)
        self.send_nothing()


class PortRulesHandler(ProxyAPIHandler):
    """`GET port-rules`: the user's rules; `PUT port-rules` makes a rule or replaces the one with the same match (PortRule).

    `PATCH port-rules` keeps the attributes that are not sent.
    """

    @permitted("read")
    async def get(self) -> None:
        self.send([asdict(rule) for rule in self.policy.port_rules.list()])

    @permitted("execute")
    async def put(self) -> None:
        await self._store(self.policy.port_rules.put)

    @permitted("execute")
    async def patch(self) -> None:
        await self._store(self.policy.port_rules.change)

    async def _store(self, change: Callable[[Mapping[str, object]], port_rules.PortRule]) -> None:
        rule = await in_thread(change, self.json_body(*port_rules.KEYS))
        self.listing.scan_again()
        self.send(asdict(rule))


class PortRuleHandler(ProxyAPIHandler):
    """`DELETE port-rules/ID`: removes the rule."""

    @permitted("execute")
    async def delete(self, rule: str) -> None:
        await in_thread(self.policy.port_rules.remove, rule)
        self.listing.scan_again()
        self.send_nothing()


class LogsHandler(ProxyAPIHandler):
    """`GET services/NAME/logs`: its output, at most the last MiB; `?follow=1` streams more until it ends."""

    @permitted("read")
    async def get(self, name: str) -> None:
        service = self.services.get(name)
        self.set_header("Content-Type", _TEXT)
        self.set_header("X-Content-Type-Options", "nosniff")
        sent = service.log.written
        self.write(service.log.tail())
        if self.get_query_argument("follow", "") != "1":
            self.finish(set_content_type=_TEXT)
            return
        try:
            await self.flush()
            while service.alive or service.log.written > sent:
                more = service.log.written - sent
                if more:
                    sent += more
                    self.write(service.log.tail(more))
                    await self.flush()
                await asyncio.sleep(_FOLLOW_PERIOD)
            self.finish(set_content_type=_TEXT)
        except StreamClosedError:
            pass  # the client has disconnected


class EventsHandler(ProxyAPIHandler):
    """`GET events`: server-sent events, a `snapshot`, then `changed` and `removed` (HTML Living Standard, 9.2)."""

    @permitted("read")
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        sees_projects, sees_folders = await is_permitted(self, "read", PROJECTS_RESOURCE), await is_permitted(self, ACTION)
        watching = self.events.watch(self.current_user.username if sees_projects else None, sees_folders=sees_folders)
        try:
            async for event in watching:
                self.write(f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n" if event else ": still here\n\n")
                await self.flush()
        except StreamClosedError:
            pass  # the client has disconnected
        finally:
            await watching.aclose()  # type: ignore[attr-defined]


class OriginsHandler(ProxyAPIHandler):
    """`GET origins`: whether services open at isolated origins, and the URL by which a browser tests that it can reach them."""

    @permitted("read")
    async def get(self) -> None:
        self.send(self.listing.origins(self.request))


class UnknownPathHandler(ProxyAPIHandler):
    """Any other path below `proxy/api/`: 404."""

    @permitted("read")
    async def get(self) -> None:
        raise HTTPError(404)


_NAME = r"([^/]+)"
ROUTES: list[tuple[str, type[ProxyAPIHandler]]] = [
    (r"/proxy/api/ports", PortsHandler),
    (r"/proxy/api/templates", TemplatesHandler),
    (r"/proxy/api/services", ServicesHandler),
    (rf"/proxy/api/services/{_NAME}", ServiceHandler),
    (rf"/proxy/api/services/{_NAME}/restart", RestartHandler),
    (rf"/proxy/api/services/{_NAME}/stop", StopHandler),
    (rf"/proxy/api/services/{_NAME}/logs", LogsHandler),
    (r"/proxy/api/reservations", ReservationsHandler),
    (rf"/proxy/api/reservations/{_NAME}", ReservationHandler),
    (r"/proxy/api/allowed-ports", UserPortsHandler),
    (r"/proxy/api/allowed-ports/(?P<port>[^/]+)", UserPortHandler),
    (r"/proxy/api/port-rules", PortRulesHandler),
    (r"/proxy/api/port-rules/(?P<rule>[^/]+)", PortRuleHandler),
    (r"/proxy/api/events", EventsHandler),
    (r"/proxy/api/origins", OriginsHandler),
    (r"/proxy/api/.*", UnknownPathHandler),
]
