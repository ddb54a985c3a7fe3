"""docs/project-file.md: its file is read, and its tables have the keys and files that are read."""

from __future__ import annotations

import re

from jupyter_portproxy.project_file import compose, compose_files, devcontainer, gitpod, procfile, read
from jupyter_portproxy.project_file.portproxy_toml import PORT_KEYS, TOP_LEVEL

from ..support.fresh_environment import ROOT
from ..support.markdown_blocks import BLOCKS

PAGE = "docs/project-file.md"
TEXT = (ROOT / PAGE).read_text()


def rows(heading: str) -> list[str]:
    section = TEXT.split(f"\n{heading}\n")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_example_is_read_without_a_problem(tmp_path):
    (block,) = (block for block in BLOCKS if block.page == PAGE and block.language == "toml")
    (tmp_path / "portproxy.toml").write_text(block.text)
    (tmp_path / ".env").write_text("")
    result = read.read_folder(tmp_path)
    assert (result.problems, result.notes) == ((), ())
    assert list(result.templates) == ["db", "api", "worker"] and len(result.ports) == 3


def test_the_table_of_ports_has_the_keys_that_are_read():
    keys = [re.match(r"\| `(\w+)`", row)[1] for row in rows("## Keys")]
    assert keys[-len(PORT_KEYS) :] == sorted(keys[-len(PORT_KEYS) :], key=keys.index)
    assert {*keys[-len(PORT_KEYS) :]} == {*PORT_KEYS}
    assert all(f"`{key}`" in TEXT for key in TOP_LEVEL)


def test_the_table_of_files_names_what_is_read():
    table = "\n".join(rows("## Files of other tools"))
    names = [*read.DEVCONTAINERS, read.GITPOD, read.PROCFILE, *compose.NAMES, compose_files.ENVIRONMENT_FILE]
    keys = ["forwardPorts", "appPort", "portsAttributes", "otherPortsAttributes", "dockerComposeFile", "runServices"]
    keys += ["label", "onAutoForward", "protocol", *gitpod.KEYS, procfile.ENVIRONMENT_FILE]
    assert [name for name in (*names, *keys) if f"`{name}`" not in table] == []
    assert {*devcontainer.ATTRIBUTES} - {"visibility"} <= {*re.findall(r"`(\w+)`", table)}
    assert all(f"`portproxy.{label}`" in TEXT for label in compose.LABELS if label != "protocol")
