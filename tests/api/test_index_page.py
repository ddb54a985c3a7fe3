"""The page without JupyterLab: what it lists, what its forms do, who may use them, and that no text is ever markup."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from html import escape, unescape
from urllib.parse import urlencode

import pytest
from jupyter_server.auth.authorizer import Authorizer

from jupyter_portproxy.services.templates import load

from ..conftest import TOKEN
from ..support.upstreams import answers, free_port, says, serve
from .test_handlers import FAILS, SLOW, WEB

IMG = "<img src=x onerror=alert(1)>"
FORM = {
    **WEB,
    "title": IMG,
    "arguments": [
        {"name": "folder", "label": '"><script>', "default": "a&b", "kind": "path", "must_exist": False},
        {"name": "count", "kind": "number"},
        {"name": "colour", "label": "Colour", "default": "red", "kind": "choice", "choices": ["blue", "red"]},
    ],
}
CWD = {**WEB, "cwd": "{folder}", "arguments": [{"name": "folder", "default": ""}]}
OPENS = {**WEB, "start_on_open": True}
NEEDS = {**WEB, "title": "Needs it", "requires": {"program": "no-such-program", "hint": "pip install <it>"}}
TEMPLATES = {"web": WEB, "slow": SLOW, "fails": FAILS, "form": FORM, "cwd": CWD, "opens": OPENS, "needs": NEEDS}
LISTENS = "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); time.sleep(99)"
DATABASE = [sys.executable, "-c", LISTENS, "{port}"]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'self'"
NAVIGATION = ["Accept: text/html", "Sec-Fetch-Mode: navigate"]


def configured(**more) -> dict:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}, **more},
        "IdentityProvider": {"token": TOKEN},
        "PortProxy": {"service_templates": TEMPLATES},
        "ServerProxy": {"servers": {"theirs": {"port": 15999, "launcher_entry": {"title": "Somebody's"}}}},
    }


class Viewer(Authorizer):
    """Lets every user look, and none act."""

    def is_authorized(self, handler, user, action, resource):
        return action == "read"


class Blind(Authorizer):
    """Lets no user look."""

    def is_authorized(self, handler, user, action, resource):
        return (action, resource) != ("read", "portproxy")


@pytest.fixture
def jp_server_config():
    return configured()


@pytest.fixture
def submit(call):
    """Sends a form of the page."""

    async def send(fields=(), **form):
        kind = "Content-Type: application/x-www-form-urlencoded"
        content = urlencode({key.replace("argument_", "argument."): value for key, value in form.items()}).encode()
        return await call("proxy/", "POST", fields=[kind, *fields], content=content, **({"token": None} if fields else {}))

    return send


@pytest.fixture
def until(call):
    """Reads the page until a service has a state; returns the page's text."""

    async def read(name: str, state: str) -> str:
        for _ in range(200):
            text = " ".join((await call("proxy/")).text.split())
            if re.search(rf'<p class="state {state}">{state} [^<]*</p> </div> <p class="quiet">{name}[ <]', text):
                return text
            await asyncio.sleep(0.05)
        raise AssertionError(text)

    return read


async def test_without_services_it_says_how_to_start_one(call):
    page = await call("proxy/")
    assert (page.status, page.one("Content-Type")) == (200, "text/html; charset=UTF-8")
    assert (page.one("Content-Security-Policy"), page.one("Cache-Control")) == (POLICY, "no-store")
    assert "Nothing has been started." in page.text
    assert 'http-equiv="refresh"' not in page.text and "<script" not in page.text
    assert '<html lang="en">' in page.text


async def test_a_service_is_started_listed_restarted_stopped_and_deleted(call, submit, until, jp_base_url):
    started = await submit(action="start", template="web", name="mine")
    assert (started.status, started.one("Location"), started.content) == (303, f"{jp_base_url}proxy/", b"")
    text = await until("mine", "up")
    assert f'<a class="button main" href="{jp_base_url}proxy/enter/mine/" aria-label="Open mine">Open</a>' in text
    assert f'href="{jp_base_url}proxy/service/mine/" aria-label="Path-based URL of mine"' in text
    assert f'href="{jp_base_url}proxy/api/services/mine/logs" aria-label="Log of mine"' in text
    port = re.search(r"mine &middot; port (\d+)", text)[1]
    assert text.count(f"port {port}") == 1  # it is no other port
    assert "Start mine" not in text and "Delete mine" not in text
    assert (await submit(action="restart", name="mine")).status == 303
    await until("mine", "up")
    assert (await submit(action="stop", name="mine")).status == 303
    text = await until("mine", "down")
    assert "Stop mine" not in text and 'aria-label="Start mine"' in text
    assert (await submit(action="delete", name="mine")).status == 303
    assert "Nothing has been started." in (await call("proxy/")).text


