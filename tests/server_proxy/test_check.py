"""`jupyter portproxy check --migrate` over configurations as people have them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_portproxy.server_proxy import config

from ..support.jupyter_processes import portproxy

INCUMBENT = Path(sys.prefix, "incumbent")
PAGE = Path(__file__).parents[2] / "docs" / "jupyter-server-proxy.md"
GOOD = """
def command(port):
    return ["serve", str(port)]

def allow(handler, host):
    return host.startswith("10.")

c.PortProxy.allowed_ports = ["1-65535"]
c.ServerProxy.host_allowlist = allow
c.ServerProxy.servers = {
    "docs": {"command": command, "timeout": 20, "launcher_entry": {"title": "Docs", "category": "Other"}},
    "theirs": {"port": 8050, "absolute_url": True},
}
"""
BAD = """
c.ServerProxy.servers = {
    "typo": {"command": ["x"], "absolute_urls": True, "launcher_entry": {"titel": "T"}},
    "lab": {"command": ["x"]},
    "empty": {},
    "wrong": {"command": "x"},
}
c.ServerProxy.host_whitelist = ["localhost", "gpu-1.example.org", "a b"]
c.ServerProxy.nothing = 5
c.ServerProxy.non_service_rewrite_response = 5
c.ServerApp.jpserver_extensions = {"jupyter_server_proxy": True}
"""


@pytest.fixture
def check(tmp_path):
    """Writes configuration files and runs the command; returns its exit code and what it says, by option."""

    def run(**files: str):
        folder = tmp_path / ".jupyter"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / f"jupyter_{name}_config.py").write_text(text)
        code, output, errors = portproxy(tmp_path, "check", "--migrate", "--json")
        assert errors == ""
        answer = json.loads(output)
        assert answer["ready"] == (code == 0)
        found = {finding["option"]: finding for finding in answer["findings"] if not finding["option"].startswith("entry point")}
        return code, found

    return run


def test_a_good_configuration_needs_nothing(check):
    code, found = check(server=GOOD)
    assert (code, {finding["verdict"] for finding in found.values()}) == (0, {"works"})
    assert "c.ServerProxy.servers['docs']['launcher_entry']['title']" in found
    assert found["c.ServerProxy.host_allowlist"]["where"].endswith("jupyter_server_config.py")


def test_what_needs_attention_is_named_with_the_line_to_write(check):
    code, found = check(server=BAD)
    assert code == 1
    servers = "c.ServerProxy.servers"
    verdicts = {name: (finding["verdict"], finding["write"]) for name, finding in found.items() if finding["verdict"] != "works"}
    assert verdicts == {
        f"{servers}['typo']['absolute_urls']": ("ignored", "Write 'absolute_url' instead."),
        f"{servers}['typo']['launcher_entry']['titel']": ("ignored", "Write 'title' instead."),
        f"{servers}['lab']": ("ignored", "Correct it, or take it out."),
        f"{servers}['empty']": ("ignored", "Correct it, or take it out."),
        f"{servers}['wrong']": ("ignored", "Correct it, or take it out."),
        "c.ServerProxy.host_whitelist": ("replaced", 'c.PortProxy.allowed_hosts = ["gpu-1.example.org"]'),
        "c.ServerProxy.host_whitelist: 'a b'": ("ignored", ""),
        "c.ServerProxy.nothing": ("ignored", "Take it out."),
        "c.ServerProxy.non_service_rewrite_response": ("ignored", ""),
        "the extension jupyter_server_proxy": ("replaced", "jupyter server extension disable jupyter_server_proxy"),
        "proxy/N/": ("decide", 'c.PortProxy.allowed_ports = ["1-65535"]   # every port as before, or the ones that you need'),
    }
    assert "'lab' is the name of a page of Jupyter's own" in found[f"{servers}['lab']"]["says"]


def test_the_line_to_write_settles_it(check):
    assert check(server='c.PortProxy.allowed_ports = ["1-65535"]') == (0, {})


def test_an_update_in_another_file_counts_too(check):
    lab = 'c.ServerProxy.servers = {"b": {"port": 8051}}\nc.PortProxy.allowed_ports = [1]'
    assert set(check(lab=lab)[1]) == {"c.ServerProxy.servers['b']['port']"}
    _, found = check(server='c.ServerProxy.servers = {"a": {"port": 8050}}')
    assert set(found) == {"c.ServerProxy.servers['a']['port']"}
    assert found["c.ServerProxy.servers['a']['port']"]["where"].endswith("jupyter_server_config.py")


def test_a_file_that_raises_is_a_finding_and_the_others_are_read(check):
    _, found = check(server="import no_such_package", lab=GOOD)
    broken = next(finding for finding in found.values() if finding["verdict"] == "decide")
    assert broken["option"].endswith("jupyter_server_config.py")
    assert "ModuleNotFoundError: No module named 'no_such_package'" in broken["says"]
    assert found["c.ServerProxy.servers['docs']['command']"]["verdict"] == "works"


def test_one_file_can_be_named(tmp_path):
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"ServerProxy": {"servers": {"a": {"port": 8050}}}, "PortProxy": {"allowed_ports": [8050]}}))
    code, output, _ = portproxy(tmp_path, "check", "--migrate", "--config", str(file))
    assert (code, output.splitlines()[0], output.splitlines()[-1]) == (
        0, f"works     c.ServerProxy.servers['a']['port']  ({file})", "Everything works as it is.",
    )  # fmt: skip
    assert portproxy(tmp_path, "check", "--migrate", "--config", "none.py")[::2] == (1, "There is no file none.py.\n")


def test_entry_points_are_tried(tmp_path):
    info = tmp_path / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[jupyter_serverproxy_servers]\ngood = odd:good\nraises = odd:raises\nexits = sys:exit\n"
        "classes = jupyter_server_proxy.handlers:X\n"
    )
    good = "def good():\n    return {'port': 8050, 'path_info': 'x', 'launcher_entry': {'timeout': 5}}\n"
    (tmp_path / "odd.py").write_text(f"{good}def raises():\n    raise OSError('no disk')\n")
    code, output, _ = portproxy(tmp_path, "check", "--migrate", more={"PYTHONPATH": str(tmp_path)})
    assert code == 1
    assert "works     entry point good  (odd:good)" in output
    assert "ignored   entry point raises  (odd:raises)\n          It is left out: OSError: no disk.\n" in output
    assert "ignored   entry point exits  (sys:exit)\n          It is left out: SystemExit.\n" in output
    assert "ignored   entry point good['path_info']  (odd:good)\n" in output
    assert "ignored   entry point good['launcher_entry']['timeout']  (odd:good)\n" in output
    assert "It is left out: It imports jupyter_server_proxy, which is not installed.\n" in output
    remedy = "pip install jupyter-server-proxy && jupyter server extension disable jupyter_server_proxy"
    assert f"-> Its extension may stay disabled: {remedy}\n" in output


def test_its_lab_extension_is_a_finding_until_it_is_disabled(tmp_path):
    more = {"JUPYTER_PATH": str(INCUMBENT / "share" / "jupyter")}
    line = "-> jupyter labextension disable @jupyterhub/jupyter-server-proxy\n"
    assert line in portproxy(tmp_path, "check", "--migrate", more=more)[1]
    page = tmp_path / ".jupyter" / "labconfig" / "page_config.json"
    page.parent.mkdir(parents=True)
    page.write_text(json.dumps({"disabledExtensions": {"@jupyterhub/jupyter-server-proxy": True}}))
    assert line not in portproxy(tmp_path, "check", "--migrate", more=more)[1]


def test_a_port_and_migrate_exclude_each_other(tmp_path):
    assert portproxy(tmp_path, "check")[0] == 2
    assert portproxy(tmp_path, "check", "8050", "--migrate")[0] == 2


def test_every_option_of_the_incumbent_is_known_and_documented():
    """Read out of the installed package, so that one that it gains is missed here."""
    program = (
        "from jupyter_server_proxy.config import LauncherEntry, ServerProcess, ServerProxy\n"
        "from traitlets.config import Configurable\n"
        "own = set(Configurable.class_trait_names())\n"
        "print([sorted(set(c.class_trait_names()) - own) for c in (ServerProxy, ServerProcess, LauncherEntry)])"
    )
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(INCUMBENT)}, capture_output=True, check=True)
    options = ast.literal_eval(done.stdout.decode())
    assert options == [sorted(config.TRAITS), sorted(config.SERVER_KEYS), sorted(config.LAUNCHER_ENTRY_KEYS)]
    page = PAGE.read_text("utf-8")
    assert all(
        f"\n| `{prefix}{name}` | " in page
        for prefix, names in zip(("c.ServerProxy.", "", ""), options, strict=True)
        for name in names
    )
