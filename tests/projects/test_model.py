"""A project's key is one plain path segment or no key at all."""

from __future__ import annotations

import logging
import uuid

import pytest

from jupyter_portproxy.errors import HUB, BadInput, UnknownProject
from jupyter_portproxy.projects.model import (
    ChangeSubscriptions,
    NextHop,
    check_new_credential,
    check_new_key,
    is_credential,
    parse_host_url,
    require_key,
)
from jupyter_portproxy.protocol.project_urls import is_key

from ..support.cpu_time import takes_less_than

TARGET = NextHop("p1", "http", "10.0.0.1", 8000, "s3cret", 7, (range(6000, 6011),))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a..b",
        "a/b",
        "a%2Fb",
        "%2e%2e",
        "P1",
        str(uuid.UUID(int=0xABC << 64)).upper(),
        "p1\n",
        "p1 ",
        "-p1",
        "_p1",
        "a" * 65,
        "a" * 10_000,
        "p1'; drop table projects; --",
        "p1\0",
        "\u0663",
        "\u212a",  # the Kelvin sign: 'k' once its case is folded
        "proxy",
        "api",
        "lab",
        None,
        7,
        b"p1",
    ],
)
def test_bad_keys_are_refused_as_unknown(text):
    assert not is_key(text)
    with pytest.raises(UnknownProject) as caught:
        require_key(text, HUB)
    assert caught.value.status == 404 and len(caught.value.message) < 300
    with pytest.raises(BadInput, match="Invalid project key"):
        check_new_key(text)


def test_a_key_of_a_megabyte_costs_nothing():
    text = "a" * (1 << 20)
    assert not is_key(text)
    assert takes_less_than(0.005, lambda: is_key(text))


@pytest.mark.parametrize("text", ["", "a b", "a\r\nX: y", "\xe9", "x" * 4097, None])
def test_a_credential_can_stand_in_a_header_field(text):
    assert is_credential("tok-1~") and not is_credential(text)
    with pytest.raises(BadInput):
        check_new_credential(text)


def test_the_projects_ports():
    assert TARGET.allows(6000) and TARGET.allows(6010) and not TARGET.allows(6011)
    assert NextHop("p1", "http", "h", 1, "c", 1).allows(1)
    assert not NextHop("p1", "http", "h", 1, "c", 1, ()).allows(1)


def test_a_credential_is_not_printed():
    assert "s3cret" not in repr(TARGET) + str(TARGET)


def test_subscribers_are_notified_until_they_end_it_and_do_not_affect_each_other(caplog):
    events = []
    subscribers = ChangeSubscriptions(logging.getLogger("test"))
    subscribers.add(lambda key: 1 / 0)
    end = subscribers.add(events.append)
    subscribers.notify(["a", "b"])
    end()
    end()
    subscribers.notify(["c"])
    assert events == ["a", "b"] and len(caplog.records) == 3 and caplog.text.count("ZeroDivisionError") == 3


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://10.0.0.1:8000", ("http", "10.0.0.1", 8000)),
        ("https://Host-1.example.org:443/", ("https", "host-1.example.org", 443)),
        ("http://[fd00::1]:8000", ("http", "fd00::1", 8000)),
    ],
)
def test_where_a_host_is(url, parts):
    assert parse_host_url(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:8000",
        "http://host",
        "http://host:0",
        "http://host:65536",
        "http://:8000",
        "http://host:8000/path",
        "http://host:8000?q",
        "http://host:8000#f",
        "http://user:word@host:8000",
        "ftp://host:8000",
        "HTTP://host:8000",
        "file:///etc/passwd",
        "http://a b:8000",
        "http://host:8000\n",
        "http://host:80\r\nX: y",
        "http://[::1:8000",
        "http://[::1%25eth0]:8000",
        "http://0.0.0.0:8000",
        "http://[::]:8000",
        "http://169.254.169.254:80",
        "http://224.0.0.1:8000",
        "http://h\u00f6st:8000",
        "http://" + "a" * 10_000 + ":80",
        None,
        7,
    ],
)
def test_where_no_host_is(url):
    with pytest.raises(ValueError, match=r"it is not of the form|port is invalid|cannot have such an address"):
        parse_host_url(url)


# ---- URLs ----
