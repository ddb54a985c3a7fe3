"""`jupyter portproxy up` and `down`: the services that the project files of a folder describe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import CliError, Missing, NotFound
from .api_command import add_api_command
from .links import forward_command
from .output import PROGRAM, Commands, Options, parse_name, print_json, printable, quote_command

if TYPE_CHECKING:
    from .api_client import ApiClient

_PAUSE = 0.25  # s between two looks at the services
_APPEARANCES = {
    "open": "opens its page",
    "open_once": "opens its page once",
    "preview": "opens its page in a tab",
    "notify": "notifies",
    "silent": "is listed only",
    "ignore": "is not listed",
}
_FILES_OF_SERVICES = {"portproxy.toml", "Procfile"}
_AUTOSTARTS = {"always": "and whenever this server starts", "ask": "and, after a question, when the folder is opened"}
_ARGUMENTS = (
    "the folder (default: the current one; with a server elsewhere, a path below the folder that it shows), then names of its "
    "services (default: all)"
)
Item = dict[str, Any]


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    text = "Start the services of a folder, once you have allowed what its project files say."
    starting = add_api_command(commands, "up", _up, text, as_json=True)
    starting.add_argument("--yes", action="store_true", help="allow what the project files say without a question")
    starting.add_argument("--no-wait", dest="wait", action="store_false", help="do not wait until the services are ready")
    stopping = add_api_command(commands, "down", _down, "Stop the services of a folder.", as_json=True)
    starting.add_argument(
        "arguments", nargs="*", type=parse_name, metavar="FOLDER | NAME", help=f"{_ARGUMENTS}, with what they depend on"
    )
    text = f"{_ARGUMENTS}, with what depends on them and what only they need"
    stopping.add_argument("arguments", nargs="*", type=parse_name, metavar="FOLDER | NAME", help=text)


def take_folder(arguments: list[str]) -> str:
    """The one folder that a command names; empty if it names none. Raises: CliError: it names several."""
    if len(arguments) > 1:
        raise CliError(f"One folder at a time: {', '.join(arguments)}.")
    return arguments[0] if arguments else ""


def path_on_server(client: ApiClient, folder: str) -> str:
    """A folder as the API takes it: a server of this machine gets the whole path, one elsewhere a path below its own folder."""
    return os.path.abspath(os.path.expanduser(folder)) if client.server.is_local else folder


def _find_folder(client: ApiClient, arguments: list[str]) -> tuple[Item, list[str]]:
    """The folder and the names of services that the arguments of a command mean; no names for all services.

    The first argument is a name if the current folder has a service of that name, or if no such folder has a project file.

    Raises:
        Missing: there is no project file.
    """
    first = arguments[0] if arguments else ""
    is_path = not first or "/" in first or first.startswith((".", "~"))
    current = None
    if not is_path:
        with suppress(Missing):
            current = read_folder(client, "")
    if current is not None and any(service["name"] == first for service in current["services"]):
        return current, arguments
    try:
        return read_folder(client, first), arguments[1:]
    except Missing:
        if current is None:
            raise
        return current, arguments


def read_folder(client: ApiClient, folder: str) -> Item:
    """A folder of the server's machine. Raises: Missing"""
    item: Item = client.call("GET", f"folders?path={quote(path_on_server(client, folder), safe='')}")
    return item


# ---- up ----


def _up(client: ApiClient, options: Options) -> int:
    folder, names = _find_folder(client, options.arguments)
    available = [service["name"] for service in folder["services"]]
    for name in names:
        if name not in available:
            raise CliError(NotFound.service_of_folder(name, folder["name"], available).message)
    for problem in folder["problems"]:
        print(printable(describe_problem(problem)), file=sys.stderr)
    is_whole = bool(names) or not any(map(_is_of_service, folder["problems"]))
    if not (folder["services"] or folder["ports"]):
        return _answer_empty(folder, options, is_whole=is_whole)
    if folder["consent"] != "given":
        _ask(folder, options)
        client.call("PUT", "folders/consent", {"path": folder["folder"], "digest": folder["digest"]})
    were_up = {service["service"] for service in folder["services"] if service["state"] == "up"}
    begin = time.monotonic()
    body = {"path": folder["folder"], "digest": folder["digest"], "services": names or None}
    folder = client.call("POST", "folders/up", body, no_timeout=True)
    failures = folder["failures"]
    for failure in failures:
        print(printable(f"{failure['name']} is not started: {failure['message']}"), file=sys.stderr)
    started = _with_needs(names or available, folder["services"]) - {failure["name"] for failure in failures}
    shown = [each["service"] for each in folder["services"] if each["name"] in started and each["service"] is not None]
    try:
        services = _wait(client, shown, were_up, begin, options)
    except KeyboardInterrupt:
        print(f"\nWhat has started goes on. Stop it: {PROGRAM} down {quote_command([folder['folder']])}", file=sys.stderr)
        return 130
    if options.json:
        print_json({"folder": read_folder(client, folder["folder"]), "services": services, "failures": failures})
    elif services:
        _print_links(client, services)
    elif not failures:
        print("It has no services to start." + (" Its rules for ports count now." if folder["ports"] else ""))
    failed = [service for service in services if service["state"] == "failed"]
    if failed and not options.json:
        raise CliError("\n".join(line for service in failed for line in _explain(service)))
    return 1 if failed or failures or not is_whole else 0


