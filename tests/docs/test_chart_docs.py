"""The values for Zero to JupyterHub that docs/jupyterhub.md shows: what their readers make of them.

A cluster is not here. The chart's schema judges the values, and the files that the chart would mount are put where it would mount
them, below a folder, for a real Jupyter server.
"""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml
from jupyter_core.paths import SYSTEM_CONFIG_PATH

from ..support.helm_chart import INGRESS_NGINX, SCHEMA
from ..support.jupyter_processes import jupyter_server
from ..support.markdown_blocks import BLOCKS, Block
from ..support.nginx import accepts

YAML = {block: yaml.safe_load(block.text) for block in BLOCKS if block.language == "yaml" and block.page != "docs/attach.md"}
VALUES = list(YAML)
FILES = [file for block in VALUES for file in YAML[block].get("singleuser", {}).get("extraFiles", {}).values()]


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_the_chart_takes_these_values(block: Block):
    jsonschema.validate(YAML[block], SCHEMA)


@pytest.mark.parametrize(
    "wrong",
    [
        {"singleuser": {"image": {"name": "a"}}},
        {"singleuser": {"image": {"name": "a", "tag": 1}}},
        {"singleuser": {"extraFile": {}}},
        {"singleuser": {"extraFiles": {"a": {"stringData": ""}}}},
        {"singleuser": {"extraFiles": {"a": {"mountPath": "/a", "stringData": "", "data": {}}}}},
        {"singleuser": {"networkPolicy": {"egress": [{"ports": [{"port": 80, "protocol": "tcp"}]}]}}},
        {"cull": {"enabled": True, "timeout": "1h"}},
        {"cull": {"enabled": True, "max-age": 1}},
        {"ingress": {"hosts": []}},
        {"ingress": {"enabled": True, "annotations": {"a": 0}}},
    ],
    ids=str,
)
def test_the_chart_does_not_take_others(wrong):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_nginx_takes_what_the_ingress_makes_of_the_annotations(tmp_path):
    made = [
        INGRESS_NGINX[name].format(value)
        for block in VALUES
        for name, value in YAML[block].get("ingress", {}).get("annotations", {}).items()
    ]
    assert made
    accepts(tmp_path, f"server {{ listen 127.0.0.1:8080; location / {{ proxy_pass http://127.0.0.1:8000; {' '.join(made)} }} }}")


def test_a_server_obeys_the_files_that_the_chart_mounts(tmp_path):
    for file in FILES:
        path = tmp_path / file["mountPath"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["stringData"])
    (config,) = (Path(file["mountPath"]).parent for file in FILES if file["mountPath"].endswith(".py"))
    assert str(config) in SYSTEM_CONFIG_PATH  # where Jupyter looks without being told
    with jupyter_server(tmp_path, more={"JUPYTER_CONFIG_PATH": str(tmp_path / config.relative_to("/"))}) as server:
        for port in (7999, 8000, 9000, 9001, 9999, 10000):
            code, text = server.get(f"proxy/port/{port}/")
            outside = code == 403 and f"Port {port} is outside allowed range (8000-9000, 10000-20000)" in text
            assert outside == (port in (7999, 9001, 9999)), (port, code, text)
