"""Origins of services in a real browser: what a hostile page reaches, the way in, and apps that think they live at `/`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from ..support.jupyter_processes import TOKEN
from ..support.upstreams import free_port
from .apps import api_for, build, caching, files, hostile, rooted, running
from .conftest import log_in

VITE = Path(__file__).parents[2] / "labextension" / "node_modules" / "vite" / "bin" / "vite.js"
ATTACK = """async ({ jupyter, port, other, terminal }) => {
  const within = (promise, ms = 4000) => Promise.race([promise, new Promise(done => setTimeout(() => done("no answer"), ms))]);
  const read = async url => {
    try {
      const a = await fetch(url, { credentials: "include", referrerPolicy: "no-referrer" });
      return a.ok ? (await a.text()).slice(0, 60) : "refused";
    } catch { return "refused"; }
  };
  const socket = url => within(new Promise(done => {
    const ws = new WebSocket(url.replace(/^http/, "ws"));
    ws.onopen = () => done("open");
    ws.onclose = ws.onerror = () => done("refused");
  }));
  const worker = async url => {
    try { await within(navigator.serviceWorker.register(url)); return "registered"; } catch { return "refused"; }
  };
  const frame = url => within(new Promise(done => {
    const frame = document.createElement("iframe");
    frame.onload = () => {
      try { done(frame.contentDocument.cookie !== null ? "read" : "refused"); }
      catch { done("refused"); }
    };
    frame.src = url;
    document.body.append(frame);
  }));
  const cookies = document.cookie;
  for (const domain of ["", "; domain=localhost", "; domain=.localhost"]) {
    document.cookie = "_xsrf=planted; path=/" + domain;
    document.cookie = "planted=1; path=/" + domain;
  }
  return {
    contents: await read(jupyter + "api/contents"),
    terminal: await socket(jupyter + "terminals/websocket/" + terminal),
    cookies: cookies.includes("_xsrf=2|") ? "read" : "not there",
    worker: await worker(jupyter + "proxy/port/" + port + "/sw.js"),
    other: await read(other),
    frame: await frame(jupyter + "api/status"),
  };
}"""


REACT = {
    "index.html": "<!doctype html><title>react</title><div id=root></div><script type=module src=/main.jsx></script>",
    "main.jsx": """