async def test_it_reloads_itself_only_while_something_starts(call, submit):
    await submit(action="start", template="slow")
    page = await call("proxy/")
    assert '<meta http-equiv="refresh" content="2">' in page.text
    refused = await submit(action="start", template="none")
    assert 'http-equiv="refresh"' not in refused.text  # its error stays to be read
    await submit(action="stop", name="slow")
    assert 'http-equiv="refresh"' not in (await call("proxy/")).text


async def test_a_failed_service_shows_why(submit, until):
    await submit(action="start", template="fails")
    text = await until("fails", "failed")
    assert re.search(r"failed \d+ s ago", text)
    assert "It ended with exit code 3 before it was ready." in text
    assert ">this is why</pre>" in text


async def test_each_kind_of_template_can_be_started(call, submit, until, jp_base_url):
    text = " ".join((await call("proxy/")).text.split())
    assert f'href="{jp_base_url}opens' not in text
    assert f'<a class="button" href="{jp_base_url}proxy/enter/opens/" aria-label="Open opens">' in text
    assert f'href="{jp_base_url}proxy/enter/theirs/" aria-label="Open theirs"' in text and 'value="theirs"' not in text
    assert "Open web" not in text
    assert "pip install &lt;it&gt;" in text and 'value="needs"' not in text
    assert re.search(r'<input name="argument.count" value="" type="number" step="any" required', text)
    assert '<option value="red" selected>red</option>' in text
    assert "Name (optional)" in text
    await submit(action="start", template="opens")
    text = await until("opens", "up")
    assert text.count("Open opens") == 1
    assert "Name (the name opens is taken)" in text


async def test_arguments_reach_the_service_and_empty_ones_have_their_defaults(call, submit):
    form = {"argument_folder": "", "argument_count": "3", "argument_colour": "blue"}
    assert (await submit(action="start", template="form", **form)).status == 303
    (service,) = json.loads((await call("proxy/api/services")).text)
    assert service["arguments"] == {"folder": "a&b", "count": "3", "colour": "blue"}


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"action": "start", "template": "none"}, 404, "There is no template named 'none'."),
        ({"action": "start", "template": "<b>"}, 404, "There is no template named '%3Cb%3E'."),
        ({"action": "start"}, 404, "There is no template named ''."),
        ({"action": "start", "template": "theirs"}, 400, "'theirs' is not started by this server."),
        ({"action": "start", "template": "web", "name": "a/b"}, 400, "Invalid service name: "),
        ({"action": "start", "template": "web", "argument_x": "1"}, 400, "The template 'web' has no argument 'x'."),
        ({"action": "start", "template": "form", "argument_count": "<i>"}, 400, "The argument 'count' is not a number: '<i>'."),
        ({"action": "stop", "name": "none"}, 404, "There is no service named 'none'."),
        ({"action": "restart"}, 404, "There is no service named ''."),
        ({"action": "delete", "name": IMG}, 404, "There is no service named '%3Cimg src=x onerror=alert(1)%3E'."),
        ({"action": "close", "name": "x"}, 400, "This page has no such action."),
        ({"action": "get", "name": "x"}, 400, "This page has no such action."),
        ({}, 400, "This page has no such action."),
    ],
)
async def test_what_cannot_be_done_is_said_on_the_page(submit, form, status, sentence):
    page = await submit(**form)
    assert page.status == status
    assert sentence in unescape(page.text) and "Services and ports</h1>" in page.text
    assert "<i>" not in page.text and "<b>" not in page.text


