"""Files that are replaced as a whole, and the lock among processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time

import pytest

from jupyter_portproxy.system.private_file import hold_lock, replace_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor flock")
HOLD = """
import sys
from pathlib import Path
from jupyter_portproxy.system.private_file import hold_lock
with hold_lock(Path(sys.argv[1]), 1):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_only_the_user_can_read_it(tmp_path):
    (file := tmp_path / "a.json").write_text("old")
    file.chmod(0o644)
    replace_file(file, "ä")
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == ("ä", 0o600)


def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(tmp_path):
    (file := tmp_path / "a.json").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        replace_file(file, "\ud800")
    assert (file.read_text(), os.listdir(tmp_path)) == ("old", ["a.json"])


def test_another_process_waits_for_the_lock_until_its_holder_ends(tmp_path):
    file = tmp_path / "a.json"
    with subprocess.Popen([sys.executable, "-c", HOLD, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        with pytest.raises(TimeoutError), hold_lock(file, 0.1):
            pass
        assert 0.1 <= time.monotonic() - started < 5
        holder.kill()
        with hold_lock(file, 20):
            pass
