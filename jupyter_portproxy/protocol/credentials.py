"""PURE. Jupyter's own credentials in a request and in an environment: how they are spelled, and what is left without them.

Rule of this file: a value is read as Tornado and Jupyter read it, and by every other reading that a service may have. The work is
linear in the length of the text, whatever stands in it: one head may have 20,000 parameters or cookies.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

TOKEN_SUBPROTOCOL = "v1.token.websocket.jupyter.org"  # noqa: S105 (a name, no secret)
_TOKEN_FIELD = re.compile(r"(?:token|bearer)\s+(.+)\Z", re.IGNORECASE)
_LONGEST_TOKEN = 1024  # characters of an XSRF token that Jupyter has made, in any form
_LONGEST_NAME = 256  # of a cookie that is looked for; others are no login's
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_ESCAPED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
# Tornado's XSRF tokens are the same secret under another mask each time (tornado.web.RequestHandler.xsrf_token).
_MASKED = re.compile(r"2\|([0-9a-f]{8})\|((?:[0-9a-f]{2})+)\|[0-9]+\Z", re.ASCII)
# With `__Host-` where JupyterHub's cookie_host_prefix_enabled is on; its services' have Path=/ then, too.
_SESSION = r"(?:__host-)?portproxy-[0-9]+"  # of an isolated origin; another server's too
_JUPYTERS = (
    rf"(?:__host-)?(?:_xsrf|username-[^=;]*|jupyterhub-[^=;]*|jupyter-hub-token[^=;]*)|{_SESSION}"
    r"|__host-service-[^=;]*|service-[^=;]*-oauth-state[^=;]*"
)
_COOKIES = {
    isolated: re.compile(rf";\s*(?P<name>{names})(?=\s*(?:[=;]|\Z))[^;]*", re.IGNORECASE)
    for isolated, names in ((True, _SESSION), (False, _JUPYTERS))
}
_COOKIE = re.compile(r";([^=;]+)(?:=([^;]*))?")
# Names: configurable-http-proxy's README, JupyterHub's and jupyter_server's documentation; JPY_ is JupyterHub's old prefix.
_SECRET_VARIABLE = re.compile(
    r"PORTPROXY_.*|(?:JUPYTER|JUPYTERHUB|JPY|CONFIGPROXY|KG)_(?:.*_)?(?:(?:TOKEN|SECRET|KEY|HEADER)S?|PASSWORD|PASSPHRASE|PWD)(?:_FILE)?",
    re.DOTALL,
)


def _spelled(name: str) -> str:
    """A pattern for all percent-encoded spellings of a parameter's name."""
    return "".join(f"(?:{re.escape(c)}|(?i:%{ord(c):02x}))" for c in name)


# Between `&` is how Tornado reads parameters; older libraries separate them by `;`, too, and URLs in fields may have a fragment.
_PARAMETERS = [
    re.compile(rf"[{marks}](?:{_spelled('token')}|{_spelled('_xsrf')})(?:=([^{marks}]*))?(?=[{marks}]|\Z)")
    for marks in ("&", "&;", "&;#")
]
_TOKENS = [re.compile(rf"[{marks}]{_spelled('token')}(?:=([^{marks}]*))?(?=[{marks}]|\Z)") for marks in ("&", "&;", "&;#")]


# ---- parameters ----


def decode_argument(value: str) -> str:
    """A parameter's value as `RequestHandler.get_argument` reads it: UTF-8, without blanks at its ends.

    Bytes that are not UTF-8 are left out; Tornado refuses the request.
    """
    if value.isalnum() and value.isascii():
        return value
    raw = value.replace("+", " ").encode("latin-1", "ignore")
    decoded = _ESCAPES.sub(lambda match: bytes.fromhex(match[0].decode().replace("%", "")), raw).decode("utf-8", "ignore")
    return _CONTROL.sub(" ", decoded).strip()


def remove_secret_parameters(target: str, secrets: Collection[str]) -> str:
    """A request target or URL without the `token` and `_xsrf` parameters that have one of `secrets`; the rest byte for byte."""
    path, mark, query = target.partition("?")
    if not mark or not secrets:
        return target
    left = f"&{query}"
    for pattern in _PARAMETERS[: 3 if "#" in query else 2 if ";" in query else 1]:
        left = pattern.sub(lambda match: "" if is_secret(decode_argument(match[1] or ""), secrets) else match[0], left)
    return path + (left if left.startswith("#") else f"?{left[1:]}" if left else "")


def has_token_parameter(target: str) -> bool:
    """True if a request target has a `token` parameter, whatever its value."""
    _, mark, query = target.partition("?")
    return bool(mark) and _TOKENS[-1].search(f"&{query}") is not None


