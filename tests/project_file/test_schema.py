"""The schema and the readers accept the same: key by key, for a pool of values of every kind."""

import itertools

import jsonschema
import pytest

from jupyter_portproxy.project_file.entries import MAX_PORTS
from jupyter_portproxy.project_file.portproxy_toml import PORT_KEYS, TOP_LEVEL
from jupyter_portproxy.project_file.schema import read_schema
from jupyter_portproxy.services.port_rules import ON_APPEAR
from jupyter_portproxy.services.service_list import MAX_SERVICES
from jupyter_portproxy.services.template_keys import STANDARD_PLACEHOLDERS, TemplateError
from jupyter_portproxy.services.templates import KEYS

from .conftest import print_problems

SCHEMA = read_schema()
SERVICE = SCHEMA["definitions"]["service"]["properties"]
PORT = SCHEMA["definitions"]["port"]["properties"]
WORDS = [
    "",
    "x",
    "a b",
    "a\0b",
    "a=b",
    "/",
    "/x y",
    "/health",
    "http",
    "tcp",
    "started",
    "8501",
    "1-9",
    "0",
    "01",
    "x" * 65,
    "x" * 1001,
]
WORDS += [*itertools.chain.from_iterable(each.get("enum", []) for each in (*SERVICE.values(), *PORT.values()))]
NUMBERS = [0, 0.5, 1, 2.5, 99, 100, 101, 1023, 1024, 65535, 65536, 86400 * 365, 86400 * 365 + 1, -1, 1e300]
ARGUMENTS = [
    [{"name": "logdir"}],
    [{"name": "logdir", "kind": "path", "label": "x", "default": "y", "must_exist": False}],
    [{"name": "x", "kind": "choice", "choices": ["a"]}],
    [{"name": "x", "kind": "choice"}],
    [{"name": "x", "kind": "choice", "choices": []}],
    [{"name": "x", "kind": "text", "choices": ["a"]}],
    [{"name": "x", "choices": ["a"]}],
    [{"name": "x", "choices": []}],
    [{"name": "x", "kind": "other"}],
    [{"name": "x", "must_exist": "yes"}],
    [{"name": "x", "extra": 1}],
    [{"label": "x"}],
    [{"name": "X"}],
    *([{"name": name}] for name in sorted(STANDARD_PLACEHOLDERS)),
]
OTHERS = [True, False, [], ["x"], ["x", "x"], ["x", 1], ["a b"], ["."], ["x" * 65], ["x" * 1001], ["a\0b"], ["(x)"], [[]]]
OTHERS += [{}, {"A": "1"}, {"A": 1}, {"A=B": "1"}, {"": "1"}, {"A": "a\0b"}, {"program": "x"}, {"program": "x", "hint": "y"}]
OTHERS += [{"hint": "y"}, {"program": 1}, {"program": "x", "extra": "y"}]
POOL = [*WORDS, *NUMBERS, *OTHERS, *ARGUMENTS]


def accepts(schema, value):
    resolved = {**schema, "definitions": SCHEMA["definitions"]}
    return jsonschema.Draft7Validator(resolved).is_valid(value)


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert {*SCHEMA["properties"]} == {*TOP_LEVEL}
    assert SCHEMA["properties"]["services"]["maxProperties"] == MAX_SERVICES
    assert SCHEMA["properties"]["ports"]["maxItems"] == MAX_PORTS
    assert all(each["description"].endswith(".") for each in (*SERVICE.values(), *PORT.values()))


def test_it_has_the_keys_that_are_read():
    assert SERVICE.keys() == KEYS.keys()
    assert PORT.keys() == {*PORT_KEYS}
    assert {word.replace("-", "_") for word in PORT["on_appear"]["enum"]} == {*ON_APPEAR}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_service_has_the_values_that_are_read(key):
    for value in POOL:
        try:
            KEYS[key](key, value)
            is_read = bool(value) or key != "command"  # which must not be empty, as `load` checks
        except TemplateError:
            is_read = False
        assert accepts(SERVICE[key], value) == is_read, value
    assert any(accepts(SERVICE[key], value) for value in POOL)


@pytest.mark.parametrize("key", PORT_KEYS)
def test_a_key_of_a_port_has_the_values_that_are_read(read_files, key):
    for value in (*WORDS, *(value for value in NUMBERS if value != 1e300), True, False):
        item = {key: value} if key in ("port", "process") else {"port": 3000, key: value}
        text = "[[ports]]\n" + "".join(f"{name} = {print_value(each)}\n" for name, each in item.items())
        is_read = not print_problems(read_files({"portproxy.toml": text}))
        assert accepts(SCHEMA["definitions"]["port"], item) == is_read, value


def print_value(value):
    if isinstance(value, str):
        return '"' + value.replace("\0", "\\u0000") + '"'
    return str(value).lower()


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ({}, True),
        ({"version": 1, "services": {"a": {"command": ["x"]}}, "ports": [{"port": 1}]}, True),
        ({"version": 2}, False),
        ({"service": {}}, False),
        ({"services": {"a": {}}}, False),
        ({"services": {"a b": {"command": ["x"]}}}, False),
        ({"services": {"a": {"command": ["x"], "comand": []}}}, False),
        ({"ports": [{"port": 1, "process": "x"}]}, False),
        ({"ports": [{"label": "x"}]}, False),
    ],
)
def test_the_whole(value, is_valid):
    assert jsonschema.Draft7Validator(SCHEMA).is_valid(value) == is_valid
