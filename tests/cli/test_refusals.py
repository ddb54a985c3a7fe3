"""What a response means that is not the API's own answer. Real ones are in test_remote.py."""

from __future__ import annotations

import json
from http.client import parse_headers
from io import BytesIO

import pytest

from jupyter_portproxy.cli.refusals import explain_hub_token, explain_page, explain_refusal
from jupyter_portproxy.cli.server_address import ServerAddress
from jupyter_portproxy.errors import BadAttachToken, ServerUnavailable

URL = "https://hub.example.org/user/ada/"
HUB, PLAIN = ServerAddress(URL, "s3cret"), ServerAddress("https://example.org/", "s3cret")
AGAIN = f"Log in again: jupyter portproxy login {URL}"
NOT_ACCEPTED = f"The token for {URL} is not accepted: it has ended, or does not permit that.\n{AGAIN}"
STOPPED = f"JupyterHub has no running server at {URL}\nStart it: https://hub.example.org/hub/home"
FROM_HUB = {"X-JupyterHub-Version": "6.1"}


def explained(server, status, fields=None, content=b""):
    head = "".join(f"{name}: {value}\r\n" for name, value in (fields or {}).items())
    return explain_refusal(server, status, parse_headers(BytesIO(f"{head}\r\n".encode())), content)


@pytest.mark.parametrize(
    ("status", "fields", "sentence"),
    [
        (401, {}, NOT_ACCEPTED),
        (
            302,
            {"Location": "/hub/login?next=x&token=s3cret"},
            f"{URL} leads to a login page (https://hub.example.org/hub/login).\n{NOT_ACCEPTED}",
        ),
        (
            302,
            {"Location": "https://sso.example.org/oauth2/start?rd=1"},
            f"{URL} leads to a login page (https://sso.example.org/oauth2/start).\n{NOT_ACCEPTED}",
        ),
        (302, {"Location": "/hub/user/ada/proxy/api/services"}, STOPPED),
        (424, FROM_HUB, STOPPED),
        (503, FROM_HUB, STOPPED),
        (
            302,
            {"Location": "/hub/proxy/api/services"},
            f"{URL} is a JupyterHub, not a server.\nA user's server is at https://hub.example.org/user/NAME/",
        ),
        (
            301,
            {"Location": "https://other.example.org/user/ada/proxy/api/services"},
            f"{URL} leads to another address, to which the token was not sent.\nUse https://other.example.org/user/ada/",
        ),
        (
            307,
            {"Location": "/elsewhere?token=s3cret"},
            f"{URL} answers with a redirect to https://hub.example.org/elsewhere, which was not followed.",
        ),
        (302, {"Location": "https://[x"}, f"{URL} answers with a redirect that is not valid."),
        (302, {}, f"{URL} answers with a redirect to {URL}, which was not followed."),
        (404, {}, f"{URL} has no jupyter_portproxy.\nIs this the URL of a Jupyter server? See: jupyter server extension list"),
        (502, {}, f"The reverse proxy in front of {URL} answers 502 Bad Gateway.\nDoes the server run?"),
        (504, {}, f"The reverse proxy in front of {URL} answers 504 Gateway Timeout.\nDoes the server run?"),
        (403, {}, f"{URL} refuses the request (403 Forbidden) and gives no reason."),
        (429, {}, f"{URL} answers 429 Too Many Requests."),
        (599, {}, f"{URL} answers 599."),
    ],
)  # fmt: skip
def test_the_sentence_of_a_response(status, fields, sentence):
    error = explained(HUB, status, fields, b"<html>")
    assert str(error) == sentence
    temporary = sentence == STOPPED or status in (502, 504)
    assert isinstance(error, ServerUnavailable) is temporary


def test_the_reason_of_the_gateway_is_passed_on():
    body = {"code": "forbidden", "message": "No.", "hint": "Ask.", "details": ["one"]}
    error = explained(HUB, 403, content=json.dumps(body).encode())
    assert (str(error), type(error) is ServerUnavailable) == ("No.\nAsk.\none", False)
    body = {"code": "login_unavailable", "message": "Not now.", "hint": ""}
    error = explained(HUB, 503, FROM_HUB, json.dumps(body).encode())
    assert (str(error), type(error) is ServerUnavailable) == ("Not now.", True)


def test_a_request_without_a_valid_login_has_a_code_of_its_own():
    body = json.dumps({"code": "unauthenticated", "message": "x", "hint": "y"}).encode()
    assert str(explained(HUB, 403, content=body)) == NOT_ACCEPTED
    sentence = "The token for https://example.org/ is not accepted: it has ended, or is not this server's."
    assert str(explained(PLAIN, 403, content=body)).splitlines()[0] == sentence
    local = ServerAddress("http://localhost:8888/", "x", is_local=True)
    assert str(explained(local, 403, content=body)) == "The server at http://localhost:8888/ does not accept its own token."
    local = ServerAddress("http://localhost:8888/", is_local=True)
    assert str(explained(local, 403, content=body)).startswith("The server's login has no token.")


def test_an_attach_token_is_not_logged_in_with():
    server = ServerAddress(URL, "portproxy-attach-x")
    refused = BadAttachToken()
    assert str(explained(server, 403, content=json.dumps(refused.as_json()).encode())) == f"{refused.message}\n{refused.hint}"
    assert str(explained(server, 302, {"Location": "/hub/login"})).splitlines()[-1] == refused.hint


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (403, "{}", "it is unknown to JupyterHub: it has ended, or was revoked"),
        (200, '{"name": "bob"}', "it is bob's"),
        (200, '{"name": "ada"}', "it lacks the scope access:servers!user=ada"),
    ],
)
def test_what_the_hub_says_of_a_token(status, content, reason):
    first, second, third = str(explain_hub_token(HUB, status, content.encode())).split("\n")
    assert first == f"The token for {URL} is not accepted: {reason}."
    assert (second, third) == ("Make another one at https://hub.example.org/hub/token", AGAIN)


def test_a_hub_that_says_nothing_of_a_token():
    assert str(explain_hub_token(HUB, 502, b"<html>")) == NOT_ACCEPTED


def test_a_page_where_data_was_expected():
    assert str(explain_page(PLAIN)).startswith("https://example.org/ answers with a web page instead of data.\n")


def test_a_token_that_counts_before_the_login_is_named():
    """To log in again would not help."""
    for url in (URL, "https://example.org/"):
        sentence = str(explained(ServerAddress(url, "s3cret", token_source="the variable JUPYTER_TOKEN"), 401))
        assert sentence.splitlines()[1:] == [
            "It comes from the variable JUPYTER_TOKEN, which counts before a login. Correct it there, or remove it."
        ]
