"""URLs and frames for notebooks, from the environment alone."""

from __future__ import annotations

import pytest

from jupyter_portproxy import attach, show, url_for
from jupyter_portproxy.errors import BadRoute, CliError


@pytest.fixture
def base(monkeypatch):
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    monkeypatch.setenv("JUPYTER_BASE_URL", "/base/")


@pytest.mark.parametrize(
    ("target", "path", "url"),
    [
        (8050, "", "/base/proxy/port/8050/"),
        ("8050", "/a?b", "/base/proxy/port/8050/a?b"),
        ("tensorboard", "", "/base/proxy/service/tensorboard/"),
        ("my.app-1", "x", "/base/proxy/service/my.app-1/x"),
    ],
)
def test_a_port_or_a_name_has_a_url(base, target, path, url):
    assert url_for(target, path) == url


@pytest.mark.parametrize(("target", "url"), [(8050, "/base/proxy/enter/8050/a?b"), ("app-1", "/base/proxy/enter/app-1/a?b")])
def test_an_origin_of_its_own_is_entered_below_the_base_url(base, target, url):
    assert url_for(target, "a?b", isolated=True) == url
    assert show(target, "a?b", isolated=True).src == url


def test_under_jupyterhub_it_is_the_users_own(base, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    assert url_for(8050) == "/user/ada/proxy/port/8050/"


@pytest.mark.parametrize("target", [0, 65536, "0", "99999"])
def test_a_port_that_is_none_is_refused(base, target):
    with pytest.raises(BadRoute):
        url_for(target)


@pytest.mark.parametrize("target", ["", "a/b", "..", "a b"])
def test_a_name_that_is_none_is_refused(base, target):
    with pytest.raises(ValueError, match="neither a port nor"):
        url_for(target)


def test_show_is_a_frame_with_that_url(base):
    frame = show(8050, height=300)
    assert (frame.src, frame.width, frame.height) == ("/base/proxy/port/8050/", "100%", 300)


def test_an_isolated_page_may_use_what_the_notebook_may(base):
    assert 'allow="' not in show(8050)._repr_html_()
    shown = show(8050, isolated=True)._repr_html_()
    assert all(f"{feature} *" in shown for feature in ("clipboard-write", "fullscreen", "microphone", "storage-access"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"server": "hub"}, "There is no attach token"),
        ({"server": "hub", "token": "abc"}, "This is no attach token"),
        ({"server": "hub", "token": "portproxy-attach-a"}, "Invalid URL: 'hub' does not begin with https://"),
        ({"server": "http://hub.example/", "token": "portproxy-attach-a"}, "is not encrypted"),
        ({"server": "https://hub.example/", "token": "portproxy-attach-a", "name": "a/b"}, "Invalid name: 'a/b'"),
    ],
)
def test_what_cannot_be_attached_is_one_sentence(monkeypatch, arguments, sentence):
    monkeypatch.delenv("PORTPROXY_ATTACH_TOKEN", raising=False)
    with pytest.raises(CliError, match=sentence):
        attach(6006, **arguments)


def test_an_invalid_port_is_not_attached():
    with pytest.raises(BadRoute, match="Invalid port parameter: 70000"):
        attach(70000, server="https://hub.example/", token="portproxy-attach-a")
