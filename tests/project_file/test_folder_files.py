import os
import socket
import time

import pytest

from jupyter_portproxy.project_file.document import UnreadableFile
from jupyter_portproxy.project_file.folder_files import MAX_FILES, MAX_SIZE, FolderFiles


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "folder"
    inside.mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "env").write_text("secret")
    return inside


def refusal(folder, path):
    with pytest.raises(UnreadableFile) as caught:
        FolderFiles(os.path.realpath(folder)).read(path)
    assert caught.value.hint
    return caught.value.message


def test_a_file_is_read_once(folder):
    (folder / "a").write_text("1")
    files = FolderFiles(str(folder))
    assert files.read("a") == b"1"
    (folder / "a").write_text("2")
    assert files.read("a") == b"1"
    assert files.read_text("a") == "1"


def test_links_lead_nowhere_else(folder):
    (folder / "file").symlink_to("../secret")
    (folder / "sub").symlink_to("../secrets")
    (folder / "here").write_text("1")
    (folder / "good").symlink_to("here")
    (folder / "loop").symlink_to("loop")
    (folder.parent / "folder-2").mkdir()
    (folder.parent / "folder-2" / "file").write_text("secret")
    (folder / "neighbour").symlink_to("../folder-2/file")
    out = "It is a symbolic link that leads out of the folder."
    assert refusal(folder, "file") == refusal(folder, "sub/env") == refusal(folder, "neighbour") == out
    assert refusal(folder, "loop").startswith("It cannot be read: ")
    assert FolderFiles(str(folder)).read("good") == b"1"


def test_what_is_no_file_is_not_opened(folder, monkeypatch):
    monkeypatch.chdir(folder)  # the path of a socket is short
    os.mkfifo(folder / "fifo")
    (folder / "device").symlink_to("/dev/zero")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        start = time.monotonic()
        for name in ("fifo", "folder", "socket"):
            assert refusal(folder, name) == "It is not a regular file."
    assert "leads out" in refusal(folder, "device")
    assert FolderFiles("/dev").exists("zero") and refusal("/dev", "zero") == "It is not a regular file."
    assert time.monotonic() - start < 1


def test_a_file_has_a_largest_size(folder):
    (folder / "large").write_bytes(b"x" * (10 << 20))
    (folder / "larger").write_bytes(b"x" * (MAX_SIZE + 1))
    (folder / "fits").write_bytes(b"x" * MAX_SIZE)
    assert refusal(folder, "large") == "It has 10 MiB; at most 256 KiB are read."
    assert refusal(folder, "larger") == "It has 256 KiB; at most 256 KiB are read."
    assert len(FolderFiles(str(folder)).read("fits")) == MAX_SIZE


def test_names_that_no_file_can_have_are_refused(folder):
    assert refusal(folder, "gone") == "It cannot be read: No such file or directory."
    assert refusal(folder, "\ud800") == "The file's name is not valid."
    assert refusal(folder, "x" * 300) == "It cannot be read: File name too long."
    assert not FolderFiles(str(folder)).exists("\ud800")


def test_the_number_of_files_is_limited(folder):
    files = FolderFiles(str(folder))
    for number in range(MAX_FILES):
        (folder / str(number)).write_text("")
        files.read(str(number))
    (folder / "one-more").write_text("")
    with pytest.raises(UnreadableFile, match="more than 50 files"):
        files.read("one-more")


@pytest.mark.parametrize(
    ("path", "base", "located"),
    [
        ("a/../b", "", "b"),
        ("../compose.yaml", ".devcontainer", "compose.yaml"),
        ("./x//y", "sub", "sub/x/y"),
        ("/outside", "", None),
        ("../x", "", None),
        ("../../x", "sub", None),
        ("a\0b", "", None),
    ],
)
def test_a_path_in_a_file_is_located_in_the_folder(folder, path, base, located):
    files = FolderFiles(str(folder))
    if located is None:
        with pytest.raises(UnreadableFile):
            files.locate(path, base)
    else:
        assert files.locate(path, base) == located
        assert files.locate(str(folder / base / path)) == located


def test_the_digest_is_of_names_and_bytes(folder):
    def digest(**contents):
        files = FolderFiles(str(folder))
        for name, content in contents.items():
            (folder / name).write_text(content)
            files.read(name)
        return files.digest

    digests = [digest(a="1"), digest(a="2"), digest(b="1"), digest(a="1", b=""), digest(a="", b="1"), digest()]
    assert len(set(digests)) == len(digests)
    assert digest(b="2", a="1") == digest(a="1", b="2")
    assert all(len(each) == 64 for each in digests)


def test_what_was_looked_up_is_watched(folder):
    (folder / "a").write_text("")
    files = FolderFiles(str(folder))
    assert [files.exists("gone"), files.exists("a")] == [False, True]
    files.read("a")
    files.list_folders("sub")
    assert list(files.watched) == ["gone", "a", "sub"]


def test_folders_are_listed_only_within_the_folder(folder):
    (folder / "sub" / "b").mkdir(parents=True)
    (folder / "sub" / "a").mkdir()
    (folder / "sub" / "file").write_text("")
    (folder / "out").symlink_to("..")
    files = FolderFiles(str(folder))
    assert files.list_folders("sub") == ["a", "b"]
    assert files.list_folders("out") == files.list_folders("gone") == []


def test_a_file_of_variables_is_read_or_refused_with_its_line(folder):
    (folder / ".env").write_text("A='b'\nC=d$A")
    (folder / "wrong.env").write_text("A=b\nC='")
    files = FolderFiles(os.path.realpath(folder))
    assert files.read_variables(".env") == {"A": "b", "C": "d$A"}
    assert files.read_variables(".env", lambda value, variables: value.replace("$A", variables["A"])) == {"A": "b", "C": "db"}
    with pytest.raises(UnreadableFile, match="It has no variables that can be read: line 2: the value of C") as caught:
        files.read_variables("wrong.env")
    assert caught.value.line == 2
