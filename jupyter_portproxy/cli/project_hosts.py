"""`jupyter portproxy placement host | hosts | up | drain | down | remove-host | heartbeat`: the hosts of projects.

Credentials are never printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import CliError
from .output import Options, parse_seconds, print_json, print_result, print_table, read_secret

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.placement.admin import HostRecord, PlacementAdmin

_MAX_SILENCE = 15.0  # seconds: three intervals of heartbeats
_MIN_INTERVAL, _MAX_INTERVAL = 0.1, 3600.0  # seconds between two heartbeats
_STATUSES = {
    "up": ("up", "is up", "Set a host's status to up again."),
    "drain": ("draining", "is draining: it keeps its projects and gets no others", "Put no more projects on a host."),
    "down": ("down", "is down: nothing is sent to it", "Send nothing to a host."),
}
Work = Callable[["PlacementAdmin", Options], Awaitable[None]]


def add_commands(command: Callable[..., Any]) -> None:
    """Add the commands; `command` adds one, as in `project_placement`."""
    hosting = command("host", _host, "Add a host, or change it.", "host", "url")
    credential = hosting.add_mutually_exclusive_group(required=True)
    credential.add_argument(
        "--credential", metavar="TEXT", help="what a hub sends to the host; other users of this machine can see it"
    )
    credential.add_argument("--credential-file", metavar="FILE", help="a file with it; - is standard input")
    command("hosts", _hosts, "List the hosts.")
    for name, (_, _, text) in _STATUSES.items():
        command(name, partial(_set_status, name), text, "host")
    command("remove-host", _remove, "Delete a host that has no projects.", "host")
    beating = command("heartbeat", _heartbeat, "Record that a host is alive.", "host")
    beating.add_argument("--every", type=parse_seconds, metavar="SECONDS", help="repeat it, until the command is ended")


def state_of(host: HostRecord) -> str:
    """`up`, `draining`, `down`, or `silent`."""
    from ..projects.model import LOCAL_HOST

    if host.status == "down" or host.host_id == LOCAL_HOST or (host.silent is not None and host.silent <= _MAX_SILENCE):
        return host.status
    return "silent"


async def _host(admin: PlacementAdmin, options: Options) -> None:
    credential = options.credential if options.credential_file is None else read_secret(options.credential_file)
    await admin.set_host(options.host, options.url, credential)
    print_result(options, f"{options.host} is at {options.url}.", host=options.host, url=options.url)


async def _hosts(admin: PlacementAdmin, options: Options) -> None:
    hosts = await admin.hosts()
    if options.json:
        return print_json([{"host": h.host_id, "url": h.internal_url, "state": state_of(h), "silent": h.silent} for h in hosts])
    ages = ["-" if host.silent is None else f"{host.silent:.0f} s ago" for host in hosts]
    cells = [[host.host_id, state_of(host), age, host.internal_url] for host, age in zip(hosts, ages, strict=True)]
    print_table(["HOST", "STATE", "SEEN", "URL"], cells)


async def _set_status(name: str, admin: PlacementAdmin, options: Options) -> None:
    status, text, _ = _STATUSES[name]
    await admin.set_status(options.host, status)
    print_result(options, f"{options.host} {text}.", host=options.host, status=status)


async def _remove(admin: PlacementAdmin, options: Options) -> None:
    await admin.remove_host(options.host)
    print_result(options, f"{options.host} is deleted.", host=options.host)


async def _heartbeat(admin: PlacementAdmin, options: Options) -> None:
    """With --every, a failure is reported once, and the next heartbeat is tried all the same."""
    import asyncio

    from ..projects.placement.admin import PlacementsUnavailable

    if options.every is None:
        await admin.heartbeat(options.host)
        return print_result(options, f"{options.host} is alive.", host=options.host)
    if not _MIN_INTERVAL <= options.every <= _MAX_INTERVAL:
        raise CliError(f"--every: heartbeats are sent every {_MIN_INTERVAL} to {_MAX_INTERVAL:.0f} seconds.")
    reported = ""
    while True:
        started, problem = time.monotonic(), ""
        try:
            await admin.heartbeat(options.host)
        except PlacementsUnavailable as error:
            problem = error.reason
        if problem != reported:
            print(problem or "The database answers again.", file=sys.stderr, flush=True)
            reported = problem
        await asyncio.sleep(max(0, started + options.every - time.monotonic()))
