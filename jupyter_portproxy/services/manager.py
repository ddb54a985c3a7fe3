"""Services: processes that are started from templates, watched, and stopped. Knows no HTTP; raises GatewayErrors.

Rule of this file: every process has one owner here, from its start to the moment when nothing of it is left. Where it runs
(a port, or a Unix socket) is leased before it starts and given back when it has ended.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Literal

from ..errors import BadInput, NotFound, ServiceFailed, ShuttingDown, StartedTooOften
from ..protocol.credentials import remove_secret_variables
from ..system import background_tasks, command_lines
from .guard import BACKGROUND
from .hooks import Endpoint
from .logs import Log, prepare
from .ports import Ports, is_free
from .templates import NAME, Template, TemplateError, program_path

_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_MAX_BASE = 58  # characters of a name to which a number is added
_GUARD = Path(__file__).parent / "guard.py"
_STARTS_PER_MINUTE = 5
_MAX_SERVICES = 100
# Two checks of a service that does not answer make it unhealthy; one that answers makes it up again.
_MISSES = 2
_FOREGROUND = "Run it in the foreground: many programs have an option for that, such as --foreground, --no-daemon, -fg or -D."
ServiceState = Literal["starting", "up", "unhealthy", "stopping", "down", "failed"]
Probe = Callable[["Service"], Awaitable[bool]]


@dataclass(eq=False)
class Service:
    """A process started from a template, or what is left of one.

    Attributes:
        prefix: path of its URL, without a final slash.
        since: when it came into its state, seconds since 1970. Of two states the later one has the larger time, also where the
            clock was set back: answers and events of the API may arrive in any order.
        exit_code: of its last end; None while it has none.
        log_begin: how much of the log its earlier runs have written.
        last_used: monotonic time of its last request, or of the last byte in a tunnel.
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
    log_begin: int = 0
    last_used: float = field(default_factory=time.monotonic)
    process: asyncio.subprocess.Process | None = None
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    def become(self, state: ServiceState, error: str = "") -> None:
        if (state, error) != (self.state, self.error):
            self.state, self.error, self.since = state, error, max(time.time(), self.since + 1e-6)
        self.changed.set()
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """It is in use now."""
        self.last_used = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.state in ("starting", "up", "unhealthy", "stopping")


