"""Origins of ports and services, through a real Jupyter server: the way in, who is let in, and what is served there."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from jupyter_server.auth.authorizer import Authorizer
from jupyter_server.auth.identity import IdentityProvider

from jupyter_portproxy.gateway.notices import LostSocket

from ..conftest import TOKEN
from ..support.cpu_time import slowness
from ..support.identity_providers import NamedUsers, configured
from ..support.raw_clients import UPGRADE
from ..support.upstreams import answers, free_port, mirror, serve
from ..support.waiting import eventually

PAGE = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"]
FRAME = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: cross-site"]


class Visitor:
    """A browser's part: from Jupyter into an origin, and requests there."""

    def __init__(self, wire, origin, base_url, origins):
        self._wire, self.origin, self._base_url, self.origins = wire, origin, base_url, origins
        self.port = origin.rpartition(":")[2]

    def host(self, target) -> str:
        return f"p{target}.localhost:{self.port}"

    async def ask(self, uri, host, fields=(), method="GET", content=None):
        async with await self._wire() as connection:
            lines = [f"{method} {uri} HTTP/1.1", f"Host: {host}", *fields]
            lines += [f"Content-Length: {len(content)}"] if content is not None else []
            await connection.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (content or b""))
            return await asyncio.wait_for(connection.answer(method), 20)

    async def knock(self, target, path="/", fields=(), login=(f"Authorization: token {TOKEN}",)):
        """Jupyter's response to a request for the way into an isolated origin."""
        return await self.ask(f"{self._base_url}proxy/enter/{target}{path}", self.origin, [*login, *PAGE, *fields])

    async def follow(self, location, fields=()):
        """The answer to a redirect."""
        way = urlsplit(location)
        return await self.ask(f"{way.path}?{way.query}", way.netloc, fields)

    async def enter(self, target, path="/", fields=PAGE, login=(f"Authorization: token {TOKEN}",)):
        """As a browser that has not been there: the answer that sets the cookie of the session, and the cookie."""
        knocked = await self.knock(target, path, login=login)
        first = await self.follow(knocked.one("Location"), fields)
        back = await self.follow(first.one("Location"), [*login, *fields])
        answer = await self.follow(back.one("Location"), [_cookie_of(first), *fields])
        return answer, _cookie_of(answer)


def _cookie_of(answer) -> str:
    return "Cookie: " + answer.one("Set-Cookie").partition(";")[0]


@pytest.fixture
def visitor(wire, origin, jp_base_url, extension) -> Visitor:
    return Visitor(wire, origin, jp_base_url, extension.origins)


async def test_redirects_lead_to_the_page_and_leave_no_ticket(visitor, jp_base_url):
    """Two of them, once the browser has a session there; it is sent back to Jupyter before it has."""
    async with serve(mirror) as up:
        host, path, cookies = visitor.host(up.port), "/a%2Fb//c?x=%20&y", []
        for _ in range(2):
            began = time.perf_counter()
            first = await visitor.knock(up.port, path)
            way = urlsplit(first.one("Location"))
            assert (first.status, way.scheme, way.netloc) == (302, "http", host)
            assert (first.one("Cache-Control"), first.one("Referrer-Policy")) == ("no-store", "no-referrer")
            second = await visitor.follow(first.one("Location"), [*PAGE, *cookies])
            if not cookies:
                assert second.one("Location").startswith(
                    f"http://{visitor.origin}{jp_base_url}proxy/enter?target={up.port}&nonce="
                )
                back = await visitor.follow(second.one("Location"), [f"Authorization: token {TOKEN}", *PAGE])
                assert second.one("Set-Cookie").partition("=")[2].partition(";")[0] not in second.one("Location")
                second = await visitor.follow(back.one("Location"), [*PAGE, _cookie_of(second)])
            assert (second.status, second.one("Location")) == (302, f"http://{host}{path}")
            assert (second.one("Cache-Control"), second.one("Referrer-Policy")) == ("no-store", "no-referrer")
            assert time.perf_counter() - began < 1.0 * slowness()  # the figure is measured in a browser; this is a loaded machine
            cookies = [_cookie_of(second)]
            assert second.one("Set-Cookie").startswith(f"portproxy-{visitor.port}=")
            assert second.one("Set-Cookie").partition(";")[2] == " Path=/; HttpOnly; SameSite=Lax"
        assert up.connections == 0
        answer = await visitor.ask(path, host, [cookies[0].replace("Cookie: ", "Cookie: theirs=1; ")])
        assert (answer.status, up.last.target, up.last.one("Cookie")) == (200, path, "theirs=1")
        assert up.last.one("X-Forwarded-Prefix") is None


async def test_a_program_needs_one_pair_of_redirects_and_no_cookies(visitor):
    async with serve(mirror) as up:
        for fields in ([], ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"], ["Accept: text/html"]):
            answer = await visitor.follow((await visitor.knock(up.port, "/x")).one("Location"), fields)
            assert (answer.status, answer.one("Location")) == (302, f"http://{visitor.host(up.port)}/x")
            assert (await visitor.ask("/x", visitor.host(up.port), [_cookie_of(answer)])).status == 200


async def test_a_rule_for_the_port_counts_from_the_next_request_on(visitor, gateway):
    rules = gateway.policy.port_rules
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        own, upstream = visitor.host(up.port), f"localhost:{up.port}"
        for keep_host, host in ((None, upstream), (True, own), (False, upstream), (True, own)):
            rules.put({"ports": str(up.port), "keep_host": keep_host})
            for _ in range(2):
                assert (await visitor.ask("/x", own, [cookie])).status == 200
                assert up.last.one("Host") == host


def _named(user):
    return (f"Authorization: token user-{user}",)


LINK = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: cross-site"]


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=NamedUsers)])
@pytest.mark.parametrize("fields", [LINK, PAGE, FRAME], ids=["link", "address bar", "frame"])
@pytest.mark.parametrize("has_been_there", [False, True])
async def test_a_ticket_of_another_user_does_not_log_in(visitor, fields, has_been_there, jp_server_config):
    """The attacker's own ticket, in a browser of Ada's by a link, a redirect or a frame: it goes on as Ada, or not at all."""
    async with serve(mirror) as up:
        host = visitor.host(up.port)
        had = [(await visitor.enter(up.port, fields=fields, login=_named("ada")))[1]] if has_been_there else []
        theirs = (await visitor.knock(up.port, "/x", login=_named("eve"))).one("Location")
        first = await visitor.follow(theirs, [*fields, *had])
        assert first.one("Location").startswith(f"http://{visitor.origin}/")
        kept = had or [_cookie_of(first)]
        assert (await visitor.ask("/x", host, [*kept, *PAGE])).status == (200 if had else 302)  # no session, or Ada's own still
        anonymous = await visitor.follow(first.one("Location"), fields)
        assert (
            "ticket" not in urlsplit(anonymous.one("Location") or "").path and host not in (anonymous.one("Location") or "")[:40]
        )
        back = await visitor.follow(first.one("Location"), [*_named("ada"), *fields])
        if fields is FRAME:  # it did not begin as Ada's request
            assert back.status == 403
            return
        last = await visitor.follow(back.one("Location"), [*fields, *kept])
        assert (last.status, last.one("Location")) == (302, f"http://{host}/x")
        session = visitor.origins._sessions[_cookie_of(last).partition("=")[2]]
        assert session.user.username == "ada"


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=NamedUsers)])
async def test_a_ticket_needs_the_cookie_of_its_nonce(visitor, jp_server_config):
    """The attacker has gone all the way, but for the last step."""
    async with serve(mirror) as up:
        first = await visitor.follow((await visitor.knock(up.port, login=_named("eve"))).one("Location"), PAGE)
        for others in ([], ["Cookie: " + _cookie_of(first).split(": ")[1][:-1]], [f"Cookie: portproxy-{visitor.port}=x"]):
            back = await visitor.follow(first.one("Location"), [*_named("eve"), *PAGE])
            last = await visitor.follow(back.one("Location"), [*LINK, *others])
            assert (last.status, last.all("Set-Cookie")) == (403, [])
            assert "keeps no cookie" in last.text
            # Jupyter's page shows it in the frame that has no cookies.
            assert last.one("Content-Security-Policy").endswith(f"frame-ancestors 'self' http://{visitor.origin}")
        assert up.connections == 0


