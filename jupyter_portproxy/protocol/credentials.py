"""Jupyter's credentials in requests and environments: finding them, and removing them.

Values are parsed as Tornado and Jupyter parse them, and in every other way in which a service may parse them. All work is linear
in the length of the text: one head may have 20,000 parameters or cookies.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

TOKEN_SUBPROTOCOL = "v1.token.websocket.jupyter.org"  # noqa: S105 (a name)
SECRET_VARIABLE = "PORTPROXY_PROJECT_SECRET"  # noqa: S105 (a name: that of the secret of a project's own server)
ATTACH_TOKEN_START = "portproxy-attach-"  # noqa: S105 (the beginning of each attach token, which is no login anywhere else)
_TOKEN_FIELD = re.compile(r"(?:token|bearer)\s+(.+)\Z", re.IGNORECASE)
_MAX_XSRF_TOKEN = 1024  # characters of an XSRF token of Jupyter, in any form
_MAX_COOKIE_NAME = 256  # characters of the name of a login cookie
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_ESCAPED = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
# Tornado's XSRF tokens are one secret, each time under another mask (tornado.web.RequestHandler.xsrf_token).
_MASKED = re.compile(r"2\|([0-9a-f]{8})\|((?:[0-9a-f]{2})+)\|[0-9]+\Z", re.ASCII)
# JupyterHub's cookies have the prefix `__Host-` under cookie_host_prefix_enabled; its services' cookies have Path=/ then, too.
_SESSION = r"(?:__host-)?portproxy-[0-9]+"  # the session of an isolated origin, of any Jupyter server
_JUPYTERS = (
    rf"(?:__host-)?(?:_xsrf|username-[^=;]*|jupyterhub-[^=;]*|jupyter-hub-token[^=;]*)|{_SESSION}"
    r"|__host-service-[^=;]*|service-[^=;]*-oauth-state[^=;]*"
)
_COOKIES = {
    isolated: re.compile(rf";\s*(?P<name>{names})(?=\s*(?:[=;]|\Z))[^;]*", re.IGNORECASE)
    for isolated, names in ((True, _SESSION), (False, _JUPYTERS))
}
_COOKIE = re.compile(r";([^=;]+)(?:=([^;]*))?")
_LOGIN_COOKIE = re.compile(r"(__host-)?(username-|jupyterhub-(?!.*oauth-state)).+", re.ASCII | re.IGNORECASE)
# Names: configurable-http-proxy's README, JupyterHub's and jupyter_server's documentation; JPY_ is JupyterHub's old prefix.
_SECRET_VARIABLE = re.compile(
    r"PORTPROXY_.*|(?:JUPYTER|JUPYTERHUB|JPY|CONFIGPROXY|KG)_(?:.*_)?(?:(?:TOKEN|SECRET|KEY|HEADER)S?|PASSWORD|PASSPHRASE|PWD)(?:_FILE)?",
    re.DOTALL,
)


def _encodings(name: str) -> str:
    """A pattern for all percent-encodings of a parameter's name."""
    return "".join(f"(?:{re.escape(c)}|(?i:%{ord(c):02x}))" for c in name)


def _parameter_patterns(*names: str) -> list[re.Pattern[str]]:
    """Patterns for parameters of these names, by the separators.

    Tornado separates parameters by `&`, older libraries by `;`, too, and URLs in header fields may have a fragment.
    """
    name = "|".join(map(_encodings, names))
    return [re.compile(rf"[{marks}](?:{name})(?:=([^{marks}]*))?(?=[{marks}]|\Z)") for marks in ("&", "&;", "&;#")]


_SECRET_PARAMETERS = _parameter_patterns("token", "_xsrf")
_TOKEN_PARAMETERS = _parameter_patterns("token")


# ---- parameters ----


def decode_argument(value: str) -> str:
    """A parameter's value as `RequestHandler.get_argument` returns it: UTF-8, without blanks at its ends.

    Bytes that are not UTF-8 are dropped; Tornado refuses such a request.
    """
    if value.isalnum() and value.isascii():
        return value
    raw = value.replace("+", " ").encode("latin-1", "ignore")
    decoded = _ESCAPES.sub(lambda match: bytes.fromhex(match[0].decode().replace("%", "")), raw).decode("utf-8", "ignore")
    return _CONTROL.sub(" ", decoded).strip()


def remove_secret_parameters(target: str, secrets: Collection[str]) -> str:
    """A request target or URL without the `token` and `_xsrf` parameters whose value is one of `secrets`; all else stays."""
    path, mark, query = target.partition("?")
    if not mark or not (secrets or ATTACH_TOKEN_START in query):
        return target
    left = f"&{query}"
    for pattern in _SECRET_PARAMETERS[: 3 if "#" in query else 2 if ";" in query else 1]:
        left = pattern.sub(lambda match: "" if is_secret(decode_argument(match[1] or ""), secrets) else match[0], left)
    return path + (left if left.startswith("#") else f"?{left[1:]}" if left else "")


