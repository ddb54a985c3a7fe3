"""Which server a command calls, and to which servers the credentials of the environment go."""

from __future__ import annotations

import json

import pytest
import trustme

from jupyter_portproxy.cli.credentials import LoginStore
from jupyter_portproxy.cli.server_address import ServerAddress
from jupyter_portproxy.cli.server_choice import choose_server, variable_token
from jupyter_portproxy.errors import CliError
from jupyter_portproxy.system.netlink import SUPPORTED

from ..support.jupyter_processes import TOKEN, jupyter_server, portproxy

HUB = "https://hub.example.org"
LAPTOP = {"JUPYTERHUB_API_TOKEN": "hubs"}
INSIDE = {
    "JUPYTERHUB_API_TOKEN": "hubs",
    "JUPYTERHUB_API_URL": "http://10.0.0.1:8081/hub/api",
    "JUPYTERHUB_HOST": "",
    "JUPYTERHUB_PUBLIC_URL": f"{HUB}/user/ada/",
    "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/",
    "JUPYTERHUB_SERVER_NAME": "",
}
TERMINAL = {"JUPYTER_TOKEN": "its", "JUPYTER_SERVER_URL": "https://localhost:8888/"}


@pytest.mark.parametrize(
    ("variables", "url", "token"),
    [
        ({}, f"{HUB}/user/ada/", ""),
        (LAPTOP, f"{HUB}/user/ada/", "hubs"),
        ({**LAPTOP, "JUPYTER_TOKEN": " one\n"}, f"{HUB}/user/ada/", "one"),
        ({**LAPTOP, "JUPYTER_TOKEN": " "}, f"{HUB}/user/ada/", "hubs"),
        # The token of the server in which this runs leaves neither its hub nor its user.
        (INSIDE, f"{HUB}/user/ada/", "hubs"),
        (INSIDE, f"{HUB}/user/ada/gpu/", "hubs"),
        ({**INSIDE, "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/gpu/", "JUPYTERHUB_SERVER_NAME": "gpu"}, f"{HUB}/user/ada/", "hubs"),
        (INSIDE, f"{HUB}/user/adam/", ""),
        (INSIDE, f"{HUB}/user/bob/", ""),
        (INSIDE, f"{HUB}:8443/user/ada/", ""),
        (INSIDE, "https://elsewhere.example.org/user/ada/", ""),
        (INSIDE, "http://localhost:9000/user/ada/", ""),
        ({**INSIDE, "JUPYTERHUB_PUBLIC_URL": ""}, f"{HUB}/user/ada/", ""),
        ({**INSIDE, "JUPYTERHUB_PUBLIC_URL": "https://[x"}, f"{HUB}/user/ada/", ""),
        ({"JUPYTERHUB_API_TOKEN": "hubs", "JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}, f"{HUB}/user/ada/", ""),
        (TERMINAL, "https://localhost:8888/", "its"),
        (TERMINAL, "https://localhost:8889/", ""),
        (TERMINAL, f"{HUB}/user/ada/", ""),
        ({"JUPYTER_TOKEN": "its", "JPY_PARENT_PID": "7"}, f"{HUB}/user/ada/", ""),
        ({"JUPYTER_TOKEN": "its", "JPY_SESSION_NAME": "a.ipynb"}, f"{HUB}/user/ada/", ""),
    ],
)  # fmt: skip
def test_the_token_of_the_environment_goes_where_it_belongs(variables, url, token):
    assert variable_token(ServerAddress(url), variables) == token


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No server runs, and there is neither a login nor a variable."""
    for name in ("JUPYTER_TOKEN", *INSIDE, *TERMINAL, "JPY_PARENT_PID", "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


def test_the_order_of_tokens(alone, monkeypatch):
    url = f"{HUB}/user/ada/"
    with pytest.raises(CliError, match=rf"^There is no token for {url}\nLog in: jupyter portproxy login {url}$"):
        choose_server(url)
    LoginStore().keep(url, "kept", "")
    assert choose_server(f"{url}lab").token == choose_server(None).token == "kept"
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hubs")
    assert (choose_server(url).token, choose_server(None).token) == ("hubs", "kept")
    assert choose_server(url).token_source == "the variable JUPYTERHUB_API_TOKEN"
    monkeypatch.setenv("JUPYTER_TOKEN", "one")
    assert (choose_server(url).token, choose_server(url).token_source) == ("one", "the variable JUPYTER_TOKEN")
    pasted = choose_server(f"{url}?token=pasted")
    assert (pasted.token, pasted.token_source) == ("pasted", "the URL")
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert (choose_server(url).token, choose_server(url).token_source) == ("kept", "")
    with pytest.raises(CliError) as caught:
        choose_server("https://elsewhere.example.org/")
    assert str(caught.value).splitlines() == [
        "There is no token for https://elsewhere.example.org/",
        "JUPYTER_TOKEN is that of the server in which this command runs, and is not sent to another.",
        "Log in: jupyter portproxy login https://elsewhere.example.org/",
    ]


def test_of_several_logins_one_must_be_named(alone):
    for name in ("ada", "bob"):
        LoginStore().keep(f"{HUB}/user/{name}/", name, "")
    with pytest.raises(CliError) as caught:
        choose_server(None)
    assert str(caught.value).splitlines() == [
        "No Jupyter server of yours runs here, and there are several logins; choose one with --server:",
        f"{HUB}/user/ada/",
        f"{HUB}/user/bob/",
    ]
    assert choose_server(f"{HUB}/user/bob").token == "bob"


def test_without_a_server_and_a_login_it_says_so(alone):
    with pytest.raises(CliError) as caught:
        choose_server(None)
    assert str(caught.value).splitlines() == [
        "No Jupyter server of yours runs here.",
        "Log in to a server elsewhere: jupyter portproxy login URL",
    ]


def test_a_server_that_runs_here_needs_no_login_by_whatever_name(tmp_path):
    with jupyter_server(tmp_path, base="/a%40b/") as server:
        port = server.url.split(":")[2].partition("/")[0]
        for url in (server.url, f"http://localhost:{port}/a@b", f"{server.url}lab?token=wrong"):
            code, output, errors = portproxy(tmp_path, "--server", url, "url", "15000", more={"JUPYTER_TOKEN": "wrong"})
            assert (code, output.split("?")) == (0, [f"http://localhost:{port}/a%40b/proxy/enter/15000/", f"token={TOKEN}\n"]), (
                errors
            )
        code, output, _ = portproxy(tmp_path, "list", "--json", "--server", server.url)
        assert (code, json.loads(output)["services"]) == (0, [])


def test_a_server_that_runs_here_with_a_certificate_of_its_own(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    with jupyter_server(tmp_path, certificate=tmp_path / "all.pem") as server:
        code, output, errors = portproxy(tmp_path, "list", "--json")
        if SUPPORTED:  # the kernel says whose process it is
            assert (code, json.loads(output)["services"]) == (0, []), errors
        else:
            host = server.url.split("/")[2]
            assert (code, errors.split(" is not trusted: ")[0]) == (1, f"The certificate of {host}")
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        code, _, errors = portproxy(tmp_path, "--ca-file", "other.pem", "list", "--json")
        assert code == 1 and " is not trusted: " in errors
        code, output, errors = portproxy(tmp_path, "--ca-file", "ca.pem", "list", "--json")
        assert (code, json.loads(output)["services"]) == (0, []), errors
