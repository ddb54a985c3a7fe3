"""Real programs that speak TCP without HTTP: sshd with its own keys, Redis. As a program, installs what is missing.

A missing program is a failure with its package's name, never a skip.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .upstreams import free_port

# Of each Debian package, a program that is needed.
PACKAGES = {
    "openssh-server": "sshd",
    "openssh-client": "ssh",
    "redis-server": "redis-server",
    "redis-tools": "redis-cli",
    "git": "git",
}
_PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"


def program(name: str) -> str:
    found = shutil.which(name, path=_PATH)
    package = next((package for package, each in PACKAGES.items() if each == name), name)
    assert found, f"the program {name} is missing: `make unit` installs Debian's package {package} for root"
    return found


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """Redis without persistence; its port."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _running([program("redis-server"), *options], folder / "redis.log", port):
        yield port


@contextlib.contextmanager
def sshd(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """An OpenSSH server with a key of its own; its port, and the options with which a client gets in as this user."""
    for name in ("host", "user"):
        keygen = [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    (folder / "authorized_keys").write_text((folder / "user.pub").read_text())
    port = free_port()
    (folder / "known_hosts").write_text(f"laptop-test {(folder / 'host.pub').read_text()}")
    config = {
        "Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": folder / "authorized_keys", "StrictModes": "no", "PermitRootLogin": "prohibit-password",
        "PasswordAuthentication": "no", "Subsystem": "sftp internal-sftp",
    }  # fmt: skip
    (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks its unprivileged half up
    options = {
        "IdentityFile": folder / "user", "IdentitiesOnly": "yes", "UserKnownHostsFile": folder / "known_hosts",
        "HostKeyAlias": "laptop-test", "StrictHostKeyChecking": "yes", "User": getpass.getuser(), "BatchMode": "yes",
        "LogLevel": "ERROR",
    }  # fmt: skip
    with _running([program("sshd"), "-D", "-e", "-f", str(folder / "sshd_config")], folder / "sshd.log", port):
        yield port, ["-F", "none", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


@contextlib.contextmanager
def _running(command: list[str], log: Path, port: int) -> Iterator[None]:
    """A program that says on standard output or error that it listens, with its port."""
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, cwd=log.parent)
    try:
        end = time.monotonic() + 20
        while not any(word in log.read_text() for word in ("Server listening on", "Ready to accept connections")):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(20)


def missing() -> list[str]:
    return [package for package, name in PACKAGES.items() if shutil.which(name, path=_PATH) is None]


def main() -> None:
    if not (packages := missing()):
        return
    if not (shutil.which("apt-get") and os.getuid() == 0):
        how = "`make unit` installs them for root on Debian."
        sys.exit(f"The tests of raw TCP need Debian's packages {' '.join(packages)}. {how}")
    keep_stopped = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}  # no service of the machine is started
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(install, check=True, stdout=sys.stderr, env=keep_stopped)
    if packages := missing():
        sys.exit(f"Debian's packages brought no programs: {' '.join(packages)}")


if __name__ == "__main__":
    main()
