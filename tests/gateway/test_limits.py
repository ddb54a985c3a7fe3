"""Limits: each says no at its number and names itself; and whatever the end of what was let through, its slot comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import TooMany
from jupyter_portproxy.gateway.limits import Bounds, Limiter

from ..api.test_metrics import numbers
from ..conftest import TOKEN
from ..support import upstreams
from ..support.jupyter_processes import jupyter_server
from ..support.raw_clients import UPGRADE, Wire
from ..support.upstreams import answers, free_port, serve
from ..support.waiting import eventually

CONFIG = {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}}, "IdentityProvider": {"token": TOKEN}}


def limited(**traits) -> dict:
    return {**CONFIG, "PortProxy": traits}


# ---- the counts alone ----


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([1, 2, 3]), st.booleans()), max_size=60))
def test_never_more_than_the_bounds_and_nothing_is_left_at_the_end(steps):
    refused: list[str] = []
    limiter = Limiter("exchanges", Bounds(5, 3, 2), refused.append)
    taken = []
    for user, port, give_back in steps:
        if give_back and taken:
            taken.pop(0).release()
            continue
        before = len(taken), Counter(s.user for s in taken)[user], Counter(s.port for s in taken)[port]
        free = before[0] < 5 and before[1] < 3 and before[2] < 2
        try:
            taken.append(limiter.acquire(user, port))
            assert free
        except TooMany as error:
            assert not free and refused[-1] in error.message
            assert error.status == (429 if refused[-1].endswith("_per_user") else 503)
    assert limiter.in_all == len(taken)
    assert limiter.of_user == Counter(s.user for s in taken) and limiter.of_port == Counter(s.port for s in taken)
    for slot in taken:
        slot.release()
        slot.release()
    assert (limiter.in_all, limiter.of_user, limiter.of_port) == (0, {}, {})


def test_zero_is_no_limit():
    limiter = Limiter("tunnels", Bounds(), lambda limit: None)
    assert len([limiter.acquire("a", 1) for _ in range(5000)]) == limiter.in_all == 5000


# ---- in the server ----


@pytest.mark.parametrize(
    ("jp_server_config", "status"),
    [
        (limited(max_exchanges=2), 503),
        (limited(max_exchanges_per_port=2), 503),
        (limited(max_exchanges_per_user=2), 429),
    ],
)
async def test_one_exchange_too_many_is_refused_by_name(call, wire, origin, jp_base_url, gateway, jp_server_config, status):
    (name,) = jp_server_config["PortProxy"]
    cookie = (await call("api/me")).one("Set-Cookie")
    login = [f"Cookie: {cookie.split(';')[0]}"]  # token logins have a new name for each request
    async with serve(upstreams.never_answers) as up, serve(answers()) as other, contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            connection = await stack.enter_async_context(await wire())
            head = f"GET {jp_base_url}proxy/port/{up.port}/ HTTP/1.1\r\nHost: {origin}\r\n{login[0]}\r\n\r\n"
            await connection.send(head.encode())
        await eventually(lambda: len(up.requests) == 2)
        refused = await call(f"proxy/port/{up.port}/", fields=[*login, "Accept: application/json"], token=None)
        assert (refused.status, refused.one("Retry-After")) == (status, "2")
        problem = json.loads(refused.text)
        assert (
            problem["code"] == "too_many" and f"({name})" in problem["message"] and f"c.PortProxy.{name} = 4" in problem["hint"]
        )
        page = await call(f"proxy/port/{up.port}/", fields=[*login, "Accept: text/html"], token=None)
        assert page.status == status and name in page.text
        assert len(up.requests) == 2
        elsewhere = await call(f"proxy/port/{other.port}/", fields=login, token=None)
        assert elsewhere.status == (200 if name.endswith("_per_port") else status)
        assert (await numbers(call))[f'refusals_total{{limit="{name}"}}'] >= 2
    await eventually(lambda: gateway.limits.exchanges.in_all == 0)
    async with serve(answers()) as up:
        assert (await call(f"proxy/port/{up.port}/", fields=login, token=None)).status == 200


@pytest.mark.parametrize(
    ("jp_server_config", "status"),
    [(limited(max_tunnels=1), 503), (limited(max_tunnels_per_port=1), 503), (limited(max_tunnels_per_user=1), 429)],
)
async def test_one_tunnel_too_many_is_refused_before_it_is_dialled(
    call, wire, origin, jp_base_url, gateway, jp_server_config, status
):
    cookie = (await call("api/me")).one("Set-Cookie").split(";")[0]  # token logins have a new name for each request
    fields = [*UPGRADE, f"Cookie: {cookie}", f"Origin: http://{origin}"]
    async with serve(upstreams.echo_frames) as up:
        upgrade = "\r\n".join([f"GET {jp_base_url}proxy/port/{up.port}/ HTTP/1.1", f"Host: {origin}", *fields, "", ""]).encode()
        async with await wire() as connection:
            await connection.send(upgrade)
            assert (await connection.head()).status == 101
            refused = await call(f"proxy/port/{up.port}/", fields=fields, token=None)
            assert (refused.status, refused.one("Retry-After"), up.connections, gateway.tunnels) == (status, "2", 1, 1)
            assert next(iter(jp_server_config["PortProxy"])) in refused.text
        await eventually(lambda: gateway.limits.tunnels.in_all == 0)
        async with await wire() as connection:
            await connection.send(upgrade)
            assert (await connection.head()).status == 101


@pytest.mark.parametrize("jp_server_config", [limited(max_fields=40, max_field_size=1000)])
async def test_a_head_that_is_too_large_is_a_431(call, jp_server_config):
    async with serve(answers()) as up:
        path = f"proxy/port/{up.port}/"
        many = await call(path, fields=[f"X-{n}: 1" for n in range(40)])
        assert (many.status, "at most 40" in many.text) == (431, True)
        large = await call(path, fields=["Cookie: a=" + "b" * 1000])
        assert (large.status, "'Cookie' has 1002 bytes" in large.text) == (431, True)
        assert (await call(path, fields=[*UPGRADE, "X-Large: " + "b" * 1001])).status == 431
        assert up.connections == 0
        assert (await call(path, fields=["X-Large: " + "b" * 1000])).status == 200


async def test_a_head_that_does_not_come_ends_the_connection_and_a_slow_answer_or_upload_does_not(tmp_path):
    with jupyter_server(tmp_path, "--PortProxy.head_timeout=0.5") as server:
        port = urlsplit(server.url).port
        async with contextlib.AsyncExitStack() as stack:
            up, taker = [
                await stack.enter_async_context(serve(script)) for script in (upstreams.drips([b"0123"] * 5, 0.3), upstreams.sink)
            ]
            creeping, reading, sending = [await stack.enter_async_context(await Wire.open(port)) for _ in range(3)]
            await creeping.send(b"GET / HTTP/1.1\r\nHost:")
            head = f"/proxy/port/%d/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: token {TOKEN}\r\n"
            await reading.send(f"GET {head % up.port}\r\n".encode())
            await sending.send(f"POST {head % taker.port}Content-Length: 3\r\n\r\na".encode())
            assert await creeping.closed()
            await sending.send(b"bc")
            assert (await sending.answer()).text == "3"
            await reading.head()
            chunks = reading.chunks()
            pieces = b"".join([await asyncio.wait_for(chunks.__anext__(), 5) for _ in range(5)])
            assert pieces == b"0123" * 5


# ---- every end gives the slot back ----


async def half_head(connection: upstreams.Connection) -> None:
    await connection.request()
    await connection.write(b"HTTP/1.1 200 OK\r\nContent-")


UPSTREAMS = [
    answers(),
    upstreams.never_answers,
    upstreams.closes_without_answer,
    upstreams.resets_without_answer,
    upstreams.cut_mid_content,
    upstreams.cut_mid_chunk,
    upstreams.endless,
    upstreams.echo_frames,
    upstreams.closes_tunnel(4000),
    upstreams.says(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
    upstreams.says(b"\x15\x03\x01 no HTTP"),
    half_head,
]


async def test_whatever_the_end_the_slots_come_back(wire, head_of, gateway):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    upgrade = "".join(f"{line}\r\n" for line in UPGRADE).encode() + b"\r\n"
    async with contextlib.AsyncExitStack() as stack:
        ports = [(await stack.enter_async_context(serve(script))).port for script in UPSTREAMS] + [free_port(), 9]

        async def one() -> None:
            head = head_of(chance.choice(["GET", "POST", "HEAD"]), chance.choice(ports))
            rest = chance.choice([b"\r\n", upgrade, b"Content-Length: 100000\r\n\r\n" + bytes(1000)])
            async with await wire() as connection:
                with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
                    await connection.send(head_of("GET", chance.choice(ports)) + upgrade if rest is upgrade else head + rest)
                    await asyncio.wait_for(connection.reader.read(chance.choice([1, 100, 1 << 20])), chance.random() * 0.3)
                if chance.random() < 0.5:
                    connection.writer.transport.abort()  # with RST where bytes are unread

        for _ in range(12):
            await asyncio.gather(*(one() for _ in range(25)))
        slots = gateway.limits.exchanges, gateway.limits.tunnels
        await eventually(lambda: all(s.in_all == 0 and not s.of_user and not s.of_port for s in slots), 15)
        await eventually(lambda: gateway.exchanges == gateway.tunnels == 0)
