"""Hooks: what the configuration of a destination changes in its requests and responses.

`server_proxy` derives the functions of jupyter-server-proxy's configuration from them, `projects` the fields for the next hop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tornado.httputil import HTTPServerRequest
    from tornado.web import RequestHandler


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service listens: a loopback port, or a Unix socket (then `port` is 0)."""

    port: int
    unix_socket: str = ""


@dataclass(frozen=True, slots=True)
class BufferedResponse:
    """A response that was read to its end."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    content: bytes


class RequestHooks:
    """Changes to the requests and responses of one destination. This class changes nothing."""

    __slots__ = ()

    @property
    def raw_socket(self) -> bool:
        """The service does not speak HTTP: the messages of a WebSocket are its byte stream."""
        return False

    @property
    def rewrites(self) -> bool:
        """Responses are passed to `rewrite`."""
        return False

    @property
    def depends_on_request(self) -> bool:
        """Fields or path depend on each request: a decision for one must not be reused for another."""
        return False

    @property
    def renamed_fields(self) -> Mapping[str, str]:
        """Field name in lower case -> the name under which it is sent where `request_fields` has a field of that name."""
        return {}

    def request_fields(self, endpoint: Endpoint, base_url: str) -> list[tuple[str, str]]:
        """Fields that replace those of the request.

        Raises:
            TemplateError: a function of the configuration failed.
        """
        return []

    def path(self, path: str) -> str:
        """The path that is requested from the service instead."""
        return path

    def counts_as_activity(self, handler: RequestHandler) -> bool:
        """True if a request counts as activity of the Jupyter server."""
        return True

    def rewrite(
        self, response: BufferedResponse, request: HTTPServerRequest, host: str, port: int, path: str
    ) -> BufferedResponse:
        """The response that is sent to the client instead."""
        return response


class TemplateHooks(RequestHooks):
    """Hooks of a template, which also compute the command and the environment of its services.

    `values` are the template's placeholders and their values. Both raise TemplateError if a function of the configuration failed.
    """

    __slots__ = ()

    def command(self, values: Mapping[str, str]) -> list[str]:
        raise NotImplementedError

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        raise NotImplementedError
