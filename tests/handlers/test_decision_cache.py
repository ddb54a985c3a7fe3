"""What lets the next request of a connection in without a check, and all that does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider, User
from tornado.httputil import HTTPHeaders

from jupyter_portproxy.gateway.destinations import Destination
from jupyter_portproxy.gateway.limits import Bounds
from jupyter_portproxy.handlers import decision_cache
from jupyter_portproxy.protocol.headers import Client
from jupyter_portproxy.protocol.named_project_urls import UrlMapping
from jupyter_portproxy.protocol.urls import Route, Upstream
from jupyter_portproxy.services.port_rules import PortRules
from jupyter_portproxy.upstream.exchange import Outbound

from ..conftest import TOKEN
from ..support.identity_providers import configured
from ..support.raw_clients import Wire
from ..support.upstreams import answers, mirror, says, serve

ALLOWED, KNOWN = {"portproxy": True}, {"token": True, "name": "ada"}


class Fickle(Authorizer):
    """Changes its mind."""

    def is_authorized(self, handler, user, action, resource):
        return resource != "portproxy" or ALLOWED["portproxy"]


class Forgetful(IdentityProvider):
    """Logs its user out."""

    def get_user(self, handler):
        return User(KNOWN["name"]) if KNOWN["token"] else None


class Hits:
    """Counts the requests for which the cache had a decision."""

    def __init__(self, decisions):
        self._decisions, self._before = decisions, decisions.hits

    def clear(self):
        self._before = self._decisions.hits

    def __len__(self):
        return self._decisions.hits - self._before


@pytest.fixture
def hits(extension):
    return Hits(extension.decisions)


@pytest.fixture
def ask(origin, jp_base_url, jp_asyncio_loop):
    """Opens a connection and returns a function that sends requests on it."""
    opened = []

    async def begin(source="127.0.0.1"):
        opened.append(connection := await Wire.open(urlsplit(f"//{origin}").port, local_addr=(source, 0)))

        async def send(path, *fields, method="GET", login=f"token {TOKEN}"):
            lines = [f"{method} {jp_base_url}proxy/{path} HTTP/1.1", f"Host: {origin}"]
            lines += [f"Authorization: {login}", *fields] if login else fields
            await connection.send("\r\n".join([*lines, "", ""]).encode("latin-1"))
            return await asyncio.wait_for(connection.answer(method), 10)

        return send

    yield begin
    for connection in opened:
        jp_asyncio_loop.run_until_complete(connection.__aexit__())


async def test_a_request_that_differs_in_the_path_alone_is_a_hit(ask, hits):
    async with serve(mirror) as up:
        send = await ask()
        first = await send(f"port/{up.port}/a", "X-Own: 1")
        seen = [field for field in up.last.fields]
        second = await send(f"port/{up.port}/b%2Fc//d?x=%zz&y", "X-Own: 1")
        assert (first.status, second.status, len(hits)) == (200, 200, 1)
        assert up.last.target == "/b%2Fc//d?x=%zz&y" and up.last.fields == seen
        assert not any("token" in value for _, value in up.last.fields)


async def test_a_changed_rule_counts_for_the_next_request_of_an_open_connection(ask, hits, gateway, origin, jp_data_dir):
    """Also if another server of the user changes it."""
    elsewhere = PortRules(jp_data_dir / "portproxy" / "port-rules.json", gateway.log)
    async with serve(mirror) as up:
        send, upstream_host = await ask(), f"localhost:{up.port}"

        async def host():
            assert (await send(f"port/{up.port}/x")).status == 200
            return next(value for name, value in up.last.fields if name == "Host")

        for rules in (gateway.policy.port_rules, elsewhere):
            assert [await host() for _ in range(2)] == [upstream_host] * 2
            rule = rules.put({"ports": str(up.port), "keep_host": True})
            assert [await host() for _ in range(2)] == [origin] * 2
            rules.remove(rule.id)
            assert await host() == upstream_host
        assert len(hits) == 9  # the cache was in use


async def test_activity_is_decided_for_each_request_of_an_open_connection(ask, hits, gateway, jp_web_app):
    """By rules that change, and by methods and fields, which are those of another decision."""
    times, person = jp_web_app.settings["last_activity_times"], "Sec-Fetch-Mode: navigate"

    async def counted(send, port, *fields) -> list[bool]:
        found = []
        for _ in range(2):
            times.pop("portproxy", None)
            await asyncio.sleep(0.02)  # what comes within 10 ms is one activity
            assert (await send(f"port/{port}/x", *fields)).status == 200
            found.append("portproxy" in times)
        return found

    async with serve(answers()) as up:
        send = await ask()
        assert await counted(send, up.port) == [True, True]
        for activity, by_person, by_script in (("people", True, False), ("none", False, False), ("all", True, True)):
            gateway.policy.port_rules.put({"ports": str(up.port), "activity": activity})
            assert await counted(send, up.port) == [by_script] * 2
            assert await counted(send, up.port, person) == [by_person] * 2
        assert len(hits) >= 7  # the cache was in use


async def test_a_cookie_without_a_path_gets_the_folder_of_its_own_request(ask, hits, jp_base_url):
    async with serve(answers(head=b"Set-Cookie: a=b")) as up:
        send = await ask()
        folders = [(await send(f"port/{up.port}/{path}")).one("Set-Cookie") for path in ("one/x", "two/y", "z")]
        prefix = f"{jp_base_url}proxy/port/{up.port}"
        assert folders == [f"a=b; Path={prefix}{folder}" for folder in ("/one", "/two", "")]
        assert len(hits) == 2


async def test_what_differs_is_examined(ask, hits):
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
            (path, ["Content-Length: 0"], "POST"),
            (path, ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"], "GET"),
        ]:
            send = await ask()
            assert (await send(path)).status == 200
            hits.clear()
            await send(path_of_it, *fields, method=method)
            assert len(hits) == 0


async def test_other_connections_of_the_same_client_are_hits(ask, hits, gateway):
    async with serve(mirror) as up:
        path = f"port/{up.port}/x"
        for number in range(3):
            assert (await (await ask())(path)).status == 200
            assert len(hits) == number
        assert (await (await ask())(path, "X-Own: 1")).status == 200
        assert (await (await ask())(path, login="token wrong")).status == 403
        assert (await (await ask("127.0.0.2"))(path)).status == 200
        assert len(hits) == 2 and len(up.requests) == 5


async def test_a_connection_that_many_clients_share_has_a_decision_for_each(ask, hits):
    """As a front keeps them: the requests of its clients come in turn."""
    async with serve(mirror) as up:
        send = await ask()
        for _ in range(3):
            for own in ("1", "2"):
                assert (await send(f"port/{up.port}/x", f"X-Own: {own}")).status == 200
                assert dict(up.last.fields)["X-Own"] == own
        assert len(hits) == 4


async def test_a_connection_with_hits_alone_has_keep_alive_like_others(ask, hits, monkeypatch):
    touched = []
    monkeypatch.setattr("jupyter_portproxy.handlers.base.keep_alive", touched.append)
    async with serve(mirror) as up:
        for _ in range(2):
            assert (await (await ask())(f"port/{up.port}/x")).status == 200
        assert len(hits) == 1 and len(touched) == 2


class Context:
    def __init__(self, remote_ip="192.0.2.1", protocol="http", **more):
        self.remote_ip, self.protocol = remote_ip, protocol
        self.__dict__.update(more)


def admitted(fields, until, begin="/proxy/port/8000"):
    upstream = Upstream("localhost", 8000, ("127.0.0.1",))
    destination = Destination(Route("localhost", 8000, begin, "/", ""), upstream)
    outbound = Outbound("GET", upstream, "/", [])
    client = Client("192.0.2.1", "192.0.2.1", "http", "hub")
    return decision_cache.CachedDecision(
        destination.route, User("ada"), True, client, destination, outbound, True, False, False, fields, begin, until, 0
    )


def keep(decisions, fields, context=None, seconds=1.0, begin="/proxy/port/8000"):
    request = SimpleNamespace(connection=SimpleNamespace(context=context or Context()))
    decisions.keep(admitted(fields, time.monotonic() + seconds, begin), request)


FIELDS = [("Host", "hub"), ("Cookie", "a=b")]


@pytest.mark.parametrize(
    ("context", "method", "uri", "fields"),
    [
        (Context("192.0.2.2"), "GET", "/proxy/port/8000/y", FIELDS),
        (Context(protocol="https"), "GET", "/proxy/port/8000/y", FIELDS),
        (Context(_orig_remote_ip="198.51.100.1"), "GET", "/proxy/port/8000/y", FIELDS),
        (Context(), "HEAD", "/proxy/port/8000/y", FIELDS),
        (Context(), "GET", "/proxy/port/8000", FIELDS),
        (Context(), "GET", "/proxy/port/80000/y", FIELDS),
        (Context(), "GET", "/proxy/port/8001/y", FIELDS),
        (Context(), "GET", "/proxy/port/8000/y?token=x", FIELDS),
        (Context(), "GET", "/proxy/port/8000/y?a&t%6Fken=x", FIELDS),
        (Context(), "GET", "/proxy/port/8000/y", FIELDS[::-1]),
        (Context(), "GET", "/proxy/port/8000/y", FIELDS[:1]),
        (Context(), "GET", "/proxy/port/8000/y", [*FIELDS, ("Accept", "*/*")]),
        (Context(), "GET", "/proxy/port/8000/y", [FIELDS[0], ("Cookie", "a=c")]),
    ],
)
def test_a_request_that_differs_from_that_of_another_connection_is_not_found(context, method, uri, fields):
    decisions = decision_cache.DecisionCache()
    keep(decisions, FIELDS)
    assert decisions.find(Context(), "GET", "/proxy/port/8000/y", HTTPHeaders(FIELDS)) is not None
    assert decisions.find(context, method, uri, HTTPHeaders(fields)) is None


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("/ann/p/y?port=8000", "/ann/p/y"),
        ("/ann/p/y/?q=%20&port=8000&", "/ann/p/y/?q=%20&"),
        ("/ann/p/y", None),
        ("/ann/p/y?port=8001", None),
        ("/ann/p/y?port=8000&port=8000", None),
        ("/ann/p/y?port=08000", None),
        ("/ann/pp/y?port=8000", None),
    ],
)
def test_a_decision_about_a_service_by_its_projects_name_holds_for_its_port(uri, target):
    decisions, mapping = decision_cache.DecisionCache(), UrlMapping("/ann/p", "/p1/server/8000", 8000)
    decision = admitted(FIELDS, time.monotonic() + 1, "/ann/p")
    route = Route("localhost", 8000, "/p1/server/8000", "/ann/p/x", "?z")
    decision = replace(decision, destination=replace(decision.destination, route=route, url_mapping=mapping))
    assert decision_cache.cacheable_prefix(decision.route, decision.destination, None, ()) == "/ann/p"
    decisions.keep(decision, SimpleNamespace(connection=SimpleNamespace(context=Context())))
    assert decisions.find(Context(), "GET", uri, HTTPHeaders(FIELDS)) is (None if target is None else decision)
    if target is not None:
        assert decision.outbound_to(decision.destination.at(uri)).target == target


def test_the_latest_decision_about_such_a_request_holds_and_no_longer():
    decisions, connection = decision_cache.DecisionCache(), Context()
    keep(decisions, FIELDS, seconds=9)
    keep(decisions, FIELDS, seconds=0.1, begin="/proxy/port/9000")
    assert decisions.find(connection, "GET", "/proxy/port/8000/y", HTTPHeaders(FIELDS)) is None
    assert decisions.find(connection, "GET", "/proxy/port/9000/y", HTTPHeaders(FIELDS)) is not None
    time.sleep(0.11)
    assert decisions.find(connection, "GET", "/proxy/port/9000/y", HTTPHeaders(FIELDS)) is None


def test_no_more_are_kept_than_are_of_use():
    decisions = decision_cache.DecisionCache()
    for number in range(1100):
        keep(decisions, [("Cookie", str(number))], seconds=60)
    assert len(decisions) == 1024
    for number in range(1100):
        keep(decisions, [("Cookie", str(number))], seconds=-1)
    assert len(decisions) == 0
    assert decisions.find(Context(), "GET", "/proxy/port/8000/y", HTTPHeaders([("Cookie", "1")])) is None


@pytest.mark.parametrize("name", ["token", "%74oken", "x&token"])
async def test_a_token_in_the_query_admits_no_other_request(ask, hits, name):
    async with serve(mirror) as up:
        send, path = await ask(), f"port/{up.port}/x"
        assert (await send(f"{path}?{name}={TOKEN}", "X-Own: 1", login=None)).status == 200
        assert (await send(path, "X-Own: 1", login=None)).status == 403
        assert (await (await ask())(path, "X-Own: 1", login=None)).status == 403
        assert len(hits) == 0 and len(up.requests) == 1


async def test_a_wrong_token_is_no_matter_of_what_was_right_before(ask, hits):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        assert (await send(f"port/{up.port}/x", login="token wrong")).status == 403
        assert len(hits) == 1


async def test_the_prefix_is_kept_for_services_that_want_it(ask, hits, jp_base_url):
    async with serve(mirror) as up:
        send, path = await ask(), f"absolute/port/{up.port}"
        await send(f"{path}/a")
        await send(f"{path}/b?c")
        assert len(hits) == 1 and up.last.target == f"{jp_base_url}proxy/{path}/b?c"


async def test_a_request_without_its_slash_decides_nothing_for_paths_below(ask, hits):
    async with serve(says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")) as up:
        send, path = await ask(), f"absolute/port/{up.port}"
        assert (await send(path)).status == 307
        assert (await send(f"{path}/x")).status == 404
        assert len(hits) == 0


async def test_an_upgrade_that_was_not_granted_says_nothing_of_the_next(hits, origin, jp_base_url):
    async with serve(mirror) as up:
        for version in ("1.0", "1.1"):
            async with await Wire.open(urlsplit(f"//{origin}").port) as wire:
                lines = [f"GET {jp_base_url}proxy/port/{up.port}/x HTTP/{version}", f"Host: {origin}", "Connection: Upgrade"]
                lines += [f"Authorization: token {TOKEN}", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "", ""]
                await wire.send("\r\n".join(lines).encode())
                assert (await asyncio.wait_for(wire.answer(), 10)).status in (200, 400)
        assert len(hits) == 0


async def test_a_secret_in_the_query_does_not_go_on(ask, hits, gateway):
    """The XSRF token, which the fields tell; one in `token=` is examined anyway."""
    async with serve(mirror) as up:
        send, cookie = await ask(), "Cookie: _xsrf=2|secret"
        await send(f"port/{up.port}/a", cookie)
        await send(f"port/{up.port}/b?_xsrf=2|secret&q", cookie)
        assert len(hits) == 1 and up.last.target == "/b?q"


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Fickle)])
async def test_an_authorizer_decides_about_each_request(ask, hits, jp_server_config, monkeypatch):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        monkeypatch.setitem(ALLOWED, "portproxy", False)
        assert (await send(f"port/{up.port}/x")).status == 403
        assert len(hits) == 2 and len(up.requests) == 2


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Forgetful)])
async def test_a_login_that_its_provider_has_ended_is_over_at_once(ask, hits, jp_server_config, monkeypatch):
    async with serve(mirror) as up:
        send = await ask()
        assert [(await send(f"port/{up.port}/x")).status for _ in range(2)] == [200, 200]
        monkeypatch.setitem(KNOWN, "token", False)
        assert (await send(f"port/{up.port}/x")).status == 403
        assert len(hits) == 2 and len(up.requests) == 2


class RevokesTokens(IdentityProvider):
    """Jupyter's own, which takes the user of a handler that has one, with tokens that end."""

    def get_token(self, handler):
        return super().get_token(handler) if KNOWN["token"] else None


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=RevokesTokens)])
async def test_a_cached_user_is_authenticated_again(ask, hits, jp_server_config, monkeypatch):
    async with serve(mirror) as up:
        send = await ask()
        assert (await send(f"port/{up.port}/x")).status == 200
        monkeypatch.setitem(KNOWN, "token", False)
        assert (await send(f"port/{up.port}/x")).status == 403
        assert len(hits) == 1 and len(up.requests) == 1


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=Forgetful)])
async def test_another_user_of_the_same_fields_is_examined(ask, hits, jp_server_config, monkeypatch, gateway):
    async with serve(mirror) as up:
        send, users = await ask(), []
        acquire = gateway.limits.exchanges.acquire
        monkeypatch.setattr(gateway.limits.exchanges, "acquire", lambda user, port: users.append(user) or acquire(user, port))
        for name in ("ada", "ada", "bob", "bob"):
            monkeypatch.setitem(KNOWN, "name", name)
            assert (await send(f"port/{up.port}/x")).status == 200
        assert users == ["ada", "ada", "bob", "bob"]