async def test_what_was_filled_in_stays_when_a_start_is_refused(submit):
    page = await submit(action="start", template="form", argument_count="x", argument_folder='"mine"', name="its")
    text = " ".join(page.text.split())
    assert page.status == 400
    assert text.count("<details open>") == 1
    assert 'name="argument.folder" value="&quot;mine&quot;"' in text and 'name="name" value="its"' in text


async def test_a_start_too_many_has_retry_after(submit, until):
    for _ in range(6):
        page = await submit(action="start", template="fails", name="often")
        await until("often", "failed")
    assert (page.status, page.one("Retry-After")) == (429, "60")


async def test_other_ports_and_reservations_are_listed(call, jp_base_url):
    outside = free_port(range(21000, 29000))
    sold = answers(b"<title>Sold &lt;img&gt; out</title>", b"Content-Type: text/html")
    await call("proxy/api/reservations", "POST", content=b'{"name": "script"}')
    async with serve(sold) as inside, serve(answers(), port=outside):
        text = " ".join((await call("proxy/")).text.split())
        assert "<h3>Sold &lt;img&gt; out</h3>" in text
        assert f'href="{jp_base_url}proxy/enter/{inside.port}/" aria-label="Open port {inside.port}"' in text
        assert f'href="{jp_base_url}proxy/port/{inside.port}/" aria-label="Path-based URL of port {inside.port}"' in text
        fields = ["X-Forwarded-Host: jupyter.example.org"]  # a browser elsewhere
        below = " ".join((await call("proxy/", fields=fields)).text.split())
        assert f'href="{jp_base_url}proxy/port/{inside.port}/" aria-label="Open port {inside.port}"' in below
        assert "Path-based URL" not in below and "proxy/enter/" not in below
        assert f"Port {outside} is outside allowed range (10000-20000)" in text and f"port/{outside}/" not in text
        assert "<h3>script</h3>" in text and re.search(r"waits for a program, (10|9) min left", text)


async def test_a_port_outside_is_allowed_by_a_form_and_taken_back(call, submit, jp_base_url):
    outside = free_port(range(21000, 29000))
    async with serve(answers(), port=outside):
        assert f'aria-label="Allow port {outside}"' in (await call("proxy/")).text
        done = await submit(action="allow", port=str(outside))
        assert (done.status, done.one("Location")) == (303, f"{jp_base_url}proxy/")
        text = " ".join((await call("proxy/")).text.split())
        assert f"<h3>Port {outside}</h3>" in text and "until you take it back" in text
        assert f'aria-label="Open port {outside}"' in text and f'aria-label="Allow port {outside}"' not in text
        assert (await submit(action="disallow", port=str(outside))).status == 303
        assert (await call(f"proxy/port/{outside}/")).status == 403


@pytest.mark.parametrize(
    ("port", "status", "text"),
    [
        ("22", 403, "You may not allow port 22."),
        ("", 400, "Invalid port parameter: "),
        ("x<b>", 400, "Invalid port parameter: x%3Cb%3E"),
    ],
)
async def test_a_wrong_port_in_the_form_is_one_sentence_above_the_list(submit, port, status, text):
    page = await submit(action="allow", port=port)
    assert page.status == status and f"<strong>{text}" in page.text and "<h1>Services and ports</h1>" in page.text


async def page_text(call, query="") -> str:
    return " ".join((await call(f"proxy/{query}")).text.split())


async def test_a_rule_for_a_port_is_made_changed_and_removed_by_its_form(call, submit, gateway, jp_base_url):
    rules, label = gateway.policy.port_rules, f'{IMG}"🙂'
    async with serve(answers(b"<title>theirs</title>", b"Content-Type: text/html")) as up:
        assert f'aria-label="Rule for port {up.port}"' in await page_text(call)
        rules.put({"ports": str(up.port), "on_appear": "preview", "pinned": True})
        form = {"action": "set-rule", "ports": str(up.port), "scheme": "", "keep_host": "true"}
        done = await submit(**form, label=label)
        assert (done.status, done.one("Location")) == (303, f"{jp_base_url}proxy/")
        (rule,) = rules.list()
        assert (rule.label, rule.scheme, rule.keep_host, rule.on_appear, rule.pinned) == (label, None, True, "preview", True)
        text, shown = await page_text(call), escape(label)
        assert f'<h3>{shown}</h3> <p class="quiet">port {up.port}' in text and "&middot; theirs</p>" in text
        assert f'name="label" value="{shown}"' in text and '<option value="true" selected>' in text
        assert "Rule: opens beside the current tab, keeps the browser&#x27;s Host<span" in text and "<img" not in text
        assert (await submit(action="set-rule", ports=str(up.port), keep_host="false")).status == 303
        assert (rules.list()[0].label, rules.list()[0].keep_host) == ("", False)
        assert f'value="{rule.id}"' in await page_text(call)
        assert (await submit(action="remove-rule", rule=rule.id)).status == 303
    assert rules.list() == []


