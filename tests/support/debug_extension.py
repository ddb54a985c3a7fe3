"""A jupyter_server extension for tests: it blocks the event loop, and reports the open resources of the process.

Tests load it into a server in a process of its own, with `extension(...)` of processes.py.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from collections import Counter

import psutil
from jupyter_server.base.handlers import JupyterHandler
from tornado.iostream import IOStream
from tornado.web import authenticated

from jupyter_portproxy.upstream.exchange import Exchange
from jupyter_portproxy.upstream.tunnel import Tunnel


class Block(JupyterHandler):
    """`GET debug/block?seconds=5` does nothing at all, and lets nothing else be done meanwhile."""

    @authenticated
    def get(self) -> None:
        time.sleep(float(self.get_argument("seconds")))
        self.finish("")


class State(JupyterHandler):
    """`GET debug/state`: tasks by name, descriptors, bytes of memory, objects that should have gone."""

    @authenticated
    def get(self) -> None:
        gc.collect()
        tasks = Counter(_kind(task) for task in asyncio.all_tasks() if task is not asyncio.current_task())
        kinds = {"exchange": Exchange, "tunnel": Tunnel, "stream": IOStream}
        objects = Counter(name for thing in gc.get_objects() for name, kind in kinds.items() if isinstance(thing, kind))
        gateway = self.settings["portproxy"]
        transport = gateway._connector._transport
        self.finish(
            json.dumps(
                {
                    "tasks": tasks,
                    "descriptors": len(os.listdir("/proc/self/fd")),
                    "memory": psutil.Process().memory_info().rss,
                    "objects": objects,
                    "exchanges": gateway.exchanges,
                    "tunnels": gateway.tunnels,
                    "slots": [gateway.limits.exchanges.in_all, gateway.limits.tunnels.in_all],
                    "handles": len(transport._handles) + len(transport._idle) if transport is not None else 0,
                    "scheduled": len(asyncio.get_running_loop()._scheduled),
                }
            )
        )


def _kind(task: asyncio.Task) -> str:
    name = task.get_name()
    return name if not name.startswith("Task-") else getattr(task.get_coro(), "__qualname__", "?")


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "tests.support.debug_extension"}]


def _load_jupyter_server_extension(serverapp) -> None:
    base = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(".*$", [(base + "debug/block", Block), (base + "debug/state", State)])