def find_token_parameters(target: str) -> list[str]:
    """The values of all `token` parameters of a request target or URL."""
    query = "&" + target.partition("?")[2]
    values = dict.fromkeys(match[1] or "" for pattern in _TOKENS for match in pattern.finditer(query))
    return list(dict.fromkeys(map(decode_argument, values)))


def is_secret(value: str, secrets: Collection[str]) -> bool:
    """True for one of `secrets`, or an XSRF token that is one of them under another mask."""
    return value in secrets or (value.startswith("2|") and unmask_xsrf_token(value) in secrets)


def unmask_xsrf_token(value: str) -> str:
    """What all masked forms of one XSRF token have in common; empty for any other text."""
    match = _MASKED.match(value)
    if match is None:
        return ""
    mask, size = match[1], len(match[2])
    return f"xsrf:{int(match[2], 16) ^ int((mask * (size // len(mask) + 1))[:size], 16):0{size}x}"


# ---- cookies ----


def find_cookie_values(lines: Iterable[str], name: str) -> list[str]:
    """The values of all cookies of that name, in order, as they stand in the Cookie lines."""
    text = ";" + ";".join(lines)
    if name not in text or len(name) > _LONGEST_NAME:
        return []
    return [match[1].strip() for match in re.finditer(rf";\s*{re.escape(name)}\s*=([^;]*)", text)]


def unquote_cookie(value: str) -> str:
    """A cookie's value as Python's http.cookies and Tornado read it."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value[1:-1])


def find_xsrf_tokens(lines: Collection[str]) -> set[str]:
    """Jupyter's XSRF tokens: the values of all `_xsrf` cookies, in each form in which one may be shown again.

    Tornado joins the lines of a repeated field by commas.
    """
    found: set[str] = set()
    texts = [";".join(lines), ",".join(lines)] if len(lines) > 1 else lines
    for value in {value for text in texts for value in find_cookie_values([text], "_xsrf")}:
        found.add(value)
        if (value.isalnum() and value.isascii()) or len(value) > _LONGEST_TOKEN:
            continue
        if secret := unmask_xsrf_token(value):
            found.add(secret)
            continue
        plain = unquote_cookie(value)
        found |= {value.strip('"'), plain, unmask_xsrf_token(plain), decode_argument(value)}
    return found - {""}


def remove_cookies(
    line: str, names: Collection[str], nested: str, *, isolated: bool, pairs: Collection[tuple[str, str]] = ()
) -> str | None:
    """A Cookie field without Jupyter's own, JupyterHub's, and those of other Jupyter servers on this host name (cookies know no
    ports); None if nothing is left.

    Args:
        names: those that are Jupyter's whatever they look like.
        nested: name of the login cookie of a Jupyter server that is the service itself.
        isolated: at an isolated origin, where only `names`, `pairs` and the sessions of origins are Jupyter's.
        pairs: names and values of cookies that are Jupyter's; a service may have one of that name there.
    """

    def is_named(match: re.Match[str]) -> bool:
        name = match[1].strip()
        return name in names or (name, unquote_cookie((match[2] or "").strip())) in pairs

    left = _COOKIES[isolated].sub(lambda match: match[0] if match["name"].rstrip() == nested else "", f";{line}")
    if pairs or any(name in left for name in names):
        left = _COOKIE.sub(lambda match: "" if is_named(match) else match[0], left)
    return left[1:].strip() or None if len(left) <= len(line) else line


# ---- fields ----


def parse_authorization_token(authorization: str) -> str:
    """The token in an Authorization field, as Jupyter reads it; empty if there is none."""
    match = _TOKEN_FIELD.match(authorization.strip())
    return match[1].strip() if match else ""


def find_subprotocol_tokens(value: str) -> list[str]:
    """The tokens that a Sec-WebSocket-Protocol field offers."""
    start = TOKEN_SUBPROTOCOL + "."
    names = map(str.strip, value.split(","))
    return [name[len(start) :] for name in names if name.lower().startswith(start)]


# ---- environments ----


def remove_secret_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment without this package's own variables, and without the secrets of Jupyter, JupyterHub and its proxy."""
    return {name: value for name, value in variables.items() if not _SECRET_VARIABLE.fullmatch(name)}


_LOGIN_COOKIE = re.compile(r"(__host-)?(username-|jupyterhub-(?!.*oauth-state)).+", re.ASCII | re.IGNORECASE)


def find_login_cookies(cookies: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Those of a request's cookies by which Jupyter or JupyterHub knows who has logged in."""
    return frozenset((name, value) for name, value in cookies.items() if value and _LOGIN_COOKIE.fullmatch(name))