async def test_a_ticket_works_once_and_nowhere_else(visitor):
    async with serve(mirror) as up, serve(mirror) as other:
        way = urlsplit((await visitor.knock(up.port)).one("Location"))
        uri = f"{way.path}?{way.query}"
        assert (await visitor.ask(uri, way.netloc)).status == 302
        wrong = [(uri, way.netloc)]  # twice
        for host in (visitor.host(other.port), way.netloc.rpartition(":")[0], way.netloc[:-1]):
            fresh = urlsplit((await visitor.knock(up.port)).one("Location"))
            wrong.append((f"{fresh.path}?{fresh.query}", host))
        ticket = parse_qs(way.query)["ticket"][0]
        for forged in ("", "x", ticket[:-1], ticket + "x", "x" * 10_000, "%00", "%ff"):
            wrong.append((f"{way.path}?ticket={forged}&next=/", way.netloc))
        for uri, host in wrong:
            answer = await visitor.ask(uri, host, PAGE)
            assert (answer.status, answer.all("Set-Cookie")) == (403, []), uri[:200]
            assert "Open the service from Jupyter" in answer.text
        assert up.connections == other.connections == 0


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "/%09/evil.example", "/..//evil.example"])
async def test_a_ticket_never_leads_to_another_host(visitor, path):
    answer, _ = await visitor.enter(15000, path)
    assert answer.one("Location") == f"http://{visitor.host(15000)}{path}"


async def test_a_path_that_was_changed_in_the_redirect_leads_nowhere_else(visitor):
    for path in ("https://evil.example/", "evil.example", "/a%0d%0aX:%20y", "/%20", ""):
        way = urlsplit((await visitor.knock(15000)).one("Location"))
        ticket = parse_qs(way.query)["ticket"][0]
        answer = await visitor.ask(f"{way.path}?ticket={ticket}&next={path}", way.netloc)
        assert answer.status == 403 or answer.one("Location") == f"http://{way.netloc}/", path
        assert answer.one("X") is None


async def test_without_a_session_no_byte_reaches_the_service(visitor, jp_base_url):
    async with serve(mirror) as up:
        host = visitor.host(up.port)
        page = await visitor.ask("/x?y", host, PAGE)
        assert (page.status, page.one("Location")) == (
            302,
            f"http://localhost:{visitor.port}{jp_base_url}proxy/enter/{up.port}/x?y",
        )
        for fields, method in [
            ([], "GET"),
            (["Sec-Fetch-Mode: cors"], "GET"),
            (UPGRADE, "GET"),
            ([], "POST"),
            ([], "OPTIONS"),
            ([f"Authorization: token {TOKEN}"], "GET"),
            (FRAME, "GET"),
        ]:
            answer = await visitor.ask("/x", host, fields, method)
            assert (answer.status, "Open the service from Jupyter" in answer.text) == (403, True), (method, fields)
        assert (await visitor.ask(f"/?token={TOKEN}", host)).status == 403
        _, cookie = await visitor.enter(15000)
        assert (await visitor.ask("/", host, [cookie])).status == 403  # of another port
        assert up.connections == 0


async def test_a_service_worker_is_removed_where_there_is_no_session(visitor):
    """It may answer all navigations from its cache, so that the browser could not enter again."""
    script = ["Sec-Fetch-Dest: serviceworker", "Sec-Fetch-Mode: same-origin", "Service-Worker: script"]
    async with serve(mirror) as up:
        host = visitor.host(up.port)
        answer = await visitor.ask("/sw.js", host, [*script, "Sec-Fetch-Site: same-origin"])
        assert (answer.status, answer.one("Content-Type"), answer.one("Cache-Control")) == (200, "text/javascript", "no-store")
        assert "unregister()" in answer.text
        for site, method in (("cross-site", "GET"), ("same-origin", "POST")):
            assert (await visitor.ask("/sw.js", host, [*script, f"Sec-Fetch-Site: {site}"], method)).status == 403
        assert up.connections == 0
        _, cookie = await visitor.enter(up.port)
        await visitor.ask("/sw.js", host, [cookie, *script, "Sec-Fetch-Site: same-origin"])
        assert up.last.target == "/sw.js"


async def test_a_frame_without_a_session_reports_it_to_jupyterlab(visitor):
    answer = await visitor.ask("/x", visitor.host(15000), FRAME)
    assert (answer.status, "portproxyNotEntered" in answer.text) == (403, True)
    assert "script-src 'sha256-" in answer.one("Content-Security-Policy")
    answer = await visitor.ask("/x", visitor.host(15000), ["Accept: text/html", "Sec-Fetch-Mode: cors"])
    assert (answer.status, "<script" in answer.text) == (403, False)


async def test_entering_needs_a_login(visitor):
    for login in ((), ("Authorization: token wrong",)):
        answer = await visitor.knock(15000, login=login)
        assert (answer.status, "/login?next=" in answer.one("Location")) == (302, True)


async def test_only_a_page_enters(visitor, call):
    for fields in (["Sec-Fetch-Mode: cors"], ["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"]):
        assert (await call("proxy/enter/15000/", fields=fields)).status == 403
    assert (await call("proxy/enter/15000/", fields=FRAME)).status == 403  # a frame on another site
    assert (await call("proxy/enter/15000/", method="POST", content=b"")).status == 405
    assert (await call("proxy/enter/80/")).status == 403
    assert (await call("proxy/enter/99999/")).status == 400
    assert (await call("proxy/enter/nothing/")).status == 404


@pytest.mark.parametrize("target", ["80", "0", "65536", "015000"])
async def test_a_port_that_is_not_allowed_cannot_be_entered(visitor, target):
    host = visitor.host(target)
    assert (await visitor.ask("/", host)).status == 403
    assert (await visitor.knock(target)).status in (400, 403)


@pytest.mark.parametrize(
    "host", ["p15000.localhost.", "p15000.evil.org", "localhost.p15000", "p15000.locälhost", "p\u0661.localhost"]
)
async def test_other_names_stay_jupyters_matter_and_it_refuses_them(visitor, jp_base_url, host):
    for path in ("api/contents", "proxy/port/15000/"):
        name = host.encode().decode("latin-1")
        answer = await visitor.ask(f"{jp_base_url}{path}", name, [f"Authorization: token {TOKEN}"])
        assert answer.status == (403 if host.isascii() else 400)  # Tornado's word on the latter


async def test_jupyter_is_not_there(visitor, jp_base_url):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        for uri in (
            "api/contents",
            "lab",
            "login",
            "logout",
            "proxy/port/15000/",
            "proxy/api/ports",
            "static/x",
            "proxy/enter/15000/",
        ):
            answer = await visitor.ask(f"{jp_base_url}{uri}", visitor.host(up.port), [cookie])
            assert (answer.status, up.last.target) == (200, f"{jp_base_url}{uri}")
        await visitor.ask(f"http://localhost:{visitor.port}{jp_base_url}api", visitor.host(up.port), [cookie])
        assert up.last.target == f"{jp_base_url}{uri}"  # no path: refused
        for method in ("POST", "PUT", "HEAD"):
            answer = await visitor.ask("/.well-known/portproxy/enter", visitor.host(up.port), [cookie], method, b"")
            assert (answer.status, "jupyter" in answer.text.lower().replace("from jupyter", "")) == (405, False)


