"""What is observed of one request while an observer is set: who sent what, what the gateway did, and how it ended.

`Gateway.observer` is None while nothing is recorded, and requests then pass without an `ObservedRequest`. Otherwise
`Observer.begin` makes one, the handlers fill it as the request passes, and it is reported at most twice: by `open` when a tunnel
begins to relay, and by `end` once, when the exchange or tunnel is over. It has the request's secrets: what is kept of it must be
masked first.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any, Literal, Protocol

from tornado.httputil import HTTPHeaders

from ..protocol.headers import Client, Fields
from .destinations import Destination

Peer = Literal["client", "service", "gateway"]


class ObservedRequest:
    """One request in flight. Attributes that are not set yet are those of the class: many requests set few of them.

    Attributes:
        recording: where the observer records it.
        kind: "http", "websocket", or "tcp" for raw TCP.
        uri: the request target, as sent.
        fields: of the request.
        secrets: Jupyter's tokens, and the credentials by which the request logs in.
        outbound_fields: those that went to the upstream; None if nothing did.
        response_fields: of the upstream's response; None without one.
        status: of the response to the client; 0 if there is none.
        sent: fields of that response.
        by_referer: the response is the redirect of a request at the root to the service whose page has sent it.
        error: code of the GatewayError that ended it; or empty.
        is_whole: the client got all of the response.
        began: see `time.monotonic`.
        first_byte, ended: seconds from the begin to the response's head, and to the end; None before.
        close_code: of the first close frame of a WebSocket; None without one. `closed_by` has sent it.
        left_out: requests since the last one that is observed, which are not.
        recorded: what the observer has made of it.
    """

    fields: Fields = []  # noqa: RUF012 (never changed)
    secrets: Collection[str] = ()
    client: Client | None = None
    destination: Destination | None = None
    outbound_fields: Fields | None = None
    response_fields: Fields | None = None
    status = 0
    sent: HTTPHeaders | None = None
    by_referer = False
    error = ""
    is_whole = True
    bytes_up = 0
    bytes_down = 0
    close_code: int | None = None
    closed_by: Peer | None = None
    first_byte: float | None = None
    ended: float | None = None
    left_out = 0
    recorded: Any = None

    def __init__(self, observer: Observer, recording: Any, kind: str, method: str, uri: str, scheme: str) -> None:
        self.observer, self.recording = observer, recording
        self.kind, self.method, self.uri, self.scheme = kind, method, uri, scheme
        self.began = time.monotonic()

    def pass_on(self, destination: Destination, client: Client, fields: Fields, outbound_fields: Fields) -> None:
        """The request goes to the upstream with these fields."""
        self.destination, self.client, self.fields, self.outbound_fields = destination, client, fields, outbound_fields
        self.secrets = client.secrets

    def mark_first_byte(self) -> None:
        """The head of a response is there."""
        self.first_byte = time.monotonic() - self.began

    def close(self, code: int, peer: Peer) -> None:
        """A close frame has passed; the first one counts."""
        if self.close_code is None:
            self.close_code, self.closed_by = code, peer

    def open(self) -> None:
        """A tunnel relays."""
        if self.ended is None:
            self.observer.report(self)

    def forget_head(self) -> None:
        """Drop what has the request's secrets: a tunnel may be open for long."""
        self.uri, self.fields, self.secrets, self.client, self.destination = "", [], (), None, None
        self.outbound_fields, self.response_fields, self.sent = None, None, None

    def end(self, *, is_whole: bool = True) -> None:
        """It is over; further calls have no effect."""
        if self.ended is None:
            self.ended, self.is_whole = time.monotonic() - self.began, is_whole
            self.observer.report(self)


class Observer(Protocol):
    """What records requests."""

    def begin(self, target: str, kind: str, method: str, uri: str, scheme: str) -> ObservedRequest | None:
        """A request to a port or service begins; None if it is not recorded."""

    def report(self, observed: ObservedRequest) -> None:
        """A tunnel relays, or an exchange or tunnel is over (`ended`)."""
