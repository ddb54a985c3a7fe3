"""Standard input and output as a stream, in a process of its own. `test_forward` has them with a server."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, sys
from tornado.iostream import IOStream, StreamClosedError
from jupyter_portproxy.cli.standard_streams import StandardStreams
async def main():
    streams = StandardStreams()
    stream = IOStream(streams.far)
    try:
        first = await stream.read_bytes(4)
        await stream.write(first + b" " + b"x" * 1_000_000)
        await stream.read_until_close()
    except StreamClosedError:
        print("closed", file=sys.stderr)
    stream.close()
    await streams.wait_written()
    print("never on standard output")
asyncio.run(main())
"""


def run(given: bytes, **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", PROGRAM], input=given, capture_output=True, timeout=20, check=False, **options)


def test_all_is_written_before_the_end_and_nothing_after_it():
    done = run(b"name")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"name " + b"x" * 1_000_000, b"")


def test_an_input_that_has_ended_is_an_end():
    assert run(b"").stderr == b"closed\n"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
def test_a_reader_that_goes_is_the_end():
    command = f"{sys.executable} -c '{PROGRAM}' | head -c 4"
    done = subprocess.run(["sh", "-c", f"(echo name; sleep 5) | {command}"], capture_output=True, timeout=20, check=False)
    assert done.stdout == b"name" and b"Traceback" not in done.stderr
