"""The errors that the gateway answers with, and the one that a command ends with.

A `GatewayError` has a status, a stable code, fixed sentences for people and a documentation link. Messages contain nothing
internal (paths, credentials, exception texts). What they quote (a port, a host) comes from the request, with everything but plain
URL characters percent-encoded; names of folders and services also keep spaces and the letters of all languages.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from reprlib import Repr
from typing import Any
from urllib.parse import quote

# Who reports an error of projects, for messages: one of a chain's gateways, or the server that has no chain.
HUB, PROJECT_HOST, SERVER = "hub", "project host", "server"
_QUOTE_LIMIT = 200  # characters of the request that a message quotes


class CliError(Exception):
    """A command failed: its text goes to standard error, and the exit code is 1."""


class ServerUnavailable(CliError):
    """The server that a command calls does not answer, or not yet; trying again may help."""


class Missing(CliError):
    """The server that a command calls has no such folder, service or port."""


def documentation_of(anchor: str) -> str:
    """The URL of a heading of the page on troubleshooting; empty if the package's metadata names no documentation."""
    address = _documentation_address()
    return f"{address}troubleshooting/#{anchor}" if address else ""


class GatewayError(Exception):
    """A request or tunnel that the gateway answers itself. A class with a fixed sentence has it as its `message`.

    Args:
        message: one sentence: what was wrong, with the value.
        hint: one sentence: what to do about it.
    """

    status = 500
    code = "internal"
    title = "Internal error"
    message: str = ""
    hint: str = ""
    retry_after: int | None = None  # s after which a retry may help; None if it will not
    is_diagnosable = False  # the page doctor may find the cause: the service was admitted, and has failed
    details: tuple[str, ...] = ()  # the last lines of a service's log
    start: str = ""  # the path to which a POST starts the project; empty if that is not possible
    hop: str = ""  # the gateway of a chain that reports the error; empty without a chain
    is_logged = True  # the response has a line in the log

    def __init__(self, message: str = "", hint: str = "") -> None:
        super().__init__(message or self.message)
        self.message = message or self.message
        self.hint = hint or self.hint

    def as_json(self) -> dict[str, Any]:
        """The body of an error response (schema `Error` of docs/openapi.yaml)."""
        body = {"code": self.code, "message": self.message, "hint": self.hint}
        return body | {key: value for key in ("details", "start") if (value := getattr(self, key))}

    @property
    def documentation(self) -> str:
        """The URL of this code's heading in the documentation; empty if the package's metadata names no documentation."""
        return documentation_of(self.code)


class BadRoute(GatewayError):
    status, code, title = 400, "bad_route", "Bad request"

    @classmethod
    def port(cls, text: str) -> BadRoute:
        return cls(f"Invalid port parameter: {_quoted(text)}", "A port is a whole number from 1 to 65535, for example 8050.")

    @classmethod
    def host(cls, text: str) -> BadRoute:
        return cls(f"Invalid host parameter: {_quoted(text)}", "Write HOST:PORT, for example localhost:8050 or [::1]:8050.")

    @classmethod
    def without_tcp_target(cls) -> BadRoute:
        """The response to a program that checks its login regularly (`check_login`): not worth a line in the log each time."""
        error = cls("An address of raw TCP ends with the port or the service's name.", "For example: proxy/tcp/5432.")
        error.is_logged = False
        return error


class BadFraming(GatewayError):
    status, code, title = 400, "bad_request", "Bad request"


class Unauthenticated(GatewayError):
    """The request has no login (403; a page navigation is redirected to the login page instead)."""

    status, code, title = 403, "unauthenticated", "Log in first"
    message = "This request carries no valid login."
    hint = "Log in to Jupyter, or send an API token."


class BadAttachToken(Unauthenticated):
    """An agent without a valid attach token (403)."""

    code, title = "bad_attach_token", "The attach token is not valid"
    message = "The attach token is not valid: it was revoked, has ended, or belongs to another user."
    hint = "Make one where you use Jupyter: jupyter portproxy attach-token --for 8h"


