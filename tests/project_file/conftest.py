from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from jupyter_portproxy.project_file.model import ProjectFile
from jupyter_portproxy.project_file.read import read_folder

ReadFiles = Callable[[Mapping[str, str | bytes]], ProjectFile]


@pytest.fixture
def read_files(tmp_path) -> ReadFiles:
    """Writes files into a folder and reads it."""

    def read(files: Mapping[str, str | bytes]) -> ProjectFile:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        result = read_folder(tmp_path)
        assert result is not None
        return result

    return read


def print_ports(result: ProjectFile) -> list[str]:
    """The rules in short: `3000 'Front end' open https keep_host pinned`."""
    lines = []
    for rule in result.ports:
        words = [rule.ports or rule.process, repr(rule.label) if rule.label else "", rule.on_appear, rule.scheme]
        words += ["keep_host" if rule.keep_host else "", "pinned" if rule.pinned else ""]
        lines.append(" ".join(word for word in words if word))
    return lines


def print_problems(result: ProjectFile) -> list[str]:
    return [f"{p.file}:{p.line or ''} {p.key}: {p.message}" for p in result.problems]


def print_notes(result: ProjectFile) -> list[str]:
    return [f"{note.file}:{note.line or ''} {note.message}" for note in result.notes]
