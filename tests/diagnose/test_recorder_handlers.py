"""The recorder's API: who may, for which ports, and that no secret leaves it or stays in it."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from collections import deque

import pytest
from jupyter_server.auth import Authorizer

from jupyter_portproxy.cli.watch import print_exchange
from jupyter_portproxy.diagnose import recorder_handlers
from jupyter_portproxy.diagnose.recorder_handlers import describe_exchange

from ..conftest import TOKEN
from ..support.identity_providers import configured
from ..support.raw_clients import UPGRADE
from ..support.upstreams import SWITCHING, answers, free_port, mirror, says, serve

PATH = "proxy/api/exchanges"


class Reads(Authorizer):
    """Users may see the lists, and use no port."""

    def is_authorized(self, handler, user, action, resource):
        return action == "read"


async def test_what_is_recorded_can_be_read_saved_and_cleared(call, watch):
    async with serve(mirror) as up, watch(up.port) as watcher:
        await call(f"proxy/port/{up.port}/a?b=c")
        exchange = await watcher.last()
        response = await call(f"{PATH}?target={up.port}")
        assert json.loads(response.text) == {"target": str(up.port), "is_recording": True, "exchanges": [exchange]}
        archive = await call(f"{PATH}?target={up.port}&format=har")
        assert archive.one("Content-Disposition") == 'attachment; filename="exchanges.har"'
        assert [entry["request"]["url"] for entry in json.loads(archive.text)["log"]["entries"]] == [exchange["url"]]
        assert (await call(f"{PATH}?target={up.port}", "DELETE")).status == 204
        await watcher.until(lambda found: not found)
        assert watcher.names[-1] == "cleared"
        assert json.loads((await call(f"{PATH}?target={up.port}")).text)["exchanges"] == []
        assert exchange["curl"].startswith("# These values were not recorded: ***\ncurl 'http://127.0.0.1")


TARGETS = [
    "a[1]/{b,c}", "a/../b", "./b", "%2e%2e/b", "..%2fb", "/a//b", "a'b\"$c`d`", "a|b\\c", "a%zz",
]  # fmt: skip
FIELDS = ["User-Agent: caf\xe9 '\\", "Accept: \xc3\xbc", "Accept-Language:"]


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="there is no curl or no bash")
@pytest.mark.parametrize("target", TARGETS)
async def test_the_command_of_a_request_makes_the_same_request(call, watch, target):
    async with serve(mirror) as up, watch(up.port) as watcher:
        assert (await call(f"proxy/port/{up.port}/{target}", "PROPFIND", FIELDS)).status == 200
        command = (await watcher.last())["curl"].replace("token ***", f"token {TOKEN}")
        running = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=asyncio.subprocess.PIPE)
        shown = json.loads((await asyncio.wait_for(running.communicate(), 20))[0])
    first, second = up.requests
    assert (second.method, second.target, second.fields) == (first.method, first.target, first.fields)
    assert shown["target"] == first.target


@pytest.mark.skipif(shutil.which("curl") is None or shutil.which("bash") is None, reason="there is no curl or no bash")
async def test_the_command_of_a_websocket_opens_it(wire, origin, jp_base_url, watch):
    async with serve(says(SWITCHING)) as up, watch(up.port) as watcher:
        async with await wire() as connection:
            lines = [f"GET {jp_base_url}proxy/port/{up.port}/ HTTP/1.1", f"Host: {origin}", f"Authorization: token {TOKEN}"]
            await connection.send("\r\n".join([*lines, *UPGRADE, "", ""]).encode())
            assert (await connection.head()).status == 101
        command = (await watcher.last())["curl"].replace("token ***", f"token {TOKEN}")
        running = await asyncio.create_subprocess_exec("bash", "-c", command, stdout=asyncio.subprocess.PIPE)
        shown = (await asyncio.wait_for(running.communicate(), 20))[0]
    assert shown.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("host", ["[x", "[abc]", "a]b", "h:99999", ""])
async def test_a_request_whose_host_is_none_is_shown_and_saved_like_others(call, watch, origin, jp_base_url, host):
    async with serve(mirror) as up, watch(up.port) as watcher:
        await call(f"proxy/port/{up.port}/a?b", token=None, fields=["X-A: 1"], host=host or " ")
        exchange = await watcher.last()
        archive = await call(f"{PATH}?target={up.port}&format=har")
    assert exchange["url"] == f"http://{origin}{jp_base_url}proxy/port/{up.port}/a?b"
    assert print_exchange(exchange).partition("[")[0].endswith(f"  {jp_base_url}proxy/port/{up.port}/a?b  ")
    [entry] = json.loads(archive.text)["log"]["entries"]
    assert (entry["request"]["url"], entry["request"]["queryString"]) == (exchange["url"], [{"name": "b", "value": ""}])


async def test_a_watcher_gets_each_request_where_printing_takes_long(call, watch, monkeypatch):
    def describe(exchange, host):
        time.sleep(0.05)
        return describe_exchange(exchange, host)

    monkeypatch.setattr(recorder_handlers, "describe_exchange", describe)
    began = time.monotonic()
    async with serve(mirror) as up, watch(up.port) as watcher:
        for number in range(1, 5):
            await call(f"proxy/port/{up.port}/{number}")
            await watcher.last(number)
    assert time.monotonic() - began < 20


async def test_nothing_is_recorded_by_reading(call, gateway):
    async with serve(mirror) as up:
        response = json.loads((await call(f"{PATH}?target={up.port}")).text)
        assert response == {"target": str(up.port), "is_recording": False, "exchanges": []}
        assert (await call(f"{PATH}?target={up.port}", "DELETE")).status == 204
    assert gateway.observer is None


@pytest.mark.parametrize("kind", [PATH, f"{PATH}/events"])
@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("", 400, "bad_input"),
        ("?target=0", 400, "bad_route"),
        ("?target=99999", 400, "bad_route"),
        ("?target=%D9%A8%D9%A0%D9%A8%D9%A0%D9%A0", 400, "bad_route"),
        ("?target=9", 403, "forbidden"),
        ("?target=nothing", 404, "not_found"),
        ("?target=..%2F..", 404, "not_found"),
    ],
)
async def test_a_target_is_a_port_that_may_be_used_or_a_service(call, gateway, kind, target, status, code):
    response = await call(f"{kind}{target}")
    assert (response.status, json.loads(response.text)["code"]) == (status, code)
    assert gateway.observer is None


async def test_the_format_is_json_or_har(call):
    response = await call(f"{PATH}?target={free_port()}&format=xml")
    assert (response.status, json.loads(response.text)["code"]) == (400, "bad_input")


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Reads)])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/events"])
async def test_who_may_not_use_a_port_sees_nothing_of_it(call, gateway, path, jp_server_config):
    for method in ("GET", "DELETE") if path == PATH else ("GET",):
        assert (await call(f"{path}?target={free_port()}", method)).status == 403
    assert gateway.observer is None


@pytest.mark.parametrize("path", [PATH, f"{PATH}/events"])
async def test_without_a_login_there_is_nothing(call, path):
    assert (await call(f"{path}?target={free_port()}", token=None)).status in (401, 403)


# ---- secrets ----

PLANTED = "pl4nted"
RESPONSE = "\r\n".join(
    [
        "HTTP/1.1 302 Found", f"Location: /x;s={PLANTED}12?code={PLANTED}13#t={PLANTED}14",
        f"Set-Cookie: sid={PLANTED}15; Path=/", f"Set-Cookie: _xsrf={PLANTED}16", f"Set-Cookie: {PLANTED}17",
        f"WWW-Authenticate: Bearer realm={PLANTED}18", f"X-Access-Token: {PLANTED}19", f"X-Own: {PLANTED}20",
        f"Refresh: 1; url=/y?k={PLANTED}21", f'Link: </z?k={PLANTED}22>; rel="next"', f"Authentication-Info: {PLANTED}23",
        f"Content-Location: http://u:{PLANTED}11@h/v?{PLANTED}24", "Content-Length: 0", "", "",
    ]
).encode()  # fmt: skip
REQUEST = [
    f"Cookie: sid={PLANTED}31; other={PLANTED}32", f"X-XSRFToken: {PLANTED}33", f"Proxy-Authorization: Basic {PLANTED}34",
    f"X-Api-Key: {PLANTED}35", f"Referer: http://u:{PLANTED}36@h/p?q={PLANTED}37#{PLANTED}38", f"X-Own: {PLANTED}39",
    f"Destination: http://h/d?k={PLANTED}40", f"X-Forwarded-Prefix: /a?{PLANTED}41", f"HX-Current-URL: http://h/p?q={PLANTED}42",
    f"Sec-WebSocket-Protocol: bearer, {PLANTED}43",
    f"Sec-CH-Secret: {PLANTED}45",
]  # fmt: skip


def everything(value, seen: set[int]) -> str:
    """The text of an object and of all that it refers to."""
    if id(value) in seen:
        return ""
    seen.add(id(value))
    if isinstance(value, (str, bytes)):
        return repr(value)
    if isinstance(value, dict):
        return "".join(everything(key, seen) + everything(item, seen) for key, item in value.items())
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return "".join(everything(item, seen) for item in value)
    names = [*getattr(value, "__dict__", {}), *(name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))]
    return "".join(everything(getattr(value, name, None), seen) for name in names)


async def test_no_planted_secret_is_kept_sent_or_logged(call, watch, extension, jp_base_url, caplog):
    caplog.set_level(logging.INFO)
    async with serve(says(RESPONSE)) as up, watch(up.port) as watcher:
        query, port = f"?key={PLANTED}51&a={PLANTED}52;b={PLANTED}53&{PLANTED}54", up.port
        for path in (f"proxy/port/{port}/p;v={PLANTED}55{query}", f"proxy/enter/{port}/p{query}", f"proxy/port/{port}{query}"):
            for token in (TOKEN, None):
                await call(path, fields=[*REQUEST, "Sec-Fetch-Mode: navigate"], token=token)
                await call(path, fields=REQUEST, token=token)
            for token in ("", f", v1.token.websocket.jupyter.org.{PLANTED}44"):
                await call(path, fields=[*REQUEST[:-2], f"{REQUEST[-2]}{token}", *UPGRADE])
            await call(path, "POST", fields=REQUEST, content=f"body={PLANTED}56".encode())
        await call(f"proxy/enter?target={up.port}&next=%2Fp%3Ft%3D{PLANTED}57&nonce={PLANTED}58&ticket={PLANTED}59")
        await call(f"proxy/port/{port}/?token={PLANTED}60")
        await watcher.until(lambda found: len(found) == 23)  # all: what was not described yet is not masked
        stored = everything(extension.recorder, set())
        sent = watcher.raw
        for form in ("", "&format=har"):
            sent += (await call(f"{PATH}?target={up.port}{form}")).text
    assert '"reason": "jupyter"' in sent and '"from": "/x;s=***?code=***#***"' in sent and f"proxy/enter/{up.port}/p?" in sent
    for text, name in ((stored, "stored"), (sent, "sent")):
        assert PLANTED not in text, f"{name}: {text[text.index(PLANTED) - 300 : text.index(PLANTED) + 50]}"
        assert TOKEN not in text
    assert "Location: " in stored and "sid=***" in stored
    ours = [record.getMessage() for record in caplog.records if "recorder" in record.name or "portproxy:" in record.getMessage()]
    assert not [line for line in ours if PLANTED in line]


async def test_the_search_of_that_test_finds_what_is_kept(call, watch, extension):
    async with serve(answers(b"it")) as up, watch(up.port) as watcher:
        await call(f"proxy/port/{up.port}/visible-{PLANTED}")
        await watcher.last()
        assert PLANTED in everything(extension.recorder, set()) and PLANTED in watcher.raw