class NotEntered(Unauthenticated):
    """A request to an isolated origin without a session there (403; a page navigation is redirected to Jupyter instead)."""

    code, title = "not_entered", "Open this from Jupyter"
    message = "You have not come here from Jupyter, or your login there has ended."
    hint = "Open the service from Jupyter. Programs use its address below proxy/port/."


class LoginUnavailable(GatewayError):
    status, code, title = 503, "login_unavailable", "The login could not be checked"
    message = "Your login could not be checked just now."
    hint = "Try again in a moment."
    retry_after = 5


class NothingThere(GatewayError):
    status, code, title = 404, "nothing_there", "Nothing there"
    message = "There is nothing at this address."
    hint = "A WebSocket of a service must be below the service's own prefix, or the service opened at its isolated origin."


class Internal(GatewayError):
    message = "Something went wrong inside the gateway."
    hint = "The server's log says more."


class Forbidden(GatewayError):
    status, code, title = 403, "forbidden", "Not allowed"
    allowable_port: int | None = None  # the port that it refuses, if the user of this server may allow it


class ForwardedPort(Forbidden):
    """A rule of this machine's packet filter (DNAT) forwards the port: no process listens on it here (403)."""

    code = "forwarded_port"
    hint = (
        "Container engines make such rules when they publish a port. The administrator can allow forwarded ports, and those "
        "of all users of this machine: c.PortProxy.allow_other_users = True."
    )

    def __init__(self, port: int) -> None:
        rule = "a rule of this machine's packet filter (DNAT)"
        super().__init__(f"Port {port} is forwarded by {rule}, so the owner of the service is unknown.")


class TokenOnly(Forbidden):
    """A handshake for raw TCP without a token in its Authorization field, or by a web page (403)."""

    code, title = "token_only", "Raw TCP needs a token"

    @classmethod
    def page(cls) -> TokenOnly:
        return cls("Raw TCP is not for web pages: the request has the field Origin.", "Use a program: jupyter portproxy forward.")

    @classmethod
    def missing(cls) -> TokenOnly:
        return cls(
            "Raw TCP needs a token in the field Authorization: cookies, tokens in the URL and other logins do not count.",
            "Send Authorization: token TOKEN.",
        )

    @classmethod
    def unavailable(cls) -> TokenOnly:
        return cls(
            "This server has no token, so that it serves no raw TCP.",
            "The administrator can set one: c.IdentityProvider.token, or the variable JUPYTER_TOKEN.",
        )


class JupyterPort(Forbidden):
    """Raw TCP to a port of the Jupyter server or of one of its kernels (403)."""

    code = "jupyter_port"
    hint = "Raw TCP does not reach them. Name the port of your own program."

    def __init__(self, port: int) -> None:
        super().__init__(f"Port {port} is one of the Jupyter server or its kernels.")


class NotEnteredFrame(Forbidden):
    """A navigation of a frame at an isolated origin without a session there (403). JupyterLab's tab then enters again."""

    code, title = "frame_not_entered", NotEntered.title
    message, hint = NotEntered.message, "Open the service from Jupyter."


class NotFramed(Forbidden):
    """A navigation of a frame to a page that forbids framing (403)."""

    code, title = "not_framed", "Open this in a browser tab"
    is_diagnosable = True
    message = "This page cannot be shown in a frame: its X-Frame-Options or frame-ancestors forbids it."
    hint = "Open it in a browser tab."


class NothingAttaches(Forbidden):
    """An agent, or a command about agents, at a server that several people use (403)."""

    code, title = "nothing_attaches", "Nothing can be attached here"
    message = "Nothing can be attached to this server, as several people use it."
    hint = "Attach to a server of your own."


class NoProjectFiles(Forbidden):
    """A request about folders to a server that reads no project files (403)."""

    code, title = "no_project_files", "Project files are not read here"
    message = "This server reads no project files: several people use it, or c.PortProxy.project_files is off."
    hint = "Start services from its templates."


class NotReversed(Forbidden):
    """`forward --reverse` to a server that does not listen for others (403)."""

    code, title = "not_reversed", "Ports cannot be forwarded to this server"
    message = "Ports of other machines cannot be forwarded to this server."
    hint = "The administrator can allow it on a server of one person: c.PortProxy.reverse_forwarding = True."


