"""The CPU that the health checks of 50 services cost a Jupyter server: half of them by TCP, half by HTTP, every 5 seconds.

    python -m tests.load.health_cost [SECONDS]

It prints the share of a core with and without checks. Exit code 1 if the checks cost more than `LIMIT`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from ..support.jupyter_processes import Server, jupyter_server

SERVICES, PERIOD, LIMIT = 50, 5, 0.01  # `LIMIT` is a share of one core
# Answers requests with a few bytes, in the memory of a bare interpreter.
PROGRAM = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = server.accept()
    with connection:
        connection.recv(65536)  # of a check by TCP its end
        if sys.argv[2] == "http":
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
"""


def measure(seconds: float, period: int) -> float:
    """The share of a core that a server with 50 services takes."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        settings = home / ".jupyter" / "jupyter_portproxy.d"
        settings.mkdir(parents=True)
        templates = {
            kind: {
                "command": [sys.executable, "-I", "-S", "-c", PROGRAM, "{port}", kind],
                "ready": "/" if kind == "http" else "tcp",
                **({"health_period": period} if period else {}),
            }
            for kind in ("tcp", "http")
        }
        (settings / "templates.json").write_text(json.dumps(templates))
        with jupyter_server(home, preloaded=False) as server:
            for number in range(SERVICES):
                kind = ("tcp", "http")[number % 2]
                status, text = server.call("POST", "proxy/api/services", {"template": kind, "name": f"{kind}-{number}"})
                assert status == 201, text
                time.sleep(0.05)
            _wait_until_up(server)
            time.sleep(3)
            process = psutil.Process(server.process.pid)
            before, started = process.cpu_times(), time.monotonic()
            time.sleep(seconds)
            after, took = process.cpu_times(), time.monotonic() - started
            _wait_until_up(server)
    return (after.user + after.system - before.user - before.system) / took


def _wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = [service["state"] for service in json.loads(server.get("proxy/api/services")[1])]
        if states == ["up"] * SERVICES:
            return
        time.sleep(0.5)
    raise TimeoutError(f"not all services are up: {states}")


def main(seconds: float) -> int:
    without, with_checks = measure(seconds, 0), measure(seconds, PERIOD)
    cost = with_checks - without
    print(f"{SERVICES} services, health_period {PERIOD}: {with_checks:.2%} of a core; without checks {without:.2%}")
    print(f"One check costs {cost * PERIOD / SERVICES * 1e6:.0f} us")
    return int(cost > LIMIT)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 30))
