"""One run of a service: its program under a guard, from the start until no process of it is left."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections import Counter
from functools import partial
from pathlib import Path

from ..errors import BadInput, ServiceFailed
from ..protocol.credentials import remove_secret_variables
from ..system import background_tasks
from . import environment_file
from .environment_file import EnvironmentFileError
from .guard import BACKGROUND
from .health import HealthChecks
from .kernel_environments import KernelEnvironment, KernelEnvironments
from .link_variables import remove_link_variables
from .listeners import ports_of_descendants
from .ports import is_free
from .service import Service, ServiceState
from .template_keys import TemplateError
from .templates import Template, program_path

_GUARD = Path(__file__).parent / "guard.py"
_FOREGROUND = "Run it in the foreground: many programs have an option for that, such as --foreground, --no-daemon, -fg or -D."


class Runner:
    """Runs the programs of services.

    Args:
        root_dir: working directories are relative to it.
        health: follows each run.
        kernels: the kernels in whose environments services may run.

    Attributes:
        starts: template -> number of processes that were started.
    """

    def __init__(
        self, base_url: str, root_dir: str, health: HealthChecks, kernels: KernelEnvironments, log: logging.Logger
    ) -> None:
        self._base_url, self._root_dir, self._health, self._log = base_url, root_dir, health, log
        self._kernels = kernels
        self.starts: Counter[str] = Counter()

    async def run(self, service: Service) -> tuple[ServiceState, str]:
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
        service.end_reason = ""
        if service.stop_requested.is_set():
            end_input(service)
        self.starts[service.template.name] += 1
        reading = background_tasks.run("service output", partial(_collect_output, service, process), self._log)
        self._health.begin(service)
        try:
            service.exit_code = await process.wait()
            await asyncio.wait({reading}, timeout=1)
        finally:
            reading.cancel()
            self._health.end(service)
            end_input(service)
            service.process = None
        if service.stop_requested.is_set():
            return "down", ""
        if service.exit_code == 0 and service.state != "starting":
            return "down", "It ended with exit code 0."
        return "failed", _why_it_failed(service)

    async def _spawn(self, service: Service) -> asyncio.subprocess.Process:
        """Start the program under its guard. Raises: TemplateError, ServiceFailed, OSError, ValueError"""
        template, endpoint = service.template, service.endpoint
        folder = template.folder or self._root_dir
        values = {
            **_values_of_needs(service),
            "port": str(endpoint.port),
            "unix_socket": endpoint.unix_socket,
            "base_url": self._base_url,
            "prefix": service.prefix,
            "name": service.name,
            **service.arguments,
        }
        command, variables, cwd = template.expand(values)
        base = remove_link_variables(remove_secret_variables(os.environ))
        if template.hooks is None:  # jupyter-server-proxy starts programs in the server's own working directory, with its PATH
            cwd = os.path.join(folder, cwd)
            base |= {"PATH": program_path(), "PYTHONUNBUFFERED": "1"}
            variables = {**_read_environment_file(template, folder), **variables}
        kernel = await self._find_kernel(service)
        environment = {**(base if kernel is None else kernel.variables(base)), **variables}
        program = _find_program(template, command[0], cwd, environment.get("PATH", os.defpath), kernel)
        if cwd and not os.path.isdir(cwd):  # noqa: ASYNC240 (one stat before a start)
            raise ServiceFailed(f"The folder '{cwd}' does not exist.")
        address = endpoint.unix_socket or str(endpoint.port) if template.listens else "-"
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(template.stop_timeout), address]
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(
            *guard, program, *command[1:], stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT,
            cwd=cwd or None, env=environment, start_new_session=True, limit=1 << 16,
        )  # fmt: skip

    async def _find_kernel(self, service: Service) -> KernelEnvironment | None:
        """Raises: ServiceFailed: the service's kernel has no environment here."""
        if not service.kernel:
            return None
        try:
            return await self._kernels.find(service.kernel)
        except BadInput as error:
            raise ServiceFailed(f"{error.message} {error.hint}") from None


