"""The login with names and passwords: the form, who gets in, where it leads, and what ends a login."""

from __future__ import annotations

import json
import re
import time
from urllib.parse import urlencode

import pytest

from jupyter_portproxy.auth.user_passwords import UserFile
from jupyter_portproxy.errors import BadInput

from ..support.identity_providers import configured

PASSWORD = "correct horse"
MARKUP = "<img src=x>"


@pytest.fixture
def users(tmp_path):
    file = UserFile(str(tmp_path / "users"))
    file.set("ann", PASSWORD)
    return file


@pytest.fixture
def jp_server_config(users):
    class_name = "jupyter_portproxy.auth.UserPasswords"
    return {**configured(identity_provider_class=class_name), "UserPasswords": {"users_file": str(users.path)}}


@pytest.fixture
def log_in(call):
    """Sends the form as a browser does; the response, and the Cookie field that the browser has afterwards."""

    async def send(name: str, password: str, query: str = ""):
        form = await call(f"login{query}", token=None)
        cookies = [value.split(";")[0] for value in form.all("Set-Cookie")]
        secret = re.search(r'name="_xsrf" value="([^"]+)"', form.text)[1]
        content = urlencode({"username": name, "password": password, "_xsrf": secret}).encode()
        fields = ["Content-Type: application/x-www-form-urlencoded", f"Cookie: {'; '.join(cookies)}"]
        answer = await call(f"login{query}", "POST", fields=fields, content=content, token=None)
        cookies += [value.split(";")[0] for value in answer.all("Set-Cookie")]
        return answer, [f"Cookie: {'; '.join(cookies)}"]

    return send


async def identity(call, fields) -> str | None:
    answer = await call("api/me", fields=fields, token=None)
    return json.loads(answer.text)["identity"]["username"] if answer.status == 200 else None


async def test_a_user_gets_in_by_the_password_and_keeps_the_name(call, log_in, jp_base_url):
    answer, fields = await log_in("ann", PASSWORD)
    assert (answer.status, answer.one("Location")) == (302, f"{jp_base_url}proxy/")
    assert await identity(call, fields) == "ann"


@pytest.mark.parametrize(("name", "password"), [("ann", "wrong"), ("ann", ""), ("bob", PASSWORD), ("", ""), (MARKUP, "x" * 5000)])
async def test_others_do_not(call, log_in, name, password):
    begun = time.monotonic()
    answer, fields = await log_in(name, password)
    assert (answer.status, "The name or the password is wrong." in answer.text) == (401, True)
    assert time.monotonic() - begun >= 1
    assert MARKUP not in answer.text and await identity(call, fields) is None


async def test_the_form_needs_its_token_and_no_script(call):
    form = await call("login", token=None)
    assert (form.status, "<script" in form.text, form.one("Cache-Control")) == (200, False, "no-store")
    assert form.one("Content-Security-Policy").startswith("default-src 'none'")
    content = urlencode({"username": "ann", "password": PASSWORD}).encode()
    fields = ["Content-Type: application/x-www-form-urlencoded"]
    assert (await call("login", "POST", fields=fields, content=content, token=None)).status == 403


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        ("{base}ann/demo/%3Fport%3D15000", "{base}ann/demo/?port=15000"),
        ("//evil.example/", "{base}proxy/"),
        ("https://evil.example/", "{base}proxy/"),
        ("/%5Cevil.example/", "{base}proxy/"),
        ("/other/", "{base}proxy/"),
        ("{base}x%0D%0AX:%20y", "{base}proxy/"),
    ],
)
async def test_it_leads_to_a_page_of_this_server(log_in, jp_base_url, wanted, leads_to):
    answer, _ = await log_in("ann", PASSWORD, f"?next={wanted.format(base=jp_base_url.replace('%', '%25'))}")
    assert answer.one("Location") == leads_to.format(base=jp_base_url)


async def test_a_login_ends_with_its_user_and_with_another_password(call, log_in, users):
    _, fields = await log_in("ann", PASSWORD)
    users.set("bob", "another")
    assert await identity(call, fields) == "ann"
    users.set("ann", "a new one")
    assert await identity(call, fields) is None
    _, fields = await log_in("ann", "a new one")
    assert await identity(call, fields) == "ann"
    users.remove("ann")
    assert await identity(call, fields) is None


async def test_no_token_is_a_login(call):
    for fields in (["Authorization: token "], ["Authorization: token ann"]):
        assert await identity(call, fields) is None


@pytest.mark.parametrize("name", ["", "a:b", "@team", "a\nb", "x" * 300])
def test_a_name_that_no_user_can_have(users, name):
    with pytest.raises(BadInput):
        users.set(name, PASSWORD)
    assert list(users.read()) == ["ann"]


def test_the_file_is_private_and_has_no_password(users):
    assert users.path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in users.path.read_text()
    assert list(users.path.parent.glob("users.*")) == []