async def test_what_speaks_no_http_has_the_command_that_reaches_it(call, submit, until, origin, jp_base_url, gateway):
    gateway.services.templates["db"] = load("db", {"command": DATABASE, "protocol": "tcp", "stop_timeout": 1})
    async with serve(answers()) as web, serve(says(b"SSH-2.0-x\r\n")) as ssh:
        assert f'aria-label="Open port {web.port}"' in await page_text(call)
        await submit(action="set-rule", ports=str(web.port), scheme="tcp")
        await submit(action="start", template="db")
        text = await until("db", "up")
        assert f"port {web.port}" in text and "Rule: TCP<span" in text
        for target in (str(web.port), str(ssh.port), "db"):
            assert f"<pre>jupyter portproxy forward {target} --server http://{origin}{jp_base_url}</pre>" in text
            assert f'aria-label="Open port {target}"' not in text and f'aria-label="Open {target}"' not in text
        assert 'aria-label="Stop db"' in text
        behind = (await call("proxy/", fields=["X-Forwarded-Proto: https"])).text
        assert f"forward db --server https://{origin}{jp_base_url}<" in behind


async def test_a_port_is_added_by_hand_and_listed_while_nothing_listens(call, submit, gateway):
    port, outside = free_port(), free_port(range(21000, 29000))
    for added in (port, outside):
        assert (await submit(action="add-port", ports=f" {added} ", label="by hand")).status == 303
    text = await page_text(call)
    for added in (port, outside):
        assert f'<h3>by hand</h3> <p class="quiet">port {added} &middot; No program listens</p>' in text
    assert f'aria-label="Open port {port}"' in text and f'aria-label="Allow port {outside}"' in text
    async with serve(answers(), port=port):
        await submit(action="set-rule", ports=str(port), label="still pinned")
        text = await page_text(call)
        assert text.count(f'aria-label="Open port {port}"') == 1 and "No program listens" in text
    assert [(rule.label, rule.pinned) for rule in gateway.policy.port_rules.list()] == [("still pinned", True), ("by hand", True)]


async def test_a_rule_says_what_happens_when_a_port_appears(call, submit, gateway):
    rules = gateway.policy.port_rules
    async with serve(answers()) as up:
        form = {"action": "set-rule", "ports": str(up.port)}
        assert (await submit(**form, on_appear="ignore", label="mine")).status == 303
        assert f'aria-label="Open port {up.port}"' not in await page_text(call)
        assert '<option value="ignore" selected>' in await page_text(call, "?ignored=1")
        assert (await submit(**form, on_appear="", label="mine")).status == 303
        assert f'aria-label="Open port {up.port}"' in await page_text(call)
        assert [(rule.on_appear, rule.label) for rule in rules.list()] == [(None, "mine")]


async def test_a_rule_for_a_range_or_for_programs_is_added(call, submit, gateway):
    for match in ({"ports": "8000-8999", "process": ""}, {"ports": "", "process": "stream.*"}):
        assert (await submit(action="set-rule", **match, on_appear="silent", label="")).status == 303
    made = [(rule.ports, rule.process, rule.on_appear) for rule in gateway.policy.port_rules.list()]
    assert made == [("8000-8999", None, "silent"), (None, "stream.*", "silent")]
    assert "<p>stream.* <span" in await page_text(call)


async def test_a_port_that_is_added_keeps_what_its_rule_says_of_fields_that_are_left_empty(submit, gateway):
    gateway.policy.port_rules.put({"ports": "8501", "label": "before", "scheme": "https", "keep_host": False})
    assert (await submit(action="add-port", ports="8501", label="", scheme="http")).status == 303
    (rule,) = gateway.policy.port_rules.list()
    assert (rule.label, rule.scheme, rule.keep_host, rule.pinned) == ("before", "http", False, True)