class NotTheHub(Forbidden):
    """A request to a project host that does not come from its hub (403)."""

    code = "not_the_hub"
    message = "This address is not for browsers."
    hint = "Open the project through the hub."


class MethodRefused(GatewayError):
    """CONNECT and TRACE are not served (405; RFC 9110 9.3.6 and 9.3.8)."""

    status, code, title = 405, "method_refused", "Method not allowed"


class RawTcp(GatewayError):
    """An HTTP request for what speaks no HTTP (400). `target`: the port or service."""

    status, code, title = 400, "raw_tcp", "Not a web page"

    def __init__(self, target: str, what: str) -> None:
        name = "/".join(map(_quoted, target.split("/")))  # in a project: KEY/NAME
        super().__init__(what, f"Reach it from your own computer: jupyter portproxy forward {name}")

    @classmethod
    def address(cls, target: str) -> RawTcp:
        return cls(target, "This address carries raw TCP for programs, so that it has no page.")

    @classmethod
    def service(cls, name: str) -> RawTcp:
        return cls(name, f"The service '{_quoted(name)}' speaks no HTTP, so that it has no page.")


class BadUpgrade(GatewayError):
    """The upgrade request lacks a field that RFC 6455 4.2.1 requires (400)."""

    status, code, title = 400, "bad_upgrade", "Bad WebSocket request"


class Unreachable(GatewayError):
    status, code, title = 502, "unreachable", "The service does not answer"
    is_diagnosable = True
    retry_after = 2

    @classmethod
    def port(cls, port: int, *, is_http: bool = True) -> Unreachable:
        example = f" Try: python3 -m http.server {port}" if is_http else ""
        return cls(f"Failed to connect to service on port {port}.", f"Is the service running?{example}")

    @classmethod
    def host(cls, authority: str) -> Unreachable:
        return cls(f"Failed to connect to {authority}.", "Is the service running there?")


class BadUpstream(GatewayError):
    status, code, title = 502, "bad_upstream", "The service sent no valid response"
    is_diagnosable = True
    hint = (
        "Look at the service's own log. Does it speak plain HTTP on this port? "
        "If it speaks https, make a rule for the port, or open proxy/https/N/. If it speaks no HTTP, programs reach it: "
        "jupyter portproxy forward N."
    )

    def __init__(self, cause: str = "no valid HTTP response") -> None:
        super().__init__(f"The service's response could not be used: {cause}.")


class Distrusted(GatewayError):
    status, code, title = 502, "distrusted", "The service could not be trusted"
    is_diagnosable = True

    @classmethod
    def certificate(cls) -> Distrusted:
        return cls(
            "The service's certificate could not be verified.",
            "The administrator can trust it: c.PortProxy.trusted_certificates; or, for services of this machine, any: "
            "c.PortProxy.verify_loopback_certificates = False.",
        )

    @classmethod
    def no_tls(cls) -> Distrusted:
        hint = "Does it speak https on this port? Else leave https out of the address."
        return cls("The service did not complete a TLS handshake.", hint)


class TooManyRedirects(GatewayError):
    status, code, title = 502, "too_many_redirects", "The service redirects without end"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The service redirected more than {limit} times.", "Open another page of it, or look at its own log.")


class UpstreamTimeout(GatewayError):
    status, code, title = 504, "timeout", "The service took too long"
    is_diagnosable = True
    retry_after = 5

    @classmethod
    def connect(cls, seconds: float) -> UpstreamTimeout:
        hint = "Is it overloaded or stopped? The administrator can raise c.PortProxy.connect_timeout."
        return cls(f"The service accepted no connection within {seconds:g} s.", hint)

    @classmethod
    def first_byte(cls, seconds: float) -> UpstreamTimeout:
        hint = "Is it busy? The administrator can raise c.PortProxy.first_byte_timeout."
        return cls(f"The service sent no response within {seconds:g} s.", hint)


