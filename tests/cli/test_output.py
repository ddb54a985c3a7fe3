"""What commands have in common."""

from __future__ import annotations

import argparse
import io
import json

import pytest

from jupyter_portproxy.cli.output import (
    MAX_DURATION,
    add_command,
    parse_duration,
    parse_port_argument,
    parse_port_operand,
    print_result,
    print_table,
    read_secret,
)
from jupyter_portproxy.errors import BadInput, CliError
from jupyter_portproxy.services.user_file import MAX_SECONDS


@pytest.mark.parametrize("text", ["0", "65536", "+80", "8_0", "٨٠", "²", "", "x", "80 "])
def test_what_is_no_port_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="is not a port"):
        parse_port_argument(text)
    with pytest.raises(CliError, match=r"is not a port: a port is a whole number from 1 to 65535\.$"):
        parse_port_operand(text)
    assert parse_port_operand("1") == 1
    assert parse_port_argument("65535") == 65535


@pytest.mark.parametrize("text", ["", "8", "10x", "-1h", "0m", "367d", "8h30m"])
def test_what_is_no_duration_is_refused_as_it_was_typed(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{text!r} is not a time"):
        parse_duration(text)


def test_durations():
    assert [parse_duration(text) for text in ("90s", "30m", "1.5h", "366d")] == [90, 1800, 5400, MAX_DURATION]
    assert MAX_DURATION == MAX_SECONDS


def test_columns_are_as_wide_as_what_is_in_them(capsys):
    print_table(["NAME", "STATE"], [["x" * 50, "up"], ["y", 7], ["", None]])
    assert capsys.readouterr().out == f"{'NAME':40}  STATE\n{'x' * 40}  up\n{'y':40}  7\n{'-':40}  -\n\n"
    print_table(["PROJECT", "STATE"], [])
    assert capsys.readouterr().out == "No projects.\n\n"


def test_what_a_server_says_does_not_command_the_terminal(capsys):
    print_table(["NAME", "STATE"], [["\x1b]0;title\x07a\nb\tc", "\x9b31m\u202eup"]])
    assert capsys.readouterr().out.splitlines()[1] == "�]0;title�a b c  �31m�up"
    print_result(argparse.Namespace(json=False), "\x1b[31mone\ntwo")
    assert capsys.readouterr().out == "�[31mone\ntwo\n"


def test_a_secret_is_read_without_the_end_of_its_line(tmp_path, monkeypatch):
    (tmp_path / "s").write_text("s3cret\r\n")
    assert read_secret(str(tmp_path / "s")) == "s3cret"
    monkeypatch.setattr("sys.stdin", io.StringIO("given\n"))
    assert read_secret("-") == "given"
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, why in (("none", "No such file"), ("binary", "it is not text"), (".", "Is a directory")):
        with pytest.raises(CliError, match=f"cannot be read: {why}"):
            read_secret(str(tmp_path / name))
    with open(tmp_path / "long", "w") as file:
        file.write("x" * 100_000)
    assert len(read_secret(str(tmp_path / "long"))) < 10_000


def test_a_command_says_what_it_refuses(capsys):
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()

    async def refuse(options):
        raise BadInput("That is wrong.", "Do this.")

    async def answer(options):
        print_result(options, "It is so.", so=True)

    add_command(commands, "refuse", refuse, "")
    add_command(commands, "answer", answer, "")
    options = parser.parse_args(["refuse"])
    with pytest.raises(CliError, match=r"^That is wrong\.\nDo this\.$"):
        options.run(options)
    for arguments, output in ((["answer"], "It is so.\n"), (["answer", "--json"], json.dumps({"so": True}, indent=2) + "\n")):
        options = parser.parse_args(arguments)
        assert options.run(options) == 0
        assert capsys.readouterr().out == output
