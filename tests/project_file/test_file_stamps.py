import os
import time

import pytest

from jupyter_portproxy.project_file.file_stamps import RESOLUTION, may_hide_change, take


def set_times(path, age):
    os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize("change", ["content", "time", "replaced", "link", "deleted", "new"])
def test_each_change_changes_the_stamp(tmp_path, change):
    (tmp_path / "target").write_text("1")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "file").write_text("1")
    watched = ["file", "link", "new", "with\0null"]
    before = take(str(tmp_path), watched)
    assert take(str(tmp_path), watched) == before
    if change == "content":
        (tmp_path / "file").write_text("22")
    elif change == "time":
        set_times(tmp_path / "file", 60)
    elif change == "replaced":
        (tmp_path / "other").write_text("1")
        os.replace(tmp_path / "other", tmp_path / "file")
    elif change == "link":
        (tmp_path / "target").write_text("22")
    elif change == "deleted":
        (tmp_path / "file").unlink()
    else:
        (tmp_path / "new").touch()
    assert take(str(tmp_path), watched) != before


def test_a_recent_change_may_hide_another(tmp_path):
    assert not may_hide_change(str(tmp_path), ["file"])
    (tmp_path / "file").write_text("1")
    assert may_hide_change(str(tmp_path), ["file"])
    time.sleep(RESOLUTION)
    set_times(tmp_path / "file", 60)  # its ctime is new
    assert may_hide_change(str(tmp_path), ["file"])
