"""The values of a template's keys: their types, and the readers that check them. A TemplateError says what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z", re.ASCII)
NAME_HINT = "Use up to 64 letters, digits, '.', '_' and '-'."
NUMBER_HINT = (
    "A number means a port. Use a name with a letter."  # for new names: `url 15000` and `p15000.localhost` are of the port
)
STANDARD_PLACEHOLDERS = frozenset({"port", "unix_socket", "base_url", "prefix", "name"})
LONGEST = 86400 * 365  # s
MAX_FAILURES = 100
MAX_PATTERN = 1000  # characters
MAX_PATTERNS, MAX_QUANTIFIERS = 20, 2  # the server matches them with each request
HARMLESS = f"write at most {MAX_QUANTIFIERS} of the characters * + ? {{, and none of these after a group"
_QUANTIFIER = re.compile(r"[*+?{]")
_QUANTIFIED_GROUP = re.compile(r"\)[*+?{]")
_ARGUMENT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z", re.ASCII)
_PATH = re.compile(r"/[!-~]*\Z")  # as it goes into a request
_KINDS = ("path", "text", "number", "choice")


class TemplateError(ValueError):
    """A template that cannot be used, or arguments that do not fit it. The text is shown to users.

    Attributes:
        key: of the template that is wrong; empty if it is another thing.
        reason: the text without the template's name, as a part of a sentence.
    """

    def __init__(self, text: str, key: str = "", reason: str = "") -> None:
        super().__init__(text)
        self.key, self.reason = key, reason or text


@dataclass(frozen=True, slots=True)
class Argument:
    """A value that the user fills in before a start.

    Attributes:
        kind: "path" (below the server's root), "text", "number" or "choice" (one of `choices`).
        must_exist: a path must exist when the service is started.
    """

    name: str
    label: str = ""
    default: str = ""
    kind: str = "text"
    choices: tuple[str, ...] = ()
    must_exist: bool = True

    def check(self, value: object) -> str:
        """The value as it goes into the command. Raises: TemplateError"""
        text = str(value)
        fits = isinstance(value, (str, int, float)) and not isinstance(value, bool) and len(text) <= 4096
        if not fits or "\0" in text or not is_encodable(text):
            raise TemplateError(f"The argument '{self.name}' must be a text of at most 4096 characters.")
        if self.kind == "number" and not re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", text, re.ASCII):
            raise TemplateError(f"The argument '{self.name}' is not a number: {text[:80]!r}.")
        if self.kind == "choice" and text not in self.choices:
            raise TemplateError(f"The argument '{self.name}' is not one of {', '.join(self.choices)}: {text[:80]!r}.")
        return text


@dataclass(frozen=True, slots=True)
class Requires:
    """The program that a template needs, and how to get it."""

    program: str
    hint: str = ""


def is_encodable(text: str) -> bool:
    """True if it can be passed to a program, or name a file. JSON can express half a surrogate pair, which is not a character."""
    try:
        os.fsencode(text)
    except UnicodeError:
        return False
    return True


# ---- readers of values: (key, value) -> value, or a TemplateError ----


def _refuse(key: str, value: object, expected: str) -> TemplateError:
    return TemplateError(f"'{key}' must be {expected}: {value!r}")


def _reader(expected: str, is_valid: Callable[[Any], bool]) -> Callable[[str, object], Any]:
    def read(key: str, value: object) -> Any:
        if not is_valid(value):
            raise _refuse(key, value, expected)
        return value

    return read


def one_of(*choices: str) -> Callable[[str, object], Any]:
    return _reader(f"one of {', '.join(choices)}", lambda value: value in choices)


def _is_integer(value: Any, lowest: int, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _is_below(value: Any) -> bool:
    """True for the end of a URL that a browser does not take for one elsewhere."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-~]*", value) or "\\" in value:
        return False
    path = re.split("[?#]", value, maxsplit=1)[0]
    return not {".", ".."} & set(re.sub("%2e", ".", path, flags=re.IGNORECASE).split("/"))


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and _PATH.match(value) is not None


