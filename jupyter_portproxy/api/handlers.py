"""The REST API and event stream below `proxy/api/`, for the panel and the command line. Thin: it asks and prints.

Rule of this file: every answer is JSON (logs and events are streams of text), every error has a stable `code`; nothing is
decided here but who may call, which Jupyter's own base class does (login, XSRF token for writes, authorizer).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, authenticated

from ..errors import BadInput, GatewayError
from ..services.manager import Service, ServiceManager
from ..services.ports import Reservations
from .listing import Inventory

_CODES = {400: "bad_input", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_refused"}
_FOLLOW_PERIOD = 0.2
_TEXT = "text/plain; charset=utf-8"


class Api(APIHandler):
    """What the handlers share: the parts they ask, and the form of answers and errors."""

    auth_resource = "portproxy"

    def initialize(self, inventory: Inventory, services: ServiceManager, reservations: Reservations) -> None:
        self.inventory, self.services, self.reservations = inventory, services, reservations

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        if isinstance(error, GatewayError):
            self.set_status(error.status)
            if error.retry_after is not None:
                self.set_header("Retry-After", str(error.retry_after))
            body = error.as_json()
        else:
            said = error.log_message if isinstance(error, HTTPError) and status_code < 500 else None
            body = {"code": _CODES.get(status_code, "internal"), "message": said or self._reason, "hint": ""}
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body))

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, GatewayError):
            super().log_exception(typ, value, tb)

    def answer(self, body: object, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(body))

    def told(self, service: Service, status: int = 200) -> None:
        self.answer(self.inventory.service(service), status)

    def body(self, *allowed: str) -> dict[str, Any]:
        """The request's JSON object.

        Raises:
            BadInput: it is none, or has keys that are not allowed.
        """
        try:
            data = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError):  # the latter: 10,000 brackets
            raise BadInput("The request's content is no JSON.", "Send a JSON object.") from None
        if not isinstance(data, dict) or not set(data) <= set(allowed):
            raise BadInput(f"The request's content is no object with keys among {', '.join(allowed)}.", "Send a JSON object.")
        return cast("dict[str, Any]", data)


class Ports(Api):
    """`GET ports`: the listeners. `?look=PORT` asks that port for its page once more."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        again = self.get_query_argument("look", "")
        if again:
            if not again.isascii() or not again.isdigit() or len(again) > 5:
                raise BadInput("The parameter 'look' is no port.", "Send a number from 1 to 65535.")
            await self.inventory.look_again(int(again))
        self.answer(await self.inventory.ports())


class Templates(Api):
    """`GET templates`: what can be started."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.answer(self.inventory.templates())


class ServiceList(Api):
    """`GET services`: what was started. `POST services` starts: {template, name?, arguments?}; 200 if it ran already."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.answer(self.inventory.services())

    @authenticated
    @authorized("execute")
    async def post(self) -> None:
        asked = self.body("template", "name", "arguments")
        arguments = asked.get("arguments") or {}
        if not isinstance(asked.get("template"), str) or not isinstance(arguments, dict):
            raise BadInput("'template' is no text, or 'arguments' no object.", "See the API's description.")
        name = asked.get("name")
        if name is not None and not isinstance(name, str):
            raise BadInput("'name' is no text.", "See the API's description.")
        await self.services.settle(name, asked["template"])
        running = {service for service in self.services.list() if service.alive}
        service = self.services.start(asked["template"], name, arguments)
        self.told(service, 200 if service in running else 201)


class OneService(Api):
    """`GET services/NAME`, and `DELETE services/NAME`, which stops it and forgets it."""

    @authenticated
    @authorized("read")
    async def get(self, name: str) -> None:
        self.told(self.services.get(name))

    @authenticated
    @authorized("execute")
    async def delete(self, name: str) -> None:
        await self.services.delete(name)
        self.set_status(204)
        self.finish()


class Restart(Api):
    """`POST services/NAME/restart`: stops it if it runs, and starts it with the same arguments."""

    @authenticated
    @authorized("execute")
    async def post(self, name: str) -> None:
        self.told(await self.services.restart(name))


class Stop(Api):
    """`POST services/NAME/stop`: stops it; its log and its arguments stay."""

    @authenticated
    @authorized("execute")
    async def post(self, name: str) -> None:
        self.told(await self.services.stop(name))


class ReservationList(Api):
    """`GET reservations`; `POST reservations` lends a free port to a name: {name, seconds?}."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.answer(self.inventory.reservations())

    @authenticated
    @authorized("execute")
    async def post(self) -> None:
        asked = self.body("name", "seconds")
        if asked.get("name") in self.services:
            raise BadInput("A service has that name.", "Choose another name.")
        self.answer(self.inventory.reservation(self.reservations.reserve(asked.get("name"), asked.get("seconds", 600))), 201)


class OneReservation(Api):
    """`DELETE reservations/NAME`: gives the port back."""

    @authenticated
    @authorized("execute")
    async def delete(self, name: str) -> None:
        self.reservations.release(name)
        self.set_status(204)
        self.finish()


class Logs(Api):
    """`GET services/NAME/logs`: what it has printed, at most the last MiB; `?follow=1` goes on until it ends."""

    @authenticated
    @authorized("read")
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
            pass  # the reader has gone


class Events(Api):
    """`GET events`: server-sent events, a `snapshot`, then `changed` and `removed` (HTML Living Standard, 9.2)."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Cache-Control", "no-store")
        watching = self.inventory.watch()
        try:
            async for found in watching:
                self.write(f"event: {found[0]}\ndata: {json.dumps(found[1])}\n\n" if found else ": still here\n\n")
                await self.flush()
        except StreamClosedError:
            pass  # the watcher has gone
        finally:
            await watching.aclose()  # type: ignore[attr-defined]


class Origins(Api):
    """`GET origins`: whether services are to be opened at origins of their own, and where to see if the browser finds them."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        self.answer(self.inventory.origins(self.request))


class UnknownPathHandler(Api):
    """Everything else below `proxy/api/`."""

    @authenticated
    @authorized("read")
    async def get(self) -> None:
        raise HTTPError(404)


_NAME = r"([^/]+)"
ROUTES: list[tuple[str, type[Api]]] = [
    (r"/proxy/api/ports", Ports),
    (r"/proxy/api/templates", Templates),
    (r"/proxy/api/services", ServiceList),
    (rf"/proxy/api/services/{_NAME}", OneService),
    (rf"/proxy/api/services/{_NAME}/restart", Restart),
    (rf"/proxy/api/services/{_NAME}/stop", Stop),
    (rf"/proxy/api/services/{_NAME}/logs", Logs),
    (r"/proxy/api/reservations", ReservationList),
    (rf"/proxy/api/reservations/{_NAME}", OneReservation),
    (r"/proxy/api/events", Events),
    (r"/proxy/api/origins", Origins),
    (r"/proxy/api/.*", UnknownPathHandler),
]
