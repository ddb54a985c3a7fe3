"""The recorder: the last exchanges of the ports and services that people look at, masked, in bounded memory.

A `Recording` is of one port or service. It begins when a watcher opens it and ends, with all that it has, `KEPT_FOR` seconds
after its last watcher has left. The gateway has an observer only while there is a recording. A WebSocket is recorded when it
opens, and again, under the same id, when it closes.

The first `_BURST` requests of a load are recorded, and what was left of an earlier `_BURST`, then `MAX_RATE` a second, in runs
of `_RUN`; each has the number of those that were left out before it. So the recorder takes little of what a load test
measures. One request by itself takes more CPU than one in a run, whose code and data are in the processor's caches.

A request that has ended waits for at most `_WAITING_TIME`. Those that wait are masked and recorded together, which takes less CPU
than each by itself between other requests. All that reads a recording records those first.

Watchers keep no queues: each remembers the `version` up to which it has what was recorded, and reads what is newer from the
recording. What has left the recording by then it does not get.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ..errors import TooMany
from ..gateway.observer import ObservedRequest, Observer
from ..protocol.headers import Fields, explain_refused_cookies, find_dropped_names
from .masking import mask_fields, mask_url

MAX_EXCHANGES = 200  # of one recording
MAX_SIZE = 800_000  # bytes of one recording
MAX_RECORDINGS = 20
KEPT_FOR = 600.0  # s
HEARTBEAT = 15.0  # s between comments on quiet streams, so that reverse proxies keep them open
MAX_RATE = 100.0  # requests a second
_BURST = 500  # requests that may come faster
_RUN = 50  # requests
_WAITING_TIME = 0.25  # s
_MAX_WAITING_SIZE = 200_000  # bytes of ended requests of one recording
_OVERHEAD = 800  # bytes of a RecordedExchange without its texts
_FIELD_OVERHEAD = 280  # bytes of a field without its texts, as it came and as it was passed on
_MAX_SHARED_HEADS = 64  # of a recording, so that later requests with equal fields share them
_MAX_SHARED_HEAD = 2048  # bytes; a larger one is not shared
_MAX_METHOD = 32  # characters
_MAX_NAMES = 40  # of fields or cookies, of at most 100 characters each
Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordedHead:
    """The fields of a request or response. Requests with equal fields share one object.

    Attributes:
        text: see `mask_fields`; of a request as it came, of a response as the client got it.
        removed: names of the fields that were not passed on.
        has_mapped_fields: a redirect or cookies came.
        size: bytes, estimated from above.
    """

    text: str
    removed: tuple[str, ...]
    has_mapped_fields: bool
    size: int


NO_HEAD = RecordedHead("", (), False, 0)


@dataclass(slots=True, eq=False)
class RecordedExchange:
    """One exchange or WebSocket, without secrets. Most attributes are those of ObservedRequest.

    Attributes:
        version: of the recording, when this was recorded.
        since: when it began, seconds since 1970.
        url: the request target.
        redirect: where the service has redirected to and where the client was sent instead; None if those are equal.
        refused_cookies: names and reasons.
        size: bytes, estimated from above.
    """

    id: int
    version: int
    since: float
    kind: str
    method: str
    scheme: str
    url: str
    request: RecordedHead = NO_HEAD
    response: RecordedHead = NO_HEAD
    status: int = 0
    error: str = ""
    is_open: bool = False
    is_whole: bool = True
    first_byte: float | None = None
    seconds: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    close_code: int | None = None
    closed_by: str | None = None
    by_referer: bool = False
    redirect: tuple[str, str] | None = None
    refused_cookies: tuple[tuple[str, str], ...] = ()
    left_out: int = 0
    size: int = _OVERHEAD


class Recording:
    """What is recorded of one port or service, in the order of the versions."""

    def __init__(self) -> None:
        self.exchanges: deque[RecordedExchange] = deque()
        self.size, self.version, self.watchers = 0, 0, 0
        self.end_timer: asyncio.TimerHandle | None = None
        self.changed = asyncio.Event()
        self.cleared = 0  # the version at which it was emptied last
        self.is_closed = False
        self.heads: dict[int, RecordedHead] = {}  # by the hash of all that they are made of
        self.waiting: list[ObservedRequest] = []  # what is to be recorded
        self.waiting_size = 0
        self.left_out = 0  # requests since the last one that is recorded
        self._allowed = 0  # requests, until the next run
        self._allowed_at = -math.inf  # when the last run began, monotonic

    def admit(self, now: float) -> bool:
        """True for a request that is to be recorded; `now` is monotonic time."""
        if not self._allowed:
            allowed = (now - self._allowed_at) * MAX_RATE
            if allowed < _RUN:
                self.left_out += 1
                return False
            self._allowed, self._allowed_at = int(min(allowed, _BURST)), now
        self._allowed -= 1
        return True

    def add(self, exchange: RecordedExchange) -> None:
        """Add an exchange, or one that has changed again."""
        exchanges = self.exchanges
        if exchange.version and exchange in exchanges:  # it may have left since
            exchanges.remove(exchange)
            self.size -= exchange.size
        exchange.version = self.version = self.version + 1
        exchanges.append(exchange)
        self.size += exchange.size
        while len(exchanges) > MAX_EXCHANGES or self.size > MAX_SIZE:
            self.size -= exchanges.popleft().size
        if self.watchers:
            self.changed.set()

    def clear(self) -> None:
        self.exchanges.clear()
        self.heads.clear()
        for observed in self.waiting:
            observed.forget_head()
        self.waiting.clear()
        self.size, self.waiting_size, self.version = 0, 0, self.version + 1
        self.cleared = self.version
        self.changed.set()

    def since(self, version: int) -> list[RecordedExchange]:
        """What was recorded after that version, the oldest first."""
        return [exchange for exchange in self.exchanges if exchange.version > version]

    async def wait_beyond(self, version: int) -> None:
        """Return when there is something newer."""
        if self.version == version and not self.is_closed:
            if self.changed.is_set():
                self.changed = asyncio.Event()
            await self.changed.wait()


class Recorder:
    """All recordings; the gateway's observer.

    Args:
        observe: sets the gateway's observer.
        find_other_name: for a port the service that runs there, for a service its port; empty if there is none.
    """

    def __init__(self, observe: Callable[[Observer | None], None], find_other_name: Callable[[str], str]) -> None:
        self._set_observer, self._find_other_name = observe, find_other_name
        self._recordings: dict[str, Recording] = {}
        self._lines: dict[tuple[str, str], str] = {}  # see `mask_fields`
        self._last_id = 0
        self._timer: asyncio.TimerHandle | None = None

    # ---- for the API ----

    def find(self, target: str) -> Recording | None:
        """The recording of a port or service, with all that has ended by now."""
        recording = self._find(target)
        if recording is not None:
            self._record_waiting(recording)
        return recording

    def clear(self, target: str) -> None:
        if (recording := self.find(target)) is not None:  # tunnels that wait are recorded first: they will be reported again
            recording.clear()

    async def watch(self, target: str) -> AsyncIterator[list[tuple[str, Any]]]:
        """Record a port or service while this runs.

        Yields:
            lists of events: ("snapshot", what there is) first, then ("exchange", one) for each that is new or has changed, and
            ("cleared", None). After a quiet interval the list is empty.

        Raises:
            TooMany
        """
        recording = self._open(target)
        recording.watchers += 1
        version = recording.version
        try:
            yield [("snapshot", recording.since(0))]
            while not recording.is_closed:
                try:
                    await asyncio.wait_for(recording.wait_beyond(version), HEARTBEAT)
                except asyncio.TimeoutError:
                    yield []
                    continue
                if recording.is_closed:
                    return
                events: list[tuple[str, Any]] = [("cleared", None)] if recording.cleared > version else []
                events += [("exchange", exchange) for exchange in recording.since(version)]
                version = recording.version
                yield events
        finally:
            recording.watchers -= 1
            if not recording.watchers and not recording.is_closed:
                loop = asyncio.get_running_loop()
                recording.end_timer = loop.call_later(KEPT_FOR, self._end, recording)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for recording in list(self._recordings.values()):
            self._end(recording)

    def _open(self, target: str) -> Recording:
        recording = self.find(target)
        if recording is None:
            if len(self._recordings) >= MAX_RECORDINGS:
                unwatched = next((each for each in self._recordings.values() if not each.watchers), None)
                if unwatched is None:
                    hint = "Close the recordings that you do not need, here or in other windows."
                    raise TooMany(f"{MAX_RECORDINGS} ports and services are recorded already.", hint)
                self._end(unwatched)
            recording = self._recordings[target] = Recording()
            self._set_observer(self)
        elif recording.end_timer is not None:
            recording.end_timer.cancel()
            recording.end_timer = None
        return recording

    def _end(self, recording: Recording) -> None:
        if recording.end_timer is not None:
            recording.end_timer.cancel()
        recording.is_closed = True
        recording.clear()
        self._recordings = {target: each for target, each in self._recordings.items() if each is not recording}
        if not self._recordings:
            self._lines.clear()
            self._set_observer(None)

    def _find(self, target: str) -> Recording | None:
        return self._recordings.get(target) or self._recordings.get(self._find_other_name(target))

    # ---- the gateway's observer ----

    def begin(self, target: str, kind: str, method: str, uri: str, scheme: str) -> ObservedRequest | None:
        recording = self._recordings.get(target) or self._find(target)
        if recording is None or not recording.admit(time.monotonic()):
            return None
        observed = ObservedRequest(self, recording, kind, method, uri, scheme)
        if recording.left_out:
            observed.left_out, recording.left_out = recording.left_out, 0
        return observed

    def report(self, observed: ObservedRequest) -> None:
        recording: Recording = observed.recording
        if recording.is_closed:
            observed.forget_head()
            return
        waiting = recording.waiting
        recording.waiting_size += _weigh_waiting(observed, waiting[-1] if waiting else None)
        waiting.append(observed)
        if recording.waiting_size > _MAX_WAITING_SIZE:
            self._record_waiting(recording)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WAITING_TIME, self._record_all)

    def _record_all(self) -> None:
        self._timer = None
        for recording in self._recordings.values():
            self._record_waiting(recording)

    def _record_waiting(self, recording: Recording) -> None:
        waiting, recording.waiting, recording.waiting_size = recording.waiting, [], 0
        fields: Fields | None = None
        outbound: Fields | None = None
        request = NO_HEAD
        for observed in waiting:
            exchange = observed.recorded
            if exchange is None:
                self._last_id += 1
                if observed.fields is not fields or observed.outbound_fields is not outbound:
                    fields, outbound = observed.fields, observed.outbound_fields
                    request = self._describe_request(observed)
                exchange = observed.recorded = self._describe(observed, self._last_id, request)
                observed.forget_head()
            else:
                exchange.is_open, exchange.is_whole, exchange.seconds = observed.ended is None, observed.is_whole, observed.ended
                exchange.bytes_up, exchange.bytes_down = observed.bytes_up, observed.bytes_down
                exchange.close_code, exchange.closed_by = observed.close_code, observed.closed_by
            recording.add(exchange)

    def _describe_request(self, observed: ObservedRequest) -> RecordedHead:
        recording: Recording = observed.recording
        fields, outbound, secrets = observed.fields, observed.outbound_fields, observed.secrets
        # What is removed follows from the names. A service may get fields that its port does not get.
        names = None if outbound is None else tuple([name for name, _ in outbound])
        key = hash((names, *secrets, None, *fields))
        return recording.heads.get(key) or self._describe_head(recording, key, fields, fields, outbound, secrets)

    def _describe(self, observed: ObservedRequest, number: int, request: RecordedHead) -> RecordedExchange:
        recording: Recording = observed.recording
        secrets, received, sent = observed.secrets, observed.response_fields, observed.sent
        url = mask_url(observed.uri, secrets)
        passed = [*sent.get_all()] if sent is not None else []
        key = hash((*secrets, None, *passed, None, *(received or ())))
        response = recording.heads.get(key) or self._describe_head(recording, key, passed, received, passed, secrets)
        exchange = RecordedExchange(
            number,
            0,
            observed.began + time.time() - time.monotonic(),
            observed.kind,
            observed.method[:_MAX_METHOD],
            observed.client.scheme if observed.client is not None else observed.scheme,
            url,
            request,
            response,
            observed.status,
            observed.error,
            observed.ended is None,
            observed.is_whole,
            observed.first_byte,
            observed.ended,
            observed.bytes_up,
            observed.bytes_down,
            observed.close_code,
            observed.closed_by,
            observed.by_referer,
            left_out=observed.left_out,
            size=_OVERHEAD + len(url) + request.size + response.size,
        )
        if received is not None and response.has_mapped_fields:
            self._describe_changes(exchange, observed, received, passed)
        return exchange

    def _describe_head(
        self,
        recording: Recording,
        key: int,
        fields: Fields,
        before: Fields | None,
        after: Fields | None,
        secrets: Collection[str],
    ) -> RecordedHead:
        """What is kept of `fields`; it was `before` the gateway, if that got it, and `after` it, if that passed it on."""
        removed = [] if before is None or after is None else find_dropped_names(before, after)
        names = tuple(name[:100] for name in removed[:_MAX_NAMES])
        text = mask_fields(fields, secrets, self._lines)
        has_mapped_fields = any(name.lower() in ("location", "set-cookie") for name, _ in before or ())
        head = RecordedHead(text, names, has_mapped_fields, len(text) + _weigh(names))
        if head.size <= _MAX_SHARED_HEAD:
            if len(recording.heads) >= _MAX_SHARED_HEADS:
                recording.heads.clear()
            recording.heads[key] = head
        return head

    def _describe_changes(
        self, exchange: RecordedExchange, observed: ObservedRequest, received: Fields, response: Fields
    ) -> None:
        keys = [name.lower() for name, _ in received]
        if "location" in keys:
            location = received[keys.index("location")][1]
            sent = next((value for name, value in response if name.lower() == "location"), "")
            if sent != location:
                exchange.redirect = mask_url(location, observed.secrets), mask_url(sent, observed.secrets)
                exchange.size += _weigh(exchange.redirect)
        destination, client = observed.destination, observed.client
        if "set-cookie" in keys and destination is not None and client is not None:
            refused = explain_refused_cookies(received, destination.route, destination.upstream, client)
            exchange.refused_cookies = tuple((name[:100], reason) for name, reason in refused[:_MAX_NAMES])
            exchange.size += sum(60 + _weigh(each) for each in exchange.refused_cookies)


def _weigh_waiting(observed: ObservedRequest, before: ObservedRequest | None) -> int:
    """Bytes, estimated from above, besides those of the one `before`: requests of one decision have the same lists of fields."""
    is_same = before is not None and observed.fields is before.fields and observed.outbound_fields is before.outbound_fields
    fields = [*(() if is_same else observed.fields), *(observed.response_fields or ())]
    return 2 * _OVERHEAD + len(observed.uri) + len(fields) * _FIELD_OVERHEAD + sum(map(len, chain.from_iterable(fields)))


def _weigh(texts: tuple[str, ...]) -> int:
    """Bytes, estimated from above."""
    return sum(map(len, texts), 60 * len(texts))
