"""What the documentation tells people to write or to run is run here, or read as the programs would read it.

Every fenced block of docs/, the README and CONTRIBUTING has a language, and every language a rule, here or in the file that
LANGUAGES names: a block that no rule covers fails.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import certifi
import jsonschema
import pytest
from jupyter_server.auth.identity import IdentityProvider
from jupyter_server.serverapp import ServerApp
from jupyterhub.app import JupyterHub
from jupyterhub.scopes import scope_definitions
from jupyterhub.services.auth import HubOAuth
from jupyterhub.spawner import Spawner
from traitlets.config import Config

from docs import reference
from jupyter_portproxy.cli import main
from jupyter_portproxy.config import PortProxy
from jupyter_portproxy.server_proxy.config import ServerProxy, read_servers
from jupyter_portproxy.services import templates

from ..support.docs_shell import ROOT, desk
from ..support.markdown_blocks import BLOCKS, DOCS, PAGES, Block, each, of
from ..support.nginx import accepts
from ..support.upstreams import free_port

pytestmark = pytest.mark.timeout(180)  # the commands of a block are programs that start one after the other
KNOWN = {cls.__name__: cls for cls in (PortProxy, ServerProxy, ServerApp, IdentityProvider, JupyterHub, HubOAuth, Spawner)}
PACKAGES = {path.name for path in (ROOT / "jupyter_portproxy").iterdir() if (path / "__init__.py").exists()}
SCHEMA = json.loads((ROOT / "labextension" / "schema" / "plugin.json").read_text())
FORWARD = "docs/forward.md"  # its commands run until a signal: test_forward_docs
ATTACH = "docs/attach.md"  # all of its blocks: test_attach_docs
LANGUAGES = {
    **dict.fromkeys(("sh", "python", "json", "nginx", "text"), "test_docs"),  # a developer's sh: test_package_docs
    "yaml": "test_chart_docs",
    **dict.fromkeys(("toml", "dockerfile"), "test_package_docs"),
    "ts": "../ui/test_extending",  # it builds that extension, with its json, and runs it in JupyterLab
}
# What JupyterHub tells its services, and an administrator those that it does not run.
TOLD = {
    "JUPYTERHUB_SERVICE_URL": "http://127.0.0.1:10101",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/projects/",
    "PROJECTS_API_TOKEN": "secret",
}


def hub_block(start: str) -> str:
    """The first block of docs/jupyterhub.md with that first line: the hub's tests run with it."""
    found = (block.text for block in BLOCKS if block.page == "docs/jupyterhub.md" and block.language == "python")
    return next(text for text in found if text.startswith(f"{start}\n"))


def server_settings() -> str:
    """What it tells the users' servers."""
    return hub_block("# jupyter_server_config.py")


def projects_settings(start: str) -> str:
    """The block with that first line, of the login of projects."""
    return hub_block(start)


# ---- every block has a rule ----


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_has_a_language_with_a_rule(page):
    text = page.read_text()
    assert {block.language for block in BLOCKS if block.page == str(page.relative_to(ROOT))} <= set(LANGUAGES)
    for name in LANGUAGES.values():
        assert (Path(__file__).parent / f"{name}.py").exists()
    assert text.count("```") == 2 * sum(block.page == str(page.relative_to(ROOT)) for block in BLOCKS)
    outside = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    before = ""
    for line in outside.splitlines():
        assert not line.startswith("    ") or re.match(r"[-*] |\d+\. ", before), f"an indented block has no language: {line}"
        before = line if line.strip() and not line.startswith(" ") else before