class BadInput(GatewayError):
    status, code, title = 400, "bad_input", "Bad request"

    @classmethod
    def value(cls, kind: str, value: object, hint: str) -> BadInput:
        """A value that is not a name: its text is printed as Python writes it."""
        return cls(f"Invalid {kind}: {print_value(value)[:80]!r}.", hint)

    @classmethod
    def name(cls, kind: str, name: object, hint: str) -> BadInput:
        return cls(f"Invalid {kind} name: '{'/'.join(map(_quoted_name, str(name)[:80].split('/')))}'.", hint)


# Where a person finds the names, by the kind of what was not found; a kind that no list shows is not here.
_WHERE_LISTED = {
    "service": "See the services in the Ports panel, or with: jupyter portproxy list",
    "reservation": "See the reservations in the Ports panel, or with: jupyter portproxy list",
    "template": "See the templates with: jupyter portproxy templates",
    "agent": "See the agents in the Ports panel, or with: jupyter portproxy attached",
    "attach token": "See the attach tokens in the Ports panel, or with: jupyter portproxy attached",
    "port rule": "See the rules in the Ports panel, or on the page proxy/.",
}


class NotFound(GatewayError):
    status, code, title = 404, "not_found", "No such service"

    def __init__(self, name: str, kind: str = "service", *, message: str = "", hint: str = "") -> None:
        default = f"There is no {kind} named '{_quoted_name(str(name))}'."
        super().__init__(message or default, hint if message else _WHERE_LISTED.get(kind, ""))

    @classmethod
    def service_of_folder(cls, name: str, folder: str, names: Iterable[str]) -> NotFound:
        """The folder has no service of this name."""
        known = ", ".join(map(_quoted_name, sorted(names))) or "none"
        where = f"in the folder '{_quoted_name(folder)}', which has {known}"
        return cls(name, message=f"There is no service named '{_quoted_name(name)}' {where}.")

    @classmethod
    def allowed_port(cls, port: int) -> NotFound:
        """A port that the user takes back without having allowed it."""
        hint = "List those that you have: jupyter portproxy allowed"
        return cls(str(port), message=f"You have not allowed port {port}.", hint=hint)

    @classmethod
    def ended_agent(cls, name: str) -> NotFound:
        """An agent that is still listed and cannot be detached."""
        hint = "It stays in the list for some minutes, so that you see why."
        return cls(name, message=f"The agent '{_quoted_name(name)}' has ended already.", hint=hint)

    @classmethod
    def project_file(cls, folder: str) -> NotFound:
        """A folder without a project file."""
        hint = "Write one from what runs now: jupyter portproxy project init"
        return cls(folder, message=f"There is no project file in the folder '{_quoted_name(folder)}'.", hint=hint)

    @classmethod
    def folder(cls, path: str) -> NotFound:
        """A folder that does not exist, or is a file."""
        return cls(path, message=f"There is no folder '{'/'.join(map(_quoted_name, path.split('/')))}'.")


class FolderChanged(GatewayError):
    """The project files of a folder are not those that were looked at (409)."""

    status, code, title = 409, "folder_changed", "The folder has changed"
    hint = "Look at what they say now, and allow that: jupyter portproxy up"

    def __init__(self, folder: str) -> None:
        super().__init__(f"The project files of '{_quoted_name(folder)}' have changed, so that nothing more is started.")


class ServiceFailed(GatewayError):
    """A service ended, or could not be started (502). `details` are the last lines of its log."""

    status, code, title = 502, "service_failed", "The service does not run"
    hint = "Its log says more."

    def __init__(self, message: str = "", details: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, hint)
        self.details = tuple(details)


class StartedTooOften(ServiceFailed):
    status, code, title = 429, "too_often", "Started too often"
    retry_after = 60

    def __init__(self, times: int) -> None:
        super().__init__(f"It was started {times} times within a minute. Try again later.")


class ConsentMissing(ServiceFailed):
    """A service of a folder may not be started: its project file was not allowed, or has changed since (409)."""

    status, code, title = 409, "no_consent", "The folder is not allowed to start services"
    hint = "Look at what the folder starts, and allow it: jupyter portproxy up FOLDER"

    def __init__(self, folder: str) -> None:
        super().__init__(f"The project file of the folder '{_quoted_name(folder)}' is not allowed, or has changed since it was.")


