"""`jupyter portproxy placement ...`: projects and their members, for operators.

Errors of the database are reported in our own words, for its messages may quote the DSN. Credentials are never printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CliError, UnknownProject
from . import project_hosts
from .output import Commands, Options, add_command, print_json, print_result, print_table, silent_log
from .project_hosts import Work, state_of

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.placement.admin import HostRecord, PlacementAdmin, PortsArgument, ProjectRecord

_ANY = "any"  # value of --ports and --system-user: no restriction
_TIMEOUT = 15.0  # seconds for one statement
_MIGRATION_TIMEOUT = 60.0


def add_commands(commands: Commands) -> None:
    """Add `placement` with its commands, and those that place projects a second time beside it."""
    text = "Projects, their members and their hosts, in a SQLite file or in PostgreSQL."
    inner = commands.add_parser("placement", help=text, description=text).add_subparsers(required=True, metavar="COMMAND")

    command = partial(_command, inner)
    command("init", _init, "Create the tables, or migrate them.", timeout=_MIGRATION_TIMEOUT)
    _add_options(command("project", _project, "Create a project, change it, or show it if no option is given.", "key"))
    for each in (inner, commands):  # `jupyter portproxy place` is short for `jupyter portproxy placement place`
        placing = _command(each, "place", _place, "Put a project, which may be new, on a host.", "key")
        placing.add_argument("host", nargs="?", help="by default this machine, if there are no other hosts")
        _add_options(placing)
        _command(each, "move", _move, "Put a project on another host.", "key", "host")
        _command(each, "unplace", _unplace, "Take a project off its host.", "key")
    command("rename", _rename, "Give a project another name; its key stays.", "key", "name")
    command("remove", _remove, "Delete a project and its members.", "key")
    command("members", _members, "List the members of a project.", "key")
    joining = command("member", _member, "Add a user or a @GROUP to a project, change the role, or remove them.", "key", "user")
    joining.add_argument("role", nargs="?", help="owner, member or viewer")
    _add_ports(joining, "the member's ports, with commas: a restriction of the project's")
    joining.add_argument("--remove", action="store_true", help="remove the user from the project")
    command("projects", _projects, "List the projects.")
    copying = add_command(inner, "copy", _copy, "Copy all placements into a database without projects.")
    copying.add_argument("source", metavar="FROM", help="DSN of a database: sqlite:////absolute/path or postgresql://...")
    copying.add_argument("destination", metavar="TO", help="DSN of the other one; its tables are made if it has none")
    project_hosts.add_commands(command)


def _command(commands: Commands, name: str, run: Work, text: str, *names: str, timeout: float = _TIMEOUT) -> Any:
    async def work(options: Options) -> None:
        async with _admin(options, timeout) as admin:
            await run(admin, options)

    added = add_command(commands, name, work, text)
    for each in names:
        added.add_argument(each)
    add_placement(added)
    return added


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--owner", metavar="USER", help="the project's owner, required for a new project")
    parser.add_argument("--name", help="the project's name, also in URLs; by default a new project's key")
    _add_ports(
        parser, "the project's ports, with commas: a restriction of the server's; no other project of this machine reaches them"
    )
    parser.add_argument("--visibility", help="private, or public: all users are viewers, if the server allows that")
    text = f"the user of this machine to whom the project's services must belong; '{_ANY}' removes the restriction"
    parser.add_argument("--system-user", metavar="USER", help=text)


def _add_ports(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--ports", help=f"{text}; '{_ANY}' removes the restriction")


def add_placement(parser: argparse.ArgumentParser) -> None:
    text = "the placements (PORTPROXY_PLACEMENT): sqlite:////absolute/path or postgresql://user@host/database; by default "
    parser.add_argument("--placement", metavar="DSN", help=text + "portproxy/projects.sqlite in Jupyter's data folder")


def has_placements(options: Options) -> bool:
    """True if placements are configured, or there is the default file."""
    return bool(_given_dsn(options)) or _default_path().exists()


def _given_dsn(options: Options) -> str:
    return str(options.placement or os.environ.get("PORTPROXY_PLACEMENT", ""))


def _dsn(options: Options) -> str:
    return _given_dsn(options) or f"sqlite:///{_default_path()}"


def _default_path() -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir(), "portproxy", "projects.sqlite")


async def rows(options: Options) -> list[dict[str, object]]:
    """The placements, for the list of projects."""
    async with _admin(options) as admin:
        projects, hosts = await admin.list(), await admin.hosts()
    return [{"from": "placement", **_values(project, hosts)} for project in projects]


def _values(project: ProjectRecord, hosts: Sequence[HostRecord]) -> dict[str, object]:
    states = [f"host {state_of(host)}" for host in hosts if host.host_id == project.host_id]
    return {
        "key": project.key,
        "host": project.host_id,
        "state": states[0] if states else "not placed",
        "owner": project.owner,
        "name": project.name,
        "members": dict(project.members),
        "visibility": project.visibility,
        "system_user": project.system_user,
        "allowed_ports": None if project.allowed_ports is None else list(project.allowed_ports),
        "generation": project.generation,
    }


# ---- commands ----


async def _init(admin: PlacementAdmin, options: Options) -> None:
    number = await admin.init()
    print_result(options, f"The tables of placements are up to date (schema {number}).", schema=number)


async def _project(admin: PlacementAdmin, options: Options) -> None:
    given = (options.owner, options.name, options.ports, options.visibility, options.system_user)
    verb = ""
    if any(value is not None for value in given):
        verb = "created" if await _create_or_change(admin, options, None) else "changed"
    if verb and not options.json:
        return print_result(options, f"{options.key} is {verb}.")
    _show(options, await admin.find(options.key), await admin.hosts())


def _show(options: Options, project: ProjectRecord, hosts: Sequence[HostRecord]) -> None:
    values = _values(project, hosts)
    if options.json:
        return print_json(values)
    ports, user = _printed(project.allowed_ports), project.system_user or _ANY
    changed = {"host": project.host_id or "-", "allowed_ports": ports, "system_user": user, "members": len(project.members)}
    shown = {**values, **changed}
    print_table(["WHAT", "VALUE"], [[name.replace("_", " "), value] for name, value in shown.items()])


async def _place(admin: PlacementAdmin, options: Options) -> None:
    """The default file is made with its first project; another database may be a mistake in its address."""
    if not has_placements(options):
        await admin.init()
    await _create_or_change(admin, options, options.host or await _default_host(admin, options.key))
    placed = await admin.find(options.key)
    values = {"key": placed.key, "host": placed.host_id, "owner": placed.owner, "name": placed.name}
    print_result(options, f"{options.key} is on {_host_name(placed.host_id)}.", **values)


async def _default_host(admin: PlacementAdmin, key: str) -> str:
    """This machine, if it is the only host; else the one that the project has already."""
    from ..projects.model import LOCAL_HOST

    if [host.host_id for host in await admin.hosts()] == [LOCAL_HOST]:
        return LOCAL_HOST
    with contextlib.suppress(UnknownProject):
        if host_id := (await admin.find(key)).host_id:
            return host_id
    raise CliError("Give the host of the project.\nList the hosts: jupyter portproxy placement hosts")


def _host_name(host_id: str | None) -> str:
    from ..projects.model import LOCAL_HOST

    return "this machine" if host_id == LOCAL_HOST else str(host_id)


async def _create_or_change(admin: PlacementAdmin, options: Options, host: str | None) -> bool:
    """True if the project is new. Values that are not given stay unchanged."""
    from ..projects.placement.admin import UNCHANGED

    ports, values = _ports(options), {"owner": options.owner, "name": options.name, "visibility": options.visibility}
    values["system_user"] = _system_user(options)
    try:
        await admin.change(options.key, host_id=host, allowed_ports=ports, **values)
        return False
    except UnknownProject:
        if options.owner is None:
            raise CliError(f"The project '{options.key}' is new.\nGive its owner: --owner USER") from None
        given = {name: value for name, value in values.items() if value is not None}
        await admin.place(
            options.key, host, **{"name": options.key, **given}, allowed_ports=None if ports is UNCHANGED else ports
        )
        return True


def _ports(options: Options) -> PortsArgument:
    from ..projects.placement.admin import UNCHANGED

    if options.ports is None:
        return UNCHANGED
    return None if options.ports == _ANY else [item.strip() for item in options.ports.split(",")]


def _system_user(options: Options) -> str | None:
    """The user; "" for no restriction, None if nothing is given. A SQLite file is of this machine, and so are its users."""
    from ..projects.placement.store import is_sqlite

    user: str | None = options.system_user
    if not user or user == _ANY:
        return None if user is None else ""
    if os.name == "posix" and is_sqlite(_dsn(options)):
        import pwd  # there is none on Windows

        try:
            pwd.getpwnam(user)
        except (KeyError, ValueError):
            raise CliError(f"--system-user: this machine has no user {user!r}.") from None
    return user


async def _rename(admin: PlacementAdmin, options: Options) -> None:
    await admin.change(options.key, name=options.name)
    print_result(options, f"{options.key} has the name '{options.name}'.", key=options.key, name=options.name)


async def _projects(admin: PlacementAdmin, options: Options) -> None:
    projects, hosts = await admin.list(), await admin.hosts()
    values = [_values(project, hosts) for project in projects]
    if options.json:
        return print_json(values)
    cells = [
        [v["key"], v["owner"], v["name"], v["host"], v["state"], v["visibility"], len(p.members), _printed(p.allowed_ports)]
        for v, p in zip(values, projects, strict=True)
    ]
    print_table(["PROJECT", "OWNER", "NAME", "HOST", "STATE", "VISIBILITY", "MEMBERS", "PORTS"], cells)


def _printed(ports: Sequence[str] | None) -> str:
    return _ANY if ports is None else ", ".join(ports)


async def _move(admin: PlacementAdmin, options: Options) -> None:
    await admin.move(options.key, options.host)
    print_result(options, f"{options.key} is on {_host_name(options.host)}.", key=options.key, host=options.host)


async def _unplace(admin: PlacementAdmin, options: Options) -> None:
    await admin.unplace(options.key)
    print_result(options, f"{options.key} is not placed now.", key=options.key, host=None)


async def _remove(admin: PlacementAdmin, options: Options) -> None:
    await admin.remove(options.key)
    print_result(options, f"{options.key} is deleted.", key=options.key)


async def _members(admin: PlacementAdmin, options: Options) -> None:
    """The owner is the first. A row of the owner in the members table is only a restriction of the ports."""
    project = await admin.find(options.key)
    roles = {project.owner: "owner", **{user: role for user, role in project.members.items() if user != project.owner}}
    ports = project.member_ports
    if options.json:
        return print_json([{"user": user, "role": role, "allowed_ports": ports.get(user)} for user, role in roles.items()])
    print_table(["USER", "ROLE", "PORTS"], [[user, role, ", ".join(ports.get(user, [_ANY]))] for user, role in roles.items()])


async def _member(admin: PlacementAdmin, options: Options) -> None:
    if (options.role is None) != options.remove or (options.remove and options.ports is not None):
        raise CliError("Give a role (owner, member or viewer), or --remove.")
    if options.remove:
        await admin.remove_member(options.key, options.user)
        return print_result(
            options, f"{options.user} is no longer a member of {options.key}.", key=options.key, user=options.user, role=None
        )
    if options.role != "owner" and (await admin.find(options.key)).owner == options.user:
        hint = f"Give it another owner: jupyter portproxy placement project {options.key} --owner USER"
        raise CliError(f"{options.user!r} owns this project and stays its owner.\n{hint}")
    await admin.add_member(options.key, options.user, options.role, _ports(options))
    print_result(
        options, f"{options.user} is {options.role} of {options.key}.", key=options.key, user=options.user, role=options.role
    )


# ---- the database ----


async def _copy(options: Options) -> None:
    from ..projects.placement.copy import copy_placements

    with _sentences():
        copied = await copy_placements(options.source, options.destination, log=silent_log(), timeout=_MIGRATION_TIMEOUT)
    numbers = {"projects": len(copied.projects), "members": copied.member_count, "hosts": len(copied.hosts)}
    text = ", ".join(f"{number} {name if number != 1 else name[:-1]}" for name, number in numbers.items())
    print_result(options, f"Copied and verified row by row: {text}.", **numbers)


@contextlib.asynccontextmanager
async def _admin(options: Options, timeout: float = _TIMEOUT) -> AsyncIterator[PlacementAdmin]:
    """The placements. Errors of their database become CliErrors."""
    from ..projects.placement.admin import PlacementAdmin

    with _sentences():
        admin = PlacementAdmin(_dsn(options), hop="database", log=silent_log(), timeout=timeout)
        try:
            yield admin
        finally:
            await admin.close()


@contextlib.contextmanager
def _sentences() -> Iterator[None]:
    """Errors of a database become CliErrors, without the database's own words."""
    from ..projects.placement.admin import PlacementsUnavailable
    from ..projects.placement.postgres import MissingPackage
    from ..projects.placement.store import ConstraintViolation, DatabaseUnavailable

    try:
        yield
    except MissingPackage as error:
        raise CliError(str(error)) from None
    except (PlacementsUnavailable, DatabaseUnavailable) as error:
        raise CliError(error.reason) from None
    except ConstraintViolation as error:
        raise CliError(f"The database refuses this: {error}.") from None
