"""Who may ask, through a real Jupyter server: no byte reaches a service before login, authorisation and site check."""

from __future__ import annotations

import json

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.web import HTTPError

from ..conftest import TOKEN
from ..support.identity_providers import NamedUsers
from ..support.raw_clients import CROSS, UPGRADE
from ..support.upstreams import mirror, serve

SENDS = [("POST", []), ("PUT", []), ("GET", []), ("OPTIONS", []), ("GET", UPGRADE)]


async def test_without_a_login_no_byte_reaches_a_service(call, jp_base_url):
    async with serve(mirror) as up:
        path = f"proxy/port/{up.port}/x"
        page = await call(path, token=None, fields=["Accept: text/html", "Sec-Fetch-Mode: navigate"])
        assert (page.status, page.one("Location").startswith(f"{jp_base_url}login?next=")) == (302, True)
        for method, fields in [
            ("GET", ["Accept: text/html", "Sec-Fetch-Mode: cors"]),
            ("GET", []),
            ("POST", ["Accept: text/html"]),
            ("OPTIONS", []),
            ("GET", UPGRADE),
        ]:
            answer = await call(path, method, fields, token=None)
            assert answer.status == 403, (method, fields)
            assert "Log in" in answer.text
        assert (await call(path, token="wrong")).status == 403
        assert up.connections == 0


