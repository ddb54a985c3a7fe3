"""Folders in the shape of public repositories, each with what its own tools would do, or with a note of what is left out.

`expected.json` was written by hand from the tools' documentation and source: VS Code (`tunnelModel.ts`) and the specification of
dev containers, Gitpod's schema, foreman and Heroku, compose-go and Compose's specification.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jupyter_portproxy.project_file.read import read_folder

from .conftest import print_notes, print_ports, print_problems

FOLDERS = sorted(Path(__file__).with_name("folders").iterdir())


def test_there_are_ten():
    assert len(FOLDERS) == 10


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_is_understood_as_by_its_own_tools(folder, tmp_path):
    """In a copy: what is above this clone must not matter."""
    copy = shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("expected.json"))
    expected = json.loads((folder / "expected.json").read_text())
    result = read_folder(copy)
    shell, templates = ("sh", "-c"), result.templates.values()
    assert all(template.command[:2] == shell for template in templates)
    commands = [template.expand({"port": "{port}"})[0][2] for template in templates]
    services = [[t.name, line, t.protocol, dict(t.environment)] for t, line in zip(templates, commands, strict=True)]
    assert print_ports(result) == expected["ports"]
    assert services == expected["services"]
    assert print_notes(result) == expected["notes"]
    assert print_problems(result) == []
