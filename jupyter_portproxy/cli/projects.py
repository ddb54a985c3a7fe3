"""`jupyter portproxy register | unregister | lease | projects | run-project`: for the operators of hosts.

Rule of this file: no server is asked, only the registry's file; a secret is printed once at most, to whom it was just made for.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jupyter_core.paths import jupyter_data_dir

from ..errors import CliError, NoPort, RegistryAway
from ..protocol.urls import parse_ports
from . import project_placement
from .output import Commands, Options, add_command, port_number, print_json, read_secret, say, silent_log, table

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.registry.leases import Registry

_BASE_URL = re.compile(r"/([A-Za-z0-9._~@-]+/)*", re.ASCII)
T = TypeVar("T")


def add_commands(commands: Commands) -> None:
    """Add the operator's commands to those of the command line; `options.run(options)` does what was asked."""
    project_placement.add_commands(commands)
    _add_registry(commands)
    listing = add_command(commands, "projects", _projects, "List projects: of the placements, of this host, or both.")
    project_placement.add_dsn(listing)
    _add_path(listing)
    running = add_command(commands, "run-project", _run_project, "Run a project's Jupyter server on this host until it ends.")
    running.add_argument("key")
    _add_ports(running)
    _add_path(running)
    text = "the base URL of the project host, where it is not / (default: /)"
    running.add_argument("--base-url", default="/", metavar="PATH", help=text)
    _add_starts(running)
    running.set_defaults(arguments=[])
    running.epilog = "What stands behind -- is for `jupyter server`."


# ---- the registry ----


async def _register(options: Options) -> None:
    """A secret that is made here is printed alone: for `SECRET=$(jupyter portproxy register KEY PORT)`."""
    secret = secrets.token_urlsafe(32) if options.secret_file is None else read_secret(options.secret_file)
    starts = options.start_on_request
    made = await _do(
        options, lambda registry: registry.register(options.key, options.port, secret, options.pid, start_on_request=starts)
    )
    told = {"key": made.key, "port": made.http_port, "pid": made.pid, "generation": made.generation}
    if options.secret_file is None:
        return say(options, secret, **told, secret=secret)
    say(options, f"{made.key} runs on port {made.http_port}.", **told)


async def _unregister(options: Options) -> None:
    await _do(options, lambda registry: registry.unregister(options.key))
    say(options, f"{options.key} is not on this host any more.", key=options.key)


async def _lease(options: Options) -> None:
    """The port alone on standard output: for `PORT=$(jupyter portproxy lease KEY)`."""
    ports = _ports(options)
    port = await _do(options, lambda registry: registry.lease_port(options.key, ports))
    say(options, str(port), key=options.key, port=port)


async def _run_project(options: Options) -> int:
    from ..projects.run import Run

    ports, base_url = _ports(options), options.base_url
    if not _BASE_URL.fullmatch(base_url):
        raise CliError(f"--base-url: {base_url!r} is none.\nIt begins and ends with a slash: /services/projects/")

    def tell(port: int, pid: int) -> None:
        address = f"http://127.0.0.1:{port}{base_url}{options.key}/"
        say(options, address, key=options.key, port=port, pid=pid, address=address)

    async with _registry(options) as registry:
        return await Run(registry, options.key, ports, options.arguments, tell, base_url, options.start_on_request).run()


# ---- both ----


async def _projects(options: Options) -> None:
    """One database that is away does not hide the other."""
    rows: list[dict[str, object]] = []
    problem: CliError | None = None
    dsn = project_placement.dsn_of(options)
    here = bool(_chosen_path(options)) or _path(options).exists()
    if not dsn and not here:
        raise CliError("Neither placements nor a registry are known here.\nSet PORTPROXY_PLACEMENT or PORTPROXY_REGISTRY.")
    for source in (project_placement.rows if dsn else None, _registered if here else None):
        try:
            rows += await source(options) if source is not None else []
        except CliError as error:
            problem = error
    if options.json:
        print_json(rows)
    elif rows or problem is None:
        cells = [[r["key"], r.get("host") or r.get("port") or "-", r["state"], r.get("owner") or "-"] for r in rows]
        table(["PROJECT", "HOST OR PORT", "STATE", "OWNER"], cells)
    if problem is not None:
        raise problem


async def _registered(options: Options) -> list[dict[str, object]]:
    found = await _do(options, lambda registry: registry.list())
    return [
        {"from": "registry", "key": p.key, "port": p.http_port, "state": p.state, "pid": p.pid, "generation": p.generation}
        for p in found
    ]


# ---- the databases ----


async def _do(options: Options, work: Callable[[Registry], T]) -> T:
    """What `work` returns; it is repeated while another process has the registry locked."""
    from ..projects.run import patiently

    async with _registry(options) as registry:
        return await patiently(lambda: work(registry))


@contextlib.asynccontextmanager
async def _registry(options: Options) -> AsyncIterator[Registry]:
    from ..projects.registry.leases import Registry

    path = _path(options)
    registry = Registry(path, log=silent_log())
    try:
        yield registry
    except NoPort:
        raise CliError(f"No port of {options.ports} is free.") from None
    except RegistryAway as error:
        raise CliError(f"The registry {path} cannot be used: {error.__context__ or 'it was not there a moment ago'}.") from None
    finally:
        await registry.close()


def _chosen_path(options: Options) -> str:
    return str(options.registry or os.environ.get("PORTPROXY_REGISTRY", ""))


def _path(options: Options) -> Path:
    return Path(_chosen_path(options) or Path(jupyter_data_dir()) / "portproxy" / "registry.sqlite")


def _ports(options: Options) -> tuple[range, ...]:
    try:
        return parse_ports(item.strip() for item in options.ports.split(","))
    except ValueError as error:
        raise CliError(f"--ports: {error}.") from None


# ---- help ----


def _add_registry(commands: Commands) -> None:
    registering = add_command(commands, "register", _register, "Say that a project runs on this host.")
    registering.add_argument("key")
    registering.add_argument("port", type=port_number)
    registering.add_argument("--pid", type=int, help="of a process whose end is the project's end")
    text = "a file with what the project's server asks for (- is standard input); without it a secret is made and printed"
    registering.add_argument("--secret-file", metavar="FILE", help=text)
    _add_starts(registering)
    leaving = add_command(commands, "unregister", _unregister, "Say that a project is not on this host any more.")
    leaving.add_argument("key")
    leasing = add_command(commands, "lease", _lease, "Lend a free port to a project that is about to start, and print it.")
    leasing.add_argument("key")
    _add_ports(leasing)
    for each in (registering, leaving, leasing):
        _add_path(each)


def _add_path(parser: argparse.ArgumentParser) -> None:
    text = "the registry's file (PORTPROXY_REGISTRY); by default portproxy/registry.sqlite in Jupyter's data folder"
    parser.add_argument("--registry", metavar="PATH", help=text)


def _add_starts(parser: argparse.ArgumentParser) -> None:
    text = "while the project is stopped, a request for it starts it; without either option that stays as it is"
    parser.add_argument("--start-on-request", action=argparse.BooleanOptionalAction, default=None, help=text)


def _add_ports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ports", default="40000-49999", help="ports and ranges, with commas (default: 40000-49999)")
