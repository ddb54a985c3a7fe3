"""`jupyter portproxy placement ...`: projects and their members, for administrators.

Rule of this file: what ails the database is told in our own words, for its words may quote the DSN; no credential is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import CliError, RegistryAway, UnknownProject
from . import project_hosts
from .output import Commands, Options, add_command, print_json, say, silent_log, table
from .project_hosts import PATIENCE, Work, state_of

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.placement.admin import Host, Placed, PlacementAdmin, Ports

_ANY = "any"  # of --ports: narrows nothing
_CAUSES = {
    "InvalidPasswordError": "The database does not take this user or password.",
    "InvalidAuthorizationSpecificationError": "The database does not take this user or password.",
    "InvalidCatalogNameError": "The server has no such database.",
    "UndefinedTableError": "The database has no tables of placements yet.\nMake them: jupyter portproxy placement init",
    "UndefinedColumnError": "The tables of placements are of an earlier version.\nRun: jupyter portproxy placement init",
    "InsufficientPrivilegeError": "The database does not let this user do that.",
    "ReadOnlySQLTransactionError": "The database is a standby; nothing can be changed there.",
    "DataError": "The database cannot store this text.",
    "UnicodeError": "The database cannot store this text.",
    "TimeoutError": "The database takes too long.",
    "OSError": "The database does not answer.",
    "ValueError": "The DSN is no address of a database.\nFor example: postgresql://user@host:5432/database",
}


def add_commands(commands: Commands) -> None:
    """Add `placement` and its commands, and those that place projects once more beside it."""
    text = "Projects and their hosts, in the database that a hub reads."
    inner = commands.add_parser("placement", help=text, description=text).add_subparsers(required=True, metavar="COMMAND")

    command = partial(_command, inner)
    command("init", _init, "Make the tables, or bring them up to date.", patience=None)
    making = command("project", _project, "Make a project, change it, or with no option show it.", "key")
    _add_options(making)
    for each in (inner, commands):  # `jupyter portproxy place` is short for `jupyter portproxy placement place`
        _add_placing(partial(_command, each))
    command("remove", _remove, "Forget a project and its members.", "key")
    command("members", _members, "List who may reach a project.", "key")
    joining = command("member", _member, "Let a user, or a @GROUP, into a project, or out of it.", "key", "user")
    joining.add_argument("role", nargs="?", help="owner, member or viewer")
    _add_ports(joining, "the member's ports, with commas, which narrow the project's")
    joining.add_argument("--remove", action="store_true", help="the user is no member any more")
    project_hosts.add_commands(command, _cause)


def _command(commands: Commands, name: str, run: Work, text: str, *names: str, patience: float | None = PATIENCE) -> Any:
    async def work(options: Options) -> None:
        async with _admin(options) as admin:
            await asyncio.wait_for(run(admin, options), patience)

    added = add_command(commands, name, work, text)
    for each in names:
        added.add_argument(each)
    add_dsn(added)
    return added


def _add_placing(command: Callable[..., Any]) -> None:
    _add_options(command("place", _place, "Put a project on a host; a new project, too.", "key", "host"))
    command("move", _move, "Put a project on another host.", "key", "host")
    command("unplace", _unplace, "Take a project off its host.", "key")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--owner", metavar="USER", help="whose the project is; a new one needs an owner")
    parser.add_argument("--name", help="the project's name, in addresses too; a new project's is its key")
    _add_ports(parser, "the project's ports, with commas, which narrow the hub's")
    parser.add_argument("--visibility", help="private, or shared: whoever is logged in is a viewer")


def _add_ports(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--ports", help=f"{text}; '{_ANY}' narrows nothing")


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
        projects, hosts = await asyncio.wait_for(_both_lists(admin), PATIENCE)
    states = {host.host_id: state_of(host) for host in hosts}
    return [{"from": "placement", **_values(project, states)} for project in projects]


def _values(project: Placed, states: dict[str, str]) -> dict[str, object]:
    return {
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


async def _both_lists(admin: PlacementAdmin) -> tuple[list[Placed], list[Host]]:
    return await admin.list(), list(await admin.hosts())


# ---- commands ----


async def _init(admin: PlacementAdmin, options: Options) -> None:
    number = await admin.init()
    say(options, f"The tables of placements are there (schema {number}).", schema=number)


async def _project(admin: PlacementAdmin, options: Options) -> None:
    said = "" if not _is_change(options) else "changed" if await _make_or_change(admin, options, None) else "made"
    if said and not options.json:
        return say(options, f"{options.key} is {said}.")
    _show(options, await admin.find(options.key), await admin.hosts())


def _is_change(options: Options) -> bool:
    return any(value is not None for value in (options.owner, options.name, options.ports, options.visibility))


def _show(options: Options, project: Placed, hosts: Sequence[Host]) -> None:
    values = _values(project, {host.host_id: state_of(host) for host in hosts})
    if options.json:
        return print_json(values)
    ports = "any" if project.allowed_ports is None else ", ".join(project.allowed_ports)
    said = {**values, "host": project.host_id or "-", "allowed_ports": ports, "members": len(project.members)}
    table(["WHAT", "VALUE"], [[name.replace("_", " "), value] for name, value in said.items()])


async def _place(admin: PlacementAdmin, options: Options) -> None:
    await _make_or_change(admin, options, options.host)
    placed = await admin.find(options.key)
    told = {"key": placed.key, "host": placed.host_id, "owner": placed.owner, "name": placed.name}
    say(options, f"{options.key} is on {options.host}.", **told)


async def _make_or_change(admin: PlacementAdmin, options: Options, host: str | None) -> bool:
    """What is not given stays as it is. False for a new project."""
    from ..projects.model import new_key
    from ..projects.placement.admin import KEPT

    new_key(options.key)
    ports, visibility = _ports(options), options.visibility
    try:
        await admin.change(
            options.key, host_id=host, owner=options.owner, name=options.name, allowed_ports=ports, visibility=visibility
        )
        return True
    except UnknownProject:
        if options.owner is None:
            raise CliError(f"The project '{options.key}' is new.\nSay whose it is: --owner USER") from None
        await admin.place(
            options.key,
            host,
            owner=options.owner,
            name=options.key if options.name is None else options.name,
            allowed_ports=None if ports is KEPT else ports,
            visibility="private" if visibility is None else visibility,
        )
        return False


def _ports(options: Options) -> Ports:
    from ..projects.placement.admin import KEPT

    if options.ports is None:
        return KEPT
    return None if options.ports == _ANY else [item.strip() for item in options.ports.split(",")]


async def _move(admin: PlacementAdmin, options: Options) -> None:
    await admin.move(options.key, options.host)
    say(options, f"{options.key} is on {options.host}.", key=options.key, host=options.host)


async def _unplace(admin: PlacementAdmin, options: Options) -> None:
    await admin.unplace(options.key)
    say(options, f"{options.key} is on no host.", key=options.key, host=None)


async def _remove(admin: PlacementAdmin, options: Options) -> None:
    await admin.remove(options.key)
    say(options, f"{options.key} is forgotten.", key=options.key)


async def _members(admin: PlacementAdmin, options: Options) -> None:
    """The owner first, who needs no row; one that is there narrows their ports."""
    project = await admin.find(options.key)
    roles = {project.owner: "owner", **{user: role for user, role in project.members.items() if user != project.owner}}
    if options.json:
        return print_json(
            [{"user": user, "role": role, "allowed_ports": project.narrowed.get(user)} for user, role in roles.items()]
        )
    table(["USER", "ROLE", "PORTS"], [[u, role, ", ".join(project.narrowed.get(u, [_ANY]))] for u, role in roles.items()])


async def _member(admin: PlacementAdmin, options: Options) -> None:
    if (options.role is None) != options.remove or (options.remove and options.ports is not None):
        raise CliError("Give a role, or --remove.")
    if options.remove:
        await admin.remove_member(options.key, options.user)
        return say(options, f"{options.user} is no member of {options.key}.", key=options.key, user=options.user, role=None)
    await admin.add_member(options.key, options.user, options.role, _ports(options))
    say(options, f"{options.user} is {options.role} of {options.key}.", key=options.key, user=options.user, role=options.role)


# ---- inside ----


@contextlib.asynccontextmanager
async def _admin(options: Options) -> AsyncIterator[PlacementAdmin]:
    """Placements. All that their database does wrong becomes a CliError, without a word of its own."""
    from ..projects.placement.admin import PlacementAdmin
    from ..projects.placement.postgres import MissingPackage, Refused

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
