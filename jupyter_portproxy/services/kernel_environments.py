"""The environments of kernels, in which services find their programs: conda, venv, pyenv, or the folder of a kernel's program.

A kernel spec says how a kernel is started (`argv`) and with which variables (`env`), as jupyter_client starts it: "python" is
this server's own Python, `{prefix}` and `{resource_dir}` are filled in, and `${NAME}` in `env` is a variable of the server.
The Python of a spec is its `argv[0]`; if that is a script, what the script names by full path, or what is in its folder.

A service in such an environment gets the environment that the kernel's code has, without this server's own: `PYTHONHOME`, the
names of an active venv or conda environment and its folder on `PATH` belong to another Python. `PYTHONPATH` stays, as kernels
have it too. Scripts that activate an environment (conda's `activate.d`) are not run; jupyter_client does not run them either.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import chain, pairwise
from pathlib import Path
from string import Template as VariableTemplate
from typing import Any

from ..errors import BadInput

LOCAL_PROVISIONER = "local-provisioner"
_OWN_NAMES = frozenset({"python", "python{}".format(*sys.version_info), "python{}.{}".format(*sys.version_info)})
_PYTHON = re.compile(r"python[0-9.]*\Z", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]+)\}", re.ASCII)
_IN_SCRIPT = re.compile(r"""(/[^\s"'`;&|<>$]+)/(?:python[0-9.]*|activate)(?=[\s"'`;&|)]|$)""", re.ASCII | re.MULTILINE)
_SHEBANG = re.compile(r"#![ \t]*(\S+)")
_MAX_SCRIPT = 64 << 10  # bytes of a script that are read
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_WRAPPERS = frozenset({"env", "nice", "ionice", "nohup", "setsid", "stdbuf", "taskset"})  # run a program here, unchanged
_OF_OTHER_PYTHON = re.compile(
    r"PYTHONHOME|PYTHONEXECUTABLE|VIRTUAL_ENV(_PROMPT)?|CONDA_(PREFIX(_[0-9]+)?|DEFAULT_ENV|SHLVL|PROMPT_MODIFIER)"
)
_OTHERS_LISTED = 10  # names of kernels in an error


@dataclass(frozen=True, slots=True)
class KernelEnvironment:
    """What programs find in the environment of one kernel.

    Attributes:
        kernel: the name of its spec.
        title: its name for people.
        python: the file of its Python; empty for a kernel of another language.
        prefix: of a venv or conda environment, or the folder above the one with the program.
        kind: "venv", "conda" or, for any other, "".
        folders: first on PATH.
        spec_variables: of the spec, before `${NAME}` is replaced.
        own_folder: of this server's Python.
    """

    kernel: str
    title: str
    language: str
    python: str
    prefix: str
    kind: str
    folders: tuple[str, ...]
    spec_variables: Mapping[str, str] = field(default_factory=dict)
    own_folder: str = ""

    @property
    def is_servers_own(self) -> bool:
        """True if a program there is the same as without a kernel: this server's Python, and no variables of the spec."""
        return self.own_folder in self.folders and not self.spec_variables

    def variables(self, base: Mapping[str, str]) -> dict[str, str]:
        """The environment of a program. `base` is this server's, without what services must not have."""
        given = {name: VariableTemplate(text).safe_substitute(base) for name, text in self.spec_variables.items()}
        environment = {name: text for name, text in base.items() if not _OF_OTHER_PYTHON.fullmatch(name)}
        if self.kind == "venv":
            environment["VIRTUAL_ENV"] = self.prefix
        elif self.kind == "conda":
            environment.update(CONDA_PREFIX=self.prefix, CONDA_DEFAULT_ENV=os.path.basename(self.prefix))
        environment.update(given)
        is_own = self.own_folder in self.folders
        path = given.get("PATH", base.get("PATH", os.defpath)).split(os.pathsep)
        kept = [folder for folder in path if is_own or "PATH" in given or not self._is_active_environment(folder)]
        environment["PATH"] = os.pathsep.join(dict.fromkeys([*self.folders, *kept]))
        return environment

    def find_program(self, name: str, path: str) -> str | None:
        """The file of a program; None if it is not installed, or only as a script of this server's own Python.

        Args:
            name: of a program, or its path.
            path: PATH of the service.
        """
        program = shutil.which(name, path=path)
        is_foreign = program is not None and not os.path.dirname(name) and self._is_of_server(program)
        return None if is_foreign else program

    def missing(self, program: str, hint: str = "") -> str:
        """The sentence for a program that is not installed. `hint`: how it is installed elsewhere, as "pip install x"."""
        how = self._install_command(hint)
        end = f": {how}" if how else "."
        return f"The program '{program}' is not installed in the environment of the kernel '{self.kernel}'{end}"

    def _install_command(self, hint: str) -> str:
        """A command that installs into this environment; the hint as it is where none fits, and empty without one."""
        tool, _, packages = hint.partition(" install ")
        if tool == "conda" and self.kind == "conda":
            return f"conda install --prefix {self.prefix} {packages}"
        if tool != "pip" or not self.python:
            return hint
        if self.kind == "venv" and _is_made_by_uv(self.prefix):
            return f"uv pip install --python {self.python} {packages}"
        return f"{self.python} -m {hint}"

    def _is_active_environment(self, folder: str) -> bool:
        """True for the folder of programs of the server's own venv or conda environment."""
        return bool(self.own_folder) and folder == self.own_folder and bool(_kind_of(os.path.dirname(folder)))

    def _is_of_server(self, program: str) -> bool:
        """True for a script that this server's Python runs, which does not see the packages of the kernel's."""
        folder = os.path.dirname(program)
        if not self.python or self.own_folder in self.folders or folder in self.folders:
            return False
        interpreter = _SHEBANG.match(_read_script(program))
        return interpreter is not None and os.path.dirname(interpreter[1]) == self.own_folder


class KernelEnvironments:
    """The environments of a server's kernels, read from their specs at each call.

    Args:
        specs: the server's `kernel_spec_manager`, whose results may be awaitable; None if the kernels run elsewhere, as with a
            gateway server.
        root_dir: paths in specs count from it.
        provisioner: the name of the one that starts the kernels whose spec names none.
        own_python: the Python of this server.
    """

    def __init__(
        self,
        specs: Any,
        *,
        root_dir: str = "",
        provisioner: str = LOCAL_PROVISIONER,
        own_python: str = sys.executable,
    ) -> None:
        self._specs, self._root_dir, self._provisioner, self._own_python = specs, root_dir, provisioner, own_python

    async def names(self) -> list[str]:
        """The names of all kernels, also of those without an environment here."""
        return sorted(await _result(self._specs.find_kernel_specs())) if self._specs is not None else []

    async def find(self, kernel: str) -> KernelEnvironment:
        """The environment of a kernel.

        Raises:
            BadInput: there is no such kernel, its Python does not exist, or it runs elsewhere.
        """
        if self._specs is None:
            raise BadInput(
                f"The kernel '{_shown(kernel)}' runs on another machine, as all kernels of this server do.",
                "Start the service without a kernel.",
            )
        spec = await self._read_spec(kernel)
        provisioner = (spec.metadata.get("kernel_provisioner") or {}).get("provisioner_name", self._provisioner)
        if provisioner != LOCAL_PROVISIONER:
            raise BadInput(
                f"The kernel '{kernel}' does not run as a process of this server: it is started by '{provisioner}'.",
                "Choose a kernel of this machine, or start the service without a kernel.",
            )
        return self._describe(kernel, spec)

    async def read_all(self) -> list[tuple[str, KernelEnvironment | BadInput]]:
        """All kernels by name, each with its environment or the reason why it has none here."""
        found: list[tuple[str, KernelEnvironment | BadInput]] = []
        for name in await self.names():
            try:
                found.append((name, await self.find(name)))
            except BadInput as error:
                found.append((name, error))
        return found

    async def _read_spec(self, kernel: str) -> Any:
        """Raises: BadInput"""
        names = await self.names()
        if kernel not in names:
            listed = ", ".join(names[:_OTHERS_LISTED]) or "none"
            raise BadInput(f"There is no kernel '{_shown(kernel)}' on this server.", f"There are: {listed}.")
        try:
            spec = await _result(self._specs.get_kernel_spec(kernel))
        except Exception:  # whatever the server's manager raises
            raise BadInput(
                f"The spec of the kernel '{kernel}' cannot be read, or what starts it (its provisioner) is not installed.",
                "The server's log says more.",
            ) from None
        texts = [*spec.argv, *spec.env.values()]
        if not spec.argv or not all(isinstance(text, str) for text in texts):
            raise BadInput(
                f"The spec of the kernel '{kernel}' has no command, or values that are not texts.",
                f"Correct {os.path.join(spec.resource_dir, 'kernel.json')}.",
            )
        return spec

    def _describe(self, kernel: str, spec: Any) -> KernelEnvironment:
        """Raises: BadInput"""
        argv, variables = self._expand_command(spec), dict(spec.env)
        file = self._find_file(argv[0], variables)
        prefix = _conda_prefix(argv, spec)
        if prefix:
            file = os.path.join(prefix, "bin", "python" if _is_for_python(spec) else os.path.basename(spec.argv[-1]))
        if not os.path.exists(file):
            raise BadInput(
                f"The program of the kernel '{kernel}' does not exist: {file}.",
                f"Was its environment deleted? Then remove the kernel, too: jupyter kernelspec remove {kernel}.",
            )
        python = _find_python(argv, file, variables) if _is_for_python(spec) else ""
        if _is_for_python(spec) and not python:
            raise BadInput(
                f"The kernel '{kernel}' is started by '{file}', and which Python that runs is not known.",
                f"Begin 'argv' in {os.path.join(spec.resource_dir, 'kernel.json')} with the path of the Python.",
            )
        program = python or file
        prefix, kind = _environment_of(program)
        folders = [os.path.dirname(program), *([] if kind else [os.path.dirname(os.path.realpath(program))])]
        return KernelEnvironment(
            kernel=kernel,
            title=str(spec.display_name or kernel),
            language=str(spec.language),
            python=python,
            prefix=prefix,
            kind=kind,
            folders=tuple(dict.fromkeys(folders)),
            spec_variables=variables,
            own_folder=os.path.dirname(self._own_python),
        )

    def _expand_command(self, spec: Any) -> list[str]:
        """The command of a kernel, without a program before it that only runs it, as `env`."""
        values = {"prefix": os.path.dirname(os.path.dirname(self._own_python)), "resource_dir": str(spec.resource_dir)}
        argv = [_PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), part) for part in spec.argv]
        pythons = [number for number, part in enumerate(argv) if _is_python(part)]
        return argv[pythons[0] :] if pythons and os.path.basename(argv[0]) in _WRAPPERS else argv

    def _find_file(self, name: str, variables: Mapping[str, str]) -> str:
        """The file of the program that a kernel's command begins with; its name if there is none."""
        if name in _OWN_NAMES:
            return self._own_python
        if os.path.dirname(name):
            return os.path.normpath(os.path.join(self._root_dir, os.path.expanduser(name)))
        return shutil.which(name, path=VariableTemplate(variables.get("PATH", "$PATH")).safe_substitute(os.environ)) or name


