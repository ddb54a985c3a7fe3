"""What the commands that relay connections have in common, `forward` and `attach`: they dial a server, and run until a signal."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from .output import printable

if TYPE_CHECKING:
    import asyncio

    from ..upstream.websocket_client import ServerAccess
    from .server_address import ServerAddress


def run_relay(work: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine, which may open many connections, and return its exit code."""
    import logging

    try:
        from uvloop import run  # of the extra `fast`: a round trip takes a quarter less processor time
    except ImportError:
        from asyncio import run  # type: ignore[assignment]

    from ..system.descriptors import raise_limit

    logging.getLogger("tornado").addHandler(logging.NullHandler())  # what it warns of is in the command's own sentences
    raise_limit()
    return run(work)


def server_access(server: ServerAddress) -> ServerAccess:
    """What `open_websocket` takes. Raises: CliError, if the environment names a proxy that cannot be used."""
    from ..system.tls import Trust
    from ..upstream.websocket_client import ServerAccess
    from .connection import check_owner, find_proxy
    from .refusals import explain_refusal

    trust, approve, explain = Trust(server.ca_file), partial(check_owner, server), partial(explain_refusal, server)
    return ServerAccess(server.url, server.token, trust, find_proxy(server), approve, explain)


def exit_code_of_signals() -> asyncio.Future[int]:
    """The exit code after SIGINT or SIGTERM. Windows has KeyboardInterrupt instead."""
    import asyncio

    loop = asyncio.get_running_loop()
    code: asyncio.Future[int] = loop.create_future()

    def stop(value: int) -> None:
        if not code.done():
            code.set_result(value)

    for number, value in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop, value)
    return code


def print_message(text: str) -> None:
    """Print a message for people to standard error: standard output has results alone.

    Where it cannot be printed, as on a full disk or in a terminal that is closed, the connections go on.
    """
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)
