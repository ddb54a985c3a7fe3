"""The head and the end of an answer, as the client gets it."""

from __future__ import annotations

import re

import pytest

from jupyter_portproxy.handlers.response import OrderedHeaders

from ..support.upstreams import answers, says, serve


async def test_repeated_fields_stay_repeated_and_in_order(call):
    async with serve(answers(head=b"Set-Cookie: a=1\r\nX-Own: 1\r\nSet-Cookie: b=2\r\nX-Own: 2")) as up:
        answer = await call(f"proxy/port/{up.port}/")
        assert [value.partition(";")[0] for value in answer.all("Set-Cookie") if not value.startswith("username")] == [
            "a=1",
            "b=2",
        ]
        assert answer.all("X-Own") == ["1", "2"]


async def test_names_keep_their_spelling_and_fields_their_order(call):
    head = b'ETag: "1"\r\nx-own: 1\r\nDNT: 1\r\nSet-Cookie: a=1\r\nX-OWN: 2'
    async with serve(answers(head=head)) as up:
        answer = await call(f"proxy/port/{up.port}/")
        names = [name for name, _ in answer.fields]
        assert names[:5] == ["ETag", "x-own", "DNT", "Set-Cookie", "X-OWN"]


def test_fields_as_they_came_behave_like_tornados_headers():
    headers = OrderedHeaders([("ETag", "1"), ("x-own", "1"), ("X-Own", "2")])
    assert "etag" in headers and "X-OWN" in headers and "date" not in headers
    assert (headers["x-own"], headers.get_list("X-OWN"), headers.get("date")) == ("1,2", ["1", "2"], None)
    headers["X-Own"] = "3"
    headers.add("Date", "today")
    del headers["etag"]
    assert list(headers.get_all()) == [("X-Own", "3"), ("Date", "today")] and len(headers) == 2
    assert list(headers) == ["X-Own", "Date"]
    with pytest.raises(KeyError):
        headers["etag"]


async def test_a_date_is_added_and_one_of_the_service_is_left(call):
    async with serve(answers()) as up:
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", (await call(f"proxy/port/{up.port}/")).one("Date"))
    async with serve(answers(head=b"Date: Thu, 01 Jan 1970 00:00:00 GMT")) as up:
        assert (await call(f"proxy/port/{up.port}/")).all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]


async def test_what_has_no_length_ends_an_old_clients_connection(call):
    async with serve(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")) as up:
        answer = await call(f"proxy/port/{up.port}/", version="HTTP/1.0")
        assert (answer.content, answer.all("Transfer-Encoding")) == (b"ok", [])


FRAME = ["Sec-Fetch-Dest: iframe", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: same-origin", "Accept: text/html"]


@pytest.mark.parametrize(
    ("head", "shown"),
    [
        (b"X-Frame-Options: DENY", False),
        (b"X-Frame-Options: SAMEORIGIN", True),
        (b"Content-Security-Policy: frame-ancestors https://portal.example", False),
        (b"Content-Security-Policy: frame-ancestors 'self'", True),
        (b"X-Other: DENY", True),
    ],
)
async def test_a_page_that_forbids_frames_is_said_to_in_a_frame(call, head, shown):
    async with serve(answers(head=head + b"\r\nContent-Type: text/html")) as up:
        framed = await call(f"proxy/port/{up.port}/", fields=FRAME)
        assert (framed.status, b"hello" in framed.content) == ((200, True) if shown else (403, False))
        assert (await call(f"proxy/port/{up.port}/", fields=[*FRAME, "Referer: http://["])).status == framed.status
        if not shown:
            assert b"This page cannot be shown in a frame" in framed.content
            assert b"Open in a browser tab</a>" in framed.content and b"portproxyNotFramed" in framed.content
            assert "frame-ancestors 'self'" in framed.one("Content-Security-Policy")
        page = ["Sec-Fetch-Dest: document", *FRAME[1:]]
        assert (await call(f"proxy/port/{up.port}/", fields=page)).content == b"hello"


async def test_a_pdf_is_in_no_sandbox_because_of_chromiums_viewer(call, gateway):
    gateway.settings.sandbox = ["allow-scripts"]
    for head, sandboxed in [(b"Content-Type: text/html", 1), (b"Content-Type: application/pdf; a=b", 0)]:
        async with serve(answers(head=head)) as up:
            answer = await call(f"proxy/port/{up.port}/")
            assert len(answer.all("Content-Security-Policy")) == sandboxed
