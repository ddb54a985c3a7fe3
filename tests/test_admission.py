"""What lets the next request of a connection in without a check, and all that does not."""

from __future__ import annotations

import asyncio
import time

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User

from jupyter_portproxy import admission as a
from jupyter_portproxy.limits import Bounds

from .conftest import TOKEN
from .test_access import configured
from .upstreams import mirror, serve

ALLOWED, KNOWN = {"portproxy": True}, {"token": True, "name": "ada"}


class Fickle(Authorizer):
    """Changes its mind."""

    def is_authorized(self, handler, user, action, resource):
        return resource != "portproxy" or ALLOWED["portproxy"]


class Forgetful(IdentityProvider):
    """Logs its user out."""

    def get_user(self, handler):
        return User(KNOWN["name"]) if KNOWN["token"] else None


@pytest.fixture
def kept(monkeypatch):
    """Notes each request that an admission let in."""
    seen, find = [], a.find

    def noted(context, method, uri, headers):
        found = find(context, method, uri, headers)
        if found is not None:
            seen.append(uri)
        return found

    monkeypatch.setattr("jupyter_portproxy.front.find", noted)
    return seen


@pytest.fixture
def ask(wire, origin, jp_base_url, jp_asyncio_loop):
    """Opens a connection and returns a function that sends requests on it."""
    opened = []

    async def begin():
        opened.append(connection := await wire())

        async def send(path, *fields, method="GET", login=f"token {TOKEN}"):
            lines = [f"{method} {jp_base_url}proxy/{path} HTTP/1.1", f"Host: {origin}"]
            lines += [f"Authorization: {login}", *fields] if login else fields
            await connection.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
            return await asyncio.wait_for(connection.answer(method), 10)

        return send

    yield begin
    for connection in opened:
        jp_asyncio_loop.run_until_complete(connection.__aexit__())


async def test_the_same_but_for_the_path_is_let_in_and_sent_on_as_ever(ask, kept):
    async with serve(mirror) as up:
        send = await ask()
        first = await send(f"port/{up.port}/a", "X-Own: 1")
        seen = [field for field in up.last.fields]
        second = await send(f"port/{up.port}/b%2Fc//d?x=%zz&y", "X-Own: 1")
        assert (first.status, second.status, len(kept)) == (200, 200, 1)
        assert up.last.target == "/b%2Fc//d?x=%zz&y" and up.last.fields == seen
        assert not any("token" in value for _, value in up.last.fields)