async def _result(value: Any) -> Any:
    return await value if isawaitable(value) else value


def _is_python(argument: str) -> bool:
    return _PYTHON.match(os.path.basename(argument)) is not None


def _is_for_python(spec: Any) -> bool:
    return str(spec.language).lower().startswith("python") or _is_python(spec.argv[0])


def _conda_prefix(argv: list[str], spec: Any) -> str:
    """The environment of `conda run --prefix ...`, or of a kernel that nb_conda_kernels lists; else empty."""
    listed = spec.metadata.get("conda_env_path")
    if isinstance(listed, str):
        return listed
    if os.path.basename(argv[0]) not in _CONDA or "run" not in argv:
        return ""
    return next((after for option, after in pairwise(argv) if option in ("-p", "--prefix")), "")


def _find_python(argv: list[str], file: str, variables: Mapping[str, str]) -> str:
    """The Python that a kernel's program is, or starts; empty if that is not known."""
    if _is_python(file):
        return file
    script = _read_script(file)
    named = next(filter(_is_python, argv[1:]), None)
    if named is not None:  # a script may run it here, but `docker run` or `ssh` elsewhere
        return named if script and os.path.isabs(named) and os.path.exists(named) else ""
    folder = os.path.dirname(file)
    beside = _pythons_in([folder] if _kind_of(os.path.dirname(folder)) else [])
    path = VariableTemplate(variables.get("PATH", "")).safe_substitute({}).split(os.pathsep)
    return next(chain(_pythons_of_script(script), beside, _pythons_in(filter(os.path.isabs, path))), "")


