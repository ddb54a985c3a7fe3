"""Projects of one machine as people meet them: the program of `make run-projects`, the page at `proxy/`, and the panel."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

from jupyter_portproxy.auth.user_passwords import UserFile
from jupyter_portproxy.projects.placement.admin import PlacementAdmin

from ..support.jupyter_processes import environment, jupyter_server
from ..support.upstreams import free_port
from .conftest import watch_errors
from .test_lab import AXE, open_lab, picture
from .test_pages import DEMO

ROOT = Path(__file__).parents[2]
LOGIN = re.compile(r"(\w+), password (\S+):  (\S+)")
SERIOUS = """async () => (await axe.run(SCOPE, {iframes: false})).violations
    .map(v => [v.id, v.nodes.map(n => n.html.slice(0, 120))])"""


class Demo:
    """The running program. `logins`: user -> password and the URL of the user's service."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self.process, self.folder = process, folder
        self.logins: dict[str, tuple[str, str]] = {}
        assert process.stdout is not None
        for line in process.stdout:
            if match := LOGIN.search(line):
                self.logins[match[1]] = match[2], match[3]
            if "Ctrl-C" in line:
                break
        self.base = self.logins["ann"][1].partition("ann/")[0]

    def stop(self) -> int:
        """What Ctrl-C does; the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.process.returncode

    def own_processes(self) -> list[list[str]]:
        return [
            p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(self.folder) in " ".join(p.info["cmdline"] or [])
        ]


def start(folder: Path) -> Demo:
    home = folder / "home"
    home.mkdir()
    (folder / "tmp").mkdir()
    variables = environment(home, {"TMPDIR": str(folder / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"})
    with (folder / "log").open("w") as log:
        command = [sys.executable, str(ROOT / "docs" / "demo_projects.py")]
        return Demo(subprocess.Popen(command, env=variables, cwd=home, stdout=subprocess.PIPE, stderr=log, text=True), folder)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    running = start(tmp_path_factory.mktemp("demo"))
    yield running
    assert running.stop() == 0


@pytest.fixture
def user(chromium, demo):
    """Logs a user in by the form, in a browser of their own, at the address of their service; the page."""
    contexts = []

    def log_in(name: str, **options) -> Page:
        password, url = demo.logins[name]
        context = chromium.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.goto(url)
        page.fill('input[name="username"]', name)
        page.fill('input[name="password"]', password)
        page.click("button")
        expect(page.locator("h1")).to_have_text("It works")
        assert page.url == url
        return page

    yield log_in
    for context in contexts:
        context.close()


def axe(page: Page, scope: str = "document") -> list:
    """What axe finds, of any impact."""
    page.evaluate(AXE.read_text())
    return page.evaluate(SERIOUS.replace("SCOPE", scope))


@pytest.mark.parametrize("name", ["ann", "bob"])
def test_a_user_opens_the_own_service_over_http_and_its_websocket(user, name):
    page = user(name)
    expect(page.locator("#socket")).to_have_text("the service echoed: hello")
    expect(page.locator("#events")).to_contain_text("it is")
    picture(page, f"projects-service-{name}")


@pytest.mark.parametrize(("name", "other"), [("ann", "bob"), ("bob", "ann")])
def test_the_project_of_the_other_is_like_one_that_does_not_exist(user, demo, name, other):
    page = user(name)
    port = demo.logins[other][1].rpartition("=")[2]
    answers = []
    for owner in (other, "xyz"):
        for path in (f"{owner}/demo/?port={port}", f"demo-{owner}/server/{port}/", f"demo-{owner}/port/{port}/socket"):
            answer = page.context.request.get(demo.base + path)
            answers.append((answer.status, answer.text().replace(owner, "OWNER")))
    assert answers[:3] == answers[3:] and {status for status, _ in answers} == {404}
    assert page.goto(f"{demo.base}proxy/port/{port}/").status == 403  # only projects lead to ports
    page.goto(f"{demo.base}proxy/")
    assert f"{other}/demo" not in page.content()


def test_the_page_lists_the_project_and_an_owner_lets_another_user_in_and_out(user, demo):
    ann, bob = user("ann"), user("bob")
    ann.goto(f"{demo.base}proxy/")
    expect(ann.locator("h1")).to_have_text("Projects")
    expect(ann.locator("h3")).to_have_text("ann/demo")
    for link in ("Open port", "Port"):
        with ann.expect_navigation():
            ann.locator(f'a[aria-label^="{link} "]').click()
        expect(ann.locator("#socket")).to_have_text("the service echoed: hello")
        ann.go_back()
    ann.click("summary")
    ann.fill('form[aria-label="Add a member of ann/demo"] input[name="name"]', "bob")
    ann.click('form[aria-label="Add a member of ann/demo"] button')
    bob.goto(f"{demo.base}proxy/")
    expect(bob.locator("h3")).to_have_text(["bob/demo", "ann/demo"])
    assert bob.locator("summary").count() == 1  # a viewer changes nothing
    bob.goto(demo.logins["ann"][1])
    expect(bob.locator("#socket")).to_have_text("the service echoed: hello")
    ann.click('button[aria-label="Remove bob from ann/demo"]')
    expect(bob.locator("#socket")).to_have_text("closed (1008)", timeout=2500)
    assert bob.reload().status == 404


def test_a_refused_form_keeps_its_text_beside_the_sentence(user, demo):
    page = user("ann")
    page.goto(f"{demo.base}proxy/")
    for ports, sentence in (
        ("22", "Port 22 is outside allowed range (10000-20000)"),
        ("15100", "Another project claims the ports 15100."),
    ):
        if not page.locator("details[open]").count():
            page.click("summary")
        page.fill('input[name="ports"]', ports)
        page.click('form[aria-label="Ports of ann/demo"] button')
        expect(page.locator('form[aria-label="Ports of ann/demo"] [role="alert"]')).to_contain_text(sentence)
        assert page.input_value('input[name="ports"]') == ports
    picture(page, "projects-page-refused")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_pages(user, demo, theme):
    page = user("ann", color_scheme=theme, bypass_csp=True)
    page.goto(f"{demo.base}proxy/")
    page.click("summary")
    picture(page, f"projects-page-{theme}")
    assert axe(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture(page, f"projects-page-phone-{theme}")
    page.context.clear_cookies()
    page.goto(f"{demo.base}login")
    picture(page, f"projects-login-{theme}")
    assert axe(page) == []


def test_ctrl_c_leaves_no_process_and_no_file(tmp_path):
    running = start(tmp_path)
    assert running.own_processes() and list((tmp_path / "tmp").iterdir())
    assert running.stop() == 0
    assert running.own_processes() == []
    for folder in (tmp_path / "tmp", tmp_path / "home"):
        assert list(folder.iterdir()) == []


# ---- the panel ----


@pytest.fixture(scope="module")
def lab_site(tmp_path_factory):
    """JupyterLab for a user ann who owns a project with a running service; its port."""
    home = tmp_path_factory.mktemp("lab")
    UserFile(str(home / "users")).set("ann", "secret")
    port = free_port(range(15300, 15400))
    with ThreadPoolExecutor() as threads:  # Playwright's loop runs in this one
        threads.submit(lambda: asyncio.run(_place(f"sqlite:///{home / 'projects.sqlite'}"))).result()
    arguments = [
        "--ServerApp.identity_provider_class=jupyter_portproxy.auth.UserPasswords",
        f"--UserPasswords.users_file={home / 'users'}",
        "--PortProxy.project_resolver=local",
        f"--PortProxy.projects_path={home / 'projects.sqlite'}",
        f"--ServerApp.root_dir={home}",
    ]
    with jupyter_server(home, *arguments) as server:
        service = subprocess.Popen([sys.executable, str(DEMO), str(port)], stderr=subprocess.DEVNULL)
        yield server, port
        service.kill()
        service.wait()
        assert "Traceback" not in server.log, server.log


async def _place(dsn: str) -> None:
    admin = PlacementAdmin(dsn)
    await admin.init()
    await admin.place("demo-ann", "local", owner="ann", name="demo", allowed_ports=["15300-15399"])
    await admin.add_member("demo-ann", "eve", "viewer")
    await admin.place("demo-bob", "local", owner="bob", name="demo", allowed_ports=["15400-15499"])
    await admin.close()


@pytest.fixture
def lab(context, lab_site):
    """The section of projects in JupyterLab's panel. What the page throws fails the test."""
    server, _ = lab_site
    page = context.new_page()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.set_default_timeout(10_000)
    errors = watch_errors(page)
    page.goto(f"{server.url}login?next=/lab%3Freset")
    page.fill('input[name="username"]', "ann")
    page.fill('input[name="password"]', "secret")
    page.click("button")
    open_lab(page, f"{server.url}lab?reset")
    page.click('[data-id="jp-portproxy-panel"]')
    expect(page.locator('[data-project="demo-ann"]')).to_be_visible(timeout=20_000)
    yield page
    page.close()
    assert errors == []