async def test_what_differs_is_examined(ask, kept):
    async with serve(mirror) as up, serve(mirror) as other:
        path = f"port/{up.port}/x"
        for path_of_it, fields, method in [
            (path, ["X-Own: 2"], "GET"),
            (path, [], "HEAD"),
            (f"port/{other.port}/x", [], "GET"),
            (f"port/{up.port}0/x", [], "GET"),
            (f"absolute/port/{up.port}/x", [], "GET"),
            (f"port/{up.port}", [], "GET"),
            (f"{path}?token={TOKEN}", [], "GET"),
            (f"{path}?{'a&' * 101}", [], "GET"),
            (path, ["Content-Length: 0"], "POST"),
            (path, ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"], "GET"),
        ]:
            send = await ask()
            assert (await send(path)).status == 200
            await send(path_of_it, *fields, method=method)
            assert kept == []


async def test_it_is_for_its_connection_alone(ask, kept):
    async with serve(mirror) as up:
        for _ in range(2):
            assert (await (await ask())(f"port/{up.port}/x")).status == 200
        assert kept == []


async def test_a_wrong_token_is_no_matter_of_what_was_right_before(ask, kept):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        assert (await send(f"port/{up.port}/x", login="token wrong")).status == 403
        assert len(kept) == 1


async def test_the_prefix_is_kept_for_services_that_want_it(ask, kept, jp_base_url):
    async with serve(mirror) as up:
        send, path = await ask(), f"absolute/port/{up.port}"
        await send(f"{path}/a")
        await send(f"{path}/b?c")
        assert len(kept) == 1 and up.last.target == f"{jp_base_url}proxy/{path}/b?c"


async def test_a_secret_in_the_query_does_not_go_on(ask, kept, gateway):
    """The XSRF token, which the fields tell; one in `token=` is examined anyway."""
    async with serve(mirror) as up:
        send, cookie = await ask(), "Cookie: _xsrf=2|secret"
        await send(f"port/{up.port}/a", cookie)
        await send(f"port/{up.port}/b?_xsrf=2|secret&q", cookie)
        assert len(kept) == 1 and up.last.target == "/b?q"


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Fickle)])
async def test_an_authorizer_is_asked_about_each_request(ask, kept, jp_server_config, monkeypatch):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        monkeypatch.setitem(ALLOWED, "portproxy", False)
        assert (await send(f"port/{up.port}/x")).status == 403
        assert len(kept) == 2 and len(up.requests) == 2


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Forgetful)])
async def test_a_login_that_its_provider_has_ended_is_over_at_once(ask, kept, jp_server_config, monkeypatch):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        monkeypatch.setitem(KNOWN, "token", False)
        assert (await send(f"port/{up.port}/x")).status == 403
        assert len(kept) == 2 and len(up.requests) == 2


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Forgetful)])
async def test_another_user_of_the_same_fields_is_examined(ask, kept, jp_server_config, monkeypatch, gateway):
    async with serve(mirror) as up:
        send, users = await ask(), []
        take = gateway.exchange_slots.take
        monkeypatch.setattr(gateway.exchange_slots, "take", lambda user, port: users.append(user) or take(user, port))
        for name in ("ada", "ada", "bob", "bob"):
            monkeypatch.setitem(KNOWN, "name", name)
            assert (await send(f"port/{up.port}/x")).status == 200
        assert users == ["ada", "ada", "bob", "bob"]


async def test_a_logout_ends_it_at_once(ask, kept, call, jp_base_url):
    """Of a browser: the cookie by which it was logged in is gone from its fields."""
    async with serve(mirror) as up:
        login = await call(f"proxy/port/{up.port}/?token={TOKEN}", token=None)
        cookie = next(value for value in login.all("Set-Cookie") if value.startswith("username-")).partition(";")[0]
        send = await ask()
        path = f"port/{up.port}/x"
        assert [(await send(path, f"Cookie: {cookie}", login=None)).status for _ in range(2)] == [200, 200] and len(kept) == 1
        ended = await call("logout", token=None, fields=[f"Cookie: {cookie}"])
        assert any(
            (value.startswith("username-") and "Max-Age=0" in value) or '=""' in value for value in ended.all("Set-Cookie")
        )
        assert (await send(path, login=None)).status == 403


async def test_requests_do_not_prolong_it(ask, kept, gateway):
    async with serve(mirror) as up:
        send, begun = await ask(), time.monotonic()
        while time.monotonic() - begun < 2.2:
            assert (await send(f"port/{up.port}/x")).status == 200
            await asyncio.sleep(0.05)
        assert len(up.requests) - len(kept) in (3, 4)  # examined: at the start, and once a second


async def test_limits_and_the_servers_end_hold_for_it_too(ask, kept, gateway):
    async with serve(mirror) as up:
        send = await ask()
        assert (await send(f"port/{up.port}/x")).status == 200
        gateway.exchange_slots.bounds = Bounds(in_all=1)
        slot = gateway.exchange_slots.take("somebody", "elsewhere")
        assert (await send(f"port/{up.port}/x")).status == 503
        slot.release()
        gateway._closing = True
        assert (await (await ask())(f"port/{up.port}/x")).status == 503
        gateway._closing = False


async def test_a_service_that_is_gone_is_answered_with_the_page_for_that(ask, kept):
    async with serve(mirror) as up:
        send, port = await ask(), up.port
        assert (await send(f"port/{port}/x", "Accept: text/html")).status == 200
    answer = await send(f"port/{port}/x", "Accept: text/html")
    assert (answer.status, len(kept)) == (502, 1)
    assert f"Failed to connect to service on port {port}." in answer.text
