"""The fields that describe the client to a service, after one hop and after several."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.protocol.forwarded import (
    ForwardedClient,
    build_forwarded_client,
    find_client_schemes,
    join_forwarded_fields,
    matches_client_url,
)


def fields_of(forwarding, prefix=""):
    return dict(forwarding.to_fields(prefix))


def test_one_hop_sends_the_address_of_its_connection():
    assert fields_of(build_forwarded_client({}, "192.0.2.1", "https", "hub.example.org"), "/proxy/port/8000") == {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "hub.example.org",
        "X-Forwarded-Port": "443",
        "Forwarded": "for=192.0.2.1;proto=https;host=hub.example.org",
        "X-Forwarded-Prefix": "/proxy/port/8000",
        "X-Forwarded-Context": "/proxy/port/8000",
        "X-Proxycontextpath": "/proxy/port/8000",
    }


def test_each_hop_adds_the_address_that_it_sees():
    client = (
        build_forwarded_client({}, "192.0.2.1", "http", "hub.example.org:8000").with_peer("198.51.100.7").with_peer("2001:db8::1")
    )
    assert fields_of(client) == {
        "X-Forwarded-For": "192.0.2.1, 198.51.100.7, 2001:db8::1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "hub.example.org:8000",
        "X-Forwarded-Port": "8000",
        "Forwarded": "for=192.0.2.1;proto=http;host=hub.example.org:8000, for=198.51.100.7;proto=http;host=hub.example.org:8000, "
        'for="[2001:db8::1]";proto=http;host=hub.example.org:8000',
    }


def test_one_address_at_all_hops_is_one_of_x_forwarded_for():
    client = ForwardedClient("http", "a", ("127.0.0.1", "127.0.0.1", "127.0.0.1"))
    assert fields_of(client)["X-Forwarded-For"] == "127.0.0.1"
    assert fields_of(client)["Forwarded"].count("for=127.0.0.1") == 3


def test_the_fields_of_a_reverse_proxy_come_first():
    claims = join_forwarded_fields(
        [
            ("X-Forwarded-For", "203.0.113.5"),
            ("x-forwarded-for", "203.0.113.6"),
            ("X-Forwarded-Proto", "https,http"),
            ("X-Forwarded-Host", "hub.example.org"),
            ("X-Forwarded-Port", "8443,80"),
            ("Forwarded", "for=203.0.113.5"),
        ]
    )
    assert fields_of(build_forwarded_client(claims, "192.0.2.1", "http", "inside", "ignored").with_peer("192.0.2.2")) == {
        "X-Forwarded-For": "203.0.113.5, 203.0.113.6, 192.0.2.1, 192.0.2.2",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "hub.example.org",
        "X-Forwarded-Port": "8443",
        "Forwarded": "for=203.0.113.5, for=192.0.2.1;proto=https;host=hub.example.org, "
        "for=192.0.2.2;proto=https;host=hub.example.org",
    }


@pytest.mark.parametrize(("value", "scheme"), [("gopher", "http"), ("", "http"), (" , HTTPS", "https")])
def test_an_invalid_forwarded_scheme_is_ignored(value, scheme):
    assert build_forwarded_client({"x-forwarded-proto": value}, "192.0.2.1", "http", "a").scheme == scheme


def test_the_address_in_x_real_ip_counts_without_x_forwarded_for():
    assert (
        fields_of(build_forwarded_client({}, "192.0.2.1", "http", "a", "203.0.113.5"))["X-Forwarded-For"]
        == "203.0.113.5, 192.0.2.1"
    )


@pytest.mark.parametrize(
    ("host", "scheme", "port"),
    [("a:81", "http", "81"), ("a", "http", "80"), ("a", "https", "443"), ("[::1]", "https", "443"), ("a:b", "http", "80")],
)
def test_the_port_follows_from_the_host(host, scheme, port):
    assert fields_of(ForwardedClient(scheme, host, ("192.0.2.1",)))["X-Forwarded-Port"] == port


@pytest.mark.parametrize(
    ("host", "element"),
    [("a:8888", ";host=a:8888"), ("[::1]:80", ";host=[::1]:80"), ('a"b', ""), ("a;b", ""), ("a,b=c", ""), ("a b", ""), ("", "")],
)
def test_a_host_has_no_quotes_in_forwarded(host, element):
    # code-server and RStudio read them as part of it; X-Forwarded-Host tells any
    client = fields_of(ForwardedClient("http", host, ("192.0.2.1",)))
    assert (client["Forwarded"], client["X-Forwarded-Host"]) == (f"for=192.0.2.1;proto=http{element}", host)


def test_the_first_of_several_hosts_is_the_one_that_the_browser_named():
    assert (
        build_forwarded_client({"x-forwarded-host": "hub.example.org, inside:8000"}, "192.0.2.1", "http", "a").host
        == "hub.example.org"
    )


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("for=1.1.1.1;host=hub.example;proto=https;by=_a", "for=1.1.1.1;by=_a"),
        ('FOR="[::1]:47" ; Host="a;b, c" ;PROTO=https, for=2.2.2.2;host="x', 'FOR="[::1]:47", for=2.2.2.2'),
        ('host="a\\"b;for=3.3.3.3", proto=http,, ;for=4.4.4.4', "for=4.4.4.4"),
        ("", ""),
    ],
)
def test_a_request_that_names_the_services_address_names_no_other(value, left):
    fields = fields_of(
        ForwardedClient("https", "hub.example", ("192.0.2.1",), "8443", "1.1.1.1", value).with_service_origin(
            "http", "localhost:15000"
        )
    )
    assert fields == {
        "X-Forwarded-For": "1.1.1.1, 192.0.2.1",
        "X-Forwarded-Proto": "http",
        "X-Gradio-Server": "https://hub.example",
        "X-Forwarded-Port": "15000",
        "Forwarded": ", ".join(filter(None, [left, "for=192.0.2.1;proto=http;host=localhost:15000"])),
    }


@pytest.mark.parametrize(
    ("scheme", "fields", "possible"),
    [
        ("http", {}, {"http"}),
        ("https", {}, {"https"}),
        ("http", {"X-Forwarded-For": "192.0.2.1"}, {"http", "https"}),
        ("http", {"Via": "1.1 nginx"}, {"http", "https"}),
        ("http", {"X-Forwarded-Proto": "https,http"}, {"http", "https"}),
        ("https", {"X-Forwarded-Proto": "https"}, {"https"}),
        ("https", {"X-Forwarded-Proto": "http,https"}, {"http", "https"}),
        ("https", {"X-Scheme": "HTTP"}, {"http", "https"}),
        ("https", {"X-Forwarded-Proto": "wss"}, {"https"}),
        ("https", {"Forwarded": 'for=192.0.2.1; Proto="http";host=a, for=192.0.2.2;proto=https'}, {"http", "https"}),
        ("https", {"Forwarded": 'for="proto=http"'}, {"https"}),
    ],
)
def test_the_schemes_that_a_clients_url_can_have(scheme, fields, possible):
    assert find_client_schemes(HTTPHeaders(fields), scheme) == possible


HERE = "localhost:8888"


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({}, True),
        ({"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "LocalHost:8888"}, True),
        ({"Forwarded": 'for=192.0.2.1;host="localhost:8888";proto=http, for=192.0.2.2;host=x'}, True),
        ({"X-Forwarded-Host": "abc-8888.app.example"}, False),
        ({"X-Forwarded-Host": "abc.example, localhost:8888"}, False),
        ({"X-Forwarded-Host": "localhost"}, False),
        ({"X-Original-Host": "abc.example"}, False),
        ({"Via": "1.1 nginx"}, True),
        ({"Via": "1.1 nginx, 1.1 portproxy-0a1b2c3d"}, False),
        ({"X-Forwarded-Prefix": "/proxy/port/15000"}, False),
        ({"X-Forwarded-Context": "/proxy/absolute/15000"}, False),
        ({"Forwarded": "for=192.0.2.1;host=abc.example;proto=http"}, False),
        ({"Forwarded": 'for=192.0.2.1; Host="abc.example:8888"'}, False),
        ({"X-Forwarded-Proto": "https"}, False),
        ({"X-Scheme": "https"}, False),
        ({"Forwarded": "proto=https"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Referer": "http://localhost:8888/lab"}, True),
        ({"Sec-Fetch-Site": "same-origin", "Referer": "https://abc.example/lab"}, False),
        ({"Sec-Fetch-Site": "same-origin", "Referer": "https://localhost:8888/"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://abc.example/lab"}, True),
    ],
)
def test_whether_the_clients_url_has_the_requests_host_and_scheme(fields, own):
    request = SimpleNamespace(headers=HTTPHeaders({"Host": HERE, **fields}), protocol="http", version="HTTP/1.1")
    assert matches_client_url(request) is own
    request.version = "HTTP/1.0"  # nginx, without a word of its own
    assert not matches_client_url(request)
