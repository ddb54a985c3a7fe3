"""The page at `proxy/`: projects, services and ports without JupyterLab. Plain forms, no script.

It shows and does the same as the API. A user who may see projects only (`ProjectsOnly`) gets the page with these alone. The
template escapes every text; every URL on the page comes from the API or is the page's own.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import Any
from urllib.parse import quote

from jupyter_server.base.handlers import JupyterHandler
from tornado.web import HTTPError, authenticated

from ..errors import BadInput, GatewayError, Internal, RegistryAway
from ..gateway.policy import Policy
from ..handlers.diagnosis_link import DiagnosisLink, find_lab, link_diagnosis
from ..handlers.error_page import PAGES, print_page
from ..handlers.jupyter_request import ACTION, PROJECTS_RESOURCE, RESOURCE, is_permitted
from ..handlers.origin_check import client_schemes
from ..protocol.urls import build_enter_url, is_below, parse_enter_url, parse_port
from ..services.manager import ServiceManager
from ..services.user_file import in_thread
from .listing import Listing
from .port_list import Item
from .project_list import ProjectList

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'self'"
_ARGUMENT = "argument."
_TARGET = re.compile(r"[\x21-\x7e]{1,8000}\Z")
_TRANSIENT = ("starting", "stopping")  # states in which the page reloads by itself
_MAX_CONTENT = 1 << 20  # bytes of a form
_UNITS = (("d", 86400), ("h", 3600), ("min", 60))  # in s
_KEEP_HOST = {"": None, "true": True, "false": False}  # by the value of a form's field
ON_APPEAR_TEXTS = {
    "open": "opens in a tab", "open_once": "opens in a tab once", "preview": "opens beside the current tab",
    "notify": "shows a notification", "silent": "shows no notification", "ignore": "is ignored",
}  # fmt: skip
APPEARANCE_CHOICES = {  # the choices of a form, in the panel's order and words
    "": "As other ports",
    "notify": "Show a notification",
    "open": "Open it in a tab, each time",
    "open_once": "Open it in a tab, once in a browser session",
    "preview": "Show it beside the current tab",
    "silent": "List it without a notification",
    "ignore": "Ignore it: neither listed nor announced",
}


class IndexPageHandler(JupyterHandler):
    """`GET` lists; `POST` performs a form's action and redirects to the list, or to `next`.

    Fields: action, template, name, argument.NAME, port, ports, process, label, on_appear, scheme, keep_host, rule, next.
    `?ignored=1` also lists the ports that are ignored by a rule for ports.
    """

    auth_resource = RESOURCE

    def initialize(self, listing: Listing, services: ServiceManager, policy: Policy, project_list: ProjectList | None) -> None:
        self.listing, self.services, self.policy, self.project_list = listing, services, policy, project_list
        self.address = f"{self.base_url}proxy/"
        self.shows_projects = project_list is not None  # see HubIdentityProvider

    @property
    def content_security_policy(self) -> str:
        return _POLICY

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")

    @authenticated
    async def get(self) -> None:
        await self._require_view()
        if self.request.path.endswith("/"):
            await self._show()
        else:
            query = self.request.query
            self.redirect(f"{self.address}{'?' + query if query else ''}", status=308)

    @authenticated
    async def post(self) -> None:
        await self._require_view()  # an error is shown above the list
        if not self.token_authenticated and not self.check_origin():
            raise HTTPError(404)  # as newer jupyter_servers do; older ones check the form's XSRF token only
        try:
            await self._perform()
        except GatewayError as error:
            await self._show(error)
        else:
            self._lead_to(self._next_uri())

    def _lead_to(self, uri: str) -> None:
        """End the response to a form so that reloading the page does not repeat the action."""
        if parse_enter_url(uri, self.base_url) is None:
            self.redirect(uri, status=303)
            return
        # Browsers apply `form-action` of the page with the form to redirects: one to an isolated origin would be stopped.
        self.set_header("Refresh", f"0; url={uri}")
        self.finish()

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Accept the form of an error page: browsers send `Origin: null` with it, because that page has no referrer.

        Browsers say besides that it is of the same origin, except over plain http from another machine: there Jupyter's check of
        the form's XSRF token decides.
        """
        headers = self.request.headers
        checks_token = not self.settings.get("disable_check_xsrf", False)
        is_form = headers.get("Origin") == "null" and headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"
        return (is_form and checks_token) or bool(super().check_origin(origin_to_satisfy_tornado))

    async def _require_view(self) -> None:
        """Raise HTTPError for a user who may see neither the services nor projects."""
        has_projects_only = getattr(self.identity_provider, "has_projects_only", False)
        self.sees_services = not has_projects_only and await is_permitted(self, "read")
        self.sees_projects = self.project_list is not None and await is_permitted(self, "read", PROJECTS_RESOURCE)
        if not self.sees_services and not self.sees_projects:
            raise HTTPError(403)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """An error page without the styles and images of Jupyter's own, which this page's Content-Security-Policy forbids."""
        cause = kwargs.get("exc_info", (None, None, None))[1]
        shown: GatewayError = Internal()
        if isinstance(cause, HTTPError) and status_code < 500:
            hint = f"Reload {self.address} and try again. It needs the permissions {RESOURCE}:read and {RESOURCE}:{ACTION}."
            shown = GatewayError(cause.log_message or self._reason, hint if status_code == 403 else "")
            shown.status, shown.title = status_code, self._reason
        self.finish(print_page(shown))

    async def _perform(self) -> None:
        """Perform the action of the form. Raises: GatewayError, HTTPError"""
        size = len(self.request.body)
        if size > _MAX_CONTENT:
            self.request.body_arguments.clear()
            raise BadInput(f"The form has {size} bytes.", f"Send at most {_MAX_CONTENT} bytes.")
        action, key = self.get_body_argument("action", ""), self.get_body_argument("project", "")
        is_of_project = bool(key) and self.project_list is not None
        if is_of_project:
            may = self.sees_projects and await is_permitted(self, "write", PROJECTS_RESOURCE)
        else:
            may = self.sees_services and await is_permitted(self, ACTION)
        if not may:
            raise HTTPError(403)
        await (self._change_project(action, key) if is_of_project else self._change_service(action))

    async def _change_service(self, action: str) -> None:
        name, services = self.get_body_argument("name", ""), self.services
        actions = {"stop": services.stop, "restart": services.restart, "delete": services.delete}
        if action == "start":
            template = self.get_body_argument("template", "")
            await services.wait_stopped(name, template)
            services.start(template, name or None, self._arguments())
        elif action in actions:
            await actions[action](name)
        elif action in ("allow", "disallow"):
            port = parse_port(self.get_body_argument("port", ""))
            change = self.policy.allow_for_user if action == "allow" else self.policy.disallow_for_user
            await change(port)
            self.listing.probe_again(port)
        elif action in ("set-rule", "add-port", "remove-rule"):
            await self._change_rule(action)
            self.listing.scan_again()
        else:
            raise _no_such_action()

    async def _change_rule(self, action: str) -> None:
        """Raises: GatewayError"""
        rules = self.policy.port_rules
        if action == "remove-rule":
            await in_thread(rules.remove, self.get_body_argument("rule", ""))
            return
        ports, keep_host = self.get_body_argument("ports", ""), self.get_body_argument("keep_host", "")
        process = self.get_body_argument("process", "") or None
        values = {
            "ports": None if process and not ports else ports,
            "process": process,
            "label": self.get_body_argument("label", ""),
            "scheme": self.get_body_argument("scheme", "") or None,
            "keep_host": _KEEP_HOST.get(keep_host, keep_host),
        }
        if "on_appear" in self.request.body_arguments:
            values["on_appear"] = self.get_body_argument("on_appear") or None
        if action == "add-port":  # its fields may be empty, and the rule's row may not show
            values = {key: value for key, value in values.items() if value not in ("", None) or key == "ports"} | {"pinned": True}
        await in_thread(rules.change, values)

    async def _change_project(self, action: str, key: str) -> None:
        assert self.project_list is not None
        directory, username, name = self.project_list.directory, self.current_user.username, self.get_body_argument("name", "")
        ports = _split(self.get_body_argument("ports", ""))
        if action == "set-member":
            await directory.set_member(username, key, name, self.get_body_argument("role", ""), ports)
        elif action == "remove-member":
            await directory.remove_member(username, key, name)
        elif action == "set-ports":
            await directory.set_ports(username, key, ports)
        elif action == "reserve":
            await directory.reserve(username, key, name)
        elif action == "release":
            await directory.release(username, key, name)
        else:
            raise _no_such_action()

    def _next_uri(self) -> str:
        """The URL to which the form leads back: one of the gateway's, as the error page of a port has it, or the list.

        The fragment of a project's form unfolds the forms beside it, which show the change.
        """
        if key := self.get_body_argument("project", ""):
            return f"{self.address}#project-{quote(key, safe='')}"
        uri = self.get_body_argument("next", "", strip=False)
        return uri if is_below(uri, self.address.rstrip("/")) and _TARGET.match(uri) else self.address

    def _isolated(self, name: str, url: str) -> str:
        """The URL that leads to the isolated origin of a port or service; empty if it has none."""
        if self.listing.origins(self.request)["probe"] is None:
            return ""
        entrance = build_enter_url(url, name, self.base_url)
        return entrance if entrance != url else ""

    def _forward_command(self, target: str) -> str:
        """The command by which programs of another computer reach a port or service."""
        request = self.request
        scheme = "https" if "https" in client_schemes(request) else request.protocol
        server = shlex.quote(f"{scheme}://{request.host}{self.base_url}")
        return f"jupyter portproxy forward {target} --server {server}"

    def _link_diagnosis(self, target: str) -> DiagnosisLink | None:
        lab = find_lab(self.settings)
        return link_diagnosis(self.base_url + lab if lab else "", target)

    def _arguments(self) -> dict[str, str]:
        """The form's arguments; an empty field stands for the default."""
        given = {key: self.get_body_argument(key) for key in self.request.body_arguments if key.startswith(_ARGUMENT)}
        return {key.removeprefix(_ARGUMENT): value for key, value in given.items() if value}

    async def _show(self, error: GatewayError | None = None) -> None:
        if error is not None:
            self.set_status(error.status)
            if error.retry_after is not None:
                self.set_header("Retry-After", str(error.retry_after))
        sees_services = self.sees_services
        ports = _printable(await self._ports() if sees_services else [])
        rules = self.listing.port_rules() if sees_services else None
        ignored = {port["port"] for port in ports if self.policy.attributes_of(port["port"]).on_appear == "ignore"}
        shows_ignored = error is not None or self.get_query_argument("ignored", "") == "1"
        shown = [port for port in ports if shows_ignored or port["port"] not in ignored]
        services = _printable(self.listing.services() if sees_services else [])
        projects, problem = await self._projects()
        page = PAGES.load("api/index_page.html").generate(
            projects=projects,
            problem=problem,
            sees_services=sees_services,
            services=services,
            alive={service["name"] for service in services if service["state"] not in ("down", "failed")},
            reservations=self.listing.reservations() if sees_services else [],
            user_ports=self.listing.user_ports() if sees_services else [],
            ports=sorted(shown, key=lambda port: (not port["allowed"], port["port"])),
            ignored=len(ignored),
            shows_ignored=shows_ignored,
            rules={rule["ports"]: rule for rule in rules} if rules is not None else None,
            other_rules=[rule for rule in rules or () if rule["ports"] not in {str(port["port"]) for port in shown}],
            print_rule=_print_rule,
            to_form=_to_form,
            appearances=APPEARANCE_CHOICES,
            templates=_printable(await self.listing.templates()),
            may_act=sees_services and await is_permitted(self, ACTION),
            may_change=self.sees_projects and await is_permitted(self, "write", PROJECTS_RESOURCE),
            reload=error is None and any(service["state"] in _TRANSIENT for service in services),
            error=error,
            form={key: self.get_body_argument(key) for key in self.request.body_arguments},
            xsrf=self.xsrf_form_html(),
            address=self.address,
            isolated=self._isolated,
            forward_command=self._forward_command,
            diagnosis=self._link_diagnosis,
            span=lambda seconds: _span(abs(time.time() - seconds)),
        )
        self.finish(page)

    async def _ports(self) -> list[Item]:
        """The ports without a service, and pinned ones on which no program listens."""
        listed = await self.listing.ports()
        pinned = {int(rule["ports"]) for rule in self.listing.port_rules() or () if rule["pinned"]}
        unused = [{**self.listing.unused_port(port), "unused": True} for port in pinned - {port["port"] for port in listed}]
        return [port for port in listed if not port["service"]] + unused

    async def _projects(self) -> tuple[list[Item] | None, GatewayError | None]:
        """The user's projects, None for no such section; and why they are missing."""
        if self.project_list is None or not self.sees_projects:
            return None, None
        try:
            return _printable(await self.project_list.read(self.current_user.username)), None
        except RegistryAway as error:
            return [], error


