"""What the documentation builds and installs, built and installed: the image's commands, a package with a template, a clone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.fresh_environment import ROOT, Fresh, built
from ..support.jupyter_processes import jupyter_server
from ..support.markdown_blocks import BLOCKS, each, of

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell"),
]
TEMPLATE = next(block.text for block in BLOCKS if block.page == "docs/templates.md" and block.text.startswith('{\n  "my-app"'))
BACKENDS = {"hatch": "hatchling.build", "setuptools": "setuptools.build_meta"}
PROJECT = """
[build-system]
requires = []
build-backend = "{backend}"
[project]
name = "my-app"
version = "1.0"
[project.scripts]
my-app = "my_app:main"
{block}
"""
MY_APP = """
import argparse
from http.server import BaseHTTPRequestHandler, HTTPServer

def main():
    parser = argparse.ArgumentParser()
    for name in ("--host", "--port", "--base-path"):
        parser.add_argument(name, required=True)
    options = parser.parse_args()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            here = self.path == options.base_path + "/"
            self.send_response(200 if here or self.path == "/" else 404)
            self.end_headers()
            self.wfile.write(b"my page" if here else b"")

    HTTPServer((options.host, int(options.port)), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """What the `RUN` lines of the image make of an environment. No container engine is here, and `FROM` is not fetched."""
    fresh = Fresh(tmp_path_factory.mktemp("image") / "environment")
    (block,) = (block for block in BLOCKS if block.language == "dockerfile")
    base, command = block.text.splitlines()
    assert re.fullmatch(r"FROM [\w./:-]+", base) and command.startswith("RUN ")
    fresh.run(command.removeprefix("RUN "))
    return fresh


@of("dockerfile")
def test_the_image_has_the_package(image, block):
    assert "portproxy" in image.run("jupyter portproxy --help")
    assert (image.folder / "etc" / "jupyter" / "jupyter_server_config.d" / "jupyter_portproxy.json").exists()


@each([block for block in BLOCKS if block.language == "toml" and block.page != "docs/project-file.md"])  # test_project_file_docs
def test_a_package_brings_its_template(image, tmp_path, block):
    """It is built, installed beside the extension, and its tile's program started."""
    backend = next(backend for name, backend in BACKENDS.items() if f"[tool.{name}." in block.text)
    project = tmp_path / "project"
    (project / "my_app").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PROJECT.format(backend=backend, block=block.text))
    (project / "my-app.json").write_text(TEMPLATE)
    (project / "my_app" / "__init__.py").write_text(MY_APP)
    image.run(f"pip install {built(project, tmp_path)}")
    try:
        with jupyter_server(tmp_path, python=image.python) as server:
            templates = json.loads(server.get("proxy/api/templates")[1])
            mine = next(template for template in templates if template["name"] == "my-app")
            assert (mine["title"], mine["available"]) == ("My app", True)
            assert server.call("POST", "proxy/api/services", {"template": "my-app"})[0] == 201
            assert server.get("proxy/service/my-app/") == (200, "my page")
    finally:
        image.run("pip uninstall --yes my-app")


# ---- a clone ----


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of this clone, with an environment of its own as `make` makes it: nothing may change in that of the tests."""
    folder = tmp_path_factory.mktemp("clone") / "clone"
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(".venv", ".git", "build", "node_modules", "*cache*"), symlinks=True
    )
    (folder / "labextension" / "node_modules").symlink_to(ROOT / "labextension" / "node_modules")
    fresh = Fresh(folder / ".venv")
    # What npm would fetch is there, and one of the blocks builds the extension.
    fresh.run("HATCH_JUPYTER_BUILDER_SKIP_NPM=1 pip install --no-deps --no-build-isolation --editable .", folder)
    shutil.rmtree(folder / "jupyter_portproxy" / "labextension")
    bin = folder.with_name("bin")
    bin.mkdir()
    hatch = bin / "hatch"  # a developer's own; it hands `version` over to hatchling, in an environment that it would fetch
    hatch.write_text(f'#!/bin/sh\nexec {fresh.python} -m hatchling "$@"\n')
    hatch.chmod(0o755)
    return folder


@each([block for block in BLOCKS if block.is_for_a_clone])
def test_a_developers_commands_run(clone, block):
    own = [folder for folder in os.environ["PATH"].split(":") if Path(folder) != Path(sys.executable).parent]
    path = ":".join([str(clone.with_name("bin")), *own])  # the environment of the tests is not active there
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text], cwd=clone, env={**os.environ, "PATH": path}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    if "hatch version" in block.text:
        assert json.loads((clone / "labextension" / "package.json").read_text())["version"] == block.text.split()[-1]
    elif "pytest" in block.text:
        assert re.search(r"\d+ passed", done.stdout), done.stdout
    else:
        made = clone / ".venv" / "share" / "jupyter" / "labextensions" / "jupyter-portproxy"
        assert made.resolve() == clone / "jupyter_portproxy" / "labextension"
        assert (made / "package.json").exists() and list((made / "static").glob("remoteEntry*.js"))
