"""Environments of kernels: real venvs, a Python in the layout of conda, and specs that `ipykernel install` and people write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.services.kernel_environments import KernelEnvironment, KernelEnvironments

from ..support.conda_prefix import copy_python

REAL_PYTHON = Path(sys.executable).resolve()
REPORT = "import json, os, sys; print(json.dumps([sys.prefix, dict(os.environ)]))"


class Place:
    """A folder with kernel specs, and the environments for them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manager = folder, KernelSpecManager(kernel_dirs=[str(folder / "kernels")], ensure_native_kernel=False)

    def kernels(self, **options) -> KernelEnvironments:
        return KernelEnvironments(self.manager, **options)

    async def find(self, name: str, **options) -> KernelEnvironment:
        return await self.kernels(**options).find(name)

    def spec(self, name: str, *argv: str, **keys) -> Path:
        file = self.folder / "kernels" / name / "kernel.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"argv": list(argv), "display_name": name.title(), "language": "python", **keys}))
        return file

    def venv(self, name: str) -> Path:
        """A venv with the programs `python`, and `tool`, which prints its environment."""
        prefix = self.folder / name
        venv.create(prefix, symlinks=True)
        self.tool(prefix)
        return prefix

    def tool(self, prefix: Path, name: str = "tool") -> Path:
        return self.script(prefix / "bin" / name, f"#!{prefix}/bin/python\n{REPORT}\n")

    def script(self, file: Path, text: str) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
        return file


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def run(command: list[str], variables: dict[str, str] | None = None) -> str:
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout


def report(environment: KernelEnvironment, base: dict[str, str], program: str = "tool") -> tuple[str, dict[str, str]]:
    """`sys.prefix` and the variables of a program that is found and run in an environment."""
    variables = environment.variables(base)
    found = environment.find_program(program, variables["PATH"])
    assert found is not None
    arguments = ["-c", REPORT] if program.startswith("python") else []
    prefix, seen = json.loads(run([found, *arguments], variables))
    return prefix, seen


async def test_programs_of_a_venv_are_found_and_run_there(place):
    prefix = place.venv("own-env")
    place.spec("mine", f"{prefix}/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}")
    environment = await place.find("mine")
    assert (environment.title, environment.kind, environment.prefix) == ("Mine", "venv", str(prefix))
    assert environment.python == f"{prefix}/bin/python"
    base = {
        "PATH": "/usr/bin",
        "VIRTUAL_ENV": "/server",
        "CONDA_PREFIX": "/base",
        "PYTHONHOME": "/nowhere",
        "PYTHONPATH": "/code",
    }
    for program in ("tool", "python"):
        seen_prefix, seen = report(environment, base, program)
        assert seen_prefix == str(prefix)
    assert seen["VIRTUAL_ENV"] == str(prefix)
    assert seen["PATH"] == f"{prefix}/bin:/usr/bin"
    assert seen["PYTHONPATH"] == "/code"
    assert not {"CONDA_PREFIX", "PYTHONHOME"} & seen.keys()


async def test_programs_of_a_conda_environment_are_found_and_run_there(place):
    prefix = place.folder / "envs" / "science"
    copy_python(prefix)
    (prefix / "conda-meta").mkdir()
    place.tool(prefix)
    place.spec("science", f"{prefix}/bin/python", "-m", "ipykernel_launcher")
    environment = await place.find("science")
    assert environment.kind == "conda"
    base = {"PATH": "/usr/bin", "VIRTUAL_ENV": "/server", "CONDA_PREFIX": "/base", "CONDA_PREFIX_1": "/other", "CONDA_SHLVL": "2"}
    seen_prefix, seen = report(environment, base)
    assert seen_prefix == str(prefix)
    assert {name: text for name, text in seen.items() if name.startswith(("CONDA", "VIRTUAL"))} == {
        "CONDA_PREFIX": str(prefix),
        "CONDA_DEFAULT_ENV": "science",
    }
    assert environment.missing("x", "conda install x").endswith(f"conda install --prefix {prefix} x")
    assert environment.missing("x", "pip install x").endswith(f"{prefix}/bin/python -m pip install x")


