"""`jupyter portproxy check PORT|NAME --page`: why a page that works on localhost is broken through Jupyter."""

from __future__ import annotations

import contextlib
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import CliError
from .output import Options, parse_port_operand, print_json, printable

if TYPE_CHECKING:
    from .api_client import ApiClient

NOTHING, FOUND, NOT_LOOKED_AT = 0, 1, 2  # exit codes
_MAX_WIDTH, _MIN_WIDTH = 100, 40  # characters
_PERIOD = 0.5  # s between two dots
_INDENT = "  "


def run_check(call_server: Callable[[Options], int], options: Options) -> int:
    """Run `check_page` by a function that chooses the server. What fails before the page is seen has an exit code of its own."""
    try:
        return call_server(options)
    except CliError as error:
        if options.json:
            print_json({"target": str(options.target), "problem": str(error), "findings": [], "notes": []})
        else:
            print(printable(str(error)), file=sys.stderr)
        return NOT_LOOKED_AT


def check_page(client: ApiClient, options: Options) -> int:
    """Print what is wrong with a page. The exit code says whether something is."""
    target = str(options.target)
    body = {"port": parse_port_operand(target)} if target.isdigit() else {"service": target}
    with _progress(target):
        report = client.call("POST", "diagnose", body | ({"path": options.path} if options.path else {}))
    report["findings"] = findings = [_with_link(client, finding) for finding in report["findings"]]
    report["url"] = _absolute(client, report["url"])
    if options.json:
        print_json(report)
    else:
        print(printable("\n".join(_describe(report))))
    if findings:
        return FOUND
    return NOT_LOOKED_AT if report["problem"] else NOTHING


def _with_link(client: ApiClient, finding: dict[str, Any]) -> dict[str, Any]:
    return {**finding, "link": _absolute(client, finding["link"]) if finding["link"] else None}


def _absolute(client: ApiClient, url: str) -> str:
    """A link to a path at the server, without its token: reports are passed on. Other URLs, as of isolated origins, stay."""
    return client.link(url, with_token=False) if url.startswith("/") else url


def _describe(report: dict[str, Any]) -> Iterator[str]:
    """The lines of a report for people."""
    findings, problem = report["findings"], report["problem"]
    if problem:
        yield from _wrap(problem)
    for number, finding in enumerate(findings, 1):
        if number > 1 or problem:
            yield ""
        yield from _describe_finding(number, finding)
    if not findings and not problem:
        yield from _wrap(f"Nothing wrong was found, in {report['requests']} requests:")
        yield report["url"]
    for note in report["notes"]:
        yield ""
        yield from _wrap(f"Note: {note}")


def _describe_finding(number: int, finding: dict[str, Any]) -> Iterator[str]:
    evidence = finding["evidence"]
    yield from _wrap(f"{number}. {finding['severity']}: {finding['sentence']}", later=_INDENT)
    place = f"{evidence['file']}:{evidence['line']}" if evidence["line"] else evidence["file"]
    where = f"{place}, field {evidence['field']}" if evidence["field"] else place
    yield from _wrap(f"{_INDENT}at {where}", later=f"{_INDENT}   ")
    if evidence["excerpt"]:
        yield from _wrap(f"{_INDENT}   {evidence['excerpt']}", later=f"{_INDENT}   ")
    for remedy in finding["remedies"]:
        yield from _wrap(f"{_INDENT}-> {remedy}", later=f"{_INDENT}   ")
    for link in filter(None, (finding["link"], finding["documentation"])):
        yield f"{_INDENT}   {link}"


def _wrap(text: str, later: str = "") -> list[str]:
    """The text in lines of the terminal's width; URLs are not broken."""
    width = min(max(shutil.get_terminal_size((80, 24)).columns, _MIN_WIDTH), _MAX_WIDTH)
    indent = text[: len(text) - len(text.lstrip(" "))]
    return textwrap.wrap(
        text.lstrip(" "), width, initial_indent=indent, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    ) or [""]


@contextlib.contextmanager
def _progress(target: str) -> Iterator[None]:
    """A line with growing dots on a terminal, gone at the end."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    text = f"Looking at the page of {target}, within 20 s "
    thread = threading.Thread(target=_print_dots, args=(text, ended), name="portproxy progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _print_dots(text: str, ended: threading.Event) -> None:
    print(text, end="", file=sys.stderr, flush=True)
    while not ended.wait(_PERIOD):
        print(".", end="", file=sys.stderr, flush=True)
    print("\r\x1b[K", end="", file=sys.stderr, flush=True)
