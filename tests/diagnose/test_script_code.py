from __future__ import annotations

import re

import pytest

from jupyter_portproxy.diagnose.markup import parse_page, parse_script, parse_style
from jupyter_portproxy.diagnose.report import build_report
from jupyter_portproxy.diagnose.script_code import FILLER, Code, mask_page, mask_script

from ..support.cpu_time import grows_linearly
from .observations import observe


@pytest.mark.parametrize(
    ("script", "mask"),
    [
        ("a = 'b'; c", "a = '.'; c"),
        (r"a = 'b\'c' + d", r"a = '....' + d"),
        ('a = "it\'s" + b', 'a = "...." + b'),
        ("a // b 'c\nd", "a        \nd"),
        ("a /* 'b */ c", "a          c"),
        ("a /* never ends", "a              "),
        ("`a ${b + 'c' + `d`} e` + f", "`..${b + '.' + `.`}..` + f"),
        ("`${ {a: {b}} }c` + d", "`${ {a: {b}} }.` + d"),
        ("`never ends ${a", "`...........${a"),
        ("a = /['\"]/g, b = 'c'", "a = /..../g, b = '.'"),
        (r"x.split(/[/\]'\/]/)", r"x.split(/......../)"),
        ("return/'/.test(a)", "return/./.test(a)"),
        ("if (a) /'/.test(b)", "if (a) /./.test(b)"),
        ("a = (b) / 2 + 'c' / 3", "a = (b) / 2 + '.' / 3"),
        ("a[0] / b / c++ / d", "a[0] / b / c++ / d"),
        ("a = 'not closed\nb = 'c'", "a = '..........\nb = '.'"),
        ("'a\\\nb' + c", "'....' + c"),
        ("eval(\"fetch('/a')\")", "eval(\"fetch('..')\")"),
        (r"eval('a(\'b\');\nc')", "eval('a( '..');\x20\nc')"),
        ("'", "'"),
        ("'\\", "'."),
        ("/", "/"),
        ("}", "}"),
    ],
)
def test_masks_of_scripts(script, mask):
    found = mask_script(script)
    assert len(found) == len(script)
    assert found.replace(FILLER, ".") == mask


def test_the_mask_of_a_page_has_its_scripts_and_tags():
    page = """<p>"/text" <a href="/a" onclick="go('/b')">x</a><link href="/c"><script>d('e') // f</script><pre>"/g"</pre>"""
    mask = mask_page(page)
    assert len(mask) == len(page)
    assert re.sub(" +", " ", mask.replace(FILLER, ".")).strip() == """<p> <a href=".." onclick="go('..')"> <script>d('.') <pre>"""


def test_code_finds_what_begins_in_code():
    text = """a = "x 'b'"; 'b'; // 'b'"""
    code = Code("/", text, mask_script(text))
    assert [match.start() for match in code.find(re.compile("'b'"))] == [13]


# ---- hostile texts: work grows as they do ----

PIECES = [
    "new URL('/", "location.origin + ", ".ajax({", ".ajax({ a ", "fetch(", "fetch(    ", "${host}", "host + ",
    "host host ", "url(", "/*", "\n/*", "\n//", "@import", "import ", "new WebSocket(", "${", "from '", "`${", "`",
    "`${{", '"', "'", '"/"', '("/")', "/", "/a", "/[", ")/[", ")/a", "{", "}", "\\", '"\\', 'eval("', 'eval("\\"',
    "const a = ", 'const a="/";', "io(", "io( path ", "headers:{", 'serviceWorker.register("a",{scope:"', "<pre>",
    "<code>", "<p onx='", '<p a=\'"', "<link ", "origin.replace(", " ", '"http://localhost:8050', "port}${'",
    "<script>", "<title>Spark", "<!--",
]  # fmt: skip


def diagnose(text: str) -> None:
    parse_script(text, "/")
    parse_style(text, "/")
    parse_page(text, "/")
    build_report(observe(f"<script>{text}", script=text))


@pytest.mark.parametrize("piece", PIECES)
def test_the_work_grows_as_the_text(piece):
    small, large = (piece * (size // len(piece)) for size in (12_000, 48_000))
    assert grows_linearly(lambda: diagnose(large), lambda: diagnose(small))


@pytest.mark.parametrize("ends", ["import", "fetch(", "location", "host +", "io(", "new URL(", "register(", '"', "url(", "a /"])
def test_long_runs_of_blanks(ends):
    small, large = ((ends + " " * size) * 2 for size in (20_000, 80_000))
    assert grows_linearly(lambda: diagnose(large), lambda: diagnose(small))
