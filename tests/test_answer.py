"""The head and the end of an answer, as the client gets it."""

from __future__ import annotations

import re

from jupyter_portproxy.answer import Underway
from jupyter_portproxy.tunnel import GOING_AWAY, MOVED

from .upstreams import answers, says, serve


async def test_repeated_fields_stay_repeated_and_in_order(call):
    async with serve(answers(head=b"Set-Cookie: a=1\r\nX-Own: 1\r\nSet-Cookie: b=2\r\nX-Own: 2")) as up:
        answer = await call(f"proxy/port/{up.port}/")
        assert [value.partition(";")[0] for value in answer.all("Set-Cookie") if not value.startswith("username")] == [
            "a=1",
            "b=2",
        ]
        assert answer.all("X-Own") == ["1", "2"]


async def test_a_date_is_added_and_one_of_the_service_is_left(call):
    async with serve(answers()) as up:
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", (await call(f"proxy/port/{up.port}/")).one("Date"))
    async with serve(answers(head=b"Date: Thu, 01 Jan 1970 00:00:00 GMT")) as up:
        assert (await call(f"proxy/port/{up.port}/")).all("Date") == ["Thu, 01 Jan 1970 00:00:00 GMT"]


async def test_what_has_no_length_ends_an_old_clients_connection(call):
    async with serve(says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")) as up:
        answer = await call(f"proxy/port/{up.port}/", version="HTTP/1.0")
        assert (answer.content, answer.all("Transfer-Encoding")) == (b"ok", [])


def test_an_answer_under_way_is_told_why_it_ends():
    codes = []
    underway = Underway(codes.append)
    underway.shut_down()
    underway.shut_down(MOVED)
    assert codes == [GOING_AWAY, MOVED]
