"""PURE. The errors a client may see: each knows its status, its one fixed sentence and what to do about it.

Rule of this file: nothing internal (paths, credentials, exception texts) ever enters a message. What a message quotes
(a port, a host) is what the client itself sent, with everything but plain URL characters percent-encoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote


class GatewayError(Exception):
    """An exchange or tunnel that the gateway answers itself.

    Args:
        message: one sentence for people: what was wrong, with the value.
        hint: one sentence: what to do about it.
        retry_after: seconds after which a retry may help; None if it will not.

    Attributes:
        details: lines of a service's log.
        start: the path to which a POST starts what does not run; empty where that cannot be done.
        hop: which gateway of a chain says so; empty where there is one only.
    """

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(self, message: str, hint: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.details: tuple[str, ...] = ()
        self.start = ""
        self.hop = ""
        self.message = message
        self.hint = hint
        self.retry_after = retry_after


class BadRoute(GatewayError):
    """The URL names no port or host that could exist (400)."""

    status, code, title = 400, "bad_route", "Bad request"

    @classmethod
    def port(cls, text: str) -> BadRoute:
        return cls(f"Invalid port parameter: {_quoted(text)}", "A port is a whole number from 1 to 65535, for example 8050.")

    @classmethod
    def host(cls, text: str) -> BadRoute:
        return cls(f"Invalid host parameter: {_quoted(text)}", "Write HOST:PORT, for example localhost:8050 or [::1]:8050.")


class BadFraming(GatewayError):
    """The request's own head cannot be passed on safely (400)."""

    status, code, title = 400, "bad_request", "Bad request"


class Unauthenticated(GatewayError):
    """Nobody is logged in (403; a page navigation is sent to the login page instead)."""

    status, code, title = 403, "unauthenticated", "Log in first"

    def __init__(self) -> None:
        super().__init__("This request carries no valid login.", "Log in to Jupyter, or send an API token.")


class NotEntered(Unauthenticated):
    """An origin of a service, asked without its session (403; a page navigation is sent to Jupyter instead)."""

    code, title = "not_entered", "Open this from Jupyter"

    def __init__(self) -> None:
        GatewayError.__init__(
            self,
            "You have not come here from Jupyter, or your login there has ended.",
            "Open the service from Jupyter. Programs use its address below proxy/port/.",
        )


class LoginUnavailable(GatewayError):
    """Whoever checks logins could not be asked (503)."""

    status, code, title = 503, "login_unavailable", "The login could not be checked"

    def __init__(self) -> None:
        super().__init__("Your login could not be checked just now.", "Try again in a moment.", retry_after=5)


class NothingThere(GatewayError):
    """Neither Jupyter nor a service is at that URL (404)."""

    status, code, title = 404, "nothing_there", "Nothing there"

    def __init__(self) -> None:
        super().__init__(
            "There is nothing at this address.",
            "A WebSocket of a service must be below the service's own prefix, or the service opened at its own origin.",
        )


class Internal(GatewayError):
    """A fault of the gateway itself (500); the server's log has the details."""

    def __init__(self) -> None:
        super().__init__("Something went wrong inside the gateway.", "The server's log says more.")


class Forbidden(GatewayError):
    """The policy says no (403)."""

    status, code, title = 403, "forbidden", "Not allowed"


class ForwardedPort(Forbidden):
    """No process of this machine listens on the port: a rule of its packet filter leads elsewhere (403)."""

    code = "forwarded_port"

    def __init__(self, port: int) -> None:
        super().__init__(
            f"Port {port} is forwarded by a rule of this machine's packet filter (DNAT), so the owner of the service is unknown.",
            "Container engines make such rules when they publish a port. The administrator can allow forwarded ports, and those "
            "of all users of this machine: c.PortProxy.allow_other_users = True.",
        )


class NotFramed(Forbidden):
    """The service does not let this page be shown in a frame, where it was asked for (403)."""

    code, title = "not_framed", "Open this in a browser tab"

    def __init__(self) -> None:
        super().__init__(
            "This page cannot be shown in a frame: its X-Frame-Options or frame-ancestors forbids it.",
            "Open it in a browser tab.",
        )


class NotTheHub(Forbidden):
    """A project host was asked by somebody who is not its hub (403)."""

    code = "not_the_hub"

    def __init__(self) -> None:
        super().__init__("This address is not for browsers.", "Open the project through the hub.")


class MethodRefused(GatewayError):
    """CONNECT and TRACE are not for a gateway (405; RFC 9110 9.3.6 and 9.3.8)."""

    status, code, title = 405, "method_refused", "Method not allowed"


class UpgradeRefused(GatewayError):
    """The upgrade request lacks what RFC 6455 4.2.1 asks for (400)."""

    status, code, title = 400, "bad_upgrade", "Bad WebSocket request"


