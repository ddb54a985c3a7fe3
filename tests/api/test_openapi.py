"""docs/openapi.yaml says what the API does: the same calls, the same objects, and nothing that ends in a 500."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from jupyter_portproxy.api import handlers, index_page, kernels, ready
from jupyter_portproxy.attachment import api as attachment_api
from jupyter_portproxy.diagnose import handlers as diagnose_api
from jupyter_portproxy.diagnose import recorder_handlers
from jupyter_portproxy.project_file import handlers as folder_handlers
from jupyter_portproxy.projects import handlers as project_handlers
from jupyter_portproxy.projects.placement.admin import PlacementAdmin
from jupyter_portproxy.services import port_rules
from jupyter_portproxy.services.port_rules import PortRule

from ..support.project_sites import NAMED_USERS, local_site, place_locally

FILE = Path(__file__).parents[2] / "docs" / "openapi.yaml"
LAB = Path(__file__).parents[2] / "labextension"
APIS = (handlers, ready, kernels, folder_handlers, project_handlers, attachment_api, diagnose_api, recorder_handlers)
ROUTES = [route for api in APIS for route in api.ROUTES]
VERBS = ("get", "post", "put", "patch", "delete")
RUNS = {
    "web": {"command": [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "{port}"], "stop_timeout": 1},
    "fails": {"command": [sys.executable, "-c", "raise SystemExit(3)"]},
}


async def place_projects(dsn: str) -> None:
    """Projects with the keys that schemathesis makes up first."""
    admin = PlacementAdmin(dsn)
    for key in ("0", "a", "p1"):
        await place_locally(admin, key, name=key)
    await admin.close()


def test_the_file_has_every_call_and_no_other():
    described = {
        (path, verb) for path, item in yaml.safe_load(FILE.read_text())["paths"].items() for verb in item if verb in VERBS
    }
    served = {
        (re.sub(r"\([^)]*\)", "{name}", re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", path)).removeprefix("/proxy/api"), verb)
        for path, handler in ROUTES
        for verb in VERBS
        if verb in vars(handler) and handler is not handlers.UnknownPathHandler
    }
    assert described == served


def test_no_comma_has_cut_a_description():
    """YAML's `{description: one, two}` is a description "one" and a key "two" without a value."""

    def cut_in(node, path=()):
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        return [path] if node is None else [found for key, child in children for found in cut_in(child, (*path, key))]

    assert cut_in(yaml.safe_load(FILE.read_text())) == []


def test_the_values_of_a_rule_are_the_same_in_each_place():
    api = yaml.safe_load(FILE.read_text())
    put, patch = (
        api["paths"]["/port-rules"][method]["requestBody"]["content"]["application/json"]["schema"]["properties"]
        for method in ("put", "patch")
    )
    rule = api["components"]["schemas"]["PortRule"]["properties"]
    assert set(rule) == {field.name for field in fields(PortRule)} == {"id", *put} == {"id", *port_rules.KEYS} and put == patch
    for described in (put, rule):
        assert described["on_appear"]["oneOf"][0]["enum"] == list(port_rules.ON_APPEAR)
        assert described["scheme"]["oneOf"][0]["enum"] == list(port_rules.SCHEMES)
    assert api["components"]["schemas"]["Port"]["properties"]["scheme"]["enum"] == list(port_rules.SCHEMES)
    assert (put["label"]["maxLength"], put["process"]["maxLength"]) == (port_rules.MAX_LABEL, port_rules.MAX_PATTERN)
    settings = json.loads((LAB / "schema" / "plugin.json").read_text())["properties"]
    for described in (settings["onNewPort"], settings["ports"]["items"]["properties"]["action"]):
        assert set(described["enum"]) == set(port_rules.ON_APPEAR)
    assert set(index_page.ON_APPEAR_TEXTS) == set(port_rules.ON_APPEAR) == set(index_page.APPEARANCE_CHOICES) - {""}
    panel_texts = (LAB / "src" / "labels.ts").read_text()
    assert all(f"trans.__('{text}')" in panel_texts for choice, text in index_page.APPEARANCE_CHOICES.items() if choice)
    source = (LAB / "src" / "rules.ts").read_text()
    assert re.findall(r"MAX_PATTERN_LENGTH = (\d+)", source) == [str(port_rules.MAX_PATTERN)]


@pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")
@pytest.mark.timeout(240)
def test_schemathesis_finds_nothing(tmp_path):
    config = tmp_path / ".jupyter" / "jupyter_portproxy.d"
    config.mkdir(parents=True)
    (config / "mine.json").write_text(json.dumps(RUNS))
    with local_site(tmp_path, NAMED_USERS) as site:
        server = site.server
        for name in ("web", "fails"):  # so that there is something to find
            assert server.call("POST", "proxy/api/services", {"template": name}, token="user-ann")[0] == 201
        asyncio.run(place_projects(site.dsn))
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", str(FILE), "--url", f"{server.url}proxy/api"),
                *("--header", "Authorization: token user-ann", "--exclude-path-regex", "/events$", "--max-examples", "30"),
                *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"),
                *("--phases", "examples,coverage,fuzzing", "--request-timeout", "20", "--no-color", "--warnings", "off"),
                *("--seed", "3", "--exclude-checks", "unsupported_method", "--generation-database", "none"),
            ],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        assert "Traceback" not in server.log
