"""A loopback network of its own for each process of pytest-xdist (Linux, as root; elsewhere they share the machine's).

Lists of ports connect to all ports on which this user's programs listen. In one network, the servers of one test would connect to
the upstreams of another that runs at the same time.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import subprocess
import sys

_CLONE_NEWNET = 0x40000000  # unshare(2)
_SIOCSIFFLAGS = 0x8914  # netdevice(7)
_IFF_UP = 0x1


def is_own_network_possible() -> bool:
    """Tried in a process that ends with it."""
    program = f"import sys; from {__name__} import enter_own_network; sys.exit(not enter_own_network())"
    return subprocess.run([sys.executable, "-c", program]).returncode == 0


def enter_own_network() -> bool:
    """Move this thread, and what it starts, to a new network that has loopback alone; False if that is not possible here."""
    if sys.platform != "linux":
        return False
    import fcntl  # Windows has none

    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", _IFF_UP))
    return True
