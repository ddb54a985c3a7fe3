"""Services that are attached from elsewhere, in JupyterLab: their rows below the agent's line, their page, and their return."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from ..support.jupyter_processes import environment, jupyter_server
from ..support.upstreams import free_port
from .apps import rooted, running
from .conftest import without_news
from .test_lab import picture
from .test_port_rules import jupyterlab


@pytest.fixture(scope="module")
def lab_server(tmp_path_factory):
    home = tmp_path_factory.mktemp("attached")
    without_news(home)
    with jupyter_server(home) as running_server:
        yield running_server
        assert "Traceback" not in running_server.log, running_server.log


@pytest.fixture
def lab(context, lab_server):
    with jupyterlab(context, lab_server) as page:
        yield page


@pytest.fixture
def attach(lab_server, tmp_path):
    """Starts an agent that attaches a port as `trainer`, all with one token."""
    text = json.loads(lab_server.call("POST", "proxy/api/attach-tokens", {"seconds": 3600, "name": "job"})[1])["token"]
    more, started = environment(tmp_path, {"PORTPROXY_ATTACH_TOKEN": text}), []

    def start(port: int) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "jupyter_portproxy",
            "attach",
            "--server",
            lab_server.url,
            "--name",
            "trainer",
            str(port),
        ]
        started.append(subprocess.Popen(command, env=more, cwd=tmp_path, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_an_attached_service_in_the_panel(lab, lab_server, attach):
    with running(rooted) as port:
        agent = attach(port)
        row = lab.locator(f'.jp-PortProxy-agent .jp-PortProxy-row[data-service="trainer-{port}"]')
        expect(row.locator(".jp-mod-up")).to_be_visible(timeout=5000)
        head = lab.locator(".jp-PortProxy-agent > .jp-PortProxy-projectHead")
        expect(head.locator(".jp-PortProxy-label")).to_have_text("trainer on " + agent_host(lab_server))
        row.locator(".jp-PortProxy-name").click()
        page = lab.frame_locator(".jp-PortProxy-frame iframe")
        for part, text in (("script", "ran"), ("fetched", "visits=1"), ("event", "an event")):
            expect(page.locator(f"#{part}")).to_have_text(text)
        picture(lab, "attached")
        agent.kill()
        expect(row.locator(".jp-mod-down")).to_be_visible(timeout=5000)
        expect(row.locator(".jp-PortProxy-note")).to_contain_text("is lost. It returns by itself.")
        attach(port)
        expect(row.locator(".jp-mod-up")).to_be_visible(timeout=5000)
        lab.click("text=Attach tokens")
        expect(lab.get_by_role("button", name="Revoke: job")).to_be_visible()
        lab.get_by_role("button", name="Detach: trainer").click()
        expect(row.locator(".jp-PortProxy-note")).to_contain_text("It was detached at the server.")
        row.hover()
        row.locator('button[title="Remove"]').click()
        expect(row).to_have_count(0)


def test_the_page_of_a_port_on_which_nothing_listens_waits_for_it(lab, lab_server, attach):
    """Without loading itself again and again meanwhile; where the agent is lost, likewise."""
    port, loads = free_port(), []
    agent = attach(port)
    agent.stdout.readline()
    page = lab.context.new_page()
    page.on("framenavigated", lambda frame: loads.append(frame.url))
    page.goto(f"{lab_server.url}proxy/service/trainer-{port}/")
    expect(page.locator("h1")).to_have_text(f"trainer-{port} does not answer")
    expect(page.locator("#message")).to_have_text(f"Nothing listens on port {port} of {agent_host(lab_server)}.")
    page.wait_for_timeout(3000)
    agent.kill()
    expect(page.locator("h1")).to_have_text(f"trainer-{port} is not attached", timeout=5000)
    expect(page.locator("#message")).to_contain_text("is lost. It returns by itself.")
    expect(page.get_by_role("button")).to_have_count(0)
    page.wait_for_timeout(1000)
    assert len(loads) == 1
    page.goto(f"{lab_server.url}proxy/")
    expect(page.get_by_role("button", name=f"Delete trainer-{port}")).to_be_visible()
    expect(page.get_by_role("button", name=f"Start trainer-{port}")).to_have_count(0)
    page.go_back()
    with running(rooted, port):
        attach(port)
        expect(page.locator("#fetched")).to_have_text("visits=1", timeout=10_000)
        page.goto(f"{lab_server.url}proxy/")
        expect(page.get_by_role("button", name=f"Stop trainer-{port}")).to_be_visible()
        expect(page.get_by_role("button", name=f"Restart trainer-{port}")).to_have_count(0)


def agent_host(server) -> str:
    return json.loads(server.get("proxy/api/attached")[1])[0]["host"]