def _is_of_service(problem: Item) -> bool:
    """True if a service may be left out for this problem."""
    return problem["file"] in _FILES_OF_SERVICES and (not problem["key"] or problem["key"].partition(".")[0] == "services")


def _answer_empty(folder: Item, options: Options, *, is_whole: bool) -> int:
    """The end of `up` where the files say nothing: there is nothing to allow. Raises: CliError: the files are gone."""
    if not folder["files"]:
        stop = f"Stop what runs: {PROGRAM} down {quote_command([folder['folder']])}"
        raise CliError(printable(f"{folder['folder']} has no project file any more.\n{stop}"))
    if options.json:
        print_json({"folder": folder, "services": [], "failures": []})
    elif is_whole:
        files = ", ".join(source["path"] for source in folder["files"])
        print(printable(f"{folder['folder']} ({files}) has no services to start, and no rules for ports."))
    else:
        print(printable(f"{folder['folder']}: nothing is started."), file=sys.stderr)
    return 0 if is_whole else 1


def _with_needs(names: list[str], services: list[Item]) -> set[str]:
    """The names, and those of the services of the folder that these depend on."""
    needs = {service["name"]: service["depends_on"] for service in services}
    found, open_names = set(), list(names)
    while open_names:
        if (name := open_names.pop()) in needs and name not in found:
            found.add(name)
            open_names += needs[name]
    return found


def _ask(folder: Item, options: Options) -> None:
    """Show what the files say, and take the consent. Raises: CliError: there is none."""
    is_asked = not options.yes
    count = len(folder["services"])
    what = f"{count} service{'s' if count != 1 else ''} to start" if count else "rules for ports"
    name, has_changed = folder["folder"], folder["consent"] == "changed"
    if is_asked and (options.json or not sys.stdin.isatty()):
        why = (
            "has changed since you allowed it: allow it again"
            if has_changed
            else f"has {what}, which you have not allowed: allow it"
        )
        raise CliError(printable(f"{name} {why} at a terminal, or with --yes."))
    files = ", ".join(source["path"] for source in folder["files"])
    start = "has changed since you allowed it. It has" if has_changed else "has"
    output = sys.stderr if options.json else sys.stdout
    print(printable(f"{name} ({files}) {start} {what}:\n"), file=output)
    for line in describe_content(folder):
        print(printable(f"  {line}"), file=output)
    print(file=output)
    if is_asked and not _agrees("Allow exactly this? [y/N] "):
        raise CliError("Nothing was allowed, and nothing was started.")


