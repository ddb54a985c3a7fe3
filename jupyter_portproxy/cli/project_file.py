"""`jupyter portproxy project`: what a folder's project files say. `project init` writes one from what runs now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import CliError
from .api_command import add_server_options, open_client
from .folders import describe_content, describe_problem, read_folder, take_folder
from .output import PROGRAM, Commands, Options, parse_name, print_json, print_result, printable

if TYPE_CHECKING:
    from ..project_file.example import RunningProgram
    from ..services.templates import Template
    from .api_client import ApiClient

_NAME = "portproxy.toml"
_INIT = "init"


def add_commands(commands: Commands) -> None:
    """Add the command to the command line; `options.run(options)` executes it."""
    text = "Show what a folder says of its services and ports; 'project init' writes its portproxy.toml."
    command = commands.add_parser("project", help=text, description=text, usage=f"{PROGRAM} project [init] [FOLDER] [--json]")
    command.set_defaults(run=_run)
    add_server_options(command)
    command.add_argument(
        "arguments", nargs="*", type=parse_name, metavar="[init] [FOLDER]", help="the folder; by default the current one"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def _run(options: Options) -> int:
    is_new = options.arguments[:1] == [_INIT]
    folder = take_folder(options.arguments[is_new:])
    if is_new:
        return _write(folder or ".", options)
    item = _read(folder or ".") if options.server is None else read_folder(open_client(options), folder)
    if options.json:
        print_json(item)
    else:
        _print(item)
    return 1 if item["problems"] else 0


def _read(folder: str) -> dict[str, Any]:
    """The item of a folder of this machine, without a server. Raises: CliError"""
    from ..project_file.description import describe
    from ..project_file.read import read_folder

    if not os.path.isdir(folder):
        raise CliError(f"There is no folder {folder}.")
    found = read_folder(folder, _templates())  # a service may depend on one of these
    if found is None:
        raise CliError(f"{os.path.realpath(folder)} has no project file.\nWrite one: {PROGRAM} project {_INIT} {folder}")
    return describe(found)


def _templates() -> dict[str, Template]:
    """The server's templates, except those of its configuration, which it alone knows."""
    from jupyter_core.paths import jupyter_config_path

    from ..services import templates

    return templates.load_all(templates.shipped(), templates.from_directories(jupyter_config_path())[0])[0]


# ---- what is understood ----


def _print(item: dict[str, Any]) -> None:
    files = ", ".join(file["path"] for file in item["files"])
    print(printable(f"{item['folder']}: {files or 'no file that can be read'}\n"))
    _print_lines("Services and ports:", describe_content(item))
    if not (item["services"] or item["ports"]):
        print("No services and no ports.\n")
    _print_lines("Left out:", map(describe_problem, item["notes"]))
    _print_lines("Wrong, and left out:", map(describe_problem, item["problems"]))


def _print_lines(head: str, lines: Iterable[str]) -> None:
    if texts := [printable(f"  {line}") for line in lines]:
        print(head, *texts, "", sep="\n")


# ---- a new file ----


def _write(folder: str, options: Options) -> int:
    from ..project_file.example import print_example

    if not os.path.isdir(folder):
        raise CliError(f"There is no folder {folder}.")
    path = Path(folder, _NAME)
    if os.path.lexists(path):
        raise CliError(f"{path} exists already.\nChange or remove it; what it says: {PROGRAM} project {folder}")
    try:
        programs, reason = list(_running(open_client(options))), ""
    except CliError as error:
        if options.server is not None:
            raise
        programs, reason = [], str(error).splitlines()[0]
    text = print_example(programs, os.path.realpath(folder))
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror or error}.") from None
    services = sum(program.is_service for program in programs)
    ports = sum(not program.name for program in programs)
    content = f"{services} of the services and {ports} of the ports that are there now" if programs else "an example in comments"
    if reason:
        content += f". {reason.rstrip('.')}"
    print_result(options, f"{path} is written, with {content}.", path=str(path), services=services, ports=ports)
    return 0


def _running(client: ApiClient) -> Iterator[RunningProgram]:
    """The services that run, except those of folders, and the other ports of this user that have a page or a name."""
    from ..project_file.example import RunningProgram

    templates, root = (_templates() if client.server.is_local else {}), client.server.root_dir
    ports = {row["port"]: row for row in client.call("GET", "ports")}
    services = [row for row in client.call("GET", "services") if row["state"] in ("up", "unhealthy") and not row.get("agent")]
    for row in services:
        if row["folder"]:  # a project file describes it already, with more than can be seen here
            continue
        template = templates.get(row["template"])
        if template is not None and {each.name for each in template.arguments} != row["arguments"].keys():
            template = None  # the server's configuration replaces it
        paths = {each.name for each in template.arguments if each.kind == "path"} if template is not None else ()
        arguments = {k: os.path.normpath(os.path.join(root, v)) if k in paths and v else v for k, v in row["arguments"].items()}
        yield RunningProgram(
            row["port"] or 0,
            ports.get(row["port"], {}).get("command", ()),
            row["name"],
            protocol=row["scheme"],
            kernel=row.get("kernel") or "",
            template=template,
            arguments=arguments,
        )
    own = {row["port"] for row in services}
    for port, row in ports.items():
        if port not in own and row["mine"] and row["allowed"] and (row["http"] or row["label"]):
            yield RunningProgram(port, row["command"], label=row["label"] or row["title"], protocol=row["scheme"])
