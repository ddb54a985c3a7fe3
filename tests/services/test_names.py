"""Names of services: of their template, of their script or folder, or with a number."""

from __future__ import annotations

import asyncio
import sys

import pytest

from jupyter_portproxy.errors import BadInput
from jupyter_portproxy.services.templates import load

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")


async def test_other_arguments_make_another_service(scripts, tmp_path):
    given = [
        {},
        {"script": "b.py"},
        {"script": "other/app.py"},
        {"script": "other/b.py"},
        {"script": "b.py", "word": "y"},
        {"script": "a b;c.py"},
        {"script": "taken.py"},
    ]
    started = [scripts.start("web", arguments=arguments) for arguments in given]
    names = ["web", "web-b", "web-other", "web-b-2", "web-b-3", "web-a-b-c", "web-taken-2"]
    assert [service.name for service in started] == names
    assert [scripts.describe(service) for service in started[:5]] == ["app.py", "b.py", "other/app.py", "other/b.py", "b.py, y"]
    await asyncio.gather(*(asyncio.wait_for(scripts.wait_ready(service), 20) for service in started))
    assert f"'{started[3].endpoint.port}', 'other/b.py', 'x'" in started[3].log.tail().decode()
    again = [scripts.start("web", arguments=arguments) for arguments in given]
    assert all(one is other for one, other in zip(started, again, strict=True))
    assert scripts.start("web", arguments={"script": str(tmp_path / "other" / ".." / "b.py")}) is started[1]
    assert scripts.start("web", "web", {"script": "./app.py"}) is started[0]
    with pytest.raises(BadInput, match=r"'web' runs with other arguments: script=app\.py, word=x"):
        scripts.start("web", "web", {"script": "b.py"})


async def test_a_service_that_has_ended_gives_its_name_to_the_next(scripts):
    for arguments in ({}, {"script": "b.py"}):
        await asyncio.wait_for(scripts.wait_ready(scripts.start("web", arguments=arguments)), 10)
    for name in ("web", "web-b"):
        await scripts.stop(name)
    assert scripts.start("web", arguments={"script": "b.py"}).name == "web-b"
    assert scripts.start("web", arguments={"script": "other/b.py"}).name == "web"


async def test_a_name_of_another_folder_or_template_gets_that_of_its_folder(make, tmp_path):
    run = {"command": [sys.executable, "-c", "import time; time.sleep(60)"]}
    manager = make(web=run)
    templates = []
    for path in ("repo", "other repo", "deep/repo", "deeper/repo"):
        (tmp_path / path).mkdir(parents=True)
        templates.append({name: load(name, run, str(tmp_path / path)) for name in ("db", "web")})
    started = [manager.start_template(template["db"]).name for template in templates]
    assert started == ["db", "db-other-repo", "db-repo", "db-repo-2"]
    assert [manager.start_template(template["db"]).name for template in templates] == started
    assert manager.start_template(templates[0]["web"]).name == "web-repo"  # the configuration has a template of that name
    assert manager.start("web").name == "web"
    for name in ("db", "web"):
        with pytest.raises(BadInput, match=f"The name '{name}' belongs to a service of another template"):
            manager.start_template(templates[1]["web"], name)
