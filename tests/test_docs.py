"""What the documentation tells people to write is read here as the programs would read it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from jupyter_server.serverapp import ServerApp
from jupyterhub.app import JupyterHub
from jupyterhub.scopes import scope_definitions
from jupyterhub.services.auth import HubOAuth
from jupyterhub.spawner import Spawner
from traitlets.config import Config

from jupyter_portproxy.gateway import PortProxy

DOCS = Path(__file__).parents[1] / "docs"
KNOWN = {each.__name__: each for each in (PortProxy, JupyterHub, Spawner, ServerApp, HubOAuth)}
# What JupyterHub tells its services, and an administrator those that it does not run.
TOLD = {
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:10101",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/projects/",
    "PROJECTS_API_TOKEN": "secret",
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def server_settings() -> str:
    """The first `jupyter_server_config.py` that docs/jupyterhub.md shows."""
    return next(block for block in blocks("jupyterhub.md", "python") if block.startswith("# jupyter_server_config.py"))


def projects_settings(start: str) -> str:
    """The block with that first line, of the login of projects."""
    return next(block for block in blocks("jupyterhub.md", "python") if block.startswith(f"{start}\n"))


def loaded(block: str) -> Config:
    config = Config()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOLD.items():
            patch.setenv(name, value)
        exec(compile(block, "docs/jupyterhub.md", "exec"), {"c": config})
    return config


def files_of(values: object) -> dict[str, str]:
    """`mountPath` and text of the chart's extra files."""
    files = values.get("singleuser", {}).get("extraFiles", {})
    return {entry["mountPath"]: entry["stringData"] for entry in files.values()}


YAML = [yaml.safe_load(block) for block in blocks("jupyterhub.md", "yaml")]
FILES = {path: text for values in YAML for path, text in files_of(values).items()}
CONFIGS = [*blocks("jupyterhub.md", "python"), *(text for path, text in FILES.items() if path.endswith(".py"))]


@pytest.mark.parametrize("block", CONFIGS)
def test_a_configuration_loads_and_names_settings_that_there_are(block):
    config = loaded(block)
    assert config or "import" in block
    for name, section in config.items():
        assert set(section) <= set(KNOWN[name].class_trait_names(config=True)), name
    PortProxy(config=config)


@pytest.mark.parametrize("block", CONFIGS)
def test_scopes_are_the_hubs(block):
    scopes = [scope for role in loaded(block).JupyterHub.get("load_roles", []) for scope in role["scopes"]]
    assert {scope.partition("!")[0] for scope in scopes} <= set(scope_definitions)


def test_the_charts_values_are_mappings_whose_files_parse():
    assert all(isinstance(values, dict) for values in YAML)
    assert sorted(FILES) == ["/etc/dask/portproxy.yaml", "/usr/local/etc/jupyter/jupyter_server_config.py"]
    assert yaml.safe_load(FILES["/etc/dask/portproxy.yaml"]) in YAML


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_links_between_pages_lead_somewhere(page):
    text = (DOCS / page).read_text()
    for target, anchor in re.findall(r"\]\(((?!\w+:)[^)#\s]*)#?([^)\s]*)\)", text):
        found = DOCS / (target or page)
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in titles}, (target, anchor)