# ---- sh ----


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with desk(tmp_path_factory.mktemp("desk")) as running:
        yield running


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@each([block for block in BLOCKS if block.language == "sh" and not block.is_for_a_clone and block.page not in (FORWARD, ATTACH)])
def test_commands_run(shell, block):
    text = block.text
    if block.page == "docs/how-to.md":  # a port for each program by hand: others of this machine may have some of them
        text = re.sub(r"\b15\d{3}\b", str(free_port()), text)
    done = shell.run(text)
    assert "does not provide the extra" not in done.stderr, done.stderr  # a mere warning of pip's
    for mine in re.findall(r"(server|lab)\s?extension list", text):
        name = {"server": r"jupyter_portproxy [\w.]+", "lab": r"jupyter-portproxy v[\w.]+ .*enabled"}[mine]
        assert re.search(rf"{name}.*OK", done.stdout + done.stderr), done.stdout + done.stderr
    expected = 1 if re.search(r"portproxy check (5000|--migrate)", block.text) else 0
    if "check 5000 --page" in block.text:
        expected = 2  # the port is not allowed: nothing can be looked at
    if re.search(r"portproxy check 15000", block.text):
        expected = done.returncode  # what has been started before decides
        assert f"Port {shell.port} answers HTTP: http" in done.stdout or f"Nothing listens on port {shell.port}" in done.stdout
    assert done.returncode == expected, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    for name in re.findall(r"portproxy start (\S+)", block.text):
        shell.run(f"jupyter portproxy stop {name}")


def test_the_short_installation_of_the_first_page_works(shell):
    """Start an app, ask about it, open it: what a newcomer does."""
    assert shell.run("streamlit run app.py --server.address 127.0.0.1 --server.port 15000").returncode in (0, 1)
    assert f"Port {shell.port} answers HTTP: " in shell.run("jupyter portproxy check 15000").stdout
    code, text = shell.server.get(f"proxy/port/{shell.port}/")
    assert (code, "app.py" in text) == (200, True)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_in_a_sentence_are_written_as_the_program_takes_them(page):
    """Parsed only: their words in capitals stand for names."""
    for command in re.findall(r"`jupyter portproxy ([^`\n]+)`", page.read_text()):
        if "..." in command or "|" in command:
            continue
        words = ["1" if word.strip('"$') in ("PORT", "!") else word for word in re.findall(r'"[^"]*"|[^\s()]+', command)]
        try:
            main._parse(words if len(words) > 1 else [*words, "--help"], 0)  # one word alone names the command
        except SystemExit as end:
            assert end.code == 0, f"{page.name}: jupyter portproxy {command}"


def test_a_sentence_names_extras_that_there_are(shell):
    named = {name for page in PAGES for name in re.findall(r"`pip install '([^`'\n]+)'`", page.read_text())}
    assert named
    shell.fresh.run(f"pip install --dry-run {shlex.join(sorted(named))}")


# ---- make ----


def planned(*arguments: str) -> list[str]:
    """The commands that `make` would run."""
    done = subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_make_targets_in_sentences_exist(page):
    for arguments in re.findall(r"`make ([^`\n]+)`", page.read_text()):
        assert planned(*shlex.split(arguments)), arguments


