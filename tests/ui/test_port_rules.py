"""Rules for ports in JupyterLab: the form of a row, added ports, and the notice of a new port, in a real Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from ..support.jupyter_processes import TOKEN, Server, jupyter_server
from ..support.upstreams import free_port
from .apps import HTML, running
from .conftest import watch_errors, without_news
from .test_lab import AXE, listener, open_lab, open_port, picture

NAME = "Übung 😀 <b onclick=alert(1)>"


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("rules")
    without_news(home)
    with jupyter_server(home) as running_server:
        yield running_server
        assert "Traceback" not in running_server.log, running_server.log


@contextlib.contextmanager
def jupyterlab(context: BrowserContext, server: Server):
    """JupyterLab, with the Ports panel open. What the page throws fails the test."""
    page = context.new_page()
    page.set_default_timeout(8000)
    errors = watch_errors(page)
    open_lab(page, f"{server.url}lab?token={TOKEN}&reset")
    page.wait_for_selector(".jp-LauncherCard", timeout=30_000)
    page.click('[data-id="jp-portproxy-panel"]')
    yield page
    picture(page, "last-rules")
    page.close()
    assert errors == []


@pytest.fixture
def lab(context, lab_server):
    with jupyterlab(context, lab_server) as page:
        yield page
    for rule in rules(lab_server):
        lab_server.call("DELETE", f"proxy/api/port-rules/{rule['id']}")


def rules(server: Server) -> list[dict]:
    return json.loads(server.get("proxy/api/port-rules")[1])


def row(page: Page, port: int):
    return page.locator(f'.jp-PortProxy-row[data-port="{port}"]')


def act(page: Page, port: int, action: str) -> None:
    row(page, port).hover()
    row(page, port).locator(f'button[title="{action}"]').click()


def field(page: Page, label: str):
    return page.get_by_role("combobox", name=label, exact=True).or_(page.get_by_role("textbox", name=label, exact=True))


def press(page: Page, button: str) -> None:
    page.click(f'.jp-Dialog-button:has-text("{button}")')


def save(page: Page) -> None:
    press(page, "Save")
    expect(page.locator(".jp-Dialog")).to_have_count(0)


def set_rule(server: Server, **rule: object) -> None:
    assert server.call("PUT", "proxy/api/port-rules", rule)[0] == 200


def test_another_browser_shows_what_one_has_set(lab, lab_server, chromium):
    another = contextlib.closing(chromium.new_context(viewport={"width": 1280, "height": 800}))
    with another as context, jupyterlab(context, lab_server) as other, listener() as port:
        expect(row(lab, port)).to_be_visible(timeout=5000)
        act(lab, port, "Edit…")
        expect(field(lab, "Label")).to_be_focused()
        field(lab, "Label").fill("x" * 300)
        field(lab, "When it appears").select_option("silent")
        press(lab, "Save")
        expect(lab.locator(".jp-Dialog [role=alert]")).to_have_text("The label has 300 characters. Use at most 100.")
        expect(field(lab, "When it appears")).to_have_value("silent")
        expect(field(lab, "Label")).to_have_value("x" * 300)
        field(lab, "Label").fill(NAME)
        save(lab)
        expect(row(other, port).locator(".jp-PortProxy-label")).to_have_text(NAME, timeout=5000)
        row(other, port).click(button="right")
        other.click('.lm-Menu-itemLabel:text-is("Edit Port…")')
        expect(field(other, "When it appears")).to_have_value("silent")
        press(other, "Remove rule")
        expect(row(lab, port).locator(".jp-PortProxy-label")).to_have_text("A stranger", timeout=5000)
    assert rules(lab_server) == []


def test_a_rule_is_for_a_range_or_for_programs(lab, lab_server):
    with listener() as port:
        expect(row(lab, port)).to_be_visible(timeout=5000)
        act(lab, port, "Edit…")
        field(lab, "For").select_option("range")
        field(lab, "Ports").fill("9-1")
        field(lab, "Label").fill("Mine")
        press(lab, "Save")
        expect(lab.locator(".jp-Dialog [role=alert]")).to_contain_text("Write a port or a range")
        field(lab, "Ports").fill(f"{port}-{port + 1}")
        save(lab)
        expect(row(lab, port).locator(".jp-PortProxy-label")).to_have_text("Mine")
        act(lab, port, "Edit…")
        field(lab, "Ports").fill(f"{port}-{port + 2}")
        save(lab)
        assert [rule["ports"] for rule in rules(lab_server)] == [f"{port}-{port + 2}"]
        act(lab, port, "Edit…")
        field(lab, "For").select_option("process")
        field(lab, "Pattern (regular expression)").fill("(python")
        expect(lab.locator(".jp-Dialog [role=alert]")).to_have_text("“(python” is not a regular expression.")
        expect(lab.locator('.jp-Dialog-button:has-text("Save")')).to_be_disabled()
        field(lab, "Pattern (regular expression)").fill("python")
        field(lab, "When it appears").select_option("ignore")
        save(lab)
        expect(row(lab, port)).to_have_count(0)
        lab.click('.jp-PortProxy-ignored button:text-is("Show")')
        expect(row(lab, port).locator(".jp-PortProxy-label")).to_have_text("Mine")


@contextlib.contextmanager
def program(*arguments: str):
    """A web server of its own process; its port."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port), *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def test_no_pattern_stops_the_page(lab, lab_server):
    set_rule(lab_server, process="(a+)+$", label="Not matched")
    set_rule(lab_server, process="(a|aa)+!$", label="Matched")
    with program("--directory", "a" * 60 + "!") as port:
        expect(row(lab, port).locator(".jp-PortProxy-label")).to_have_text("Matched", timeout=10_000)
        act(lab, port, "Edit…")
        field(lab, "Pattern (regular expression)").fill("(.*a){20}b")
        expect(lab.locator(".jp-Dialog [role=status]")).to_contain_text("It does not match")
        field(lab, "Pattern (regular expression)").fill("(?=a)")
        expect(lab.locator(".jp-Dialog [role=alert]")).to_contain_text("“(?=a)” has “(?=”.")
        field(lab, "Pattern (regular expression)").fill("(a{99}){99}")
        expect(lab.locator(".jp-Dialog [role=alert]")).to_contain_text("“(a{99}){99}” is too large")
        expect(lab.locator('.jp-Dialog-button:has-text("Save")')).to_be_disabled()
        lab.keyboard.press("Escape")


