"""Arguments: what cannot run is refused, secrets are masked."""

from __future__ import annotations

import sys

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.services.templates import load

from ..support.services import PYTHON, SERVE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


async def test_an_argument_that_is_a_secret_is_masked(make):
    arguments = [{"name": "access_token", "default": ""}, {"name": "word", "default": "x"}]
    manager = make(web={"command": [*PYTHON, SERVE, "{port}", "{access_token}"], "arguments": arguments})
    service = manager.start("web", arguments={"access_token": "a-secret", "word": "y"})
    assert (service.arguments["access_token"], manager.describe(service)) == ("a-secret", "***, y")
    with pytest.raises(BadInput, match=r"with other arguments: access_token=\*\*\*, word=y\."):
        manager.start("web", "web", {"access_token": "another"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"scrpt": "b.py"}, "The template 'web' has no argument 'scrpt'. It has script, word."),
        ({"script": "no.py"}, "The argument 'script': there is no file or folder '{folder}/no.py'."),
        ({"script": "other/no"}, "The argument 'script': there is no file or folder '{folder}/other/no'."),
    ],
)
async def test_what_cannot_run_is_refused_before_and_while_another_one_runs(scripts, tmp_path, arguments, text):
    for _ in range(2):
        with pytest.raises(BadInput) as refused:
            scripts.start("web", arguments=arguments)
        assert refused.value.message == text.format(folder=tmp_path)
        scripts.start("web")
    assert len(scripts.list()) == 1


@pytest.mark.parametrize("script", ["b.py:app", "b:app", "b", "other.b:app", "other"])
async def test_what_flask_and_shiny_take_for_a_script_exists(scripts, script):
    assert scripts.start("web", arguments={"script": script}).arguments["script"] == script


async def test_a_path_that_may_be_new_is_no_error(make):
    logs = {"name": "logdir", "default": "logs", "kind": "path", "must_exist": False}
    assert make(web={"command": ["true"], "arguments": [logs]}).start("web").name == "web"


async def test_paths_of_a_folders_template_count_from_that_folder(make, tmp_path):
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "app.py").touch()
    argument = {"name": "script", "default": "app.py", "kind": "path"}
    template = load("web", {"command": ["true"], "arguments": [argument]}, str(tmp_path / "repo"))
    manager = make(web={"command": ["true"], "arguments": [argument]}, options={"root_dir": str(tmp_path)})
    assert manager.describe(manager.start_template(template)) == "repo/app.py"
    with pytest.raises(BadInput, match="there is no file or folder"):
        manager.start("web")
