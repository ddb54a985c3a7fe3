"""Limits of descriptors, and TCP keep-alive."""

from __future__ import annotations

import socket
import subprocess
import sys

from jupyter_portproxy.system.descriptors import keep_alive, keep_descriptor_alive


def test_the_last_descriptors_are_scarce():
    code = """
import os, resource, socket
from jupyter_portproxy.system.descriptors import affordable, is_scarce, none_left
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
assert not is_scarce(149) and is_scarce(150) and not none_left()
assert (affordable(1024), affordable(10)) == (25, 10)
socks = []
try:
    while True:
        socks.append(socket.socket())
except OSError:
    assert none_left()
print("good")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "good\n", done.stderr


def test_only_tcp_is_kept_alive():
    one, other = socket.socketpair()
    with one, other, socket.socket() as tcp:
        keep_alive(one)
        keep_alive(tcp)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


def test_a_descriptor_is_kept_alive_and_stays_its_owners():
    with socket.socket() as tcp:
        keep_descriptor_alive(tcp.fileno())
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tcp.fileno() != -1 and tcp.getsockname()
        if hasattr(socket, "TCP_KEEPCNT"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 4


def test_the_limit_is_raised_as_far_as_it_may():
    code = """
import resource
from jupyter_portproxy.system.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 2000))
raise_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(2000, 2000)\n"
