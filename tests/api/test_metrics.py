"""The numbers on Jupyter's `/metrics`."""

from __future__ import annotations

import asyncio
import json

from jupyter_portproxy.services.templates import load

from ..support.raw_clients import UPGRADE
from ..support.upstreams import answers, closes_without_answer, echo_frames, free_port, serve
from ..support.waiting import eventually


async def numbers(call) -> dict[str, float]:
    text = (await call("metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("jupyter_portproxy_")]
    return {name.removeprefix("jupyter_portproxy_"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_what_has_passed_is_counted(call, jp_serverapp):
    assert (await numbers(call))["tunnels"] == 0
    async with serve(answers(b"12345")) as up:
        await call(f"proxy/port/{up.port}/")
        await call(f"proxy/port/{up.port}/", "PUT", content=b"123")
    async with serve(closes_without_answer) as up:
        await call(f"proxy/port/{up.port}/")
    await call(f"proxy/port/{free_port()}/")
    await call("proxy/port/1/")
    counted = await numbers(call)
    assert counted['requests_total{status="2xx"}'] == 2
    assert counted['requests_total{status="4xx"}'] == 1
    assert counted['requests_total{status="5xx"}'] == 2
    assert counted['upstream_errors_total{code="bad_upstream"}'] == 1
    assert counted['upstream_errors_total{code="unreachable"}'] == 1
    assert counted['bytes_total{way="to_client"}'] == 10
    assert counted['bytes_total{way="to_service"}'] == 3
    assert counted["exchanges"] == 0


async def test_tunnels_are_counted(call, wire, origin, jp_base_url):
    async with serve(echo_frames) as up, await wire() as connection:
        lines = [
            f"GET {jp_base_url}proxy/port/{up.port}/ HTTP/1.1",
            f"Host: {origin}",
            "Authorization: token a-token-of-the-tests",
        ]
        await connection.send("\r\n".join([*lines, *UPGRADE, "", "ping"]).encode())
        await connection.head()
        await asyncio.wait_for(connection.reader.readexactly(4), 5)
        counted = await numbers(call)
        assert counted["tunnels"] == 1
        assert counted['bytes_total{way="tunnels"}'] == 8
        assert counted['requests_total{status="1xx"}'] == 1


async def test_starts_of_services_are_counted(call):
    await call("proxy/api/services", "POST", content=json.dumps({"template": "http-server", "name": "a"}).encode())
    await call("proxy/service/a/")
    assert (await numbers(call))['service_starts_total{template="http-server"}'] == 1


async def test_services_are_counted_by_state_and_failures_by_template(call, jp_serverapp):
    services = jp_serverapp.web_app.settings["portproxy"].services
    services.templates["fails"] = load("fails", {"command": ["no-such-program"]})
    services.templates["worker"] = load("worker", {"command": ["sleep", "60"], "protocol": "none"})
    for name in ("fails", "worker"):
        await call("proxy/api/services", "POST", content=json.dumps({"template": name}).encode())
    await eventually(lambda: services.get("fails").state == "failed" and services.get("worker").state == "up")
    counted = await numbers(call)
    assert (counted['services{state="up"}'], counted['services{state="failed"}'], counted['services{state="unhealthy"}']) == (
        1,
        1,
        0,
    )
    assert counted['service_failures_total{template="fails"}'] == 1
    page = await call("proxy/service/worker/")
    assert page.status == 400 and "listens nowhere" in page.text


async def test_a_second_server_in_the_process_starts_from_nothing(call):
    assert not [name for name in await numbers(call) if name.startswith("requests_total")]
