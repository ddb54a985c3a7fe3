"""Ports that the user allows; the file itself is tested in test_user_file."""

from __future__ import annotations

import json
import logging
import time

import pytest

from jupyter_portproxy.errors import BadInput, NotFound
from jupyter_portproxy.services.user_file import MAX_SECONDS
from jupyter_portproxy.services.user_ports import MAX_PORTS, UserPort, UserPorts

LOG = logging.getLogger("test")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "portproxy" / "allowed-ports.json"


@pytest.fixture
def ports(path):
    return UserPorts(path, LOG)


def test_a_port_is_allowed_until_it_is_taken_back(ports, path):
    assert (ports.get(8501), ports.list(), path.exists()) == (None, [], False)
    assert ports.add(8501) == UserPort(8501) == ports.get(8501)
    assert ports.list() == UserPorts(path, LOG).list() == [UserPort(8501)]
    ports.remove(8501)
    assert (ports.get(8501), UserPorts(path, LOG).list()) == (None, [])
    with pytest.raises(NotFound) as caught:
        ports.remove(8501)
    assert caught.value.message == "You have not allowed port 8501."


def test_a_time_ends_by_itself(ports, path):
    allowed = ports.add(8501, 0.2)
    assert allowed.until is not None and ports.get(8501) == allowed
    time.sleep(0.25)
    assert (ports.get(8501), ports.list()) == (None, [])
    with pytest.raises(NotFound):
        ports.remove(8501)
    ports.add(8502)
    assert json.loads(path.read_text()) == {"ports": {"8502": None}}


@pytest.mark.parametrize("seconds", [0, -1, MAX_SECONDS + 1, "8h", True, float("nan"), float("inf"), [], 10**400])
def test_an_invalid_time_is_refused(ports, path, seconds):
    with pytest.raises(BadInput, match="Invalid time: "):
        ports.add(8501, seconds)
    assert not path.exists()


def test_another_server_sees_a_change_at_once(ports, path):
    other = UserPorts(path, LOG)
    for _ in range(50):
        ports.add(8501)
        assert other.get(8501) is not None
        ports.remove(8501)
        assert other.get(8501) is None


def test_there_is_a_limit(ports, path):
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"ports": {str(port): None for port in range(2000, 2000 + MAX_PORTS)}}))
    assert len(ports.list()) == MAX_PORTS
    with pytest.raises(BadInput, match="1000 ports are allowed already"):
        ports.add(5000)
    assert ports.add(2000, 60).until is not None  # not a new one


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"null", b'{"ports": []}'),
        *(b'{"ports": {"0": null}}', b'{"ports": {"65536": null}}', b'{"ports": {"80x": null}}', b'{"ports": {"0655359": null}}'),
        b'{"ports": {"8501": 1' + b"0" * 400 + b"}}",
        '{"ports": {"٨٠": null}}'.encode(),
        *(b'{"ports": {"8501": "x"}}', b'{"ports": {"8501": true}}', b'{"ports": {"8501": Infinity}}'),
        b'{"ports": {' + b", ".join(b'"%d": null' % number for number in range(1, 1100)) + b"}}",
    ],
)
def test_a_damaged_file_allows_nothing_and_is_not_written_over(ports, path, content, caplog):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert (ports.get(8501), ports.list(), ports.get(8501)) == (None, [], None)
    assert caplog.text.count("the allowed ports in") == caplog.text.count("cannot be read") == 1
    for change in (ports.add, ports.remove):
        with pytest.raises(BadInput, match="The list of allowed ports is damaged"):
            change(8501)
    assert path.read_bytes() == content