async def test_a_spec_that_ipykernel_installs(place):
    """With this Python, in whose venv the test runs."""
    options = ["--prefix", str(place.folder), "--name", "installed", "--env", "COLOR", "green-${SHADE}-${NONE}"]
    run([sys.executable, "-m", "ipykernel", "install", *options])
    place.manager.kernel_dirs = [str(place.folder / "share" / "jupyter" / "kernels")]
    environment = await place.find("installed")
    assert environment.python == sys.executable
    own = os.path.dirname(sys.executable)
    variables = environment.variables({"PATH": f"/usr/bin:{own}", "SHADE": "dark"})
    assert variables["PATH"] == f"{own}:/usr/bin"
    assert variables["COLOR"] == "green-dark-${NONE}"


@pytest.mark.parametrize("name", ["python", "python3", "python{}.{}".format(*sys.version_info)])
async def test_python_alone_is_the_servers_own(place, name, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    place.spec("plain", name, "-m", "ipykernel_launcher")
    assert (await place.find("plain")).python == sys.executable


async def test_the_servers_own_programs_are_not_found(place):
    """A venv of the server leaves PATH; of a Python without one, scripts do not count: its folder has other programs, too."""
    server, kernel, plain = place.venv("server"), place.venv("kernel"), place.folder / "usr"
    place.spec("mine", f"{kernel}/bin/python")
    place.tool(server, "only-in-server")
    environment = await place.find("mine", own_python=f"{server}/bin/python")
    path = environment.variables({"PATH": f"{server}/bin:/usr/bin"})["PATH"]
    assert path == f"{kernel}/bin:/usr/bin"
    assert environment.find_program("only-in-server", path) is None
    (plain / "bin").mkdir(parents=True)
    (plain / "bin" / "python").symlink_to(sys.executable)
    place.tool(plain, "script")
    place.script(plain / "bin" / "other", "#!/bin/sh\n")
    environment = await place.find("mine", own_python=f"{plain}/bin/python")
    path = environment.variables({"PATH": f"{plain}/bin:/usr/bin"})["PATH"]
    assert environment.find_program("script", path) is None
    assert environment.find_program(f"{plain}/bin/script", path)  # the template names this very file
    assert environment.find_program("other", path) == f"{plain}/bin/other"


async def test_a_kernel_of_the_servers_own_environment_has_its_programs(place):
    server = place.venv("server")
    place.spec("python3", "python", "-m", "ipykernel_launcher")
    environment = await place.find("python3", own_python=f"{server}/bin/python")
    path = environment.variables({"PATH": f"/usr/bin:{server}/bin"})["PATH"]
    assert environment.find_program("tool", path) == f"{server}/bin/tool"
    place.spec("coloured", "python", "-m", "ipykernel_launcher", env={"COLOR": "red"})
    place.spec("other", f"{place.venv('another')}/bin/python")
    coloured, other = [await place.find(name, own_python=f"{server}/bin/python") for name in ("coloured", "other")]
    assert [each.is_servers_own for each in (environment, coloured, other)] == [True, False, False]


async def test_a_pyenv_version_is_a_folder_with_a_python(place):
    versions = place.folder / ".pyenv" / "versions"
    target = versions / "3.11.7" / "bin"
    target.mkdir(parents=True)
    (target / "python3.11").symlink_to(REAL_PYTHON)
    (target / "python").symlink_to("python3.11")
    place.spec("plain", f"{target}/python", "-m", "ipykernel_launcher")
    environment = await place.find("plain")
    assert (environment.kind, environment.prefix, environment.folders[0]) == ("", str(target.parent), str(target))
    assert "VIRTUAL_ENV" not in environment.variables({"VIRTUAL_ENV": "/server"})
    shim = place.script(place.folder / ".pyenv" / "shims" / "python", f'#!/usr/bin/env bash\nexec "{target}/python" "$@"\n')
    place.spec("shim", str(shim), "-m", "ipykernel_launcher")
    assert (await place.find("shim")).folders[0] == str(shim.parent)  # where pyenv has the shims of all programs


@pytest.mark.parametrize(
    "text",
    [
        '#!/bin/bash\nexec "{prefix}/bin/python" "$@"\n',
        "#!/bin/bash\nsource {prefix}/bin/activate\nexec python -m ipykernel_launcher $@\n",
        "#!/bin/sh\n. '{prefix}/bin/activate'; exec python \"$@\"\n",
        "#!{prefix}/bin/python\nimport ipykernel_launcher\n",
        "#!/bin/sh\n# not /gone/bin/python but\n{prefix}/bin/python3 $@",
    ],
)
async def test_a_script_names_its_python(place, text):
    prefix = place.venv("env")
    place.script(place.folder / "kernels" / "scripted" / "run.sh", text.replace("{prefix}", str(prefix)))
    place.folder.joinpath("kernels", "scripted").rename(place.folder / "scripts")
    place.spec("scripted", "{resource_dir}/run.sh", "-f", "{connection_file}")
    (place.folder / "scripts" / "run.sh").rename(place.folder / "kernels" / "scripted" / "run.sh")
    assert (await place.find("scripted")).prefix == str(prefix)


@pytest.mark.parametrize(
    ("argv", "keys"),
    [
        (["env", "A=1", "{env}/bin/python", "-m", "ipykernel_launcher"], {}),
        (["/usr/bin/nice", "-n", "10", "{env}/bin/python"], {}),
        (["micromamba", "run", "-p", "{env}", "python", "-m", "ipykernel_launcher"], {}),
        (["python", "-m", "nb_conda_kernels.runner", "/base", "{env}"], {"metadata": {"conda_env_path": "{env}"}}),
        (["{env}/bin/xpython", "-f", "{connection_file}"], {}),
        (["run", "{env}/bin/python", "-m", "ipykernel_launcher"], {"env": {"PATH": "{scripts}:${PATH}"}}),
        (["run"], {"env": {"PATH": "{scripts}:{env}/bin:${PATH}"}}),
        (["bin/python"], {}),
    ],
)
async def test_other_ways_to_start_a_python(place, argv, keys):
    prefix = place.venv("env")
    place.script(prefix / "bin" / "xpython", "binary")
    place.script(place.folder / "scripts" / "run", "#!/bin/sh\n")
    values = {"{env}": str(prefix), "{scripts}": str(place.folder / "scripts")}
    text = json.dumps([argv, keys])
    for name, value in values.items():
        text = text.replace(name, value)
    argv, keys = json.loads(text)
    place.spec("other", *argv, **keys)
    environment = await place.find("other", root_dir=str(prefix))
    assert environment.python in (f"{prefix}/bin/python", f"{prefix}/bin/python3")
    assert environment.kind == "venv"


async def test_a_kernel_of_another_language_has_the_folder_of_its_program(place):
    program = place.script(place.folder / "R" / "bin" / "R", "#!/bin/sh\n")
    place.script(program.with_name("shiny"), "#!/bin/sh\n")
    place.spec("ir", str(program), "--slave", language="R")
    environment = await place.find("ir")
    assert (environment.python, environment.kind, environment.folders) == ("", "", (str(program.parent),))
    assert environment.find_program("shiny", environment.variables({})["PATH"])
    assert environment.missing("x", "pip install x") == (
        "The program 'x' is not installed in the environment of the kernel 'ir': pip install x"
    )


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        (None, "There is no kernel 'gone' on this server.", "There are: other."),
        (
            (["/gone/bin/python"], {}),
            "The program of the kernel 'gone' does not exist: /gone/bin/python.",
            "Was its environment deleted? Then remove the kernel, too: jupyter kernelspec remove gone.",
        ),
        ((["nothing"], {"language": "julia"}), "The program of the kernel 'gone' does not exist: nothing.", "Was"),
        (
            (["python"], {"metadata": {"kernel_provisioner": {"provisioner_name": "k8s"}}}),
            "The spec of the kernel 'gone' cannot be read, or what starts it (its provisioner) is not installed.",
            "The server's log says more.",
        ),
        ((["/bin/sh", "-c", "x"], {}), "started by '/bin/sh', and which Python that runs is not known.", "Begin 'argv'"),
        ((["/bin/true", "/usr/bin/python3"], {}), "which Python that runs is not known.", "Begin 'argv' in"),
        (([], {}), "The spec of the kernel 'gone' has no command, or values that are not texts.", "Correct"),
        ((["python"], {"env": {"A": 1}}), "has no command, or values that are not texts.", "Correct"),
        ((["python"], {"argv": 5}), "The spec of the kernel 'gone' cannot be read,", "The server's log says more."),
    ],
)
async def test_a_kernel_without_an_environment_is_refused_by_name(place, spec, message, hint):
    place.spec("other", sys.executable)
    if spec is not None:
        keys = dict(spec[1])
        file = place.spec("gone", *spec[0], **keys)
        assert file.exists()
    with pytest.raises(BadInput) as caught:
        await place.find("gone")
    assert message in caught.value.message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("default", [True, False])
