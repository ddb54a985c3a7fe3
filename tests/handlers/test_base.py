"""Logins through a real Jupyter server, and which credentials a service gets."""

from __future__ import annotations

import pytest
from jupyter_server.auth.identity import User

from ..conftest import TOKEN
from ..support.identity_providers import NamedUsers, configured
from ..support.upstreams import mirror, serve


async def test_a_token_in_the_url_sets_the_login_cookie_and_the_cookie_logs_in(call):
    async with serve(mirror) as up:
        first = await call(f"proxy/port/{up.port}/?token={TOKEN}", token=None)
        (cookie,) = [value for value in first.all("Set-Cookie") if value.startswith("username-")]
        pair = cookie.split(";")[0]
        second = await call(f"proxy/port/{up.port}/", token=None, fields=[f"Cookie: {pair}; mine=2"])
        assert second.status == 200
        assert up.last.one("Cookie") == "mine=2"


async def test_a_login_is_not_remembered_for_other_fields_on_the_same_connection(wire, head_of):
    async with serve(mirror) as up, await wire() as connection:
        for login, status in [(f"token {TOKEN}", 200), (f"token {TOKEN}", 200), ("token wrong", 403)]:
            await connection.send(head_of("GET", up.port, login) + b"\r\n")
            assert (await connection.answer()).status == status


async def test_another_host_name_is_refused(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", host="evil.example")).status == 403
        assert up.connections == 0


class ByCookieToo(NamedUsers):
    """Logs in by `Odd NAME`, by a token, or by a cookie that is not too old; it tells nothing of which it was."""

    def get_user(self, handler):
        user, handler._token_authenticated = super().get_user(handler), False
        return user or (User("ann") if handler.get_cookie(self.get_cookie_name(handler)) == "fresh" else None)


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=ByCookieToo)])
async def test_what_logs_in_at_another_identity_provider_does_not_go_on(call, origin, jp_server_config):
    """Nor what would; and a service's own goes on beside another login."""
    login = "Cookie: username-" + origin.replace(".", "-").replace(":", "-")
    async with serve(mirror) as up:
        for fields, query, seen in [
            (["Authorization: Odd ann"], "", None),
            (["Authorization: Odd ann", f"{login}=stale"], "", None),
            (["Authorization: Odd ann", f"{login}=fresh"], "", None),
            (["Authorization: token user-bob", f"{login}=fresh"], "", None),
            (["Authorization: Basic bWluZQ==", f"{login}=fresh"], "", "Basic bWluZQ=="),
            (["Authorization: token own", f"{login}=fresh"], "?token=own", "token own"),
            (["Authorization: Basic bWluZQ=="], "?token=user-ann", "Basic bWluZQ=="),
            (["Authorization: Odd ann"], "?token=own", None),
            ([f"{login}=fresh", "Sec-WebSocket-Protocol: x"], "?token=own&token=user-bob", None),
            (["Authorization: Odd ann"] + ["Authorization: token own"] * 5, "", None),
        ]:
            answer = await call(f"proxy/port/{up.port}/{query}", fields=fields, token=None)
            left = "/?token=own" if "own" in query else "/"
            assert (answer.status, up.last.one("Authorization"), up.last.target) == (200, seen, left), (fields, query)


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=ByCookieToo)])
async def test_a_token_in_the_address_of_the_page_does_not_go_on_when_a_cookie_logs_in(call, origin, jp_server_config):
    login = "Cookie: username-" + origin.replace(".", "-").replace(":", "-")
    async with serve(mirror) as up:
        for sent, seen in [("?token=user-bob&a", "?a"), ("?%74oken=user-bob", ""), ("?token=own", "?token=own")]:
            path = f"proxy/port/{up.port}/"
            fields = [f"{login}=fresh", f"Referer: http://{origin}/a%40b/{path}{sent}"]
            assert (await call(path, fields=fields, token=None)).status == 200
            assert up.last.one("Referer") == f"http://localhost:{up.port}/{seen}"


async def test_a_services_own_password_goes_on_beside_jupyters_own_logins(call):
    async with serve(mirror) as up:
        for query in (f"?token={TOKEN}", f"?token=%C2%A0{TOKEN}", f"?token=\xe2\x80\xa8{TOKEN}"):
            answer = await call(f"proxy/port/{up.port}/{query}", fields=["Authorization: Basic bWluZQ=="], token=None)
            assert (answer.status, up.last.target, up.last.one("Authorization")) == (200, "/", "Basic bWluZQ==")


async def test_the_values_of_all_xsrf_cookies_are_jupyters(call):
    async with serve(mirror) as up:
        fields = ["Cookie: _xsrf=2|one; a=1; _xsrf=2|two"]
        await call(f"proxy/port/{up.port}/?_xsrf=2|one&_xsrf=2%7Ctwo&_xsrf=own", fields=fields)
        assert (up.last.target, up.last.one("Cookie")) == ("/?_xsrf=own", "a=1")
