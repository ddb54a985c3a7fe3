"""The items of the listing; most of them are tested through the API."""

from __future__ import annotations

import pytest

from jupyter_portproxy.api.listing import Listing
from jupyter_portproxy.api.port_list import PortList


@pytest.fixture
def listing(gateway, probe):
    return Listing(gateway, PortList(gateway, probe, "/base/", set), None, "/base/")


def test_an_item_that_cannot_be_described_is_left_out(gateway, listing, monkeypatch, caplog):
    names = ["good", "bad"]
    for name in names:
        gateway.reservations.reserve(name)
    describe = listing.reservation

    def fails(reservation):
        return {**describe(reservation), "until": object() if reservation.name == "bad" else 1.0}

    monkeypatch.setattr(listing, "reservation", fails)
    assert [item["name"] for item in listing.reservations()] == ["good"]
    assert "a reservation is left out of the list" in caplog.text
    for name in names:
        gateway.reservations.release(name)
