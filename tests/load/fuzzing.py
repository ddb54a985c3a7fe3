"""`python -m tests.load.fuzzing SECONDS [TARGET...]`: parsers of outside input, fed by atheris, and by hypothesis in tests.

A target is a function of bytes. A GatewayError is a valid result; any other exception, and any failed assertion, is a finding,
which becomes a test.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_portproxy.errors import BadUpstream, GatewayError
from jupyter_portproxy.projects import model, permissions
from jupyter_portproxy.protocol import framing, headers, project_urls, urls
from jupyter_portproxy.protocol.credentials import remove_secret_parameters
from jupyter_portproxy.protocol.headers import (
    _ORIGIN_WIDE,
    HOP_BY_HOP,
    Client,
    answer_token_subprotocol,
    build_request_fields,
    build_response_fields,
    has_loop,
    is_websocket_upgrade,
)
from jupyter_portproxy.protocol.websocket_frames import FrameCursor
from jupyter_portproxy.services.ports import PortLeases, Reservations
from jupyter_portproxy.services.template_keys import NAME

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
BASE, SECRET = "/user/ada/", "0123456789abcdef-token"
PREFIX = f"{BASE}proxy/port/8050"
CLIENT = Client("10.0.0.1", "10.0.0.1", "http", "hub.example:8888", False, frozenset({SECRET, "2|xsrf"}), "username-hub-8888")
UPSTREAM = urls.Upstream("localhost", 8050, ("127.0.0.1", "::1"))
ROUTE = urls.Route("localhost", 8050, PREFIX, "/x", "")
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def routes_target(data: bytes) -> None:
    """A URL: a port is a port, what follows it is as it was sent, and a redirect stays here."""
    uri = data.decode("latin-1")
    for start in (uri, f"{BASE}proxy/{uri}", f"{BASE}proxy/port/8050/{uri}", f"{BASE}{uri}"):
        for parse in (urls.parse_url, project_urls.parse_project_url):
            try:
                found = parse(start, BASE)
            except GatewayError as error:
                _safe(error)
                continue
            if isinstance(found, urls.Route):
                assert 1 <= found.port <= 65535
                assert start == f"{found.prefix}{found.path}{found.query}", start
            elif isinstance(found, urls.Redirect):
                assert found.location.startswith(BASE) and found.status in (307, 308)
            elif isinstance(found, project_urls.ProjectRoute):
                assert project_urls.is_key(found.key) and start == f"{found.prefix}{found.path}{found.query}"
            elif isinstance(found, urls.ServiceRoute):
                assert start == f"{found.prefix}{found.path}{found.query}"


def head_target(data: bytes) -> None:
    """An upstream's head: a GatewayError, or fields without control characters that stay below the prefix."""
    try:
        status, reason, fields = framing.parse_head(data.split(b"\r\n"))
    except BadUpstream as error:
        return _safe(error)
    assert 100 <= status <= 999 and not CONTROL.search(reason)
    framing.parse_content_length("GET", status, fields)
    out = build_response_fields(fields, ROUTE, UPSTREAM, CLIENT)
    for name, value in out:
        assert framing.is_token(name) and not CONTROL.search(value), (name, value)
        _stays_below(name.lower(), value)
        assert name.lower() not in HOP_BY_HOP and not _ORIGIN_WIDE.fullmatch(name.lower())
    assert sum(name.lower() == "content-length" for name, _ in out) <= 1
    answer_token_subprotocol(fields, fields)


def _stays_below(name: str, value: str) -> None:
    if name == "location" and value.startswith("/") and not re.match(r"[/\\]{2}", value):
        assert value.startswith(PREFIX), value
    if name == "set-cookie":
        pair, *attributes = value.split(";")
        cookie = pair.partition("=")[0].strip()
        assert cookie and cookie not in (CLIENT.login_cookie, "_xsrf") and not cookie.lower().startswith("__host-")
        for attribute in attributes:
            key, _, path = attribute.partition("=")
            assert key.strip().lower() != "domain", value
            assert key.strip().lower() != "path" or path.strip().startswith(PREFIX), value
        assert sum(attribute.partition("=")[0].strip().lower() == "path" for attribute in attributes) == 1, value
    if name == "service-worker-allowed":
        assert value.startswith(PREFIX + "/")


def set_cookie_target(data: bytes) -> None:
    head_target(b"HTTP/1.1 200 OK\r\nSet-Cookie: " + data.replace(b"\r\n", b""))


def location_target(data: bytes) -> None:
    head_target(b"HTTP/1.1 302 Found\r\nLocation: " + data.replace(b"\r\n", b""))


