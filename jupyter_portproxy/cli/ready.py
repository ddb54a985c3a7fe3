"""`jupyter portproxy await`: wait until a port or service can be used, for scripts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import CliError, ServerUnavailable
from .api_command import add_api_command
from .output import Commands, Options, parse_duration, parse_name, parse_port_operand

if TYPE_CHECKING:
    from .api_client import ApiClient

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 1.0  # s between two looks


def add_commands(commands: Commands) -> None:
    """Add the command to the command line; `options.run(options)` executes it."""
    waiting = add_api_command(commands, "await", _await, "Wait until a port or service is ready.")
    waiting.add_argument("target", metavar="PORT|NAME", type=parse_name)
    waiting.add_argument(
        "--timeout", dest="seconds", type=_parse_seconds, default=60.0, metavar="TIME",
        help="how long to wait, in seconds or for example 5m (default: 60); after it the exit code is 1",
    )  # fmt: skip
    text = "wait until it answers a GET of this path with a status below 400"
    waiting.add_argument("--http", metavar="PATH", default="", help=text)


def _parse_seconds(text: str) -> float:
    """For argparse: as `parse_duration`, and a number alone is seconds."""
    return parse_duration(f"{text}s" if text[-1:].isdigit() else text)


def _await(client: ApiClient, options: Options) -> None:
    subject = f"Port {options.target}" if options.target.isdigit() else f"'{options.target}'"
    target = {"port": parse_port_operand(options.target)} if options.target.isdigit() else {"service": options.target}
    path = f"ready?{urlencode({**target, **({'path': options.http} if options.http else {})})}"
    end, pause, answer = time.monotonic() + options.seconds, _FIRST_PAUSE, client.call("GET", path)
    has_run = not answer["ended"]  # a service that failed before this command may be started again by another one
    while not answer["ready"]:
        if answer["ended"] and has_run:
            raise CliError(f"{subject} will not be ready. {answer['reason']}")
        has_run = has_run or not answer["ended"]
        left = end - time.monotonic()
        if left <= 0:
            raise CliError(f"{subject} is not ready after {options.seconds:g} s. {answer['reason']}")
        time.sleep(min(pause, left))
        pause, answer = min(2 * pause, _LONGEST_PAUSE), _look_again(client, path, answer)
    print(f"{subject} is ready.")


def _look_again(client: ApiClient, path: str, before: dict[str, Any]) -> dict[str, Any]:
    """The answer of the server; while it does not answer, perhaps as it starts again, its last one with the reason."""
    try:
        answer: dict[str, Any] = client.call("GET", path)
    except ServerUnavailable as error:
        return {**before, "ready": False, "ended": False, "reason": str(error)}
    return answer
