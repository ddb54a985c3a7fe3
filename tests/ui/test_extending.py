"""The npm package, and the extension of docs/extending.md, built with it and run in JupyterLab."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import expect

from ..support.jupyter_processes import jupyter_server
from ..support.markdown_blocks import BLOCKS, ROOT
from .conftest import log_in
from .test_lab import TEMPLATES, open_lab

pytestmark = pytest.mark.timeout(180)
PANEL = ROOT / "labextension"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def npm(folder: Path, *arguments: str) -> None:
    env = {**os.environ, "PATH": PATH}
    done = subprocess.run(["npm", *arguments], cwd=folder, env=env, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The folder of the package that `npm pack` makes."""
    folder = tmp_path_factory.mktemp("package")
    shutil.rmtree(PANEL / "lib", ignore_errors=True)  # may have files of modules that are gone
    npm(PANEL, "pack", "--silent", "--pack-destination", str(folder))
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def test_the_package_has_what_others_build_with_and_nothing_else(package):
    modules = [path.stem for path in (PANEL / "src").iterdir()]
    built = {f"lib/{name}{ending}" for name in modules for ending in (".js", ".d.ts")}
    others = {"package.json", "README.md", "LICENSE", "schema/plugin.json", "style/index.css", "style/index.js"}
    assert {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file()} == built | others
    described = json.loads((package / "package.json").read_text())
    assert "private" not in described
    for target in ("main", "types", "style", "styleModule"):
        assert (package / described[target]).is_file(), target
    assert {(package / path).is_file() for path in described["exports"]["."].values()} == {True}
    assert "resolved" not in (PANEL / "package-lock.json").read_text()


@pytest.fixture(scope="module")
def extension(package, tmp_path_factory):
    """The built extension of the documentation."""
    texts = [block.text for block in BLOCKS if block.page == "docs/extending.md"]
    folder = tmp_path_factory.mktemp("extension")
    (folder / "src").mkdir()
    for name, text in zip(["package.json", "tsconfig.json", "src/index.ts"], texts, strict=True):
        (folder / name).write_text(text)
    modules = folder / "node_modules"
    modules.mkdir()
    for module in (PANEL / "node_modules").iterdir():  # what npm would fetch
        (modules / module.name).symlink_to(module)
    shutil.copytree(package, modules / "jupyter-portproxy")
    npm(folder, "run", "build")
    return folder / "labextension"


def test_the_extension_of_the_documentation_works(chromium, extension, tmp_path):
    config = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps({"my-app": TEMPLATES["demo"]}))
    shutil.copytree(extension, tmp_path / ".local" / "share" / "jupyter" / "labextensions" / "my-extension")
    with jupyter_server(tmp_path, "--LabApp.expose_app_in_browser=True") as server:
        context = chromium.new_context()
        log_in(context, server.url)
        page = context.new_page()
        open_lab(page, f"{server.url}lab")
        ports = "window.jupyterapp.commands.label('my-extension:dashboard')"
        page.wait_for_function(f"/^Dashboard \\(\\d+ ports\\)$/.test({ports})")
        before = page.evaluate(ports)
        page.evaluate("void window.jupyterapp.commands.execute('my-extension:dashboard')")
        expect(page.frame_locator(".jp-PortProxy-frame iframe").locator("#socket")).to_contain_text("echoed", timeout=20_000)
        page.wait_for_function(f"{ports} !== {before!r}")  # the service listens, too
        context.close()