class ServiceManager:
    """The manager of all services of one server.

    Args:
        ports: from which a service's port is taken.
        prefix_of: service name, its template -> path of its URL, without a final slash.
        probe: True if a service accepts connections, or answers; it must not take longer than a second or two.
        directory: where this server's log files are kept; made private to this user.
        templates: by name. The mapping is kept: what is put into it later can be started.
        root_dir: the root of the file browser; paths among the arguments and working directories are relative to it.
        health_period: seconds between two health checks.
        first_pause: seconds before the first restart, doubled with each: with 2, five starts in the first minute.
        long_run: seconds after which a service that ends is restarted with the first pause again.
    """

    def __init__(
        self,
        ports: Ports,
        prefix_of: Callable[[str, Template], str],
        base_url: str,
        probe: Probe,
        directory: Path,
        templates: dict[str, Template],
        *,
        root_dir: str = "",
        health_period: float = 5.0,
        first_pause: float = 2.0,
        long_run: float = 60.0,
        log: logging.Logger | None = None,
    ) -> None:
        self.templates, self.root_dir = templates, root_dir
        self.starts: dict[str, int] = {}  # template -> number of starts, for /metrics
        self._health_period, self._first_pause, self._long_run = health_period, first_pause, long_run
        self._subscribers: list[Callable[[Service], None]] = []
        self._ports, self._prefix_of, self._base_url, self._probe = ports, prefix_of, base_url, probe
        self._directory, self._log = directory, log or logging.getLogger(__name__)
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self._services: dict[str, Service] = {}
        self._recent_starts: dict[str, deque[float]] = {}
        self._closing = False

    def subscribe(self, callback: Callable[[Service], None]) -> Callable[[], None]:
        """Call back with a service after each change of its state, and after its deletion.

        The health of services is checked only while there are subscribers.

        Returns:
            ends the subscription.
        """
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    # ---- what there is ----

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

    # ---- what can be done ----

    def opened(self, name: str, *, by_page: bool) -> Service:
        """The service whose URL was asked for; started if its template wants that and it does not run.

        Templates may have one fixed place. The service that runs there is that of all of them.

        Args:
            by_page: somebody opens a page of it; what an open page asks for starts no service that has ended.

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
            name: of the service. Without one it is the template's, or made of its script's or folder's where that is taken.

        Raises:
            NotFound: there is no such template.
            BadInput: a bad name or argument, a file that does not exist, or the name belongs to another service.
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
            raise BadInput("This is no name for a service.", "Use up to 64 letters, digits, '.', '_' and '-'.")
        known = self._services.get(name)
        if known is not None and known.template.name != template_name:
            raise BadInput(
                f"The name '{name}' belongs to a service of another template.", "Choose another name, or delete that service."
            )
        if (there := self._at(template.endpoint)) is not None:
            return there
        if known is not None and known.alive:
            if self._is_same(known, template, filled):
                return known
            raise BadInput(
                f"The service '{name}' runs with other arguments: {_pairs(known.arguments)}.",
                "Choose another name, or stop that service first.",
            )
        if known is None and len(self._services) >= _MAX_SERVICES:
            raise BadInput(f"There are {_MAX_SERVICES} services already.", "Delete one first.")
        return self._begin(name, template, filled)

    def _at(self, endpoint: Endpoint | None) -> Service | None:
        """The running service at a fixed place."""
        if endpoint is None:
            return None
        return next((service for service in self._services.values() if service.alive and service.endpoint == endpoint), None)

    def runs(self, service: Service) -> str:
        """What runs in a service, for people: its script or folder, and its other arguments where they are not the defaults."""
        shown = []
        for argument in service.template.arguments:
            value = service.arguments.get(argument.name, "")
            if argument.kind == "path":
                path = self._path(value)
                below = os.path.relpath(path, self.root_dir or ".")
                shown.append(path if below.startswith("..") else below)
            elif value != argument.default:
                shown.append(_shown(argument.name, value))
        return ", ".join(shown)

    async def stop(self, name: str) -> Service:
        """Stop a service and wait until nothing of it is left."""
        service = self.get(name)
        if service.alive and service.task is not None:
            if service.state == "up":  # it is stopped, it does not crash
                self._recent_starts.pop(name, None)
            service.become("stopping")
            self._tell(service)
            self._end(service)
            await asyncio.wait({service.task})
        return service

    async def settle(self, *names: object) -> None:
        """Wait for the end of services that are being stopped, by their own name or their template's, before one is started."""
        stopping = [s for s in self._services.values() if s.state == "stopping" and {s.name, s.template.name} & set(names)]
        tasks = {service.task for service in stopping if service.task is not None}
        if tasks:
            await asyncio.wait(tasks)

    async def restart(self, name: str) -> Service:
        """Stop a service and start it anew with the same arguments, on another port perhaps."""
        await self.stop(name)
        service = self.get(name)  # meanwhile somebody else may have deleted it, or have been faster
        return service if service.alive else self._begin(name, service.template, service.arguments)

    async def delete(self, name: str) -> None:
        """Stop a service and forget it."""
        service = await self.stop(name)
        while service.alive:  # somebody has started it again meanwhile
            await self.stop(name)
        if self._services.get(name) is service:
            service.log.close()
            del self._services[name]
            self._tell(service)

    async def ready(self, service: Service) -> None:
        """Wait until a service that is starting is up.

        Raises:
            ServiceFailed: it ended, or is stopped.
        """
        while service.state == "starting":
            await service.changed.wait()
        if service.state not in ("up", "unhealthy"):
            raise self.failure(service)

    def failure(self, service: Service) -> ServiceFailed:
        """Why a service cannot be used, with its last lines."""
        what = service.error or ("It is being stopped." if service.state == "stopping" else "It is not running.")
        return ServiceFailed(f"The service '{service.name}' is {service.state}. {what}".strip(), service.log.last_lines())

    async def close(self) -> None:
        """Stop everything at once."""
        self._closing = True
        running = [service for service in self._services.values() if service.task is not None and not service.task.done()]
        for service in running:
            self._end(service)
        if running:
            await asyncio.wait({service.task for service in running if service.task is not None})
        for service in self._services.values():
            service.log.close()
        if self._sockets is not None:
            self._sockets.cleanup()

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
                    "Paths count from the folder that Jupyter's file browser shows.",
                )
        return filled

    def _path(self, value: str) -> str:
        return os.path.normpath(os.path.join(self.root_dir, value))

    def _is_same(self, service: Service, template: Template, arguments: Mapping[str, str]) -> bool:
        """Whether a service of this template has these arguments; paths may be written in different ways."""
        paths = {argument.name for argument in template.arguments if argument.kind == "path"}
        both = [
            {name: self._path(value) if name in paths else value for name, value in each.items()}
            for each in (service.arguments, arguments)
        ]
        return service.template.name == template.name and both[0] == both[1]

    def _name_for(self, template: Template, arguments: Mapping[str, str]) -> str:
        """The name of a service with these arguments, one that runs before one that has ended; else one that is free."""
        same = [service for service in self.list() if self._is_same(service, template, arguments)]
        if same:
            return max(same, key=lambda service: service.alive).name
        return next(name for name in self._names(template, arguments) if self._is_free(name, template))

    def _names(self, template: Template, arguments: Mapping[str, str]) -> Iterator[str]:
        """The template's name; with that of its script or folder behind it; with a number behind that."""
        yield template.name
        name = template.name
        argument = next((each for each in template.arguments if each.kind == "path"), None)
        if argument is not None:
            path = Path(self._path(arguments[argument.name]))
            usual = path.name == Path(argument.default).name  # every app.py is called that: its folder says more
            stem = _UNNAMEABLE.sub("-", path.parent.name if usual else path.stem).strip("-._")
            name = f"{template.name}-{stem}"[:_MAX_BASE].rstrip("-._")
            yield name
        for number in count(2):
            yield f"{name[:_MAX_BASE]}-{number}"

    def _is_free(self, name: str, template: Template) -> bool:
        """A service of this template that has ended gives its name up."""
        known = self._services.get(name)
        if name in self.templates and name != template.name:
            return False
        return known is None or (known.template.name == template.name and not known.alive)

    # ---- one service's life ----

    def _begin(self, name: str, template: Template, arguments: Mapping[str, str]) -> Service:
        if self._closing:
            raise ShuttingDown()
        if os.name != "posix":
            raise ServiceFailed("Services need a POSIX system. Start the program by hand and open its port.")
        self._count_start(name)
        endpoint = self._lease(name, template)
        known = self._services.get(name)
        if known is None:
            log = Log(prepare(self._directory, self._log), f"{name}.log")
            service = Service(name, template, arguments, self._prefix_of(name, template), endpoint, log)
            self._services[name] = service
        else:
            service = known
            service.template, service.arguments, service.endpoint = template, arguments, endpoint
            service.stop.clear()
            service.exit_code = None
            service.become("starting")
        service.touch()
        service.task = asyncio.get_running_loop().create_task(self._live(service), name=f"portproxy service {name}")
        self._tell(service)
        return service

    async def _live(self, service: Service) -> None:
        """From start to end, restarts included."""
        pause = self._first_pause
        while True:
            begun = time.monotonic()
            await self._run_once(service)
            self._give_back(service.endpoint)
            if time.monotonic() - begun > self._long_run:
                pause = self._first_pause
            if service.template.restart != "on-failure" or service.state != "failed" or await _asked_to_stop(service, pause):
                break
            pause *= 2
            try:
                self._count_start(service.name)
                service.endpoint = self._lease(service.name, service.template)
            except ServiceFailed as error:
                service.become("failed", f"{service.error} It is not started again: {error.message}")
                break
            service.become("starting", service.error)
            self._tell(service)
        self._tell(service)

    async def _run_once(self, service: Service) -> None:
        if service.stop.is_set():
            service.become("down")
            return
        try:
            process = service.process = await self._spawn(service)
        except TemplateError as error:
            service.become("failed", str(error))
            return
        except ServiceFailed as error:
            service.become("failed", error.message)
            return
        except OSError as error:
            service.become("failed", f"It could not be started: {error.strerror}.")
            return
        except ValueError:  # half a surrogate pair, for one
            service.become("failed", "It could not be started: its command or environment has text that no program can be given.")
            return
        service.log_begin = service.log.written
        if service.stop.is_set():
            self._end(service)
        self.starts[service.template.name] = self.starts.get(service.template.name, 0) + 1
        reading = background_tasks.run("service output", partial(self._collect, service, process), self._log)
        watching = background_tasks.run("service health", partial(self._watch, service), self._log)
        try:
            service.exit_code = await process.wait()
            await asyncio.wait({reading}, timeout=1)
        finally:
            reading.cancel()
            watching.cancel()
            service.process = None
            if process.stdin is not None:
                process.stdin.close()
        if service.stop.is_set():
            service.become("down")
        elif service.exit_code == 0 and service.state != "starting":
            service.become("down", "It ended with exit code 0.")
        else:
            service.become("failed", _why_it_ended(service))

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        template = service.template
        values = {
            "port": str(service.endpoint.port),
            "unix_socket": service.endpoint.unix_socket,
            "base_url": self._base_url,
            "prefix": service.prefix,
            "name": service.name,
            **service.arguments,
        }
        command, variables, cwd = template.expand(values)
        if template.hooks is None:  # jupyter-server-proxy starts programs where Jupyter was started
            cwd = os.path.join(self.root_dir, cwd)
        environment = self._environment(template, variables)
        program = _program(command[0], cwd, environment.get("PATH", os.defpath))
        if program is None:
            hint = template.requires.hint if template.requires else ""
            file = os.path.dirname(command[0]) and os.path.exists(os.path.join(cwd, command[0]))  # noqa: ASYNC240 (one stat)
            if file:
                raise ServiceFailed(f"The program '{command[0]}' cannot be executed. Is it a file that you may run?")
            raise ServiceFailed(f"The program '{command[0]}' is not installed.{' ' + hint + '.' if hint else ''}")
        if cwd and not os.path.isdir(cwd):  # noqa: ASYNC240 (one stat before a start)
            raise ServiceFailed(f"The folder '{cwd}' does not exist.")
        where = service.endpoint.unix_socket or str(service.endpoint.port)
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(template.stop_timeout), where]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *guard, program, *command[1:], stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT,
            cwd=cwd or None, env=environment, start_new_session=True, limit=1 << 16,
        )  # fmt: skip

    def _environment(self, template: Template, variables: Mapping[str, str]) -> dict[str, str]:
        """This server's environment without its secrets.

        Programs of its own Python come first. A server of jupyter-server-proxy's kind runs those that it ran there.
        """
        own = {"PATH": program_path(), "PYTHONUNBUFFERED": "1"} if template.hooks is None else {}
        return {**remove_secret_variables(os.environ), **own, **variables}

    async def _collect(self, service: Service, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # it was asked for
        while data := await process.stdout.read(1 << 16):
            service.log.write(data)

    async def _watch(self, service: Service) -> None:
        """Readiness first, then health and idleness, until the process ends."""
        template = service.template
        deadline, pause = time.monotonic() + template.ready_timeout, 0.05
        while not await self._probe(service):
            if time.monotonic() >= deadline:
                where = service.endpoint.unix_socket or f"port {service.endpoint.port}"
                service.error = f"It did not listen on {where} within {template.ready_timeout:g} s."
                self._end_process(service)
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.5)
        if service.state == "starting":
            service.become("up")
            self._tell(service)
            if service.process is not None and service.process.stdin is not None:
                service.process.stdin.write(b"u")
        misses = 0
        while True:
            await asyncio.sleep(self._health_period)
            if template.idle_timeout and time.monotonic() - service.last_used >= template.idle_timeout:
                self._end(service)
                return
            if not self._subscribers:
                continue
            misses = 0 if await self._probe(service) else misses + 1
            state: ServiceState = "unhealthy" if misses >= _MISSES else "up"
            if service.state in ("up", "unhealthy") and state != service.state:
                service.become(state, "It does not answer." if misses else "")
                self._tell(service)

    def _end(self, service: Service) -> None:
        service.stop.set()
        self._end_process(service)

    def _end_process(self, service: Service) -> None:
        """The end of its input is the guard's order to stop; so is this server's death."""
        if service.process is not None and service.process.stdin is not None:
            service.process.stdin.close()

    def _tell(self, service: Service) -> None:
        for callback in list(self._subscribers):
            callback(service)

    # ---- places ----

    def _count_start(self, name: str) -> None:
        starts = self._recent_starts.setdefault(name, deque(maxlen=_STARTS_PER_MINUTE))
        now = time.monotonic()
        if len(starts) == _STARTS_PER_MINUTE and now - starts[0] < 60:
            raise StartedTooOften(_STARTS_PER_MINUTE)
        starts.append(now)

    def _lease(self, name: str, template: Template) -> Endpoint:
        if template.endpoint is not None:
            return _free_again(template.endpoint)
        if template.unix_socket:
            if self._sockets is None:
                self._sockets = tempfile.TemporaryDirectory(prefix="portproxy-")
            # Short, for its path has 107 bytes at most (unix(7)), and another one for each name.
            path = Path(self._sockets.name, f"{name[:12]}-{sha256(name.encode()).hexdigest()[:8]}.sock")
            path.unlink(missing_ok=True)
            return Endpoint(0, str(path))
        return Endpoint(self._ports.lend())

    def _give_back(self, endpoint: Endpoint) -> None:
        self._ports.give_back(endpoint.port)