class Unreachable(GatewayError):
    """Nobody answers at the upstream's address (502)."""

    status, code, title = 502, "unreachable", "The service does not answer"

    @classmethod
    def port(cls, port: int) -> Unreachable:
        return cls(
            f"Failed to connect to service on port {port}.",
            f"Is the service running? Try: python3 -m http.server {port}",
            retry_after=2,
        )

    @classmethod
    def host(cls, authority: str) -> Unreachable:
        return cls(f"Failed to connect to {authority}.", "Is the service running there?", retry_after=2)


class BadUpstream(GatewayError):
    """The upstream answered, but not with HTTP that can be passed on (502)."""

    status, code, title = 502, "bad_upstream", "The service gave no valid answer"

    def __init__(self, what: str = "no valid HTTP answer") -> None:
        super().__init__(
            f"The service's answer could not be used: {what}.",
            "Look at the service's own log. Does it speak plain HTTP on this port?",
        )


class Distrusted(GatewayError):
    """The upstream's certificate does not prove who it is, or it does not speak TLS at all (502)."""

    status, code, title = 502, "distrusted", "The service could not be trusted"

    @classmethod
    def certificate(cls) -> Distrusted:
        return cls(
            "The service's certificate could not be verified.",
            "The administrator can trust it: c.PortProxy.trusted_certificates; or, for services of this machine, any: "
            "c.PortProxy.verify_loopback_certificates = False.",
        )

    @classmethod
    def no_tls(cls) -> Distrusted:
        return cls(
            "The service did not complete a TLS handshake.",
            "Does it speak https on this port? Else leave https out of the address.",
        )


class TooManyRedirects(GatewayError):
    """The service leads from one of its pages to the next and never answers (502)."""

    status, code, title = 502, "too_many_redirects", "The service redirects without end"

    def __init__(self, most: int) -> None:
        super().__init__(f"The service redirected more than {most} times.", "Open another page of it, or look at its own log.")


class UpstreamTimeout(GatewayError):
    """The upstream took longer than the configured time (504)."""

    status, code, title = 504, "timeout", "The service took too long"

    @classmethod
    def connect(cls, seconds: float) -> UpstreamTimeout:
        return cls(
            f"The service accepted no connection within {seconds:g} s.",
            "Is it overloaded or stopped? The administrator can raise c.PortProxy.connect_timeout.",
            retry_after=5,
        )

    @classmethod
    def first_byte(cls, seconds: float) -> UpstreamTimeout:
        return cls(
            f"The service sent no answer within {seconds:g} s.",
            "Is it busy? The administrator can raise c.PortProxy.first_byte_timeout.",
            retry_after=5,
        )


class BadInput(GatewayError):
    """What was asked of the API cannot be done as asked (400)."""

    status, code, title = 400, "bad_input", "Bad request"


class NoSuchService(GatewayError):
    """Nothing is known under that name (404)."""

    status, code, title = 404, "not_found", "No such service"

    def __init__(self, name: str, kind: str = "service") -> None:
        super().__init__(f"There is no {kind} named '{_quoted(str(name))}'.", f"The list of {kind}s shows what there is.")


class ServiceFailed(GatewayError):
    """A service that should run does not (502). `details` are its last lines."""

    status, code, title = 502, "service_failed", "The service does not run"

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message, "Its log says more.")
        self.details = tuple(details)


class StartedTooOften(ServiceFailed):
    """A service was started too often within a minute (429)."""

    status, code, title = 429, "too_often", "Started too often"

    def __init__(self, times: int) -> None:
        super().__init__(f"It was started {times} times within a minute. Try again later.")
        self.retry_after = 60


class NoPort(ServiceFailed):
    """All allowed ports are taken (503)."""

    status, code, title = 503, "no_port", "No port is free"

    def __init__(self) -> None:
        super().__init__("No allowed port is free.")
        self.hint = "Stop a service, or let the administrator allow more: c.PortProxy.allowed_ports."


class ServiceStarting(GatewayError):
    """A service is not ready yet (503). `details` are its last lines."""

    status, code, title = 503, "service_starting", "The service is starting"

    def __init__(self, name: str, details: Sequence[str] = ()) -> None:
        super().__init__(f"The service '{name}' is starting.", "", retry_after=1)
        self.details = tuple(details)


class ShuttingDown(GatewayError):
    """The server is about to stop (503)."""

    status, code, title = 503, "shutting_down", "The server is shutting down"

    def __init__(self) -> None:
        super().__init__("The Jupyter server is shutting down.", "Try again when it is back.", retry_after=5)


class TooMany(GatewayError):
    """A limit on what may be under way at once is reached (503; 429 where it is the user's own)."""

    status, code, title = 503, "too_many", "Too much at once"

    @classmethod
    def at_once(cls, kind: str, suffix: str, most: int) -> TooMany:
        """`kind` and `suffix` name the setting: `max_KIND`, `max_KIND_per_user` or `max_KIND_per_port`; `most` is its value."""
        what = {"exchanges": "requests", "tunnels": "WebSockets"}[kind]
        whose = {"": "through this server", "_per_user": "for one user", "_per_port": "to one service"}[suffix]
        error = cls(
            f"There are {most} open {what} {whose} already, and no more are allowed (max_{kind}{suffix}).",
            f"Close pages that you do not need. The administrator can allow more: c.PortProxy.max_{kind}{suffix} = {2 * most}.",
            retry_after=2,
        )
        if suffix == "_per_user":
            error.status = 429
        return error