@pytest.mark.parametrize("path", ["hello", "frame"])
async def test_other_sites_cannot_detect_the_server(visitor, path):
    port, host = visitor.port, visitor.host(1)
    undated = lambda answer: [(name, value) for name, value in answer.fields if name != "Date"]  # noqa: E731
    unknown = await visitor.ask("/.well-known/portproxy/other", host)
    field, status = ("Origin", 204) if path == "hello" else ("Referer", 200)
    others = [f"http://{host}", "http://evil.example", f"http://evil.example:{port}", "http://localhost:1", "http://localhost"]
    others += [f"http://localhost:{port}@evil.example", f"http://localhost.evil.example:{port}", "null", f"localhost:{port}"]
    for theirs in ([], *([f"{field}: {other}{'/' if path == 'frame' else ''}"] for other in others)):
        answer = await visitor.ask(f"/.well-known/portproxy/{path}", host, theirs)
        assert (answer.status, answer.content, undated(answer)) == (404, b"", undated(unknown)), theirs
    for own in (f"http://{visitor.origin}", f"http://localhost:{port}", f"http://[::1]:{port}"):
        answer = await visitor.ask(f"/.well-known/portproxy/{path}", host, [f"{field}: {own}{'/' if path == 'frame' else ''}"])
        assert (answer.status, len(answer.all("Set-Cookie"))) == (status, int(path == "frame")), own
        assert answer.one("Access-Control-Allow-Origin") == (own if path == "hello" else None)
        assert (f"'limited', '{own}')" in answer.text) == (path == "frame")


async def test_nothing_of_the_service_is_rewritten(visitor):
    fields = [
        "Set-Cookie: _xsrf=1; Path=/deep; Secure",
        "Set-Cookie: username-localhost-8888=2",
        "Set-Cookie: __Host-x=3; Path=/; Secure",
        "Set-Cookie: d=4; Domain=localhost; Path=/",
        "Set-Cookie: portproxy-9=5",
        "Service-Worker-Allowed: /",
        "Location: /up/there",
        "Clear-Site-Data: *",
        "Strict-Transport-Security: max-age=1; includeSubDomains",
    ]

    async def script(connection):
        await connection.request()
        await connection.write("\r\n".join(["HTTP/1.1 302 Found", *fields, "Content-Length: 0", "", ""]).encode())

    async with serve(script) as up:
        answer, cookie = await visitor.enter(up.port)
        cookie += "; _xsrf=1; username-localhost-8888=2; jupyterhub-user-ada=3"
        answer = await visitor.ask("/", visitor.host(up.port), [cookie, "X-XSRFToken: t", "Sec-WebSocket-Protocol: a"])
        assert answer.all("Set-Cookie") == [
            "_xsrf=1; Path=/deep; Secure",
            "username-localhost-8888=2; Path=/",  # as the browser would
            "__Host-x=3; Path=/; Secure",
            "d=4; Path=/",
        ]
        assert (answer.one("Location"), answer.one("Service-Worker-Allowed")) == ("/up/there", "/")
        assert answer.all("Clear-Site-Data") + answer.all("Strict-Transport-Security") == []
        assert up.last.one("Cookie") == "_xsrf=1; username-localhost-8888=2; jupyterhub-user-ada=3"
        assert up.last.one("X-XSRFToken") == "t"


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ("http://localhost:{up}/x", "/x"),
        ("http://127.0.0.1:{up}//evil.example", "/.//evil.example"),
        ("http://localhost:{jupyter}/api/contents", "http://localhost:{jupyter}/api/contents"),
        ("http://169.254.169.254/latest", "http://169.254.169.254/latest"),
        ("http://p15001.localhost:{jupyter}/", "http://p15001.localhost:{jupyter}/"),
        ("x", "x"),
    ],
)
async def test_redirects_are_the_browsers_to_follow(visitor, sent, got):
    async def script(connection):
        await connection.request()
        location = sent.format(up=up.port, jupyter=visitor.port)
        await connection.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    async with serve(script) as up:
        _, cookie = await visitor.enter(up.port)
        answer = await visitor.ask("/", visitor.host(up.port), [cookie])
        assert answer.one("Location") == got.format(up=up.port, jupyter=visitor.port)
        assert len(up.requests) == 1


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        ([], ["csp: frame-ancestors 'self' {j}"]),
        (["X-Frame-Options: SAMEORIGIN"], ["csp: frame-ancestors 'self' {j}"]),
        (["X-Frame-Options: DENY"], ["xfo: DENY"]),
        (["X-Frame-Options: SAMEORIGIN, DENY"], ["xfo: SAMEORIGIN, DENY"]),
        (
            ["CSP: default-src 'self'; frame-ancestors 'self'; img-src *"],
            ["csp: default-src 'self'; frame-ancestors 'self' {j}; img-src *"],
        ),
        (["CSP: frame-ancestors 'none'"], ["csp: frame-ancestors 'none'"]),
        (["CSP: frame-ancestors https://x.example"], ["csp: frame-ancestors https://x.example"]),
        (["CSP: frame-ancestors 'none'", "X-Frame-Options: SAMEORIGIN"], ["csp: frame-ancestors 'none'"]),
    ],
)
async def test_jupyters_pages_may_frame_what_its_own_may(visitor, origin, sent, got):
    async def script(connection):
        await connection.request()
        fields = "".join(f"{field}\r\n" for field in sent).replace("CSP:", "Content-Security-Policy:")
        await connection.write(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n".encode())

    async with serve(script) as up:
        _, cookie = await visitor.enter(up.port)
        answer = await visitor.ask("/", visitor.host(up.port), [cookie])
        found = [f"csp: {value}" for value in answer.all("Content-Security-Policy")]
        found += [f"xfo: {value}" for value in answer.all("X-Frame-Options")]
        assert found == [text.format(j=f"http://{origin}") for text in got]


async def test_in_a_frame_all_cookies_are_partitioned(visitor):
    async def script(connection):
        await connection.request()
        await connection.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; SameSite=Lax; Path=/x\r\nContent-Length: 0\r\n\r\n")

    async with serve(script) as up:
        answer, cookie = await visitor.enter(up.port, fields=FRAME)
        assert answer.one("Set-Cookie").partition(";")[2] == " Path=/; HttpOnly; SameSite=None; Secure; Partitioned"
        answer = await visitor.ask("/", visitor.host(up.port), [cookie, *FRAME])
        assert answer.one("Set-Cookie") == "a=1; Path=/x; SameSite=None; Secure; Partitioned"


SAVE = "/.well-known/portproxy/save?next="


async def test_a_download_of_a_framed_page_goes_on_as_its_navigation(visitor, jp_base_url):
    """As Chromium does it: first without the frame's cookies, then at Jupyter as the frame's navigation, without Jupyter's."""
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port, fields=FRAME)
        host, uri = visitor.host(up.port), "/a%2Fb/data%20x.csv?x=%2F&y"
        link = ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: same-origin"]
        first = await visitor.ask(uri, host, link)
        way = urlsplit(first.one("Location"))
        assert (first.status, way.path) == (302, f"{jp_base_url}proxy/enter/{up.port}/a%2Fb/data%20x.csv")
        begun = f"Referer: http://{host}/"
        second = await visitor.ask(f"{way.path}?{way.query}", visitor.origin, [*FRAME, begun])
        way = urlsplit(second.one("Location"))
        assert (second.status, way.netloc, up.connections) == (302, host, 0)
        third = await visitor.ask(f"{way.path}?{way.query}", host, [*FRAME, cookie, begun])
        assert (third.status, up.last.target) == (200, uri)
        assert third.one("Content-Disposition") == "attachment; filename*=UTF-8''data%20x.csv"
        assert (await visitor.ask(f"{way.path}?{way.query}", host, [*FRAME, begun])).status == 403
        assert up.connections == 1


async def test_only_a_frame_of_an_origin_is_sent_back_into_it(visitor, jp_base_url):
    uri = f"{jp_base_url}proxy/enter/15000/x"
    for referer in ("http://evil.example/", f"http://{visitor.origin}/", "http://p15000.localhost.evil.example/", "", "x"):
        answer = await visitor.ask(uri, visitor.origin, [*FRAME, f"Referer: {referer}"])
        assert urlsplit(answer.one("Location")).path == f"{jp_base_url}login", referer
    answer = await visitor.ask(uri, visitor.origin, [*PAGE, f"Referer: http://{visitor.host(15000)}/"])
    assert urlsplit(answer.one("Location")).path == f"{jp_base_url}login"


