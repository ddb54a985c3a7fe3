"""The arguments of `jupyter portproxy forward`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.errors import CliError
from jupyter_portproxy.protocol.forwards import Forward, Remote, parse_forward, parse_remote

PORT = Remote(port=5432)


@pytest.mark.parametrize(
    ("text", "forward", "path"),
    [
        ("5432", Forward(PORT, port=5432), "proxy/tcp/5432"),
        ("5433:5432", Forward(PORT, port=5433), "proxy/tcp/5432"),
        ("0:5432", Forward(PORT), "proxy/tcp/5432"),
        ("db", Forward(Remote(service="db")), "proxy/tcp/service/db"),
        ("trainer-6006", Forward(Remote(service="trainer-6006")), "proxy/tcp/service/trainer-6006"),
        ("5433:db", Forward(Remote(service="db"), port=5433), "proxy/tcp/service/db"),
        ("f3a1/5432", Forward(Remote("f3a1", 5432), port=5432), "f3a1/proxy/tcp/5432"),
        ("5433:f3a1/5432", Forward(Remote("f3a1", 5432), port=5433), "f3a1/proxy/tcp/5432"),
        ("5433:f3a1/db", Forward(Remote("f3a1", service="db"), port=5433), "f3a1/proxy/tcp/service/db"),
        ("0.0.0.0:5433:5432", Forward(PORT, "0.0.0.0", 5433), "proxy/tcp/5432"),
        ("localhost:5433:5432", Forward(PORT, "127.0.0.1", 5433), "proxy/tcp/5432"),
        ("[::1]:5433:5432", Forward(PORT, "::1", 5433), "proxy/tcp/5432"),
        ("[::]:0:db", Forward(Remote(service="db"), "::", 0), "proxy/tcp/service/db"),
        ("/run/a.sock:5432", Forward(PORT, unix_socket="/run/a.sock"), "proxy/tcp/5432"),
        ("./a:b.sock:db", Forward(Remote(service="db"), unix_socket="./a:b.sock"), "proxy/tcp/service/db"),
        ("~/a.sock:f3a1/5432", Forward(Remote("f3a1", 5432), unix_socket="~/a.sock"), "f3a1/proxy/tcp/5432"),
    ],
)
def test_forms(text, forward, path):
    assert parse_forward(text) == forward
    assert forward.remote.path == path
    assert parse_remote(str(forward.remote)) == forward.remote
    assert parse_forward(forward.argument) == forward


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Invalid forward: ''. Write [BIND:]LOCAL:REMOTE"),
        (":", "Invalid forward: ':'. Write"),
        ("5432:", "Invalid forward: '5432:'. Write"),
        (":5432", "Invalid local port in ':5432': ''."),
        ("a b", "Invalid forward: 'a b'."),
        ("-L", "Invalid forward: '-L'."),
        ("0", "Invalid port in '0': '0'. A port is a whole number from 1 to 65535."),
        ("5432:0", "Invalid port in '5432:0': '0'."),
        ("65536", "Invalid port in '65536': '65536'."),
        ("05432", "Invalid port in '05432': '05432'."),
        ("٥٤٣٢", "Invalid forward: '٥٤٣٢'."),
        ("65536:5432", "Invalid local port in '65536:5432': '65536'."),
        ("x:5432", "Invalid local port in 'x:5432': 'x'. It is 0 for a free port, or a whole number up to 65535."),
        ("0.0.0.0:5432", "The local port is missing in '0.0.0.0:5432'. Write 0.0.0.0:PORT:5432, or 0 as PORT for a free one."),
        ("[::1]:db", "The local port is missing in '[::1]:db'. Write [::1]:PORT:db"),
        ("::1:5433:5432", "The local port is missing in '::1:5433:5432'."),
        ("[127.0.0.1]:5433:5432", "Invalid address in '[127.0.0.1]:5433:5432': '[127.0.0.1]'."),
        ("myhost:5433:5432", "Invalid address in 'myhost:5433:5432': 'myhost'."),
        ("127.1:5433:5432", "Invalid address in '127.1:5433:5432': '127.1'."),
        ("lab/5432", "Invalid project in 'lab/5432': 'lab'. Write its key"),
        ("A/5432", "Invalid project in 'A/5432': 'A'."),
        ("/run/a.sock", "Invalid project in '/run/a.sock': '/run'."),
        ("ann/proj/5432", "Invalid project in 'ann/proj/5432': 'ann/proj'."),
    ],
)
def test_bad_input_gets_a_sentence_with_the_value(text, sentence):
    with pytest.raises(CliError) as caught:
        parse_forward(text)
    assert sentence in str(caught.value)


@given(st.text(alphabet="0123456789:.[]/~-dbé \0", max_size=20))
def test_any_text_is_a_forward_or_one_sentence(text):
    try:
        forward = parse_forward(text)
    except CliError as error:
        assert "\n" not in str(error)
    else:
        assert forward.remote.port or forward.remote.service
        assert 0 <= forward.port <= 65535


@pytest.mark.parametrize(
    ("text", "exposed"),
    [("5432", False), ("[::1]:1:2", False), ("127.0.0.9:1:2", False), ("/a:2", False), ("0.0.0.0:1:2", True), ("[::]:1:2", True)],
)
def test_an_address_that_other_machines_reach_is_exposed(text, exposed):
    assert parse_forward(text).is_exposed is exposed