def _no_such_action() -> BadInput:
    return BadInput("This page has no such action.", "Use its buttons.")


def _split(ports: str) -> list[object] | None:
    """The ports of a text field; None if it is empty."""
    return [item.strip() for item in ports.split(",")] if ports.strip() else None


def _to_form(rule: Item | None) -> dict[str, str]:
    """The values of the form's fields for a rule; None for a new one."""
    if rule is None:
        return {}
    keep_host = next(text for text, value in _KEEP_HOST.items() if value is rule["keep_host"])
    choices = {key: rule[key] or "" for key in ("label", "on_appear", "scheme")}
    return {**choices, "keep_host": keep_host}


def _print_rule(rule: Item) -> str:
    """The attributes that a rule sets, as a text; empty if it sets none."""
    host = {None: "", True: "keeps the browser's Host", False: "does not keep the browser's Host"}[rule["keep_host"]]
    activity = f"activity: {rule['activity']}" if rule["activity"] else ""
    attributes = [rule["label"], ON_APPEAR_TEXTS.get(rule["on_appear"], ""), (rule["scheme"] or "").upper(), host, activity]
    return ", ".join(filter(None, attributes))


def _printable(items: list[Item]) -> list[Item]:
    """The same without lone surrogates, which names of processes and folders may contain but UTF-8 cannot encode."""
    printed: list[Item] = json.loads(json.dumps(items, ensure_ascii=False).encode("utf-8", "replace"))
    return printed


def _span(seconds: float) -> str:
    """A duration in its largest unit: `5 s`, `3 min`, `2 h`, `4 d`."""
    return next((f"{seconds // size:.0f} {unit}" for unit, size in _UNITS if seconds >= size), f"{seconds:.0f} s")