@pytest.mark.parametrize("target", ["", "x", "//evil.example/\x00", "/%0d%0aX:%20y", "/%20"])
async def test_what_is_saved_is_a_path(visitor, target):
    _, cookie = await visitor.enter(15000)
    answer = await visitor.ask(f"{SAVE}{target}".replace("\x00", "%00"), visitor.host(15000), [*PAGE, cookie])
    assert (answer.status, answer.one("X")) == (404, None)


async def test_only_its_own_pages_may_send_what_changes_something(visitor):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        host = visitor.host(up.port)
        for theirs in (
            "null",
            f"http://{visitor.origin}",
            f"http://{visitor.host(15001)}",
            f"https://{host}",
            "http://evil.example",
        ):
            for method, fields in [("POST", []), ("GET", UPGRADE), ("PUT", []), ("GET", [])]:
                answer = await visitor.ask("/", host, [cookie, f"Origin: {theirs}", *fields], method)
                assert answer.status == 403, (theirs, method)
        refused = [
            ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image"],
            ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors"],
            FRAME,  # of a tab's session
        ]
        for fields in refused:
            assert (await visitor.ask("/", host, [cookie, *fields])).status == 403, fields
        assert up.connections == 0
        assert (await visitor.ask("/", host, [cookie, f"Origin: http://{host}"], "POST", b"x")).status == 200
        for method, fields in [("POST", []), ("GET", UPGRADE)]:  # a page under Referrer-Policy: no-referrer
            unnamed = [cookie, "Origin: null", "Sec-Fetch-Site: same-origin", *fields]
            assert (await visitor.ask("/", host, unnamed, method)).status == 200
        assert (await visitor.ask("/", host, [cookie, "Sec-Fetch-Site: cross-site", *PAGE[:3]])).status == 200


async def test_a_websocket_passes_and_its_token_subprotocol_is_the_services(visitor):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        theirs = "v1.token.websocket.jupyter.org, v1.token.websocket.jupyter.org.theirs"
        fields = [cookie, *UPGRADE, f"Origin: http://{visitor.host(up.port)}", f"Sec-WebSocket-Protocol: {theirs}"]
        await visitor.ask("/socket", visitor.host(up.port), fields)
        assert (up.last.target, up.last.one("Sec-WebSocket-Protocol")) == ("/socket", theirs)
        assert up.last.one("Cookie") is None


async def test_a_jupyter_token_never_goes_to_the_service(visitor):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port, f"/?token={TOKEN}&a=1")
        await visitor.ask(f"/?token={TOKEN}&a=1", visitor.host(up.port), [cookie, f"Authorization: token {TOKEN}"])
        assert (up.last.target, up.last.one("Authorization")) == ("/?a=1", None)


SPELLINGS = ["token={}", "a&t%6Fken={}", "token=own&token={}", "token={}&%74%6f%6b%65%6e={}", "a;token={}", "token=%20{}+%00",
             "token=\xc2\xa0{}\xe2\x80\x83", "token={}%E3%80%80"]  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_redirect_into_an_origin_has_jupyters_token(visitor, spelling):
    query = spelling.replace("{}", TOKEN)
    login = () if ";" not in spelling else (f"Authorization: token {TOKEN}",)
    answer = await visitor.knock(15000, f"/x?{query}&b=%2F", login=login)
    cookies = {"127": login or [_cookie_of(answer)]}  # the token's own, which the way back needs
    for _ in range(4):
        location = answer.one("Location")
        assert answer.status == 302 and TOKEN not in location and quote(TOKEN, safe="") not in location
        if "b=%2F" in location:
            break
        answer = await visitor.follow(location, [*PAGE, *cookies.get(urlsplit(location).netloc[:3], ())])
        cookies.setdefault("p15", []).extend([_cookie_of(answer)] if "p15" in location else [])
    assert urlsplit(location).netloc == visitor.host(15000)


@pytest.mark.parametrize("jp_server_config", [{**configured(), "PortProxy": {"isolate": "always"}}])
async def test_a_page_that_is_sent_to_its_origin_leaves_jupyters_token_behind(call, visitor, jp_server_config):
    async with serve(mirror) as up:
        first = await call(f"proxy/port/{up.port}/x?token={TOKEN}&a=1", fields=PAGE, token=None)
        assert (first.status, first.one("Location").count("/proxy/enter/")) == (302, 1)
        inside = await visitor.ask(first.one("Location"), visitor.origin, PAGE)  # without a cookie: the token logs in there
        assert (inside.status, TOKEN in inside.one("Location")) == (302, False)


async def test_a_request_without_a_session_takes_no_token_to_jupyter(visitor, call):
    await visitor.enter(15000)  # Jupyter's address is known
    answer = await visitor.ask(f"/x?token={TOKEN}&a=1&token=own", visitor.host(15000), PAGE)
    assert (answer.status, TOKEN in answer.text) == (302, False)
    assert answer.one("Location").endswith("proxy/enter/15000/x?a=1&token=own")


async def test_a_ticket_does_not_lead_to_an_address_with_jupyters_token(visitor):
    way = (await visitor.knock(15000)).one("Location")
    for fields in (PAGE, ()):  # a browser is sent back once, a program is not
        answer = await visitor.follow(f"{way}%3Ftoken%3D{TOKEN}%26a", fields)
        assert (answer.status, TOKEN in answer.one("Location")) == (302, False)
    assert answer.one("Location") == f"http://{visitor.host(15000)}/?a"


async def test_jupyters_login_cookie_does_not_go_to_a_service_at_its_origin(visitor, call):
    login = (await _login(call)).removeprefix("Cookie: ")
    async with serve(mirror) as up:
        _, session = await visitor.enter(up.port, login=(f"Cookie: {login}",))
        name, _, value = login.partition("=")
        await visitor.ask("/", visitor.host(up.port), [f"{session}; {login}; {name}=own; other={value}"])
        assert up.last.one("Cookie") == f"{name}=own; other={value}"


NAMED = {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}, "identity_provider_class": NamedUsers}}


@pytest.mark.parametrize("jp_server_config", [NAMED])
async def test_no_credential_of_another_identity_provider_goes_to_a_service_at_its_origin(visitor, jp_server_config):
    async with serve(mirror) as up:
        first = await visitor.knock(up.port, "/x?token=user-ann&a=1", login=())
        assert (first.status, "user-ann" in first.one("Location")) == (302, False)
        odd = await visitor.knock(up.port, "/x?token=own&a=1", login=("Authorization: Odd ann",))
        assert parse_qs(urlsplit(odd.one("Location")).query)["next"] == ["/x?token=own&a=1"]
        _, session = await visitor.enter(up.port, login=("Authorization: Odd ann",))
        host, theirs = visitor.host(up.port), "v1.token.websocket.jupyter.org"
        for field in ("Odd bob", "token user-bob", "Bearer user-bob", "Odd ann"):
            await visitor.ask("/x?token=user-bob&a=1;token=user-eve", host, [session, f"Authorization: {field}"])
            assert (up.last.target, up.last.one("Authorization")) == ("/x?a=1", None), field
        fields = [session, *UPGRADE, f"Origin: http://{host}", f"Sec-WebSocket-Protocol: {theirs}, {theirs}.user-bob"]
        await visitor.ask("/x?token=own", host, [*fields, "Authorization: token own"])
        assert (up.last.target, up.last.one("Authorization")) == ("/x?token=own", "token own")
        assert up.last.one("Sec-WebSocket-Protocol") == theirs


async def _login(call):
    """A login cookie as a browser has it."""
    answer = await call("api/contents", token=None, fields=[f"Authorization: token {TOKEN}"])
    return "Cookie: " + next(value for value in answer.all("Set-Cookie") if value.startswith("username-")).partition(";")[0]