import React, { lazy, Suspense, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import picture from "./picture.svg?no-inline";
import "./style.css";
const Late = lazy(() => import("./late.jsx"));
function App() {
  const [data, setData] = useState("-");
  const [path, setPath] = useState(location.pathname);
  useEffect(() => { fetch("/api/data").then(a => a.text()).then(setData); }, []);
  const go = () => { history.pushState({}, "", "/items/2"); setPath(location.pathname); };
  return <><h1 id="styled">react</h1><img id="picture" src={picture} /><p id="data">{data}</p><p id="path">{path}</p>
    <button onClick={go}>go</button><Suspense fallback="-"><Late /></Suspense></>;
}
createRoot(document.getElementById("root")).render(<App />);
""",
    "late.jsx": """import React from "react";\nexport default () => <p id="late">late</p>;""",
    "style.css": "#styled { color: rgb(1, 2, 3); background: url(./picture.svg?no-inline); }",
    "picture.svg": "<svg xmlns='http://www.w3.org/2000/svg' width='7' height='7'/>",
}


@pytest.fixture(scope="module")
def react_build(tmp_path_factory):
    """Builds a React application for production: a page whose scripts, styles and pictures are at `/assets`, or below `base`.

    The build is split, as usual: a script for what is loaded late, which imports from the first; or else it is of one piece.
    """

    def build(base: str = "/", split: bool = True) -> Path:
        folder, node = tmp_path_factory.mktemp("react"), shutil.which("node")
        for name, text in REACT.items():
            (folder / name).write_text(text)
        pieces = json.dumps({"build": {"rollupOptions": {"output": {"inlineDynamicImports": not split}}}})
        (folder / "vite.config.mjs").write_text(f"export default {pieces};")
        (folder / "node_modules").symlink_to(VITE.parents[2])
        assert node and VITE.exists(), "Node and labextension/node_modules are needed: see the Makefile"
        subprocess.run([node, str(VITE), "build", "--logLevel", "warn", "--base", base], cwd=folder, check=True)
        built = folder / "dist"
        assert f'src="{base}assets/' in (built / "index.html").read_text()
        assert len(list(built.glob("assets/*.js"))) == 1 + split
        return built

    return build


@pytest.fixture
def jupyter(server) -> str:
    """The server's base URL by the name that people use."""
    return server.replace("127.0.0.1", "localhost")


@pytest.fixture
def browser(chromium, jupyter):
    """A browser's context that has logged in to Jupyter."""
    context = chromium.new_context()
    log_in(context, jupyter)
    yield context
    context.close()


@pytest.fixture
def page(browser):  # of this file: its Jupyter is `localhost`
    page = browser.new_page()
    page.set_default_timeout(10_000)
    return page


def origin_of(jupyter: str, port: int) -> str:
    return f"http://p{port}.localhost:{urlsplit(jupyter).port}/"


def terminal(jupyter: str) -> str:
    request = Request(f"{jupyter}api/terminals", b"{}", {"Authorization": f"token {TOKEN}"}, method="POST")
    with urlopen(request, timeout=20) as answer:
        return json.load(answer)["name"]


def attack(page: Page, jupyter: str, port: int, other: str) -> dict[str, str]:
    return page.evaluate(ATTACK, {"jupyter": jupyter, "port": port, "other": other, "terminal": terminal(jupyter)})


def planted(page: Page, jupyter: str) -> list[str]:
    """Which of Jupyter's cookies are the attacker's."""
    return [cookie["name"] for cookie in page.context.cookies(jupyter) if cookie["value"] in ("planted", "1")]


def test_at_a_path_based_url_a_hostile_service_is_jupyter(page, jupyter):
    """The positive control: where this does nothing, the next test proves nothing."""
    with running(hostile) as port, running(rooted) as neighbour:
        page.goto(f"{jupyter}proxy/port/{port}/")
        done = attack(page, jupyter, port, f"{jupyter}proxy/port/{neighbour}/")
        assert (done["terminal"], done["cookies"], done["worker"], done["frame"]) == ("open", "read", "registered", "read")
        assert '"name"' in done["contents"] and "rooted" in done["other"]
        assert "planted" in planted(page, jupyter)


@pytest.mark.parametrize("framed", [False, True], ids=["tab", "frame"])
def test_at_its_origin_it_reaches_nothing_of_jupyter(page, jupyter, framed):
    with running(hostile) as port, running(rooted) as neighbour:
        page.goto(f"{jupyter}proxy/enter/{neighbour}/")  # so that there is a session to be abused
        assert page.url == origin_of(jupyter, neighbour)
        place = page
        if framed:
            page.goto(f"{jupyter}no-such-page")
            place = frame_in(page, f"{jupyter}proxy/enter/{port}/")
        else:
            page.goto(f"{jupyter}proxy/enter/{port}/")
        assert place.url == origin_of(jupyter, port)
        done = attack(place, jupyter, port, origin_of(jupyter, neighbour))
        assert done.pop("frame") in ("refused", "no answer")
        assert done == {
            "contents": "refused", "terminal": "refused", "cookies": "not there", "worker": "refused", "other": "refused"
        }  # fmt: skip
        assert planted(page, jupyter) == []


def frame_in(page: Page, url: str):
    """A frame of Jupyter's page with that address, as a tab of JupyterLab has it."""
    element = page.evaluate_handle(
        """url => new Promise(done => { const f = document.createElement("iframe");
        f.sandbox = "allow-same-origin allow-scripts allow-forms allow-popups allow-downloads"; f.onload = () => done(f);
        f.src = url; document.body.append(f); })""",
        url,
    )
    return element.as_element().content_frame()


def test_a_hostile_service_cannot_open_itself_in_jupyters_origin(page, jupyter):
    """By no spelling of the path form: the page that comes is at its origin, or none comes."""
    with running(hostile) as port:
        forms = [
            "proxy/port/{}/",
            "proxy/{}/",
            "proxy/127.0.0.1:{}/",
            "proxy/[::1]:{}/",
            "proxy/absolute/{}/",
            "port/{}/",
            "server/{}/",
        ]
        for form in [*forms, "login?next=/proxy/port/{}/"]:
            page.goto(f"{jupyter}proxy/enter/{port}/")
            assert page.url == origin_of(jupyter, port)
            with page.expect_navigation(url=lambda url: url.startswith("http")):
                page.evaluate("url => { location = url }", jupyter + form.format(port))
            page.wait_for_load_state()
            assert page.title() == "hostile", form  # it came
            assert page.url.startswith(origin_of(jupyter, port)), form


def test_entering_takes_one_redirect_two_pairs_the_first_time_and_under_100_ms(page, jupyter):
    with running(build) as port:
        times = []
        for number in range(8):
            answer = page.goto(f"{jupyter}proxy/enter/{port}/items/{number}?q=%20#f", wait_until="commit")
            assert page.url == f"{origin_of(jupyter, port)}items/{number}?q=%20#f"  # no ticket in it
            redirects, request = 0, answer.request
            while request.redirected_from:
                redirects, request = redirects + 1, request.redirected_from
            assert redirects == (1 if number else 4)
            times.append(
                answer.request.timing["startTime"] - request.timing["startTime"]
            )  # ms until the page itself is asked for
        print(f"the way in: {min(times):.0f} ms at best, {sorted(times)[4]:.0f} ms median")
        assert min(times) < 100


def test_an_address_that_was_kept_leads_through_jupyter_and_back(page, jupyter):
    with running(build) as port:
        page.goto(f"{origin_of(jupyter, port)}items/7?q")
        assert page.url == f"{origin_of(jupyter, port)}items/7?q"
        expect(page.locator("#root")).to_contain_text("route /items/7")


def test_a_service_worker_that_answers_all_navigations_does_not_keep_the_browser_out(page, jupyter):
    with running(caching) as port:
        page.goto(f"{jupyter}proxy/enter/{port}/")
        page.wait_for_function("navigator.serviceWorker.controller !== null")
        page.goto(f"{jupyter}proxy/enter/{port}/second?q")
        assert page.url == f"{origin_of(jupyter, port)}second?q"
        expect(page.locator("#data")).to_have_text("/second data")
        for address in (f"{jupyter}proxy/enter/{port}/third", f"{origin_of(jupyter, port)}third"):
            page.context.clear_cookies(domain=f"p{port}.localhost")  # as after a restart of the server
            page.goto(address)
            expect(page.locator("#data")).to_have_text("/third data", timeout=15_000)
            page.wait_for_function("navigator.serviceWorker.controller !== null")


STATUS = "() => fetch('/x', { cache: 'no-store' }).then(answer => answer.status)"


def ticket_of(attacker, jupyter: str, port: int) -> str:
    """The address into an origin that an attacker has got with a login of their own."""
    answer = attacker.request.get(f"{jupyter}proxy/enter/{port}/items/1", max_redirects=0)
    location = answer.headers["location"]
    assert "ticket=" in location
    return location


@pytest.mark.parametrize("way", ["link", "address bar", "redirect", "frame"])
def test_a_ticket_of_an_attacker_does_not_log_the_browser_in_as_them(chromium, page, jupyter, way):
    """If it did, the page would be in the attacker's session, which ends with the attacker's logout."""
    attacker = chromium.new_context()
    log_in(attacker, jupyter)
    with running(build) as port, running(rooted) as elsewhere:
        page.goto(f"{jupyter}proxy/enter/{elsewhere}/")
        theirs = ticket_of(attacker, jupyter, port)
        if way == "frame":  # of a hostile service in a tab of JupyterLab, say
            page.goto(f"{jupyter}no-such-page")
            frame = frame_in(page, f"{jupyter}proxy/enter/{elsewhere}/")
            with page.expect_response(lambda answer: "/proxy/enter?" in answer.url):
                frame.evaluate("url => { location = url }", theirs)
            assert not any("/items/1" in frame.url and "portproxy" not in frame.url for frame in page.frames)
            page.goto(f"{jupyter}no-such-page")
            place = frame_in(page, f"{jupyter}proxy/enter/{port}/items/1")
        else:
            if way == "link":
                page.evaluate("url => { location = url }", theirs)
            elif way == "redirect":
                page.route("http://evil.example/", lambda route: route.fulfill(status=302, headers={"Location": theirs}))
                page.evaluate("location = 'http://evil.example/'")
            else:
                page.goto(theirs)
            page.wait_for_url(f"{origin_of(jupyter, port)}items/1")
            place = page
        expect(place.locator("#root")).to_contain_text("route /items/1")
        assert attacker.request.get(f"{jupyter}logout").ok
        assert place.evaluate(STATUS) == 200
    attacker.close()


def test_a_ticket_of_an_attacker_leads_a_browser_without_a_login_to_the_login_page(chromium, jupyter):
    attacker, victim = chromium.new_context(), chromium.new_context()
    log_in(attacker, jupyter)
    page = victim.new_page()
    page.goto(ticket_of(attacker, jupyter, 15000))
    assert page.url.startswith(f"{jupyter}login?next=")
    assert [cookie for cookie in victim.cookies() if cookie["name"].startswith("username-")] == []
    attacker.close()
    victim.close()


def test_a_login_while_entering_leads_to_the_page(chromium, jupyter):
    with running(build) as port:
        page = chromium.new_page()
        page.goto(f"{origin_of(jupyter, port)}items/3?q")
        page.fill("input[name=password]", TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{origin_of(jupyter, port)}items/3?q")
        page.close()


def test_entering_without_a_login_leads_to_the_login_page(chromium, jupyter):
    page = chromium.new_page()
    page.goto(f"{origin_of(jupyter, 15000)}x")
    assert page.url.startswith(f"{jupyter}login?next=")
    page.close()


def check_rooted(place) -> None:
    expect(place.locator("#script")).to_have_text("ran")
    expect(place.locator("#fetched")).to_contain_text("visits=1")
    expect(place.locator("#fetched")).not_to_contain_text("portproxy")
    expect(place.locator("#event")).to_have_text("an event")
    expect(place.locator("#styled")).to_have_css("color", "rgb(1, 2, 3)")
    expect(place.locator("#worker")).to_have_text("by the worker")


def check_saving(page: Page, place) -> None:
    """A link with `download` saves a file by its name, and the page stays."""
    with page.expect_download() as started:
        place.click("#save")
    assert started.value.suggested_filename in ("data", "data.txt")
    assert "visits=1" in Path(started.value.path()).read_text()
    expect(place.locator("#script")).to_have_text("ran")


def test_an_app_with_absolute_links_forms_events_and_a_worker_works_untouched(page, jupyter):
    with running(rooted) as port:
        page.goto(f"{jupyter}proxy/enter/{port}/")
        check_rooted(page)
        check_saving(page, page)
        page.click("#link")
        page.wait_for_selector("#deep")
        assert page.url == f"{origin_of(jupyter, port)}deep/page?x=1#there"
        page.click("text=home")
        page.click("text=send")
        page.wait_for_selector("#thanks")
        assert page.url == f"{origin_of(jupyter, port)}thanks"


def test_it_works_in_a_frame_of_jupyters_page_too(page, jupyter):
    with running(rooted) as port:
        page.goto(f"{jupyter}no-such-page")
        frame = frame_in(page, f"{jupyter}proxy/enter/{port}/")
        check_rooted(frame)
        check_saving(page, frame)
        frame.click("text=send")
        frame.wait_for_selector("#thanks")


CALLS = """async url => {
  const call = options => fetch(url, { credentials: "include", ...options }).then(a => a.text(), () => "refused");
  const json = { "Content-Type": "application/json", "X-Mine": "1" };
  return [await call({}), await call({ method: "PUT", headers: json, body: "1" }),
    await call({ method: "POST", headers: json, body: "2" }), await call({ method: "POST", body: "3" })];
}"""


def test_services_call_each_other_by_cors_where_the_api_allows_it(page, jupyter):
    """All but a POST of a form's kind, which has no preflight. On localhost a tab has no cookie of another origin to send."""
    with running(build) as port, running(build) as stranger, running(api_for(port)) as api:
        page.goto(f"{jupyter}no-such-page")
        frame_in(page, f"{jupyter}proxy/enter/{api}/x")
        caller = frame_in(page, f"{jupyter}proxy/enter/{port}/x")
        assert caller.evaluate(CALLS, origin_of(jupyter, api)) == ["GET ", "PUT 1", "POST 2", "refused"]
        other = frame_in(page, f"{jupyter}proxy/enter/{stranger}/x")
        assert other.evaluate(CALLS, origin_of(jupyter, api)) == ["refused"] * 4


def test_a_page_of_another_site_cannot_frame_it(page, jupyter):
    with running(rooted) as port, running(rooted) as elsewhere:
        page.goto(f"{jupyter}proxy/enter/{port}/")
        page.goto(f"http://127.0.0.1:{elsewhere}/deep/page?x=1")
        frame = frame_in(page, origin_of(jupyter, port))
        assert frame.query_selector("#script") is None


def test_a_static_build_works_untouched(page, jupyter):
    with running(build) as port:
        page.goto(f"{jupyter}proxy/enter/{port}/items/1")
        expect(page.locator("#root")).to_contain_text("route /items/1")
        page.click("button")
        page.reload()
        expect(page.locator("#root")).to_contain_text("route /items/2")


def check_react(page: Page) -> None:
    expect(page.locator("#late")).to_have_text("late")
    expect(page.locator("#data")).to_have_text("from the service")
    expect(page.locator("#styled")).to_have_css("color", "rgb(1, 2, 3)")
    assert page.evaluate("picture.naturalWidth") == 7


def test_a_react_build_works_untouched(page, jupyter, react_build):
    with running(files(react_build())) as port:
        page.goto(f"{jupyter}proxy/enter/{port}/items/1")
        check_react(page)
        page.click("text=go")
        page.reload()
        check_react(page)
        expect(page.locator("#path")).to_have_text("/items/2")


def test_a_react_build_works_at_a_path_based_url_but_for_its_own_addresses(page, jupyter, react_build):
    with running(files(react_build(split=False))) as port:
        page.goto(f"{jupyter}proxy/port/{port}/items/1")
        check_react(page)
        expect(page.locator("#path")).to_have_text(f"/proxy/port/{port}/items/1")  # its script sees the prefix
        page.click("text=go")
        page.reload()  # of what is now Jupyter's address
        expect(page.locator("#late")).to_have_count(0)


def test_a_split_build_runs_twice_at_a_path_based_url_unless_it_is_built_for_any(page, jupyter, react_build):
    """A module has one instance for each address: one asked for at the root, and below the prefix by another module, has two."""
    built = react_build()
    main = (built / "index.html").read_text().partition('src="')[2].partition('"')[0]
    with running(files(built)) as port:
        again = f"/proxy/port/{port}{main}"  # not where a redirect of the first one leads: what breaks by it is a matter of luck
        with page.expect_request(lambda sent: sent.url.endswith(again) and sent.redirected_from is None):
            page.goto(f"{jupyter}proxy/port/{port}/")
    with running(files(react_build(base="./"))) as port:
        page.goto(f"{jupyter}proxy/port/{port}/")
        check_react(page)


def test_vites_hot_reload_works_untouched(page, jupyter, tmp_path):
    node = shutil.which("node")
    assert node and VITE.exists(), "Node and labextension/node_modules are needed: see the Makefile"
    (tmp_path / "index.html").write_text("<p id=text>-</p><script type=module src=/main.js></script>")
    (tmp_path / "main.js").write_text(
        "import { text } from '/text.js'; const say = t => { document.getElementById('text').textContent = t; }; say(text);"
        "window.kept = window.kept ?? Math.random(); import.meta.hot.accept('/text.js', fresh => say(fresh.text));"
    )
    (tmp_path / "text.js").write_text("export const text = 'one';")
    port = free_port()
    vite = subprocess.Popen(
        [node, str(VITE), "--host", "127.0.0.1", "--port", str(port), "--strictPort"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        page.goto(f"{jupyter}proxy/enter/{port}/")
        page.wait_for_selector("#text:text-is('one')", timeout=30_000)  # the error page retries until it is up
        kept = page.evaluate("window.kept")
        (tmp_path / "text.js").write_text("export const text = 'two';")
        expect(page.locator("#text")).to_have_text("two", timeout=15_000)
        assert page.evaluate("window.kept") == kept  # replaced, not reloaded
    finally:
        vite.kill()
        vite.wait()