def test_make_test_runs_the_parts_that_contributing_lists():
    rows = re.findall(r"^\| `make ([\w-]+)` \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    whole = set(planned("test"))
    assert len(rows) > 5
    for part, description in rows:
        assert (set(planned(part)) <= whole) != description.startswith("not part of `make test`"), part


def test_contributing_names_files_that_are_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    files = set(re.findall(r"`((?:\w+/)*[\w-]+\.(?:py|json|tsx?))`", text.partition("## Layout")[2].partition("## Tests")[0]))
    assert len(files) > 30
    folders = (ROOT / "jupyter_portproxy", ROOT, ROOT / "labextension" / "src")
    assert [file for file in files if not any((folder / file).exists() for folder in folders)] == []


# ---- python ----


def loaded(text: str) -> Config:
    config = Config()
    text = text.replace("/etc/ssl/our-ca.pem", certifi.where())  # the only file that a setting wants to find
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOLD.items():
            patch.setenv(name, value)
        exec(compile(text, "a block of the documentation", "exec"), {"c": config, "__name__": "a_block"})
    return config


def check_config(config: Config) -> None:
    """Its sections and settings are there, and take these values."""
    assert config
    for name, section in config.items():
        assert set(section) <= set(KNOWN[name].class_trait_names(config=True)), name
    settings = PortProxy(config=config)
    _, problems = templates.load_all(settings.service_templates)
    unknown: list[str] = []
    _, wrong = read_servers(ServerProxy(config=config).servers, "/", unknown)
    wrong += unknown
    assert problems + wrong == []
    for role in config.JupyterHub.get("load_roles", []):
        assert {scope.partition("!")[0] for scope in role["scopes"]} <= set(scope_definitions)


def is_config(block: Block) -> bool:
    return re.search(r"^c\.", block.text, re.MULTILINE) is not None


@each([block for block in BLOCKS if block.language == "python" and is_config(block)])
def test_a_configuration_loads_and_names_settings_that_there_are(block):
    check_config(loaded(block.text))


@each([block for block in BLOCKS if block.language == "python" and not is_config(block) and block.page != ATTACH])
def test_a_notebooks_code_runs(shell, block):
    hub = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"} if block.page == "docs/jupyterhub.md" else {}
    done = shell.python(block.text, **hub)
    assert done.returncode == 0, done.stderr


# ---- data ----


def check_toolbar(items):
    for toolbar, (known,) in SCHEMA["jupyter.lab.toolbars"].items():
        assert [item["name"] for item in items] == [known["name"]], toolbar


@of("json")
def test_json_is_what_it_says(block):
    data = json.loads(block.text)
    if "PortProxy" in data:
        return check_config(Config(data))
    if "onNewPort" in data:
        assert set(data) <= set(SCHEMA["properties"])
        return jsonschema.validate(data, SCHEMA)
    if "compilerOptions" in data or "jupyterlab" in data:
        return None  # of an extension: test_extending
    if "toolbar" in data:
        return check_toolbar(data["toolbar"])
    assert data and templates.load_all(data)[1] == []


@of("nginx")
def test_nginx_accepts_it(tmp_path, block):
    """Beside what its page's own `map` sets. test_front_docs.py and test_isolation_docs.py run these fronts."""
    maps = [other.text for other in BLOCKS if other.page == block.page and other.text.startswith("map ")]
    text = block.text if not block.text.startswith("location ") else f"server {{ listen 127.0.0.1:8080; {block.text} }}"
    accepts(tmp_path, text if "map " in text else f"{maps[0]} {text}")


@of("text")
def test_a_picture_holds_no_command(block):
    assert not re.search(r"^\s*(\$ |c\.|pip |jupyter )", block.text, re.MULTILINE)


# ---- what is made, and what is linked ----


@pytest.mark.parametrize("page", reference.PARTS)
def test_what_is_made_from_the_source_is_up_to_date(page):
    text = (DOCS / page).read_text()
    assert reference.render(page, text) == text, "run: python docs/reference.py"


@pytest.mark.parametrize("name", reference.setting_names())
def test_a_setting_has_a_help_with_an_example(name):
    text = PortProxy.class_traits()[name].help
    assert re.search(rf"Example: `c\.PortProxy\.{name} = .+`\.$", text, re.DOTALL), text


def titles(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    """The site's build checks those within docs/ too; these are read on other sites and in a clone."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", target):
            assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]+(/[\w./~#-]*)?", target), target
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        assert not anchor or anchor in titles(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_names_files_of_the_source_that_there_are(page):
    """Paths with a folder: `protocol/headers.py` of the package, or `tests/docs/test_docs.py` of the project."""
    for name in re.findall(r"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:py|ts|tsx|json|html|yaml))?)`", page.read_text()):
        if "MODULE" in name:
            continue
        if name.split("/")[0] in PACKAGES or name.startswith(("tests/", "docs/", "benchmarks/", "labextension/")):
            assert (ROOT / name).exists() or (ROOT / "jupyter_portproxy" / name).exists(), name


@cache
def built() -> Path:
    """The site, as `make docs` builds it."""
    folder = ROOT / "build" / "docs-of-the-tests"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
    return folder


def test_the_site_is_built_without_a_warning_and_fetches_nothing():
    for page in built().rglob("*.html"):
        text = page.read_text()
        tags = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?([^\"\s>]+)", text)
        tags += re.findall(r"<link\b(?![^>]*rel=\"?(?:canonical|prev|next))[^>]*\bhref=\"?([^\"\s>]+)", text)
        assert tags and not [url for url in tags if re.match(r"(https?:)?//", url)], page
    for sheet in built().rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", sheet.read_text()), sheet
