"""Services: processes that are started from templates, supervised and stopped. Independent of HTTP; raises GatewayErrors.

States of a service, and what brings it there:

    starting   a run has begun: by `start`, `restart` or `open`, or after a failure of a template with restart "on-failure"
    up         a health check found it ready, or answering again
    unhealthy  two health checks in a row failed
    stopping   `stop`, `restart` or `delete` was called
    down       the run has ended: it was stopped, was idle, or ended by itself with exit code 0 after it was ready
    failed     the run could not begin, was not ready in time, or ended otherwise

A service that an agent has attached is a process elsewhere: it is up, unhealthy or down by what `report` says, is never started
here, and `stop` calls `Service.detach`.

Each other service has one task from its start until no process of it is left (`_supervise`), through all restarts. Only that task
and `stop` change the state, through `_change`, which calls the subscribers. Each run leases its endpoint and releases it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from ..errors import BadInput, NotFound, ServiceFailed, ShuttingDown, StartedTooOften
from ..protocol.credentials import remove_secret_variables
from ..system import background_tasks, command_lines
from .guard import BACKGROUND
from .health import Health, follow_health
from .hooks import Endpoint
from .link_variables import remove_link_variables
from .logs import Log, prepare
from .ports import EndpointLeases, PortLeases
from .template_keys import NAME, NAME_HINT, TemplateError
from .templates import Template, program_path

ServiceState = Literal["starting", "up", "unhealthy", "stopping", "down", "failed"]
MAX_STARTS_PER_MINUTE = 5
MAX_SERVICES = 100
_MAX_BASE = 58  # characters of a name before its number
_NOT_OF_NAMES = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_GUARD = Path(__file__).parent / "guard.py"
_FOREGROUND = "Run it in the foreground: many programs have an option for that, such as --foreground, --no-daemon, -fg or -D."


@dataclass(eq=False)
class Service:
    """A process started from a template, or what is left of it.

    Attributes:
        prefix: path of its URL, without a final slash.
        since: time of the change to its state, in seconds since 1970. It grows with each change, also when the clock is set back:
            responses and events of the API may arrive in any order.
        exit_code: of the last run; None while it runs.
        late_error: set while a run that was not ready in time is being stopped.
        log_offset: bytes of the log that earlier runs have written.
        last_used: monotonic time of the last request, or of the last byte in a tunnel.
        agent: the name of the agent that has attached it; empty for a process of this server.
        detach: ends the attachment, and reports that it is down.
    """

    name: str
    template: Template
    arguments: Mapping[str, str]
    prefix: str
    endpoint: Endpoint
    log: Log
    state: ServiceState = "starting"
    since: float = field(default_factory=time.time)
    error: str = ""
    exit_code: int | None = None
    late_error: str = ""
    log_offset: int = 0
    last_used: float = field(default_factory=time.monotonic)
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stop_requested: asyncio.Event = field(default_factory=asyncio.Event)
    agent: str = ""
    detach: Callable[[], None] = lambda: None

    def set_state(self, state: ServiceState, error: str = "") -> bool:
        """Returns False if it was in that state already, with the same error."""
        if (state, error) == (self.state, self.error):
            return False
        self.state, self.error, self.since = state, error, max(time.time(), self.since + 1e-6)
        self.changed.set()
        self.changed = asyncio.Event()
        return True

    def touch(self) -> None:
        """Record a use: the idle time starts again."""
        self.last_used = time.monotonic()

    def last_lines(self, count: int = 20) -> list[str]:
        """The last lines of the output of its last run."""
        return self.log.last_lines(count, self.log_offset)

    def write_event(self, text: str) -> None:
        """Write a line with the time into its log: what happened to an attached service, whose output is elsewhere."""
        self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n".encode())

    def reason(self, *, with_output: bool = True) -> str:
        """Why it is in its state, which may quote its output; else its exit code alone."""
        if with_output or self.exit_code is None:
            return self.error if with_output else ""
        return f"It ended with exit code {self.exit_code}."

    async def wait_for_stop(self, seconds: float) -> bool:
        """Wait, at most until it is to be stopped; True in that case."""
        try:
            await asyncio.wait_for(self.stop_requested.wait(), seconds)
        except asyncio.TimeoutError:
            return False
        return True

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "up", "unhealthy", "stopping")


class ServiceManager:
    """The services of one server.

    Args:
        ports: leases the ports of services.
        prefix_of: service name, its template -> path of its URL, without a final slash.
        probe: True if a service accepts connections, or answers; it must not take longer than two seconds.
        directory: where this server's log files are kept; made private to this user.
        templates: by name. The mapping is kept: what is put into it later can be started.
        root_dir: the root of the file browser; paths among the arguments and working directories are relative to it.
        health_period: seconds between two health checks.
        first_pause: seconds before the first restart, doubled with each: with 2, five starts in the first minute.
        long_run: seconds after which a run that fails is restarted with the first pause again.
        retry_pause: seconds after a failure of `probe`, until the health is followed again.
    """

    def __init__(
        self,
        ports: PortLeases,
        prefix_of: Callable[[str, Template], str],
        base_url: str,
        probe: Callable[[Service], Awaitable[bool]],
        directory: Path,
        templates: dict[str, Template],
        *,
        root_dir: str = "",
        health_period: float = 5.0,
        first_pause: float = 2.0,
        long_run: float = 60.0,
        retry_pause: float = background_tasks.FIRST_PAUSE,
        log: logging.Logger | None = None,
    ) -> None:
        self.templates = templates
        self.starts: dict[str, int] = {}  # template -> number of starts, for /metrics
        self._endpoints, self._health_period = EndpointLeases(ports), health_period
        self._prefix_of, self._base_url, self._probe, self._root_dir = prefix_of, base_url, probe, root_dir
        self._first_pause, self._long_run, self._retry_pause = first_pause, long_run, retry_pause
        self._directory, self._log = directory, log or logging.getLogger(__name__)
        self._subscribers: list[Callable[[Service], None]] = []
        self._services: dict[str, Service] = {}
        self._recent_starts: dict[str, deque[float]] = {}
        self._closing = False

    def subscribe(self, callback: Callable[[Service], None]) -> Callable[[], None]:
        """Call back with a service after its start, each change of its state, and its deletion.

        The health of ready services is checked only while there are subscribers.

        Returns:
            ends the subscription.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    # ---- queries ----

    def list(self) -> list[Service]:
        return sorted(self._services.values(), key=lambda service: service.name)

    def get(self, name: str) -> Service:
        """Raises: NotFound"""
        try:
            return self._services[name]
        except KeyError:
            raise NotFound(name) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._services

    def prefix(self, name: str) -> str | None:
        """The path of the URL of a service, or of one that starts when it is opened; None for an unknown name."""
        if name in self._services:
            return self._services[name].prefix
        template = self.templates.get(name)
        return self._prefix_of(name, template) if template is not None and template.start_on_open else None

    def describe(self, service: Service) -> str:
        """What runs in a service, for people: its script or folder, and its other arguments where they are not the defaults."""
        parts = []
        for argument in service.template.arguments:
            value = service.arguments.get(argument.name, "")
            if argument.kind == "path":
                path = self._path(value)
                relative = os.path.relpath(path, self._root_dir or ".")
                parts.append(path if relative.startswith("..") else relative)
            elif value != argument.default:
                parts.append(_masked(argument.name, value))
        return ", ".join(parts)

    def service_for(self, name: str) -> Service:
        """The service of a URL, without starting it. Raises: NotFound"""
        template = self.templates.get(name)
        other = self._at(template.endpoint) if template is not None else None
        return other or self.get(name)

    def failure(self, service: Service, *, with_output: bool = True) -> ServiceFailed:
        """Why a service cannot be used, with its last lines."""
        default = "It is being stopped." if service.state == "stopping" else "It is not running."
        why = service.reason(with_output=with_output) or default
        details = service.last_lines() if with_output else []
        return ServiceFailed(f"The service '{service.name}' is {service.state}. {why}", details)

    # ---- commands ----

    def open(self, name: str, *, by_page: bool) -> Service:
        """The service of a URL; started if its template says so and it does not run.

        Templates may share one fixed endpoint. The service that runs there is that of all of them.

        Args:
            by_page: the request loads a page. A request of a page that is open already does not start a service that is down.

        Raises:
            NotFound, ServiceFailed
        """
        service, template = self._services.get(name), self.templates.get(name)
        if template is not None and (service is None or not service.alive) and (other := self._at(template.endpoint)):
            return other
        if service is None:
            return self.start(name, name) if template is not None and template.start_on_open else self.get(name)
        if service.alive or not service.template.start_on_open or not (by_page or service.state == "failed"):
            return service
        try:
            return self._begin(name, service.template, service.arguments)
        except ServiceFailed:
            raise self.failure(service) from None

    def start(self, template_name: str, name: str | None = None, arguments: Mapping[str, object] | None = None) -> Service:
        """Start a service; one that runs already with these arguments is returned as it is.

        Args:
            name: of the service. By default the template's, or made of its script or folder where that is taken.

        Raises:
            NotFound: there is no such template.
            BadInput: an invalid name or argument, a file that does not exist, or the name belongs to another service.
            ServiceFailed: no port is free, or it was started too often.
        """
        if self._closing:
            raise ShuttingDown()
        template = self.templates.get(template_name)
        if template is None:
            raise NotFound(template_name, "template")
        if template.external:
            raise BadInput(f"'{template_name}' is not started by this server.", "Start it as before, and open its address.")
        filled = self._fill_in(template, arguments or {})
        name = self._name_for(template, filled) if name is None else name
        if not isinstance(name, str) or not NAME.match(name):
            raise BadInput.name("service", name, NAME_HINT)
        known = self._services.get(name)
        if known is not None and known.template.name != template_name:
            raise BadInput(
                f"The name '{name}' belongs to a service of another template.", "Choose another name, or delete that service."
            )
        if (other := self._at(template.endpoint)) is not None:
            return other
        if known is not None and known.alive:
            if self._is_same(known, template, filled):
                return known
            pairs = ", ".join(f"{argument}={_masked(argument, value)}" for argument, value in known.arguments.items())
            raise BadInput(
                f"The service '{name}' runs with other arguments: {pairs}.", "Choose another name, or stop that service first."
            )
        if known is None and len(self._services) >= MAX_SERVICES:
            raise BadInput(f"There are {MAX_SERVICES} services already.", "Delete one first.")
        return self._begin(name, template, filled)

    async def stop(self, name: str) -> Service:
        """Stop a service, or a restart that is due, and wait until no process of it is left."""
        service = self.get(name)
        if service.agent:
            service.detach()
        elif service.task is not None and not service.task.done():
            if service.state == "up":  # stopped by the user: it counts no more among the starts of a crashing program
                self._recent_starts.pop(name, None)
            if service.alive:
                self._change(service, "stopping")
            self._request_stop(service)
            await asyncio.wait({service.task})
        return service

    async def wait_stopped(self, *names: str | None) -> None:
        """Wait for the end of services that are being stopped, by their own name or their template's, before one is started."""
        stopping = [s for s in self._services.values() if s.state == "stopping" and {s.name, s.template.name} & set(names)]
        if tasks := {service.task for service in stopping if service.task is not None}:
            await asyncio.wait(tasks)

    async def restart(self, name: str) -> Service:
        """Stop a service and start it with the same arguments, perhaps on another port.

        Raises:
            NotFound, ServiceFailed
            BadInput: an agent has attached it.
        """
        if self.get(name).agent:
            raise BadInput(f"'{name}' was attached from elsewhere and cannot be restarted here.", "Restart its program there.")
        await self.stop(name)
        service = self.get(name)  # another request may have deleted or started it meanwhile
        return service if service.alive else self._begin(name, service.template, service.arguments)

    async def delete(self, name: str) -> None:
        """Stop a service and remove it from the list."""
        service = await self.stop(name)
        while service.alive:  # another request has started it meanwhile
            await self.stop(name)
        self.remove(service)

    async def wait_ready(self, service: Service) -> None:
        """Wait until a service that is starting is up.

        Raises:
            ServiceFailed: it has ended, or is being stopped.
        """
        while service.state == "starting":
            await service.changed.wait()
        # What is silent may answer the next request. An agent has looked at its own port.
        if service.state not in (("up",) if service.agent else ("up", "unhealthy")):
            raise self.failure(service)

    # ---- services that agents attach ----

    def attach(
        self, name: str, template: Template, arguments: Mapping[str, str], agent: str, detach: Callable[[], None]
    ) -> Service:
        """List a service that an agent has attached, or has attached again. Its Unix socket is the caller's to listen on.

        Args:
            detach: see `Service`.

        Raises:
            BadInput: the name is another service's or a template's, or there are too many.
        """
        if self._closing:
            raise ShuttingDown()
        service = self._services.get(name)
        if name in self.templates or (service is not None and service.agent != agent):
            raise BadInput(f"The name '{name}' belongs to another service.", "Choose another name.")
        if service is None:
            if len(self._services) >= MAX_SERVICES:
                raise BadInput(f"There are {MAX_SERVICES} services already.", "Delete one first.")
            log = Log(prepare(self._directory, self._log), f"{name}.log")
            endpoint = self._endpoints.lease(name, template)
            service = Service(name, template, arguments, self._prefix_of(name, template), endpoint, log, "down", agent=agent)
            self._services[name] = service
        service.template, service.arguments, service.detach = template, arguments, detach
        return service

    def report(self, service: Service, state: ServiceState, error: str = "") -> None:
        """Set the state of an attached service, and write it into its log if it has changed."""
        if service.set_state(state, error):
            service.write_event(f"{state}{': ' if error else ''}{error}")
            self._notify(service)

    def remove(self, service: Service) -> None:
        """Remove a service that does not run from the list."""
        if self._services.get(service.name) is service:
            service.log.close()
            del self._services[service.name]
            self._notify(service)

    async def close(self) -> None:
        """Stop all services at the same time."""
        self._closing = True
        running = [service for service in self._services.values() if service.task is not None and not service.task.done()]
        for service in running:
            self._request_stop(service)
        if running:
            await asyncio.wait({service.task for service in running if service.task is not None})
        for service in self._services.values():
            service.log.close()
        self._endpoints.close()

    # ---- names and arguments ----

    def _fill_in(self, template: Template, given: Mapping[str, object]) -> dict[str, str]:
        """Raises: BadInput"""
        try:
            filled = template.fill_in(given)
        except TemplateError as error:
            raise BadInput(str(error), "See the template's list of arguments.") from None
        for argument in template.arguments:
            path = self._path(filled[argument.name])
            if argument.kind == "path" and argument.must_exist and filled[argument.name] and not _exists(path):
                raise BadInput(
                    f"The argument '{argument.name}': there is no file or folder '{path}'.",
                    "Paths count from the folder that the file browser shows; in the server's terminals from the current one.",
                )
        return filled

    def _path(self, value: str) -> str:
        return os.path.normpath(os.path.join(self._root_dir, value))

    def _is_same(self, service: Service, template: Template, arguments: Mapping[str, str]) -> bool:
        """True if a service of this template has these arguments, where different paths may name the same file."""
        if service.template.name != template.name or service.arguments.keys() != arguments.keys():
            return False
        paths = {argument.name for argument in template.arguments if argument.kind == "path"}
        pairs = ((name, value, arguments[name]) for name, value in service.arguments.items())
        return all(one == other or (name in paths and self._path(one) == self._path(other)) for name, one, other in pairs)

    def _at(self, endpoint: Endpoint | None) -> Service | None:
        """The running service at a fixed endpoint."""
        if endpoint is None:
            return None
        return next((service for service in self._services.values() if service.alive and service.endpoint == endpoint), None)

    def _name_for(self, template: Template, arguments: Mapping[str, str]) -> str:
        """The name of a service with these arguments, preferably of one that runs; else a name that is free."""
        same = [service for service in self.list() if self._is_same(service, template, arguments)]
        if same:
            return max(same, key=lambda service: service.alive).name
        return next(name for name in self._names(template, arguments) if self._is_free(name, template))

    def _names(self, template: Template, arguments: Mapping[str, str]) -> Iterator[str]:
        """The template's name; then with the name of its script or folder appended; then with a number."""
        yield template.name
        name = template.name
        argument = next((each for each in template.arguments if each.kind == "path"), None)
        if argument is not None:
            path = Path(self._path(arguments[argument.name]))
            is_default = path.name == Path(argument.default).name  # of app.py the folder says more
            stem = _NOT_OF_NAMES.sub("-", path.parent.name if is_default else path.stem).strip("-._")
            name = f"{template.name}-{stem}"[:_MAX_BASE].rstrip("-._")
            yield name
        for number in count(2):
            yield f"{name[:_MAX_BASE]}-{number}"

    def _is_free(self, name: str, template: Template) -> bool:
        """True for a new name, and for that of a service of this template that has ended."""
        known = self._services.get(name)
        if name in self.templates and name != template.name:
            return False
        return known is None or (known.template.name == template.name and not known.alive)

    # ---- the life of a service ----

    def _begin(self, name: str, template: Template, arguments: Mapping[str, str]) -> Service:
        if self._closing:
            raise ShuttingDown()
        if os.name != "posix":
            raise ServiceFailed("Services need a POSIX system. Start the program by hand and open its port.")
        self._count_start(name)
        endpoint = self._endpoints.lease(name, template)
        service = self._services.get(name)
        if service is None:
            log = Log(prepare(self._directory, self._log), f"{name}.log")
            service = Service(name, template, arguments, self._prefix_of(name, template), endpoint, log)
            self._services[name] = service
            self._notify(service)
        else:
            if service.task is not None:
                service.task.cancel()  # it waits for its next restart, or has ended
            service.template, service.arguments, service.endpoint = template, arguments, endpoint
            service.stop_requested.clear()
            service.exit_code, service.log_offset = None, service.log.written
            self._change(service, "starting")
        service.touch()
        service.task = asyncio.get_running_loop().create_task(self._supervise(service), name=f"portproxy service {name}")
        return service

    async def _supervise(self, service: Service) -> None:
        """All runs of a service, from its start to its end."""
        pause = self._first_pause
        while True:
            started = time.monotonic()
            state, error = await self._run(service)
            self._endpoints.release(service.endpoint)
            self._change(service, state, error)
            if time.monotonic() - started > self._long_run:
                pause = self._first_pause
            if service.template.restart != "on-failure" or state != "failed" or await service.wait_for_stop(pause):
                return
            pause *= 2
            try:
                self._count_start(service.name)
                service.endpoint = self._endpoints.lease(service.name, service.template)
            except ServiceFailed as failure:
                self._change(service, "failed", f"{error} It is not started again: {failure.message}")
                return
            service.log_offset = service.log.written
            self._change(service, "starting", error)

    def _count_start(self, name: str) -> None:
        starts = self._recent_starts.setdefault(name, deque(maxlen=MAX_STARTS_PER_MINUTE))
        now = time.monotonic()
        if len(starts) == MAX_STARTS_PER_MINUTE and now - starts[0] < 60:
            raise StartedTooOften(MAX_STARTS_PER_MINUTE)
        starts.append(now)

    async def _run(self, service: Service) -> tuple[ServiceState, str]:
        """One run of a service; returns the state in which it has ended, and the reason."""
        if service.stop_requested.is_set():
            return "down", ""
        try:
            process = service.process = await self._spawn(service)
        except TemplateError as error:
            return "failed", str(error)
        except ServiceFailed as error:
            return "failed", error.message
        except OSError as error:
            return "failed", f"It could not be started: {error.strerror}."
        except ValueError:  # half a surrogate pair, for example
            return "failed", "It could not be started: its command or environment has text that cannot be passed to a program."
        service.late_error = ""
        if service.stop_requested.is_set():
            _close_input(service)
        self.starts[service.template.name] = self.starts.get(service.template.name, 0) + 1
        reading = background_tasks.run("service output", partial(_collect_output, service, process), self._log)
        checking = background_tasks.run(
            "service health", partial(self._follow_health, service), self._log, first_pause=self._retry_pause
        )
        try:
            service.exit_code = await process.wait()
            await asyncio.wait({reading}, timeout=1)
        finally:
            reading.cancel()
            checking.cancel()
            _close_input(service)
            service.process = None
        if service.stop_requested.is_set():
            return "down", ""
        if service.exit_code == 0 and service.state != "starting":
            return "down", "It ended with exit code 0."
        return "failed", _why_it_failed(service)

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        """Start the program under its guard.

        Raises:
            TemplateError, ServiceFailed, OSError, ValueError
        """
        template, endpoint = service.template, service.endpoint
        values = {
            "port": str(endpoint.port),
            "unix_socket": endpoint.unix_socket,
            "base_url": self._base_url,
            "prefix": service.prefix,
            "name": service.name,
            **service.arguments,
        }
        command, variables, cwd = template.expand(values)
        if template.hooks is None:  # jupyter-server-proxy starts programs in the server's own working directory, with its PATH
            cwd = os.path.join(self._root_dir, cwd)
            variables = {"PATH": program_path(), "PYTHONUNBUFFERED": "1", **variables}
        environment = {**remove_link_variables(remove_secret_variables(os.environ)), **variables}
        program = _find_program(template, command[0], cwd, environment.get("PATH", os.defpath))
        if cwd and not os.path.isdir(cwd):  # noqa: ASYNC240 (one stat before a start)
            raise ServiceFailed(f"The folder '{cwd}' does not exist.")
        address = endpoint.unix_socket or str(endpoint.port)
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(template.stop_timeout), address]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *guard, program, *command[1:], stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT,
            cwd=cwd or None, env=environment, start_new_session=True, limit=1 << 16,
        )  # fmt: skip

    async def _follow_health(self, service: Service) -> None:
        """Change the state with the health of the run; end a run that is late or idle."""
        probe, template, period = partial(self._probe, service), service.template, self._health_period
        async for health in follow_health(probe, template, lambda: service.last_used, lambda: bool(self._subscribers), period):
            match health:
                case Health.LATE:
                    address = service.endpoint.unix_socket or f"port {service.endpoint.port}"
                    service.late_error = f"It did not listen on {address} within {template.ready_timeout:g} s."
                    _close_input(service)
                case Health.IDLE:
                    self._request_stop(service)
                case Health.ANSWERING if service.state in ("starting", "unhealthy"):
                    if service.state == "starting" and service.process is not None and service.process.stdin is not None:
                        service.process.stdin.write(b"u")  # reports to the guard that the program is ready
                    self._change(service, "up")
                case Health.SILENT if service.state == "up":
                    self._change(service, "unhealthy", "It does not answer.")

    def _request_stop(self, service: Service) -> None:
        service.stop_requested.set()
        _close_input(service)

    def _change(self, service: Service, state: ServiceState, error: str = "") -> None:
        if service.set_state(state, error):
            self._notify(service)

    def _notify(self, service: Service) -> None:
        for callback in list(self._subscribers):
            callback(service)