async def test_what_another_site_sends_is_refused(call, origin):
    async with serve(mirror) as up:
        path = f"proxy/port/{up.port}/x"
        refused = [
            ("GET", [*CROSS, "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"]),
            ("GET", ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"]),
            ("GET", [*CROSS, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"]),
            ("POST", [*CROSS, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]),
            ("POST", ["Origin: https://evil.example"]),
            ("POST", ["Origin: null"]),
            ("GET", ["Origin: null"]),
            ("GET", ["Origin: https://evil.example"]),
            ("HEAD", ["Origin: https://evil.example"]),
            ("OPTIONS", ["Origin: https://evil.example"]),
            ("GET", ["Origin: https://evil.example", "Sec-Fetch-Site: none"]),
            ("POST", ["Origin: https://evil.example", "Sec-Fetch-Site: same-origin"]),
            *((method, [f"Origin: https://{origin}", *fields]) for method, fields in SENDS),
            *((method, ["Origin: null", "Sec-Fetch-Site: cross-site", *fields]) for method, fields in SENDS),
            *((method, ["Origin: null", "Sec-Fetch-Site: same-site", *fields]) for method, fields in SENDS),
            *((method, ["Origin: null", "Sec-Fetch-Site: none", *fields]) for method, fields in SENDS),
            ("GET", [*UPGRADE, "Origin: null"]),
            ("GET", [*UPGRADE, "Origin: https://evil.example"]),
            ("GET", [*UPGRADE, *CROSS, "Origin: https://evil.example", "Sec-Fetch-Mode: websocket"]),
            ("OPTIONS", [*CROSS, "Origin: https://evil.example"]),
        ]
        for method, fields in refused:
            assert (await call(f"{path}?token={TOKEN}", method, fields)).status == 403, (method, fields)
        assert up.connections == 0
        link = await call(path, fields=[*CROSS, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"])
        assert (link.status, up.connections) == (302, 0)  # to the service's own origin: see test_origin_handlers
        allowed = [
            ("POST", [f"Origin: http://{origin}"]),
            ("POST", ["Sec-Fetch-Site: same-origin", f"Origin: http://{origin}"]),
            ("POST", []),
            ("GET", [f"Origin: http://{origin}"]),
            *((method, ["Origin: null", "Sec-Fetch-Site: same-origin", *fields]) for method, fields in SENDS),
            *((method, [f"Origin: https://{origin}", "Sec-Fetch-Site: same-origin", *fields]) for method, fields in SENDS),
            *((method, [f"Origin: https://{origin}", "X-Forwarded-Proto: https", *fields]) for method, fields in SENDS),
            *((method, [f"Origin: https://{origin}", "X-Forwarded-For: 192.0.2.1", *fields]) for method, fields in SENDS),
        ]
        for method, fields in allowed:
            assert (await call(path, method, fields)).status == 200, (method, fields)


@pytest.fixture
def jp_server_config(jp_server_config, request):
    return {**jp_server_config, "ServerApp": {**jp_server_config["ServerApp"], **getattr(request, "param", {})}}


PATTERN = r"https://[a-z]+[.]example(:[0-9]+)?"


@pytest.mark.parametrize("jp_server_config", [{"allow_origin_pat": PATTERN}], indirect=True)
@pytest.mark.parametrize("compiled", [True, False])
async def test_origins_that_match_allow_origin_pat_are_let_in(call, jp_serverapp, compiled):
    settings = jp_serverapp.web_app.settings
    assert settings["allow_origin_pat"].pattern == PATTERN  # by jupyter_server; an extension may set a text
    settings["allow_origin_pat"] = settings["allow_origin_pat"] if compiled else PATTERN
    async with serve(mirror) as up:
        for method, fields in [*SENDS, ("GET", [*CROSS, "Sec-Fetch-Mode: cors"])]:
            for theirs, status in [
                ("https://lms.example", 200),
                ("https://LMS.example:8443", 200),
                ("https://lms.example.evil.test", 403),
                ("http://lms.example", 403),
                ("x-https://lms.example", 403),
                ("null", 403),
            ]:
                answer = await call(f"proxy/port/{up.port}/", method, [*fields, f"Origin: {theirs}"])
                assert answer.status == status, (method, fields, theirs)


async def test_no_xsrf_token_is_asked_for(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", "POST", content=b"a=1")).status == 200


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


async def test_a_refusal_that_ends_the_connection_says_so(call, wire, jp_base_url, origin):
    """A front that keeps connections would send its next request into one that is closed."""
    for method, content in (("GET", None), ("POST", b""), ("POST", b"x" * 100), ("DELETE", None)):
        answer = await call("proxy/port/15000/", method, content=content, token=None)
        assert (answer.status, answer.one("Connection")) == (403, "close"), method
    async with await wire() as connection:
        await connection.send(f"GET {jp_base_url}proxy/port/15000 HTTP/1.1\r\nHost: {origin}\r\n\r\n".encode())
        assert (await connection.answer()).one("Connection") == "close" and await connection.closed()


async def test_another_host_name_is_refused(call):
    async with serve(mirror) as up:
        assert (await call(f"proxy/port/{up.port}/", host="evil.example")).status == 403
        assert up.connections == 0


class Hub(IdentityProvider):
    """As JupyterHub's: believes a cookie only with an XSRF token, and leaves a cookie for the login that it sends to."""

    async def get_user(self, handler):
        def get_login_url():
            handler.set_secure_cookie("jupyterhub-user-ada-oauth-state", "state")
            return "/hub/api/oauth2/authorize?state=state"

        handler.get_login_url = get_login_url
        handler._jupyter_current_user = None  # else Jupyter's own check passes by itself
        try:
            handler.check_xsrf_cookie()
        except HTTPError:
            return None
        return User("ada") if handler.get_cookie("jupyterhub-user-ada") else None


class Nobody(Authorizer):
    """Allows nothing of this extension's."""

    def is_authorized(self, handler, user, action, resource):
        return (action, resource) != ("execute", "portproxy")


class Broken(IdentityProvider):
    """Fails as a hub that is away does."""

    async def get_user(self, handler):
        raise HTTPError(503) if self.token else RuntimeError("secret detail")


def configured(**more) -> dict:
    return {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}, **more}, "IdentityProvider": {"token": TOKEN}}


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Hub)])
async def test_a_login_provider_that_asks_for_an_xsrf_token_believes_the_cookies_of_services(call, origin, jp_server_config):
    async with serve(mirror) as up:
        for fields in (["Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=["Cookie: jupyterhub-user-ada=1", *fields], token=None)
            assert (answer.status, up.connections) == (200, 1), fields
            up.connections = 0
        wrong = ["Cookie: jupyterhub-user-ada=1", "Origin: http://evil.example"]
        assert (await call(f"proxy/port/{up.port}/", "POST", wrong, token=None)).status == 403
        assert up.connections == 0


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Hub)])
async def test_a_redirect_to_the_login_keeps_its_cookie_even_beside_a_services_own_password(call, jp_server_config):
    fields = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Authorization: Basic b2Y6YS1zZXJ2aWNl"]
    for asked in (fields, fields[:2]):
        answer = await call("proxy/port/15000/", fields=asked, token=None)
        assert (answer.status, answer.one("Location")) == (302, "/hub/api/oauth2/authorize?state=state")
        assert answer.one("Set-Cookie").startswith("jupyterhub-user-ada-oauth-state=")


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Nobody)])
async def test_the_authorizer_is_asked(call, jp_server_config):
    async with serve(mirror) as up:
        for fields in ([], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=fields)
            assert (answer.status, "portproxy:execute" in answer.text) == (403, True)
        assert up.connections == 0


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Broken)])
async def test_a_login_that_cannot_be_checked_is_a_503(call, jp_server_config, jp_serverapp):
    async with serve(mirror) as up:
        for fields in ([], UPGRADE):
            answer = await call(f"proxy/port/{up.port}/", fields=[*fields, "Accept: application/json"])
            assert (answer.status, json.loads(answer.text)["code"]) == (503, "login_unavailable")
        jp_serverapp.identity_provider.token = ""
        answer = await call(f"proxy/port/{up.port}/")
        assert (answer.status, "secret detail" in answer.text) == (503, False)
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
