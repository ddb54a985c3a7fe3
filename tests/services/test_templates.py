"""Templates are data: valid and complete, or refused with the key and the value that is wrong."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.services import templates as catalog
from jupyter_portproxy.services.template_keys import TemplateError
from jupyter_portproxy.services.templates import Template, load, load_all

VALUES = {"port": "15000", "unix_socket": "/s", "base_url": "/", "prefix": "/proxy/service/a", "name": "a"}


def test_every_shipped_template_is_valid_and_uses_its_endpoint():
    templates, problems = load_all(catalog.shipped())
    assert problems == []
    assert {"http-server", "tensorboard", "mlflow", "streamlit", "gradio", "dash", "panel", "bokeh", "voila"} <= set(templates)
    assert {"marimo", "shiny", "jupyter", "code-server", "vite"} <= set(templates)
    for template in templates.values():
        command, environment, _ = template.expand({**VALUES, **template.fill_in({})})
        assert ("/s" if template.unix_socket else "15000") in " ".join([*command, *environment.values()])
        if template.keep_prefix:
            assert VALUES["prefix"] in " ".join([*command, *environment.values()])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no command"),
        ({"command": []}, "has no command"),
        ({"command": "a b"}, "'command' must be a list of texts: 'a b'"),
        ({"command": ["a", 1]}, "'command' must be a text: 1"),
        ({"command": ["a\0"]}, "'command' must be a text: 'a\\x00'"),
        ({"command": ["a"], "comand": []}, "the key 'comand' is unknown"),
        ({"command": ["a", "{prot}"]}, "the placeholder '{prot}' in 'command' is unknown"),
        ({"command": ["a"], "environment": {"A": "{x}"}}, "the placeholder '{x}' in 'environment'"),
        ({"command": ["a"], "environment": ["A"]}, "'environment' must be a mapping"),
        ({"command": ["a"], "environment": {"A=B": "x"}}, "invalid name of a variable in 'environment': 'A=B'"),
        ({"command": ["a"], "environment": {"": "x"}}, "invalid name of a variable in 'environment': ''"),
        ({"command": ["a"], "ready": "/a b"}, "'ready' must be 'tcp', 'started' or a path"),
        ({"command": ["a"], "ready": "/a\r\nX: y"}, "'ready' must be 'tcp', 'started' or a path"),
        ({"command": ["a"], "cwd": "{}"}, "the placeholder '{}' in 'cwd'"),
        ({"command": ["a"], "ready": "http"}, "'ready' must be 'tcp', 'started' or a path"),
        ({"command": ["a"], "ready_timeout": -1}, "'ready_timeout' must be a number of seconds: -1"),
        ({"command": ["a"], "stop_timeout": True}, "'stop_timeout' must be a number of seconds"),
        ({"command": ["a"], "keep_prefix": "yes"}, "'keep_prefix' must be true or false"),
        ({"command": ["a"], "restart": "often"}, "'restart' must be one of never, on-failure, on-unhealthy, always: 'often'"),
        ({"command": ["a"], "open_in": "tab"}, "'open_in' must be one of lab, browser"),
        ({"command": ["a"], "protocol": "udp"}, "'protocol' must be one of http, https, tcp, none: 'udp'"),
        ({"command": ["a"], "scheme": "https"}, "the key 'scheme' is unknown"),
        ({"command": ["a"], "protocol": "tcp", "ready": "/"}, "'ready' is '/': with the protocol 'tcp' it can only be 'tcp'"),
        ({"command": ["a"], "protocol": "tcp", "start_on_open": True}, "'start_on_open' has no meaning with the protocol 'tcp'"),
        ({"command": ["a"], "protocol": "tcp", "keep_prefix": True}, "'keep_prefix' has no meaning with the protocol 'tcp'"),
        ({"command": ["a"], "path_info": "../../lab?x"}, "'path_info' must be a path below the service's"),
        ({"command": ["a"], "path_info": "a/%2E%2e/b"}, "'path_info' must be a path below the service's"),
        ({"command": ["a"], "path_info": "a\\..\\b"}, "'path_info' must be a path below the service's"),
        ({"command": ["a"], "path_info": "a b"}, "'path_info' must be a path below the service's"),
        ({"command": ["a"], "protocol": "tcp", "path_info": "x"}, "'path_info' has no meaning with the protocol 'tcp'"),
        ({"command": ["a"], "requires": {"pip": "a"}}, "'requires' must be of the form"),
        ({"command": ["a"], "arguments": [{"name": "port"}]}, "invalid argument name: 'port'"),
        ({"command": ["a"], "arguments": [{"name": "a", "kind": "file"}]}, "the argument 'a' must be one of path"),
        ({"command": ["a"], "arguments": [{"name": "a", "kind": "choice"}]}, "with its choices"),
        ({"command": ["a"], "arguments": [{"nam": "a"}]}, "an argument has keys other than"),
        ({"command": ["a"], "protocol": "none", "ready": "tcp"}, "with the protocol 'none' it can only be 'started'"),
        ({"command": ["a"], "ready": "started"}, "with 'started' the protocol must be 'none'"),
        (
            {"command": ["a"], "protocol": "none", "start_on_open": True},
            "'start_on_open' has no meaning with the protocol 'none'",
        ),
        ({"command": ["a"], "protocol": "none", "idle_timeout": 9}, "'idle_timeout' has no meaning with the protocol 'none'"),
        ({"command": ["a"], "protocol": "none", "health_period": 9}, "'health_period' has no meaning with the protocol 'none'"),
        ({"command": ["a"], "protocol": "none", "port": 8000}, "'port' has no meaning with the protocol 'none'"),
        ({"command": ["a", "{port}"], "protocol": "none"}, "the placeholder '{port}' has no meaning with the protocol 'none'"),
        ({"command": ["a"], "unix_socket": True, "port": 8000}, "it has a 'port' and a 'unix_socket'"),
        ({"command": ["a"], "port": 80}, "'port' must be a port from 1024 to 65535: 80"),
        ({"command": ["a"], "port": "8000"}, "'port' must be a port from 1024 to 65535: '8000'"),
        ({"command": ["a"], "health_period": 0.5}, "'health_period' must be 0, or seconds from 1 on: 0.5"),
        ({"command": ["a"], "health_failures": 0}, "'health_failures' must be a number from 1 to 100: 0"),
        ({"command": ["a"], "health_failures": True}, "'health_failures' must be a number from 1 to 100: True"),
        ({"command": ["a"], "restart": "on-unhealthy"}, "'restart' is 'on-unhealthy' without a 'health_period'"),
        ({"command": ["a"], "autostart": "ask"}, "'autostart' is 'ask', which only a folder's project file may have"),
        ({"command": ["a"], "autostart": True}, "'autostart' must be one of never, ask, always: True"),
        ({"command": ["a"], "depends_on": "b"}, "'depends_on' must be a list of texts: 'b'"),
        ({"command": ["a"], "depends_on": ["b/c"]}, "invalid name in 'depends_on': 'b/c'"),
        ({"command": ["a"], "depends_on": ["b", "b"]}, "'depends_on' has the name 'b' twice"),
        ({"command": ["a"], "depends_on": ["mine"]}, "'depends_on' has its own name"),
        ({"command": ["a", "{b.port}"]}, "the placeholder '{b.port}' in 'command' is unknown"),
        ({"command": ["a"], "activity": "some"}, "'activity' must be one of all, people, none: 'some'"),
        ({"command": ["a"], "activity_exclude": ["("]}, "'activity_exclude' has an invalid regular expression, '('"),
        ({"command": ["a"], "activity_exclude": ["a" * 1001]}, "a regular expression of more than 1000 characters"),
        ({"command": ["a"], "folder": "/x"}, "the key 'folder' is unknown"),
        ({"command": ["a"], "dependencies": []}, "the key 'dependencies' is unknown"),
        ([], "is not a mapping of keys"),
    ],
)
def test_what_is_wrong_is_named(data, message):
    with pytest.raises(TemplateError) as caught:
        load("mine", data)
    assert str(caught.value).startswith("Template 'mine': ")
    assert message in str(caught.value)


def test_an_error_has_its_key_and_its_reason_without_the_name():
    with pytest.raises(TemplateError) as caught:
        load("mine", {"command": ["a"], "ready_timeout": -1})
    assert (caught.value.key, caught.value.reason) == ("ready_timeout", "'ready_timeout' must be a number of seconds: -1")


def test_a_folders_template_may_ask_before_it_is_started():
    template = load("mine", {"command": ["a"], "autostart": "ask"}, "/home/ada/repo")
    assert (template.autostart, template.folder) == ("ask", "/home/ada/repo")


def test_the_end_of_the_server_waits_a_limited_time_for_a_folders_service():
    data = {"command": ["a"], "stop_timeout": 301}
    assert load("mine", data).stop_timeout == 301
    assert load("mine", {**data, "stop_timeout": 300}, "/home/ada/repo").stop_timeout == 300
    with pytest.raises(TemplateError, match="'stop_timeout' is 301: in a folder's project file it is at most 300"):
        load("mine", data, "/home/ada/repo")


def test_a_worker_is_ready_as_soon_as_it_runs():
    assert load("mine", {"command": ["a"], "protocol": "none"}).ready == "started"


def test_templates_of_several_sources_may_need_each_other():
    first = {"db": {"command": ["a", "{port}"]}}
    templates, problems = load_all(first, {"api": {"command": ["b", "{db.port}"], "depends_on": ["db"]}}, {"no": {"command": []}})
    assert templates["api"].dependencies == (templates["db"],)
    assert templates["api"].expand({**VALUES, "db.port": "15001"})[0] == ["b", "15001"]
    assert problems == ["Template 'no': it has no command."]
    templates, problems = load_all({"api": {"command": ["b"], "depends_on": ["db"]}})
    assert (templates, problems) == ({}, ["Template 'api': 'depends_on' has 'db', which does not exist."])


def test_the_documentation_has_a_row_for_each_key():
    page = (Path(__file__).parents[2] / "docs" / "templates.md").read_text()
    page = page.partition("## Keys\n")[2].partition("## ")[0]
    rows = {key for row in page.splitlines() if row.startswith("| `") for key in re.findall("`([a-z_]+)`", row.split(" | ")[0])}
    assert rows == catalog.KEYS.keys()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a\0", "a" * 65, "ü", "a b", "-a"])
def test_a_name_that_could_be_a_path_is_refused(name):
    with pytest.raises(TemplateError, match="Invalid template name: "):
        load(name, {"command": ["a"]})


def test_a_wrong_template_leaves_the_others():
    templates, problems = load_all({"a": {"command": ["a"]}, "b": {}}, {"c": {"command": ["c"]}, "a": {"command": ["other"]}})
    assert set(templates) == {"a", "c"}
    assert templates["a"].command == ("other",)
    assert problems == ["Template 'b': it has no command."]


def test_files_of_the_config_path_are_read_and_broken_ones_named(tmp_path):
    for place, name, text in [
        ("user", "a.json", json.dumps({"a": {"command": ["user"]}})),
        ("system", "a.json", json.dumps({"a": {"command": ["system"]}, "b": {"command": ["b"]}})),
        ("system", "broken.json", "{"),
        ("system", "list.json", "[]"),
    ]:
        (tmp_path / place / "jupyter_portproxy.d").mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "jupyter_portproxy.d" / name).write_text(text)
    found, problems = catalog.from_directories([str(tmp_path / "user"), str(tmp_path / "system"), str(tmp_path / "none")])
    assert found == {"a": {"command": ["user"]}, "b": {"command": ["b"]}}
    assert len(problems) == 2 and "broken.json" in problems[0] and "list.json" in problems[1]


def with_arguments() -> Template:
    arguments = [
        {"name": "text", "default": "x"},
        {"name": "count", "kind": "number", "default": "1"},
        {"name": "mode", "kind": "choice", "choices": ["a", "b"], "default": "a"},
    ]
    return load("mine", {"command": ["run", "{text}", "{count}{mode}"], "arguments": arguments})


def test_arguments_are_filled_in():
    template = with_arguments()
    values = {**VALUES, **template.fill_in({"text": "{port} {{", "count": 2.5, "mode": "b"})}
    assert template.expand(values)[0] == ["run", "{port} {{", "2.5b"]
    assert template.fill_in({}) == {"text": "x", "count": "1", "mode": "a"}


@pytest.mark.parametrize(
    "given_arguments",
    [
        {"other": "1"},
        {"count": "x"},
        {"count": True},
        {"mode": "c"},
        {"text": "\0"},
        {"text": "\ud800"},
        {"text": []},
        {"text": "x" * 5000},
    ],
)
def test_arguments_that_do_not_fit_are_refused(given_arguments):
    with pytest.raises(TemplateError, match="argument"):
        with_arguments().fill_in(given_arguments)


def test_arguments_are_at_most_4096_characters():
    assert with_arguments().fill_in({"text": "x" * 4096})
    with pytest.raises(TemplateError, match="argument"):
        with_arguments().fill_in({"text": "x" * 4097})


@given(st.text())
def test_doubled_braces_are_braces(text):
    assert catalog.expand(text.replace("{", "{{").replace("}", "}}"), {}) == text


def test_each_shipped_template_names_the_program_that_it_needs():
    """So that a tile is shown only where it is installed; the file server comes with Python."""
    templates, _ = load_all(catalog.shipped())
    assert [name for name, template in templates.items() if template.requires is None] == ["http-server"]


def test_a_template_is_available_where_its_program_is():
    assert load("a", {"command": ["a"], "requires": {"program": "sh"}}).is_available()
    assert not load("a", {"command": ["a"], "requires": {"program": "no-such-program"}}).is_available()


def test_programs_beside_the_servers_python_are_available_without_an_activated_environment(monkeypatch):
    beside = os.path.basename(sys.executable)
    monkeypatch.setenv("PATH", "/nowhere")
    assert load("a", {"command": ["a"], "requires": {"program": beside}}).is_available()


@pytest.mark.parametrize("pattern", ["(a+)+$", ".*a.*b.*c", "(a|a)*b", "a?a?a?b"])
@pytest.mark.parametrize("folder", ["", "/home/ada/repo"])
def test_no_pattern_stops_the_server(pattern, folder):
    with pytest.raises(TemplateError) as caught:
        load("mine", {"command": ["a"], "activity_exclude": ["/x", pattern]}, folder)
    assert caught.value.reason == (
        f"'activity_exclude' has the pattern '{pattern}', which may stop the server: "
        "write at most 2 of the characters * + ? {, and none of these after a group"
    )


@pytest.mark.parametrize("folder", ["", "/home/ada/repo"])
def test_there_are_at_most_20_patterns(folder):
    assert load("mine", {"command": ["a"], "activity_exclude": ["x"] * 20}, folder)
    with pytest.raises(TemplateError, match="'activity_exclude' has 21 patterns: write at most 20"):
        load("mine", {"command": ["a"], "activity_exclude": ["x"] * 21}, folder)


def test_there_are_patterns_for_paths_that_scripts_poll():
    patterns = (".*/_dash-update-component$", r"/metrics|.*\.map$", "(?:a|b)/c")
    assert load("mine", {"command": ["a"], "activity_exclude": patterns}, "/home/ada/repo").activity_exclude == patterns