def test_never_for_this_process(lab, lab_server):
    def announced(port: int):
        return lab.locator(".jp-toast-message, .Toastify__toast", has_text=f"A service is running on port {port}")

    with program() as port:
        expect(announced(port).first).to_be_visible(timeout=10_000)
        picture(lab, "notice-never")
        lab.click('.jp-toast-button:text-is("Never for this process")')
        message = lab.get_by_text("New ports of http.server are no longer announced.")
        expect(message.first).to_be_visible()
    expect(row(lab, port)).to_have_count(0, timeout=5000)
    with program() as port, listener() as other:  # one notice for both, unless the first one is silent
        expect(row(lab, port)).to_be_visible(timeout=5000)
        expect(announced(other).first).to_be_visible(timeout=10_000)
        lab.click('.jp-toast-button:text-is("Undo")')
    assert rules(lab_server) == []
    with program() as port:
        expect(announced(port).first).to_be_visible(timeout=10_000)


def test_a_port_is_added_before_its_program_starts(lab, lab_server):
    port = free_port()
    set_rule(lab_server, ports=str(port), on_appear="silent")
    expect(lab.get_by_text("1 rule", exact=True)).to_be_visible(timeout=5000)
    lab.click('.jp-PortProxy-panel [title="Add a port…"] >> visible=true')
    field(lab, "Port").fill("70000")
    field(lab, "Label (optional)").fill("Mine")
    lab.keyboard.press("Enter")
    expect(lab.locator(".jp-Dialog [role=alert]")).to_contain_text("70000")
    field(lab, "Port").fill(str(port))
    lab.keyboard.press("Enter")
    expect(row(lab, port)).to_contain_text("Waiting for its program")
    picture(lab, "panel-waiting")
    expect(row(lab, port).locator(".jp-PortProxy-label")).to_have_text("Mine")
    assert [(rule["on_appear"], rule["pinned"]) for rule in rules(lab_server)] == [("silent", True)]
    with listener(port=port):
        expect(row(lab, port).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Answers HTTP", timeout=5000)
        expect(open_port(lab, port).content_frame.locator("body")).to_be_visible(timeout=10_000)
    expect(row(lab, port)).to_contain_text("Waiting for its program", timeout=5000)
    act(lab, port, "Remove")
    expect(row(lab, port)).to_have_count(0)
    assert rules(lab_server) == []


def test_a_service_gets_the_browsers_host_by_its_rule(lab):
    def shows_host(method, path, content, fields):
        return 200, HTML, f"<h1>{fields['host']}</h1>".encode()

    with running(shows_host) as port:
        heading = open_port(lab, port).content_frame.locator("h1")
        expect(heading).to_have_text(f"localhost:{port}", timeout=10_000)
        act(lab, port, "Edit…")
        field(lab, "Keep the browser's Host").select_option("yes")
        save(lab)
        lab.click('.jp-MainAreaWidget:visible [title="Reload"]')
        expect(heading).to_have_text(re.compile(rf"^p{port}\.localhost:\d+$"), timeout=5000)


def test_a_port_that_speaks_no_http_has_no_page(lab):
    with listener() as port:
        expect(row(lab, port).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Answers HTTP", timeout=5000)
        act(lab, port, "Edit…")
        field(lab, "Protocol").select_option("tcp")
        save(lab)
        expect(row(lab, port).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Listens", timeout=5000)
        row(lab, port).hover()
        titles = [button.get_attribute("title") for button in row(lab, port).locator(".jp-PortProxy-action").all()]
        assert titles == ["Copy forward command", "Edit…"]


def test_a_preview_does_not_take_the_focus(lab, lab_server):
    port = free_port()
    set_rule(lab_server, ports=str(port), on_appear="preview")
    lab.focus(".jp-PortProxy-filter")
    with listener("Beside", port):
        expect(lab.locator(".jp-PortProxy-frame iframe").content_frame.locator("body")).to_be_visible(timeout=10_000)
        expect(lab.locator(".jp-LauncherCard").first).to_be_visible()
        expect(lab.locator(".jp-PortProxy-filter")).to_be_focused()
        expect(lab.locator(".jp-toast-message", has_text=str(port))).to_have_count(0)
        picture(lab, "preview")


def test_once_is_once_in_a_session_of_the_browser(lab, lab_server):
    port = free_port()
    set_rule(lab_server, ports=str(port), on_appear="open_once")
    tab = lab.locator(".jp-PortProxy-frame")
    with listener(port=port):
        expect(tab).to_have_count(1, timeout=10_000)
    expect(row(lab, port)).to_have_count(0, timeout=5000)
    lab.click(".lm-TabBar-tab.jp-mod-current .lm-TabBar-tabCloseIcon >> visible=true")
    expect(tab).to_have_count(0)
    with listener(port=port):
        expect(row(lab, port).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Answers HTTP", timeout=5000)
        lab.wait_for_timeout(1000)
        expect(tab).to_have_count(0)


SEVERAL = """from jupyter_server.auth.identity import IdentityProvider
class Accounts(IdentityProvider):
    pass
c.ServerApp.identity_provider_class = Accounts"""


def test_a_server_of_several_people_keeps_no_rules_and_the_settings_apply(context, tmp_path):
    port = free_port()
    settings = tmp_path / ".jupyter" / "lab" / "user-settings" / "jupyter-portproxy"
    settings.mkdir(parents=True)
    ports = [{"process": "(?=python)", "label": "Not used"}, {"port": port, "label": "Mine", "action": "preview"}]
    (settings / "plugin.jupyterlab-settings").write_text(json.dumps({"ports": ports}))
    (tmp_path / ".jupyter" / "jupyter_server_config.py").write_text(SEVERAL)
    with jupyter_server(tmp_path) as server, jupyterlab(context, server) as page, listener(port=port):
        expect(row(page, port).locator(".jp-PortProxy-label")).to_have_text("Mine", timeout=5000)
        expect(page.locator(".jp-PortProxy-frame iframe").content_frame.locator("body")).to_be_visible(timeout=10_000)
        expect(page.locator(".jp-PortProxy-panel [role=alert]")).to_contain_text("A rule is not used: “(?=python)” has “(?=”.")
        act(page, port, "Edit…")
        expect(page.locator(".jp-Dialog")).to_contain_text("This server keeps no rules for ports, as several people may use it")
        picture(page, "no-rules")
        press(page, "Ok")
        expect(page.locator(".jp-Dialog")).to_have_count(0)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_forms(lab, lab_server, theme):
    if theme == "dark":
        lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
        lab.click('.lm-Menu-itemLabel:text-is("JupyterLab Dark")')
        expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", "false", timeout=10_000)
    lab.add_script_tag(path=AXE)

    def check(name: str) -> None:
        lab.wait_for_timeout(300)  # JupyterLab's dialogs fade in
        picture(lab, f"{name}-{theme}")
        found = lab.evaluate(
            """async () => (await axe.run({include: [['.jp-PortProxy-panel'], ['.jp-Dialog-content']].filter(([s]) =>
                 document.querySelector(s))}, {iframes: false})).violations
                 .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])"""
        )
        assert found == [], name

    set_rule(lab_server, ports="9999", pinned=True, label="Not yet")
    set_rule(lab_server, ports="8000-8999", on_appear="ignore", keep_host=True)
    with program() as port:
        expect(row(lab, port).locator(".jp-PortProxy-dot")).to_have_attribute("aria-label", "Answers HTTP", timeout=5000)
        act(lab, port, "Edit…")
        field(lab, "Label").fill("Mine")
        check("rule-form")
        field(lab, "For").select_option("process")
        check("rule-form-process")
        field(lab, "Pattern (regular expression)").fill("(")
        check("rule-form-problem")
        lab.keyboard.press("Escape")
        set_rule(lab_server, ports=str(port), on_appear="ignore")
        lab.click('.jp-PortProxy-ignored button:text-is("Show")')
        lab.click(".jp-PortProxy-rules summary")
        row(lab, port).hover()
        check("panel-rules")
        lab.click('.jp-PortProxy-panel [title="Add a port…"] >> visible=true')
        check("add-form")
        lab.keyboard.press("Escape")
    if theme == "dark":
        lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
        lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
        lab.click('.lm-Menu-itemLabel:text-is("JupyterLab Light")')
        expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", "true", timeout=10_000)