def _why_it_ended(service: Service) -> str:
    """The sentences for a service that has failed. Sets `exit_code` to the program's own."""
    if service.exit_code == BACKGROUND and service.state == "starting":
        service.exit_code = 0
        return f"It went into the background. {service.error} {_FOREGROUND}"
    before = " before it was ready" if service.state == "starting" else ""
    hint = f" If its work goes on in the background: {_FOREGROUND}" if service.exit_code == 0 else ""
    cause = service.log.cause(service.log_begin)
    said = f" Its output: {cause}" if cause else ""
    return service.error or f"It ended with exit code {service.exit_code}{before}.{said}{hint}"


def _pairs(arguments: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={_shown(name, value)}" for name, value in arguments.items())


def _shown(name: str, value: str) -> str:
    """An argument's value for people; a secret is masked as in a command line."""
    return command_lines.MASK if value and command_lines.is_secret(name) else value


def _exists(path: str) -> bool:
    """Whether there is such a file or folder. Flask and Shiny take `app.py:name` and `package.module:name`, too."""
    file = path.rpartition(":")[0] or path
    module = os.path.join(os.path.dirname(file), os.path.basename(file).replace(".", os.sep))
    return any(os.path.exists(each) for each in (path, file, f"{file}.py", module, f"{module}.py"))


def _program(name: str, cwd: str, path: str) -> str | None:
    """The file of a program; None if there is none. `./name` counts from the service's folder, not from this server's."""
    return shutil.which(os.path.abspath(os.path.join(cwd, name)) if os.path.dirname(name) else name, path=path)


def _free_again(endpoint: Endpoint) -> Endpoint:
    """A fixed place, made ready for its next owner.

    Raises:
        ServiceFailed: somebody else is there.
    """
    if not endpoint.unix_socket:
        if not is_free(endpoint.port):
            raise ServiceFailed(f"Port {endpoint.port} is in use by another program.")
        return endpoint
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(endpoint.unix_socket)
    except (FileNotFoundError, ConnectionRefusedError):
        Path(endpoint.unix_socket).unlink(missing_ok=True)
        return endpoint
    except OSError as error:
        raise ServiceFailed(f"The socket '{endpoint.unix_socket}' cannot be used: {error.strerror}.") from None
    raise ServiceFailed(f"The socket '{endpoint.unix_socket}' is in use by another program.")


async def _asked_to_stop(service: Service, seconds: float) -> bool:
    """Wait; True at once if the service is to be stopped meanwhile."""
    try:
        await asyncio.wait_for(service.stop.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
