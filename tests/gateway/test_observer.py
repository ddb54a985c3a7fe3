"""An observed request is reported when its tunnel opens and once when it ends, whatever comes after."""

from __future__ import annotations

from jupyter_portproxy.gateway.observer import ObservedRequest


class Reports:
    def __init__(self):
        self.ended = []

    def begin(self, *arguments):
        return ObservedRequest(self, None, *arguments[1:])

    def report(self, observed):
        self.ended.append(observed.ended)


def test_the_end_is_reported_once():
    observer = Reports()
    observed = observer.begin("8050", "http", "GET", "/", "http")
    observed.end(is_whole=False)
    observed.end()
    observed.open()
    assert len(observer.ended) == 1 and observer.ended[0] >= 0 and not observed.is_whole


def test_a_tunnel_is_reported_when_it_opens_and_when_it_ends():
    observer = Reports()
    observed = observer.begin("8050", "websocket", "GET", "/", "http")
    observed.mark_first_byte()
    observed.open()
    observed.close(1000, "service")
    observed.close(1001, "client")
    observed.end()
    assert observer.ended[0] is None and observer.ended[1] >= observed.first_byte >= 0
    assert (observed.close_code, observed.closed_by) == (1000, "service")