def test_the_panel_shows_and_changes_the_project(lab, lab_site):
    server, port = lab_site
    project = lab.locator('[data-project="demo-ann"]')
    link = project.get_by_role("link", name=f"Open Demonstration service of ann/demo, port {port}")
    expect(link).to_have_attribute("href", f"{server.url}ann/demo/?port={port}", timeout=10_000)
    assert lab.locator('[data-project="demo-bob"]').count() == 0
    with lab.context.expect_page() as opened:
        project.get_by_role("link", name=f"Open port {port} of ann/demo by key").click()
    expect(opened.value.locator("#socket")).to_have_text("the service echoed: hello")
    opened.value.close()

    project.locator("summary").focus()
    lab.keyboard.press("Enter")
    lab.keyboard.press("Tab")  # the button that removes eve
    lab.keyboard.press("Tab")
    lab.keyboard.type("bob")
    lab.keyboard.press("Enter")
    expect(project.get_by_role("button", name="Remove: bob, ann/demo")).to_be_visible()
    ports = project.get_by_role("form", name="Ports of ann/demo")
    ports.locator("input").fill("15400")
    ports.locator("button").click()
    expect(ports.get_by_role("alert")).to_have_text("Another project claims the ports 15400. Take other ports.")
    assert ports.locator("input").input_value() == "15400"
    reserve = project.get_by_role("form", name="Reserve a port of ann/demo")
    reserve.locator("input").fill("web")
    reserve.locator("button").click()
    expect(project.get_by_role("button", name="Release: web, ann/demo")).to_be_visible()
    expect(ports.locator("input")).to_have_value("15400")
    picture(lab, "projects-panel-refused")
    for name in ("Release: web, ann/demo", "Remove: bob, ann/demo"):
        project.get_by_role("button", name=name).click()
        expect(project.get_by_role("button", name=name)).to_have_count(0)


