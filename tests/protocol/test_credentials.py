"""Jupyter's credentials in requests: every form that Tornado, Jupyter or an older parser accepts is found, and nothing else is
changed by a byte.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine, parse_cookie
from tornado.web import Application, HTTPError, RequestHandler

from jupyter_portproxy.protocol import credentials
from jupyter_portproxy.protocol.credentials import find_login_cookies

from ..support.tables import table

SECRET = "s3same+open"
SECRETS = frozenset({SECRET, "sem;colon", "gehéim"})
BLANKS = [
    "\t",
    "\x0b",
    "\x0c",
    "\r",
    "\x1c",
    "\x1f",
    " ",
    "\x85",
    "\xa0",
    "\u1680",
    "\u2003",
    "\u2028",
    "\u202f",
    "\u205f",
    "\u3000",
]


class Connection:
    """As much of one as a handler asks for."""

    def set_close_callback(self, callback):
        """Nothing closes."""


def handler_of(target: str = "/", cookie: str = "") -> RequestHandler:
    headers = HTTPHeaders({"Host": "a", "Cookie": cookie})
    start = RequestStartLine("GET", target, "HTTP/1.1")
    return RequestHandler(Application(), HTTPServerRequest(start_line=start, headers=headers, connection=Connection()))


def by_tornado(target: str, name: str) -> str | None:
    """What a handler of Tornado reads; None if it refuses the request."""
    try:
        return handler_of(target).get_argument(name, "")
    except HTTPError:
        return None


def raw(text: str) -> str:
    """As its UTF-8 bytes stand in a request line."""
    return text.encode().decode("latin-1")


@pytest.mark.parametrize("blank", BLANKS)
@pytest.mark.parametrize("form", ["{0}{1}", "{1}{0}", "{0}+{1}%20{0}", "%00{0}{1}"])
@pytest.mark.parametrize("spell", [raw, quote])
def test_unicode_blanks_beside_a_token_do_not_hide_it(blank, form, spell):
    target = "/x?a=1&token=" + form.format(spell(blank), quote(SECRET))
    assert by_tornado(target, "token") == SECRET
    assert credentials.remove_secret_parameters(target, SECRETS) == "/x?a=1"


ARGUMENTS = st.lists(
    st.one_of(
        st.sampled_from(
            [*map(raw, BLANKS), *map(quote, BLANKS), "+", "%00", "%1b", "\xc2", "%e2%80", "&", ";", "=", "#", "%", "%2"]
        ),
        st.sampled_from(["token", "t%6Fken", "%74%6fken", "_xsrf", "%5Fxsrf", "Token", "a"]),
        st.sampled_from([quote(secret) for secret in SECRETS] + ["own", "sem;colon"]),
    ),
    max_size=12,
).map("".join)


@given(ARGUMENTS)
def test_what_tornado_reads_as_a_secret_is_gone_and_all_else_is_read_as_before(query):
    left = credentials.remove_secret_parameters(f"/x?{query}", SECRETS)
    for name in ("token", "_xsrf"):
        assert by_tornado(left, name) not in SECRETS
    if not any(secret in query for secret in map(quote, SECRETS)) and "sem;colon" not in query:
        assert left == f"/x?{query}"


@table("""
query -> left
?a;token=s3same%2Bopen;b             -> ?a;b
?token=s3same%2Bopen;b=1&c           -> ?b=1&c
?token=sem;colon&a                   -> ?a
?a=1;token=sem%3Bcolon               -> ?a=1
?token=ge\xe9im                      -> ?token=ge\xe9im
?token=geh%C3%A9im&a;;b              -> ?a;;b
?a;;token=own;_xsrf                  -> ?a;;token=own;_xsrf
?token=s3same%2Bopen%A0              ->
?token=s3same%2Bopen#top             -> #top
?a&token=s3same%2Bopen;b#c           -> ?a;b#c
?a#token=s3same%2Bopen               -> ?a
?token=own#top                       -> ?token=own#top
""")
def test_parameters_are_separated_by_semicolons_too_and_end_at_a_fragment(query, left):
    assert credentials.remove_secret_parameters(f"/x;token=s3same%2Bopen{query}", SECRETS) == f"/x;token=s3same%2Bopen{left}"


COOKIES = [
    "a=1; _xsrf=one; b=2; _xsrf=two",
    '_xsrf="one"; _xsrf = two ',
    '_xsrf="\\157ne"; _xsrf=%74wo',
    "_xsrf=one ;;_xsrf=two=2",
]


@pytest.mark.parametrize("line", COOKIES)
def test_each_of_several_xsrf_cookies_is_one(line):
    found = credentials.find_xsrf_tokens([line])
    assert {"one", parse_cookie(line)["_xsrf"]} <= found and found & {"two", "two=2"}


def test_lines_that_tornado_joins_by_commas_are_read_so_too():
    lines = ["_xsrf=one", "b=2; _xsrf=two", "c=3"]
    assert {"one", "two", parse_cookie(",".join(lines))["_xsrf"], "one,b=2"} <= credentials.find_xsrf_tokens(lines)


def test_an_xsrf_token_is_the_same_under_another_mask():
    cookie, other = (handler_of().xsrf_token.decode() for _ in range(2))
    shown = handler_of(cookie=f"_xsrf={cookie}").xsrf_token.decode()
    assert shown != cookie and credentials.unmask_xsrf_token(shown) == credentials.unmask_xsrf_token(cookie) != ""
    assert credentials.remove_secret_parameters(
        f"/?_xsrf={quote(shown)}&_xsrf={quote(other)}", credentials.find_xsrf_tokens([f"_xsrf={cookie}"])
    ) == (f"/?_xsrf={quote(other)}")


@given(st.text(st.sampled_from('ab"\\017=; ,'), max_size=20))
def test_a_cookie_is_read_as_tornado_reads_it(text):
    line = f"z=0; name={text}"
    assert credentials.unquote_cookie(credentials.find_cookie_values([line], "name")[-1]) == parse_cookie(line)["name"]
    assert credentials.parse_cookies([line, text]) == parse_cookie(f"{line}; {text}")


@table("""
name -> kept
HOME                        -> yes
PATH                        -> yes
JUPYTERHUB_USER             -> yes
JUPYTERHUB_SERVICE_PREFIX   -> yes
JUPYTERHUB_ALLOW_TOKEN_IN_URL -> yes
JUPYTER_CONFIG_DIR          -> yes
JPY_PARENT_PID              -> yes
API_TOKEN                   -> yes
AWS_SECRET_ACCESS_KEY       -> yes
JUPYTER_TOKEN               -> no
JUPYTER_TOKEN_FILE          -> no
JUPYTER_GATEWAY_AUTH_TOKEN  -> no
JUPYTER_GATEWAY_HTTP_PWD    -> no
JUPYTER_GATEWAY_HEADERS     -> no
JUPYTERHUB_CRYPT_KEYS       -> no
JUPYTERHUB_API_TOKEN        -> no
JUPYTERHUB_CRYPT_KEY        -> no
JPY_API_TOKEN               -> no
JPY_COOKIE_SECRET           -> no
CONFIGPROXY_AUTH_TOKEN      -> no
CONFIGPROXY_SSL_KEY_PASSPHRASE -> no
PORTPROXY_PLACEMENT         -> no
PORTPROXY_REGISTRY          -> no
PORTPROXY_PROJECT_SECRET    -> no
""")
def test_an_environment_without_the_secrets_of_jupyter(name, kept):
    assert credentials.remove_secret_variables({name: "x", "A": "b"}) == ({name: "x", "A": "b"} if kept == "yes" else {"A": "b"})


LOGIN = {"username-localhost-8888": "2|1:0|x"}


def test_login_cookies_are_jupyters_and_the_hubs():
    cookies = {
        **LOGIN,
        "_xsrf": "x",
        "jupyterhub-user-ada": "y",
        "jupyterhub-user-ada-oauth-state": "z",
        "theirs": "t",
        "username-": "",
    }
    assert find_login_cookies(cookies) == {("username-localhost-8888", "2|1:0|x"), ("jupyterhub-user-ada", "y")}


@pytest.mark.parametrize("secrets", [SECRETS, frozenset()])
def test_an_attach_token_is_a_secret_of_every_server(secrets):
    token = f"{credentials.ATTACH_TOKEN_START}abc"
    assert credentials.is_secret(token, secrets) and not credentials.is_secret("abc", secrets)
    assert credentials.remove_secret_parameters(f"/x?a=1&token={token}", secrets) == "/x?a=1"
    assert credentials.remove_secret_parameters("/x?a=1&token=abc", secrets) == "/x?a=1&token=abc"