async def test_a_kernel_that_another_provisioner_starts_is_refused(place, default):
    class Fixed:
        def find_kernel_specs(self):
            return {"far": "/"}

        def get_kernel_spec(self, kernel_name):
            metadata = {} if default else {"kernel_provisioner": {"provisioner_name": "k8s"}}
            return KernelSpec(argv=["python"], language="python", metadata=metadata)

    kernels = KernelEnvironments(Fixed(), provisioner="k8s" if default else "local-provisioner")
    with pytest.raises(BadInput) as caught:
        await kernels.find("far")
    assert caught.value.message == "The kernel 'far' does not run as a process of this server: it is started by 'k8s'."


async def test_a_venv_whose_python_is_gone(place):
    prefix = place.venv("env")
    place.spec("mine", f"{prefix}/bin/python")
    for python in prefix.glob("bin/python*"):
        python.unlink()
    (prefix / "bin" / "python").symlink_to("/gone/python3.9")
    with pytest.raises(BadInput, match="does not exist"):
        await place.find("mine")
    shutil.rmtree(prefix)
    with pytest.raises(BadInput, match="does not exist"):
        await place.find("mine")


async def test_a_name_is_quoted_without_control_characters(place):
    with pytest.raises(BadInput) as caught:
        await place.find("x\x1b[2J\n" + "y" * 200)
    assert caught.value.message == f"There is no kernel 'x[2J{'y' * 74}' on this server."


