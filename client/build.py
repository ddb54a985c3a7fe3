"""The command line as one file, for machines without Jupyter: `make client` writes dist/jupyter-portproxy.pyz.

It is a zipapp (PEP 441) with the modules that the commands for users import, and those of Tornado that they need, without its C
extension. It needs a Python of a version that this package supports, and nothing else. It has the bytecode of this Python too, so
that a command starts in half the time; another version of Python compiles the sources. The same sources make the same bytes.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import marshal
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import tornado

ROOT = Path(__file__).parents[1]
PACKAGE = "jupyter_portproxy"
FOLDERS = {PACKAGE: ROOT, "tornado": Path(tornado.__file__).parents[1]}
# What only a machine with a Jupyter server has: the server, the commands of operators, and `check --migrate`.
SERVER_ONLY = (
    "jupyter_portproxy.app",
    "jupyter_portproxy.auth",
    "jupyter_portproxy.cli.project",  # and all modules whose names begin so
    "jupyter_portproxy.cli.users",
    "jupyter_portproxy.notebook",
    "jupyter_portproxy.projects",
    "jupyter_portproxy.server_proxy",
)
MAIN = """import sys

if sys.version_info < (3, 10):
    sys.exit("Python 3.10 or newer is needed; this is " + sys.version.split()[0])
from jupyter_portproxy.cli.main import main

sys.exit(main())
"""


def build(target: Path) -> None:
    """Write the file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in sorted(_files().items()):
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)
    target.chmod(0o755)


def _files() -> dict[str, bytes]:
    files = {"__main__.py": MAIN.encode(), f"{PACKAGE}-{_version()}.dist-info/METADATA": _metadata().encode()}
    files |= {name: path.read_bytes() for name, path in _modules().items()}
    files[f"{PACKAGE}/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    files["tornado/LICENSE"] = _tornado_license()
    return files | {f"{name}c": _compile(name, source) for name, source in files.items() if name.endswith(".py")}


def _compile(name: str, source: bytes) -> bytes:
    """The module's bytecode (PEP 552, unchecked hash). Another version of Python than this one ignores it, and starts slower."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=2)
    return b"".join((importlib.util.MAGIC_NUMBER, b"\1\0\0\0", importlib.util.source_hash(source), marshal.dumps(code)))


def _modules() -> dict[str, Path]:
    """The modules that the program imports, also those which a function imports, and their packages: by path in the archive."""
    found: dict[str, Path] = {}
    waiting = [f"{PACKAGE}.cli.main", "tornado.platform.asyncio", "tornado.web"]  # Tornado imports these two by their names
    while waiting:
        name = waiting.pop()
        path, package = _path(name), name.partition(".")[0]
        if path is None or path in found.values() or name.startswith(SERVER_ONLY):
            continue
        found[path.relative_to(FOLDERS[package]).as_posix()] = path
        waiting += [name.rpartition(".")[0], *_imports(name, path)]
    return found


def _path(name: str) -> Path | None:
    """The file of a module of these packages; None for a name that is not one."""
    package, *rest = name.split(".")
    if package not in FOLDERS:
        return None
    path = FOLDERS[package].joinpath(package, *rest)
    candidates = (path.with_name(f"{path.name}.py"), path / "__init__.py")
    return next((each for each in candidates if each.is_file()), None)


def _imports(name: str, path: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from _nodes(child)


def _tornado_license() -> bytes:
    return next(FOLDERS["tornado"].glob("tornado-*.dist-info/**/LICENSE")).read_bytes()


def _version() -> str:
    version: str = json.loads((ROOT / "labextension" / "package.json").read_text(encoding="utf-8"))["version"]
    return version.replace("-", "")  # a pre-release has a dash there, and Python's versions have none


def _metadata() -> str:
    """What `--version` and the links to the documentation need."""
    (address,) = re.findall(r'^Documentation = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    lines = ["Metadata-Version: 2.1", f"Name: {PACKAGE}", f"Version: {_version()}", f"Project-URL: Documentation, {address}"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    build(file := Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist" / "jupyter-portproxy.pyz")
    print(f"{file}: {file.stat().st_size / 1024:.0f} KiB")
