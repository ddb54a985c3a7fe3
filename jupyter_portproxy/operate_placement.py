"""`jupyter portproxy placement ...`: for administrators, and for hosts that say that they live.

Rule of this file: what ails the database is told in our own words, for its words may quote the DSN; no credential is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from .console import CliError, Commands, Options, add_command, print_json, read_secret, say, silent_log, table
from .errors import RegistryAway
from .placement_admin import Host, Placed, PlacementAdmin
from .postgres import MissingPackage, Refused
from .projects import new_key

_PATIENCE = 15.0  # seconds for a change of placements
_SILENT = 15.0  # seconds without a sign of life: three heartbeats
_LONGEST = 3600.0  # seconds between two heartbeats
_CAUSES = {
    "InvalidPasswordError": "The database does not take this user or password.",
    "InvalidAuthorizationSpecificationError": "The database does not take this user or password.",
    "InvalidCatalogNameError": "The server has no such database.",
    "UndefinedTableError": "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init",
    "InsufficientPrivilegeError": "The database does not let this user do that.",
    "ReadOnlySQLTransactionError": "The database is a standby; nothing can be changed there.",
    "DataError": "The database cannot store this text.",
    "UnicodeError": "The database cannot store this text.",
    "TimeoutError": "The database takes too long.",
    "OSError": "The database does not answer.",
    "ValueError": "The DSN is no address of a database.\nFor example: postgresql://user@host:5432/database",
}
Work = Callable[[PlacementAdmin, Options], Awaitable[None]]


def add_commands(commands: Commands) -> None:
    """Add `placement` and its commands."""
    text = "Projects and their hosts, in the database that a hub reads."
    inner = commands.add_parser("placement", help=text, description=text).add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Work, text: str, *names: str, patience: float | None = _PATIENCE) -> Any:
        async def work(options: Options) -> None:
            async with _admin(options) as admin:
                await asyncio.wait_for(run(admin, options), patience)

        added = add_command(inner, name, work, text)
        for each in names:
            added.add_argument(each)
        add_dsn(added)
        return added

    command("init", _init, "Make the tables, or bring them up to date.", patience=None)
    placing = command("place", _place, "Put a project on a host; a new project, too.", "key", "host")
    placing.add_argument("--owner", metavar="USER", help="whose the project is; a new one needs an owner")
    placing.add_argument("--name", help="what people call it")
    command("move", _move, "Put a project on another host.", "key", "host")
    command("unplace", _unplace, "Take a project off its host.", "key")
    hosting = command("host", _host, "Make a host known, or change it.", "host", "url")
    credential = hosting.add_mutually_exclusive_group(required=True)
    credential.add_argument(
        "--credential", metavar="TEXT", help="what the host asks of a hub; other users of this machine see it"
    )
    credential.add_argument("--credential-file", metavar="FILE", help="a file with it; - is standard input")
    command("hosts", _hosts, "List the hosts.")
    joining = command("member", _member, "Let a user into a project, or out of it.", "key", "user")
    joining.add_argument("role", nargs="?", help="owner, member or viewer")
    joining.add_argument("--remove", action="store_true", help="the user is no member any more")
    beating = command("heartbeat", _heartbeat, "Say that a host lives.", "host", patience=None)
    beating.add_argument("--every", type=float, metavar="SECONDS", help="again and again, until the command is ended")


def add_dsn(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dsn", help="of the database of placements (PORTPROXY_PLACEMENT), as postgresql://user@host/database")


def dsn_of(options: Options) -> str:
    """Where placements are; empty if nobody has said."""
    return str(options.dsn or os.environ.get("PORTPROXY_PLACEMENT", ""))


async def rows(options: Options) -> list[dict[str, object]]:
    """The projects, for the list of projects.

    Raises:
        CliError
    """
    async with _admin(options) as admin:
        projects, hosts = await asyncio.wait_for(_both_lists(admin), _PATIENCE)
    states = {host.host_id: _state_of(host) for host in hosts}
    return [
        {
            "from": "placement",
            "key": project.key,
            "host": project.host_id,
            "state": f"host {states[project.host_id]}" if project.host_id in states else "not placed",
            "owner": project.owner,
            "name": project.name,
            "members": dict(project.members),
            "visibility": project.visibility,
            "allowed_ports": None if project.allowed_ports is None else list(project.allowed_ports),
            "generation": project.generation,
        }
        for project in projects
    ]


async def _both_lists(admin: PlacementAdmin) -> tuple[list[Placed], list[Host]]:
    return await admin.list(), list(await admin.hosts())


# ---- commands ----


async def _init(admin: PlacementAdmin, options: Options) -> None:
    number = await admin.init()
    say(options, f"The tables of placements are there (schema {number}).", schema=number)


async def _place(admin: PlacementAdmin, options: Options) -> None:
    """What is not given stays as it is."""
    new_key(options.key)
    known = next((project for project in await admin.list() if project.key == options.key), None)
    if known is None and options.owner is None:
        raise CliError(f"The project '{options.key}' is new.\nSay whose it is: --owner USER")
    old = known or Placed(options.key, "", "", None, None, "private", 0, {})
    owner = old.owner if options.owner is None else options.owner
    name = old.name if options.name is None else options.name
    await admin.place(
        options.key, options.host, owner=owner, name=name, allowed_ports=old.allowed_ports, visibility=old.visibility
    )
    say(options, f"{options.key} is on {options.host}.", key=options.key, host=options.host, owner=owner, name=name)


async def _move(admin: PlacementAdmin, options: Options) -> None:
    await admin.move(options.key, options.host)
    say(options, f"{options.key} is on {options.host}.", key=options.key, host=options.host)


async def _unplace(admin: PlacementAdmin, options: Options) -> None:
    await admin.unplace(options.key)
    say(options, f"{options.key} is on no host.", key=options.key, host=None)


async def _host(admin: PlacementAdmin, options: Options) -> None:
    credential = options.credential if options.credential_file is None else read_secret(options.credential_file)
    await admin.set_host(options.host, options.url, credential)
    say(options, f"{options.host} is at {options.url}.", host=options.host, url=options.url)


async def _hosts(admin: PlacementAdmin, options: Options) -> None:
    hosts = await admin.hosts()
    if options.json:
        return print_json([{"host": h.host_id, "url": h.internal_url, "state": _state_of(h), "silent": h.silent} for h in hosts])
    silences = ["-" if host.silent is None else f"{host.silent:.0f} s ago" for host in hosts]
    cells = [[host.host_id, _state_of(host), seen, host.internal_url] for host, seen in zip(hosts, silences, strict=True)]
    table(["HOST", "STATE", "SEEN", "URL"], cells)


async def _member(admin: PlacementAdmin, options: Options) -> None:
    if (options.role is None) != options.remove:
        raise CliError("Give a role, or --remove.")
    if options.remove:
        await admin.remove_member(options.key, options.user)
        return say(options, f"{options.user} is no member of {options.key}.", key=options.key, user=options.user, role=None)
    await admin.add_member(options.key, options.user, options.role)
    say(options, f"{options.user} is {options.role} of {options.key}.", key=options.key, user=options.user, role=options.role)


async def _heartbeat(admin: PlacementAdmin, options: Options) -> None:
    """With --every a database that is away is told of once, and tried again each time."""
    if options.every is None:
        await asyncio.wait_for(admin.heartbeat(options.host), _PATIENCE)
        return say(options, f"{options.host} lives.", host=options.host)
    if not 0.1 <= options.every <= _LONGEST:
        raise CliError(f"Heartbeats come every 0.1 to {_LONGEST:.0f} seconds.")
    told = ""
    while True:
        begun, problem = time.monotonic(), ""
        try:
            await asyncio.wait_for(admin.heartbeat(options.host), _PATIENCE)
        except (RegistryAway, asyncio.TimeoutError) as error:
            problem = _cause(error)
        if problem != told:
            print(problem or "The database answers again.", file=sys.stderr, flush=True)
            told = problem
        await asyncio.sleep(max(0, begun + options.every - time.monotonic()))


# ---- inside ----


def _state_of(host: Host) -> str:
    if host.status != "up":
        return host.status
    return "up" if host.silent is not None and host.silent <= _SILENT else "silent"


@contextlib.asynccontextmanager
async def _admin(options: Options) -> AsyncIterator[PlacementAdmin]:
    """Placements. All that their database does wrong becomes a CliError, without a word of its own."""
    dsn = dsn_of(options)
    if not dsn:
        raise CliError("It is not known where placements are.\nGive --dsn, or set PORTPROXY_PLACEMENT.")
    try:
        admin = PlacementAdmin(dsn, log=silent_log())
    except MissingPackage as error:
        raise CliError(str(error)) from None
    try:
        yield admin
    except (RegistryAway, asyncio.TimeoutError) as error:
        raise CliError(_cause(error)) from None
    except Refused as error:
        raise CliError(f"The database refuses this: {error}.") from None
    finally:
        await admin.close()


def _cause(error: BaseException | None) -> str:
    """A sentence for the first known kind of error among those from which this one came."""
    while error is not None:
        for kind in type(error).__mro__:
            if kind.__name__ in _CAUSES:
                return _CAUSES[kind.__name__]
        last, error = error, error.__context__
    return f"The database cannot be used ({type(last).__name__})."
