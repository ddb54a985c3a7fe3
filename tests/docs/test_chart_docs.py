"""The values for Zero to JupyterHub that docs/jupyterhub.md shows, and Dask's files: what their readers make of them.

A cluster is not here. The chart's schema judges the values, and the files that the chart would mount are put where it would mount
them, below a folder, for a real Jupyter server and the real Dask.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from jupyter_core.paths import SYSTEM_CONFIG_PATH

from jupyter_portproxy.protocol import urls

from ..support.helm_chart import INGRESS_NGINX, SCHEMA
from ..support.jupyter_processes import environment, jupyter_server
from ..support.markdown_blocks import BLOCKS, Block
from ..support.nginx import accepts

YAML = {block: yaml.safe_load(block.text) for block in BLOCKS if block.language == "yaml"}
VALUES = [block for block, data in YAML.items() if "distributed" not in data]
FILES = [file for block in VALUES for file in YAML[block].get("singleuser", {}).get("extraFiles", {}).values()]
DASKS = [block.text for block in YAML if block not in VALUES] + [f["stringData"] for f in FILES if "dask" in f["mountPath"]]
LINK = "from distributed.utils import format_dashboard_link\nprint(format_dashboard_link('127.0.0.1', 8787))"


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


@pytest.mark.parametrize("text", DASKS)
def test_dask_makes_a_link_to_a_port(tmp_path, text):
    """Dask reads it in the user's folder; `/etc/dask` is its other one."""
    folder = tmp_path / ".config" / "dask"
    folder.mkdir(parents=True)
    (folder / "portproxy.yaml").write_text(text)
    env = environment(tmp_path, {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"})
    done = subprocess.run([sys.executable, "-c", LINK], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    base_url = "/user/ada/" if "JUPYTERHUB_SERVICE_PREFIX" in text else "/"
    route = urls.parse_url(done.stdout.strip(), base_url)
    assert isinstance(route, urls.Route)
    assert (route.port, route.path) == (8787, "/status")


def test_dask_reads_the_file_that_the_chart_mounts(tmp_path):
    (path,) = (file["mountPath"] for file in FILES if "dask" in file["mountPath"])
    code = "import dask.config; print(*dask.config.paths)"
    env = {name: value for name, value in environment(tmp_path).items() if not name.startswith("DASK")}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert str(Path(path).parent) in done.stdout.split()
