"""Logins through a real Jupyter server, and which credentials a service gets."""

from __future__ import annotations

import pytest
from jupyter_server.auth.identity import User

from jupyter_portproxy.gateway.notices import FailedRequests
from jupyter_portproxy.gateway.page_failures import PageFailures

from ..conftest import TOKEN
from ..support.identity_providers import NamedUsers, configured
from ..support.raw_clients import UPGRADE
from ..support.upstreams import answers, free_port, mirror, says, serve
from ..support.waiting import eventually


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


# ---- the failed requests of a page ----

PAGE = ["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]
PART = ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script"]
MISSING = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def notices(gateway, monkeypatch):
    """The notices about pages, soon after their cause."""
    found = []
    failures = PageFailures(found.append, delay=1.0)
    monkeypatch.setattr(gateway, "page_failures", failures)
    yield found
    failures.close()


def counted(gateway):
    return sum(len(page.failed) for page in gateway.page_failures._pages.values())


async def test_the_failed_parts_of_a_page_are_one_notice_for_each_load(call, origin, jp_base_url, gateway, notices):
    async with serve(says(MISSING)) as up:
        page = f"proxy/port/{up.port}/app/"
        part = [*PART, f"Referer: http://{origin}{jp_base_url}{page}"]
        for loads in (1, 2):
            await call(page, fields=PAGE)
            for number in range(12):
                assert (await call(f"{page}{number}.js?v=1", fields=part)).status == 404
            await eventually(lambda loads=loads: notices == [FailedRequests(str(up.port), 12)] * loads)
            assert (await call(f"{page}late.js", fields=part)).status == 404
        frame = [PAGE[1], "Sec-Fetch-Site: same-origin", "Sec-Fetch-Dest: iframe", part[-1]]
        await call(f"{page}frame", fields=frame)
        for number in range(12):
            await call(f"{page}frame{number}.js", fields=part)
    assert (len(notices), counted(gateway)) == (2, 0)


async def test_errors_of_the_gateway_and_sockets_count_and_pages_without_a_referer(call, notices):
    port = free_port()
    await call(f"proxy/port/{port}/", fields=PAGE)
    for path in ("a.js", "b.css", "c.json"):
        assert (await call(f"proxy/port/{port}/{path}", fields=PART)).status == 502
    assert (await call(f"proxy/port/{port}/ws", fields=[*UPGRADE, PART[0]])).status == 502
    await eventually(lambda: notices == [FailedRequests(str(port), 4)])


@pytest.mark.parametrize(
    ("page", "part"),
    [
        ([], PART),  # a program's requests, whatever they fail with
        (PAGE, ["Sec-Fetch-Site: same-origin", "Referer: http://{origin}{base}lab"]),
        (PAGE, ["Sec-Fetch-Site: same-origin", "Referer: http://{origin}{base}proxy/port/1{port}/"]),
        (PAGE, ["Referer: http://elsewhere.example{base}proxy/port/{port}/"]),
        (PAGE, ["Accept: application/json"]),
        (PAGE, PAGE),
    ],
)
async def test_what_no_page_of_the_service_sent_is_not_counted(call, origin, jp_base_url, gateway, page, part):
    async with serve(says(MISSING)) as up:
        await call(f"proxy/port/{up.port}/", fields=page)
        fields = [field.format(origin=origin, base=jp_base_url, port=up.port) for field in part]
        for number in range(6):
            assert (await call(f"proxy/port/{up.port}/{number}", fields=fields)).status == 404
    assert counted(gateway) == 0


async def test_what_succeeds_or_has_no_login_is_not_counted(call, gateway):
    async with serve(answers(b"it")) as up:
        await call(f"proxy/port/{up.port}/", fields=PAGE)
        for number in range(6):
            assert (await call(f"proxy/port/{up.port}/{number}", fields=PART)).status == 200
            assert (await call(f"proxy/port/{up.port}/{number}", fields=PART, token=None)).status == 403
    assert counted(gateway) == 0
