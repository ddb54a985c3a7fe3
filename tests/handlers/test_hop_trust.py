"""What is believed about a client, and by whose word."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.errors import NotTheHub
from jupyter_portproxy.handlers.hop_trust import describe_client, path_of_page, previous_hop, trusts_reverse_proxy

CONTEXT = SimpleNamespace(remote_ip="192.0.2.1", protocol="https", _orig_remote_ip="198.51.100.1")


def request(**fields):
    headers = HTTPHeaders({"Host": "a", **{name.replace("_", "-"): value for name, value in fields.items()}})
    connection = SimpleNamespace(context=CONTEXT)
    return HTTPServerRequest(start_line=RequestStartLine("GET", "/", "HTTP/1.1"), headers=headers, connection=connection)


def described(trusted, is_last_hop):
    received = request(X_Portproxy_Hop="peers=10.0.0.1&host=hub", X_Portproxy_Authorization="Basic x", Cookie="_xsrf=2|secret")
    return describe_client(received, trusted=trusted, is_last_hop=is_last_hop, tokens=frozenset({"t"}), login_cookie="login")


@pytest.mark.parametrize(("trusted", "is_last_hop"), [(False, False), (True, False), (False, True)])
def test_the_previous_hops_word_counts_for_a_trusted_peer_that_has_logged_in_by_authorization(trusted, is_last_hop):
    client = described(trusted, is_last_hop)
    assert (client.authorization, client.forwarded_client) == ("", None)
    assert (client.address, client.peer, client.scheme) == ("192.0.2.1", "198.51.100.1", "https")
    assert client.secrets >= {"t", "2|secret"}


def test_the_last_hop_gets_the_clients_own_authorization():
    client = described(True, True)
    assert client.authorization == "Basic x" and client.forwarded_client.peers == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("trusted", "host", "public"), [(True, "hub.example, a", "hub.example"), (True, "a", ""), (False, "b", "")]
)
def test_the_host_of_the_clients_url_is_a_trusted_reverse_proxys(trusted, host, public):
    received = request(X_Forwarded_Host=host)
    client = describe_client(received, trusted=trusted, is_last_hop=False, tokens=frozenset(), login_cookie="login")
    assert (client.host, client.public_host) == ("a", public)


def test_a_hop_without_the_credential_is_refused():
    chain = SimpleNamespace(admits=lambda credential: credential == "right")
    assert previous_hop(request(X_Portproxy_Hop="credential=right&user=ann"), chain).user == "ann"
    for value in ("credential=wrong&user=ann", "user=ann", ""):
        with pytest.raises(NotTheHub):
            previous_hop(request(X_Portproxy_Hop=value), chain)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"serverapp": SimpleNamespace(trust_xheaders=True)}, True),
        ({"serverapp": SimpleNamespace(trust_xheaders=False)}, False),
        ({"trust_xheaders": True}, True),
    ],
)
def test_a_reverse_proxy_is_trusted_by_configuration(settings, expected):
    assert trusts_reverse_proxy(SimpleNamespace(settings=settings)) is expected


@pytest.mark.parametrize(
    ("trusted", "referer", "expected"),
    [
        (True, "http://127.0.0.1:8888/a?b", "/a?b"),
        (True, "https://hub.example/a?b", "/a?b"),
        (True, "https://evil.example/a", None),
        (False, "https://hub.example/a", None),
        (False, "", None),
    ],
)
def test_a_page_of_this_server_has_its_host_or_that_of_a_trusted_reverse_proxy(trusted, referer, expected):
    headers = HTTPHeaders({"Host": "127.0.0.1:8888", "X-Forwarded-Host": "hub.example, 127.0.0.1:8888", "Referer": referer})
    assert path_of_page(headers, SimpleNamespace(settings={"trust_xheaders": trusted})) == expected
