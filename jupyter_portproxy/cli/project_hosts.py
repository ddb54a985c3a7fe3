"""`jupyter portproxy placement host | hosts | up | drain | down | remove-host | heartbeat`: the hosts of projects.

Rule of this file: a command gets its connection from who adds it; no credential is printed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import CliError, RegistryAway
from .output import Options, print_json, read_secret, say, table

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.placement.admin import Host, PlacementAdmin

PATIENCE = 15.0  # seconds for a change of placements
_SILENT = 15.0  # seconds without a sign of life: three heartbeats
_LONGEST = 3600.0  # seconds between two heartbeats
_STATUSES = {
    "up": ("up", "is up", "Say that a host is well again."),
    "drain": ("draining", "drains: it keeps its projects and gets no other", "Put no more projects on a host."),
    "down": ("down", "is down: nothing is sent to it", "Send nothing to a host."),
}
Work = Callable[["PlacementAdmin", Options], Awaitable[None]]
Cause = Callable[[BaseException], str]


def add_commands(command: Callable[..., Any], cause: Cause) -> None:
    """Add the commands.

    Args:
        command: adds one, as `operate_placement` does.
        cause: what a failure is called.
    """
    hosting = command("host", _host, "Make a host known, or change it.", "host", "url")
    credential = hosting.add_mutually_exclusive_group(required=True)
    credential.add_argument(
        "--credential", metavar="TEXT", help="what the host asks of a hub; other users of this machine see it"
    )
    credential.add_argument("--credential-file", metavar="FILE", help="a file with it; - is standard input")
    command("hosts", _hosts, "List the hosts.")
    for name, (_, _, text) in _STATUSES.items():
        command(name, partial(_set_status, name), text, "host")
    command("remove-host", _remove, "Forget a host that has no projects.", "host")
    beating = command("heartbeat", partial(_heartbeat, cause), "Say that a host lives.", "host", patience=None)
    beating.add_argument("--every", type=float, metavar="SECONDS", help="again and again, until the command is ended")


def state_of(host: Host) -> str:
    """`up`, `draining`, `down`, or `silent`."""
    if host.status == "down" or (host.silent is not None and host.silent <= _SILENT):
        return host.status
    return "silent"


async def _host(admin: PlacementAdmin, options: Options) -> None:
    credential = options.credential if options.credential_file is None else read_secret(options.credential_file)
    await admin.set_host(options.host, options.url, credential)
    say(options, f"{options.host} is at {options.url}.", host=options.host, url=options.url)


async def _hosts(admin: PlacementAdmin, options: Options) -> None:
    hosts = await admin.hosts()
    if options.json:
        return print_json([{"host": h.host_id, "url": h.internal_url, "state": state_of(h), "silent": h.silent} for h in hosts])
    silences = ["-" if host.silent is None else f"{host.silent:.0f} s ago" for host in hosts]
    cells = [[host.host_id, state_of(host), seen, host.internal_url] for host, seen in zip(hosts, silences, strict=True)]
    table(["HOST", "STATE", "SEEN", "URL"], cells)


async def _set_status(name: str, admin: PlacementAdmin, options: Options) -> None:
    status, told, _ = _STATUSES[name]
    await admin.set_status(options.host, status)
    say(options, f"{options.host} {told}.", host=options.host, status=status)


async def _remove(admin: PlacementAdmin, options: Options) -> None:
    await admin.remove_host(options.host)
    say(options, f"{options.host} is forgotten.", host=options.host)


async def _heartbeat(cause: Cause, admin: PlacementAdmin, options: Options) -> None:
    """With --every a database that is away is told of once, and tried again each time."""
    if options.every is None:
        await asyncio.wait_for(admin.heartbeat(options.host), PATIENCE)
        return say(options, f"{options.host} lives.", host=options.host)
    if not 0.1 <= options.every <= _LONGEST:
        raise CliError(f"Heartbeats come every 0.1 to {_LONGEST:.0f} seconds.")
    told = ""
    while True:
        begun, problem = time.monotonic(), ""
        try:
            await asyncio.wait_for(admin.heartbeat(options.host), PATIENCE)
        except (RegistryAway, asyncio.TimeoutError) as error:
            problem = cause(error)
        if problem != told:
            print(problem or "The database answers again.", file=sys.stderr, flush=True)
            told = problem
        await asyncio.sleep(max(0, begun + options.every - time.monotonic()))
