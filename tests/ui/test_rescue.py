"""An app that thinks it lives at `/`, in the path form, in a real Chromium; and the same with the rescue switched off."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from ..support.jupyter_processes import jupyter_server
from ..support.upstreams import free_port
from .conftest import log_in

ROOTED = Path(__file__).parent / "rooted_app.py"


@pytest.fixture(scope="module")
def app():
    """The port of the app."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(ROOTED), str(port)])
    until = time.monotonic() + 20
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
    yield port
    process.kill()
    process.wait()


def opened(page, url):
    """The app's page, when all it asked for has an outcome."""
    page.goto(url)
    page.wait_for_load_state("load")
    page.wait_for_function("window.done && Object.keys(done).length === 6", timeout=15_000)
    return page.evaluate("done")


def seen(page):
    return page.evaluate(
        """() => [getComputedStyle(styled).color, img.naturalWidth, window.imported,
                  performance.getEntriesByName(location.origin + '/static/back.svg').length > 0]"""
    )


def test_all_of_it_loads_but_what_sends_no_referer(page, server, app):
    url = f"{server}proxy/port/{app}/"
    done = opened(page, url)
    assert (done["get"], done["post"], done["xhr"], done["sse"]) == ("/api/contents?x=%2F", 2_000_000, 200, "an event")
    assert done["ws"] == "closed"
    assert "SecurityError" in done["worker"] or "TypeError" in done["worker"]  # no worker at Jupyter's root
    assert seen(page)[:3] == ["rgb(1, 2, 3)", 7, 42]
    page.click("button")
    assert page.url == f"{url}login" and "the form said a=b+c" in page.inner_text("body")


def test_links_lead_to_the_service_or_to_jupyter(page, server, app):
    url = f"{server}proxy/port/{app}/"
    page.goto(url)
    page.click("#about")
    assert page.url == f"{url}about?x=1" and "about us" in page.inner_text("body")
    page.goto(url)
    page.click("#home")
    assert (page.url, page.title()) == (url, "Rooted")
    page.click("#jupyter")
    assert page.url == f"{server}api/status" and '"kernels"' in page.inner_text("body")


def test_a_form_of_a_page_that_sends_no_referrer_arrives(page, server, app):
    """The browser says `Origin: null` and `Sec-Fetch-Site: same-origin`."""
    for form in ("port", "enter"):
        opened(page, f"{server}proxy/{form}/{app}/")
        page.evaluate("document.head.insertAdjacentHTML('beforeend', '<meta name=referrer content=no-referrer>')")
        page.evaluate("document.forms[0].action = 'login'")
        with page.expect_request("**/login") as sent:
            page.click("button")
        assert sent.value.all_headers()["origin"] == "null"
        page.wait_for_function("document.body.innerText.includes('the form said a=b+c')")


def test_below_a_base_url_all_of_it_loads_too(chromium, tmp_path, app):
    """The login cookie has the base URL as its path, so the browser asks for what is at the root without a login."""
    with jupyter_server(tmp_path, base="/user/ada@example.org/") as running:
        page = chromium.new_page()
        log_in(page.context, running.url)
        url = f"{running.url}proxy/port/{app}/"
        done = opened(page, url)
        assert (done["get"], done["post"], done["xhr"], done["sse"]) == ("/api/contents?x=%2F", 2_000_000, 200, "an event")
        assert seen(page)[:3] == ["rgb(1, 2, 3)", 7, 42]
        page.evaluate("history.replaceState(null, '', location.pathname.slice(0, -1))")  # as routers in pages do
        assert page.url == url[:-1]
        assert page.evaluate("fetch('/api/x').then(answer => answer.json())") == {"path": "/api/x"}
        page.click("button")
        assert page.url == f"{url}login" and "the form said a=b+c" in page.inner_text("body")
        page.goto(url)
        page.click("#about")
        assert page.url == f"{url}about?x=1" and "about us" in page.inner_text("body")
        page.goto(url.replace("@", "%40"))
        assert (page.url, page.title()) == (url, "Rooted")
        page.context.close()


def test_without_redirects_by_referer_nothing_of_it_loads(chromium, tmp_path, app):
    with jupyter_server(tmp_path, "--PortProxy.rescue=False") as running:
        page = chromium.new_page()
        log_in(page.context, running.url)
        page.goto(f"{running.url}proxy/port/{app}/")
        page.wait_for_load_state("load")
        assert page.evaluate("[getComputedStyle(styled).color, img.naturalWidth, window.imported ?? null, !!window.done]") == [
            "rgb(0, 0, 0)", 0, None, False,
        ]  # fmt: skip
        page.click("#about")
        assert page.title() != "About"
        page.close()
