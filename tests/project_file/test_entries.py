from jupyter_portproxy.project_file.document import UnreadableFile
from jupyter_portproxy.project_file.entries import MAX_MESSAGES, MAX_PORTS, Entries, clean_label
from jupyter_portproxy.project_file.model import Note, Problem


def test_a_port_becomes_a_rule_or_a_problem():
    entries = Entries("a.toml")
    entries.add_port(1, "ports[0]", {"ports": "3000-3010", "label": "x"})
    entries.add_port(2, "ports[1]", {"ports": "99999"})
    entries.add_port(3, "ports[2]", {"process": "(?=x)"})
    entries.add_port(4, "ports[3]", {"ports": "1", "label": "a\x1b[31m"})
    assert [(rule.ports, rule.label) for rule in entries.ports] == [("3000-3010", "x")]
    assert [(problem.line, problem.key) for problem in entries.problems] == [(2, "ports[1]"), (3, "ports[2]"), (4, "ports[3]")]
    assert "99999" in entries.problems[0].message and "(?=" in entries.problems[1].message


def test_more_ports_than_may_be_are_one_problem():
    entries = Entries("a.toml")
    for port in range(1, MAX_PORTS + 50):
        entries.add_port(port, "ports", {"ports": str(port)})
    assert len(entries.ports) == MAX_PORTS and entries.is_full
    assert [problem.message for problem in entries.problems] == ["There are more than 200 ports."]


def test_messages_are_limited_and_may_be_of_another_file():
    entries = Entries("a.toml")
    for line in range(MAX_MESSAGES * 2):
        entries.add_problem(line, "", "No.")
        entries.add_note(line, "Left out.")
    assert len(entries.problems) == len(entries.notes) == MAX_MESSAGES
    other = Entries("a.toml")
    other.add_unreadable(UnreadableFile("It is broken.", "Mend it.", 3), ".env")
    other.add_note(1, "Left out.", ".env")
    assert other.problems == [Problem(".env", 3, "", "It is broken.", "Mend it.")]
    assert other.notes == [Note(".env", 1, "Left out.")]


def test_messages_are_one_line_that_can_be_printed():
    entries = Entries("a.toml")
    entries.add_problem(1, "a\nb", "x" * 1000, "\x1b[31m\u2028")
    entries.add_note(1, "a\tb")
    (problem,) = entries.problems
    assert (problem.key, len(problem.message), problem.message[-1], problem.hint) == ("a\ufffdb", 500, "…", "\ufffd[31m\ufffd")
    assert entries.notes[0].message == "a\ufffdb"


def test_a_long_label_is_cut():
    assert clean_label("x" * 200) == "x" * 99 + "…"
    assert clean_label("x" * 100) == "x" * 100
    assert clean_label(None) is None
