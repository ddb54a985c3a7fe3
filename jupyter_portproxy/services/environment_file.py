"""Files of environment variables, in dotenv form: `KEY=VALUE` or `KEY: VALUE`, quotes, comments, `export`.

Values in single quotes are taken as they are; in double quotes `\\n`, `\\r`, `\\t`, `\\"`, `\\$` and `\\\\` are escapes; without
quotes a value ends before ` #`. Quoted values may have several lines. `$` has a meaning for Compose alone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Mapping

from .template_keys import TemplateError

MAX_SIZE = 256 << 10  # bytes
_IGNORED = re.compile(r"(?:[ \t]*(?:#[^\n]*)?(?:\n|\Z))")
_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*[=:]", re.ASCII)
_SINGLE = re.compile(r"[ \t]*'([^']*)'")
_DOUBLE = re.compile(r'[ \t]*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_UNQUOTED = re.compile(r"(?![ \t]*['\"])((?:[^ \t\n]|[ \t](?!#))*)")  # in linear time, also for many blanks
_REST = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "$": "$", "\\": "\\"}


class EnvironmentFileError(TemplateError):
    """A file of variables that cannot be used; `line` is None if that is not due to one line. The text is part of a sentence."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {text}" if line else text, "environment_file", text)
        self.line = line


def read(path: str, folder: str = "") -> dict[str, str]:
    """The variables in a file.

    Args:
        folder: the real path of the folder in which the file must be, also when links are followed; empty for any.

    Raises:
        EnvironmentFileError
    """
    real = os.path.realpath(path)
    if folder and os.path.commonpath([real, folder]) != folder:
        raise EnvironmentFileError("it is outside of the folder")
    try:
        with open(real, "rb", opener=_open_file) as file:
            content = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        raise EnvironmentFileError("it does not exist") from None
    except OSError as error:
        raise EnvironmentFileError(f"it cannot be read: {error.strerror}") from None
    return parse(content)


def _open_file(path: str, flags: int) -> int:
    """Open a plain file. A pipe is not waited for."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise EnvironmentFileError("it is not a file")
    return descriptor


def parse(content: bytes, insert: Callable[[str, Mapping[str, str]], str] | None = None) -> dict[str, str]:
    """The variables in the content of a file; of several with one name the last.

    Args:
        insert: value, the variables of the lines above -> the value with variables inserted, and `$` for `$$`; not for values
            in single quotes. None if `$` has no meaning.

    Raises:
        EnvironmentFileError
    """
    if len(content) > MAX_SIZE:
        raise EnvironmentFileError(f"it has more than {MAX_SIZE >> 10} KiB")
    if b"\0" in content:
        raise EnvironmentFileError("it has a null byte", content[: content.index(b"\0")].count(b"\n") + 1)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise EnvironmentFileError("it is not UTF-8", content[: error.start].count(b"\n") + 1) from None
    escapes = _ESCAPES if insert is None else {**_ESCAPES, "$": "$$"}
    variables: dict[str, str] = {}
    position = 0
    while position < len(text):
        if ignored := _IGNORED.match(text, position):
            position = ignored.end()
            continue
        name = _NAME.match(text, position)
        if name is None:
            raise EnvironmentFileError("it is not of the form KEY=VALUE", _line(text, position))
        for form in (_SINGLE, _DOUBLE, _UNQUOTED):
            value = form.match(text, name.end())
            rest = _REST.match(text, value.end()) if value is not None else None
            if value is not None and rest is not None:
                break
        else:
            reason = f"the value of {name[1]} has a quote that is not closed, or text after it"
            raise EnvironmentFileError(reason, _line(text, position))
        result = value[1].strip(" \t") if form is _UNQUOTED else value[1]
        if form is _DOUBLE:
            result = _ESCAPE.sub(lambda m: escapes.get(m[1], m[0]), result)
        if insert is not None and form is not _SINGLE:
            result = insert(result, variables)
        variables[name[1]] = result
        position = rest.end()
    return variables


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
