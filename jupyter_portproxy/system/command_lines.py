"""Command lines of other programs, as the API shows them: bounded, printable, with secrets masked.

In doubt a value is masked. The work is linear in the size of the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

MASK = "***"
MAX_SIZE = 4096  # characters of a command line
_WORDS = frozenset({
    "tokens", "passwords", "passphrase", "passcode", "pass", "pwd", "pw", "secrets", "key", "credential", "credentials", "creds",
    "requirepass", "masterauth",  # Redis
    "auth", "authorization", "bearer", "cookie", "pin", "otp", "sig", "signature", "jwt", "pat", "dsn",
})  # fmt: skip
_ENDINGS = ("token", "password", "passwd", "secret", "apikey")  # also of words without a separator: `MYTOKEN`
_HARMLESS_ENDS = frozenset({"file", "files", "path", "dir", "folder", "name", "type", "env", "stdin", "required", "timeout"})
_HARMLESS_STARTS = frozenset({"no", "public", "disable", "without", "allow"})
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# A name and what separates it from its value: `=` or `:`, the name quoted or not; a blank behind an option in a shell's text.
_NAME = re.compile(r"""(?<![\w.-])([\w.-]+)(["']?\s{0,8}[=:]\s{0,8}|\s{1,8}(?![-\s]))""")
_VALUE = re.compile(r""""[^"]*"?|'[^']*'?|[^\s"'&;,]+""")
_HEADER_VALUE = re.compile(r""""[^"]*"?|'[^']*'?|[^"'\n,}]+""")
_USER = re.compile(r"(?<=://)([^\s/?#@:]*:)[^\s/?#@]+(?=@)")
_LOGINS = frozenset({"-u", "-U", "--user", "--proxy-user"})  # before `NAME:PASSWORD`
_OPTION = re.compile(r"--?[\w.-]+\Z")


def printable(text: str) -> str:
    """The text with U+FFFD for what cannot be printed: control characters, and bytes that are not UTF-8."""
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def mask_secrets(command: Sequence[str]) -> list[str]:
    """The arguments of a command with `MASK` for secrets, at most `MAX_SIZE` characters in all."""
    return list(_masked(_bounded(command)))


def _bounded(command: Sequence[str]) -> Iterator[str]:
    left = MAX_SIZE
    for argument in command:
        if left <= 0:
            return
        yield argument[:left]
        left -= len(argument) + 1


def _masked(command: Iterator[str]) -> Iterator[str]:
    option = ""
    for argument in command:
        if option and not argument.startswith("-") and is_secret(option):
            yield MASK
        elif option in _LOGINS and ":" in argument:
            yield f"{printable(argument.partition(':')[0])}:{MASK}"
        else:
            yield printable(_without_secrets(argument))
        option = argument if _OPTION.match(argument) else ""


def _without_secrets(text: str) -> str:
    text = _USER.sub(rf"\1{MASK}", text)
    kept, at = [], 0
    for match in _NAME.finditer(text):
        name, sign = match.groups()
        if match.start() < at or not is_secret(name) or (sign.isspace() and not name.startswith("-")):
            continue
        whole = match.start() == 0 and sign.strip() in ("=", ":")  # one argument: its value may have blanks
        value = None if whole else (_HEADER_VALUE if ":" in sign else _VALUE).match(text, match.end())
        end = len(text) if whole else (value.end() if value is not None else match.end())
        if end > match.end():
            kept += [text[at : match.end()], MASK]
            at = end
    return "".join([*kept, text[at:]])


def is_secret(name: str) -> bool:
    """Whether the value of an option or variable of this name is a secret."""
    words = [word.lower() for part in re.split(r"[-_.]+", name) for word in _HUMP.split(part) if word]
    if not words or words[-1] in _HARMLESS_ENDS or words[0] in _HARMLESS_STARTS:
        return False
    return any(word in _WORDS or word.endswith(_ENDINGS) for word in words)
