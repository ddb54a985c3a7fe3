"""Which page may send a request: Fetch Metadata, Origin, and what Jupyter is configured to allow."""

from __future__ import annotations

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from jupyter_portproxy.handlers.origin_check import is_framed, is_manifest, is_navigation

from ..conftest import TOKEN
from ..support.raw_clients import CROSS, UPGRADE
from ..support.upstreams import mirror, serve

SENDS = [("POST", []), ("PUT", []), ("GET", []), ("OPTIONS", []), ("GET", UPGRADE)]


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


HTTPS, FROM_FRONT = "X-Forwarded-Proto: https", "X-Forwarded-Host: hub.example, localhost:8888"


@pytest.mark.parametrize("jp_server_config", [{"allow_remote_access": True, "trust_xheaders": True}], indirect=True)
async def test_an_origin_is_compared_with_the_host_in_the_browser(call):
    async with serve(mirror) as up:
        for host, theirs, fields, status in [
            ("hub.example:443", "https://hub.example", [HTTPS], 200),  # `proxy_set_header Host $host:$server_port` of nginx
            ("hub.example:443", "https://hub.example", ["Sec-Fetch-Site: same-origin"], 200),
            ("hub.example:80", "http://hub.example", [], 200),
            ("hub.example:80", "https://hub.example", [HTTPS], 403),
            ("hub.example:443", "https://hub.example:8443", [HTTPS], 403),
            ("hub.example:443", "http://hub.example", [], 403),
            ("hub.example:443", "https://hub.example.evil.test", [HTTPS], 403),
            ("hub.example:443", "https://hub.example/x", [HTTPS], 403),
            ("127.0.0.1:8888", "https://hub.example", [HTTPS, FROM_FRONT], 200),
            ("127.0.0.1:8888", "https://evil.example", [HTTPS, FROM_FRONT], 403),
            ("127.0.0.1:8888", "https://hub.example", [HTTPS], 403),
            # A page of another site that could send X-Forwarded-Host: the browser says where it is from.
            ("127.0.0.1:8888", "https://hub.example", [HTTPS, FROM_FRONT, CROSS[0]], 403),
            ("127.0.0.1:8888", "https://hub.example", [HTTPS, FROM_FRONT, "Sec-Fetch-Site: same-site"], 403),
        ]:
            for method, more in SENDS:
                answer = await call(f"proxy/port/{up.port}/", method, [f"Origin: {theirs}", *fields, *more], host=host)
                assert answer.status == status, (host, theirs, fields, method)


@pytest.mark.parametrize("jp_server_config", [{"trust_xheaders": False}], indirect=True)
async def test_the_host_of_a_reverse_proxy_that_is_not_trusted_does_not_count(call):
    async with serve(mirror) as up:
        sent = ["Origin: https://hub.example", HTTPS, FROM_FRONT]
        assert (await call(f"proxy/port/{up.port}/", "POST", sent)).status == 403 and up.connections == 0


@pytest.fixture
def jp_server_config(jp_server_config, request):
    return {**jp_server_config, "ServerApp": {**jp_server_config["ServerApp"], **getattr(request, "param", {})}}


PATTERN = r"https://[a-z]+[.]example(:[0-9]+)?"


@pytest.mark.parametrize("jp_server_config", [{"allow_origin_pat": PATTERN}], indirect=True)
@pytest.mark.parametrize("compiled", [True, False])
async def test_origins_that_match_allow_origin_pat_are_allowed(call, jp_serverapp, compiled):
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


NAVIGATE, HTML = {"Sec-Fetch-Mode": "navigate"}, {"Accept": "text/html,*/*"}


@pytest.mark.parametrize(
    ("method", "fields", "expected"),
    [
        ("GET", NAVIGATE, True),
        ("HEAD", NAVIGATE, True),
        ("POST", NAVIGATE, False),
        ("GET", HTML, True),
        ("GET", {**HTML, "Sec-Fetch-Mode": "cors"}, False),
        ("GET", {"Accept": "*/*"}, False),
        ("GET", {**NAVIGATE, "Upgrade": "websocket"}, False),
    ],
)
def test_a_navigation_is_for_a_page(method, fields, expected):
    assert is_navigation(request(method, fields)) is expected


def request(method, fields):
    return HTTPServerRequest(start_line=RequestStartLine(method, "/", "HTTP/1.1"), headers=HTTPHeaders({"Host": "a", **fields}))


def test_frames_and_manifests_are_recognized_by_their_destination():
    assert [is_framed(request("GET", {"Sec-Fetch-Dest": kind})) for kind in ("iframe", "frame", "document")] == [
        True,
        True,
        False,
    ]
    own = {"Sec-Fetch-Dest": "manifest", "Sec-Fetch-Site": "same-origin"}
    assert is_manifest(request("GET", own)) and not is_manifest(request("POST", own))
    assert not is_manifest(request("GET", {**own, "Sec-Fetch-Site": "cross-site"}))