async def test_ignored_ports_are_counted_and_shown_on_request(call, submit, gateway, jp_base_url):
    ignored = [gateway.policy.port_rules.put({"ports": "10000-20000", "on_appear": "ignore"})]
    async with serve(answers()) as one, serve(answers()) as two:
        gateway.policy.port_rules.put({"ports": str(two.port), "on_appear": "notify"})
        text = await page_text(call)
        assert f"port {one.port}" not in text and f'aria-label="Open port {two.port}"' in text
        assert re.search(rf'[0-9]+ ports? (is|are) ignored\. <a class="button" href="{jp_base_url}proxy/\?ignored=1"', text)
        assert "10000-20000 <span" in text and "is ignored</span>" in text  # among the other rules
        text = await page_text(call, "?ignored=1")
        assert (
            f'aria-label="Open port {one.port}"' in text and f'href="{jp_base_url}proxy/" aria-label="Hide ignored ports"' in text
        )
        back = await submit(action="set-rule", ports=str(one.port), label="seen", next=f"{jp_base_url}proxy/?ignored=1")
        assert back.one("Location") == f"{jp_base_url}proxy/?ignored=1"
        assert (await submit(action="remove-rule", rule=ignored[0].id)).status == 303
        text = await page_text(call)
        assert "<h3>seen</h3>" in text and "ignored" not in text


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"action": "add-port", "ports": "0"}, 400, "Invalid ports: &#x27;0&#x27;."),
        ({"action": "add-port", "ports": "70000"}, 400, "Invalid ports: &#x27;70000&#x27;."),
        ({"action": "add-port", "ports": "9000-8000"}, 400, "Invalid ports: &#x27;9000-8000&#x27;."),
        ({"action": "add-port", "ports": "8000-9000"}, 400, "Only a single port can be added (&#x27;pinned&#x27;)."),
        ({"action": "add-port", "ports": IMG}, 400, f"Invalid ports: {escape(repr(IMG))}."),
        ({"action": "add-port"}, 400, "Invalid ports: &#x27;&#x27;."),
        ({"action": "add-port", "ports": "8501", "label": "<b>🙂</b>x" * 30}, 400, "The label has 270 characters."),
        ({"action": "set-rule", "ports": "8501", "scheme": "ftp"}, 400, "Invalid scheme: &#x27;ftp&#x27;."),
        ({"action": "set-rule", "ports": "8501", "keep_host": "perhaps"}, 400, "Invalid keep_host: &#x27;perhaps&#x27;."),
        ({"action": "set-rule", "ports": "8501", "on_appear": "x"}, 400, "Invalid on_appear: &#x27;x&#x27;."),
        (
            {"action": "set-rule", "ports": "8501", "process": "a"},
            400,
            "A rule has either &#x27;ports&#x27; or &#x27;process&#x27;.",
        ),
        (
            {"action": "set-rule", "process": "(a"},
            400,
            "The pattern &#x27;(a&#x27; is not a regular expression: missing ), unterminated subpattern at position 0.",
        ),
        ({"action": "remove-rule", "rule": "none"}, 404, "There is no port rule named &#x27;none&#x27;."),
        ({"action": "remove-rule"}, 404, "There is no port rule named &#x27;&#x27;."),
    ],
)
async def test_a_wrong_rule_is_one_sentence_above_the_list(submit, gateway, form, status, sentence):
    page = await submit(**form)
    assert page.status == status and f"<strong>{sentence}</strong>" in page.text and "<h1>Services and ports</h1>" in page.text
    assert gateway.policy.port_rules.list() == [] and "<img" not in page.text
    if form["action"] == "add-port":  # what was filled in stays
        assert f'<input name="ports" value="{escape(form.get("ports", ""))}"' in page.text
        assert f'<input name="label" value="{escape(form.get("label", ""))}"' in page.text