class NoDescriptors(GatewayError):
    """The process has no file descriptor to spare (503)."""

    status, code, title = 503, "no_descriptors", "The server has too many connections"

    def __init__(self) -> None:
        super().__init__(
            "The Jupyter server has no file descriptor to spare for another connection.",
            "Try again in a moment. The administrator can raise the limit: ulimit -n, or c.ServerApp.min_open_files_limit.",
            retry_after=2,
        )


class FieldsTooLarge(GatewayError):
    """The request's head has more or longer fields than are let through (431; RFC 6585 5)."""

    status, code, title = 431, "fields_too_large", "Request header fields too large"

    @classmethod
    def number(cls, found: int, most: int) -> FieldsTooLarge:
        return cls(
            f"The request has {found} header fields; at most {most} are let through (max_fields).",
            f"Send fewer. The administrator can allow more: c.PortProxy.max_fields = {found}.",
        )

    @classmethod
    def size(cls, name: str, found: int, most: int) -> FieldsTooLarge:
        return cls(
            f"The header field '{_quoted(name[:64])}' has {found} bytes; at most {most} are let through (max_field_size).",
            f"Is it Cookie? Delete old cookies. The administrator can allow more: c.PortProxy.max_field_size = {found}.",
        )


class LoopDetected(GatewayError):
    """The request would come back to this very gateway (508)."""

    status, code, title = 508, "loop", "Loop detected"

    def __init__(self) -> None:
        super().__init__(
            "The request leads back to this Jupyter server.",
            "Name the port of a service, not the Jupyter server's own.",
        )


class UnknownProject(GatewayError):
    """There is no such project, or none that the asker may see: the two answers are alike (404)."""

    status, code, title = 404, "unknown_project", "No such project"

    def __init__(self, key: str, hop: str) -> None:
        name = "/".join(map(_quoted, str(key)[:64].split("/")))  # OWNER/NAME, where it was asked for so
        super().__init__(
            f"The {hop} knows no project '{name}'.",
            "Look at the project's name in the address. A project that is not shared with you is not found either.",
        )
        self.hop = hop


class NotPlaced(GatewayError):
    """The project has no host yet (503)."""

    status, code, title = 503, "not_placed", "The project has no host yet"

    def __init__(self, hop: str) -> None:
        super().__init__(f"The {hop} has no host for this project yet.", "Try again in a moment.", retry_after=1)
        self.hop = hop


class HostDown(GatewayError):
    """The project's host is down, silent, or registered wrongly (502).

    Args:
        silent: it only gives no sign of life; what flows from it may still be good.
    """

    status, code, title = 502, "host_down", "The host is down"

    def __init__(self, hop: str, *, silent: bool = False) -> None:
        super().__init__(f"The {hop} cannot reach the host of this project.", "Try again later, or tell the administrator.")
        self.hop, self.silent = hop, silent


class HubDistrusted(GatewayError):
    """The project's host does not believe its hub (502)."""

    status, code, title = 502, "hub_distrusted", "The host does not accept the hub"

    def __init__(self, hop: str) -> None:
        super().__init__(
            f"The project host does not accept the credential of the {hop}.",
            "Tell the operator: the credential in the placements must be one of c.PortProxy.hop_credentials of the project host.",
        )
        self.hop = hop


class ProjectStopped(GatewayError):
    """The project is on its host but does not run (503).

    Args:
        why: a sentence on its last start.
        start: the path to which a POST starts it; empty where the asker may not.

    Attributes:
        on_request: whoever asks for it may start it by that.
    """

    status, code, title = 503, "project_stopped", "The project is stopped"

    def __init__(self, hop: str, *, on_request: bool = False, why: str = "", start: str = "") -> None:
        super().__init__(f"This project does not run, says the {hop}. {why}".rstrip(), "Start the project, then try again.")
        self.hop, self.on_request, self.start = hop, on_request, start


class ProjectStarting(GatewayError):
    """The project's server is not ready yet (503)."""

    status, code, title = 503, "project_starting", "The project is starting"

    def __init__(self, hop: str) -> None:
        super().__init__(f"This project is starting, says the {hop}.", "Try again in a moment.", retry_after=1)
        self.hop = hop


class RegistryAway(GatewayError):
    """Where projects are looked up does not answer (503)."""

    status, code, title = 503, "registry_away", "Projects cannot be looked up"

    def __init__(self, hop: str) -> None:
        super().__init__(f"The {hop} cannot look up projects just now.", "Try again in a moment.", retry_after=2)
        self.hop = hop


def _quoted(text: str) -> str:
    """A piece of a URL that is safe to print in any format: nothing in it is markup, a quote or a control character."""
    return quote(text[:200], safe="%!$*+,;:=@~[]()", encoding="latin-1", errors="replace")


HUB = "hub"


PROJECT_HOST = "project host"


class CliError(Exception):
    """What the user is told; the command ends with exit code 1."""
