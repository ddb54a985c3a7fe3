"""`jupyter portproxy list` and `templates`: tables of services, reservations, ports and templates."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from .api_command import add_api_command
from .links import forward_command
from .output import Commands, Options, print_json, print_table

if TYPE_CHECKING:
    from .api_client import ApiClient


def add_commands(commands: Commands) -> None:
    """Add the commands to the command line; `options.run(options)` executes one."""
    listing = add_api_command(commands, "list", print_lists, "List services and ports.", as_json=True)
    listing.add_argument("--all", action="store_true", help="also list ports that cannot be reached, with the reason")
    text = "List templates with the defaults of their arguments."
    templates = add_api_command(commands, "templates", _templates, text, as_json=True)
    templates.add_argument("--kernel", metavar="NAME", help="look for their programs in the environment of this kernel")


def print_lists(client: ApiClient, options: Options) -> None:
    """Print services, reservations and ports. Options: `json`, `all` (also ports that cannot be reached)."""
    services, ports, reservations = (client.call("GET", path) for path in ("services", "ports", "reservations"))
    if options.json:
        return print_json({"services": services, "ports": ports, "reservations": reservations})
    has_origins = client.has_origins()
    head = "URL (AND THE PATH-BASED ONE)" if has_origins else "URL"

    def urls(target: str, path: str | None, scheme: str = "") -> str | None:
        if path is None:  # it speaks no HTTP
            return None if scheme == "none" else forward_command(target)
        return f"{client.enter_url(target, path)} ({path})" if has_origins else path

    states = {s["name"]: f"{s['state']}, no longer in the project file" if s.get("removed") else s["state"] for s in services}
    rows = {
        s["name"]: [s["name"], states[s["name"]], s["port"], s["runs"][-40:], urls(s["name"], s["url"], s["scheme"])]
        for s in services
    }
    print_table(["SERVICE", "STATE", "PORT", "RUNS", head], [rows[s["name"]] for s in services if not s.get("agent")])
    for agent in client.call("GET", "attached") if any(s.get("agent") for s in services) else ():
        own = [s["name"] for s in services if s["agent"] == agent["name"]]
        print_table([f"{agent['name']} on {agent['host']}", "STATE", "PORT", "RUNS", head], [rows[name] for name in own])
    if reservations:
        print_table(["RESERVED", "PORT", head], [[r["name"], r["port"], urls(r["name"], r["url"])] for r in reservations])
    others = [port for port in ports if port["port"] not in {service["port"] for service in services}]
    shown = [port for port in others if options.all or port["allowed"]]
    links = [port["reason"] or urls(str(port["port"]), None if port["tcp"] else port["url"]) for port in shown]
    print_table(
        ["PORT", "PROCESS", "OWNER", "TITLE", f"{head}, OR WHY NOT" if options.all else head],
        [[p["port"], p["process"], p["owner"], p["label"] or p["title"], link] for p, link in zip(shown, links, strict=True)],
    )
    if len(shown) < len(others):
        print(f"Not shown, as they cannot be reached: {len(others) - len(shown)}. --all lists them with the reason.")


def _templates(client: ApiClient, options: Options) -> None:
    templates = client.call("GET", f"templates?kernel={quote(options.kernel, safe='')}" if options.kernel else "templates")
    if options.json:
        return print_json(templates)
    arguments = [" ".join(f"{a['name']}={a['default']}" for a in t["arguments"]) for t in templates]
    rows = [[t["name"], a, t["title"] if t["available"] else t["hint"]] for t, a in zip(templates, arguments, strict=True)]
    print_table(["TEMPLATE", "ARGUMENTS", "TITLE, OR HOW TO INSTALL IT"], rows)
