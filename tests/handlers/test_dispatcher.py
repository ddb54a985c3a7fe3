"""What stands before Tornado's routing: requests that it serves itself look like any other, all others pass it untouched."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.handlers.dispatcher import Arrived

from ..conftest import TOKEN
from ..support.upstreams import says, serve


class Context:
    remote_ip, protocol = "192.0.2.1", "https"


class Connection:
    context = Context()


LOOKED_AT = "method uri version headers path query arguments query_arguments body_arguments files body host host_name"
LOOKED_AT += " remote_ip protocol cookies connection server_connection"


@pytest.mark.parametrize("uri", ["/", "/a?b=1&b=2&c", "/%C3%A4//b;c?%zz", "/a?", "/?=&x=%00"])
@pytest.mark.parametrize("fields", [{"Host": "Hub.example.org:8888", "Cookie": 'a=1; b="2"; =x'}, {"Host": "[::1]"}])
def test_whatever_is_looked_at_is_what_tornado_makes_of_it(uri, fields):
    line, headers, connection = RequestStartLine("GET", uri, "HTTP/1.1"), HTTPHeaders(fields), Connection()
    own = HTTPServerRequest(start_line=line, headers=headers, connection=connection, server_connection=1)
    for name in LOOKED_AT.split():  # each of them may be the first
        assert getattr(Arrived(1, connection, line, headers), name) == getattr(own, name), name
    assert Arrived(1, connection, line, headers).full_url() == own.full_url()
    with pytest.raises(AttributeError, match="nothing"):
        Arrived(1, connection, line, headers).nothing  # noqa: B018


def test_its_time_runs_from_its_head_on():
    request = Arrived(1, Connection(), RequestStartLine("GET", "/", "HTTP/1.1"), HTTPHeaders({"Host": "a"}))
    time.sleep(0.05)
    assert request.path == "/"  # from here on it is complete
    assert 0.05 <= request.request_time() < 1


async def test_a_request_that_was_let_in_at_once_is_logged_like_others(wire, origin, jp_base_url, caplog):
    caplog.set_level(logging.WARNING)
    async with serve(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as up, await wire() as connection:
        for n in range(2):
            head = f"GET {jp_base_url}proxy/port/{up.port}/{n} HTTP/1.1\r\nHost: {origin}\r\nAuthorization: token {TOKEN}\r\n\r\n"
            await connection.send(head.encode())
            assert (await connection.answer()).status == 404
    told = [record.getMessage() for record in caplog.records if f"/proxy/port/{up.port}/" in record.getMessage()]
    assert len(told) == 2
    first, second = (re.sub(r"/[01] \(|[\d.]+ms", "", text) for text in told)
    assert first == second and first.startswith("404 GET ")


async def test_jupyters_own_requests_pass(call):
    assert (await call("api/status")).status == 200
    made = await call("api/contents", method="POST", content=b'{"type": "file"}')
    assert made.status == 201
    assert (await call("nowhere")).status == 404


async def test_a_head_that_is_none_is_refused_by_tornado(wire):
    async with await wire() as connection:
        await connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert (await asyncio.wait_for(connection.answer(), 10)).status == 400
