"""Ports that the user allows: the file, its states, and several servers of one user."""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_portproxy.errors import BadInput, NotFound
from jupyter_portproxy.services.user_ports import MAX_PORTS, MAX_SECONDS, UserPort, UserPorts

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


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_only_its_user_can_read_the_file(ports, path):
    ports.add(8501)
    assert [stat.S_IMODE(p.stat().st_mode) for p in (path, path.with_suffix(".lock"), path.parent)] == [0o600, 0o600, 0o700]
    assert sorted(p.name for p in path.parent.iterdir()) == ["allowed-ports.json", "allowed-ports.lock"]


def test_a_time_ends_by_itself(ports):
    allowed = ports.add(8501, 0.2)
    assert allowed.until is not None and ports.get(8501) == allowed
    time.sleep(0.25)
    assert (ports.get(8501), ports.list()) == (None, [])


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


def test_no_change_of_several_servers_is_lost(path):
    with ThreadPoolExecutor(2) as threads:  # more would wait for the lock for too long on a busy machine
        list(threads.map(lambda port: UserPorts(path, LOG).add(port), range(2000, 2100)))
    assert [each.port for each in UserPorts(path, LOG).list()] == list(range(2000, 2100))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock")
def test_a_program_that_keeps_the_lock_does_not_stop_the_server(ports, path):
    import fcntl

    ports.add(8501)
    with path.with_suffix(".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        begun = time.monotonic()
        for change in (ports.add, ports.remove):
            with pytest.raises(BadInput, match="Another program changes the list of allowed ports"):
                change(8501)
        assert time.monotonic() - begun < 0.5 and ports.get(8501) is not None
    ports.remove(8501)


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
        *(b"", b"{", b"[]", b"\xff", b"null", b'{"ports": []}', b"[" * 100_000),
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
    assert caplog.text.count("cannot be read") == 1
    with pytest.raises(BadInput, match="The list of allowed ports is damaged") as error:
        ports.add(8501)
    assert str(path.parent.parent) not in error.value.message + error.value.hint
    with pytest.raises(BadInput):
        ports.remove(8501)
    assert path.read_bytes() == content
    path.unlink()
    assert ports.add(8501) == ports.get(8501)


@pytest.mark.skipif(sys.platform != "linux", reason="runs as another user of Linux")
def test_a_folder_that_cannot_be_written_is_one_sentence(path):
    """As another user, for root may write everywhere."""
    path.parent.mkdir(parents=True)
    result, sent = os.pipe()
    if not (child := os.fork()):
        try:
            os.chdir(path.parent)
            os.setuid(65534)
            UserPorts(Path(path.name), LOG).add(8501)
        except BadInput as error:
            os.write(sent, error.message.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(result, 1000) == b"The list of allowed ports cannot be written: Permission denied."
    assert list(path.parent.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_file_of_another_user_counts_for_nothing(ports, path):
    ports.add(8501)
    os.chown(path, 65534, -1)
    assert ports.get(8501) is None


def test_a_look_is_cheap(ports):
    for port in range(2000, 2000 + MAX_PORTS):
        ports._ports[port] = UserPort(port)
    ports.add(2000)
    started = time.perf_counter()
    for _ in range(2000):
        ports.get(2001)
    assert (time.perf_counter() - started) / 2000 < 100e-6