def test_a_port_appears_by_itself_and_the_panel_sends_nothing_meanwhile(lab):
    requests: list[str] = []
    lab.on("request", lambda request: requests.append(request.url) if "/proxy/" in request.url else None)
    port = free_port(range(15300, 15400))
    service = subprocess.Popen([sys.executable, str(DEMO), str(port)], stderr=subprocess.DEVNULL)
    link = lab.get_by_role("link", name=f"Open port {port} of ann/demo by key")
    try:
        expect(link).to_be_visible(timeout=10_000)
    finally:
        service.kill()
        service.wait()
    expect(link).to_have_count(0, timeout=10_000)
    lab.wait_for_timeout(5000)
    assert requests == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_in_the_panel(lab, theme):
    name = f"JupyterLab {theme.capitalize()}"
    lab.click('.lm-MenuBar-itemLabel:text-is("Settings")')
    lab.hover('.lm-Menu-itemLabel:text-is("Theme")')
    lab.click(f'.lm-Menu-itemLabel:text-is("{name}")')
    expect(lab.locator("body")).to_have_attribute("data-jp-theme-light", str(theme == "light").lower())
    lab.locator('[data-project="demo-ann"] summary').click()
    lab.get_by_role("form", name="Ports of ann/demo").locator("input").fill("22")
    lab.get_by_role("form", name="Ports of ann/demo").locator("button").click()
    expect(lab.get_by_role("alert").first).to_be_visible()
    picture(lab, f"projects-panel-{theme}")
    assert axe(lab, "{include: [['.jp-PortProxy-panel']]}") == []