async def test_a_logout_ends_the_session_at_once_and_its_tunnels(visitor, call, wire):
    login = await _login(call)
    async with serve(granting) as up, await wire() as connection:
        host = visitor.host(up.port)
        _, cookie = await visitor.enter(up.port, login=(login,))
        lines = ["GET /s HTTP/1.1", f"Host: {host}", cookie, *UPGRADE, f"Origin: http://{host}", "", ""]
        await connection.send("\r\n".join(lines).encode())
        assert (await connection.head()).status == 101
        await call("logout", token=None, fields=[login])
        assert await connection.closed()
        assert (await visitor.ask("/", host, [cookie])).status == 403


async def test_a_logout_cuts_what_the_service_is_sending(visitor, call, wire):
    async def endless(connection) -> None:
        await connection.head()
        await connection.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
        )
        await connection.reader.read()
        connection.seen.gone.set()

    login = await _login(call)
    async with serve(endless) as up, await wire() as connection:
        host = visitor.host(up.port)
        _, cookie = await visitor.enter(up.port, login=(login,))
        await connection.send("\r\n".join(["GET /s HTTP/1.1", f"Host: {host}", cookie, "", ""]).encode())
        assert (await connection.head()).status == 200
        assert await connection.reader.readexactly(6) == b"1\r\nx\r\n"
        await call("logout", token=None, fields=[login])
        assert await asyncio.wait_for(connection.reader.read(), 5) == b""
        await asyncio.wait_for(up.gone.wait(), 5)


class ChecksAlways(IdentityProvider):
    """Jupyter's own, whose logins are checked for each request."""

    login_age, is_stateless = 0.0, True


class ChecksOften(ChecksAlways):
    login_age = 0.4


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=ChecksAlways)])
async def test_a_token_in_the_url_is_as_good_as_the_cookie_that_it_leaves(visitor, call, jp_base_url, jp_server_config):
    """The first page of many: Jupyter's own link has the token in it, and logging out must end what began with it."""
    async with serve(mirror) as up:
        uri = f"{jp_base_url}proxy/enter/{up.port}/?token={TOKEN}"
        first = await visitor.ask(uri, visitor.origin, PAGE)
        login = "Cookie: " + first.one("Set-Cookie").partition(";")[0]
        way = urlsplit(first.one("Location"))
        second = await visitor.ask(f"{way.path}?{way.query}", way.netloc)
        cookie = "Cookie: " + second.one("Set-Cookie").partition(";")[0]
        for _ in range(2):  # the login is checked each time
            assert (await visitor.ask("/", way.netloc, [cookie])).status == 200
        await call("logout", token=None, fields=[login])
        assert (await visitor.ask("/", way.netloc, [cookie])).status == 403


async def granting(connection):
    """Grants every upgrade and says nothing more."""
    await connection.head()
    await connection.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await connection.reader.read()


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=ChecksOften)])
async def test_a_login_that_is_over_ends_the_session_and_its_tunnels(visitor, jp_serverapp, wire, jp_server_config):
    async with serve(granting) as up, await wire() as connection:
        host = visitor.host(up.port)
        _, cookie = await visitor.enter(up.port)
        lines = ["GET /s HTTP/1.1", f"Host: {host}", cookie, *UPGRADE, f"Origin: http://{host}", "", ""]
        await connection.send("\r\n".join(lines).encode())
        assert (await connection.head()).status == 101
        await asyncio.sleep(1)
        jp_serverapp.identity_provider.token = "another"
        assert await connection.closed()
        assert (await visitor.ask("/", host, [cookie])).status == 403


class Changes(Authorizer):
    """Allows everything until `allows` is False."""

    allows = True

    def is_authorized(self, handler, user, action, resource):
        return self.allows


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Changes, identity_provider_class=ChecksAlways)])
async def test_the_authorizer_decides_again(visitor, monkeypatch, jp_server_config):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        assert (await visitor.ask("/", visitor.host(up.port), [cookie])).status == 200
        monkeypatch.setattr(Changes, "allows", False)
        assert (await visitor.ask("/", visitor.host(up.port), [cookie])).status == 403
        assert (await visitor.knock(up.port)).status == 403


async def test_a_stale_cookie_of_the_same_name_beside_a_good_one_does_no_harm(visitor):
    async with serve(mirror) as up:
        _, cookie = await visitor.enter(up.port)
        name = cookie.removeprefix("Cookie: ").partition("=")[0]
        for line in (f"{cookie}; {name}=stale", f"Cookie: {name}=stale; {cookie.removeprefix('Cookie: ')}"):
            assert (await visitor.ask("/", visitor.host(up.port), [line])).status == 200
            assert up.last.one("Cookie") is None