def request_target(data: bytes) -> None:
    """A client's fields: nothing of Jupyter's goes on, and nothing that frames or forges."""
    text = data.decode("latin-1")
    fields = [(name.strip(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in text.split("\n"))]
    fields = [(name, value) for name, value in fields if framing.is_token(name) and not CONTROL.search(value)]
    fields += [("Authorization", f"token {SECRET}"), ("Cookie", f"a=1; {CLIENT.login_cookie}=abc; _xsrf=2|xsrf; b=2")]
    for version in ("HTTP/1.1", "HTTP/1.0"):
        try:
            framing.parse_request_content(version, fields)
        except GatewayError as error:
            _safe(error)
    has_loop(fields, "jupyter-portproxy-x")
    is_websocket_upgrade("GET", "HTTP/1.1", fields)
    out = build_request_fields(fields, ROUTE, UPSTREAM, CLIENT, via="jupyter-portproxy-x")
    assert [name for name, _ in out].count("Host") == 1 and out[0] == ("Host", UPSTREAM.authority)
    for name, value in out:
        assert not CONTROL.search(value), (name, value)
        key = framing.normalize_name(name)
        assert key not in HOP_BY_HOP and key not in ("content-length", "x-xsrftoken"), name
        if key == "authorization":
            assert value != f"token {SECRET}"
        if key == "cookie":
            names = {pair.partition("=")[0].strip() for pair in value.split(";")}
            assert not names & {CLIENT.login_cookie, "_xsrf"}, value
    query = text.replace("\n", "&").replace("\r", "")
    kept = remove_secret_parameters(f"/x?{query}&token={SECRET}&z=1", CLIENT.secrets)
    assert f"&token={SECRET}&" not in kept


def frames_target(data: bytes) -> None:
    """Frames cut anywhere: it is at a boundary exactly where the last frame ends."""
    if len(data) < 2:
        return
    step, stream = data[0] % 7 + 1, data[1:]
    whole, pieces = FrameCursor(), FrameCursor()
    whole.feed(stream)
    for start in range(0, len(stream), step):
        pieces.feed(stream[start : start + step])
    if len(stream) < 8000:
        assert whole.at_boundary == pieces.at_boundary == _ends_a_frame(stream)


def _ends_a_frame(stream: bytes) -> bool:
    at = 0
    while at < len(stream):
        if at + 2 > len(stream):
            return False
        second, at = stream[at + 1], at + 2
        size = second & 0x7F
        if size >= 126:
            width, form = (2, ">H") if size == 126 else (8, ">Q")
            if at + width > len(stream):
                return False
            (size,) = struct.unpack(form, stream[at : at + width])
            at += width
        at += (4 if second & 0x80 else 0) + size
    return at == len(stream)


def values_target(data: bytes) -> None:
    """What a registry or an operator gives: keys, next hops, credentials, ranges of ports."""
    text = data.decode("utf-8", "surrogateescape")
    if project_urls.is_key(text):
        assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", text)
    if model.is_credential(text):
        assert text.isascii() and not CONTROL.search(text) and " " not in text
    try:
        scheme, host, port = model.parse_host_url(text)
        assert scheme in ("http", "https") and 1 <= port <= 65535
        assert urls.is_name(host) or urls.ip_literal(host) is not None
    except ValueError:
        pass
    try:
        for ports in urls.parse_ports([text]):
            assert 1 <= ports.start < ports.stop <= 65536
    except ValueError:
        pass
    permissions.grant_for(text, (), "ada", {text: text}, {}, is_public=False)


def bodies_target(data: bytes) -> None:
    """JSON that comes to the API: names and times are what they must be, or a GatewayError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = data.decode("latin-1")
    arguments = value if isinstance(value, dict) else {"name": value, "seconds": value}
    reservations = Reservations(PortLeases([range(10000, 10100)]))
    try:
        made = reservations.reserve(arguments.get("name"), arguments.get("seconds", 600))
        assert NAME.match(made.name) and 10000 <= made.port < 10100
    except GatewayError as error:
        _safe(error)


def _safe(error: GatewayError) -> None:
    """Messages to clients are one line of plain text without markup."""
    for text in (error.message, error.hint):
        assert not CONTROL.search(text) and not set('<>"') & set(text), text


TARGETS: dict[str, Callable[[bytes], None]] = {
    "routes": routes_target,
    "head": head_target,
    "set_cookie": set_cookie_target,
    "location": location_target,
    "request": request_target,
    "frames": frames_target,
    "values": values_target,
    "bodies": bodies_target,
}


def fuzz(name: str, seconds: float) -> None:
    """One target, in this process, which atheris ends."""
    import atheris  # type: ignore[import-not-found]  # no wheel of it for every Python: `make fuzz` brings its own

    found = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    corpus = CORPUS / name
    atheris.instrument_func(TARGETS[name])
    for module in (headers, urls, model):
        for attribute in list(vars(module).values()):
            if callable(attribute) and getattr(attribute, "__module__", "") == module.__name__ and hasattr(attribute, "__code__"):
                atheris.instrument_func(attribute)
    options = [f"-max_total_time={int(seconds)}", "-max_len=4096", "-timeout=10", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, str(found), str(corpus)], TARGETS[name])
    atheris.Fuzz()


def main() -> None:
    seconds, names = float(sys.argv[1]), sys.argv[2:] or list(TARGETS)
    if len(names) == 1:
        fuzz(names[0], seconds)
        return
    failed = []
    for name in names:
        since = time.monotonic()
        command = [sys.executable, "-m", "tests.load.fuzzing", str(seconds / len(names)), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        runs = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
        print(
            f"{name:12} {time.monotonic() - since:6.0f} s  {runs[0] if runs else '?':>9} inputs  exit code {done.returncode}",
            flush=True,
        )
        if done.returncode:
            failed.append(name)
            print(done.stdout[-2000:], done.stderr[-3000:], flush=True)
    sys.exit(f"findings: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
