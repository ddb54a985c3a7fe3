"""The variables from which programs make links: what kernels, terminals, services and real readers get of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from jupyter_portproxy import url_for
from jupyter_portproxy.protocol import urls
from jupyter_portproxy.services.link_variables import LinkVariables, remove_link_variables

from ..support.jupyter_processes import TOKEN, environment
from ..support.waiting import eventually

CONFIG = {"ServerApp": {"jpserver_extensions": {"jupyter_portproxy": True}}, "IdentityProvider": {"token": TOKEN}}
NAMES = (
    *("JUPYTER_PORTPROXY_URL", "VSCODE_PROXY_URI", "TENSORBOARD_PROXY_URL", "DASK_DISTRIBUTED__DASHBOARD__LINK", "JPY_BASE_URL"),
    *("LOCALTILESERVER_CLIENT_PREFIX", "LARGE_IMAGE_JUPYTER_PROXY", "PYVISTA_TRAME_SERVER_PROXY_PREFIX"),
)
PRINT = f"import json, os; print(json.dumps({{name: os.environ.get(name) for name in {NAMES}}}))"


@pytest.fixture(autouse=True)
def no_links(monkeypatch, tmp_path):
    """An environment as before a server has started, and a home without files of Dask."""
    for name in (*NAMES, "JUPYTER_PORTPROXY_VARIABLES", "JUPYTERHUB_SERVICE_PREFIX", "DASK_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DASK_ROOT_CONFIG", str(tmp_path / "etc"))


def links(base_url: str = "/a%40b/", *arguments: object, **more: object) -> dict[str, str]:
    """What is set in an empty environment, or in `environment`."""
    variables = more.setdefault("environment", {})
    LinkVariables(base_url, *arguments, **more).set()
    return {name: value for name, value in variables.items() if name != "JUPYTER_PORTPROXY_VARIABLES"}


# ---- values ----


def test_each_reader_has_its_form_of_the_link():
    assert links("/user/ada/") == {
        "JUPYTER_PORTPROXY_URL": "/user/ada/proxy/port/{port}/",
        "VSCODE_PROXY_URI": "/user/ada/proxy/port/{{port}}/",
        "TENSORBOARD_PROXY_URL": "/user/ada/proxy/port/%PORT%/",
        "DASK_DISTRIBUTED__DASHBOARD__LINK": "/user/ada/proxy/port/{port}/status",
        "JPY_BASE_URL": "/user/ada/",
    }


def test_where_all_ports_are_reachable_there_are_links_to_random_ones():
    more = {name: value for name, value in links("/a/", any_port=True).items() if name not in links("/a/")}
    assert more == {
        "LOCALTILESERVER_CLIENT_PREFIX": "/a/proxy/port/{port}",
        "LARGE_IMAGE_JUPYTER_PROXY": "/a/proxy/port/",
        "PYVISTA_TRAME_SERVER_PROXY_PREFIX": "/a/proxy/port/",
    }


def test_under_jupyterhub_pyvista_keeps_its_own_link():
    variables = links("/user/ada/", any_port=True, environment={"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"})
    assert "PYVISTA_TRAME_SERVER_PROXY_PREFIX" not in variables
    assert variables["LARGE_IMAGE_JUPYTER_PROXY"] == "/user/ada/proxy/port/"


@pytest.mark.parametrize(
    ("public_urls", "origin"),
    [
        (["https://hub.example.org/user/a%40b/"], "https://hub.example.org"),
        (["", "https://hub.example.org:8000/user/a@b/"], "https://hub.example.org:8000"),
        (["https://hub.example.org/user/other/"], ""),
        (["", "https://["], ""),
        ([], ""),
    ],
)
def test_a_terminals_link_is_absolute_where_the_address_is_known(public_urls, origin):
    variables = links("/user/a%40b/", public_urls)
    assert variables["VSCODE_PROXY_URI"] == f"{origin}/user/a%40b/proxy/port/{{{{port}}}}/"
    assert variables["TENSORBOARD_PROXY_URL"] == "/user/a%40b/proxy/port/%PORT%/"  # in the page, which may have other addresses


@pytest.mark.parametrize("base_url", ["/", "/a%40b/", "/a%7Bb%7D/", "/{port}/{x}/", "/50%25/"])
def test_a_base_url_may_have_percent_signs_and_braces(base_url):
    variables = links(base_url)
    encoded = base_url.replace("{", "%7B").replace("}", "%7D")
    expected = f"{encoded}proxy/port/8050/"
    assert variables["JUPYTER_PORTPROXY_URL"].format(port=8050) == expected
    assert variables["JUPYTER_PORTPROXY_URL"].replace("{port}", "8050") == expected
    assert variables["VSCODE_PROXY_URI"].replace("{{port}}", "8050") == expected
    assert variables["TENSORBOARD_PROXY_URL"].replace("%PORT%", "8050") == expected
    assert variables["DASK_DISTRIBUTED__DASHBOARD__LINK"].format(**variables, port=8050) == f"{expected}status"


# ---- what is set already ----


def test_what_is_set_is_left_as_it_is():
    mine = {name: "mine" for name in NAMES}
    assert links(any_port=True, environment=dict(mine)) == mine


def test_a_template_that_is_set_makes_the_other_links():
    given = "https://hub.example.org/ports/{port}/"
    variables = links("/a/", ["https://other.example.org/a/"], environment={"JUPYTER_PORTPROXY_URL": given})
    assert variables["VSCODE_PROXY_URI"] == "https://hub.example.org/ports/{{port}}/"
    assert variables["TENSORBOARD_PROXY_URL"] == "https://hub.example.org/ports/%PORT%/"


@pytest.mark.parametrize("given", ["", "https://hub.example.org/"])
def test_a_template_without_a_port_makes_no_links(given):
    variables = links("/a/", environment={"JUPYTER_PORTPROXY_URL": given})
    assert variables["JUPYTER_PORTPROXY_URL"] == given
    assert variables["TENSORBOARD_PROXY_URL"] == "/a/proxy/port/%PORT%/"


@pytest.mark.parametrize(
    ("file", "text", "has_link"),
    [
        (".config/dask/mine.yaml", "distributed:\n  dashboard:\n    link: https://dask.example.org/{port}\n", True),
        (".config/dask/mine.json", '{"distributed": {"dashboard": {"link": "/x/{port}"}}}', True),
        ("etc/site.yml", "distributed: {dashboard: {link: /x}}", True),
        (".config/dask/distributed.yaml", "# distributed:\n#   dashboard:\n#     link: /x\nlinks: 1\n", False),
        (".config/dask/notes.txt", "link: /x", False),
        (".config/dask/broken.yaml", "\x00\xff: [", False),
    ],
)
def test_a_link_in_dasks_files_counts_as_set(tmp_path, file, text, has_link):
    """Dask prefers variables to its files, whose comments may have the default one."""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text, encoding="latin-1")
    variables = links(environment={"DASK_ROOT_CONFIG": str(tmp_path / "etc")})
    assert ("DASK_DISTRIBUTED__DASHBOARD__LINK" not in variables) == has_link


def test_a_file_of_dask_by_its_own_variable_is_read(tmp_path, monkeypatch):
    (tmp_path / "here").write_text("link: /x")
    assert "DASK_DISTRIBUTED__DASHBOARD__LINK" not in links(environment={"DASK_CONFIG": str(tmp_path / "here")})
    os.mkfifo(tmp_path / "pipe.yaml")  # without a writer
    assert "DASK_DISTRIBUTED__DASHBOARD__LINK" in links(environment={"DASK_CONFIG": str(tmp_path)})


# ---- the end, and other servers ----


def test_what_was_set_is_removed_and_what_was_changed_is_kept():
    variables = {"PATH": "/bin", "VSCODE_PROXY_URI": "mine"}
    made = LinkVariables("/", environment=variables)
    made.set()
    variables["TENSORBOARD_PROXY_URL"] = "changed"
    made.remove()
    assert variables == {"PATH": "/bin", "VSCODE_PROXY_URI": "mine", "TENSORBOARD_PROXY_URL": "changed"}


def test_the_first_of_two_servers_in_a_process_sets_them():
    variables: dict[str, str] = {}
    first, second = LinkVariables("/a/", environment=variables), LinkVariables("/b/", environment=variables)
    first.set()
    before = dict(variables)
    second.set()
    second.remove()
    assert variables == before
    first.remove()
    assert variables == {}


def test_a_server_in_the_terminal_of_another_one_sets_its_own():
    variables = {"VSCODE_PROXY_URI": "mine", "JUPYTER_PORTPROXY_VARIABLES": "1 JUPYTER_PORTPROXY_URL TENSORBOARD_PROXY_URL"}
    variables |= {"JUPYTER_PORTPROXY_URL": "/outer/proxy/port/{port}/", "TENSORBOARD_PROXY_URL": "/outer/proxy/port/%PORT%/"}
    assert links("/inner/", environment=variables) == {**links("/inner/"), "VSCODE_PROXY_URI": "mine"}
    assert remove_link_variables(variables) == {"VSCODE_PROXY_URI": "mine"}


# ---- a real server ----


@pytest.fixture
def run_in_kernel(jp_serverapp):
    """Runs code in a new kernel of the server and returns what it prints."""

    async def run(code: str) -> str:
        manager = jp_serverapp.kernel_manager
        kernel_id = await manager.start_kernel()
        client = manager.get_kernel(kernel_id).client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            printed: list[str] = []

            def keep(message: dict) -> None:
                printed.append(message["content"].get("text", ""))

            await client.execute_interactive(code, timeout=60, output_hook=keep)
            return "".join(printed)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(kernel_id, now=True)

    return run


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, "PortProxy": {"allowed_ports": "own"}}])
async def test_kernels_have_them(run_in_kernel, jp_base_url, jp_server_config):
    code = f"{PRINT}; from jupyter_portproxy import url_for; print(json.dumps([url_for(8050, 'x'), url_for('app')]))"
    seen, of_notebook = map(json.loads, (await run_in_kernel(code)).splitlines())
    assert seen == links(jp_base_url, any_port=True)
    assert of_notebook == [f"{jp_base_url}proxy/port/8050/x", f"{jp_base_url}proxy/service/app/"]


async def test_terminals_have_them(jp_serverapp, jp_base_url, tmp_path):
    script, file = tmp_path / "print.py", tmp_path / "seen"
    script.write_text(PRINT)
    manager = jp_serverapp.web_app.settings["terminal_manager"]
    name = manager.create()["name"]
    try:
        manager.get_terminal(name).ptyproc.write(f"{sys.executable} {script} > {file}.part && mv {file}.part {file}\n")
        await eventually(file.exists, 30)
    finally:
        await manager.terminate(name, force=True)
    seen = {name: value for name, value in json.loads(file.read_text()).items() if value is not None}
    assert seen == links(jp_base_url)


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, "PortProxy": {"link_variables": False}}])
async def test_they_can_be_turned_off(run_in_kernel, jp_server_config):
    assert set(json.loads(await run_in_kernel(PRINT)).values()) == {None}


async def test_they_end_with_the_server(extension, jp_base_url):
    assert os.environ["JUPYTER_PORTPROXY_URL"] == f"{jp_base_url}proxy/port/{{port}}/"
    await extension.stop_extension()
    assert "JUPYTER_PORTPROXY_URL" not in os.environ


@pytest.mark.parametrize("jp_server_config", [{**CONFIG, "PortProxy": {"jupyter_url": "https://jupyter.example.org/a@b/"}}])
async def test_the_configured_address_is_used(extension, jp_base_url, jp_server_config):
    assert os.environ["VSCODE_PROXY_URI"] == f"https://jupyter.example.org{jp_base_url}proxy/port/{{{{port}}}}/"


SERVICE = f"import sys; sys.stdout = open('part', 'w'); {PRINT}; sys.stdout.close(); os.rename('part', 'seen')"
SERVICE = SERVICE.replace("{", "{{").replace("}", "}}")


@pytest.mark.parametrize(
    "jp_server_config", [{**CONFIG, "PortProxy": {"service_templates": {"env": {"command": [sys.executable, "-c", SERVICE]}}}}]
)
async def test_services_have_none(extension, jp_root_dir, jp_server_config):
    """At an isolated origin they lead nowhere, and code-server would prefer them to its own."""
    extension.services.start("env")
    await eventually((jp_root_dir / "seen").exists, 30)
    assert "VSCODE_PROXY_URI" in os.environ
    assert set(json.loads((jp_root_dir / "seen").read_text()).values()) == {None}


# ---- readers ----


@pytest.mark.parametrize("base_url", ["/a%40b/", "/{x}/"])
def test_dask_makes_the_link(tmp_path, base_url):
    code = "from distributed.utils import format_dashboard_link as link; print(link('127.0.0.1', 8787))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path, links(base_url)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    route = urls.parse_url(done.stdout.strip(), base_url.replace("{", "%7B").replace("}", "%7D"))
    assert isinstance(route, urls.Route)
    assert (route.port, route.path) == (8787, "/status")


def test_notebooks_make_the_same_link(monkeypatch):
    for name, value in links("/user/a%40b/").items():
        monkeypatch.setenv(name, value)
    assert url_for(8050, "a?b") == "/user/a%40b/proxy/port/8050/a?b"
    assert url_for("app", isolated=True) == "/user/a%40b/proxy/enter/app/"
    monkeypatch.setenv("JUPYTER_PORTPROXY_URL", "https://{port}.example.org/")
    assert urlsplit(url_for(8050, "x")).netloc == "8050.example.org"
