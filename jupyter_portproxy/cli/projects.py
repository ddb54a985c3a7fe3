"""`jupyter portproxy register | unregister | lease | projects | run-project`: for the operators of project hosts.

These commands use the registry's file and no server. A secret is printed only by the command that has generated it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..errors import CliError, NoPort
from . import project_placement
from .output import (
    Commands,
    Options,
    add_command,
    parse_port_argument,
    print_json,
    print_result,
    print_table,
    read_secret,
    silent_log,
)

if TYPE_CHECKING:  # the package `projects` is imported when a command needs it
    from ..projects.registry.leases import Registry

_BASE_URL = re.compile(r"/([A-Za-z0-9._~@-]+/)*", re.ASCII)
T = TypeVar("T")


def add_commands(commands: Commands) -> None:
    """Add the operators' commands to the command line; `options.run(options)` executes one."""
    project_placement.add_commands(commands)
    registering = add_command(commands, "register", _register, "Register a running project of this host.")
    registering.add_argument("key")
    registering.add_argument("port", type=parse_port_argument)
    registering.add_argument("--pid", type=int, help="of a process whose end is the project's end")
    text = "a file with the secret of the project's server (- is standard input); without it one is generated and printed"
    registering.add_argument("--secret-file", metavar="FILE", help=text)
    _add_start_on_request(registering)
    unregistering = add_command(commands, "unregister", _unregister, "Remove a project from this host's registry.")
    unregistering.add_argument("key")
    leasing = add_command(commands, "lease", _lease, "Lease a free port for a project that is about to start, and print it.")
    leasing.add_argument("key")
    _add_ports(leasing)
    listing = add_command(commands, "projects", _projects, "List projects: of the placements, of this host, or both.")
    project_placement.add_placement(listing)
    running = add_command(commands, "run-project", _run_project, "Run a project's Jupyter server on this host until it ends.")
    running.add_argument("key")
    _add_ports(running)
    text = "the base URL of the project host, if it is not / (default: /)"
    running.add_argument("--base-url", default="/", metavar="PATH", help=text)
    _add_start_on_request(running)
    running.set_defaults(arguments=[])
    running.epilog = "Arguments after -- are passed to `jupyter server`."
    for each in (registering, unregistering, leasing, listing, running):
        text = "the registry's file (PORTPROXY_REGISTRY); by default portproxy/registry.sqlite in Jupyter's data folder"
        each.add_argument("--registry", metavar="PATH", help=text)


def _add_start_on_request(parser: argparse.ArgumentParser) -> None:
    text = "while the project is stopped, a request for it starts it; without either option that stays unchanged"
    parser.add_argument("--start-on-request", action=argparse.BooleanOptionalAction, default=None, help=text)


def _add_ports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ports", default="40000-49999", help="ports and ranges, with commas (default: 40000-49999)")


# ---- commands ----


async def _register(options: Options) -> None:
    """A generated secret is printed alone: for `SECRET=$(jupyter portproxy register KEY PORT)`."""
    import secrets

    secret = secrets.token_urlsafe(32) if options.secret_file is None else read_secret(options.secret_file)
    key, port, pid, starts = options.key, options.port, options.pid, options.start_on_request
    project = await _use_registry(options, lambda registry: registry.register(key, port, secret, pid, start_on_request=starts))
    values = {"key": project.key, "port": project.http_port, "pid": project.pid, "generation": project.generation}
    if options.secret_file is None:
        return print_result(options, secret, **values, secret=secret)
    print_result(options, f"{project.key} runs on port {project.http_port}.", **values)


async def _unregister(options: Options) -> None:
    await _use_registry(options, lambda registry: registry.unregister(options.key))
    print_result(options, f"{options.key} is not on this host any more.", key=options.key)


async def _lease(options: Options) -> None:
    """The port alone on standard output: for `PORT=$(jupyter portproxy lease KEY)`."""
    ports = _ports(options)
    port = await _use_registry(options, lambda registry: registry.lease_port(options.key, ports))
    print_result(options, str(port), key=options.key, port=port)


async def _run_project(options: Options) -> int:
    from ..projects.run import Run

    ports, base_url = _ports(options), options.base_url
    if not _BASE_URL.fullmatch(base_url):
        raise CliError(f"--base-url: {base_url!r} is invalid.\nIt begins and ends with a slash: /services/projects/")

    def on_ready(port: int, pid: int) -> None:
        address = f"http://127.0.0.1:{port}{base_url}{options.key}/"
        print_result(options, address, key=options.key, port=port, pid=pid, address=address)

    async with _registry(options) as registry:
        return await Run(registry, options.key, ports, options.arguments, on_ready, base_url, options.start_on_request).run()


async def _projects(options: Options) -> None:
    """If one of the two databases is unavailable, the projects of the other are listed."""
    rows: list[dict[str, object]] = []
    problem: CliError | None = None
    has_placements = project_placement.has_placements(options)
    has_registry = bool(_given_path(options)) or _path(options).exists()
    if not has_placements and not has_registry:
        raise CliError("There are neither placements nor a registry.\nMake the placements: jupyter portproxy placement init")
    for source in [project_placement.rows] * has_placements + [_registered] * has_registry:
        try:
            rows += await source(options)
        except CliError as error:
            problem = error
    if options.json:
        print_json(rows)
    elif rows or problem is None:
        cells = [[r["key"], r.get("host") or r.get("port") or "-", r["state"], r.get("owner") or "-"] for r in rows]
        print_table(["PROJECT", "HOST OR PORT", "STATE", "OWNER"], cells)
    if problem is not None:
        raise problem


async def _registered(options: Options) -> list[dict[str, object]]:
    projects = await _use_registry(options, lambda registry: registry.list())
    return [
        {"from": "registry", "key": p.key, "port": p.http_port, "state": p.state, "pid": p.pid, "generation": p.generation}
        for p in projects
    ]


# ---- the registry ----


async def _use_registry(options: Options, work: Callable[[Registry], T]) -> T:
    """What `work` returns; it is repeated while another process has locked the registry."""
    from ..projects.registry.database import retry_while_locked

    async with _registry(options) as registry:
        return await retry_while_locked(lambda: work(registry))


@contextlib.asynccontextmanager
async def _registry(options: Options) -> AsyncIterator[Registry]:
    from ..projects.registry.database import RegistryUnavailable
    from ..projects.registry.leases import Registry

    path = _path(options)
    registry = Registry(path, log=silent_log())
    try:
        yield registry
    except NoPort:
        raise CliError(f"No port of {options.ports} is free.") from None
    except RegistryUnavailable as error:
        raise CliError(f"The registry {path} cannot be used: {error.reason}.") from None
    finally:
        await registry.close()


def _given_path(options: Options) -> str:
    return str(options.registry or os.environ.get("PORTPROXY_REGISTRY", ""))


def _path(options: Options) -> Path:
    from jupyter_core.paths import jupyter_data_dir

    return Path(_given_path(options) or Path(jupyter_data_dir()) / "portproxy" / "registry.sqlite")


def _ports(options: Options) -> tuple[range, ...]:
    from ..protocol.urls import parse_ports

    try:
        return parse_ports(item.strip() for item in options.ports.split(","))
    except ValueError as error:
        raise CliError(f"--ports: {error}.") from None