def _is_seconds(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and 0 <= value <= LONGEST


read_text = _reader("a text", lambda value: isinstance(value, str) and "\0" not in value)
read_boolean = _reader("true or false", lambda value: isinstance(value, bool))
read_seconds = _reader("a number of seconds", _is_seconds)
read_health_period = _reader("0, or seconds from 1 on", lambda value: _is_seconds(value) and (value == 0 or value >= 1))
read_failures = _reader(f"a number from 1 to {MAX_FAILURES}", lambda value: _is_integer(value, 1, MAX_FAILURES))
read_port = _reader("a port from 1024 to 65535", lambda value: _is_integer(value, 1024, 65535))
read_path_info = _reader("a path below the service's, without '.' and '..'", _is_below)
read_ready = _reader("'tcp', 'started' or a path", lambda value: value in ("tcp", "started") or _is_path(value))


def read_texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refuse(key, value, "a list of texts")
    return tuple(read_text(key, part) for part in value)


def read_names(key: str, value: object) -> tuple[str, ...]:
    names = read_texts(key, value)
    for number, name in enumerate(names):
        if not NAME.match(name):
            raise TemplateError(f"invalid name in '{key}': {name[:80]!r}")
        if name in names[:number]:
            raise TemplateError(f"'{key}' has the name '{name}' twice")
    return names


def read_patterns(key: str, value: object) -> tuple[str, ...]:
    patterns = read_texts(key, value)
    for pattern in patterns:
        if len(pattern) > MAX_PATTERN:
            raise TemplateError(f"'{key}' has a regular expression of more than {MAX_PATTERN} characters")
        if not pattern.isascii():
            raise TemplateError(f"'{key}' has other characters than ASCII, which paths of requests do not have: {pattern[:80]!r}")
        try:
            re.compile(pattern.encode())  # refuses \U0010ffff and the like: to compile each wide range takes milliseconds
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError, ValueError) as error:
            raise TemplateError(f"'{key}' has an invalid regular expression, {pattern[:80]!r}: {error}") from None
        if not is_harmless(pattern):
            raise TemplateError(f"'{key}' has the pattern {pattern[:80]!r}, which may stop the server: {HARMLESS}")
    if len(patterns) > MAX_PATTERNS:
        raise TemplateError(f"'{key}' has {len(patterns)} patterns: write at most {MAX_PATTERNS}")
    return patterns


def is_harmless(pattern: str) -> bool:
    """True if the time for matching any path with a pattern grows at most with the square of the path's length."""
    return len(_QUANTIFIER.findall(pattern)) <= MAX_QUANTIFIERS and not _QUANTIFIED_GROUP.search(pattern)


def read_environment(key: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise _refuse(key, value, "a mapping of names to texts")
    for variable in value:
        if not read_text(key, variable) or "=" in variable:
            raise TemplateError(f"invalid name of a variable in '{key}': {variable!r}")
    return {variable: read_text(key, text) for variable, text in value.items()}


def read_arguments(key: str, value: object) -> tuple[Argument, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refuse(key, value, "a list of arguments")
    return tuple(map(_argument, value))


def _argument(data: object) -> Argument:
    known = {f.name for f in fields(Argument)}
    if not isinstance(data, Mapping) or not set(data) <= known:
        raise TemplateError(f"an argument has keys other than {', '.join(sorted(known))}: {data!r}")
    choices = read_texts("choices", data.get("choices", ()))
    must_exist = read_boolean("arguments.must_exist", data.get("must_exist", True))
    values = {key: read_text(f"arguments.{key}", data[key]) for key in data.keys() - {"choices", "must_exist"}}
    argument = Argument(**{"name": "", **values}, choices=choices, must_exist=must_exist)
    if not _ARGUMENT_NAME.match(argument.name) or argument.name in STANDARD_PLACEHOLDERS:
        raise TemplateError(f"invalid argument name: {argument.name!r}")
    if argument.kind not in _KINDS or (argument.kind == "choice") != bool(choices):
        raise TemplateError(f"the argument '{argument.name}' must be one of {', '.join(_KINDS)}, a choice with its choices")
    return argument


def read_requires(key: str, value: object) -> Requires:
    if not isinstance(value, Mapping) or not {"program"} <= set(value) <= {"program", "hint"}:
        raise _refuse(key, value, "of the form {program, hint}")
    return Requires(**{part: read_text(f"{key}.{part}", text) for part, text in value.items()})