class NoPort(ServiceFailed):
    status, code, title = 503, "no_port", "No port is free"
    message = "No allowed port is free."
    hint = "Stop a service, or let the administrator allow more: c.PortProxy.allowed_ports."


class ServiceStarting(GatewayError):
    status, code, title = 503, "service_starting", "The service is starting"
    retry_after = 1
    is_logged = False  # its page is loaded again each second, and the log has the start

    def __init__(self, name: str, details: Sequence[str] = ()) -> None:
        super().__init__(f"The service '{name}' is starting.")
        self.details = tuple(details)


class ShuttingDown(GatewayError):
    status, code, title = 503, "shutting_down", "The server is shutting down"
    message = "The Jupyter server is shutting down."
    hint = "Try again when it is back."
    retry_after = 5


class TooMany(GatewayError):
    """A limit on concurrent exchanges or tunnels is reached (503; 429 for a limit per user)."""

    status, code, title = 503, "too_many", "Too much at once"
    retry_after = 2

    @classmethod
    def at_once(cls, kind: str, suffix: str, limit: int) -> TooMany:
        """`max_KIND` is reached, `max_KIND_per_user` or `max_KIND_per_port` (`suffix`), whose value is `limit`."""
        what = {"exchanges": "requests", "tunnels": "WebSockets"}[kind]
        whose = {"": "through this server", "_per_user": "for one user", "_per_port": "to one service"}[suffix]
        error = cls(
            f"There are {limit} open {what} {whose} already, and no more are allowed (max_{kind}{suffix}).",
            f"Close pages that you do not need. The administrator can allow more: c.PortProxy.max_{kind}{suffix} = {2 * limit}.",
        )
        if suffix == "_per_user":
            error.status = 429
        return error

    @classmethod
    def diagnosing(cls) -> TooMany:
        error = cls("A page is being diagnosed for you already.", "Try again when that has ended, within 20 seconds.")
        error.status = 429
        return error


class NoDescriptors(GatewayError):
    status, code, title = 503, "no_descriptors", "The server has too many connections"
    message = "The Jupyter server has no file descriptor to spare for another connection."
    hint = "Try again in a moment. The administrator can raise the limit: ulimit -n, or c.ServerApp.min_open_files_limit."
    retry_after = 2


class FieldsTooLarge(GatewayError):
    """The request has more or longer header fields than allowed (431; RFC 6585 5)."""

    status, code, title = 431, "fields_too_large", "Request header fields too large"

    @classmethod
    def number(cls, number: int, limit: int) -> FieldsTooLarge:
        return cls(
            f"The request has {number} header fields; at most {limit} are let through (max_fields).",
            f"Send fewer. The administrator can allow more: c.PortProxy.max_fields = {number}.",
        )

    @classmethod
    def size(cls, name: str, size: int, limit: int) -> FieldsTooLarge:
        return cls(
            f"The header field '{_quoted(name[:64])}' has {size} bytes; at most {limit} are let through (max_field_size).",
            f"Is it Cookie? Delete old cookies. The administrator can allow more: c.PortProxy.max_field_size = {size}.",
        )


class LoopDetected(GatewayError):
    status, code, title = 508, "loop", "Loop detected"
    message = "The request leads back to this Jupyter server."
    hint = "Name the port of a service, not the Jupyter server's own."


class ProjectError(GatewayError):
    """An error of a project; `{hop}` in its message stands for what reports it: HUB, PROJECT_HOST or SERVER."""

    def __init__(self, hop: str, message: str = "") -> None:
        super().__init__((message or self.message).replace("{hop}", hop))
        self.hop = hop


class UnknownProject(ProjectError):
    """The project does not exist, or the user may not see it: both look the same (404)."""

    status, code, title = 404, "unknown_project", "No such project"
    hint = "Look at the project's name in the address. A project that is not shared with you is not found either."

    def __init__(self, key: str, hop: str) -> None:
        name = "/".join(map(_quoted, str(key)[:64].split("/")))  # the key, or OWNER/NAME
        super().__init__(hop, f"The {hop} has no project '{name}'.")


class NotPlaced(ProjectError):
    status, code, title = 503, "not_placed", "The project is not placed"
    message = "The {hop} has not placed this project."
    hint = "Try again in a moment, or tell the operator."
    retry_after = 1