async def test_a_logout_ends_it_at_once(ask, hits, call, jp_base_url):
    """Of a browser: the cookie by which it was logged in is gone from its fields."""
    async with serve(mirror) as up:
        login = await call(f"proxy/port/{up.port}/?token={TOKEN}", token=None)
        cookie = next(value for value in login.all("Set-Cookie") if value.startswith("username-")).partition(";")[0]
        send = await ask()
        path = f"port/{up.port}/x"
        assert [(await send(path, f"Cookie: {cookie}", login=None)).status for _ in range(2)] == [200, 200] and len(hits) == 1
        ended = await call("logout", token=None, fields=[f"Cookie: {cookie}"])
        assert any(
            (value.startswith("username-") and "Max-Age=0" in value) or '=""' in value for value in ended.all("Set-Cookie")
        )
        assert (await send(path, login=None)).status == 403


async def test_requests_do_not_prolong_it(ask, hits, gateway):
    async with serve(mirror) as up:
        send, begun = await ask(), time.monotonic()
        while time.monotonic() - begun < 2.6:
            assert (await send(f"port/{up.port}/x")).status == 200
            await asyncio.sleep(0.05)
        sent = [request for request in up.requests if request.target == "/x"]  # without the probes of other servers
        assert len(sent) - len(hits) in (3, 4)  # examined: at the start, and once a second


async def test_limits_and_the_servers_end_hold_for_it_too(ask, hits, gateway):
    async with serve(mirror) as up:
        send = await ask()
        assert (await send(f"port/{up.port}/x")).status == 200
        gateway.limits.exchanges.bounds = Bounds(in_all=1)
        slot = gateway.limits.exchanges.acquire("other", "elsewhere")
        assert (await send(f"port/{up.port}/x")).status == 503
        slot.release()
        gateway._closing = True
        assert (await (await ask())(f"port/{up.port}/x")).status == 503
        gateway._closing = False


async def test_a_service_that_is_gone_is_answered_with_the_page_for_that(ask, hits):
    async with serve(mirror) as up:
        send, port = await ask(), up.port
        assert (await send(f"port/{port}/x", "Accept: text/html")).status == 200
    answer = await send(f"port/{port}/x", "Accept: text/html")
    assert (answer.status, len(hits)) == (502, 1)
    assert f"Failed to connect to service on port {port}." in answer.text
