"""`allow`, `disallow` and `allowed` against a real server."""

from __future__ import annotations

import json
import re
import sys
import time

import pytest

from ..support.upstreams import free_port

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="services need POSIX process groups")


def test_a_port_outside_the_range_is_allowed_and_taken_back(server, run):
    port = free_port(range(21000, 29000))
    assert run("allowed")[1] == "No allowed ports.\n\n"
    code, output, _ = run("allow", str(port))
    assert (code, output.splitlines()[0].partition("http")[0]) == (0, f"Port {port} is allowed: ")
    code, output, _ = run("allow", str(port), "--for", "8h", "--json")
    assert code == 0 and 28700 < json.loads(output)["until"] - time.time() <= 28800
    assert re.match(rf"Port {port} is allowed until 20[0-9-]+ [0-9:]+: http", run("allow", str(port), "--for", "1.5h")[1])
    assert run("allowed")[1].split()[:4] == ["ALLOWED", "PORT", "UNTIL", str(port)]
    assert run("disallow", str(port)) == (0, f"Port {port} is not allowed any more.\n", "")
    assert (json.loads(run("allowed", "--json")[1]), run("disallow", str(port))[0]) == ([], 1)
    assert run("allow", "22")[2].startswith("You may not allow port 22.\n")
    for words in (["allow", "70000"], ["allow", "x"], ["allow", "5000", "--for", "8"], ["disallow", "0"]):
        code, _, errors = run(*words)
        assert code == 2 and " is not a " in errors.splitlines()[-1], errors