async def test_a_path_based_url_opened_by_another_site_leads_to_the_isolated_origin(visitor, call, origin, jp_base_url):
    """Else a service at its origin could open itself in Jupyter's."""
    async with serve(mirror) as up:
        for site in ("cross-site", "same-site"):
            fields = [f"Sec-Fetch-Site: {site}", *PAGE[:3]]
            enter = f"{jp_base_url}proxy/enter/{up.port}"
            for path, target in [
                (f"proxy/port/{up.port}/x?y", f"{enter}/x?y"),
                (f"proxy/{up.port}/x", f"{enter}/x"),
                (f"proxy/127.0.0.1:{up.port}/x", f"{enter}/x"),
                (f"proxy/127.0.0.2:{up.port}/x", f"{enter}/x"),
                (f"proxy/[::1]:{up.port}/x", f"{enter}/x"),
                (f"proxy/localhost:{up.port}/x", f"{enter}/x"),
                (f"proxy/absolute/{up.port}/x", f"{enter}{jp_base_url}proxy/absolute/{up.port}/x"),
            ]:
                answer = await call(path, fields=fields)
                assert (answer.status, answer.one("Location")) == (302, target), path
            assert (await call(f"proxy/https/{up.port}/", fields=fields)).status == 403
        assert up.connections == 0
        for site in ("none", "same-origin"):
            fields = [f"Sec-Fetch-Site: {site}", *PAGE[:3]]
            assert (await call(f"proxy/port/{up.port}/", fields=fields)).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_user_who_returns_to_a_path_based_service_with_its_cookie_stays(call, site):
    """As after a login by a third party. For others nothing changes: not without a cookie, nor where the user has not been."""
    login, link = await _login(call), [f"Sec-Fetch-Site: {site}", *PAGE[:3]]
    async with serve(mirror) as up, serve(mirror) as other:
        url, state = f"proxy/port/{up.port}/callback?code=1", [f"{login}; state=1"]

        async def status(path, fields, kind=link):
            return (await call(path, token=None, fields=[*kind, *fields])).status

        assert await status(url, state) == 302  # the browser has a cookie, but the user has never been there
        assert await status(url, [login], ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"]) == 200  # a script was
        assert await status(url, state) == 302
        assert await status(f"proxy/port/{up.port}/", [login], PAGE) == 200
        for none in ([login], [f"{login}; _xsrf=1; username-localhost-1=2; jupyterhub-user-ada=3; portproxy-8888=4"]):
            assert await status(url, none) == 302, none
        before = len(up.requests)
        assert await status(url, state) == 200
        assert (up.last.target, up.last.one("Cookie"), len(up.requests)) == ("/callback?code=1", "state=1", before + 1)
        assert await status(f"proxy/port/{other.port}/", state) == 302
        assert await status(url, [f"{await _login(call)}; state=1"]) == 302  # another user
        assert await status(url, state, [*link[:2], "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe"]) == 403
        assert (await call(url, "POST", [*link, *state], b"", token=None)).status == 403
        assert other.connections == 0


async def cors(connection):
    """A service that allows the origin of each request by CORS."""
    head = await connection.request()
    origin = head.one("Origin") or "none"
    fields = [f"Access-Control-Allow-Origin: {origin}", "Access-Control-Allow-Credentials: true", "Content-Length: 0"]
    await connection.write("\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode())


PREFLIGHT = ["Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x", "Sec-Fetch-Mode: cors"]
CALL = ["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Sec-Fetch-Site: cross-site"]


async def test_a_service_calls_another_of_the_same_user_by_cors(visitor):
    async with serve(cors) as up, serve(mirror) as asking:
        host, caller = visitor.host(up.port), f"http://{visitor.host(asking.port)}"
        origin = f"Origin: {caller}"
        assert (await visitor.ask("/x", host, [origin, *PREFLIGHT], "OPTIONS")).status == 403  # no program listens there
        _, cookie = await visitor.enter(up.port)
        assert (await visitor.ask("/x", host, [origin, *PREFLIGHT], "OPTIONS")).status == 403  # nor with the caller
        assert (await visitor.ask("/x", host, [origin, *CALL, cookie])).status == 403
        assert up.connections == 0
        await visitor.enter(asking.port)
        calls = [("OPTIONS", PREFLIGHT), ("GET", [*CALL, cookie]), ("PUT", [*CALL, cookie]), ("DELETE", [cookie])]
        calls += [("POST", [*CALL, cookie, "Content-Type: application/json"]), ("GET", [cookie])]
        for method, fields in calls:
            answer = await visitor.ask("/x", host, [origin, *fields], method)
            assert (answer.status, answer.one("Access-Control-Allow-Origin")) == (200, caller), method
            assert up.last.one("Origin") == f"http://localhost:{asking.port}"
        refused = [("GET", CALL), ("PUT", CALL), ("OPTIONS", CALL)]  # no session here
        refused += [
            ("POST", [*CALL, cookie, f"Content-Type: {kind}"]) for kind in ("text/plain", "multipart/form-data; boundary=x")
        ]
        refused += [
            ("POST", [*CALL, cookie]),
            ("GET", [*UPGRADE, "Sec-Fetch-Mode: websocket", cookie]),
        ]  # sent without a preflight
        refused += [("GET", ["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: cross-site", cookie])]
        refused += [
            ("POST", ["Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: cross-site", "Content-Type: application/json", cookie])
        ]
        before = up.connections, len(up.requests)
        for method, fields in refused:
            assert (await visitor.ask("/x", host, [origin, *fields], method)).status == 403, (method, fields)
        for theirs in ("null", "http://evil.example", f"https://{visitor.host(asking.port)}", f"http://{visitor.origin}", "x"):
            for fields, method in ((PREFLIGHT, "OPTIONS"), ([*CALL, cookie], "GET")):
                assert (await visitor.ask("/x", host, [f"Origin: {theirs}", *fields], method)).status == 403, theirs
        assert (up.connections, len(up.requests)) == before


async def test_a_preflight_without_a_login_takes_nothing_else_along_and_brings_nothing_else_back(visitor):
    fields = [
        "Access-Control-Allow-Origin: *",
        "Access-Control-Allow-Methods: PUT",
        "Vary: Origin",
        "Set-Cookie: a=b",
        "X-Of: it",
    ]
    async with serve(answers(b"secret", "\r\n".join(fields).encode())) as up, serve(mirror) as asking:
        host, origin = visitor.host(up.port), f"Origin: http://{visitor.host(asking.port)}"
        for port in (up.port, asking.port):
            await visitor.enter(port)
        forged = ["Authorization: Basic a", "Cookie: a=b", "X-HTTP-Method-Override: DELETE", "Accept: text/html"]
        answer = await visitor.ask("/x", host, [origin, *PREFLIGHT, *forged], "OPTIONS")
        assert (answer.status, answer.content) == (200, b"")
        assert [answer.one(field.partition(":")[0]) for field in fields] == ["*", "PUT", "Origin", None, None]
        assert (up.last.one("Access-Control-Request-Method"), up.last.one("Access-Control-Request-Headers")) == ("PUT", "x")
        assert not any(up.last.one(field.partition(":")[0]) for field in forged)
        before = len(up.requests)
        assert (await visitor.ask("/x", host, [origin, *PREFLIGHT], "OPTIONS", b"content")).status == 403
        assert len(up.requests) == before


@pytest.mark.parametrize("jp_server_config", [configured(identity_provider_class=NamedUsers)])
async def test_the_services_of_two_users_do_not_call_each_other(visitor, jp_server_config):
    async with serve(cors) as up, serve(mirror) as asking:
        host, origin = visitor.host(up.port), f"Origin: http://{visitor.host(asking.port)}"
        _, cookie = await visitor.enter(up.port, login=_named("ada"))
        await visitor.enter(asking.port, login=_named("eve"))
        for fields, method in ((PREFLIGHT, "OPTIONS"), ([*CALL, cookie], "GET"), ([*CALL, cookie], "PUT")):
            assert (await visitor.ask("/x", host, [origin, *fields], method)).status == 403
        assert up.connections == 0
        await visitor.enter(asking.port, login=_named("ada"))
        for fields, method in ((PREFLIGHT, "OPTIONS"), ([*CALL, cookie], "GET"), ([*CALL, cookie], "PUT")):
            assert (await visitor.ask("/x", host, [origin, *fields], method)).status == 200


async def test_a_logout_of_the_caller_ends_its_calls(visitor, call):
    login = await _login(call)
    async with serve(cors) as up, serve(mirror) as asking:
        host, origin = visitor.host(up.port), f"Origin: http://{visitor.host(asking.port)}"
        await visitor.enter(asking.port, login=(login,))
        await visitor.enter(up.port, login=(login,))
        assert (await visitor.ask("/x", host, [origin, *PREFLIGHT], "OPTIONS")).status == 200
        await call("logout", token=None, fields=[login])
        assert (await visitor.ask("/x", host, [origin, *PREFLIGHT], "OPTIONS")).status == 403


def server(**traits):
    config = configured()
    return {**config, "PortProxy": traits}


@pytest.mark.parametrize("jp_server_config", [server(isolate="always")])
async def test_always_sends_pages_to_the_origin_and_leaves_the_rest(call, jp_base_url, jp_server_config):
    async with serve(mirror) as up:
        answer = await call(f"proxy/port/{up.port}/x?y", fields=PAGE)
        assert (answer.status, answer.one("Location")) == (302, f"{jp_base_url}proxy/enter/{up.port}/x?y")
        assert up.connections == 0
        for fields in ([], ["Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]):
            assert (await call(f"proxy/port/{up.port}/x", fields=fields)).status == 200


PORTAL = "https://portal.example.org"
FRAMED = [*FRAME, f"Referer: {PORTAL}/"]


@pytest.mark.parametrize("jp_server_config", [server(embedders=[PORTAL, "http://*.intern.example:8080"])])
async def test_a_site_that_the_administrator_names_may_frame_a_service(visitor, call, jp_base_url, jp_server_config):
    async with serve(mirror) as up:
        host = visitor.host(up.port)
        lost = await visitor.ask("/x", host, FRAMED)
        assert lost.one("Location") == f"http://localhost:{visitor.port}{jp_base_url}proxy/enter/{up.port}/x"
        knocked = await visitor.ask(
            f"{jp_base_url}proxy/enter/{up.port}/x", visitor.origin, [f"Authorization: token {TOKEN}", *FRAMED]
        )
        first = await visitor.follow(knocked.one("Location"), FRAMED)
        back = await visitor.follow(first.one("Location"), [f"Authorization: token {TOKEN}", *FRAMED])
        last = await visitor.follow(back.one("Location"), [*FRAMED, _cookie_of(first)])
        assert last.one("Set-Cookie").endswith("SameSite=None; Secure; Partitioned")
        answer = await visitor.ask("/x", host, [_cookie_of(last), *FRAMED])
        ancestors = f"frame-ancestors 'self' http://{visitor.origin} {PORTAL} http://*.intern.example:8080"
        assert (answer.status, answer.all("Content-Security-Policy")) == (200, [ancestors])
        gone = await visitor.ask("/.well-known/portproxy/enter?ticket=x&next=/", host, FRAMED)
        assert PORTAL in gone.one("Content-Security-Policy")
        before = len(up.requests)
        assert (
            await visitor.ask("/", host, [_cookie_of(last), "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"])
        ).status == 403
        assert (await call(f"proxy/port/{up.port}/", fields=FRAMED)).status == 403  # it shares Jupyter's origin
        assert len(up.requests) == before


async def test_no_other_site_may(visitor):
    async with serve(mirror) as up:
        knocked = await visitor.knock(up.port, fields=[])
        assert knocked.status == 302
        assert (await visitor.ask(f"{visitor._base_url}proxy/enter/{up.port}/", visitor.origin, FRAMED)).status != 200
        refused = await visitor.ask(
            f"{visitor._base_url}proxy/enter/{up.port}/", visitor.origin, [f"Authorization: token {TOKEN}", *FRAMED]
        )
        assert refused.status == 403
        assert (await visitor.ask("/x", visitor.host(up.port), FRAMED)).status == 403


@pytest.mark.parametrize("jp_server_config", [server(isolate="never")])
async def test_never_has_no_origins(call, visitor, jp_server_config, jp_base_url):
    async with serve(mirror) as up:
        for target, kind in ((up.port, "port"), ("app", "service")):
            way = await call(f"proxy/enter/{target}/x%2F?y")
            assert (way.status, way.one("Location")) == (307, f"{jp_base_url}proxy/{kind}/{target}/x%2F?y")
        assert (await visitor.ask("/.well-known/portproxy/hello", visitor.host(up.port))).status in (403, 404)
        fields = ["Sec-Fetch-Site: cross-site", *PAGE[:3]]
        assert (await call(f"proxy/port/{up.port}/", fields=fields)).status == 200


APPS = {
    "origin_pattern": "{port}.apps.example.org",
    "origin_below_base_url": True,
    "jupyter_url": "https://hub.example.org/user/ada/",
}


@pytest.mark.parametrize("jp_server_config", [server(**APPS)])
async def test_behind_a_reverse_proxy_with_other_host_names(visitor, jp_base_url, jp_server_config):
    async with serve(mirror) as up:
        host = f"{up.port}.apps.example.org"
        first = await visitor.knock(up.port, "/x")
        way = urlsplit(first.one("Location"))
        assert way.netloc == host
        second = await visitor.ask(f"{jp_base_url[:-1]}{way.path}?{way.query}", host)
        assert second.one("Location") == f"https://{host}/x"  # as jupyter_url says
        cookie = "Cookie: " + second.one("Set-Cookie").partition(";")[0]
        assert (await visitor.ask(f"{jp_base_url}x?y", host, [cookie])).status == 200
        assert up.last.target == "/x?y"
        lost = await visitor.ask(f"{jp_base_url}x?y", host, PAGE)
        assert lost.one("Location") == f"https://hub.example.org/user/ada/proxy/enter/{up.port}/x?y"
        for own, status in [("https://hub.example.org", 204), (f"http://{visitor.origin}", 204), ("http://localhost:1", 404)]:
            hello = await visitor.ask(f"{jp_base_url}.well-known/portproxy/hello", host, [f"Origin: {own}"])
            assert (hello.status, own) == (status, own)


@pytest.mark.parametrize("jp_server_config", [server(origin_pattern="{port}.apps.example.org")])
async def test_over_plain_http_a_browser_is_known_by_what_it_accepts(visitor, jp_server_config):
    """It says nothing there of where a request comes from."""
    for fields, host in [
        (["Accept: text/html"], visitor.origin),
        (["Accept: */*"], "15000.apps.example.org"),
        ([], "15000.apps.example.org"),
    ]:
        answer = await visitor.follow((await visitor.knock(15000)).one("Location"), fields)
        assert (answer.status, urlsplit(answer.one("Location")).netloc) == (302, host), fields


async def test_a_page_reports_to_jupyter_whether_frames_keep_cookies_and_storage(visitor):
    """It needs no session. Its cookie has the attributes of a framed session's and is sent to no service."""
    answer = await visitor.ask("/.well-known/portproxy/frame", visitor.host(1), [f"Referer: http://localhost:{visitor.port}/"])
    assert (answer.status, answer.one("Content-Type")) == (200, "text/html; charset=utf-8")
    assert answer.text.endswith(f"'usable' : 'limited', 'http://localhost:{visitor.port}');</script>")
    assert answer.one("Content-Security-Policy") == "default-src 'none'; script-src 'unsafe-inline'"
    kept = "portproxy-frame=1; Path=/.well-known/portproxy/; Max-Age=10; SameSite=None; Secure; Partitioned"
    assert answer.one("Set-Cookie") == kept


ECHO = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"]
NAMED = {"web": {"command": ECHO, "stop_timeout": 1}, "No_Label": {"command": ECHO, "stop_timeout": 1}}
TOLD = {name: {**template, "environment": {"ROOT": "{prefix}"}} for name, template in NAMED.items()}


@pytest.mark.parametrize("jp_server_config", [server(service_templates=NAMED)])
async def test_services_have_origins_by_their_names_or_by_their_ports(visitor, gateway, call, jp_server_config):
    for name in NAMED:
        await gateway.services.wait_ready(gateway.services.start(name, None, {}))
    way = urlsplit((await visitor.knock("web")).one("Location"))
    assert way.netloc == visitor.host("web")
    _, cookie = await visitor.enter("web")
    answer = await visitor.ask("/", way.netloc, [cookie])
    assert (answer.status, "Directory listing" in answer.text) == (200, True)
    port = gateway.services.get("No_Label").endpoint.port
    assert urlsplit((await visitor.knock("No_Label")).one("Location")).netloc == visitor.host(port)


@pytest.mark.parametrize("jp_server_config", [server(service_templates=TOLD)])
async def test_a_service_started_with_its_prefix_has_it_at_its_origin_too(visitor, gateway, call, jp_server_config):
    """By its name, and by its port: it leads its pages there. What begins alike is not below it."""
    for name in NAMED:
        service = gateway.services.start(name, None, {})
        await gateway.services.wait_ready(service)
        target = "web" if name == "web" else service.endpoint.port
        root = f"{service.prefix}/"
        answer, cookie = await visitor.enter(target)
        host = visitor.host(target)
        assert answer.one("Location") == f"http://{host}{root if name == 'web' else '/'}"
        answer = await visitor.ask("/?x=%2F", host, [cookie])
        assert (answer.status, answer.one("Location")) == (307, f"{root}?x=%2F")
        for path, status in ((root, 200), (f"{service.prefix}x/", 404)):
            answer = await visitor.ask(path, host, [cookie])
            assert (answer.status, path) == (status, path)
        assert "Directory listing for /<" in (await visitor.ask(root, host, [cookie])).text


KEPT = {name: {**template, "keep_prefix": True} for name, template in NAMED.items()}


@pytest.mark.parametrize("jp_server_config", [server(service_templates=KEPT)])
async def test_a_service_that_wants_to_see_its_prefix_sees_it_at_its_origin(visitor, gateway, call, jp_server_config):
    for name in NAMED:
        service = gateway.services.start(name, None, {})
        await gateway.services.wait_ready(service)
        target = "web" if name == "web" else service.endpoint.port
        _, cookie = await visitor.enter(target)
        assert (await visitor.ask("/", visitor.host(target), [cookie])).one("Location") == f"{service.prefix}/"
        assert (await visitor.ask(f"{service.prefix}/", visitor.host(target), [cookie])).status == 404  # it is asked for that
        wanted = f'"GET {service.prefix}/ HTTP/1.1" 404'.encode()
        await eventually(lambda service=service, wanted=wanted: wanted in service.log.tail())


@pytest.mark.parametrize("jp_server_config", [server(service_templates=NAMED)])
async def test_a_service_started_without_its_prefix_has_that_path_for_itself(visitor, gateway, call, jp_server_config):
    await gateway.services.wait_ready(service := gateway.services.start("web", None, {}))
    _, cookie = await visitor.enter("web")
    assert (await visitor.ask("/", visitor.host("web"), [cookie])).status == 200
    assert (await visitor.ask(f"{service.prefix}/", visitor.host("web"), [cookie])).status == 404


@pytest.mark.parametrize(
    ("host", "forwarded", "found"),
    [
        ("localhost:8888", (), True),
        ("localhost:8888", ["X-Forwarded-Host: localhost:8888"], True),
        ("localhost", ["X-Forwarded-Host: localhost:8888"], False),  # a Jupyter below another one, on a Unix socket
        ("127.0.0.1:9999", ["X-Forwarded-Host: jupyter.example.org"], False),
    ],
)
async def test_local_names_are_not_tried_where_a_gateway_has_changed_the_host(visitor, jp_base_url, host, forwarded, found):
    calls = [f"Authorization: token {TOKEN}", *forwarded]
    answer = await visitor.ask(f"{jp_base_url}proxy/api/origins", host, calls)
    listed = json.loads(answer.text)
    assert listed["origin"] == (f"http://p{{target}}.{host}" if found else None)
    probe = listed["probe"]
    assert probe == (f"http://p1.{host}/.well-known/portproxy/hello" if found else None)


@pytest.mark.parametrize("jp_server_config", [server(origin_pattern="{port}.apps.example.org")])
@pytest.mark.parametrize(("scheme", "default"), [("https", 443), ("http", 80)])
async def test_a_reverse_proxy_may_add_the_default_port_to_host(visitor, jp_base_url, jp_serverapp, scheme, default):
    """`proxy_set_header Host $host:$server_port` of nginx: no browser writes that port."""
    jp_serverapp.web_app.settings["trust_xheaders"] = True
    async with serve(mirror) as up:
        front, login = [*PAGE, f"X-Forwarded-Proto: {scheme}"], f"Authorization: token {TOKEN}"

        async def follow(location, *fields):
            way = urlsplit(location)
            assert (way.scheme, way.port) == (scheme, None)
            return await visitor.ask(f"{way.path}?{way.query}", f"{way.netloc}:{default}", [*front, *fields])

        knocked = await visitor.ask(f"{jp_base_url}proxy/enter/{up.port}/x", f"localhost:{default}", [*front, login])
        first = await follow(knocked.one("Location"))
        back = await follow(first.one("Location"), login)
        cookie = _cookie_of(await follow(back.one("Location"), _cookie_of(first)))
        host = f"{up.port}.apps.example.org"
        for sent in ([], [f"Origin: {scheme}://{host}", "Sec-Fetch-Site: same-origin"]):
            answer = await visitor.ask("/x", f"{host}:{default}", [cookie, f"X-Forwarded-Proto: {scheme}", *sent], "POST", b"a")
            assert (answer.status, up.last.target) == (200, "/x")


async def assert_no_local_names(ask, base_url, port, gateway):
    """Wherever a page is opened, the browser stays at Jupyter's own address."""
    link = [*PAGE[:3], "Sec-Fetch-Site: cross-site"]
    for isolate in ("auto", "always"):
        gateway.settings.isolate = isolate
        assert (await ask(f"{base_url}proxy/port/{port}/x", link)).status == 200
        assert (await ask(f"{base_url}proxy/port/{port}/x", PAGE)).status == 200
        way = await ask(f"{base_url}proxy/enter/{port}/x", PAGE)
        assert (way.status, way.one("Location")) == (302, f"{base_url}proxy/port/{port}/x")
        page = await ask(f"{base_url}proxy/", PAGE)
        assert page.status == 200 and "proxy/enter" not in page.text
        assert json.loads((await ask(f"{base_url}proxy/api/origins")).text)["probe"] is None


@pytest.mark.parametrize(
    "listed",
    [
        ["X-Forwarded-Host: abc-8888.app.example", "X-Forwarded-Proto: https"],
        ["Forwarded: for=192.0.2.1;host=abc.example;proto=https"],
        ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"],
    ],
)
async def test_nothing_leads_to_local_names_where_a_reverse_proxy_has_changed_the_host(visitor, gateway, jp_base_url, listed):
    async def ask(uri, fields=()):
        return await visitor.ask(uri, visitor.origin, [f"Authorization: token {TOKEN}", *listed, *fields])

    async with serve(mirror) as up:
        await assert_no_local_names(ask, jp_base_url, up.port, gateway)


@pytest.fixture
def at_hub(monkeypatch, request):
    monkeypatch.setenv(request.param, "/user/ada/")


@pytest.mark.parametrize("at_hub", ["JUPYTERHUB_SERVICE_PREFIX", "JUPYTERHUB_API_URL"], indirect=True)
async def test_nothing_leads_to_local_names_at_a_hub(at_hub, visitor, gateway, jp_base_url, events):
    async def ask(uri, fields=()):
        return await visitor.ask(uri, visitor.origin, [f"Authorization: token {TOKEN}", *fields])

    async with serve(mirror) as up:
        await assert_no_local_names(ask, jp_base_url, up.port, gateway)
    events.report(LostSocket("/ws", f"{jp_base_url}proxy/port/15000"))
    ((_, notice),) = events._waiting_notices.values()
    assert notice["isolated"] is None


@pytest.fixture
def events(jp_serverapp):
    (extension,) = jp_serverapp.extension_manager.extension_apps["jupyter_portproxy"]
    return extension.events


SLEEPS = {"command": [sys.executable, "-c", "import time; print('so far', flush=True); time.sleep(60)"], "start_on_open": True}


@pytest.mark.parametrize(
    "jp_server_config", [{**configured(), "PortProxy": {"service_templates": {"sleeps": {**SLEEPS, "stop_timeout": 1}}}}]
)
async def test_the_page_of_a_starting_service_gets_reports_by_the_session_alone(visitor, gateway, jp_base_url, jp_server_config):
    _, cookie = await visitor.enter("sleeps")
    host = visitor.host("sleeps")
    assert not gateway.services.list()  # the way in starts nothing
    page = await visitor.ask("/a?b", host, [cookie, *PAGE])
    assert page.status == 503 and "sleeps is starting" in page.text
    log = f"http://{visitor.origin}{jp_base_url}proxy/api/services/sleeps/logs?follow=1"
    assert f'href="{log}"' in page.text
    assert f"frame-ancestors 'self' http://{visitor.origin}" in page.one("Content-Security-Policy")
    await eventually(lambda: gateway.services.get("sleeps").log.written)
    fields = ["X-Portproxy-Start: report", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: same-origin"]
    assert json.loads((await visitor.ask("/a?b", host, [cookie, *fields])).text)["lines"] == ["so far"]
    assert (await visitor.ask("/a?b", host, fields)).status == 403
    other = ["X-Portproxy-Start: again", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"]
    assert (await visitor.ask("/", host, [cookie, *other], "POST", b"")).status == 403


async def test_an_error_page_shows_the_command_that_diagnoses_its_port(visitor):
    port = free_port()
    _, cookie = await visitor.enter(port)
    page = await visitor.ask("/x", visitor.host(port), [cookie, *PAGE])
    assert page.status == 502 and f"<code>jupyter portproxy check {port} --page</code>" in page.text


with_lab = server()
with_lab["ServerApp"]["jpserver_extensions"] = {"jupyter_portproxy": True, "jupyterlab": True}


@pytest.mark.parametrize("jp_server_config", [with_lab])
async def test_an_error_page_leads_to_the_diagnosis_in_jupyterlab(visitor, jp_base_url, jp_server_config):
    port = free_port()
    _, cookie = await visitor.enter(port)
    page = await visitor.ask("/x", visitor.host(port), [cookie, *PAGE])
    assert f'href="http://{visitor.origin}{jp_base_url}lab?portproxy-diagnose={port}%2Fx"' in page.text