def _close_input(service: Service) -> None:
    """Make the guard stop the program by closing its input, as the death of this server does too."""
    if service.process is not None and service.process.stdin is not None:
        service.process.stdin.close()


async def _collect_output(service: Service, process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None  # a pipe
    while data := await process.stdout.read(1 << 16):
        service.log.write(data)


def _why_it_failed(service: Service) -> str:
    """The error of a run that has failed. Replaces the guard's `exit_code` by the program's."""
    is_ready = service.state != "starting"
    if service.exit_code == BACKGROUND and not is_ready:
        service.exit_code = 0
        return f"It went into the background. {service.late_error} {_FOREGROUND}"
    if service.late_error:
        return service.late_error
    cause = service.log.cause(service.log_offset)
    output = f" Its output: {cause}" if cause else ""
    hint = f" If its work goes on in the background: {_FOREGROUND}" if service.exit_code == 0 else ""
    return f"It ended with exit code {service.exit_code}{'' if is_ready else ' before it was ready'}.{output}{hint}"


def _masked(name: str, value: str) -> str:
    """The value of an argument for people; a secret is masked as in a command line."""
    return command_lines.MASK if value and command_lines.is_secret(name) else value


def _exists(path: str) -> bool:
    """True for a file or folder, and for `app.py:name` and `package.module:name` as Flask and Shiny take them."""
    file = path.rpartition(":")[0] or path
    module = os.path.join(os.path.dirname(file), os.path.basename(file).replace(".", os.sep))
    return any(os.path.exists(each) for each in (path, file, f"{file}.py", module, f"{module}.py"))


def _find_program(template: Template, name: str, cwd: str, path: str) -> str:
    """The file of a program. `./name` is relative to the service's working directory, not to this server's.

    Raises:
        ServiceFailed: it does not exist, or cannot be executed.
    """
    file = os.path.abspath(os.path.join(cwd, name)) if os.path.dirname(name) else name
    program = shutil.which(file, path=path)
    if program is not None:
        return program
    if os.path.dirname(name) and os.path.exists(file):
        raise ServiceFailed(f"The program '{name}' cannot be executed. Is it a file that you may run?")
    hint = template.requires.hint if template.requires else ""
    raise ServiceFailed(f"The program '{name}' is not installed.{' ' + hint + '.' if hint else ''}")