async def test_kernels_that_all_run_elsewhere():
    kernels = KernelEnvironments(None)
    assert await kernels.read_all() == []
    with pytest.raises(BadInput, match="runs on another machine"):
        await kernels.find("python3")


async def test_kernels_of_a_manager_with_coroutines(place):
    class Later:
        async def find_kernel_specs(self):
            return place.manager.find_kernel_specs()

        async def get_kernel_spec(self, kernel_name):
            return place.manager.get_kernel_spec(kernel_name)

    place.spec("mine", sys.executable)
    assert (await KernelEnvironments(Later()).find("mine")).python == sys.executable


async def test_the_list_has_reasons(place):
    place.spec("b", "/gone/python")
    place.spec("a", sys.executable)
    (first, found), (second, error) = await place.kernels().read_all()
    assert (first, second) == ("a", "b")
    assert isinstance(found, KernelEnvironment)
    assert isinstance(error, BadInput)


async def test_a_venv_of_uv_has_no_pip(place):
    prefix = place.venv("env")
    place.spec("mine", f"{prefix}/bin/python")
    expected = f"The program 'x' is not installed in the environment of the kernel 'mine': {prefix}/bin/python -m pip install x"
    assert (await place.find("mine")).missing("x", "pip install x") == expected
    with (prefix / "pyvenv.cfg").open("a") as file:
        file.write("uv = 0.9.0\n")
    assert (await place.find("mine")).missing("x", "pip install x").endswith(f"uv pip install --python {prefix}/bin/python x")
    assert (await place.find("mine")).missing("x") == (
        "The program 'x' is not installed in the environment of the kernel 'mine'."
    )
