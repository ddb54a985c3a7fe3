from __future__ import annotations

import pytest

from jupyter_portproxy.diagnose.cookie_jar import CookieJar


def jar(*lines: str, path: str = "/app/page") -> CookieJar:
    made = CookieJar()
    made.store("Localhost:80", path, [("Set-Cookie", line) for line in lines])
    return made


@pytest.mark.parametrize(
    ("line", "path", "found"),
    [
        ("a=1; Path=/", "/x", "a=1"),
        ("a=1; path=/app; HttpOnly", "/app", "a=1"),
        ("a=1; Path=/app", "/application", ""),
        ("a=1; Path=/app/", "/app/x", "a=1"),
        ("a=1", "/app/x", "a=1"),  # the default path is the request's folder
        ("a=1", "/x", ""),
        ("a=b=c; Path=nonsense", "/app/x", "a=b=c"),
        ("a=1; Path=/; Max-Age=0", "/", ""),
        ("=1; Path=/", "/", ""),
    ],
)
def test_which_requests_carry_a_cookie(line, path, found):
    assert jar(line).find("localhost:80", path) == found


def test_cookies_of_another_origin_are_not_sent():
    assert jar("a=1; Path=/").find("localhost:81", "/") == ""


def test_a_later_value_replaces_the_first_and_longer_paths_come_first():
    assert jar("a=1; Path=/", "b=1; Path=/app", "a=2; Path=/").find("localhost:80", "/app") == "b=1; a=2"


def test_a_cookie_is_removed_when_it_expires():
    assert jar("a=1; Path=/", "a=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT").find("localhost:80", "/") == ""


def test_the_jar_is_bounded():
    many = jar(*(f"c{number}=1; Path=/" for number in range(1000)), f"big={'x' * 5000}; Path=/")
    assert many.find("localhost:80", "/").count("=") == 100
