"""URLs as people type and paste them, and the addresses to which no token may be sent."""

from __future__ import annotations

import pytest

from jupyter_portproxy.cli.server_address import ServerAddress, check_token, is_same_server, parse_server_url
from jupyter_portproxy.errors import CliError

HUB = "https://hub.example.org/user/ada/"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (HUB, HUB),
        (HUB.rstrip("/"), HUB),
        (f"  {HUB}\n", HUB),
        (f"{HUB}lab", HUB),
        (f"{HUB}lab/tree/folder/lab/a.ipynb?reset#x", HUB),
        (f"{HUB}tree/", HUB),
        (f"{HUB}proxy/port/8050/x", HUB),
        (f"{HUB}login?next=%2Fuser%2Fada%2F", HUB),
        ("https://hub.example.org/hub/user/ada/lab", HUB),
        ("https://example.org/jh/hub/user/ada/lab", "https://example.org/jh/user/ada/"),
        ("HTTPS://Hub.Example.ORG.:443//user//ada", HUB),
        ("https://hub.example.org/user/lab/lab", "https://hub.example.org/user/lab/"),
        ("https://hub.example.org/user/hub/tree", "https://hub.example.org/user/hub/"),
        ("https://hub.example.org/user/ada/gpu/lab", "https://hub.example.org/user/ada/gpu/"),
        ("https://hub.example.org/user/a%40b/", "https://hub.example.org/user/a%40b/"),
        ("https://hub.example.org/user/ädä/", "https://hub.example.org/user/%C3%A4d%C3%A4/"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("http://localhost:8888", "http://localhost:8888/"),
        ("http://127.0.0.1:8888/lab?x=1", "http://127.0.0.1:8888/"),
        ("http://[::1]:8888/tree", "http://[::1]:8888/"),
        ("https://example.org:8443", "https://example.org:8443/"),
    ],
)
def test_the_base_url_in_what_is_pasted(text, url):
    assert parse_server_url(text) == (url, "")
    assert parse_server_url(url) == (url, "")


@pytest.mark.parametrize("text", [f"{HUB}?token=s3cret", f"{HUB}lab?reset&token=s3cret#x"])
def test_the_token_in_what_is_pasted(text):
    assert parse_server_url(text) == (HUB, "s3cret")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Invalid URL: '' does not begin with https:// or http://."),
        ("hub.example.org/user/ada", "Invalid URL: 'hub.example.org/user/ada' does not begin with https:// or http://."),
        ("ftp://example.org/?token=s3cret", "Invalid URL: 'ftp://example.org/' does not begin with https:// or http://."),
        ("s3cret@example.org/", "Invalid URL: 'example.org/' does not begin with https:// or http://."),
        ("https://ada:s3cret@example.org/", "Invalid URL: it contains a user name or password before the host."),
        ("https://ada@example.org/", "Invalid URL: it contains a user name or password before the host."),
        ("https:///user/ada", "Invalid URL: 'https:///user/ada' has no host, or port 0."),
        ("https://?token=s3cret", "Invalid URL: 'https://' has no host, or port 0."),
        ("https://example.org:0/", "Invalid URL: 'https://example.org:0/' has no host, or port 0."),
        ("https://example.org:99999/", "Invalid URL: its host or port is not valid."),
        ("https://example.org:٨٠/", "Invalid URL: its host or port is not valid."),
        ("https://[::1/", "Invalid URL: its host or port is not valid."),
        ("https://" + "ä" * 70 + ".example/", "Invalid URL: its host is not a name or address."),
        ("https://example.org/a b", "Invalid URL: it contains blanks or control characters, or is too long."),
        ("https://example.org/a\nb", "Invalid URL: it contains blanks or control characters, or is too long."),
        ("https://example.org/\x00", "Invalid URL: it contains blanks or control characters, or is too long."),
        ("https://example.org/" + "a" * 5000, "Invalid URL: it contains blanks or control characters, or is too long."),
        ("https://example.org/user/ada/../bob/", "Invalid URL: its path contains '.' or '..' as a segment."),
        ("https://example.org/user/ada/%2e%2E/bob/", "Invalid URL: its path contains '.' or '..' as a segment."),
        ("https://example.org/hub/home", "Invalid URL: /hub/home is a page of JupyterHub, not a server."),
        ("https://example.org/jh/hub/spawn/ada", "Invalid URL: /hub/spawn is a page of JupyterHub, not a server."),
    ],
)
def test_a_url_that_is_none_is_refused_without_what_may_be_a_token(text, sentence):
    with pytest.raises(CliError) as caught:
        parse_server_url(text)
    first, example = str(caught.value).split("\n")
    assert (first, example) == (sentence, f"Write the server's URL, for example {HUB}")


@pytest.mark.parametrize(
    "host", ["example.org", "192.168.0.1", "0.0.0.0", "[2001:db8::1]", "localhost.example.org", "127.0.0.1.nip.io"]
)
def test_no_token_crosses_a_network_unencrypted(host):
    with pytest.raises(CliError) as caught:
        ServerAddress(f"http://{host}:8888/", "s3cret")
    assert str(caught.value) == (
        f"http://{host}:8888/ is not encrypted, and the token would be readable on the way.\nUse https://{host}:8888/"
    )


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]", "hub.localhost"])
def test_on_loopback_http_will_do(host):
    server = ServerAddress(f"http://{host}:8888/", "s3cret")
    assert server.is_loopback and "s3cret" not in repr(server)
    assert (server.port, server.base_path, server.authority) == (8888, "/", f"{host}:8888")


@pytest.mark.parametrize("token", ["a b", "a\nb", "a\r\nX: y", "ä", "a\x00", "a\u2028"])
def test_a_token_that_no_field_can_carry_is_refused_and_not_shown(token):
    with pytest.raises(CliError, match=r"^The token contains blanks, line ends or characters outside ASCII") as caught:
        check_token(token)
    assert token not in str(caught.value)
    with pytest.raises(CliError):
        ServerAddress(HUB, token)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("http://localhost:8888/", "http://127.0.0.1:8888", True),
        ("http://localhost:8888/", "http://[::1]:8888/", True),
        ("http://localhost:8888/", "http://localhost:8889/", False),
        ("http://localhost:8888/", "https://localhost:8888/", False),
        (HUB, "https://hub.example.org:443/user/ada", True),
        ("https://x/user/a%40b/", "https://x/user/a@b/", True),
        (HUB, "https://hub.example.org/user/bob/", False),
        (HUB, "https://[x", False),
    ],
)
def test_two_urls_of_one_server(first, second, same):
    assert is_same_server(first, second) is same


def test_a_file_of_certificates_that_cannot_be_used_is_named(tmp_path):
    (empty := tmp_path / "empty.pem").write_text("")
    with pytest.raises(CliError, match=r"^--ca-file: there is no file '.*none.pem'\.$"):
        ServerAddress(HUB, ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(CliError, match=r"^--ca-file: '.*empty.pem' has no certificates in PEM form"):
        ServerAddress(HUB, ca_file=str(empty))
