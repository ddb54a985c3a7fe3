"""What an administrator can set: every value that cannot work is refused with a sentence, and every trait is explained."""

from __future__ import annotations

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyter_portproxy.config import PortProxy, check_command
from jupyter_portproxy.gateway.policy import Policy
from jupyter_portproxy.protocol.urls import Upstream


def build(**traits) -> PortProxy:
    return PortProxy(config=Config({"PortProxy": traits}))


@pytest.mark.parametrize("value", [[0], [65536], ["20000-10000"], ["80-"], ["a"], [-5], ["0x50"], ["1-70000"], [""], ["80 90"]])
def test_ports_that_are_none_are_refused_with_their_value(value):
    with pytest.raises(TraitError, match="allowed_ports") as caught:
        build(allowed_ports=value)
    assert repr(value[0]) in str(caught.value)


@pytest.mark.parametrize("value", [[0], ["own"], ["all"], ["80-"], ["5432-1"]])
def test_ports_of_raw_tcp_that_are_none_are_refused_with_their_value(value):
    with pytest.raises(TraitError, match="tcp_ports") as caught:
        build(tcp_ports=value)
    assert repr(value[0]) in str(caught.value)


def test_the_words_of_port_lists_stand_alone_too():
    assert build(tcp_ports="allowed").tcp_ports == ["allowed"]
    with pytest.raises(TraitError, match="allowed_ports"):
        build(allowed_ports="allowed")


def test_a_port_that_is_named_more_than_once_is_kept_once():
    assert build(allowed_ports=["10000-20000", 8888, 8888]).allowed_ports == ["10000-20000", 8888]


@pytest.mark.parametrize("value", [[0], ["9100-9000"], ["True"], [True], ["a"]])
def test_ports_whose_services_keep_the_host_are_refused_like_others(value):
    with pytest.raises(TraitError, match="keep_host"):
        build(keep_host=value)


@pytest.mark.parametrize(
    ("value", "ports"),
    [(True, {1, 8501, 9050}), (False, set()), ([], set()), ([8501, "9000-9100"], {8501, 9000, 9100}), (["8501"], {8501})],
)
def test_the_host_is_kept_for_all_services_for_none_or_for_those_of_some_ports(value, ports):
    policy = Policy(PortProxy(keep_host=value))
    tried = (1, 8500, 8501, 8502, 8999, 9000, 9050, 9100, 9101)
    kept = {port for port in tried if policy.keeps_host(Upstream("localhost", port, ()))}
    assert kept == set(tried) if value is True else kept - {9050} == ports


@pytest.mark.parametrize("value", ["a b", "http://x", "x:80", "10.0.0.0/33", "", "-x-"])
def test_hosts_that_are_none_are_refused_with_their_value(value):
    with pytest.raises(TraitError, match="allowed_hosts") as caught:
        build(allowed_hosts=[value])
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("name", ["connect_timeout", "first_byte_timeout", "idle_timeout", "tcp_idle_timeout"])
def test_seconds_that_cannot_be_waited_are_refused(name):
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(TraitError, match=name):
            build(**{name: value})


def test_every_trait_is_documented_with_an_example():
    assert len(PortProxy.class_own_traits(config=True)) > 10
    for name, trait in PortProxy.class_own_traits(config=True).items():
        assert f"c.PortProxy.{name} = " in trait.help, name


def test_the_gateways_section_has_them_all():
    help_text = PortProxy.class_get_help()
    for name in PortProxy.class_own_traits(config=True):
        assert f"--PortProxy.{name}=" in help_text


@pytest.mark.parametrize(
    "url", ["hub.example.org/", "https://hub.example.org/x", "https://[/", "https://a:b/", "https://a:99999/"]
)
def test_a_wrong_address_of_the_server_is_refused(url):
    with pytest.raises(TraitError, match=r"jupyter_url: .* is not an http"):
        PortProxy(jupyter_url=url)


@pytest.mark.parametrize("token", ["allow-same-origin", "allow-top-navigation", "", "scripts", "allow-scripts; default-src *"])
def test_a_sandbox_that_can_be_left_is_refused(token):
    with pytest.raises(TraitError, match="sandbox"):
        PortProxy(sandbox=["allow-scripts", token])


@pytest.mark.parametrize(
    ("sandbox", "policy"),
    [(False, ""), ([], "sandbox"), (["allow-scripts"], "sandbox allow-scripts")],
)
def test_a_sandbox_is_a_policy(sandbox, policy):
    assert PortProxy(sandbox=sandbox).sandbox_policy == policy
    assert "allow-same-origin" not in PortProxy(sandbox=True).sandbox_policy


@pytest.mark.parametrize("command", [["x", "{key}"], ["x", "a-{key}-{{b}}"], ["{key}", "{base_url}"]])
def test_a_command_that_starts_projects(command):
    check_command(command)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([], "no argument has {key}"),
        (["x", "{{key}}"], "no argument has {key}"),
        (["x", "{key}", "{port}"], r"'\{port\}' has a placeholder"),
        (["x", "{key.__class__}"], "has a placeholder"),
        (["x", "{key!r}"], "has a placeholder"),
        (["x", "{key:>9}"], "has a placeholder"),
        (["x", "{}"], "has a placeholder"),
        (["x", "{key"], "expected '}'"),
    ],
)
def test_a_command_that_cannot_start_projects(command, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_command(command)
