"""Files of variables: what python-dotenv and docker compose read alike, and what is refused with its line."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_portproxy.services.environment_file import MAX_SIZE, EnvironmentFileError, parse, read

from ..support.cpu_time import takes_at_most


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# a comment\n\n  # another\n", {}),
        ("A=b", {"A": "b"}),
        ("A=b\nC=d\n", {"A": "b", "C": "d"}),
        ("A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        ("\ufeffA=b", {"A": "b"}),
        ("  export A = b  \n", {"A": "b"}),
        ("export\tA=b", {"A": "b"}),
        ("A=", {"A": ""}),
        ("A=''\nB=\"\"", {"A": "", "B": ""}),
        ("A=b # comment", {"A": "b"}),
        ("A=b#c", {"A": "b#c"}),
        ("A= # comment", {"A": ""}),
        ("A='b # c' # d", {"A": "b # c"}),
        ("A='b\\n$C'", {"A": "b\\n$C"}),
        (r'A="b\n\"c\" \\ \$D \x"', {"A": 'b\n"c" \\ $D \\x'}),
        ('A="first\nsecond"\nB=c', {"A": "first\nsecond", "B": "c"}),
        ("A='first\nsecond'\nB=c", {"A": "first\nsecond", "B": "c"}),
        ('A=it\'s b=c "d"', {"A": 'it\'s b=c "d"'}),
        ("URL=postgres://a:b@h/d?x=y#z", {"URL": "postgres://a:b@h/d?x=y#z"}),
        ("A=b\nA=c", {"A": "c"}),
        ("my.key-1=b", {"my.key-1": "b"}),
        ("A=$B ${C}", {"A": "$B ${C}"}),
        ("A: b\nB:c", {"A": "b", "B": "c"}),
    ],
)
def test_variables_are_read(text, expected):
    assert parse(text.encode()) == expected


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"A=b\nno pair", 2, "it is not of the form KEY=VALUE"),
        (b"A=b\n\n=c", 3, "it is not of the form KEY=VALUE"),
        (b"1A=b", 1, "it is not of the form KEY=VALUE"),
        (b"A='b", 1, "the value of A has a quote that is not closed, or text after it"),
        (b'A=b\nC="d\nE=f', 2, "the value of C has a quote that is not closed, or text after it"),
        (b"A='b' c", 1, "the value of A has a quote that is not closed, or text after it"),
        (b"A=b\nC=\xff", 2, "it is not UTF-8"),
        (b"A=b\nC=\0", 2, "it has a null byte"),
        (b"A=" + b"x" * MAX_SIZE, None, "it has more than 256 KiB"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(content, line, text):
    with pytest.raises(EnvironmentFileError) as caught:
        parse(content)
    assert (caught.value.line, caught.value.reason) == (line, text)
    assert str(caught.value) == (f"line {line}: {text}" if line else text)


def test_variables_of_the_lines_above_are_inserted_for_compose():
    def insert(value, variables):
        return value.replace("$A", variables.get("A", "?")).replace("$$", "$")

    text = """A=$A
B='$A'
C="x\\ny \\$A $A" # $A
D=$A-$A # $A
"""
    assert parse(text.encode(), insert) == {"A": "?", "B": "$A", "C": "x\ny $? ?", "D": "?-?"}


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z_]{1,9}", fullmatch=True), st.text(st.characters(exclude_characters="\0\r", codec="utf-8"))
    )
)
def test_what_is_escaped_and_quoted_comes_back(variables):
    escaped = {name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in variables.items()}
    assert parse("\n".join(f'{name}="{value}"' for name, value in escaped.items()).encode()) == variables


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    try:
        variables = parse(content)
    except EnvironmentFileError:
        return
    assert all("\0" not in part and "=" not in name for name, part in variables.items())


@pytest.mark.parametrize(
    ("text", "number"),
    [("A=b" + " " * (MAX_SIZE - 4) + "c", 1), ("A=b" + " #" * (MAX_SIZE // 2 - 2), 1), ("A=\n", MAX_SIZE // 3)],
)
def test_the_time_is_linear(text, number):
    with takes_at_most(2):
        assert len(parse((text * number).encode())) == 1


def test_a_file_outside_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "repo"
    folder.mkdir()
    (tmp_path / "secret.env").write_text("A=b")
    (folder / "link.env").symlink_to("../secret.env")
    (folder / "own.env").write_text("A=b")
    (folder / "also.env").symlink_to("own.env")
    for name in ("own.env", "also.env"):
        assert read(str(folder / name), str(folder)) == {"A": "b"}
    for name in ("../secret.env", "link.env"):
        with pytest.raises(EnvironmentFileError, match="it is outside of the folder"):
            read(str(folder / name), str(folder))
    assert read(str(folder / "link.env")) == {"A": "b"}


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pipes with names")
def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, text in (("pipe", "it is not a file"), (".", "it is not a file"), ("none", "it does not exist")):
        with pytest.raises(EnvironmentFileError, match=text):
            read(str(tmp_path / name))