def has_token_parameter(target: str) -> bool:
    """True if a request target has a `token` parameter, whatever its value."""
    _, mark, query = target.partition("?")
    return bool(mark) and _TOKEN_PARAMETERS[-1].search(f"&{query}") is not None


def find_token_parameters(target: str) -> list[str]:
    """The values of all `token` parameters of a request target or URL."""
    query = "&" + target.partition("?")[2]
    values = dict.fromkeys(match[1] or "" for pattern in _TOKEN_PARAMETERS for match in pattern.finditer(query))
    return list(dict.fromkeys(map(decode_argument, values)))


def is_secret(value: str, secrets: Collection[str]) -> bool:
    """True for one of `secrets`, also for an XSRF token under another mask, and for every attach token."""
    is_masked = value.startswith("2|") and unmask_xsrf_token(value) in secrets
    return value in secrets or is_masked or value.startswith(ATTACH_TOKEN_START)


def unmask_xsrf_token(value: str) -> str:
    """The common form of all masked forms of an XSRF token; empty for any other text."""
    match = _MASKED.match(value)
    if match is None:
        return ""
    mask, size = match[1], len(match[2])
    return f"xsrf:{int(match[2], 16) ^ int((mask * (size // len(mask) + 1))[:size], 16):0{size}x}"


# ---- cookies ----


def find_cookie_values(lines: Iterable[str], name: str) -> list[str]:
    """The values of all cookies of that name in the lines of Cookie, in order, still quoted."""
    text = ";" + ";".join(lines)
    if name not in text or len(name) > _MAX_COOKIE_NAME:
        return []
    return [match[1].strip() for match in re.finditer(rf";\s*{re.escape(name)}\s*=([^;]*)", text)]


def parse_cookies(lines: Iterable[str]) -> dict[str, str]:
    """Name -> value of all cookies in the lines of Cookie, as Tornado parses them; the last one of a name counts."""
    cookies: dict[str, str] = {}
    for text in ";".join(lines).split(";"):
        name, _, value = text.partition("=") if "=" in text else ("", "", text)
        if name.strip() or value.strip():
            cookies[name.strip()] = unquote_cookie(value.strip())
    return cookies


def unquote_cookie(value: str) -> str:
    """A cookie's value as Python's http.cookies and Tornado parse it."""
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)) if match[1] else match[2], value[1:-1])


def find_xsrf_tokens(lines: Collection[str]) -> set[str]:
    """Jupyter's XSRF tokens: the values of all `_xsrf` cookies, in each form in which a request may repeat them.

    Tornado joins the lines of a repeated field with commas.
    """
    tokens: set[str] = set()
    texts = [";".join(lines), ",".join(lines)] if len(lines) > 1 else lines
    for value in {value for text in texts for value in find_cookie_values([text], "_xsrf")}:
        tokens.add(value)
        if (value.isalnum() and value.isascii()) or len(value) > _MAX_XSRF_TOKEN:
            continue
        if secret := unmask_xsrf_token(value):
            tokens.add(secret)
            continue
        plain = unquote_cookie(value)
        tokens |= {value.strip('"'), plain, unmask_xsrf_token(plain), decode_argument(value)}
    return tokens - {""}


def remove_cookies(
    line: str, names: Collection[str], nested: str, *, isolated: bool, pairs: Collection[tuple[str, str]] = ()
) -> str | None:
    """A Cookie field without the cookies of Jupyter and JupyterHub; None if nothing is left.

    Cookies of other Jupyter servers on this host name are removed, too: cookies do not depend on ports.

    Args:
        names: further names of Jupyter's cookies.
        nested: name of the login cookie of a Jupyter server that is the service itself; it stays.
        isolated: at an isolated origin, where only `names`, `pairs` and the sessions of origins are Jupyter's.
        pairs: names and values of Jupyter's cookies; a cookie of such a name with another value is the service's.
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
    """The token of an Authorization field, as Jupyter parses it; empty without one."""
    match = _TOKEN_FIELD.match(authorization.strip())
    return match[1].strip() if match else ""


def find_subprotocol_tokens(value: str) -> list[str]:
    start = TOKEN_SUBPROTOCOL + "."
    names = map(str.strip, value.split(","))
    return [name[len(start) :] for name in names if name.lower().startswith(start)]


# ---- environments ----


def remove_secret_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """An environment without this package's variables, and without the secrets of Jupyter, JupyterHub and its proxy."""
    return {name: value for name, value in variables.items() if not _SECRET_VARIABLE.fullmatch(name)}


def find_login_cookies(cookies: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The cookies of a request that log in at Jupyter or JupyterHub."""
    return frozenset((name, value) for name, value in cookies.items() if value and _LOGIN_COOKIE.fullmatch(name))
