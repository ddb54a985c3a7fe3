import pytest

from jupyter_portproxy.project_file.document import ParsedDocument, UnreadableFile, decode, print_path, quote, suggest


def test_a_line_is_that_of_the_nearest_key_above():
    document = ParsedDocument({}, {("services",): 1, ("services", "api"): 3})
    assert document.line("services", "api", "command") == 3
    assert document.line("services", "db") == 1
    assert document.line("ports") is None
    assert document.line() is None


@pytest.mark.parametrize("content", [b"a = 1", b"\xef\xbb\xbfa = 1"])
def test_a_byte_order_mark_of_utf8_is_dropped(content):
    assert decode(content) == "a = 1"


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        ("a = 1".encode("utf-16"), "It is not UTF-8: it looks like UTF-16 or UTF-32.", None),
        ("a = 1".encode("utf-16-le"), "It is not UTF-8: it looks like UTF-16 or UTF-32.", None),
        (b"a = 1\nb = '\xe9'\n", "It is not UTF-8: the byte 0xe9 in line 2.", 2),
    ],
)
def test_what_is_not_utf8_is_refused(content, message, line):
    with pytest.raises(UnreadableFile) as caught:
        decode(content)
    assert (caught.value.message, caught.value.hint, caught.value.line) == (message, "Save it as UTF-8.", line)


def test_a_quoted_value_is_short_and_in_one_line():
    assert quote("a\nb") == r"'a\nb'"
    assert len(quote("x" * 1000)) == 80


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("comand", "Did you mean 'command'?"),
        ("openAppear", "Did you mean 'on_appear'?"),
        ("zzz", "There are command, on_appear."),
        ("on-appear", "Did you mean 'on_appear'?"),
        ("Command", "Did you mean 'command'?"),
        ("x" * 100_000, "There are command, on_appear."),
    ],
)
def test_the_nearest_known_word_is_proposed(word, hint):
    assert suggest(word, ["on_appear", "command"]) == hint


def test_a_path_reads_as_in_the_file():
    assert print_path(("portsAttributes", "3000", "label")) == "portsAttributes.3000.label"
    assert print_path(("forwardPorts", 1)) == "forwardPorts[1]"
