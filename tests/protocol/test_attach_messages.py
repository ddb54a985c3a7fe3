"""Messages of control connections: what is read back, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_portproxy.protocol.attach_messages import (
    MAX_PORTS,
    Attached,
    BadMessage,
    Detach,
    Ended,
    Hello,
    Listen,
    Open,
    PortHealth,
    Refused,
    clean_host,
    clean_sentence,
    parse_agent_message,
    parse_server_message,
    print_message,
)

ID = "a-random_text-0123"
AGENT = [
    Hello("trainer", "n0123", ID, (6006, 8265), {8265: "Nothing listens on port 8265 of n0123."}),
    Hello("a", "unknown", ID, (1,), {}),
    Listen("laptop", ID, (27000,)),
    PortHealth(6006, ""),
    PortHealth(65535, "Nothing listens there."),
    Refused(ID, "Nothing listens there."),
]
SERVER = [
    Attached({6006: "/user/ada/proxy/service/trainer-6006/"}),
    Open(ID, 6006),
    Detach(6006),
    Ended("bad_input", "The name is taken.", True),
]
HELLO = {"type": "hello", "name": "trainer", "host": "n0123", "instance": ID, "ports": [6006], "errors": {}}
REFUSED = {
    "not JSON": "{",
    "no object": "[]",
    "no text": '"hello"',
    "10,000 brackets": "[" * 10_000,
    "no type": json.dumps({"port": 6006}),
    "a type that is no text": json.dumps({**HELLO, "type": ["hello"]}),
    "an unknown type": json.dumps({**HELLO, "type": "hi"}),
    "a message of the other side": print_message(Open(ID, 6006)),
    "a field too many": json.dumps({**HELLO, "token": "x"}),
    "a field too few": json.dumps({key: value for key, value in HELLO.items() if key != "errors"}),
    "a name with a slash": json.dumps({**HELLO, "name": "../x"}),
    "a name that is too long": json.dumps({**HELLO, "name": "a" * 59}),
    "a name with a line end": json.dumps({**HELLO, "name": "trainer\n"}),
    "an empty host": json.dumps({**HELLO, "host": ""}),
    "markup as the host": json.dumps({**HELLO, "host": "<b>"}),
    "a short instance": json.dumps({**HELLO, "instance": "abc"}),
    "no ports": json.dumps({**HELLO, "ports": []}),
    "too many ports": json.dumps({**HELLO, "ports": list(range(1, MAX_PORTS + 2))}),
    "a port twice": json.dumps({**HELLO, "ports": [6006, 6006]}),
    "port 0": json.dumps({**HELLO, "ports": [0]}),
    "port 65536": json.dumps({**HELLO, "ports": [65536]}),
    "a port as a text": json.dumps({**HELLO, "ports": ["6006"]}),
    "true as a port": json.dumps({**HELLO, "ports": [True]}),
    "a number with a fraction": json.dumps({**HELLO, "ports": [6006.0]}),
    "an error for no port": json.dumps({**HELLO, "errors": {"x": ""}}),
    "an error for an Arabic port": json.dumps({**HELLO, "errors": {"٨٠": ""}}),
    "an error that is long": json.dumps({**HELLO, "errors": {"6006": "x" * 501}}),
    "an error with a line end": json.dumps({"type": "health", "port": 6006, "error": "a\nb"}),
    "an error with half a surrogate pair": json.dumps({"type": "health", "port": 6006, "error": "\ud800"}),
    "an error that turns the text": json.dumps({"type": "health", "port": 6006, "error": "\u202e"}),
    "an ID of another kind": json.dumps({"type": "refused", "id": 5, "error": ""}),
}


@pytest.mark.parametrize("message", AGENT, ids=lambda each: type(each).__name__)
def test_what_an_agent_sends_is_read_back(message):
    assert parse_agent_message(print_message(message)) == message


@pytest.mark.parametrize("message", SERVER, ids=lambda each: type(each).__name__)
def test_what_the_server_sends_is_read_back(message):
    assert parse_server_message(print_message(message)) == message


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(BadMessage) as caught:
        parse_agent_message(text)
    sentence = str(caught.value)
    assert sentence.endswith(".") and len(sentence) < 200 and sentence == clean_sentence(sentence)


def test_the_flag_of_the_end_is_true_or_false():
    with pytest.raises(BadMessage, match="'is_final' of a message is not true or false"):
        parse_server_message(json.dumps({"type": "ended", "code": "bad_input", "sentence": "", "is_final": 1}))


@given(st.text())
def test_any_text_is_read_or_refused(text):
    with pytest.raises(BadMessage):
        parse_agent_message(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(st.sampled_from([*HELLO, "port", "error"]), JSON)
def test_any_value_of_a_field_is_read_or_refused(key, value):
    try:
        message = parse_agent_message(json.dumps({**HELLO, key: value}))
    except BadMessage:
        return
    assert parse_agent_message(print_message(message)) == message


@given(st.text())
def test_a_cleaned_text_may_stand_in_a_message(text):
    health = PortHealth(6006, clean_sentence(text))
    assert parse_agent_message(print_message(health)) == health
    hello = Hello("a", clean_host(text), ID, (6006,), {})
    assert parse_agent_message(print_message(hello)) == hello
