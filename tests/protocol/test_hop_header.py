"""The field in which a hop describes a request to the next one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.protocol.forwarded import ForwardedClient
from jupyter_portproxy.protocol.hop_header import HOP_FIELD, HopHeader, parse_hop_header

CLIENT = ForwardedClient(
    "https",
    "hub.example.org",
    ("198.51.100.7", "2001:db8::1"),
    chain="192.0.2.1",
    forwarded='for=192.0.2.1;proto=https;host="hub.example.org"',
)
ADDRESS = st.ip_addresses().map(str)
LATIN = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), min_size=1)


def test_it_is_one_field_that_people_can_read():
    assert HopHeader("the-credential", "ann", may_start=True).to_field(CLIENT) == (
        HOP_FIELD,
        "credential=the-credential&user=ann&permission=start&scheme=https&host=hub.example.org&peers=198.51.100.7,2001:db8::1"
        '&chain=192.0.2.1&forwarded=for=192.0.2.1;proto=https;host="hub.example.org"',
    )


@given(
    LATIN,
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.tuples(*[LATIN] * 4),
    st.lists(ADDRESS, min_size=1, max_size=16),
)
def test_a_printed_field_is_parsed_back(credential, user, may_start, values, peers):
    host, *before = values
    client = ForwardedClient("https", host, tuple(peers), *before)
    _, value = HopHeader(credential, user, may_start).to_field(client)
    assert re.fullmatch(r"[\x21-\x7e]*", value)  # any field may have it
    assert parse_hop_header(value) == HopHeader(credential, user, may_start, client)


def test_empty_values_are_omitted():
    assert HopHeader().to_field(ForwardedClient("http", "", ("192.0.2.1",))) == (HOP_FIELD, "peers=192.0.2.1")


@pytest.mark.parametrize("value", ["scheme=gopher&host=a&peers=192.0.2.1", "scheme=https&host=a", "host=a"])
def test_an_incomplete_description_of_the_client_is_ignored(value):
    assert parse_hop_header(f"user=ann&{value}") == HopHeader(user="ann")


@pytest.mark.parametrize(
    "value", ["", "nonsense", "the-credential ann start", "permission=anything", "&".join(f"user={n}" for n in range(17))]
)
def test_a_malformed_field_is_empty(value):
    assert parse_hop_header(value) == HopHeader()


def test_only_a_sent_credential_can_be_refused():
    refusal = [("Content-Type", "text/html"), ("x-portproxy-refusal", "credential")]
    assert HopHeader("wrong").is_refused(403, refusal)
    assert not HopHeader("wrong").is_refused(200, refusal) and not HopHeader("wrong").is_refused(403, refusal[:1])
    assert not HopHeader().is_refused(403, refusal)


def test_a_credential_is_not_shown():
    assert "the-credential" not in repr(HopHeader("the-credential"))
