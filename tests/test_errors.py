"""What a client is told when the gateway answers itself: the status, one fixed sentence with the value, and what to do about it.
Whatever a URL carries, nothing that is quoted from it may end a header line, open a tag or leave an attribute.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy import errors
from jupyter_portproxy.errors import (
    BadInput,
    BadRoute,
    BadUpstream,
    GatewayError,
    LoopDetected,
    NotFound,
    Unreachable,
    UpstreamTimeout,
)

PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text()
MARKUP = set("<>&\"'")
TREE = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, GatewayError) and e is not errors.ProjectError]
SAMPLES = [
    errors.BadInput("This is no name for a service.", "Use letters."),
    errors.BadFraming("The request's Content-Length is not one whole number."),
    errors.BadRoute.host("a b"),
    errors.BadRoute.port("abc"),
    errors.BadUpstream(),
    errors.Distrusted.certificate(),
    errors.Distrusted.no_tls(),
    errors.Forbidden("Port 5000 is outside allowed range (10000-20000)"),
    errors.GatewayError("Something."),
    errors.Internal(),
    errors.LoginUnavailable(),
    errors.LoopDetected(),
    errors.MethodRefused("TRACE is not served."),
    errors.RawTcp.address("5432"),
    errors.RawTcp.service("a<b>"),
    errors.TokenOnly.page(),
    errors.TokenOnly.missing(),
    errors.TokenOnly.unavailable(),
    errors.JupyterPort(8888),
    errors.NothingThere(),
    errors.NotFound("a<b>"),
    errors.ServiceFailed("The service is failed.", ["its last line"]),
    errors.ConsentMissing("a<b>"),
    errors.NoPort(),
    errors.StartedTooOften(5),
    errors.ServiceStarting("app", ["its last line"]),
    errors.ShuttingDown(),
    errors.TooMany.at_once("exchanges", "", 4000),
    errors.TooMany.at_once("tunnels", "_per_user", 10),
    errors.TooMany.at_once("exchanges", "_per_port", 10),
    errors.NoDescriptors(),
    errors.FieldsTooLarge.number(501, 500),
    errors.FieldsTooLarge.size("Cookie\r\n<b>", 9000, 8000),
    errors.TooManyRedirects(10),
    errors.Unauthenticated(),
    errors.BadAttachToken(),
    errors.NotEntered(),
    errors.Unreachable.host("lab.example:8050"),
    errors.Unreachable.port(8050),
    errors.BadUpgrade("There is no Sec-WebSocket-Key."),
    errors.UpstreamTimeout.connect(5),
    errors.UpstreamTimeout.first_byte(30),
    errors.UnknownProject("a<b>", "hub"),
    errors.NotPlaced("hub"),
    errors.HostDown("hub"),
    errors.HubDistrusted("hub"),
    errors.ForwardedPort(8050),
    errors.NotEnteredFrame(),
    errors.NotFramed(),
    errors.NothingAttaches(),
    errors.NoProjectFiles(),
    errors.FolderChanged("a<b>"),
    errors.ConsentMissing("a<b>"),
    errors.NotReversed(),
    errors.NotTheHub(),
    errors.ProjectStopped("project host"),
    errors.ProjectStarting("project host"),
    errors.RegistryAway("hub"),
]


def test_the_samples_show_every_error_of_the_tree():
    assert {type(e) for e in SAMPLES} == set(TREE)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_every_error_has_a_refusing_status_a_code_and_a_title(error):
    assert 400 <= error.status <= 599 and error.status != 599
    assert re.fullmatch(r"[a-z_]+", error.code)
    assert error.title.isascii() and error.title.isprintable() and not MARKUP & set(error.title)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_every_error_says_what_was_wrong_without_markup(error):
    assert error.message and str(error) == error.message
    for text in (error.message, error.hint):
        assert text.isascii() and (text.isprintable() or not text) and not set('<>&"') & set(text)


def test_codes_tell_errors_apart():
    codes = [e.code for e in TREE if e not in (GatewayError, errors.Internal)]
    assert len(set(codes)) == len(codes) and "internal" not in codes


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("BadFraming", 400),
        ("BadRoute", 400),
        ("BadUpstream", 502),
        ("Forbidden", 403),
        ("Internal", 500),
        ("LoginUnavailable", 503),
        ("LoopDetected", 508),
        ("MethodRefused", 405),
        ("BadInput", 400),
        ("NotFound", 404),
        ("ServiceFailed", 502),
        ("ServiceStarting", 503),
        ("ShuttingDown", 503),
        ("TooManyRedirects", 502),
        ("Unauthenticated", 403),
        ("Unreachable", 502),
        ("BadUpgrade", 400),
        ("UpstreamTimeout", 504),
        ("UnknownProject", 404),
        ("NotPlaced", 503),
        ("HostDown", 502),
        ("HubDistrusted", 502),
        ("NotFramed", 403),
        ("NotTheHub", 403),
        ("ProjectStopped", 503),
        ("ProjectStarting", 503),
        ("RegistryAway", 503),
    ],
)
def test_the_status_is_the_right_one(kind, status):
    assert getattr(errors, kind).status == status


@pytest.mark.parametrize("text", ["abc", "0", "65536", "+80", "0x50", "080", "-1", "80;x", "%2080", "%D9%A3", ""])
def test_a_bad_port_is_quoted_as_it_was_sent(text):
    error = BadRoute.port(text)
    assert error.message == f"Invalid port parameter: {text}"
    assert "1 to 65535" in error.hint


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        (" 80", "%2080"),
        ("\xd9\xa3", "%D9%A3"),
        ("<b>", "%3Cb%3E"),
        ("a\r\nX: y", "a%0D%0AX:%20y"),
        ("a&'\"", "a%26%27%22"),
        ("\u0663", "%3F"),
    ],
)
def test_what_a_url_may_not_hold_is_quoted_percent_encoded(text, quoted):
    assert BadRoute.port(text).message == f"Invalid port parameter: {quoted}"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\u0434\u0430\u043d\u043d\u044b\u0435", "\u0434\u0430\u043d\u043d\u044b\u0435"),
        ("My r\u00e4um", "My r\u00e4um"),
        ("<b>\u202e\n", "%3Cb%3E%E2%80%AE%0A"),
        ("\ud800", "%3F"),
    ],
)
def test_the_name_of_a_folder_is_readable_in_every_language(name, shown):
    assert NotFound.project_file(name).message == f"There is no project file in the folder '{shown}'."
    assert BadInput.name("service", name, "").message == f"Invalid service name: '{shown}'."


@given(st.text())
def test_no_quoted_name_carries_markup_or_control_characters(text):
    message = NotFound.project_file(text).message.removeprefix("There is no project file in the folder '").removesuffix("'.")
    assert message.isprintable() and not MARKUP & {*message}


@given(st.text())
def test_nothing_quoted_carries_markup_or_control_characters(text):
    for message in (BadRoute.port(text).message, BadRoute.host(text).message):
        assert message.isascii() and message.isprintable() and not MARKUP & set(message)


@pytest.mark.parametrize("character", ["9", "<", "\xff", "\u0663"])
def test_a_huge_value_does_not_make_a_huge_message(character):
    assert len(BadRoute.port(character * 100_000).message) < 1000


def test_the_error_for_a_port_without_a_listener():
    error = Unreachable.port(15000)
    assert error.message == "Failed to connect to service on port 15000."
    assert error.hint == "Is the service running? Try: python3 -m http.server 15000"
    assert error.status == 502 and error.retry_after > 0


def test_the_error_for_another_host_without_a_listener():
    error = Unreachable.host("[::1]:8050")
    assert error.message == "Failed to connect to [::1]:8050."
    assert error.retry_after > 0


@pytest.mark.parametrize(("seconds", "limit"), [(5, "5 s"), (5.0, "5 s"), (0.5, "0.5 s")])
@pytest.mark.parametrize("make", [UpstreamTimeout.connect, UpstreamTimeout.first_byte], ids=["connect", "first_byte"])
def test_a_timeout_says_how_long_it_waited_and_which_trait_changes_it(make, seconds, limit):
    error = make(seconds)
    assert f"within {limit}." in error.message
    assert f"c.PortProxy.{make.__name__}_timeout" in error.hint


def test_garbage_is_an_error_of_the_service_in_plain_words():
    assert BadUpstream("a header line has no valid name").message.endswith(": a header line has no valid name.")


def test_only_transient_errors_have_retry_after():
    again = {type(e).__name__ for e in SAMPLES if e.retry_after is not None}
    one_hop = {"LoginUnavailable", "ServiceStarting", "ShuttingDown", "StartedTooOften", "Unreachable", "UpstreamTimeout"}
    assert again == one_hop | {"TooMany", "NoDescriptors", "NotPlaced", "ProjectStarting", "RegistryAway"}
    assert LoopDetected().retry_after is None


@pytest.mark.parametrize("hop", ["hub", "project host"])
@pytest.mark.parametrize("kind", ["NotPlaced", "HostDown", "HubDistrusted", "ProjectStopped", "ProjectStarting", "RegistryAway"])
def test_a_projects_error_names_the_hop_that_says_so(kind, hop):
    error = getattr(errors, kind)(hop)
    assert hop in error.message and error.hop == hop


@given(st.text())
def test_an_unknown_project_is_quoted_harmlessly_and_shortly(text):
    message = errors.UnknownProject(text, "hub").message
    assert message.isascii() and message.isprintable() and not set('<>&"') & set(message) and len(message) < 1000


# ---- JSON and the documentation ----


def test_an_error_as_json_has_the_log_of_its_service_and_the_path_that_starts_its_project():
    plain = {"code": "forbidden", "message": "No.", "hint": "Do this."}
    assert errors.Forbidden("No.", "Do this.").as_json() == plain
    assert errors.ServiceFailed("It ended.", ["its last line"]).as_json()["details"] == ("its last line",)
    assert errors.ProjectStopped("hub", start="/start").as_json()["start"] == "/start"


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        (["Source, https://x/", "Documentation, https://docs.example.org/en/"], "https://docs.example.org/en/"),
        (["Documentation, javascript:alert(1)"], ""),
        (["Source, https://x/"], ""),
        ([], ""),
    ],
)
def test_the_address_is_that_of_the_metadata(urls, address):
    assert errors.find_documentation(urls) == address


@pytest.mark.parametrize("error", {e.code: e for e in SAMPLES}.values(), ids=lambda e: e.code)
def test_every_error_code_has_its_heading(error):
    assert re.search(rf"^### {error.code}$", PAGE, re.MULTILINE), f"docs/troubleshooting.md lacks '### {error.code}'"
    assert re.fullmatch(rf"https://\S+/troubleshooting/#{error.code}", error.documentation)


async def test_the_page_links_to_it_and_to_nothing_else(call):
    answer = await call("proxy/port/5000/", fields=["Accept: text/html"])
    assert answer.status == 403
    assert re.findall(r'(?:href|src)="([^"]*)"', answer.text) == [errors.Forbidden("x").documentation]
    assert 'rel="noopener noreferrer"' in answer.text and '<meta name="referrer" content="no-referrer">' in answer.text


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"code": 1}', b'{"code":"","message":"","hint":"","details":1}']
)
def test_what_is_not_the_gateways_error(content):
    assert errors.parse_error(content) == {}


def test_the_body_of_an_error_is_parsed_again():
    body = json.dumps(errors.ServiceFailed("It ended.", ["its last line"], "Start it.").as_json()).encode()
    parsed = {"code": "service_failed", "message": "It ended.", "hint": "Start it.", "details": ["its last line"]}
    assert errors.parse_error(body) == parsed