async def test_without_rules_the_page_has_no_forms_for_them(call, submit, gateway, monkeypatch):
    policy = gateway.policy
    monkeypatch.setattr(policy, "_port_rules", None)
    async with serve(answers()) as up:
        text = await page_text(call)
        assert f'aria-label="Open port {up.port}"' in text and "Rule" not in text and "Add a port" not in text
    page = await submit(action="add-port", ports="8501")
    assert page.status == 403 and "<strong>This server keeps no rules for ports" in page.text


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Viewer)])
async def test_a_viewer_sees_labels_and_may_not_change_rules(call, submit, gateway, jp_server_config):
    gateway.policy.port_rules.put({"ports": "10000-20000", "label": "a label"})
    async with serve(answers()):
        text = await page_text(call)
        assert "<h3>a label</h3>" in text and "Rule" not in text and "Add a port" not in text
    assert (await submit(action="set-rule", ports="8501")).status == 403


@pytest.mark.parametrize(
    ("next_uri", "leads_to"),
    [
        ("proxy/port/21000/x?a=%20b", "proxy/port/21000/x?a=%20b"),
        ("lab", "proxy/"), ("../evil", "proxy/"), ("proxy/\r\nX: y", "proxy/"), ("proxy/ä", "proxy/"),
    ],
)  # fmt: skip
async def test_the_form_leads_back_to_the_gateways_own_urls_alone(submit, jp_base_url, next_uri, leads_to):
    done = await submit(action="allow", port="21000", next=f"{jp_base_url}{next_uri}")
    assert (done.status, done.one("Location")) == (303, f"{jp_base_url}{leads_to}")


async def test_the_form_leads_to_an_isolated_origin_without_a_redirect(submit, jp_base_url):
    """Which the page's `form-action` would stop."""
    done = await submit(action="allow", port="21000", next=f"{jp_base_url}proxy/enter/21000/")
    assert (done.status, done.all("Location")) == (200, [])
    assert done.one("Refresh") == f"0; url={jp_base_url}proxy/enter/21000/"


ELSEWHERE = ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "BASEproxy/..//evil.example"]


@pytest.mark.parametrize("next_uri", [*ELSEWHERE, "BASEproxy/port/21000/%2e%2e/../../lab", "BASEproxyx"])
async def test_the_form_leads_to_no_other_site(submit, jp_base_url, next_uri):
    done = await submit(action="allow", port="21000", next=next_uri.replace("BASE", jp_base_url))
    assert done.one("Location") == f"{jp_base_url}proxy/"


PAGE = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Sec-Fetch-Site: none"]


async def test_the_error_page_of_a_port_allows_it_with_one_click(call, jp_base_url):
    """The form has the XSRF token of the cookie that comes with the page, and leads back to the URL that was refused."""
    outside = free_port(range(21000, 29000))
    async with serve(answers(), port=outside):
        page = await call(f"proxy/port/{outside}/deep?q=1&token={TOKEN}", fields=PAGE, token=None)
        assert page.status == 403 and f"Port {outside} is outside allowed range (10000-20000)" in page.text
        names = dict(re.findall(r'<input type="hidden" name="([a-z_]+)" value="([^"]*)"', page.text))
        assert names == {"_xsrf": names["_xsrf"], "port": str(outside), "next": f"{jp_base_url}proxy/port/{outside}/deep?q=1"}
        assert f'action="{jp_base_url}proxy/"' in page.text and 'name="action" value="allow"' in page.text
        cookies = [value.partition(";")[0] for value in page.all("Set-Cookie")]
        content = urlencode({**names, "action": "allow"}).encode()
        fields = ["Content-Type: application/x-www-form-urlencoded", f"Cookie: {'; '.join(cookies)}"]
        sites = [["Origin: null", f"Sec-Fetch-Site: {site}"] for site in ("cross-site", "same-site")]
        for more in (["Origin: http://evil.example"], *sites):
            refused = await call("proxy/", "POST", fields=[*fields, *more], content=content, token=None)
            assert refused.status in (403, 404), more
        fields += ["Origin: null", "Sec-Fetch-Site: same-origin"]  # as browsers send it from a page without a referrer
        refused = await call("proxy/", "POST", fields=fields, content=content.replace(b"_xsrf=", b"_xsrf=0"), token=None)
        assert refused.status == 403 and (await call(f"proxy/port/{outside}/")).status == 403
        done = await call("proxy/", "POST", fields=fields, content=content, token=None)
        assert (done.status, done.one("Location")) == (303, names["next"])
        assert (await call(f"proxy/port/{outside}/deep?q=1", fields=PAGE)).status == 200