class HostDown(ProjectError):
    """The project's host is down, silent, or registered wrongly (502).

    Args:
        silent: its heartbeats are missing, but open connections to it may still work.
    """

    status, code, title = 502, "host_down", "The host is down"
    message = "The {hop} cannot reach the host of this project."
    hint = "Try again later, or tell the administrator."

    def __init__(self, hop: str, *, silent: bool = False) -> None:
        super().__init__(hop)
        self.silent = silent


class HubDistrusted(ProjectError):
    status, code, title = 502, "hub_distrusted", "The host does not accept the hub"
    message = "The project host does not accept the credential of the {hop}."
    hint = "Tell the operator: the credential in the placements must be one of c.PortProxy.hop_credentials of the project host."


class ProjectStopped(ProjectError):
    """The project is on its host but does not run (503).

    Args:
        on_request: a request of a user who may start the project starts it.
        why: a sentence on its last start.
        start: the path to which a POST starts it; empty if the user may not.
    """

    status, code, title = 503, "project_stopped", "The project is stopped"
    hint = "Start the project, then try again."

    def __init__(self, hop: str, *, on_request: bool = False, why: str = "", start: str = "") -> None:
        super().__init__(hop, f"The {hop} reports that this project is stopped. {why}".rstrip())
        self.on_request, self.start = on_request, start


class ProjectStarting(ProjectError):
    status, code, title = 503, "project_starting", "The project is starting"
    message = "The {hop} reports that this project is starting."
    hint = "Try again in a moment."
    retry_after = 1
    is_logged = False  # as for a service


class RegistryAway(ProjectError):
    """The database does not answer.

    Attributes:
        is_denial: it was known before that the user may not see the project. The response does not show that.
    """

    is_denial = False
    status, code, title = 503, "registry_away", "Projects cannot be looked up"
    message = "The {hop} cannot look up projects just now."
    hint = "Try again in a moment."
    retry_after = 2


def parse_error(content: bytes) -> dict[str, Any]:
    """`code`, `message`, `hint` and `details` of a body that `as_json` has made; empty if the response is another program's."""
    try:
        body = json.loads(content)
        found: dict[str, Any] = {key: str(body[key]) for key in ("code", "message", "hint")}
        details = body.get("details")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return found | {"details": [str(line) for line in details] if isinstance(details, list) else []} if found["message"] else {}


def print_value(value: object) -> str:
    """A text as it is, and the beginning of what Python writes for another value. Aliases of YAML can make that endless."""
    return value if isinstance(value, str) else _SHORTENED.repr(value)


class _Shortened(Repr):
    """A value as Python writes it, but only the first items of the first levels."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong = 3, 200, 100
        self.maxtuple = self.maxlist = self.maxdict = 30

    def repr_instance(self, value: Any, level: int) -> str:
        return self.repr_tuple(value, level) if isinstance(value, tuple) else super().repr_instance(value, level)


_SHORTENED = _Shortened()


def _quoted(text: str, encoding: str = "latin-1") -> str:
    """A part of a URL with markup, quotes and control characters percent-encoded, safe to print in any format."""
    return quote(text[:_QUOTE_LIMIT], safe="%!$*+,;:=@~[]()", encoding=encoding, errors="replace")


def _quoted_name(text: str) -> str:
    """A name, as of a folder, as a person reads it: with markup, quotes and what cannot be printed percent-encoded."""
    return "".join(c if c == " " or (not c.isascii() and c.isprintable()) else _quoted(c, "utf-8") for c in text[:_QUOTE_LIMIT])


@cache
def _documentation_address() -> str:
    from importlib.metadata import metadata

    return find_documentation(metadata("jupyter_portproxy").get_all("Project-URL") or ())


def find_documentation(project_urls: Iterable[str]) -> str:
    """The documentation's address in a package's `Project-URL` lines (`Label, https://...`); empty if there is none."""
    urls = (url.strip() for label, _, url in (line.partition(",") for line in project_urls) if label.strip() == "Documentation")
    return next((url for url in urls if url.startswith("https://")), "")