def _values_of_needs(service: Service) -> dict[str, str]:
    """The values of the placeholders `{NAME.port}` and so on."""
    values = {}
    for name, need in zip(service.template.depends_on, service.needs, strict=True):
        values[f"{name}.port"] = str(need.endpoint.port)
        values[f"{name}.unix_socket"], values[f"{name}.prefix"] = need.endpoint.unix_socket, need.prefix
    return values


def _read_environment_file(template: Template, folder: str) -> dict[str, str]:
    """Raises: ServiceFailed"""
    if template.file_variables is not None:
        return dict(template.file_variables)
    if not template.environment_file:
        return {}
    try:
        return environment_file.read(os.path.join(folder, template.environment_file), template.folder)
    except EnvironmentFileError as error:
        raise ServiceFailed(f"The file of variables '{template.environment_file}' cannot be used: {error}.") from None


def end_input(service: Service) -> None:
    """Make the guard stop the program by closing its input, as the death of this server does too."""
    if service.process is not None and service.process.stdin is not None:
        service.process.stdin.close()


async def _collect_output(service: Service, process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None  # a pipe
    while data := await process.stdout.read(1 << 16):
        service.log.write(data)


def explain_late(service: Service) -> str:
    """Why a run was not ready in time: it listens elsewhere, does not answer as it should, or does not listen at all."""
    template, endpoint = service.template, service.endpoint
    within = f"within {template.ready_timeout:g} s"
    ports = ports_of_descendants(service.process.pid) if service.process is not None else []
    if endpoint.port in ports:
        answer = "accept connections" if template.ready == "tcp" else f"answer '{template.ready}' with a status below 500"
        return f"It listens on port {endpoint.port}, but did not {answer} {within}."
    late = f"It did not listen on {endpoint.unix_socket or f'port {endpoint.port}'} {within}"
    if not ports or endpoint.unix_socket:
        return f"{late}."
    elsewhere = f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports[:5]))}"
    return f"{late}, but on {elsewhere}. Pass it its port as '{{port}}' in the template's command, or set the template's 'port'."


def _why_it_failed(service: Service) -> str:
    """The error of a run that has failed. Replaces the guard's `exit_code` by the program's."""
    is_ready = service.state != "starting"
    if service.exit_code == BACKGROUND and not is_ready:
        service.exit_code = 0
        return f"It went into the background. {service.end_reason} {_FOREGROUND}"
    if service.end_reason:
        return service.end_reason
    if service.exit_code == 0 and not is_ready and service.endpoint.port and not is_free(service.endpoint.port):
        # Only Linux finds such a process, and stops it.
        return f"It went into the background, and listens on port {service.endpoint.port} there. {_FOREGROUND}"
    cause = service.log.cause(service.log_offset)
    output = f" Its output: {cause}" if cause else ""
    hint = f" If its work goes on in the background: {_FOREGROUND}" if service.exit_code == 0 else ""
    return f"It ended with exit code {service.exit_code}{'' if is_ready else ' before it was ready'}.{output}{hint}"


def _find_program(template: Template, name: str, cwd: str, path: str, kernel: KernelEnvironment | None) -> str:
    """The file of a program. `./name` is relative to the service's working directory, not to this server's.

    Raises:
        ServiceFailed: it does not exist, or cannot be executed.
    """
    file = os.path.abspath(os.path.join(cwd, name)) if os.path.dirname(name) else name
    program = shutil.which(file, path=path) if kernel is None else kernel.find_program(file, path)
    if program is not None:
        return program
    if os.path.dirname(name) and os.path.exists(file):
        raise ServiceFailed(f"The program '{name}' cannot be executed. Is it a file that you may run?")
    hint = template.requires.hint if template.requires else ""
    if kernel is not None:
        raise ServiceFailed(kernel.missing(name, hint))
    raise ServiceFailed(f"The program '{name}' is not installed.{' ' + hint + '.' if hint else ''}")