async def test_programs_and_isolated_origins_get_the_error_without_a_form(call):
    for fields in (["Accept: text/html", "Sec-Fetch-Mode: cors"], ["Accept: application/json"], []):
        page = await call("proxy/port/21000/", fields=fields)
        assert page.status == 403 and "<form" not in page.text
    assert "<form" not in (await call("proxy/port/22/", fields=PAGE)).text


async def test_markup_in_a_template_is_text(call, submit):
    for page in (await call("proxy/"), await submit(action="start", template="form", argument_count="x")):
        assert "<img" not in page.text and "<script" not in page.text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
        assert "&quot;&gt;&lt;script&gt;" in page.text
        assert 'name="argument.folder" value="a&amp;b"' in page.text


async def test_text_that_is_no_unicode_does_not_break_the_page(call, until):
    await call("proxy/api/services", "POST", content=b'{"template": "cwd", "arguments": {"folder": "/\\udcff"}}')
    assert "The folder &#x27;/?&#x27; does not exist." in (await until("cwd", "failed")).replace("&#39;", "&#x27;")


# ---- who may ----


async def test_it_needs_a_login(call, submit, jp_base_url):
    page = await call("proxy/", token=None, fields=NAVIGATION)
    assert (page.status, page.one("Location")) == (302, f"{jp_base_url}login?next=%2Fa%2540b%2Fproxy%2F")
    assert (await submit(["Accept: text/html"], action="start", template="web")).status == 403


async def test_a_browser_needs_the_token_of_the_form(call, submit, origin):
    first = await call(f"proxy/?token={TOKEN}", token=None)
    cookies = "; ".join(value.split(";")[0] for value in first.all("Set-Cookie"))
    fields = [f"Cookie: {cookies}", f"Origin: http://{origin}"]
    refused = await submit(fields, action="start", template="web")
    assert (refused.status, refused.one("Content-Security-Policy")) == (403, POLICY)
    assert "Reload /a%40b/proxy/ and try again." in refused.text
    assert "Nothing has been started." in (await call("proxy/")).text
    secret = re.search(r'name="_xsrf" value="([^"]+)"', first.text)[1]
    foreign = [fields[0], "Origin: http://evil.example"]
    assert (await submit(foreign, action="start", template="web", _xsrf=secret)).status == 404
    assert (await submit(fields, action="start", template="web", _xsrf=secret)).status == 303


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Viewer)])
async def test_a_viewer_sees_the_list_and_may_not_act(call, submit, jp_server_config):
    page = await call("proxy/")
    assert (page.status, "<form" in page.text, "Start a service" in page.text) == (200, False, False)
    refused = await submit(action="start", template="web")
    assert (refused.status, "portproxy:execute" in refused.text) == (403, True)
    assert "Nothing has been started." in (await call("proxy/")).text


@pytest.mark.parametrize("jp_server_config", [configured(authorizer_class=Blind)])
async def test_who_may_not_look_sees_nothing(call, submit, jp_server_config):
    for page in (await call("proxy/"), await submit(action="none")):
        assert (page.status, "Start a service" in page.text) == (403, False)


async def test_other_methods_and_faults_say_nothing_of_the_inside(call, jp_serverapp, gateway):
    assert (await call("proxy/", "PUT", content=b"")).status == 405
    gateway.services.templates["web"] = None
    page = await call("proxy/")
    assert (page.status, "Something went wrong inside the gateway." in page.text) == (500, True)
    assert "NoneType" not in page.text and "Traceback" not in page.text


# ---- its URL ----


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("proxy", 308, "proxy/"),
        ("proxy?a=%2F", 308, "proxy/?a=%2F"),
        ("proxy?port=15000", 308, "proxy/?port=15000"),
        ("proxy/?port=15000", 307, "proxy/port/15000/"),
    ],
)
async def test_redirects(call, jp_base_url, path, status, location):
    answer = await call(path)
    assert (answer.status, answer.one("Location")) == (status, f"{jp_base_url}{location}")


async def test_a_query_that_names_no_port_is_the_page(call):
    assert "Services and ports</h1>" in (await call("proxy/?a=1")).text