def _agrees(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def describe_content(folder: Item) -> Iterator[str]:
    """What the files say of services and ports, in whole: nothing is cut, and what cannot be printed is shown as its escape."""
    width = max((len(service["name"]) for service in folder["services"]), default=0)
    for service in folder["services"]:
        variables = [f"{name}={value}" for name, value in service["environment"].items()]
        yield f"{service['name']:<{width}}  {quote_command([*variables, *service['command']])}"
        details = {
            "in": [service["cwd"]],
            "with the variables of": [service["environment_file"]],
            "with the kernel": [service["kernel"]],
            "after": service["depends_on"],
        }
        texts = [f"{word} {quote_command(values)}" for word, values in details.items() if any(values)]
        if service["autostart"] in _AUTOSTARTS:
            texts.append(_AUTOSTARTS[service["autostart"]])
        if service["restart"] == "always" and service["autostart"] != "always":
            texts.append("and again after a restart of the server")
        texts += _describe_activity(service)
        if texts:
            yield f"{'':<{width}}  {', '.join(texts)}"
    for rule in folder["ports"]:
        yield _describe_rule(rule)


def _describe_activity(service: Item) -> Iterator[str]:
    """How a service keeps the server from being ended as idle, where that is not the default."""
    if service["activity"] != "all":
        yield f"with the activity {service['activity']!r}"
    if service["activity_exclude"]:
        yield f"without activity at {quote_command(service['activity_exclude'])}"
    if service["running_is_activity"]:
        yield "and the server is active while it runs"


def _describe_rule(rule: Item) -> str:
    ports = rule["ports"]
    match = (
        f"a port of processes like {quote_command([rule['process']])}"
        if ports is None
        else f"each port of {ports}"
        if "-" in ports
        else f"port {ports}"
    )
    scheme, host, activity = rule["scheme"], rule["keep_host"], rule["activity"]
    texts = [
        f"is called {rule['label']!r}" if rule["label"] else "",
        _APPEARANCES.get(rule["on_appear"], ""),
        f"speaks {scheme}" if scheme else "",
        "" if host is None else "gets the browser's Host" if host else "gets its own address as Host",
        f"has the activity {activity!r}" if activity else "",
    ]
    return f"{match} {', '.join(filter(None, texts)) or 'is left as it is'}"


def describe_problem(problem: Item) -> str:
    """A line for a problem, or for a note, which has neither key nor hint."""
    line = f":{problem['line']}" if problem["line"] is not None else ""
    key = f"{problem['key']}: " if problem.get("key") else ""
    return f"{problem['file']}{line}: {key}{problem['message']} {problem.get('hint', '')}".rstrip()


# ---- progress ----


def _wait(client: ApiClient, names: list[str], were_up: set[str], begin: float, options: Options) -> list[Item]:
    """Wait until no service is starting, and print what happens; returns the services.

    Args:
        were_up: those that ran before.
    """
    shown: dict[str, tuple[str, str]] = {}
    while True:
        listed = {service["name"]: service for service in client.call("GET", "services")}
        services = [listed[name] for name in names if name in listed]
        in_order = sorted(services, key=lambda service: 0 if service["name"] in were_up else service["since"])  # of their changes
        for service in in_order if not options.json else ():
            state = service["state"], service["error"]
            if state != shown.get(service["name"]):
                is_known = service["name"] in were_up and service["name"] not in shown  # not stopped and started again
                shown[service["name"]] = state
                print(printable(_describe_progress(service, None if is_known else time.monotonic() - begin)), flush=True)
        if not options.wait or all(service["state"] != "starting" for service in services):
            return services
        time.sleep(_PAUSE)


def _describe_progress(service: Item, seconds: float | None) -> str:
    """A line. `seconds`: since the command began; None for a service that was up before."""
    name, state, error = service["name"], service["state"], service["error"]
    if state == "up":
        return f"{name} is up already." if seconds is None else f"{name} is ready after {seconds:.1f} s."
    return f"{name} is {state}. {error}".rstrip()


def _explain(service: Item) -> list[str]:
    return [f"{service['name']} failed: {service['error']}", *service["last_lines"]]


def _print_links(client: ApiClient, services: list[Item]) -> None:
    width = max(len(service["name"]) for service in services)
    for service in services:
        if service["state"] not in ("up", "starting") or service["scheme"] == "none":
            continue
        url = service["url"]
        link = forward_command(service["name"]) if url is None else client.links(service["name"], url)[0]
        print(f"{service['name']:<{width}}  {link}")


# ---- down ----


def _down(client: ApiClient, options: Options) -> None:
    folder, names = _find_folder(client, options.arguments)
    before = _names_of_running(client, folder)
    folder = client.call("POST", "folders/down", {"path": folder["folder"], "services": names or None}, no_timeout=True)
    stopped = sorted(before - _names_of_running(client, folder))
    if options.json:
        return print_json({"folder": folder, "stopped": stopped})
    what = "this" if names else "this folder"
    print(f"Stopped: {', '.join(stopped)}." if stopped else f"Nothing of {what} was running.")


def _names_of_running(client: ApiClient, folder: Item) -> set[str]:
    services = [service for service in client.call("GET", "services") if service["folder"] == folder["folder"]]
    return {service["name"] for service in services if service["state"] not in ("down", "failed")}
