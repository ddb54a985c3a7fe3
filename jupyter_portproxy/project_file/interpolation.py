"""Variables in Compose files: `$NAME`, `${NAME}`, `${NAME:-default}` and the like, and the `.env` files that set them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .document import quote

MAX_LENGTH = 4096  # characters of a text with its variables replaced
MAX_DEPTH = 10  # levels of defaults within defaults
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OPERATOR = re.compile(r":?[-+?]")


class InvalidVariable(ValueError):
    """A text cannot be interpolated. The message is a sentence for users."""


class Interpolation:
    """Replaces variables by their values.

    Args:
        variables: all that are set; the server's own environment is not among them.

    Attributes:
        unset: the names that had neither a value nor a default, so that they became empty.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.unset: set[str] = set()

    def replace(self, text: str) -> str:
        """Raises: InvalidVariable"""
        return self._replace(text, 0, 0)[0]

    def _replace(self, text: str, start: int, depth: int) -> tuple[str, int]:
        """The text from `start` on, to its end or to the brace that closes the default, and where that is."""
        if depth > MAX_DEPTH:
            raise InvalidVariable(f"Variables are nested too deep in {quote(text)}.")
        parts: list[str] = []
        position = start
        while position < len(text) and not (depth and text[position] == "}"):
            if text[position] != "$":
                parts.append(text[position])
                position += 1
            elif text.startswith("$$", position):
                parts.append("$")
                position += 2
            elif text.startswith("${", position):
                value, position = self._braced(text, position + 2, depth)
                parts.append(value)
            elif match := _NAME.match(text, position + 1):
                parts.append(self._get(match[0]))
                position = match.end()
            else:
                raise InvalidVariable(f"{quote(text)} has a '$' without a name: write '$$'.")
        result = "".join(parts)
        if len(result) > MAX_LENGTH:
            raise InvalidVariable(f"{quote(text)} has more than {MAX_LENGTH} characters.")
        return result, position

    def _get(self, name: str) -> str:
        if name not in self._variables:
            self.unset.add(name)
        return self._variables.get(name, "")

    def _braced(self, text: str, start: int, depth: int) -> tuple[str, int]:
        """The value of `NAME}` or `NAME:-default}` and so on, and the position after it."""
        name = _NAME.match(text, start)
        if name is None:
            raise InvalidVariable(f"{quote(text)} has '${{' without a name.")
        operator = _OPERATOR.match(text, name.end())
        position = operator.end() if operator else name.end()
        unset = set(self.unset)
        other, position = self._replace(text, position, depth + 1) if operator else ("", position)
        if not text.startswith("}", position):
            raise InvalidVariable(f"{quote(text)} is not of the form ${{NAME}} or ${{NAME:-default}}.")
        if operator is None:
            return self._get(name[0]), position + 1
        value = self._variables.get(name[0])
        is_set = bool(value) if operator[0].startswith(":") else value is not None
        if operator[0].endswith("+"):
            return other if is_set else "", position + 1
        if is_set:
            self.unset = unset  # those of the default are not needed
            return value or "", position + 1
        if operator[0].endswith("?"):
            raise InvalidVariable(f"The variable {name[0]} is not set{f': {other}' if other else ''}.")
        return other, position + 1


def insert_variables(value: str, variables: Mapping[str, str]) -> str:
    """A value of a `.env` file with the variables of the lines above; one that Compose refuses is taken as it is, cut."""
    try:
        return Interpolation(variables).replace(value)
    except InvalidVariable:
        return value[:MAX_LENGTH]