def _environment_of(program: str) -> tuple[str, str]:
    """Prefix and kind of the environment that a program belongs to. Python itself looks for them in this order, too."""
    for file in (program, os.path.realpath(program)):
        prefix = os.path.dirname(os.path.dirname(file))
        kind = _kind_of(prefix)
        if kind == "conda" or (kind and file == program):
            return prefix, kind
    return os.path.dirname(os.path.dirname(program)), ""


def _kind_of(prefix: str) -> str:
    if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
        return "venv"
    return "conda" if os.path.isdir(os.path.join(prefix, "conda-meta")) else ""


def _pythons_in(folders: Iterable[str]) -> Iterator[str]:
    for folder in folders:
        if (python := shutil.which("python", path=folder) or shutil.which("python3", path=folder)) is not None:
            yield python


def _pythons_of_script(script: str) -> Iterator[str]:
    """The Pythons that exist of those that a script names by full path, or whose environment it activates."""
    interpreter = _SHEBANG.match(script)
    if interpreter is not None and _is_python(interpreter[1]):
        yield interpreter[1]
    for match in _IN_SCRIPT.finditer(script):
        if _is_python(match[0]) and os.access(match[0], os.X_OK):
            yield match[0]
        else:
            yield from _pythons_in([match[1]])


def _read_script(file: str) -> str:
    """The first bytes of a script; empty for a program of another kind, and one that cannot be read."""
    try:
        with open(file, "rb") as opened:
            content = opened.read(_MAX_SCRIPT)
    except OSError:
        return ""
    return content.decode("utf-8", "replace") if content.startswith(b"#!") else ""


def _is_made_by_uv(prefix: str) -> bool:
    """True for a venv that uv has made, which has no pip."""
    try:
        text = Path(prefix, "pyvenv.cfg").read_text("utf-8", "replace")
    except OSError:
        return False
    return re.search(r"^uv\s*=", text, re.MULTILINE) is not None


def _shown(name: object) -> str:
    return "".join(character for character in str(name)[:80] if character.isprintable())
