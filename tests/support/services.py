"""A service manager of the tests, with real programs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from jupyter_portproxy.services.manager import ServiceManager
from jupyter_portproxy.services.ports import PortLeases
from jupyter_portproxy.services.service import Service
from jupyter_portproxy.services.supervisor import Pauses
from jupyter_portproxy.services.templates import load_all

SERVE = """
import http.server, os, sys
print("serving", sys.argv[1:], os.environ.get("WHO"), flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""

STUBBORN = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SERVE

PYTHON = [sys.executable, "-c"]

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


async def answers(service: Service) -> bool:
    """What the gateway's probe asks, without HTTP."""
    try:
        if service.endpoint.unix_socket:
            _, writer = await asyncio.open_unix_connection(service.endpoint.unix_socket)
        else:
            _, writer = await asyncio.open_connection("127.0.0.1", service.endpoint.port)
    except OSError:
        return False
    writer.close()
    return True


async def ended(service: Service, seconds: float = 15) -> None:
    await asyncio.wait_for(asyncio.wait({service.task}), seconds)


def make_manager(folder: Path, *, ports=range(10000, 20001), probe=answers, options=None, **templates: dict[str, Any]):
    """A manager of these templates, whose services are stopped soon."""
    loaded, problems = load_all({name: {"stop_timeout": 0.5, **data} for name, data in templates.items()})
    assert problems == []
    return ServiceManager(
        PortLeases([ports]), lambda name, template: f"/b/proxy/service/{name}", "/b/", probe, folder, loaded, **(options or {})
    )


FAILS_ONCE = """
import pathlib, sys
failed = pathlib.Path(sys.argv[2])
if not failed.exists():
    failed.touch()
    raise SystemExit(1)
"""


async def pausing(make, tmp_path):
    """A manager, and its service that has failed, waits for its restart and will run then."""
    command = [*PYTHON, FAILS_ONCE + SERVE, "{port}", str(tmp_path / "failed")]
    manager = make(web={"command": command, "restart": "on-failure"}, options={"pauses": Pauses(first_restart=1.5)})
    service = manager.start("web")
    while service.state != "failed":
        await service.changed.wait()
    return manager, service
