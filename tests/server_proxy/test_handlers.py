"""The URLs of jupyter-server-proxy, and the state that other extensions read from its handlers."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


async def test_the_launchers_of_jupyter_server_proxy_find_what_they_ask_for(call, jp_base_url):
    listed = {item["name"]: item for item in json.loads((await call("server-proxy/servers-info")).text)["server_processes"]}
    assert "broken" not in listed
    entry = {"enabled": True, "title": "Plain", "path_info": "plain/", "category": "Notebook"}
    entry["icon_url"] = f"{jp_base_url}server-proxy/icon/plain"
    assert listed["plain"] == {"name": "plain", "launcher_entry": entry, "new_browser_tab": True}
    icon = await call("server-proxy/icon/plain")
    assert (icon.status, icon.one("Content-Type"), icon.text) == (200, "image/svg+xml", "<svg/>")
    for name in ("mapped", "nothing", "..%2Fx"):
        assert (await call(f"server-proxy/icon/{name}")).status == 404
    assert (await call("server-proxy/servers-info", token=None)).status == 302  # to the login


def find_state(web_app, name):
    """The lines of marimo-jupyter-extension 0.5.0, with the name as an argument."""
    for host_rule in web_app.default_router.rules:
        target = getattr(host_rule, "target", None)
        if not hasattr(target, "rules"):
            continue
        for rule in target.rules:
            kwargs = getattr(rule, "target_kwargs", None) or {}
            if "state" not in kwargs:
                continue
            matcher = getattr(rule, "matcher", None)
            regex = getattr(matcher, "regex", None)
            if regex and name in regex.pattern:
                return kwargs["state"]
    return None


async def test_extensions_find_a_servers_process_watch_it_and_restart_it(call, jp_web_app):
    state = find_state(jp_web_app, "plain")
    assert state and state.get("proc") is None and len(state) == 1
    await call("plain/x")
    assert state["proc"].running and set(state) == {"proc_lock", "proc"}
    first = (await call("proxy/api/services/plain")).text
    async with state["proc_lock"]:
        await asyncio.wait_for(state["proc"].terminate(), 5)
        assert "proc" not in state
    assert (await call("plain/x")).status == 200  # no page: one that was stopped by hand would not start
    assert json.loads(first)["since"] < json.loads((await call("proxy/api/services/plain")).text)["since"]
    process = state["proc"]
    await process.kill()
    await process.kill()
    assert not process.running and (await call("plain(?!)")).status == 404
