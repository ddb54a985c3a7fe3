"""What is released: one version, complete metadata, and recipes that say the same as pyproject.toml."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import metadata

import pytest
import yaml
from packaging.version import Version

import jupyter_portproxy

from ..support.docs_shell import ROOT
from ..ui.engines import PACKAGES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
APT = "sudo apt-get update -qq && sudo apt-get install -y -qq --no-install-recommends"
RECIPE = yaml.safe_load((ROOT / "conda.recipe" / "recipe.yaml").read_text())


def test_the_version_stands_in_one_place():
    package = json.loads((ROOT / "labextension" / "package.json").read_text())
    assert Version(jupyter_portproxy.__version__) == Version(package["version"])  # 1.0.0b1 is 1.0.0-beta.1 there
    assert PROJECT["tool"]["hatch"]["version"] == {"source": "nodejs", "path": "labextension/package.json"}
    assert "version" in PROJECT["project"]["dynamic"]
    for room in (ROOT / "jupyter_portproxy").glob("*.py"):
        assert not re.search(r"__version__ = ['\"]", room.read_text()), room


def test_the_metadata_is_complete():
    described = metadata("jupyter_portproxy")
    assert described["License-Expression"] == "BSD-3-Clause"
    assert {"Typing :: Typed", "Framework :: Jupyter :: JupyterLab :: Extensions :: Prebuilt"} <= set(
        described.get_all("Classifier")
    )
    assert "jupyterlab-extension" in described["Keywords"]
    assert (ROOT / "jupyter_portproxy" / "py.typed").exists()


def test_jupyter_releaser_finds_where_a_release_is_written():
    """It puts the entry between its two marks, once each, and changes the version by its command."""
    text = (ROOT / "CHANGELOG.md").read_text()
    start, end = (text.split(f"<!-- <{word} NEW CHANGELOG ENTRY> -->") for word in ("START", "END"))
    assert (len(start), len(end)) == (2, 2)
    assert start[0].startswith("# Changelog\n") and "\n## " not in start[0] and len(start[0]) < len(end[0])
    assert PROJECT["tool"]["jupyter-releaser"]["options"] == {"version_cmd": "hatch version"}


def test_the_conda_recipe_requires_the_same_packages():
    def plain(requirement: str) -> tuple[str, frozenset[str]]:
        """Without its marker: a package for every Python has none."""
        name, constraints = re.fullmatch(r"([\w.-]+)\s*([^;]*)(?:;.*)?", requirement).groups()
        return name.replace("_", "-"), frozenset(filter(None, constraints.split(",")))

    ours = {plain(line) for line in PROJECT["project"]["dependencies"]}
    theirs = {plain(line) for line in RECIPE["requirements"]["run"] if not line.startswith("python ")}
    assert theirs == ours
    built = {plain(line) for line in RECIPE["requirements"]["host"] if not line.startswith(("python ", "pip", "nodejs "))}
    assert built == {plain(line) for line in PROJECT["build-system"]["requires"]}
    assert RECIPE["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in PROJECT["project"]["scripts"].items()]
    assert RECIPE["about"]["license"] == PROJECT["project"]["license"]
    about, address = RECIPE["about"], PROJECT["project"]["urls"]["Documentation"]
    assert (about["homepage"], about["documentation"]) == (address, address)


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = {step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step}
    install = f"{APT} {' '.join(package for package in PACKAGES if package != 'firefox-esr')}"  # the machine has Firefox
    assert commands == {install, ".ci/run", "make docs", "make conda"}
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1:] == ["make test"]
    assert PROJECT["project"]["requires-python"] == f">={workflow['jobs']['test']['strategy']['matrix']['python'][0]}"


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem)
def test_an_issue_form_is_complete(form):
    data = yaml.safe_load(form.read_text())
    if form.stem == "config":
        return
    assert {"name", "description", "body"} <= set(data)
    fields = [item for item in data["body"] if item["type"] != "markdown"]
    assert fields and all(item["attributes"]["label"] for item in fields)
    assert len({item["id"] for item in fields}) == len(fields)


def test_the_address_of_the_documentation_is_everywhere_the_same():
    address = PROJECT["project"]["urls"]["Documentation"]
    assert json.loads((ROOT / "labextension" / "package.json").read_text())["homepage"] == address
    schema = json.loads((ROOT / "labextension" / "schema" / "plugin.json").read_text())
    (entry,) = (menu for menu in schema["jupyter.lab.menus"]["main"] if menu["id"] == "jp-mainmenu-help")
    assert [item["args"]["url"] for item in entry["items"] if "args" in item] == [address]


def test_the_site_needs_what_the_docs_extra_has():
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(extras["docs"]) <= set(extras["test"])
    hosted = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert all(f"'{line}'" in hosted["build"]["jobs"]["install"][0] for line in extras["docs"])
