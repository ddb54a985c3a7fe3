"""A manager whose services are all gone at the end."""

from __future__ import annotations

import psutil
import pytest

from ..support.services import PYTHON, SERVE, make_manager

SCRIPT = {
    "command": [*PYTHON, SERVE, "{port}", "{script}", "{word}"],
    "arguments": [{"name": "script", "default": "app.py", "kind": "path"}, {"name": "word", "default": "x"}],
}


@pytest.fixture
def make(tmp_path, jp_asyncio_loop):
    """Builds a manager with the given templates; at the end it is closed and must have left no process."""
    made = []

    def build(**options):
        made.append(make_manager(tmp_path / "logs", **options))
        return made[-1]

    before = set(psutil.Process().children(recursive=True))
    yield build
    for manager in made:
        jp_asyncio_loop.run_until_complete(manager.close())
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def scripts(make, tmp_path):
    """A manager whose folder has some scripts, and a template for them."""
    manager = make(web=SCRIPT, **{"web-taken": {"command": ["true"]}}, options={"root_dir": str(tmp_path)})
    for path in ("app.py", "b.py", "taken.py", "other/app.py", "other/b.py", "a b;c.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return manager
